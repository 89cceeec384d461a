//! The journal of several nodes: a PostgreSQL database.
//!
//! ```text
//! admit  ──▶ Pending ──▶ one statement for all that wait, a few at a time ──▶ run, known, or wait for a node
//! record ──▶ Pending ──▶ one statement, guarded by the owner of the event ──▶ settles the entries
//! lease, finish ──▶ statements of their own, guarded by the attempt
//! ```
//!
//! Any node may get any delivery. The unique key of `dedupe` decides who runs an event; the heartbeat in `node` shows
//! which nodes are dead, so that another runs what they left. A living node is asked about what it owns (`waiting.rs`): it
//! may not run it. Time is the database's: the clocks of nodes may differ.

mod acknowledged;
mod admissions;
mod archive;
#[cfg(feature = "sqlite")]
pub(super) mod backup;
mod db;
mod inspect;
mod known;
mod leases;
mod maintenance;
mod next_message;
mod node;
mod observers;
mod pool;
mod queries;
mod replies;
mod schema;
mod shared;
mod tls;
mod waiting;

use std::{
    fmt,
    future::ready,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, task::JoinSet};
use uuid::Uuid;

use self::{pool::Pool, shared::Shared};
use super::{
    Admission, Entry, Finished, GiveUp, Ids, Journal, JournalError, LeaseWrite, Leased, Millis, NamedLease, NewEvent,
    Observer, Options, Recipient, ReplyRecord, Room, TakenReply, Task, Undecoded, Usage, WaitingReply,
    core::Failure as _, now_millis,
};
use crate::{clock::Clock, envelope::UsedQuery, platform::Body};

pub use archive::PostgresArchive;
pub(super) use inspect::inspect;

/// Statements with admissions that run side by side: while one is on its way to the disk, others wait for the next.
const WRITERS: usize = 3;

/// A task of the journal.
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The journal in a PostgreSQL database.
pub struct PostgresJournal {
    shared: Arc<Shared>,
    ids: Ids,
    /// Ended when this is dropped.
    tasks: Mutex<JoinSet<()>>,
    clock: Clock,
}

impl fmt::Debug for PostgresJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresJournal").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

impl PostgresJournal {
    /// Starts to connect, and returns at once: the database may be reachable later, and not always.
    ///
    /// # Errors
    /// When the URL cannot be parsed, a file that it names cannot be read, or there is no tokio runtime.
    pub fn open(url: &str, options: &Options) -> Result<Self, JournalError> {
        let handle = Handle::try_current().map_err(JournalError::storage)?;
        let shared = Arc::new(Shared::new(Pool::new(url)?, options));
        let mut tasks = JoinSet::new();
        let (supervisor, retention) = (&options.supervisor, options.retention);
        // What they share survives a panic, and so they can be started again.
        let mut start = |name: &str, run: fn(Arc<Shared>) -> Running| {
            let shared = Arc::clone(&shared);
            tasks.spawn_on(supervisor.keep(name, move || run(Arc::clone(&shared))), &handle);
        };
        start("journal.heartbeat", |shared| Box::pin(node::heartbeat(shared)));
        for _ in 0..WRITERS {
            start("journal.admissions", |shared| Box::pin(admissions::run(shared)));
        }
        start("journal.replies", |shared| Box::pin(replies::run(shared)));
        start("journal.polls", |shared| Box::pin(waiting::poll(shared)));
        start("journal.questions", |shared| Box::pin(waiting::answer(shared)));
        start("journal.queries", |shared| Box::pin(queries::run(shared)));
        let of_maintenance = Arc::clone(&shared);
        let maintain = move || maintenance::run(Arc::clone(&of_maintenance), retention);
        tasks.spawn_on(supervisor.keep("journal.maintenance", maintain), &handle);
        Ok(Self { shared, ids: Ids::after(0), tasks: Mutex::new(tasks), clock: options.clock.clone() })
    }
}

impl Journal for PostgresJournal {
    fn next_id(&self, received: Millis) -> Uuid {
        self.ids.next(received)
    }

