//! Where events, their replies and the state of observers live.
//!
//! [`Journal`] is what a running server asks of it: admit an event once, keep its reply, lease it to observers.
//! [`Archive`] is what the command line asks: list, show, replay; it works beside a running server and without one.
//! One behaviour, several places: [`sqlite`] for one node, [`postgres`] for several, [`memory`] for trials.

mod cloudevent;
mod entry;
mod id;
pub mod memory;
mod missing;
pub mod postgres;
pub mod sqlite;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;
use uuid::Uuid;

pub use self::{entry::Entry, id::Ids};
use crate::{
    config::{self, JournalUrl},
    envelope::UsedQuery,
    event::Platform,
    payload::{Form, Payload},
    platform::{self, Body, DedupeKey},
};

/// Work of a journal, which ends with a value or with why it could not be done.
pub type Task<'j, T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send + 'j>>;

/// The names of the server's own observers begin with this; no handler's may.
pub const OWN: &str = "echostr.";

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;

/// Why the journal could not do something. Nothing was done then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The journal is as large as it may be, and observers still need what is in it.
    #[error(
        "the journal has reached [journal] max_size (memory_limit, in memory), and observers still need what is in it"
    )]
    Full,
    /// The disk is full, the file is damaged, the database is away.
    #[error("{0}")]
    Storage(Arc<str>),
    /// The node that answers the event is gone; whoever admits the event again answers it.
    #[error("the node that was to answer the event is gone")]
    Abandoned,
    /// Another has taken the slot, because its hold was over.
    #[error("the hold of the slot was over, and another has taken it")]
    Lost,
    /// The journal is closed: the server is shutting down.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    pub(crate) fn storage(failure: impl fmt::Display) -> Self {
        Self::Storage(failure.to_string().into())
    }
}

/// Opens the journal of a server.
///
/// # Errors
/// When it cannot be used: no journal, no right to write, in use by another server.
pub fn open(config: &config::Journal, observers: Vec<Observer>) -> Result<Arc<dyn Journal>, JournalError> {
    let mut options = Options { retention: config.retention, max_size: config.max_size, observers };
    Ok(match &config.url {
        JournalUrl::Memory => {
            options.max_size = config.memory_limit as u64;
            Arc::new(memory::MemoryJournal::new(&options))
        }
        JournalUrl::Sqlite(path) => Arc::new(sqlite::SqliteJournal::open(path, &options)?),
        JournalUrl::Postgres(url) => Arc::new(postgres::PostgresJournal::open(url.expose(), &options)?),
    })
}

/// Opens a journal to look into it, beside a running server or without one.
///
/// # Errors
/// When it is not there, or cannot be read.
pub fn open_archive(config: &config::Journal) -> Result<Box<dyn Archive>, JournalError> {
    Ok(match &config.url {
        JournalUrl::Memory => return Err(JournalError::storage("a journal in memory can be seen by its server only")),
        JournalUrl::Sqlite(path) => Box::new(sqlite::SqliteArchive::open(path)?),
        JournalUrl::Postgres(url) => Box::new(postgres::PostgresArchive::open(url.expose())?),
    })
}

/// Says whether a journal can be used, and leaves it as it is.
///
/// # Errors
/// Why it cannot.
pub async fn check(config: &config::Journal) -> Result<(), JournalError> {
    match &config.url {
        JournalUrl::Memory => Ok(()),
        JournalUrl::Sqlite(path) => sqlite::check(path),
        JournalUrl::Postgres(_) => open_archive(config)?.observers().await.map(drop),
    }
}

