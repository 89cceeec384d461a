//! Maintenance of the file: a thread that checkpoints, and has the writer remove what is old.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use tracing::warn;

use super::{
    super::{
        JournalError, Millis, Options,
        core::{
            Counts, KEY_RETENTION, MAX_ROWS, Maintain, Old, Outcome, ROUND_INTERVAL, Step, Which, at_once, maintenance,
            steps,
        },
        id::number_at,
        now_millis,
    },
    db::{self, File},
    shared::{Op, Shared, Work},
};
use crate::{
    platform::{KEY, Key},
    supervisor::Watch,
};

/// How often the log is checked.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

/// Operations that are worth a checkpoint, and pages of the log that are too many: then the writer is asked to help.
const CHECKPOINT_OPERATIONS: u64 = 4096;
const LONG_LOG_PAGES: i64 = 8192;

/// Events that are checked in one pass.
const MAX_EVENTS: usize = 5000;

/// Keys that are read at one time, and that are looked at in a round when none is old.
const MAX_KEYS: usize = 4096;
const MAX_KEYS_OF_ROUND: usize = 5 * MAX_KEYS;

/// Old events that are still needed are skipped one by one up to this many; beyond it, nothing later is removed.
const MAX_SKIPPED: usize = 10_000;

/// The thread, ended when this is dropped.
pub(super) struct Maintenance {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Maintenance {
    pub(super) fn start(shared: &Arc<Shared>, options: &Options) -> rusqlite::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut file = Maintained {
            db: db::open(&shared.path, false)?,
            shared: Arc::clone(shared),
            watch: options.supervisor.watch("journal.maintenance"),
            stopped,
            checkpointed: (0, Instant::now()),
            removed: None,
            walked: [0; KEY],
        };
        file.count_rows()?;
        let retention = options.retention;
        let run = Arc::clone(&file.watch).keep(move |pause| {
            if file.waits(pause) {
                at_once(maintenance::run(&mut file, retention, Instant::now() + ROUND_INTERVAL));
            }
            file.shared.leave_alone(&file.db);
        });
        let thread = thread::Builder::new().name("journal-maintenance".to_owned()).spawn(run);
        // Without the thread a journal only grows, and refuses deliveries when it is full.
        let thread = thread.inspect_err(|failure| warn!("cannot start a thread: {failure}")).ok();
        Ok(Self { stop: Some(stop), thread })
    }
}

/// The file, for its maintenance.
struct Maintained {
    db: Connection,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    stopped: mpsc::Receiver<()>,
    /// How much had been written at the last checkpoint, and when that was.
    checkpointed: (u64, Instant),
    /// The last of the events that were removed for being too many.
    removed: Option<i64>,
    /// The key up to which old ones have been looked for.
    walked: Key,
}

impl Maintain for Maintained {
    type Failure = Stop;

    const IS_MEASURED_OFTEN: bool = true;

    fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    async fn pause(&mut self) -> bool {
        self.watch.look();
        self.waits(LOG_INTERVAL)
    }

    async fn look(&mut self) -> Result<bool, Stop> {
        if self.shared.lock().health.has_trouble() {
            return Ok(false);
        }
        self.checkpoint()?;
        Ok(true)
    }

    async fn count(&mut self) -> Result<Millis, Stop> {
        self.check_files()?;
        self.count_rows()?;
        Ok(now_millis())
    }

    async fn run(&mut self, step: Step) -> Result<Outcome, Stop> {
        let backfill = match &step {
            Step::Backfill(observers) => Some(Arc::clone(observers)),
            _ => None,
        };
        let shared = Arc::clone(&self.shared);
        let run = move |db: &Connection| {
            let now = shared.now();
            // These end by the monotonic clock.
            let step = match &step {
                Step::Remove(old @ (Old::Leases | Old::UsedQueries), _) => Step::Remove(*old, now),
                step => step.clone(),
            };
            at_once(steps::run(&mut File { db, now }, step))
        };
        let outcome = self.write(run)?;
        if let Some(done) = backfill {
            let mut wanted = self.shared.wanted();
            // Others may have been registered meanwhile.
            if Arc::ptr_eq(&wanted.0, &done) {
                wanted.1 = outcome.more;
            }
            drop(wanted);
            self.shared.arrivals.notify_waiters();
        }
        Ok(outcome)
    }

    fn backfill(&self) -> Option<Step> {
        let wanted = self.shared.wanted();
        wanted.1.then(|| Step::Backfill(Arc::clone(&wanted.0)))
    }

    async fn remove_events(&mut self, which: Which) -> Result<(), Stop> {
        let before = match which {
            Which::Before(time) => db::to_sql(number_at(time)),
            Which::TooMany => i64::MAX,
        };
        let mut after = 0;
        while !which.is_enough(self.counts()) && !self.is_closed() {
            let (gone, end) = self.removable(after, before)?;
            for some in gone.chunks(MAX_ROWS) {
                if which.is_enough(self.counts()) {
                    break;
                }
                let (some, shared) = (some.to_vec(), Arc::clone(&self.shared));
                self.removed = some.last().copied().filter(|_| which == Which::TooMany).max(self.removed);
                self.write(move |db| {
                    let mut delete = db.prepare_cached("DELETE FROM event WHERE seq = ?1")?;
                    some.iter().try_for_each(|seq| delete.execute([seq]).map(drop))?;
                    shared.counts.shrunk(db::bytes(db)?);
                    Ok(())
                })?;
            }
            let Some(end) = end else { break };
            after = end;
        }
        Ok(())
    }

