//! The shared state of a node's tasks: the pending batch, events in flight, and the health of the database.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::Histogram;
use tokio::{
    sync::{Notify, oneshot, watch},
    time,
};
use tracing::warn;
use uuid::Uuid;

use super::{
    super::{
        Admission, Entry, JournalError, NewEvent, Observer, Options, ReplyRecord,
        core::{Admitted, Counts, Failure as _, Health, InFlight, Running, Waiter, commit},
    },
    acknowledged::Acknowledged,
    db::Failure,
    node::{COUNTED_ON, Lifetime},
    observers::Observing,
    pool::Pool,
    queries,
    waiting::Awaited,
};
use crate::platform::DedupeKey;

/// How often a journal that cannot store retries.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Longer than a statement may take.
const REORDERING: Duration = Duration::from_secs(20);

/// State of the first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Connecting,
    Over,
}

/// An event that is known, or what will respond once it is admitted.
pub(super) type Joined = Result<Admission, oneshot::Receiver<Admitted>>;

/// A pending admission.
pub(super) struct Asking {
    pub(super) event: NewEvent,
    pub(super) respond: Waiter,
}

/// A pending reply.
pub(super) struct Recording {
    pub(super) entry: Arc<Entry>,
    pub(super) reply: ReplyRecord,
}

/// The pending batch, and events in flight.
pub(super) struct Pending {
    health: Health,
    in_flight: InFlight,
    admissions: Vec<Asking>,
    records: Vec<Recording>,
    /// Deliveries of events that run here.
    pub(super) repeated: HashMap<Uuid, i32>,
    pub(super) awaited: HashMap<Uuid, Awaited>,
    pub(super) acknowledged: Acknowledged,
    /// When the latest heartbeat that arrived was sent.
    alive: Instant,
}

/// What the journal and its tasks share.
pub(super) struct Shared {
    pub(super) pool: Pool,
    /// This node.
    pub(super) node: Uuid,
    wanted: Mutex<Arc<[Observer]>>,
    /// When these were registered while the node runs.
    registered: Mutex<Option<Instant>>,
    pub(super) observers: Mutex<HashMap<Arc<str>, Observing>>,
    /// The ordering key of each account that each observer in order was given last, so that all have their turn.
    pub(super) last_keys: Mutex<HashMap<i32, HashMap<String, Vec<u8>>>>,
    /// The account that each observer was given events of last, so that all have their turn.
    pub(super) last_accounts: Mutex<HashMap<i32, String>>,
    /// Notified when observers have something new.
    pub(super) arrivals: Notify,
    pub(super) start: watch::Sender<Start>,
    pub(super) counts: Counts,
    /// How long commits take.
    pub(super) commits: Option<Histogram>,
    pub(super) queries: queries::Pending,
    /// Asks the heartbeat to check at once.
    pub(super) look: Notify,
    pub(super) admit: Notify,
    pub(super) record: Notify,
    pub(super) await_: Notify,
    pub(super) flushed: Notify,
    lifetime: Mutex<Lifetime>,
    pending: Mutex<Pending>,
}

