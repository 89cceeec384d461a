//! Where events, their replies and the state of observers live.
//!
//! [`Journal`] is for a running server: admit an event once, keep its reply, lease it to observers.
//! [`Archive`] is for the command line and the event API: list, show, replay; it works beside a running server and without one.
//! One behaviour, several stores: [`sqlite`] for one node, [`postgres`] for several, [`memory`] for trials.

// Each database uses its part of what is here.
#![cfg_attr(not(all(feature = "sqlite", feature = "postgres")), allow(dead_code, unused_macros, unused_imports))]

mod archive;
#[cfg(feature = "sqlite")]
mod backup;
mod cloudevent;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod core;
mod entry;
mod id;
mod inspect;
mod kept;
pub mod memory;
mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::Histogram;
use tokio::sync::Notify;
use uuid::Uuid;

#[cfg(feature = "sqlite")]
pub(crate) use self::backup::{Summary, back_up, restore};
pub use self::{
    archive::{
        Archive, DeadLetter, Filter, NotAPlace, Observation, ObservationState, ObserverState, Page, Place, Stored,
    },
    entry::Entry,
    id::Ids,
    model::{
        Absent, Admission, EventRecord, Finish, Finished, GiveUp, Lease, LeaseWrite, Leased, NamedLease, NewEvent,
        Observer, Options, Pulled, Recipient, ReplyRecord, ReplySender, Room, State, TakenReply, Undecoded, Usage,
        Wait, WaitingReply, Wants,
    },
};
pub(crate) use self::{
    cloudevent::view,
    inspect::{Contents, Report, inspect},
    kept::{KeptLease, LEASE_DURATION},
};
use crate::{
    clock::Clock,
    config::{self, JournalUrl},
    envelope::UsedQuery,
    platform::Body,
    supervisor::Supervisor,
};

/// Work of a journal, which ends with a value or with why it could not be done.
pub type Task<'j, T> = Pin<Box<dyn Future<Output = Result<T, JournalError>> + Send + 'j>>;

/// The names of internal observers begin with this; no handler's may.
pub const INTERNAL_PREFIX: &str = "echostr.";

/// The names of the observers that forward begin with this; no handler's may.
pub const FORWARD_PREFIX: &str = "forward.";

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;

/// Why an operation of the journal failed. It had no effect then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The journal has reached its largest size, and observers still need what is in it.
    #[error(
        "the journal has reached [journal] max_size (memory_limit, in memory), and observers still need what is in it"
    )]
    Full,
    /// The disk is full, the file is damaged, the database cannot be reached.
    #[error("{0}")]
    Storage(Arc<str>),
    /// A newer version has changed the tables, and this one does not work with them.
    #[error("{0}")]
    Newer(Arc<str>),
    /// The tables are of an older version; a server migrates them at its start.
    #[error("{0}")]
    Older(Arc<str>),
    /// The node that handled the event has stopped; the node that admits the event again answers it.
    #[error("the node that handled the event stopped before it answered")]
    Abandoned,
    /// The lease expired, and another holder took it.
    #[error("the lease expired and another node took it")]
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

/// Opens the journal of a server. How long each commit takes, in seconds, goes to `commits`.
///
/// # Errors
/// When it cannot be used: no journal, no right to write, in use by another server.
pub fn open(
    config: &config::Journal,
    observers: Vec<Observer>,
    supervisor: &Supervisor,
    clock: &Clock,
    commits: Option<Histogram>,
) -> Result<Arc<dyn Journal>, JournalError> {
    let (retention, max_size, supervisor) = (config.retention, config.max_size, supervisor.clone());
    let mut options = Options { retention, max_size, observers, supervisor, clock: clock.clone(), commits };
    Ok(match &config.url {
        JournalUrl::Memory => {
            options.max_size = config.memory_limit as u64;
            Arc::new(memory::MemoryJournal::new(&options))
        }
        #[cfg(feature = "sqlite")]
        JournalUrl::Sqlite(path) => Arc::new(sqlite::SqliteJournal::open(path, &options)?),
        #[cfg(feature = "postgres")]
        JournalUrl::Postgres(url) => Arc::new(postgres::PostgresJournal::open(url.expose(), &options)?),
        JournalUrl::Unread => return Err(unread()),
        #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
        other => return Err(not_built(other)),
    })
}

