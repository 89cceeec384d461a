//! What goes on beside the commits: checkpoints, retention, the past for new observers, counting.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use tracing::warn;

use super::{
    super::{
        JournalError, Millis, Observer, Options, Usage,
        core::missing::{self as say, Left},
        id::number_at,
        millis, now_millis,
    },
    db, missing, observers, queries, slots,
    writer::{Observing, Op, Shared, Work},
};
use crate::platform::{KEY, Key};

/// How often the log is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often rows are counted, and what is old is looked for.
const ROUND: Duration = Duration::from_secs(5);

/// Operations that are worth a checkpoint, and pages of the log that are too many: then the writer is asked to help.
const CHECKPOINT_OPERATIONS: u64 = 4096;
const LONG_LOG_PAGES: i64 = 8192;

/// Rows that are removed or added in one transaction: a commit of others waits no longer than that takes.
const ROWS: usize = 500;

/// Events that are looked at at one moment.
const LOOKED_AT: usize = 5000;

/// Keys that are read at one time, and that are looked at in a round when none is old.
const KEYS: usize = 4096;
const STRETCH: usize = 5 * KEYS;

/// Keys are kept so long at least, in milliseconds: longer than a platform repeats a delivery.
const KEYS_KEPT: Millis = 3_600_000;

/// Old events that somebody still needs are passed over one by one up to so many; beyond it, nothing later is removed.
const PASSED_OVER: usize = 10_000;

/// Shares of the largest size: from there on the oldest events are removed, down to there.
const SHRINK_FROM: f64 = 0.95;
const SHRINK_TO: f64 = 0.9;

/// Counts of rows, as they were lately.
#[derive(Debug, Default)]
pub(super) struct Counts {
    waiting: AtomicU64,
    dead: AtomicU64,
}

impl Counts {
    pub(super) fn usage(&self, bytes: u64) -> Usage {
        Usage { bytes, waiting: self.waiting.load(Ordering::Relaxed), dead: self.dead.load(Ordering::Relaxed) }
    }
}

/// The thread, ended when this is dropped.
pub(super) struct Upkeep {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Upkeep {
    pub(super) fn start(
        shared: &Arc<Shared>,
        counts: &Arc<Counts>,
        options: &Options,
        registered: &HashMap<Arc<str>, Observing>,
    ) -> rusqlite::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let known = options.observers.iter().filter_map(|it| Some((registered.get(&it.name)?.id, it.clone())));
        let mut caretaker = Caretaker {
            db: db::open(&shared.path, false)?,
            shared: Arc::clone(shared),
            counts: Arc::clone(counts),
            retention: millis(options.retention),
            max_size: options.max_size,
            observers: Arc::new(known.collect()),
            checkpointed: (0, Instant::now()),
            walked: [0; KEY],
        };
        caretaker.count()?;
        let thread = thread::Builder::new().name("journal-upkeep".to_owned()).spawn(move || caretaker.run(&stopped));
        // Without the thread a journal only grows, and says so when it is full.
        let thread = thread.inspect_err(|failure| warn!("cannot start a thread: {failure}")).ok();
        Ok(Self { stop: Some(stop), thread })
    }
}

struct Caretaker {
    db: Connection,
    shared: Arc<Shared>,
    counts: Arc<Counts>,
    retention: Millis,
    max_size: u64,
    observers: Arc<Vec<(i64, Observer)>>,
    /// How much had been written at the last checkpoint, and when that was.
    checkpointed: (u64, Instant),
    /// The key up to which old ones have been looked for.
    walked: Key,
}