    fn admit(&self, event: NewEvent) -> Task<'_, Admission> {
        Box::pin(async move {
            self.shared.started().await;
            self.shared.health()?;
            match self.shared.admit(event) {
                Ok(admission) => Ok(admission),
                Err(response) => response.await.unwrap_or(Err(JournalError::Closed)),
            }
        })
    }

    fn admit_undecoded<'j>(&'j self, Undecoded { key, platform, decode }: Undecoded<'j>) -> Task<'j, Admission> {
        Box::pin(async move {
            self.shared.started().await;
            let health = self.shared.health();
            let is_full = health == Err(JournalError::Full);
            if !is_full {
                health?;
            }
            let joined = match self.shared.join(&key) {
                Some(joined) => joined,
                None if is_full => {
                    let answered = known::answered(&self.shared, &key, platform).await;
                    Ok(answered.map_err(|failure| self.shared.trouble(&failure))?.ok_or(JournalError::Full)?)
                }
                None => self.shared.admit(decode()),
            };
            match joined {
                Ok(admission) => Ok(admission),
                Err(outcome) => outcome.await.unwrap_or(Err(JournalError::Closed)),
            }
        })
    }

    fn store(&self, _entry: &Arc<Entry>) {
        // It is durable when `admit` returns.
    }

    fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord) {
        self.shared.record(entry, reply);
    }

    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>> {
        let wanted = self.shared.wanted();
        let name = wanted.iter().map(|it| &it.name).find(|name| ***name == *observer).cloned();
        let Some(name) = name else { return Box::pin(ready(Ok(Vec::new()))) };
        Box::pin(async move {
            self.ready().await?;
            let observing = self.shared.observers.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
            let Some(observing) = observing else { return Ok(Vec::new()) };
            let leased = db::limited(observers::lease(&self.shared, &name, observing, &room, term)).await;
            leased.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()> {
        Box::pin(async move {
            self.ready().await?;
            let done = db::limited(observers::finish(&self.shared, &finished)).await;
            done.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn register(&self, observers: Vec<Observer>) -> Task<'_, ()> {
        self.shared.want(observers);
        Box::pin(async move {
            self.ready().await?;
            // While the database cannot be reached, the next heartbeat enters them.
            let registered = db::limited(node::register(&self.shared)).await;
            registered.map_err(|failure| self.shared.trouble(&failure))?;
            self.shared.arrivals.notify_waiters();
            Ok(())
        })
    }

    fn arrivals(&self) -> &Notify {
        &self.shared.arrivals
    }

    fn give_up<'j>(&'j self, entry: &'j Arc<Entry>, terms: GiveUp) -> Task<'j, Option<Body>> {
        Box::pin(async move {
            let runs_here = self.shared.lock().runs(entry);
            if runs_here && !terms.sends {
                return Ok(None);
            }
            self.ready().await?;
            let reply = match runs_here {
                false => waiting::give_up(&self.shared, entry, terms.patience).await?,
                true => {
                    let given_up = db::limited(replies::give_up(&self.shared, entry)).await;
                    given_up.map_err(|failure| self.shared.trouble(&failure))?
                }
            };
            if let (None, Some(sender)) = (&reply, &terms.waits) {
                let awaited = db::limited(next_message::await_reply(&self.shared, sender, entry.id)).await;
                awaited.map_err(|failure| self.shared.trouble(&failure))?;
            }
            Ok(reply)
        })
    }

    fn recorded_reply(&self, account: &str, event: Uuid) -> Task<'_, Option<Body>> {
        let account = account.to_owned();
        Box::pin(async move {
            self.ready().await?;
            let found = db::limited(replies::recorded(&self.shared, &account, event)).await;
            found.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn waiting_reply<'j>(&'j self, recipient: &'j Recipient, except: Option<Uuid>) -> Task<'j, WaitingReply> {
        Box::pin(async move {
            self.ready().await?;
            let found = db::limited(next_message::look(&self.shared, recipient, except)).await;
            found.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn take_reply<'j>(&'j self, recipient: &'j Recipient, entry: &'j Entry) -> Task<'j, Option<TakenReply>> {
        Box::pin(async move {
            self.ready().await?;
            let mut taken = db::limited(next_message::take(&self.shared, recipient, entry.id)).await;
            if taken.as_ref().is_err_and(|failure| failure.is_conflict()) {
                taken = db::limited(next_message::take(&self.shared, recipient, entry.id)).await;
            }
            taken.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn use_query(&self, used: &UsedQuery) -> Option<Task<'_, u64>> {
        let used = *used;
        Some(Box::pin(async move {
            self.ready().await?;
            self.shared.queries.add(used).await.unwrap_or(Err(JournalError::Closed))
        }))
    }

    fn read_lease(&self, name: &str) -> Task<'_, Option<String>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.ready().await?;
            let read = db::limited(leases::read(&self.shared, &name)).await;
            read.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn acquire_lease(&self, name: &str, term: Duration) -> Task<'_, Option<NamedLease>> {
        let name: Arc<str> = name.into();
        Box::pin(async move {
            self.ready().await?;
            let held = db::limited(leases::hold(&self.shared, &name, term)).await;
            held.map_err(|failure| self.shared.trouble(&failure))
        })
    }

    fn write_lease(&self, held: &NamedLease, write: LeaseWrite) -> Task<'_, usize> {
        let held = held.clone();
        Box::pin(async move {
            self.ready().await?;
            if !write.events.is_empty() {
                self.shared.health()?;
            }
            let mut written = db::limited(leases::write(&self.shared, &held, &write)).await;
            if written.as_ref().is_err_and(|failure| failure.is_conflict()) {
                written = db::limited(leases::write(&self.shared, &held, &write)).await;
            }
            let admitted = written.map_err(|failure| self.shared.trouble(&failure))?.ok_or(JournalError::Lost)?;
            if admitted > 0 {
                self.shared.arrivals.notify_waiters();
            }
            Ok(admitted)
        })
    }

    fn now(&self) -> Millis {
        now_millis().saturating_add(self.clock.passed())
    }

    fn health(&self) -> Result<(), JournalError> {
        self.shared.health()
    }

    fn usage(&self) -> Usage {
        self.shared.counts.usage()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async move {
            self.shared.flush().await;
            // After the heartbeat has ended, which would mark it as alive.
            let mut tasks = mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            tasks.shutdown().await;
            let left = db::limited(node::leave(&self.shared)).await;
            self.shared.pool.clear();
            left.map_err(|failure| failure.explain())
        })
    }
}

impl PostgresJournal {
    /// Ready when the database answers; a journal that is full still gives what it has.
    async fn ready(&self) -> Result<(), JournalError> {
        self.shared.started().await;
        match self.shared.health() {
            Err(JournalError::Full) => Ok(()),
            health => health,
        }
    }
}