/// Opens a journal for the command line, beside a running server or without one.
///
/// # Errors
/// When it is not there, or cannot be read.
pub fn open_archive(config: &config::Journal) -> Result<Box<dyn Archive>, JournalError> {
    match &config.url {
        JournalUrl::Memory => Err(JournalError::storage("only its own server can read a \"memory:\" journal")),
        #[cfg(feature = "sqlite")]
        JournalUrl::Sqlite(path) => Ok(Box::new(sqlite::SqliteArchive::open(path)?)),
        #[cfg(feature = "postgres")]
        JournalUrl::Postgres(url) => Ok(Box::new(postgres::PostgresArchive::open(url.expose())?)),
        JournalUrl::Unread => Err(unread()),
        #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
        other => Err(not_built(other)),
    }
}

/// The configuration was read by somebody who needs no journal.
fn unread() -> JournalError {
    JournalError::storage("its url was not read")
}

/// Whether a server could use a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Usable {
    /// It could.
    Yes,
    /// Another server uses it, and has to stop before.
    InUse,
    /// Its database cannot be reached now. A server starts all the same, and is not ready until it can.
    Unreachable(JournalError),
}

/// Checks whether a journal can be used now, without changing it.
///
/// # Errors
/// Why it cannot.
pub async fn check(config: &config::Journal) -> Result<(), JournalError> {
    match usable(config).await? {
        Usable::Yes | Usable::InUse => Ok(()),
        Usable::Unreachable(failure) => Err(failure),
    }
}

/// Checks whether a server could start with a journal. Nothing is left behind.
///
/// # Errors
/// Why it could not.
pub(crate) async fn usable(config: &config::Journal) -> Result<Usable, JournalError> {
    match &config.url {
        JournalUrl::Memory => Ok(Usable::Yes),
        #[cfg(feature = "sqlite")]
        JournalUrl::Sqlite(path) => sqlite::check(path),
        _ => match open_archive(config)?.observers().await {
            Ok(_) | Err(JournalError::Older(_)) => Ok(Usable::Yes),
            Err(newer @ JournalError::Newer(_)) => Err(newer),
            Err(failure) => Ok(Usable::Unreachable(failure)),
        },
    }
}

/// The configuration names a journal that this program has no code for.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn not_built(url: &JournalUrl) -> JournalError {
    let feature = if matches!(url, JournalUrl::Postgres(_)) { "postgres" } else { "sqlite" };
    JournalError::storage(format!(
        "[journal] url is {url:?}, and this program was built without the feature `{feature}` of the package echostr; build it \
         with that feature, or set another url"
    ))
}

/// What a server needs of a journal.
///
/// Everything is atomic, and durable before its entry or its task reports it.
pub trait Journal: fmt::Debug + Send + Sync {
    /// Identity for a new event, received at that time: later than those before.
    fn next_id(&self, received: Millis) -> Uuid;

    /// Admits a delivery: looks its key up and enters the event with an observation for each observer, in one
    /// step.
    ///
    /// An entry that is to be [run](Admission::Run) may not be durable yet: [`Journal::record`] or [`Journal::store`]
    /// has to follow, and the entry reports it.
    fn admit(&self, event: NewEvent) -> Task<'_, Admission>;

    /// The same for an event that is not decoded yet. It is decoded when nothing is known of its key: of a repeat only if
    /// another node has the event.
    fn admit_undecoded<'j>(&'j self, event: Undecoded<'j>) -> Task<'j, Admission>;

    /// Makes an admitted event durable before it has a reply; the entry reports when it is.
    fn store(&self, entry: &Arc<Entry>);

