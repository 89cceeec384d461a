//! The journal of one node: a SQLite file.
//!
//! ```text
//! admit, record ──▶ Pending (index + operations) ──▶ Writer: one thread, one commit for the batch
//! lease, finish ──▶        │                              │ settles the entries
//!                          └─ key known? only here        ▼
//! archive, repeats ──▶ Reader ◀────────────────────── the file ◀── Maintenance: checkpoints, retention, backfill
//! ```
//!
//! A process that serves holds locks on the file and beside it, so that what its index says of a key holds (`lock.rs`), and
//! looks after the files while it runs (`guard.rs`).

mod archive;
pub(super) mod backup;
mod check;
mod db;
mod events;
#[cfg(feature = "postgres")]
pub(super) mod exchange;
mod guard;
mod index;
mod inspect;
mod joining;
mod leases;
mod lock;
mod maintenance;
mod observers;
mod queries;
mod schema;
mod shared;
mod waiting;
mod writer;

use std::{
    fmt, fs,
    future::ready,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::{
    sync::{Notify, oneshot},
    task,
};
use uuid::Uuid;

use self::{
    guard::FileGuard,
    index::Index,
    joining::{Arriving, Found, Step},
    lock::ServerLock,
    maintenance::Maintenance,
    shared::{Op, Shared, Work},
    writer::Writer,
};
use super::{
    Admission, Entry, Finished, GiveUp, Ids, Journal, JournalError, LeaseWrite, Leased, Millis, NamedLease, NewEvent,
    Observer, Options, Recipient, ReplyRecord, Room, State, TakenReply, Task, Undecoded, Usage, WaitingReply,
    core::{Row as _, row},
    id::number,
    millis, now_millis,
};
use crate::{
    envelope::UsedQuery,
    event::Platform,
    platform::{Body, DedupeKey, Order},
};

pub use archive::SqliteArchive;
pub(super) use check::check;
pub(super) use inspect::inspect;
#[cfg(feature = "postgres")]
pub(super) use {db::explain, queries::split as split_queries};

/// Keys of a kind that are held in memory, about 64 bytes each.
const MAX_INDEXED: usize = 1 << 17;

/// The journal in a SQLite file.
pub struct SqliteJournal {
    shared: Arc<Shared>,
    ids: Ids,
    retention: Millis,
    reader: Arc<Mutex<Connection>>,
    /// Of the process before.
    used_queries: Mutex<Vec<UsedQuery>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    maintenance: Mutex<Option<Maintenance>>,
    /// Dropped after the connections.
    _lock: Arc<ServerLock>,
}

impl fmt::Debug for SqliteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteJournal").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl SqliteJournal {
    /// Opens the file, creates it if it is not there, and migrates it.
    ///
    /// # Errors
    /// When it cannot be opened or written to, is not a journal, or another process uses it.
    pub fn open(path: &Path, options: &Options) -> Result<Self, JournalError> {
        create_folder(path)?;
        let path = &lock::resolve(path);
        let lock = Arc::new(ServerLock::take(path)?);
        let explain = |failure| db::explain(path, &failure);
        let mut connection = match db::open(path, true) {
            // A disk where the two kinds of locks meet.
            Err(failure) if db::is_busy(&failure) && lock.release_database() => db::open(path, true),
            opened => opened,
        }
        .map_err(explain)?;
        lock.complete()?;
        schema::migrate(&mut connection).map_err(|failure| schema::explain(path, failure))?;
        leases::free(&connection).map_err(explain)?;
        let (index, latest) = load(&connection).map_err(explain)?;
        let guard = FileGuard::of(path, &connection).map_err(explain)?;
        let shared = Arc::new(Shared::new(path.to_owned(), index, guard, options));
        let used_queries = queries::load(&connection, shared.now()).map_err(explain)?;
        let registered = observers::open(&mut connection, &options.observers, latest, shared.now()).map_err(explain)?;
        shared.registered(&registered);
        observers::report(&connection, millis(options.retention)).map_err(explain)?;
        let reader = Arc::new(Mutex::new(db::open_reader(path).map_err(explain)?));
        let writer = Writer::new(Arc::clone(&shared), connection, Arc::clone(&lock));
        let maintenance = Maintenance::start(&shared, options).map_err(explain)?;
        let abandoned = Arc::clone(&shared);
        let run =
            options.supervisor.need_thread("journal.writer", |watch| writer.run(watch), move || abandoned.abandon());
        let spawned = thread::Builder::new().name("journal".to_owned()).spawn(run);
        let writer = spawned.map_err(|failure| JournalError::storage(format!("cannot start a thread: {failure}")))?;
        Ok(Self {
            shared,
            ids: Ids::after(latest),
            retention: millis(options.retention),
            reader,
            used_queries: Mutex::new(used_queries),
            writer: Mutex::new(Some(writer)),
            maintenance: Mutex::new(Some(maintenance)),
            _lock: lock,
        })
    }

    /// Runs an operation on the writer, in one transaction with the rest of the batch.
    fn work<T: Send + 'static>(
        &self,
        run: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Task<'static, T> {
        let (respond, response) = oneshot::channel();
        self.shared.push(Op::Work(Work::new(run, move |done| drop(respond.send(done)))));
        Box::pin(async move { response.await.unwrap_or(Err(JournalError::Closed)) })
    }

    /// Admits a delivery, at once if memory is enough to decide.
    fn enter<'j>(&'j self, mut arriving: Arriving<'j>) -> Task<'j, Admission> {
        match joining::step(&self.shared, &mut arriving) {
            Step::Admitted(admission) => Box::pin(ready(Ok(admission))),
            Step::Refused(trouble) => Box::pin(ready(Err(trouble))),
            step => Box::pin(self.enter_later(step, arriving)),
        }
    }

    async fn enter_later(&self, mut step: Step, mut arriving: Arriving<'_>) -> Result<Admission, JournalError> {
        loop {
            step = match step {
                Step::Admitted(admission) => return Ok(admission),
                Step::Refused(trouble) => return Err(trouble),
                Step::Wait(outcome) => match outcome.await {
                    Ok(admitted) => return admitted,
                    Err(_) => joining::step(&self.shared, &mut arriving),
                },
                Step::AskFile(asking) => {
                    let found = match self.ask_file(arriving.key, arriving.platform).await {
                        Ok(found) => self.usable(found, arriving.refused.as_ref()).await,
                        failed => failed,
                    };
                    return match found {
                        Ok(Some(found)) => Ok(asking.found(found)),
                        Ok(None) => {
                            arriving.into_event().map(|event| asking.new_event(event)).ok_or(JournalError::Closed)
                        }
                        Err(failure) => {
                            asking.failed(&failure);
                            Err(failure)
                        }
                    };
                }
            }
        }
    }

    /// A journal that takes nothing new still answers what it has answered: that takes no room. What is in its files counts
    /// only while they are those that were opened.
    async fn usable(
        &self,
        found: Option<Found>,
        refused: Option<&JournalError>,
    ) -> Result<Option<Found>, JournalError> {
        let Some(trouble) = refused else { return Ok(found) };
        let found = found.filter(|found| found.reply.is_some() || *trouble == JournalError::Full);
        let found = found.ok_or_else(|| trouble.clone())?;
        let (reader, path, shared) = (Arc::clone(&self.reader), self.shared.path.clone(), Arc::clone(&self.shared));
        read(reader, path, move |db| shared.guard().check_committed(db)).await?;
        Ok(Some(found))
    }

    async fn ask_file(&self, key: DedupeKey, platform: Platform) -> Result<Option<Found>, JournalError> {
        let (reader, path, now) = (Arc::clone(&self.reader), self.shared.path.clone(), self.shared.now());
        read(reader, path, move |db| find(db, &key, platform, now)).await
    }
}