/// What a server needs of a journal.
///
/// Everything is atomic, and durable before its entry or its task says so.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Identity for a new event, received at that time: later than those before.
    fn next_id(&self, received: Millis) -> Uuid;

    /// Admits a delivery: looks its key up and enters the event with a delivery per observer, in one step.
    ///
    /// An entry that is to be [run](Admission::Run) may not be durable yet: [`Journal::record`] or [`Journal::store`]
    /// has to follow, and the entry tells.
    fn admit(&self, event: NewEvent) -> Task<'_, Admission>;

    /// The same for an event that is not decoded yet. It is decoded when nothing is known of its key: of a repeat only if
    /// another node has the event.
    fn admit_undecoded<'j>(&'j self, event: Undecoded<'j>) -> Task<'j, Admission>;

    /// Makes an admitted event durable before it has a reply; the entry tells when it is.
    fn store(&self, entry: &Arc<Entry>);

    /// Records the reply; the entry tells when that is durable, and the event with it. The first reply stands.
    fn record(&self, entry: &Arc<Entry>, reply: Reply);

    /// Takes up to `limit` events that wait for an observer, for as long as `term`: whoever has not
    /// [finished](Journal::finish) one by then has lost it.
    fn lease(&self, observer: &str, limit: usize, term: Duration) -> Task<'_, Vec<Leased>> {
        self.lease_within(observer, Room::of(limit), term)
    }

    /// The same, of each account no more than there is room for. However much waits of an account without room, it costs
    /// nothing to pass it over.
    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>>;

    /// Ends leases. One that has been lost meanwhile is passed over.
    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()>;

    /// Notified when there may be something new for observers.
    fn arrivals(&self) -> &Notify;

    /// The answer is given without the reply, which is still to come: it then goes to [`Reply::sender`]. If another node
    /// has recorded it meanwhile, that is what is to be answered.
    fn give_up<'j>(&'j self, entry: &'j Arc<Entry>) -> Task<'j, Option<Body>> {
        let _ = entry;
        Box::pin(ready(Ok(None)))
    }

    /// Remembers for which body a signed query was used, beyond this process: no later than the next event that is
    /// admitted, or a second after. `None` where nobody else can have used it; else the body that it was used for first.
    fn use_query(&self, used: &UsedQuery) -> Option<Task<'_, u64>> {
        let _ = used;
        None
    }

    /// The signed queries that the process before used and that are to be remembered still, the oldest first. They are
    /// returned once.
    fn used_queries(&self) -> Vec<UsedQuery> {
        Vec::new()
    }

    /// What a slot holds.
    fn read_slot(&self, name: &str) -> Task<'_, Option<String>>;

    /// Takes hold of a slot for as long as `term`; `None` while another has it. A process that is gone lets go.
    fn hold_slot(&self, name: &str, term: Duration) -> Task<'_, Option<Held>>;

    /// Writes a slot and admits events together, in one step; gives the number of events that were new.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when another has the slot now: nothing was done then.
    fn write_slot(&self, held: &Held, write: WriteSlot) -> Task<'_, usize>;

    /// Whether it can store.
    ///
    /// # Errors
    /// Why not, if it failed to the last time it tried. It goes on trying by itself.
    fn health(&self) -> Result<(), JournalError>;

    /// What it holds, for the metrics.
    fn usage(&self) -> Usage;

    /// Whether [`Journal::admit`] takes a while, so that a client that hangs up meanwhile must not stop it.
    fn is_remote(&self) -> bool {
        false
    }

    /// Makes everything durable and lets go of what is leased.
    fn close(&self) -> Task<'_, ()>;
}

/// A slot that its holder alone may write. Slots are for what outlives a process and is no event: access tokens, the
/// cursor of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds.
    pub value: Option<String>,
    /// Which hold this is: the fence. A later one has a higher number.
    pub fence: i64,
}

/// What is done with a slot by who holds it.
#[derive(Clone, Debug, Default)]
pub struct WriteSlot {
    /// The new value; the old one stays without.
    pub value: Option<String>,
    /// How much longer the slot is held; it is let go of without.
    pub keep: Option<Duration>,
    /// When the slot is removed; never without.
    pub expires: Option<Duration>,
    /// Events that were asked for instead of delivered. One whose key is known is left out.
    pub events: Vec<Pulled>,
}

/// An event that was asked for.
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
    /// How long events are kept that nobody needs any more.
    pub retention: Duration,
    /// How large it may get, in bytes.
    pub max_size: u64,
    /// Everybody who observes.
    pub observers: Vec<Observer>,
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
}

/// Whether an observer wants an event, by account and event type.
pub type Wants = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, in_order, from_beginning, wants: _ } = self;
        f.debug_struct("Observer")
            .field("name", name)
            .field("in_order", in_order)
            .field("from_beginning", from_beginning)
            .finish_non_exhaustive()
    }
}

/// What admitting a delivery says about its event.
#[derive(Debug)]
pub enum Admission {
    /// The responder is to be run: the event is new, or the process that ran its responder is gone. The entry has the
    /// identity of the event, which is the earlier one in the second case.
    Run(Arc<Entry>),
    /// The event is known: its responder runs, or has answered.
    Known(Arc<Entry>),
}

/// An event that has been opened and read.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// From [`Journal::next_id`].
    pub id: Uuid,
    /// What makes another delivery the same event; without one every delivery is an event of its own.
    pub key: Option<DedupeKey>,
    /// The event as it came.
    pub facts: Facts,
    /// Names of the observers that want it.
    pub observers: Vec<Arc<str>>,
}

/// An event that has a key, and is not decoded yet.
pub struct Undecoded<'e> {
    /// What makes another delivery the same event.
    pub key: DedupeKey,
    /// The account, `mp/shop`.
    pub account: &'e Arc<str>,
    /// Decodes it, with this key; called once at most.
    pub decode: &'e mut (dyn FnMut() -> NewEvent + Send),
}

impl fmt::Debug for Undecoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undecoded").field("account", &self.account).finish_non_exhaustive()
    }
}

/// What is kept of a delivery.
#[derive(Clone, Debug)]
pub struct Facts {
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
pub struct Reply {
    /// What the platform is told, not sealed.
    pub body: Body,
    /// Why it is the default answer and not the responder's, if it is.
    pub failure: Option<String>,
    /// Who sends it when the platform was answered without it.
    pub sender: Option<Box<Sender>>,
}

impl Reply {
    /// Whether the platform was answered without it, as far as this process knows.
    fn is_late(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.is_due)
    }