    /// Records the reply; the entry reports when that is durable, and the event with it. The first reply stands.
    fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord);

    /// Takes up to `limit` events that wait for an observer, for as long as `term`: a lease that is not
    /// [finished](Journal::finish) by then expires.
    fn lease(&self, observer: &str, limit: usize, term: Duration) -> Task<'_, Vec<Leased>> {
        self.lease_within(observer, Room::of(limit), term)
    }

    /// The same, of each account no more than there is room for. However much is pending of an account without room, it
    /// costs nothing to skip it.
    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>>;

    /// Ends leases. One that has expired and was taken by another is skipped.
    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()>;

    /// These are the observers from now on, and no others: as when the journal was opened with them, but that this process goes
    /// on. Whoever is no longer among them may still finish what it has leased.
    fn register(&self, observers: Vec<Observer>) -> Task<'_, ()>;

    /// Notified when there may be something new for observers.
    fn arrivals(&self) -> &Notify;

    /// The answer is given without the reply, which is still to come: it then goes to [`ReplyRecord::sender`]. If another node
    /// has recorded it meanwhile, that is what is to be answered.
    ///
    /// # Errors
    /// When another node has the event and does not confirm that its responder runs, and has run for long enough: then it is
    /// not known whether there is a reply.
    fn give_up<'j>(&'j self, entry: &'j Arc<Entry>, terms: GiveUp) -> Task<'j, Option<Body>> {
        let _ = (entry, terms);
        Box::pin(ready(Ok(None)))
    }

    /// The recorded reply of an event of this account, if the event is still kept and has one.
    fn recorded_reply(&self, account: &str, event: Uuid) -> Task<'_, Option<Body>>;

    /// Looks for a late reply of a user that waits for the next message, but for that of one event.
    fn waiting_reply<'j>(&'j self, recipient: &'j Recipient, except: Option<Uuid>) -> Task<'j, WaitingReply>;

    /// Takes the oldest one that is ready: in one step it is no longer waiting, and is the reply of `entry`. `None` when there
    /// is none any more, or the entry has a reply. [`Journal::record`] with this reply has to follow.
    fn take_reply<'j>(&'j self, recipient: &'j Recipient, entry: &'j Entry) -> Task<'j, Option<TakenReply>>;

    /// Records for which body a signed query was used, beyond this process: no later than the next event that is
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

    /// The value of a named lease.
    fn read_lease(&self, name: &str) -> Task<'_, Option<String>>;

    /// Acquires a named lease for as long as `term`; `None` while another holds it. A process that has ended holds none.
    fn acquire_lease(&self, name: &str, term: Duration) -> Task<'_, Option<NamedLease>>;

    /// Writes a named lease and admits events together, in one step; returns the number of events that were new.
    ///
    /// # Errors
    /// [`JournalError::Lost`] when another holds it now: nothing was changed then.
    fn write_lease(&self, held: &NamedLease, write: LeaseWrite) -> Task<'_, usize>;

    /// The time that what it keeps lasts by, in milliseconds since 1970.
    fn now(&self) -> Millis;

    /// Whether it can store.
    ///
    /// # Errors
    /// The last failure. It retries by itself.
    fn health(&self) -> Result<(), JournalError>;

    /// What it holds, for the metrics.
    fn usage(&self) -> Usage;

    /// Whether [`Journal::admit`] takes a while, so that a client that hangs up meanwhile must not stop it.
    fn is_remote(&self) -> bool {
        false
    }

    /// What is in it, where only this process can see it. Others are opened by their URL: see [`open_archive`].
    fn archive(self: Arc<Self>) -> Option<Arc<dyn Archive>> {
        None
    }

    /// Makes everything durable and releases all leases.
    fn close(&self) -> Task<'_, ()>;
}

/// Now, by the system's clock.
pub(crate) fn now_millis() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[cfg(not(feature = "sqlite"))]
    #[tokio::test]
    async fn a_journal_that_is_not_built_in_is_named_with_its_feature() {
        use super::{check, open, open_archive};
        use crate::{config::Config, supervisor::Supervisor};

        let config = Config::parse("[journal]\nurl = \"sqlite://a.db\"\n", "test", |_| Ok(String::new())).unwrap();
        let failures = [
            open(&config.journal, Vec::new(), &Supervisor::default(), &crate::clock::Clock::system(), None)
                .map(drop)
                .unwrap_err(),
            open_archive(&config.journal).map(drop).unwrap_err(),
            check(&config.journal).await.unwrap_err(),
        ];
        for failure in failures {
            let failure = failure.to_string();
            assert!(failure.contains("sqlite://a.db") && failure.contains("feature `sqlite`"), "{failure}");
        }
    }
}