/// Looks a key up in the file.
fn find(db: &Connection, key: &DedupeKey, platform: Platform, now: i64) -> rusqlite::Result<Option<Found>> {
    let mut query = db.prepare_cached(
        "SELECT event.id, deliveries, state, reply FROM dedupe LEFT JOIN event USING (seq)
         WHERE key = ?1 AND (until IS NULL OR until > ?2)",
    )?;
    let found = query.query_row(params![&key.bytes[..], now], |row| {
        if row.number(1)?.is_none() {
            // Its event is no longer kept: all that is known is that it was answered.
            let reply = row::answer(State::Answered, None, platform);
            return Ok(Found { id: Uuid::nil(), deliveries: 1, reply });
        }
        let id = row.id(0)?;
        let reply = row::answer(row::state(id, row.integer(2)?)?, row.text(3)?, platform);
        Ok(Found { id, deliveries: row.count(1)?, reply })
    });
    found.optional()
}

impl Journal for SqliteJournal {
    fn next_id(&self, received: Millis) -> Uuid {
        self.ids.next(received)
    }

    fn admit(&self, event: NewEvent) -> Task<'_, Admission> {
        if let Err(trouble) = self.health() {
            return Box::pin(ready(Err(trouble)));
        }
        match event.key {
            Some(key) => self.enter(Arriving::decoded(key, event)),
            None => Box::pin(ready(Ok(Admission::Run(self.shared.lock().enter(event))))),
        }
    }

    fn admit_undecoded<'j>(&'j self, Undecoded { key, platform, decode }: Undecoded<'j>) -> Task<'j, Admission> {
        match self.health() {
            Err(JournalError::Closed) => Box::pin(ready(Err(JournalError::Closed))),
            health => self.enter(Arriving::undecoded(key, platform, decode, health.err())),
        }
    }

    fn store(&self, _entry: &Arc<Entry>) {
        self.shared.want(self.shared.lock());
    }

    fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord) {
        self.shared.record(entry, reply);
    }

    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>> {
        let registered = self.shared.observers();
        let Some((name, observing)) = registered.get_key_value(observer) else {
            return Box::pin(ready(Ok(Vec::new())));
        };
        let (name, observing, shared) = (Arc::clone(name), *observing, Arc::clone(&self.shared));
        self.work(move |db| observers::lease(db, &shared, &name, observing, &room, term))
    }

    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()> {
        let (shared, observers) = (Arc::clone(&self.shared), self.shared.observers());
        self.work(move |db| {
            finished.iter().try_for_each(|one| match observers.get(&one.lease.observer) {
                Some(observing) => observers::finish(db, &shared, observing.id, one),
                None => Ok(()),
            })
        })
    }

    fn register(&self, observers: Vec<Observer>) -> Task<'_, ()> {
        let (latest, registering) = (number(self.ids.next(now_millis())), observers.clone());
        let (retention, shared, before) = (self.retention, Arc::clone(&self.shared), self.shared.observers());
        let registered = self.work(move |db| {
            // The next event is offered as it says here: in order, or not.
            shared.registered(&observers::register(db, &registering, latest)?);
            observers::report(db, retention)
        });
        Box::pin(async move {
            if let Err(failure) = registered.await {
                self.shared.registered(&before);
                return Err(failure);
            }
            *self.shared.wanted() = (observers.into(), true);
            self.shared.arrivals.notify_waiters();
            Ok(())
        })
    }

    fn arrivals(&self) -> &Notify {
        &self.shared.arrivals
    }

    fn give_up<'j>(&'j self, entry: &'j Arc<Entry>, terms: GiveUp) -> Task<'j, Option<Body>> {
        let sender = terms.waits.and_then(|sender| Some((self.shared.observing(&sender.observer)?.id, sender)));
        let Some((observer, sender)) = sender else { return Box::pin(ready(Ok(None))) };
        let (id, shared) = (entry.id, Arc::clone(&self.shared));
        let marked = self.work(move |db| waiting::await_reply(db, observer, &sender, id, shared.now()));
        Box::pin(async move { marked.await.map(|()| None) })
    }

    fn recorded_reply(&self, account: &str, event: Uuid) -> Task<'_, Option<Body>> {
        let (reader, path, account) = (Arc::clone(&self.reader), self.shared.path.clone(), account.to_owned());
        Box::pin(read(reader, path, move |db| events::reply(db, &account, event)))
    }

    fn waiting_reply<'j>(&'j self, recipient: &'j Recipient, except: Option<Uuid>) -> Task<'j, WaitingReply> {
        let Some(observer) = self.shared.observing(&recipient.observer).map(|observing| observing.id) else {
            return Box::pin(ready(Ok(WaitingReply::Nothing)));
        };
        let (recipient, shared) = (recipient.clone(), Arc::clone(&self.shared));
        let (reader, path) = (Arc::clone(&self.reader), self.shared.path.clone());
        Box::pin(read(reader, path, move |db| waiting::look(db, &shared, observer, &recipient, except)))
    }

    fn take_reply<'j>(&'j self, recipient: &'j Recipient, entry: &'j Entry) -> Task<'j, Option<TakenReply>> {
        let Some(observer) = self.shared.observing(&recipient.observer).map(|observing| observing.id) else {
            return Box::pin(ready(Ok(None)));
        };
        let (recipient, shared, id) = (recipient.clone(), Arc::clone(&self.shared), entry.id);
        self.work(move |db| waiting::take(db, observer, &recipient, id, shared.now()))
    }

    fn use_query(&self, used: &UsedQuery) -> Option<Task<'_, u64>> {
        let trouble = self.shared.use_query(used).err()?;
        Some(Box::pin(ready(Err(trouble))))
    }

    fn used_queries(&self) -> Vec<UsedQuery> {
        mem::take(&mut self.used_queries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_lease(&self, name: &str) -> Task<'_, Option<String>> {
        let (reader, path, now, name) =
            (Arc::clone(&self.reader), self.shared.path.clone(), self.shared.now(), name.to_owned());
        Box::pin(read(reader, path, move |db| leases::read(db, &name, now)))
    }

    fn acquire_lease(&self, name: &str, term: Duration) -> Task<'_, Option<NamedLease>> {
        let (name, shared): (Arc<str>, _) = (name.into(), Arc::clone(&self.shared));
        self.work(move |db| leases::hold(db, &name, shared.now(), term))
    }

    fn write_lease(&self, held: &NamedLease, write: LeaseWrite) -> Task<'_, usize> {
        if !write.events.is_empty()
            && let Err(trouble) = self.health()
        {
            return Box::pin(ready(Err(trouble)));
        }
        let (held, shared, observers) = (held.clone(), Arc::clone(&self.shared), self.shared.observers());
        let written = self.work(move |db| leases::write(db, &observers, &held, &write, shared.now()));
        Box::pin(async move {
            let admitted = written.await?.ok_or(JournalError::Lost)?;
            if admitted > 0 {
                self.shared.arrivals.notify_waiters();
            }
            Ok(admitted)
        })
    }

    fn now(&self) -> Millis {
        self.shared.now()
    }

    fn health(&self) -> Result<(), JournalError> {
        self.shared.lock().health.check()?;
        self.shared.counts.check()
    }

    fn usage(&self) -> Usage {
        self.shared.counts.usage()
    }

    fn close(&self) -> Task<'_, ()> {
        let end = self.end();
        Box::pin(async move {
            match task::spawn_blocking(end).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(JournalError::storage("the writer of the journal panicked")),
            }
        })
    }
}