impl Shared {
    pub(super) fn new(pool: Pool, options: &Options) -> Self {
        let pending = Pending {
            health: Health::new("journal: "),
            in_flight: InFlight::default(),
            admissions: Vec::new(),
            records: Vec::new(),
            repeated: HashMap::new(),
            awaited: HashMap::new(),
            acknowledged: Acknowledged::default(),
            alive: Instant::now(),
        };
        Self {
            pool,
            node: Uuid::now_v7(),
            wanted: Mutex::new(options.observers.as_slice().into()),
            registered: Mutex::default(),
            observers: Mutex::default(),
            last_keys: Mutex::default(),
            last_accounts: Mutex::default(),
            arrivals: Notify::new(),
            start: watch::Sender::new(Start::Connecting),
            counts: Counts::new(options.max_size),
            commits: options.commits.clone(),
            queries: queries::Pending::default(),
            look: Notify::new(),
            admit: Notify::new(),
            record: Notify::new(),
            await_: Notify::new(),
            flushed: Notify::new(),
            lifetime: Mutex::default(),
            pending: Mutex::new(pending),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lifetime(&self) -> MutexGuard<'_, Lifetime> {
        self.lifetime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The observers of this node.
    pub(super) fn wanted(&self) -> Arc<[Observer]> {
        Arc::clone(&self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This node has these observers from now on.
    pub(super) fn want(&self, observers: Vec<Observer>) {
        *self.registered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = observers.into();
    }

    /// Whether the order of an observer has changed so lately that an event may still be on its way to it in the old one.
    pub(super) fn is_reordering(&self) -> bool {
        let registered = *self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.is_some_and(|at| at.elapsed() < REORDERING)
    }

    /// The observers that this node has or had, as the database knows them.
    pub(super) fn observing(&self) -> HashMap<Arc<str>, Observing> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().health.is_closed()
    }

    pub(super) fn has_trouble(&self) -> bool {
        self.lock().health.has_trouble()
    }

    /// Whether it can store.
    pub(super) fn health(&self) -> Result<(), JournalError> {
        let alive = {
            let pending = self.lock();
            pending.health.check()?;
            pending.alive
        };
        if *self.start.borrow() == Start::Connecting {
            return Err(JournalError::storage("PostgreSQL: connecting"));
        }
        // This process was stopped, or the database is slow: others may have taken over what is in flight here.
        if alive.elapsed() > COUNTED_ON {
            return Err(JournalError::storage("PostgreSQL: the heartbeat of this node does not arrive in time"));
        }
        self.counts.check()
    }

    /// A heartbeat has arrived. When the one before was no longer valid, others may have answered what is in flight here, so
    /// nothing but a recorded reply may be given from now on.
    pub(super) fn alive(&self, sent: Instant, was_away: bool) {
        let mut pending = self.lock();
        pending.alive = sent;
        if !was_away {
            return;
        }
        let away = JournalError::storage("PostgreSQL: the heartbeat of this node did not arrive in time");
        let mut count = 0;
        for entry in pending.in_flight.entries().filter(|entry| entry.reply().is_none()) {
            entry.settle(Err(away.clone()));
            count += 1;
        }
        drop(pending);
        if count == 0 {
            return;
        }
        warn!(
            count,
            "journal: other nodes had no heartbeat of this one for several seconds, and may have taken over its {count} events \
             in flight: their deliveries are answered with 503 and repeated by the platforms; where a machine sleeps or is \
             overloaded, that is why"
        );
    }

    /// Ready once the first connection is established, or has failed.
    pub(super) async fn started(&self) {
        let _ = self.start.subscribe().wait_for(|start| *start != Start::Connecting).await;
    }

    /// The database cannot be reached, or refuses a statement.
    pub(super) fn trouble(&self, failure: &Failure) -> JournalError {
        let trouble = failure.explain();
        if !failure.is_trouble() {
            commit::given_up(&trouble);
            return trouble;
        }
        let mut pending = self.lock();
        pending.health.fail(&trouble);
        let refused = mem::take(&mut pending.admissions);
        drop(pending);
        for asking in refused {
            self.admitted(asking, Err(trouble.clone()));
        }
        self.look.notify_one();
        trouble
    }

    /// The database answers.
    pub(super) fn recovered(&self) {
        self.lock().health.recover(|| "journal: PostgreSQL".to_owned());
        self.record.notify_one();
    }

    /// Joins what runs under a key on this node, or is being admitted; `None` when nothing is.
    pub(super) fn join(&self, key: &DedupeKey) -> Option<Joined> {
        self.join_running(&mut self.lock(), key)
    }

    fn join_running(&self, pending: &mut Pending, key: &DedupeKey) -> Option<Joined> {
        let entry = match pending.in_flight.running(key)? {
            Running::Entry(entry) => Arc::clone(entry),
            Running::Asking(waiting) => {
                let (respond, response) = oneshot::channel();
                waiting.push(respond);
                return Some(Err(response));
            }
        };
        pending.delivered_again(&entry);
        self.record.notify_one();
        Some(Ok(Admission::Known(entry)))
    }

    /// Adds an admission, or joins what runs under its key.
    pub(super) fn admit(&self, event: NewEvent) -> Joined {
        let (respond, response) = oneshot::channel();
        let mut pending = self.lock();
        if let Err(failure) = pending.health.check() {
            let _ = respond.send(Err(failure));
            return Err(response);
        }
        if let Some(key) = &event.key {
            if let Some(joined) = self.join_running(&mut pending, key) {
                return joined;
            }
            pending.in_flight.ask(key);
        }
        pending.admissions.push(Asking { event, respond });
        drop(pending);
        self.admit.notify_one();
        Err(response)
    }

    pub(super) fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord) {
        let mut pending = self.lock();
        if pending.health.is_closed() {
            drop(pending);
            return entry.settle(Err(JournalError::Closed));
        }
        pending.records.push(Recording { entry: Arc::clone(entry), reply });
        drop(pending);
        self.record.notify_one();
    }

    /// Completes those who wait for an admission.
    pub(super) fn admitted(&self, Asking { event, respond }: Asking, admitted: Admitted) {
        let mut pending = self.lock();
        if let Some(key) = &event.key {
            let waiting = match &admitted {
                Ok(Admission::Run(entry)) => pending.in_flight.run(key, entry),
                Ok(Admission::Known(_)) | Err(_) => pending.in_flight.release(key),
            };
            let is_repeated = admitted.is_ok() && !waiting.is_empty();
            for waiter in waiting {
                let _ = waiter.send(match &admitted {
                    Ok(Admission::Run(entry) | Admission::Known(entry)) => {
                        pending.delivered_again(entry);
                        Ok(Admission::Known(Arc::clone(entry)))
                    }
                    Err(failure) => Err(failure.clone()),
                });
            }
            if is_repeated {
                self.record.notify_one();
            }
        }
        drop(pending);
        let _ = respond.send(admitted);
    }

    /// Admits nothing more; ready once every reply is written, or cannot be.
    pub(super) async fn flush(&self) {
        loop {
            let flushed = self.flushed.notified();
            {
                let mut pending = self.lock();
                if pending.health.has_trouble() || pending.records.is_empty() {
                    pending.health.close();
                    for asking in mem::take(&mut pending.admissions) {
                        let _ = asking.respond.send(Err(JournalError::Closed));
                    }
                    for Recording { entry, .. } in mem::take(&mut pending.records) {
                        entry.settle(Err(JournalError::Closed));
                    }
                    return;
                }
            }
            self.record.notify_one();
            let _ = time::timeout(PROBE_INTERVAL, flushed).await;
        }
    }
}

impl Pending {
    fn delivered_again(&mut self, entry: &Entry) {
        entry.delivered_again();
        *self.repeated.entry(entry.id).or_default() += 1;
    }

    pub(super) fn take_admissions(&mut self, limit: usize) -> Vec<Asking> {
        let count = self.admissions.len().min(limit);
        self.admissions.drain(..count).collect()
    }

    /// Replies to be written; `None` while the database cannot store.
    pub(super) fn take_records(&mut self, limit: usize) -> Option<Vec<Recording>> {
        let count = self.records.len().min(limit);
        (!self.health.has_trouble()).then(|| self.records.drain(..count).collect())
    }

    /// Replies that could not be written are written later.
    pub(super) fn keep_records(&mut self, records: Vec<Recording>) {
        self.records.extend(records);
    }

    /// Whether this node runs a responder, or admits an event.
    pub(super) fn is_running(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// What runs on this node under a key.
    pub(super) fn running(&mut self, key: &DedupeKey) -> Option<&mut Running> {
        self.in_flight.running(key)
    }

    /// Whether the responder of an entry runs on this node. An event without a key runs where it was delivered.
    pub(super) fn runs(&self, entry: &Arc<Entry>) -> bool {
        entry.key.is_none_or(|key| self.in_flight.entry(&key).is_some_and(|running| Arc::ptr_eq(running, entry)))
    }

    /// An entry is no longer in flight.
    pub(super) fn end(&mut self, entry: &Arc<Entry>) {
        self.in_flight.end(entry);
    }
}
