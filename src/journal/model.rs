//! The data that a journal takes and returns.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc, time::Duration};

use metrics::Histogram;
use uuid::Uuid;

use super::{Entry, Millis};
use crate::{
    clock::Clock,
    event::Platform,
    payload::{Form, Payload},
    platform::{self, Body, DedupeKey},
    supervisor::Supervisor,
};

/// A named value with one holder at a time, who alone may write it: what outlives a process and is not an event, such as
/// access tokens and the cursor of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedLease {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds.
    pub value: Option<String>,
    /// Rejects what a former holder writes: a later holder has a higher number.
    pub lease_token: i64,
}

/// What the holder of a named lease does with it.
#[derive(Clone, Debug, Default)]
pub struct LeaseWrite {
    /// The new value; the old one stays without.
    pub value: Option<String>,
    /// How much longer it is held; it is released without.
    pub keep: Option<Duration>,
    /// When it is removed; never without.
    pub expires: Option<Duration>,
    /// Events that were pulled instead of delivered. One whose key is known is left out.
    pub events: Vec<Pulled>,
}

/// An event that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The event.
    pub event: NewEvent,
    /// Whether it is to be answered. Who does that is one of its observers.
    pub responds: bool,
}

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long events are kept that are no longer needed.
    pub retention: Duration,
    /// How large it may get, in bytes.
    pub max_size: u64,
    /// All observers.
    pub observers: Vec<Observer>,
    /// Watches the threads and tasks of the journal.
    pub supervisor: Supervisor,
    /// What leases and keys last by.
    pub clock: Clock,
    /// Where it goes how long commits take, in seconds.
    pub commits: Option<Histogram>,
}

/// An observer, as the journal knows it.
#[derive(Clone)]
pub struct Observer {
    /// Its stable name.
    pub name: Arc<str>,
    /// Whether it gets the events of one subject one after the other.
    pub in_order: bool,
    /// Whether it starts with the events that are in the journal when its name comes up first.
    pub from_beginning: bool,
    /// Whether it wants an event, by account and event type.
    pub wants: Wants,
    /// Whether it is also given an event without a reply whose process has ended, by account and event type. That is some time
    /// later, when the platform does not retry any more; the event may have a reply by then.
    pub unanswered: Option<Wants>,
}

/// Whether an observer wants an event, by account and event type.
pub type Wants = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, in_order, from_beginning, wants: _, unanswered: _ } = self;
        f.debug_struct("Observer")
            .field("name", name)
            .field("in_order", in_order)
            .field("from_beginning", from_beginning)
            .finish_non_exhaustive()
    }
}

/// The outcome of admitting a delivery.
#[derive(Debug)]
pub enum Admission {
    /// The responder is to be run: the event is new, or the process that ran its responder has ended. The entry has the
    /// identity of the event, which is the earlier one in the second case.
    Run(Arc<Entry>),
    /// The event is known: its responder runs, or has answered.
    Known(Arc<Entry>),
}

/// How a reply is [given up](super::Journal::give_up).
#[derive(Clone, Debug, Default)]
pub struct GiveUp {
    /// Whether a reply that comes later is sent, or waits.
    pub sends: bool,
    /// How long the responder must have run.
    pub patience: Duration,
    /// Where a reply that comes later waits for the user's next message: from now on that finds it, ready or not.
    pub waits: Option<Box<ReplySender>>,
}

/// An event that has been opened and read.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// From [`Journal::next_id`](super::Journal::next_id).
    pub id: Uuid,
    /// What makes another delivery the same event; without one every delivery is an event of its own.
    pub key: Option<DedupeKey>,
    /// The event as it came.
    pub record: EventRecord,
    /// Names of the observers that want it.
    pub observers: Vec<Arc<str>>,
}

/// An event that has a key, and is not decoded yet.
pub struct Undecoded<'e> {
    /// What makes another delivery the same event.
    pub key: DedupeKey,
    /// Platform of the account.
    pub platform: Platform,
    /// Decodes it, with this key; called once at most.
    pub decode: &'e mut (dyn FnMut() -> NewEvent + Send),
}

impl fmt::Debug for Undecoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecoded").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What the journal stores of an event.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// Platform of the account.
    pub platform: Platform,
    /// The account, `mp/shop`.
    pub account: Arc<str>,
    /// The event type as it was known on arrival.
    pub event_type: Cow<'static, str>,
    /// Whom the event is about.
    pub subject: Option<Box<str>>,
    /// Syntax of the payload.
    pub form: Form,
    /// The opened payload, as it came.
    pub payload: Payload,
    /// The parameters of the query that are data of the event, as a query; only IM has some.
    pub query: Option<Arc<str>>,
    /// When its first delivery arrived.
    pub received: Millis,
}

/// The reply of an event.
#[derive(Clone, Debug)]
pub struct ReplyRecord {
    /// What the platform is answered, not sealed.
    pub body: Body,
    /// Why the platform is given the default answer and not that of the responder, if it is: there is none, or it was late
    /// and nobody sends it.
    pub failure: Option<String>,
    /// The observer that sends it when the platform was answered without it.
    pub sender: Option<Box<ReplySender>>,
}

impl ReplyRecord {
    /// Whether the platform was answered without it, as far as this process knows.
    pub(super) fn is_late(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.is_due)
    }

    /// What a repeat of the event is answered.
    pub(super) fn for_repeat(self) -> Body {
        match self.sender.filter(|sender| sender.is_due) {
            Some(sender) => plain_success(sender.record.platform),
            None => self.body,
        }
    }
}

