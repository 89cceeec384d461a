//! The pending batch of the next commit.

use std::{
    collections::HashMap,
    mem,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::Histogram;
use rusqlite::{Connection, config::DbConfig};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    super::{
        Entry, JournalError, Millis, NewEvent, Observer, Options, ReplyRecord,
        core::{Counts, Health, InFlight},
        id::number,
        millis, now_millis,
    },
    guard::FileGuard,
    index::Index,
    observers::{Observing, Registered},
    queries::Used,
};
use crate::{clock::Clock, envelope::UsedQuery};

/// Operations beside the admissions: leases, maintenance.
pub(super) struct Work {
    pub(super) run: Run,
    pub(super) done: Box<dyn FnOnce(Result<(), JournalError>) + Send>,
}

/// May run twice, when others of its transaction cannot be written.
type Run = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

impl Work {
    /// Work with a result; where it is put, and who gets it when it is durable.
    pub(super) fn new<T: Send + 'static>(
        mut run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
        done: impl FnOnce(Result<T, JournalError>) + Send + 'static,
    ) -> Self {
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        Self {
            run: Box::new(move |db| {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(run(db)?);
                Ok(())
            }),
            done: Box::new(move |written| {
                let result = result.lock().unwrap_or_else(PoisonError::into_inner).take();
                done(written.and_then(|()| result.ok_or(JournalError::Closed)));
            }),
        }
    }
}

/// What is to be written.
pub(super) enum Op {
    Admit { event: NewEvent, entry: Arc<Entry>, reply: Option<ReplyRecord> },
    Record { entry: Arc<Entry>, reply: ReplyRecord },
    Repeated { number: u64 },
    Used(Used),
    Work(Work),
}

/// The state that the writer shares with its callers.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pending: Mutex<Pending>,
    guard: Mutex<FileGuard>,
    wake: Condvar,
    /// Notified when observers have something new.
    pub(super) arrivals: Notify,
    pub(super) counts: Counts,
    /// How long commits take.
    pub(super) commits: Option<Histogram>,
    /// Operations written so far.
    pub(super) written: AtomicU64,
    /// Asks the writer for a checkpoint.
    pub(super) help_checkpoint: AtomicBool,
    /// The ordering key of each account that each observer in order was given last, so that all have their turn.
    pub(super) last_keys: Mutex<HashMap<(i64, String), String>>,
    /// The account that each observer was given events of last, so that all have their turn.
    pub(super) last_accounts: Mutex<HashMap<i64, String>>,
    /// Their rows in the file.
    observers: Mutex<Arc<Registered>>,
    /// All observers, and whether the backfill of some of them may have to be done.
    wanted: Mutex<(Arc<[Observer]>, bool)>,
    /// Now, by a clock that never jumps.
    clock: Steady,
}

/// The batch of the next commit, and events in flight.
pub(super) struct Pending {
    pub(super) health: Health,
    pub(super) in_flight: InFlight,
    pub(super) index: Index,
    ops: Vec<Op>,
    /// Where in `ops` the used queries are.
    used: Option<usize>,
    /// Ticket of the first of `ops`.
    base: u64,
    /// The writer sleeps, and is to be woken when there are so many.
    wake_at: usize,
    /// The batch is waited for.
    wanted: bool,
}

impl Pending {
    /// Adds an admission, which is written when it is [wanted](Shared::want).
    pub(super) fn admit(&mut self, event: NewEvent, entry: &Arc<Entry>) {
        entry.ticket.store(self.base + self.ops.len() as u64, Ordering::Relaxed);
        self.ops.push(Op::Admit { event, entry: Arc::clone(entry), reply: None });
    }

    /// Takes the batch.
    pub(super) fn take(&mut self) -> Vec<Op> {
        self.wanted = false;
        self.used = None;
        self.base += self.ops.len() as u64;
        mem::take(&mut self.ops)
    }

    /// Keeps an operation of a batch that was taken for the next one.
    pub(super) fn keep(&mut self, op: Op) {
        self.base -= 1;
        self.ops.push(op);
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted
    }
}

/// A monotonic clock, whatever happens to the system's.
struct Steady {
    base: Millis,
    started: Instant,
    clock: Clock,
}

impl Shared {
    pub(super) fn new(path: PathBuf, index: Index, guard: FileGuard, options: &Options) -> Self {
        let pending = Pending {
            health: Health::new(""),
            in_flight: InFlight::default(),
            index,
            ops: Vec::new(),
            used: None,
            base: 1,
            wake_at: usize::MAX,
            wanted: false,
        };
        Self {
            path,
            pending: Mutex::new(pending),
            guard: Mutex::new(guard),
            wake: Condvar::new(),
            arrivals: Notify::new(),
            counts: Counts::new(options.max_size),
            commits: options.commits.clone(),
            written: AtomicU64::new(0),
            help_checkpoint: AtomicBool::new(false),
            last_keys: Mutex::default(),
            last_accounts: Mutex::default(),
            observers: Mutex::default(),
            wanted: Mutex::new((options.observers.as_slice().into(), true)),
            clock: Steady { base: now_millis(), started: Instant::now(), clock: options.clock.clone() },
        }
    }

