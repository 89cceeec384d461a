//! The one thread that writes: it takes whatever has gathered and commits it together.

use std::{
    borrow::Cow,
    collections::HashMap,
    mem,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior, config::DbConfig, params};
use tokio::sync::Notify;
use tracing::{error, info};
use uuid::Uuid;

use super::{
    super::{
        Entry, JournalError, Millis, NewEvent, Reply, State,
        core::row::{form_number, reply_text, state_number},
        id::{self, number},
        millis,
    },
    db,
    guard::FileGuard,
    index::Index,
    lock::ServerLock,
    observers,
    queries::{self, Used},
};
use crate::envelope::UsedQuery;

/// How long the writer waits for the next one of those that come together.
const GATHERING: Duration = Duration::from_micros(150);

/// How long it waits for company, at most.
const LONGEST_GATHERING: Duration = Duration::from_millis(2);

/// How many operations are committed together, at most.
const LARGEST_BATCH: usize = 1024;

/// How often a journal that cannot store tries again.
const PROBE: Duration = Duration::from_millis(500);

/// How often the writer looks after the file when nothing is to be written.
const IDLE: Duration = Duration::from_secs(1);

/// How often the size of the file is looked at.
const MEASURE: Duration = Duration::from_millis(100);

/// Work beside the admissions: a lease, a piece of retention.
pub(super) struct Work {
    pub(super) run: Run,
    pub(super) done: Box<dyn FnOnce(Result<(), JournalError>) + Send>,
}

/// May run twice, when others of its transaction cannot be written.
type Run = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

impl Work {
    /// Work with a result; where it is put, and what is told when it is durable.
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
    Admit { event: NewEvent, entry: Arc<Entry>, reply: Option<Reply> },
    Record { entry: Arc<Entry>, reply: Reply },
    Repeated { number: u64 },
    Used(Used),
    Work(Work),
}

/// What the writer and those who ask of it share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    state: Mutex<Gathering>,
    guard: Mutex<FileGuard>,
    wake: Condvar,
    /// Notified when observers have something new.
    pub(super) arrivals: Notify,
    /// The file is as large as it may be.
    pub(super) full: AtomicBool,
    /// Bytes in use.
    pub(super) bytes: AtomicU64,
    /// Operations written so far.
    pub(super) written: AtomicU64,
    /// The writer is to make a checkpoint.
    pub(super) help_checkpoint: AtomicBool,
    /// The lane of each account that each observer in order was given last, so that all have their turn.
    pub(super) lanes: Mutex<HashMap<(i64, String), String>>,
    /// The account that each observer was given events of last, so that all have their turn.
    pub(super) turns: Mutex<HashMap<i64, String>>,
    /// Now, by a clock that never jumps.
    clock: Steady,
}

/// What has gathered for the next commit.
pub(super) struct Gathering {
    pub(super) index: Index,
    ops: Vec<Op>,
    /// Where in `ops` the queries gather.
    used: Option<usize>,
    /// Ticket of the first of `ops`.
    base: u64,
    /// The writer sleeps, and is to be woken when there are so many.
    wake_at: usize,
    /// Somebody waits for what has gathered.
    wanted: bool,
    pub(super) trouble: Option<JournalError>,
    pub(super) closed: bool,
}

/// A clock that goes on evenly, whatever happens to the system's.
struct Steady {
    base: Millis,
    started: Instant,
}