impl Caretaker {
    fn run(&mut self, stopped: &mpsc::Receiver<()>) {
        let mut round = Instant::now();
        let mut backfilling = true;
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            if self.shared.lock().trouble.is_some() {
                continue;
            }
            let due = round.elapsed() > ROUND;
            if due {
                round = Instant::now();
            }
            let done = self.checkpoint().and_then(|()| {
                if due {
                    self.check_files()?;
                    self.count()?;
                    self.expire()?;
                }
                if self.shared.bytes.load(Ordering::Relaxed) as f64 > self.max_size as f64 * SHRINK_FROM {
                    self.shrink()?;
                }
                while backfilling && !self.is_closed() {
                    backfilling = self.backfill()?;
                }
                Ok(())
            });
            match done {
                Ok(()) | Err(Stop::Journal) => {}
                Err(Stop::Sqlite(failure)) => warn!("upkeep: {}", db::explain(&self.shared.path, &failure)),
            }
        }
        self.shared.leave_alone(&self.db);
    }

    fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Ends a round when the files are not those that were opened; the writer says what is wrong.
    fn check_files(&self) -> Result<(), Stop> {
        self.shared.guard().check(&self.db).map_err(|_| Stop::Journal)
    }

    /// Moves what is durable from the log to its place in the file, without holding up commits.
    fn checkpoint(&mut self) -> Result<(), Stop> {
        let written = self.shared.written.load(Ordering::Relaxed);
        let (before, at) = self.checkpointed;
        if written == before || (written - before < CHECKPOINT_OPERATIONS && at.elapsed() < ROUND) {
            return Ok(());
        }
        // A log that was cut would take what is safe along.
        self.check_files()?;
        let pages: i64 = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        self.checkpointed = (written, Instant::now());
        if pages > LONG_LOG_PAGES {
            // Commits keep adding to the log; only the writer can find it all moved, and begin it anew.
            self.shared.help_checkpoint.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn count(&mut self) -> rusqlite::Result<()> {
        let rows = |table| self.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        self.counts.waiting.store(rows("delivery")?.cast_unsigned(), Ordering::Relaxed);
        self.counts.dead.store(rows("dead")?.cast_unsigned(), Ordering::Relaxed);
        Ok(())
    }

    fn backfill(&self) -> Result<bool, Stop> {
        let (shared, observers) = (Arc::clone(&self.shared), Arc::clone(&self.observers));
        let more = self.write(move |db| observers::backfill(db, &observers, shared.now(), ROWS))?;
        self.shared.arrivals.notify_waiters();
        Ok(more)
    }

    /// Removes what is older than the retention.
    fn expire(&mut self) -> Result<(), Stop> {
        let before = now_millis() - self.retention;
        say::expired(self.write(move |db| db.execute("DELETE FROM dead WHERE died < ?1", [before]))? as u64);
        self.remove_missing(before)?;
        let shared = Arc::clone(&self.shared);
        self.write(move |db| slots::clear(db, shared.now()))?;
        loop {
            let shared = Arc::clone(&self.shared);
            if self.is_closed() || !self.write(move |db| queries::clear(db, shared.now()))? {
                break;
            }
        }
        self.remove_events(db::to_sql(number_at(before)), || false)?;
        self.remove_keys(db::to_sql(number_at(before)))
    }

    /// Removes what is left of observers that have been missing since before a time.
    fn remove_missing(&self, before: Millis) -> Result<(), Stop> {
        while let Some((id, name)) = missing::overdue(&self.db, before)? {
            let (mut removed, mut all) = (Left::default(), false);
            while !all {
                let some = self.write(move |db| missing::remove(db, id, ROWS));
                let (some, end) = some.inspect_err(|_| say::removed(&name, removed))?;
                removed = Left { waiting: removed.waiting + some.waiting, dead: removed.dead + some.dead };
                all = end;
            }
            say::removed(&name, removed);
        }
        Ok(())
    }

    /// Removes the oldest events until the file is small enough again: those that nobody needs, and when there are none
    /// left, those that only observers need that are missing.
    fn shrink(&mut self) -> Result<(), Stop> {
        let small = (self.max_size as f64 * SHRINK_TO) as u64;
        let shared = Arc::clone(&self.shared);
        let enough = || shared.bytes.load(Ordering::Relaxed) <= small;
        let mut last = self.remove_events(i64::MAX, enough)?;
        let mut dropped: HashMap<String, Left> = HashMap::new();
        let mut orphans = self.remove_orphans(&mut dropped, enough);
        while matches!(orphans, Ok(true)) {
            last = self.remove_events(i64::MAX, enough)?.max(last);
            orphans = self.remove_orphans(&mut dropped, enough);
        }
        dropped.iter().for_each(|(name, left)| say::dropped(name, *left));
        orphans?;
        match last {
            Some(last) => self.remove_keys(last),
            None => Ok(()),
        }
    }

    /// Removes the oldest of what is kept for observers that are missing; says whether there was anything.
    fn remove_orphans(&self, dropped: &mut HashMap<String, Left>, enough: impl Fn() -> bool) -> Result<bool, Stop> {
        if enough() || self.is_closed() {
            return Ok(false);
        }
        let orphans = missing::oldest(&self.db, ROWS)?;
        if orphans.is_empty() {
            return Ok(false);
        }
        for (name, left) in self.write(move |db| missing::drop_orphans(db, &orphans))? {
            let all = dropped.entry(name).or_default();
            *all = Left { waiting: all.waiting + left.waiting, dead: all.dead + left.dead };
        }
        Ok(true)
    }

    /// Removes events before a number, but for those that observers need, the oldest first. Says which was the last.
    fn remove_events(&self, before: i64, enough: impl Fn() -> bool) -> Result<Option<i64>, Stop> {
        let (mut after, mut last) = (0, None);
        while !enough() && !self.is_closed() {
            let (gone, end) = self.removable(after, before)?;
            for some in gone.chunks(ROWS).take_while(|_| !enough()) {
                let (some, shared) = (some.to_vec(), Arc::clone(&self.shared));
                last = some.last().copied().or(last);
                self.write(move |db| {
                    let mut delete = db.prepare_cached("DELETE FROM event WHERE seq = ?1")?;
                    some.iter().try_for_each(|seq| delete.execute([seq]).map(drop))?;
                    shared.bytes.store(db::bytes(db)?, Ordering::Relaxed);
                    Ok(())
                })?;
            }
            match end {
                Some(end) => after = end,
                None => break,
            }
        }
        Ok(last)
    }

    /// The next events that nobody needs, and the last one that was looked at. All of it is read at one moment: an event
    /// that comes later is not among them, and what was there had its deliveries.
    fn removable(&self, after: i64, before: i64) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
        let moment = self.db.unchecked_transaction()?;
        let mut query = moment.prepare_cached(
            "SELECT seq FROM delivery WHERE seq < ?1 UNION SELECT seq FROM dead WHERE seq < ?1 LIMIT ?2",
        )?;
        let rows = query.query_map(params![before, PASSED_OVER as i64 + 1], |row| row.get(0))?;
        let needed: HashSet<i64> = rows.collect::<Result<_, _>>()?;
        let least = "SELECT min(seq) FROM (SELECT min(seq) AS seq FROM delivery UNION ALL SELECT min(seq) FROM dead)";
        let first: Option<i64> = moment.query_row(least, [], |row| row.get(0))?;
        let backfill: Option<i64> =
            moment.query_row("SELECT min(backfill) FROM observer WHERE missing_since IS NULL", [], |row| row.get(0))?;
        let before = backfill.map_or(before, |at| before.min(at + 1));
        let before = first.filter(|_| needed.len() > PASSED_OVER).map_or(before, |first| before.min(first));
        let mut next =
            moment.prepare_cached("SELECT seq FROM event WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3")?;
        let rows = next.query_map(params![after, before, LOOKED_AT as i64], |row| row.get::<_, i64>(0))?;
        let found: Vec<i64> = rows.collect::<Result<_, _>>()?;
        let end = found.last().copied();
        Ok((found.into_iter().filter(|seq| !needed.contains(seq)).collect(), end))
    }

    /// Removes the keys of events before a number, unless a platform may still repeat them. Keys are not in the order of
    /// their events, so it walks through all of them, a stretch each time, and goes on while it finds some.
    fn remove_keys(&mut self, before: i64) -> Result<(), Stop> {
        let before = before.min(db::to_sql(number_at(now_millis() - KEYS_KEPT)));
        let mut walked = 0;
        while !self.is_closed() {
            let mut walk =
                self.db.prepare_cached("SELECT key, seq FROM dedupe WHERE key > ?1 ORDER BY key LIMIT ?2")?;
            let rows = walk.query_map(params![&self.walked[..], KEYS as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let keys: Vec<(Key, i64)> = rows.collect::<Result<_, _>>()?;
            drop(walk);
            walked += keys.len();
            let last = keys.last().filter(|_| keys.len() == KEYS).map(|(key, _)| *key);
            let old: Vec<Key> = keys.into_iter().filter(|(_, seq)| *seq < before).map(|(key, _)| key).collect();
            let found = !old.is_empty();
            for some in old.chunks(ROWS) {
                let some = some.to_vec();
                self.write(move |db| {
                    let mut delete = db.prepare_cached("DELETE FROM dedupe WHERE key = ?1 AND seq < ?2")?;
                    some.iter().try_for_each(|key| delete.execute(params![&key[..], before]).map(drop))
                })?;
            }
            self.walked = last.unwrap_or([0; KEY]);
            if last.is_none() || (walked >= STRETCH && !found) {
                break;
            }
        }
        Ok(())
    }

    /// Has the writer do something, and waits for it.
    fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Stop> {
        let (tell, told) = mpsc::channel();
        self.shared.push(Op::Work(Work::new(run, move |done| drop(tell.send(done)))));
        // The writer has said what is wrong.
        told.recv().unwrap_or(Err(JournalError::Closed)).map_err(|_| Stop::Journal)
    }
}

/// Why a round ends early.
enum Stop {
    /// The journal cannot store, or is closed.
    Journal,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(failure: rusqlite::Error) -> Self {
        Self::Sqlite(failure)
    }
}