/// The observer that sends a late reply.
#[derive(Clone, Debug)]
pub struct ReplySender {
    /// The observer that the event is offered to.
    pub observer: Arc<str>,
    /// Whether this process has [given up](Entry::give_up) on the reply; another node may have.
    pub is_due: bool,
    /// The event.
    pub record: EventRecord,
    /// For whom the reply waits, where it is not sent at once.
    pub waits: Option<Wait>,
}

/// A reply waits for the next message of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The user, of the account.
    pub user: Box<str>,
    /// How long; then it is due at its observer.
    pub keep: Duration,
}

/// Whose late reply is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The observer that has what waits.
    pub observer: Arc<str>,
    /// The account.
    pub account: Arc<str>,
    /// As in [`Wait::user`].
    pub user: Box<str>,
}

/// What waits for the next message of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingReply {
    /// Nothing.
    Nothing,
    /// A reply that is still to come.
    Coming,
    /// A reply.
    Ready,
}

/// A late reply that has become the reply of another event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenReply {
    /// Whose it was.
    pub event: Uuid,
    /// The reply.
    pub body: Body,
}

impl TakenReply {
    /// What the journal says of the event whose reply it was, when `by` has taken it.
    pub(super) fn note_of_late(by: Uuid) -> String {
        format!("the reply answered the next message of the user, event {by}")
    }

    /// What the journal says of the event that has taken the reply, before the event whose that was.
    pub(super) const NOTE_OF_TAKER: &str = "answered with the late reply of event ";
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its responder runs, or ran in a process that has ended.
    Responding,
    /// It has the reply of its responder, or needs none.
    Answered,
    /// It has the default answer, because its responder failed, or because its reply was late and nobody sends it.
    Defaulted,
    /// It was answered without its reply, which came later or is too long, and goes to its
    /// [sender](ReplyRecord::sender).
    Late,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Responding, Self::Answered, Self::Defaulted, Self::Late];

    /// Name, as in `answered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Responding => "responding",
            Self::Answered => "answered",
            Self::Defaulted => "defaulted",
            Self::Late => "late",
        }
    }

    pub(super) fn of(reply: Option<&ReplyRecord>) -> Self {
        match reply {
            None => Self::Responding,
            Some(reply) if reply.is_late() => Self::Late,
            Some(ReplyRecord { failure: None, .. }) => Self::Answered,
            Some(_) => Self::Defaulted,
        }
    }
}

/// How many events an observer has room for.
#[derive(Clone, Debug)]
pub struct Room {
    /// In all.
    pub limit: usize,
    /// Of each account.
    pub each: usize,
    /// Of those accounts that have room for less.
    pub less: HashMap<Arc<str>, usize>,
}

impl Room {
    /// Room for so many, of any account.
    pub fn of(limit: usize) -> Self {
        Self { limit, each: limit, less: HashMap::new() }
    }

    /// How many of an account.
    pub fn of_account(&self, account: &str) -> usize {
        self.less.get(account).copied().unwrap_or(self.each)
    }
}

/// An event for an observer, for a while.
#[derive(Clone, Debug)]
pub struct Leased {
    /// Which lease this is.
    pub lease: Lease,
    /// The event.
    pub record: EventRecord,
    /// Its recorded reply.
    pub reply: Option<Body>,
    /// Whether the platform was answered without that.
    pub is_late: bool,
}

/// Identity of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The event.
    pub id: Uuid,
    /// The observer.
    pub observer: Arc<str>,
    /// The account of the event.
    pub account: Arc<str>,
    /// Which attempt this is, from 1: the token of the lease. A later lease of the same event has a higher one.
    pub attempt: u32,
    /// When it ends, by the journal's clock.
    pub until: Millis,
}

/// How a lease ends.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which.
    pub lease: Lease,
    /// How.
    pub outcome: Finish,
}

/// How an attempt of an observer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It has seen the event.
    Done,
    /// It failed, and is retried.
    Retry {
        /// After this long.
        after: Duration,
        /// The error.
        error: String,
    },
    /// It permanently failed.
    Dead {
        /// The last error.
        error: String,
    },
    /// It was cancelled, as the server is shutting down. The attempt does not count.
    Released,
    /// The late reply of the event will not be given any more: why is the event's failure from now on.
    Dropped {
        /// Why.
        reason: String,
    },
    /// Deferred, as the API of its account is paused. The attempt does not count.
    Postponed {
        /// For so long.
        after: Duration,
    },
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use.
    pub bytes: u64,
    /// Observations that are not done, also of observers that are no longer registered.
    pub waiting: u64,
    /// Observations that are dead letters.
    pub dead: u64,
    /// Of them, what is kept for observers that are absent.
    pub absent: Absent,
    /// Acknowledged events, or their replies, that the database has lost while this process ran.
    pub lost: u64,
}

/// What a journal keeps for observers that are absent: neither the server that runs nor another node has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// How many are absent.
    pub observers: u64,
    /// Their pending observations.
    pub waiting: u64,
    /// Their dead letters.
    pub dead: u64,
}

/// What a platform is answered that wants nothing.
pub(super) fn plain_success(platform: Platform) -> Body {
    Body::Plain(platform::plain_success(platform))
}