impl Shared {
    pub(super) fn new(path: PathBuf, index: Index, guard: FileGuard) -> Self {
        let gathering = Gathering {
            index,
            ops: Vec::new(),
            used: None,
            base: 1,
            wake_at: usize::MAX,
            wanted: false,
            trouble: None,
            closed: false,
        };
        Self {
            path,
            state: Mutex::new(gathering),
            guard: Mutex::new(guard),
            wake: Condvar::new(),
            arrivals: Notify::new(),
            full: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
            help_checkpoint: AtomicBool::new(false),
            lanes: Mutex::default(),
            turns: Mutex::default(),
            clock: Steady { base: super::super::now_millis(), started: Instant::now() },
        }
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.base.saturating_add(millis(self.clock.started.elapsed()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Adds an operation and sees to it that it is written soon.
    pub(super) fn push(&self, op: Op) {
        let mut gathering = self.lock();
        if gathering.closed {
            drop(gathering);
            return abandon(op);
        }
        gathering.ops.push(op);
        self.want(gathering);
    }

    /// Adds an admission, which is written when somebody [wants](Shared::want) it.
    pub(super) fn admit(gathering: &mut Gathering, event: NewEvent, entry: &Arc<Entry>) {
        entry.ticket.store(gathering.base + gathering.ops.len() as u64, Ordering::Relaxed);
        gathering.ops.push(Op::Admit { event, entry: Arc::clone(entry), reply: None });
    }

    /// Counts a repeat, whenever the writer comes to it; its query is not to wait so long.
    pub(super) fn repeated(&self, mut gathering: MutexGuard<'_, Gathering>, id: Uuid) {
        gathering.ops.push(Op::Repeated { number: number(id) });
        if gathering.used.is_some() {
            self.want(gathering);
        }
    }

    /// Adds a query to what has gathered: the event that it brings comes after it, and is written with it or later.
    pub(super) fn use_query(&self, used: &UsedQuery) -> Result<(), JournalError> {
        let mut gathering = self.lock();
        if gathering.closed {
            return Err(JournalError::Closed);
        }
        gathering.trouble.clone().map_or(Ok(()), Err)?;
        let Gathering { ops, used: place, .. } = &mut *gathering;
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
            self.want(gathering); // Nothing comes after it.
        }
        Ok(())
    }

    /// Adds a reply: to the admission, where that is still to be written.
    pub(super) fn record(&self, entry: &Arc<Entry>, reply: Reply) {
        let mut gathering = self.lock();
        if entry.reply().is_some() {
            return;
        }
        let ticket = entry.ticket.load(Ordering::Relaxed);
        let place = ticket.checked_sub(gathering.base).and_then(|at| usize::try_from(at).ok());
        match place.and_then(|at| gathering.ops.get_mut(at)) {
            Some(Op::Admit { reply: place, .. }) if !reply.is_late() => {
                place.get_or_insert(reply);
            }
            _ => gathering.ops.push(Op::Record { entry: Arc::clone(entry), reply }),
        }
        self.want(gathering);
    }

    /// Somebody waits for what has gathered: wakes the writer, unless it waits for more or is at work.
    pub(super) fn want(&self, mut gathering: MutexGuard<'_, Gathering>) {
        gathering.wanted = true;
        if gathering.ops.len() >= gathering.wake_at {
            gathering.wake_at = usize::MAX;
            drop(gathering);
            self.wake.notify_one();
        }
    }

    /// Sleeps until somebody wants what has gathered and there is so much of it; says whether it slept for too long.
    fn wait<'g>(
        &self,
        mut gathering: MutexGuard<'g, Gathering>,
        wake_at: usize,
        rest: Duration,
    ) -> (MutexGuard<'g, Gathering>, bool) {
        gathering.wake_at = wake_at;
        let woken = self.wake.wait_timeout(gathering, rest).unwrap_or_else(PoisonError::into_inner);
        let (mut gathering, result) = woken;
        gathering.wake_at = usize::MAX;
        (gathering, result.timed_out())
    }

    /// Ends the writer once it has written everything.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

fn abandon(op: Op) {
    match op {
        Op::Admit { entry, .. } => entry.settle(Err(JournalError::Closed)),
        Op::Work(work) => (work.done)(Err(JournalError::Closed)),
        Op::Record { .. } | Op::Repeated { .. } | Op::Used(_) => {}
    }
}

/// The writing end.
pub(super) struct Writer {
    db: Connection,
    shared: Arc<Shared>,
    observers: HashMap<Arc<str>, Observing>,
    /// How much came together last time, and how long its commit took.
    last: (usize, Duration),
    max_size: u64,
    measured: Instant,
    /// When `.lock` was looked at.
    locked: Instant,
    /// The latest commit went well, and is perhaps not in the files.
    uncertain: bool,
    /// Dropped after the connection.
    lock: Arc<ServerLock>,
}

/// An observer in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observing {
    pub(super) id: i64,
    pub(super) in_order: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        db: Connection,
        observers: HashMap<Arc<str>, Observing>,
        max_size: u64,
        lock: Arc<ServerLock>,
    ) -> Self {
        let now = Instant::now();
        let last = (0, Duration::ZERO);
        Self { db, shared, observers, last, max_size, measured: now, locked: now, uncertain: false, lock }
    }

    /// Writes until the journal is closed.
    pub(super) fn run(mut self) {
        while let Some(ops) = self.gather() {
            self.write(ops);
            if self.measured.elapsed() > MEASURE {
                self.measure();
            }
            if self.shared.help_checkpoint.swap(false, Ordering::Relaxed) {
                self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
            }
        }
        // The next process starts with a short log.
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        self.shared.leave_alone(&self.db);
    }

    fn checkpoint(&self, how: &str) {
        let sound = self.shared.guard().check(&self.db).is_ok();
        if sound {
            let _ = self.db.query_row(how, [], |_| Ok(()));
        }
    }