    /// What a repeat of the event is told.
    fn told(self) -> Body {
        match self.sender.filter(|sender| sender.is_due) {
            Some(sender) => Body::Plain(platform::plain_success(sender.facts.platform)),
            None => self.body,
        }
    }
}

/// Who sends a reply that comes too late.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The observer that the event is offered to.
    pub observer: Arc<str>,
    /// Whether this process has [given up](Entry::give_up) on the reply; another node may have.
    pub is_due: bool,
    /// The event.
    pub facts: Facts,
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its responder runs, or ran in a process that is gone.
    Responding,
    /// It has the reply of its responder, or needs none.
    Answered,
    /// It has the default answer, because its responder failed.
    Defaulted,
    /// It was answered without its reply, which came later and goes to its [sender](Reply::sender).
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

    fn of(reply: Option<&Reply>) -> Self {
        match reply {
            None => Self::Responding,
            Some(reply) if reply.is_late() => Self::Late,
            Some(Reply { failure: None, .. }) => Self::Answered,
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
    /// Room for so many, whosever they are.
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
    pub facts: Facts,
    /// Its recorded reply.
    pub reply: Option<Body>,
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
    /// Which attempt this is, from 1: the fence. A later lease of the same event has a higher one.
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
    /// It failed, and is to be asked again.
    Retry {
        /// After this long.
        after: Duration,
        /// With what it failed.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// With what it failed last.
        error: String,
    },
    /// It was not asked: the server is shutting down. The attempt does not count.
    Released,
    /// It cannot be asked yet, as its account rests. The attempt does not count.
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
    /// Deliveries to observers that are not done, also to those that are not registered any more.
    pub waiting: u64,
    /// Deliveries to observers that are dead letters.
    pub dead: u64,
}

/// What the command line needs of a journal. Everything it changes, a running server takes up by itself.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Up to `limit` events that match, the oldest first, from `after` on.
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>>;

    /// The newest `limit` events that match, the oldest of them first.
    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>>;

    /// One event.
    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>>;

    /// What the observers have to do with an event, or had.
    fn deliveries(&self, id: Uuid) -> Task<'_, Vec<Delivery>>;

    /// Names of the observers, in the order of the alphabet.
    fn observers(&self) -> Task<'_, Vec<String>>;

    /// Offers events to an observer once more, as if they were new; says how many. One that waits already stays as it is.
    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64>;

    /// Up to `limit` dead letters whose event matches, the oldest event first, from `after` on.
    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>>;

    /// Offers dead letters to their observers once more; says how many.
    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;

    /// Removes dead letters; says how many. Their events stay as long as all events.
    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;
}

/// Which events. An empty filter matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Platform of the account.
    pub platform: Option<Platform>,
    /// The account, `mp/shop`.
    pub account: Option<String>,
    /// The event type, which may end with `*`.
    pub event_type: Option<String>,
    /// Whom the event is about.
    pub subject: Option<String>,
    /// Received then or later.
    pub since: Option<Millis>,
    /// Received before.
    pub until: Option<Millis>,
    /// How far it is.
    pub state: Option<State>,
    /// With this observer; of dead letters only.
    pub observer: Option<String>,
}

/// An event in the journal.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Identity.
    pub id: Uuid,
    /// The event as it came.
    pub facts: Facts,
    /// How often the platform has delivered it.
    pub deliveries: u32,
    /// How far it is.
    pub state: State,
    /// The recorded reply, if it is more than the plain success.
    pub reply: Option<String>,
    /// Why it has the default answer.
    pub failure: Option<String>,
}

impl Stored {
    /// The recorded reply, be it only the plain success.
    fn body(&self) -> Option<Body> {
        let plain = || Body::Plain(platform::plain_success(self.facts.platform));
        (self.state != State::Responding).then(|| self.reply.clone().map_or_else(plain, Body::Document))
    }
}

/// What an observer has to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The observer.
    pub observer: String,
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// With what the last one failed.
    pub error: Option<String>,
}

/// How far an observer is with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It gets the event then, or as soon as there is room.
    Waiting(Millis),
    /// It has the event until then.
    Leased(Millis),
    /// It has seen the event.
    Done,
    /// It failed for good.
    Dead(Millis),
}

impl DeliveryState {
    /// Name, as in `waiting`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Leased(_) => "leased",
            Self::Done => "done",
            Self::Dead(_) => "dead",
        }
    }
}

/// An event that an observer failed on for good.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event.
    pub event: Stored,
    /// The observer.
    pub observer: String,
    /// Attempts it took.
    pub attempts: u32,
    /// With what the last one failed.
    pub error: String,
    /// When.
    pub died: Millis,
}

/// Now, by the system's clock.
pub(crate) fn now_millis() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
