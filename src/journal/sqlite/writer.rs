//! The one thread that writes: it takes the pending batch and commits it.

use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use metrics::Histogram;
use rusqlite::{Connection, TransactionBehavior};

use super::{
    super::{
        core::{Commit, Failure as _, at_once, commit},
        id,
    },
    db, events,
    lock::ServerLock,
    queries,
    shared::{Op, Shared, abandon},
    waiting,
};
use crate::supervisor::Watch;

/// How long the writer waits for the next one of those that come together.
const NEXT_OPERATION: Duration = Duration::from_micros(150);

/// How long it waits for more, at most.
const LONGEST_WAIT: Duration = Duration::from_millis(2);

/// How many operations are committed together, at most.
const LARGEST_BATCH: usize = 1024;

/// How often a journal that cannot store retries.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How often the writer checks the file when nothing is to be written.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the size of the file is measured, and after how many operations; and the share of the largest size from which on it is
/// measured after every commit, so that what is beyond the limit is one commit.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);
const MEASURE_OPERATIONS: usize = 128;
const NEARLY_FULL: f64 = 0.8;

/// The writing end.
pub(super) struct Writer {
    db: Connection,
    shared: Arc<Shared>,
    /// How much came together last time, and how long its commit took.
    last: (usize, Duration),
    measured: Instant,
    /// Operations since then.
    unmeasured: usize,
    /// When `.lock` was checked.
    locked: Instant,
    /// The latest commit succeeded, and may not be in the files.
    uncertain: bool,
    /// Dropped after the connection.
    lock: Arc<ServerLock>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, db: Connection, lock: Arc<ServerLock>) -> Self {
        let now = Instant::now();
        let last = (0, Duration::ZERO);
        Self { db, shared, last, measured: now, unmeasured: 0, locked: now, uncertain: false, lock }
    }

    /// Writes until the journal is closed.
    pub(super) fn run(mut self, watch: &Watch) {
        while let Some(ops) = self.next_batch() {
            watch.look();
            self.unmeasured += ops.len();
            self.write(ops);
            if self.unmeasured > MEASURE_OPERATIONS
                || self.measured.elapsed() > MEASURE_INTERVAL
                || self.shared.counts.is_above(NEARLY_FULL)
            {
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

    /// Waits for something to write, and then for more. `None` once the journal is closed and nothing is left.
    fn next_batch(&self) -> Option<Vec<Op>> {
        let shared = &*self.shared;
        let mut pending = shared.lock();
        loop {
            let trouble = pending.health.has_trouble();
            let closed = pending.health.is_closed();
            if closed && (trouble || pending.len() == 0) {
                pending.take().into_iter().for_each(abandon);
                return None;
            }
            if closed || (pending.is_wanted() && !trouble) {
                break;
            }
            let (wake_at, rest) = if trouble { (usize::MAX, PROBE_INTERVAL) } else { (0, IDLE_INTERVAL) };
            let (woken, timed_out) = shared.wait(pending, wake_at, rest);
            pending = woken;
            if timed_out {
                break;
            }
        }
        // Under load a commit is shared by more if it waits while they come, but no longer than it takes.
        let (count, took) = self.last;
        let until = Instant::now() + took.min(LONGEST_WAIT);
        while count > 2 && !pending.health.is_closed() && pending.len() < LARGEST_BATCH && Instant::now() < until {
            let before = pending.len();
            (pending, _) = shared.wait(pending, LARGEST_BATCH, NEXT_OPERATION);
            if pending.len() == before {
                break;
            }
        }
        Some(pending.take())
    }

    fn write(&mut self, ops: Vec<Op>) {
        if ops.is_empty() && !self.shared.lock().health.has_trouble() {
            // Nothing to write, and still readiness has to fail when the files were removed.
            let looked = self.check_lock().and_then(|()| self.shared.guard().check(&self.db));
            return looked.unwrap_or_else(|failure| self.fail(ops, &failure));
        }
        at_once(commit::write(self, ops));
    }

    fn commit_now(&mut self, ops: &mut [Op]) -> rusqlite::Result<()> {
        let started = Instant::now();
        self.uncertain = false;
        self.check_lock()?;
        self.shared.guard().check(&self.db)?;
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if ops.is_empty() {
            transaction.execute("UPDATE probe SET count = count + 1", [])?;
        }
        let mut observers = self.shared.observers();
        for op in &mut *ops {
            match op {
                Op::Admit { event, entry: _, reply } => {
                    events::admit(&transaction, &observers, event, reply.as_ref(), self.shared.now())?;
                }
                Op::Record { entry, reply } => {
                    let late = events::record(&transaction, entry, reply)?;
                    if let Some(sender) = reply.sender.as_ref().filter(|_| late)
                        && let Some(observer) = observers.get(&sender.observer)
                    {
                        waiting::offer_late(&transaction, observer.id, sender, entry.id, self.shared.now())?;
                    }
                }
                Op::Repeated { number } => events::repeated(&transaction, *number)?,
                Op::Used(used) => queries::append(&transaction, used)?,
                Op::Work(work) => {
                    (work.run)(&transaction)?;
                    // It may have registered some.
                    observers = self.shared.observers();
                }
            }
        }
        transaction.commit()?;
        self.uncertain = true;
        self.shared.guard().check_committed(&self.db)?;
        let count = ops.iter().filter(|op| !matches!(op, Op::Used(_))).count();
        self.last = (count, started.elapsed());
        self.shared.written.fetch_add(ops.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Fails when another server has locked `.lock`, which must have been removed.
    fn check_lock(&mut self) -> rusqlite::Result<()> {
        if self.locked.elapsed() < IDLE_INTERVAL && !self.shared.lock().health.has_trouble() {
            return Ok(());
        }
        if !self.lock.keep() {
            return Err(db::moved("another server has locked its .lock"));
        }
        self.locked = Instant::now();
        Ok(())
    }

    /// Checks whether the file is too large.
    fn measure(&mut self) {
        (self.measured, self.unmeasured) = (Instant::now(), 0);
        if let Ok(bytes) = db::bytes(&self.db) {
            self.shared.counts.measured(bytes);
        }
    }
}

impl Commit for Writer {
    type Operation = Op;
    type Done = ();
    type Failure = rusqlite::Error;

    fn commits(&self) -> Option<&Histogram> {
        self.shared.commits.as_ref()
    }

    fn commit(&mut self, ops: &mut [Op]) -> impl Future<Output = rusqlite::Result<()>> + Send {
        ready(self.commit_now(ops))
    }

    fn settle(&mut self, ops: Vec<Op>, (): ()) {
        let mut observed = false;
        let mut pending = self.shared.lock();
        pending.health.recover(|| format!("journal {}: it", self.shared.path.display()));
        for op in &ops {
            if let Op::Admit { entry, reply: Some(_), .. } | Op::Record { entry, .. } = op
                && let Some(key) = &entry.key
            {
                pending.in_flight.end(entry);
                pending.index.remember(key.bytes, key.until(id::millis_of(entry.id)));
            }
        }
        drop(pending);
        for op in ops {
            match op {
                Op::Admit { event, entry, reply } => {
                    observed |= !event.observers.is_empty();
                    match reply {
                        Some(reply) => entry.settle(Ok(reply.for_repeat())),
                        None => entry.mark_stored(),
                    }
                }
                Op::Record { entry, reply } => {
                    observed |= reply.is_late();
                    entry.settle(Ok(reply.for_repeat()));
                }
                Op::Repeated { .. } | Op::Used(_) => {}
                Op::Work(work) => (work.done)(Ok(())),
            }
        }
        if observed {
            self.shared.arrivals.notify_waiters();
        }
    }

    /// Admissions are refused, so nothing is claimed; replies of events that are in the file are kept for the next attempt.
    fn fail(&mut self, mut ops: Vec<Op>, failure: &rusqlite::Error) {
        let trouble = db::explain(&self.shared.path, failure);
        self.last = (0, Duration::ZERO);
        let mut pending = self.shared.lock();
        let passing = failure.is_trouble();
        if passing {
            pending.health.fail(&trouble);
            ops.append(&mut pending.take());
        } else {
            commit::given_up(&trouble);
        }
        for op in ops {
            match op {
                op if passing && is_kept(&op) => pending.keep(op),
                // While the lock is held, so that no reply is recorded for an event that is not there.
                Op::Admit { entry, .. } | Op::Record { entry, .. } => {
                    pending.in_flight.end(&entry);
                    if let Some(key) = entry.key.filter(|_| self.uncertain) {
                        // If the file is put back it may be in there: the file is asked.
                        pending.index.remember(key.bytes, key.until(id::millis_of(entry.id)));
                    }
                    entry.settle(Err(trouble.clone()));
                }
                Op::Work(work) => (work.done)(Err(trouble.clone())),
                Op::Repeated { .. } | Op::Used(_) => {}
            }
        }
    }
}

/// Whether an operation waits until the file can be written again. The reply of an event whose admission was refused, here or
/// in the batch before, does not: there is nothing to record it for.
fn is_kept(op: &Op) -> bool {
    match op {
        Op::Record { entry, .. } => entry.reply().is_none(),
        Op::Used(_) => true,
        Op::Admit { .. } | Op::Repeated { .. } | Op::Work(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        super::super::{Entry, JournalError, ReplyRecord},
        *,
    };
    use crate::platform::Body;

    #[test]
    fn a_reply_whose_admission_was_refused_is_not_kept() {
        let entry = Entry::new(Uuid::nil(), None, 1);
        let record = || {
            let reply = ReplyRecord { body: Body::Plain("success"), failure: None, sender: None };
            Op::Record { entry: Arc::clone(&entry), reply }
        };
        assert!(is_kept(&record()));
        entry.settle(Err(JournalError::Full));
        assert!(!is_kept(&record()));
    }
}