    /// Keys are not in the order of their events, so this walks through all of them, a stretch each time, and goes on while
    /// it finds some.
    async fn remove_keys(&mut self, which: Which) -> Result<(), Stop> {
        let before = match which {
            Which::Before(time) => db::to_sql(number_at(time)),
            Which::TooMany => match self.removed.take() {
                Some(last) => last.min(db::to_sql(number_at(now_millis() - KEY_RETENTION))),
                None => return Ok(()),
            },
        };
        let mut walked = 0;
        while !self.is_closed() {
            let mut walk =
                self.db.prepare_cached("SELECT key, seq FROM dedupe WHERE key > ?1 ORDER BY key LIMIT ?2")?;
            let rows =
                walk.query_map(params![&self.walked[..], MAX_KEYS as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let keys: Vec<(Key, i64)> = rows.collect::<Result<_, _>>()?;
            drop(walk);
            walked += keys.len();
            let last = keys.last().filter(|_| keys.len() == MAX_KEYS).map(|(key, _)| *key);
            let old: Vec<Key> = keys.into_iter().filter(|(_, seq)| *seq < before).map(|(key, _)| key).collect();
            let found = !old.is_empty();
            for some in old.chunks(MAX_ROWS) {
                let some = some.to_vec();
                self.write(move |db| {
                    let mut delete = db.prepare_cached("DELETE FROM dedupe WHERE key = ?1 AND seq < ?2")?;
                    some.iter().try_for_each(|key| delete.execute(params![&key[..], before]).map(drop))
                })?;
            }
            self.walked = last.unwrap_or([0; KEY]);
            if last.is_none() || (walked >= MAX_KEYS_OF_ROUND && !found) {
                break;
            }
        }
        Ok(())
    }

    fn explain(&self, failure: Stop) -> Option<JournalError> {
        match failure {
            Stop::Journal => None,
            Stop::Sqlite(failure) => Some(db::explain(&self.shared.path, &failure)),
        }
    }
}

impl Maintained {
    /// Waits; returns whether to go on.
    fn waits(&self, pause: Duration) -> bool {
        self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
    }

    fn is_closed(&self) -> bool {
        self.shared.lock().health.is_closed()
    }

    /// Ends a round when the files are not those that were opened; the writer logs what is wrong.
    fn check_files(&self) -> Result<(), Stop> {
        self.shared.guard().check(&self.db).map_err(|_| Stop::Journal)
    }

    /// Moves what is durable from the log to its place in the file, without blocking commits.
    fn checkpoint(&mut self) -> Result<(), Stop> {
        let written = self.shared.written.load(Ordering::Relaxed);
        let (before, at) = self.checkpointed;
        if written == before || (written - before < CHECKPOINT_OPERATIONS && at.elapsed() < ROUND_INTERVAL) {
            return Ok(());
        }
        // A truncated log would destroy what is safe.
        self.check_files()?;
        let pages: i64 = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        self.checkpointed = (written, Instant::now());
        if pages > LONG_LOG_PAGES {
            // Commits keep adding to the log; only the writer can find it all moved, and restart it.
            self.shared.help_checkpoint.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn count_rows(&self) -> rusqlite::Result<()> {
        let rows = |table| self.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        self.shared.counts.counted(rows("delivery")?, rows("dead")?);
        let missing = at_once(steps::missing(&mut File { db: &self.db, now: now_millis() }))?;
        self.shared.counts.absent(&missing);
        Ok(())
    }

    /// The next events that are not needed, and the last one that was checked. All of it is read at one moment: an event
    /// that comes later is not among them, and what was there had its deliveries.
    fn removable(&self, after: i64, before: i64) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
        let moment = self.db.unchecked_transaction()?;
        let mut query = moment.prepare_cached(
            "SELECT seq FROM delivery WHERE seq < ?1 UNION SELECT seq FROM dead WHERE seq < ?1 LIMIT ?2",
        )?;
        let rows = query.query_map(params![before, MAX_SKIPPED as i64 + 1], |row| row.get(0))?;
        let needed: HashSet<i64> = rows.collect::<Result<_, _>>()?;
        let least = "SELECT min(seq) FROM (SELECT min(seq) AS seq FROM delivery UNION ALL SELECT min(seq) FROM dead)";
        let first: Option<i64> = moment.query_row(least, [], |row| row.get(0))?;
        let backfill: Option<i64> =
            moment.query_row("SELECT min(backfill) FROM observer WHERE missing_since IS NULL", [], |row| row.get(0))?;
        let before = backfill.map_or(before, |at| before.min(at + 1));
        let before = first.filter(|_| needed.len() > MAX_SKIPPED).map_or(before, |first| before.min(first));
        let mut next =
            moment.prepare_cached("SELECT seq FROM event WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3")?;
        let rows = next.query_map(params![after, before, MAX_EVENTS as i64], |row| row.get::<_, i64>(0))?;
        let found: Vec<i64> = rows.collect::<Result<_, _>>()?;
        let end = found.last().copied();
        Ok((found.into_iter().filter(|seq| !needed.contains(seq)).collect(), end))
    }

    /// Runs an operation on the writer, and waits for it.
    fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Stop> {
        let (respond, response) = mpsc::channel();
        self.shared.push(Op::Work(Work::new(run, move |done| drop(respond.send(done)))));
        // The writer has logged what is wrong.
        response.recv().unwrap_or(Err(JournalError::Closed)).map_err(|_| Stop::Journal)
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