    /// Waits for something to write, and then for company. `None` once the journal is closed and nothing is left.
    fn gather(&self) -> Option<Vec<Op>> {
        let shared = &*self.shared;
        let mut gathering = shared.lock();
        loop {
            let trouble = gathering.trouble.is_some();
            if gathering.closed && (trouble || gathering.ops.is_empty()) {
                gathering.ops.drain(..).for_each(abandon);
                return None;
            }
            if gathering.closed || (gathering.wanted && !trouble) {
                break;
            }
            let (wake_at, rest) = if trouble { (usize::MAX, PROBE) } else { (0, IDLE) };
            let (woken, timed_out) = shared.wait(gathering, wake_at, rest);
            gathering = woken;
            if timed_out {
                break;
            }
        }
        // Under load a commit is shared by more if it waits while they come, but no longer than it takes.
        let (count, took) = self.last;
        let until = Instant::now() + took.min(LONGEST_GATHERING);
        while count > 2 && !gathering.closed && gathering.ops.len() < LARGEST_BATCH && Instant::now() < until {
            let before = gathering.ops.len();
            (gathering, _) = shared.wait(gathering, LARGEST_BATCH, GATHERING);
            if gathering.ops.len() == before {
                break;
            }
        }
        gathering.wanted = false;
        gathering.used = None;
        gathering.base += gathering.ops.len() as u64;
        Some(mem::take(&mut gathering.ops))
    }

    fn write(&mut self, mut ops: Vec<Op>) {
        if ops.is_empty() && self.shared.lock().trouble.is_none() {
            // Nothing to write, and still readiness is to tell when the files are gone.
            let looked = self.check_lock().and_then(|()| self.shared.guard().check(&self.db));
            return looked.unwrap_or_else(|failure| self.fail(ops, &failure));
        }
        let started = Instant::now();
        match self.commit(&mut ops) {
            Ok(()) => {
                let count = ops.iter().filter(|op| !matches!(op, Op::Used(_))).count();
                self.last = (count, started.elapsed());
                self.shared.written.fetch_add(ops.len() as u64, Ordering::Relaxed);
                self.settle(ops);
            }
            Err(failure) if ops.len() > 1 && !db::is_trouble(&failure) => {
                // One of them cannot be written; the others are not to suffer for it.
                ops.into_iter().for_each(|op| self.write(vec![op]));
            }
            Err(failure) => self.fail(ops, &failure),
        }
    }

    fn commit(&mut self, ops: &mut [Op]) -> rusqlite::Result<()> {
        self.uncertain = false;
        self.check_lock()?;
        self.shared.guard().check(&self.db)?;
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if ops.is_empty() {
            transaction.execute("UPDATE probe SET count = count + 1", [])?;
        }
        for op in ops {
            match op {
                Op::Admit { event, entry: _, reply } => {
                    admit(&transaction, &self.observers, event, reply.as_ref(), self.shared.now())?;
                }
                Op::Record { entry, reply } => {
                    let mut update = transaction.prepare_cached(
                        "UPDATE event SET state = ?2, reply = ?3, failure = ?4 WHERE seq = ?1 AND state = 0",
                    )?;
                    let state = state_number(State::of(Some(reply)));
                    let seq = db::to_sql(number(entry.id));
                    let changed = update.execute(params![seq, state, reply_text(&reply.body), reply.failure])?;
                    if let Some(sender) = reply.sender.as_ref().filter(|_| reply.is_late() && changed > 0)
                        && let Some(observer) = self.observers.get(&sender.observer)
                    {
                        observers::add(&transaction, observer.id, &sender.facts.account, seq, self.shared.now())?;
                    }
                }
                Op::Repeated { number } => {
                    let mut update =
                        transaction.prepare_cached("UPDATE event SET deliveries = deliveries + 1 WHERE seq = ?1")?;
                    update.execute([db::to_sql(*number)])?;
                }
                Op::Used(used) => queries::append(&transaction, used)?,
                Op::Work(work) => (work.run)(&transaction)?,
            }
        }
        transaction.commit()?;
        self.uncertain = true;
        self.shared.guard().check_committed(&self.db)
    }

    /// Fails when another server has locked `.lock`, which somebody must have removed.
    fn check_lock(&mut self) -> rusqlite::Result<()> {
        if self.locked.elapsed() < IDLE && self.shared.lock().trouble.is_none() {
            return Ok(());
        }
        if !self.lock.keep() {
            return Err(db::moved("another server has locked its .lock"));
        }
        self.locked = Instant::now();
        Ok(())
    }