    pub(super) fn now(&self) -> Millis {
        let Steady { base, started, clock } = &self.clock;
        base.saturating_add(millis(started.elapsed())).saturating_add(clock.passed())
    }

    /// The observers that are registered.
    pub(super) fn observers(&self) -> Arc<Registered> {
        Arc::clone(&self.observers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that are registered now.
    pub(super) fn registered(&self, observers: &Registered) {
        let mut registered = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut registered).extend(observers.iter().map(|(name, observing)| (Arc::clone(name), *observing)));
    }

    /// The row of an observer.
    pub(super) fn observing(&self, name: &str) -> Option<Observing> {
        self.observers().get(name).copied()
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, (Arc<[Observer]>, bool)> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn guard(&self) -> MutexGuard<'_, FileGuard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a connection is closed: SQLite would move a log that is damaged into the database.
    pub(super) fn leave_alone(&self, db: &Connection) {
        if self.guard().is_damaged() {
            let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
    }

    /// Adds an operation, and wakes the writer for it.
    pub(super) fn push(&self, op: Op) {
        let mut pending = self.lock();
        if pending.health.is_closed() {
            drop(pending);
            return abandon(op);
        }
        pending.ops.push(op);
        self.want(pending);
    }

    /// Counts a repeat, whenever the writer comes to it; its query is not to wait so long.
    pub(super) fn repeated(&self, mut pending: MutexGuard<'_, Pending>, id: Uuid) {
        pending.ops.push(Op::Repeated { number: number(id) });
        if pending.used.is_some() {
            self.want(pending);
        }
    }

    /// Adds a query to the batch: the event that it brings comes after it, and is written with it or later.
    pub(super) fn use_query(&self, used: &UsedQuery) -> Result<(), JournalError> {
        let mut pending = self.lock();
        pending.health.check()?;
        let Pending { ops, used: place, .. } = &mut *pending;
        match place.and_then(|at| ops.get_mut(at)) {
            Some(Op::Used(all)) => all.add(used, self.now()),
            _ => {
                let mut all = Used::default();
                all.add(used, self.now());
                *place = Some(ops.len());
                ops.push(Op::Used(all));
            }
        }
        if used.body == UsedQuery::URL_CHECK {
            self.want(pending); // Nothing comes after it.
        }
        Ok(())
    }

    /// Adds a reply: to the admission, where that is still to be written.
    pub(super) fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord) {
        let mut pending = self.lock();
        if entry.reply().is_some() {
            return;
        }
        let ticket = entry.ticket.load(Ordering::Relaxed);
        let place = ticket.checked_sub(pending.base).and_then(|at| usize::try_from(at).ok());
        match place.and_then(|at| pending.ops.get_mut(at)) {
            Some(Op::Admit { reply: place, .. }) if !reply.is_late() => {
                place.get_or_insert(reply);
            }
            _ => pending.ops.push(Op::Record { entry: Arc::clone(entry), reply }),
        }
        self.want(pending);
    }

    /// The batch is waited for: wakes the writer, unless it waits for more or is writing.
    pub(super) fn want(&self, mut pending: MutexGuard<'_, Pending>) {
        pending.wanted = true;
        if pending.ops.len() >= pending.wake_at {
            pending.wake_at = usize::MAX;
            drop(pending);
            self.wake.notify_one();
        }
    }

    /// Sleeps until the batch is wanted and has so much; returns whether it slept for too long.
    pub(super) fn wait<'p>(
        &self,
        mut pending: MutexGuard<'p, Pending>,
        wake_at: usize,
        rest: Duration,
    ) -> (MutexGuard<'p, Pending>, bool) {
        pending.wake_at = wake_at;
        let woken = self.wake.wait_timeout(pending, rest).unwrap_or_else(PoisonError::into_inner);
        let (mut pending, result) = woken;
        pending.wake_at = usize::MAX;
        (pending, result.timed_out())
    }

    /// The writer has panicked: nothing is admitted any more, and what is in flight is not durable.
    pub(super) fn abandon(&self) {
        let mut pending = self.lock();
        pending.health.close();
        pending.in_flight.abandon();
        pending.take().into_iter().for_each(abandon);
    }

    /// Ends the writer once it has written everything.
    pub(super) fn close(&self) {
        self.lock().health.close();
        self.wake.notify_one();
    }
}

pub(super) fn abandon(op: Op) {
    match op {
        Op::Admit { entry, .. } => entry.settle(Err(JournalError::Closed)),
        Op::Work(work) => (work.done)(Err(JournalError::Closed)),
        Op::Record { .. } | Op::Repeated { .. } | Op::Used(_) => {}
    }
}