impl SqliteJournal {
    /// Ends the threads, which have the file open; what is returned waits for that.
    fn end(&self) -> impl FnOnce() -> thread::Result<()> + Send + use<> {
        let maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.close();
        move || {
            drop(maintenance);
            writer.map_or(Ok(()), JoinHandle::join)
        }
    }
}

impl Drop for SqliteJournal {
    /// The file is free for the next server when this returns.
    fn drop(&mut self) {
        let _ = self.end()();
        self.shared.leave_alone(&self.reader.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Creates the directory of a file.
fn create_folder(path: &Path) -> Result<(), JournalError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|failure| {
        JournalError::storage(format!("cannot create the directory {}: {failure}", folder.display()))
    })
}

/// Runs a query where it does not block other tasks.
async fn read<T: Send + 'static>(
    reader: Arc<Mutex<Connection>>,
    path: PathBuf,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, JournalError> {
    let run = move || query(&reader.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|e| db::explain(&path, &e));
    task::spawn_blocking(run).await.unwrap_or(Err(JournalError::Closed))
}

/// The latest keys, and the number of the latest event.
fn load(db: &Connection) -> rusqlite::Result<(Index, u64)> {
    let latest: Option<i64> = db.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    let mut index = Index::new(MAX_INDEXED);
    let mut query =
        db.prepare("SELECT key, until FROM dedupe WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT ?3")?;
    for order in [Order::None, Order::Time, Order::MessageId] {
        let (from, to) = ([order as u8], [order as u8 + 1]);
        // One more than there is room for, so that the index notices what it does not hold.
        let mut rows = query.query(params![&from[..], &to[..], MAX_INDEXED as i64 + 1])?;
        while let Some(row) = rows.next()? {
            index.remember(row.get(0)?, row.get(1)?);
        }
    }
    Ok((index, latest.unwrap_or_default().cast_unsigned()))
}