    /// Tells everybody that what they waited for is durable.
    fn settle(&self, ops: Vec<Op>) {
        let mut observed = false;
        let mut gathering = self.shared.lock();
        if gathering.trouble.take().is_some() {
            info!("journal {}: it can store again", self.shared.path.display());
        }
        for op in &ops {
            if let Op::Admit { entry, reply: Some(_), .. } | Op::Record { entry, .. } = op
                && let Some(key) = &entry.key
            {
                gathering.index.answered(key, key.until(id::millis_of(entry.id)));
            }
        }
        drop(gathering);
        for op in ops {
            match op {
                Op::Admit { event, entry, reply } => {
                    observed |= !event.observers.is_empty();
                    match reply {
                        Some(reply) => entry.settle(Ok(reply.told())),
                        None => entry.mark_stored(),
                    }
                }
                Op::Record { entry, reply } => {
                    observed |= reply.is_late();
                    entry.settle(Ok(reply.told()));
                }
                Op::Repeated { .. } | Op::Used(_) => {}
                Op::Work(work) => (work.done)(Ok(())),
            }
        }
        if observed {
            self.shared.arrivals.notify_waiters();
        }
    }

    /// Nothing of it was written, or it is not certain. Admissions are refused, so nothing is claimed; replies of events that are in the file
    /// are kept for the next attempt.
    fn fail(&mut self, mut ops: Vec<Op>, failure: &rusqlite::Error) {
        let trouble = db::explain(&self.shared.path, failure);
        self.last = (0, Duration::ZERO);
        let mut gathering = self.shared.lock();
        let passing = db::is_trouble(failure);
        if passing {
            if gathering.trouble.replace(trouble.clone()).is_none() {
                error!("{trouble}; events are not taken until it can store again");
            }
            gathering.base += gathering.ops.len() as u64;
            gathering.used = None;
            ops.append(&mut gathering.ops);
        } else {
            error!("{trouble}; one operation was given up");
        }
        for op in ops {
            match op {
                Op::Record { .. } | Op::Used(_) if passing => {
                    gathering.base -= 1;
                    gathering.ops.push(op);
                }
                // While the lock is held, so that no reply is recorded for an event that is not there.
                Op::Admit { entry, .. } | Op::Record { entry, .. } => {
                    match &entry.key {
                        // If the file is put back it may be in there: the file is asked.
                        Some(key) if self.uncertain => {
                            gathering.index.answered(key, key.until(id::millis_of(entry.id)));
                        }
                        Some(key) => gathering.index.release(key),
                        None => {}
                    }
                    entry.settle(Err(trouble.clone()));
                }
                Op::Work(work) => (work.done)(Err(trouble.clone())),
                Op::Repeated { .. } | Op::Used(_) => {}
            }
        }
    }

    /// Looks whether the file is too large.
    fn measure(&mut self) {
        self.measured = Instant::now();
        if let Ok(bytes) = db::bytes(&self.db) {
            self.shared.full.store(bytes >= self.max_size, Ordering::Relaxed);
            self.shared.bytes.store(bytes, Ordering::Relaxed);
        }
    }
}

/// Enters an event, with its key and what waits for its observers.
pub(super) fn admit(
    db: &Connection,
    observers: &HashMap<Arc<str>, Observing>,
    event: &NewEvent,
    reply: Option<&Reply>,
    now: Millis,
) -> rusqlite::Result<()> {
    let seq = db::to_sql(number(event.id));
    let facts = &event.facts;
    let wanted = event.observers.iter().filter_map(|name| observers.get(name));
    let ids: Vec<String> = wanted.clone().map(|observer| observer.id.to_string()).collect();
    let mut insert =
        db.prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?11, ?12, ?13)")?;
    insert.execute(params![
        seq,
        event.id.as_bytes(),
        &*facts.account,
        &*facts.event_type,
        facts.subject.as_deref(),
        form_number(facts.form),
        facts.payload.text(),
        facts.query.as_deref(),
        facts.received,
        state_number(State::of(reply)),
        reply.and_then(|reply| reply_text(&reply.body)),
        reply.and_then(|reply| reply.failure.as_deref()),
        (!ids.is_empty()).then(|| ids.join(",")),
    ])?;
    if let Some(key) = &event.key {
        // One that is there already is over, or the index would have said so.
        let mut insert = db.prepare_cached(
            "INSERT INTO dedupe VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET seq = ?2, until = ?3",
        )?;
        insert.execute(params![&key.bytes[..], seq, key.until(id::millis_of(event.id))])?;
    }
    for observer in wanted {
        let lane = observer.in_order.then(|| lane(facts.subject.as_deref(), seq));
        offer(db, observer.id, &facts.account, now, seq, lane.as_deref())?;
    }
    Ok(())
}

/// Events of one lane go to an observer one after the other; an event about nobody has a lane of its own.
pub(super) fn lane(subject: Option<&str>, seq: i64) -> Cow<'_, str> {
    subject.map_or_else(|| format!(" {seq}").into(), Cow::Borrowed)
}

/// Adds a delivery that waits, unless there is the same.
pub(super) fn offer(
    db: &Connection,
    observer: i64,
    account: &str,
    due: Millis,
    seq: i64,
    lane: Option<&str>,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO delivery VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, NULL)")?;
    insert.execute(params![observer, account, due, seq, lane])?;
    Ok(())
}
