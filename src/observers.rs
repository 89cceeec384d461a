//! Gives events to observers: leases them from the journal, runs the observer, reports the outcome to the journal.
//!
//! One task per observer leases as much as it has room for; each event runs in a task of its own; one task ends the
//! leases, many at a time. A lease that nobody ends expires, and its event is leased again, by this process or another.
//!
//! There is room by account, so that one whose events take long, or whose API is paused or hangs, does not block the others.
//!
//! An observer is a handler, or a background [job](Job) of the server: what must be done for an event, once it is in the
//! journal, whatever happens to the process.

mod gate;
mod permits;
mod subscribers;

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

pub(crate) use self::permits::Permit;
use self::permits::Permits;
pub(crate) use self::{
    gate::{Gate, Width},
    subscribers::{Candidate, Forwarded, Subscribers},
};

use crate::{
    config::Observers as Settings,
    dispatch::{Attempt, Dispatcher, NotStarted, Source},
    event::{self, Answer},
    hooks::{Hooks, ObserveError, Observed, Observer, Retry},
    journal::{self, EventRecord, Finish, Finished, Journal, JournalError, Lease, Leased},
    log::seconds,
    metrics::{Metrics, ObserverMetrics},
    panics::{Caught, Panicked, catch},
    supervisor::Supervisor,
    telemetry,
};

/// How often what needs the API of an account without `secret` is looked at.
const SECRET_INTERVAL: Duration = Duration::from_secs(15);

/// A lease outlasts the longest attempt by this, so that its outcome is reported in time.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// How long nothing is taken of an account whose events only another process can handle: longer than the others take to look.
const NOT_HERE_INTERVAL: Duration = Duration::from_millis(1500);

/// How often an observer polls when nothing is announced: for pauses that are over, replays, other nodes.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How many events are leased, and how many leases are ended, at one time.
const MAX_BATCH: usize = 256;

/// What an observer does.
#[derive(Clone)]
pub(crate) struct Job {
    /// The observer.
    pub name: Arc<str>,
    /// How long an attempt may take; `[observers] timeout` without.
    pub timeout: Option<Duration>,
    /// Whose events `[observers] concurrency` counts.
    pub scope: Scope,
    /// What else limits how many events it is given at one time.
    pub(crate) gate: Option<Arc<Gate>>,
    /// What is done with an event, until then.
    pub run: Run,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whose events `[observers] concurrency` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that the observer is given, of so many accounts: one of several has half of it at most.
    All {
        /// Accounts whose events it may be given.
        accounts: usize,
    },
    /// Those of each account.
    Account,
}

/// What is done with an event, until then; the permit is held as long as room is needed for it.
pub(crate) type Run = Arc<dyn Fn(Leased, Instant, Permit) -> Running + Send + Sync>;

/// It is being done.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// Retry after a pause.
    #[error("{0}")]
    Retry(String),
    /// Retry after this long.
    #[error("{1}")]
    RetryAfter(Duration, String),
    /// Retrying would not help: a dead letter.
    #[error("{0}")]
    Permanent(String),
    /// It cannot be done yet. Nothing has failed: the attempt does not count.
    #[error("not yet: {reason}")]
    NotYet {
        /// When to try again.
        after: Duration,
        /// Whether nothing of its account can be done until then.
        of_account: bool,
        /// Why not.
        reason: String,
    },
    /// Only another process can do it, and may at once. Nothing has failed: the attempt does not count.
    #[error("not here: {0}")]
    NotHere(&'static str),
    /// The late reply of the event is not given any more.
    #[error("dropped: {0}")]
    Dropped(String),
    /// Its account has no `secret`, which one that is needed has lost: what is pending of it is kept until it has one.
    #[error("the account has no `secret`")]
    NoSecret,
}

impl Failed {
    fn of(ObserveError { retry, error }: ObserveError) -> Self {
        match retry {
            Retry::Usual => Self::Retry(error),
            Retry::After(after) => Self::RetryAfter(after, error),
            Retry::Never => Self::Permanent(error),
        }
    }
}

/// The handlers that observe, as the journal knows them.
pub(crate) fn of_hooks(hooks: &Arc<Hooks>) -> Vec<journal::Observer> {
    let known = hooks.each_observer().map(|(account, observer)| {
        let (account, wanting) = (account.map(str::to_owned), observer.clone());
        journal::Observer {
            name: Arc::clone(&observer.how.name),
            in_order: observer.how.in_order,
            from_beginning: observer.how.from_beginning,
            wants: Arc::new(move |of, event_type| {
                account.as_deref().is_none_or(|account| account == of)
                    && wanting.wants(event_type, event::by_id(event_type))
            }),
            unanswered: None,
        }
    });
    known.collect()
}

/// The jobs of handlers that observe.
pub(crate) fn jobs_of_hooks(dispatcher: &Dispatcher, accounts: usize) -> Vec<Job> {
    let jobs = dispatcher.hooks.each_observer().map(|(account, observer)| {
        let (handler, dispatcher) = (observer.clone(), dispatcher.clone());
        let run: Run = Arc::new(move |leased, deadline, permit| {
            let (handler, dispatcher) = (handler.clone(), dispatcher.clone());
            Box::pin(async move {
                let _permit = permit;
                observe(&dispatcher, &handler, &leased, deadline).await.map_err(Failed::of)
            })
        });
        let scope = Scope::All { accounts: if account.is_some() { 1 } else { accounts } };
        Job { name: Arc::clone(&observer.how.name), timeout: None, scope, gate: None, run }
    });
    jobs.collect()
}

/// Observers that run.
#[derive(Debug)]
pub(crate) struct Observers {
    /// No more events are leased.
    stop: CancellationToken,
    /// Handlers that run are cancelled.
    cancelled: CancellationToken,
    tasks: TaskTracker,
}

/// What the tasks of an observer share.
struct Work {
    job: Job,
    /// How long an attempt may take.
    timeout: Duration,
    journal: Arc<dyn Journal>,
    settings: Settings,
    metrics: ObserverMetrics,
    ends: mpsc::Sender<Finished>,
    cancelled: CancellationToken,
}

impl Observers {
    /// Starts to give events to the observers.
    pub(crate) fn start(
        jobs: Vec<Job>,
        journal: &Arc<dyn Journal>,
        settings: &Settings,
        metrics: &Metrics,
        supervisor: &Supervisor,
    ) -> Self {
        let (stop, cancelled, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let (ends, ended) = mpsc::channel(MAX_BATCH);
        for job in jobs {
            let settings = settings.of(&job.name);
            let work = Arc::new(Work {
                timeout: job.timeout.unwrap_or(settings.timeout),
                metrics: metrics.observer(&job.name),
                job,
                journal: Arc::clone(journal),
                settings,
                ends: ends.clone(),
                cancelled: cancelled.clone(),
            });
            let (stop, cancelled, running) = (stop.clone(), cancelled.clone(), tasks.clone());
            let permits = Arc::new(Permits::new(work.settings.concurrency, work.job.scope, work.job.gate.clone()));
            let name = format!("observer {}", work.job.name);
            let leasing = supervisor
                .keep(&name, move || lease(Arc::clone(&work), Arc::clone(&permits), running.clone(), stop.clone()));
            tasks.spawn(async move {
                cancelled.run_until_cancelled(leasing).await;
            });
        }
        let finisher = Arc::new(AsyncMutex::new(Finisher { journal: Arc::clone(journal), ended, taken: Vec::new() }));
        let finishing = move || {
            let finisher = Arc::clone(&finisher);
            async move { finisher.lock().await.run().await }
        };
        tasks.spawn(supervisor.keep("observers.finish", finishing));
        tasks.close();
        Self { stop, cancelled, tasks }
    }

    /// Leases no more events.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until no handler runs and every lease is ended.
    pub(crate) async fn drain(&self) {
        self.stop();
        self.tasks.wait().await;
    }

    /// Cancels the handlers that still run; their events are given again, and the attempt does not count.
    pub(crate) async fn cancel(&self) {
        self.cancelled.cancel();
        self.drain().await;
    }
}

/// Leases events and starts their handlers, until it is stopped. What is being leased by then is handled: nobody else would have it
/// before the lease expires.
async fn lease(work: Arc<Work>, permits: Arc<Permits>, tasks: TaskTracker, stop: CancellationToken) {
    let name = Arc::clone(&work.job.name);
    let term = work.timeout + LEASE_MARGIN;
    while !stop.is_cancelled() {
        let Some((mut room, is_limited)) = permits.room(Instant::now()) else {
            let _ = stop.run_until_cancelled(permits.has_room()).await;
            continue;
        };
        room.limit = room.limit.min(MAX_BATCH);
        let arrivals = work.journal.arrivals().notified();
        match work.journal.lease_within(&name, room, term).await {
            Ok(leased) if leased.is_empty() => {
                // What waits may be of an account that had no room.
                let freed = async {
                    match is_limited {
                        true => permits.freed().await,
                        false => std::future::pending().await,
                    }
                };
                let (arrivals, freed) = (pin!(arrivals), pin!(freed));
                let waiting = time::timeout(POLL_INTERVAL, futures_util::future::select(arrivals, freed));
                let _ = stop.run_until_cancelled(waiting).await;
            }
            Ok(leased) => {
                for leased in leased {
                    let permit = permits.take(&leased.lease.account);
                    tasks.spawn(attempt(Arc::clone(&work), Arc::clone(&permits), leased, permit));
                }
            }
            // The journal logs what is wrong.
            Err(_) => drop(stop.run_until_cancelled(time::sleep(POLL_INTERVAL)).await),
        }
    }
}

/// Gives an event to an observer, and reports the outcome.
async fn attempt(work: Arc<Work>, permits: Arc<Permits>, leased: Leased, permit: Permit) {
    let lease = leased.lease.clone();
    let name = &*work.job.name;
    let (limit, started) = (work.timeout, Instant::now());
    let record = telemetry::traces(lease.id).then(|| leased.record.clone());
    let too_often = (lease.attempt > work.settings.max_attempts).then_some("the process ended during the last attempt");
    let running = match too_often {
        None => catch(|| (work.job.run)(leased, Instant::now() + limit, permit)).unwrap_or_else(panicked),
        Some(why) => Box::pin(async move { Err(Failed::Permanent(why.to_owned())) }),
    };
    // Its room is free for others while the outcome is reported.
    let failed = match work.cancelled.run_until_cancelled(time::timeout(limit, Caught::new(running))).await {
        None => return work.end(lease, Finish::Released).await,
        Some(Ok(Ok(Ok(())))) => {
            work.trace(record, &lease, started, None);
            work.metrics.done.increment(1);
            return work.end(lease, Finish::Done).await;
        }
        Some(Ok(Ok(Err(failed)))) => failed,
        Some(Ok(Err(panicked))) => Failed::Retry(format!("the handler {panicked}")),
        Some(Err(_elapsed)) => Failed::Retry(format!("the handler took longer than {}", seconds(limit))),
    };
    work.trace(record, &lease, started, Some(&failed));
    let (event, attempt) = (lease.id, lease.attempt);
    let error = match failed {
        Failed::NoSecret => {
            let account = &lease.account;
            if permits.rest(account, Instant::now() + SECRET_INTERVAL) {
                warn!(
                    observer = name,
                    account = &**account,
                    "{account}: the pending events of observer {name} are kept, \
                    for they need the API and the account has no `secret`; set it again, and they go on"
                );
            }
            return work.end(lease, Finish::Postponed { after: SECRET_INTERVAL }).await;
        }
        Failed::Dropped(reason) => {
            work.metrics.dropped.increment(1);
            let account = &*lease.account;
            warn!(observer = name, account, %event, "{account}: {event}: {reason}");
            return work.end(lease, Finish::Dropped { reason }).await;
        }
        Failed::NotHere(reason) => {
            // Two processes that both came back when it is due could keep step, and the wrong one be the first each time.
            permits.rest(&lease.account, Instant::now() + NOT_HERE_INTERVAL);
            debug!(observer = name, %event, "observer {name} leaves {event} to others: {reason}");
            return work.end(lease, Finish::Postponed { after: Duration::ZERO }).await;
        }
        Failed::NotYet { after, of_account, reason } => {
            if of_account {
                permits.rest(&lease.account, Instant::now() + after);
            }
            let pause = seconds(after);
            debug!(observer = name, %event, "observer {name} deferred {event} for {pause}: {reason}");
            return work.end(lease, Finish::Postponed { after }).await;
        }
        Failed::Retry(error) if attempt < work.settings.max_attempts => {
            let after = pause(&work.settings, attempt);
            return work.retry(lease, after, error).await;
        }
        Failed::RetryAfter(after, error) if attempt < work.settings.max_attempts => {
            return work.retry(lease, after, error).await;
        }
        Failed::Retry(error) | Failed::RetryAfter(_, error) | Failed::Permanent(error) => error,
    };
    work.metrics.dead.increment(1);
    error!(observer = name, %event, attempt, "observer {name} permanently failed on {event}, now a dead letter: {error}");
    work.end(lease, Finish::Dead { error }).await;
}

/// A job that panicked when it was called.
fn panicked(panicked: Panicked) -> Running {
    Box::pin(async move { Err(Failed::Retry(format!("the handler {panicked}"))) })
}

impl Work {
    /// Records that an attempt has ended.
    fn trace(&self, record: Option<EventRecord>, lease: &Lease, started: Instant, failed: Option<&Failed>) {
        let Some(record) = record else { return };
        telemetry::record(telemetry::Span {
            event: lease.id,
            kind: telemetry::Kind::Observe { observer: self.job.name.to_string(), attempt: lease.attempt },
            account: lease.account.to_string(),
            event_type: record.event_type.to_string(),
            started,
            error: failed.map(ToString::to_string),
        });
    }

    async fn retry(&self, lease: Lease, after: Duration, error: String) {
        self.metrics.failed.increment(1);
        let (name, event, attempt, pause) = (&*self.job.name, lease.id, lease.attempt, seconds(after));
        warn!(observer = name, %event, attempt, "observer {name} failed on {event}, next attempt in {pause}: {error}");
        self.end(lease, Finish::Retry { after, error }).await;
    }

    async fn end(&self, lease: Lease, outcome: Finish) {
        // Whoever takes them ends last.
        let _ = self.ends.send(Finished { lease, outcome }).await;
    }
}

/// One attempt of a handler. The event is parsed again: the journal stores what the platform wrote.
async fn observe(dispatcher: &Dispatcher, observer: &Observer, leased: &Leased, deadline: Instant) -> Observed {
    let attempt = Attempt { id: leased.lease.id, number: leased.lease.attempt, deadline };
    let call = dispatcher.observe_stored(observer, Source::from(&leased.record), attempt);
    let running = call.running.map_err(|failure| ObserveError::usual(failure.to_string()))?;
    match running.await {
        Ok(seen) => seen,
        Err(panicked) => Err(ObserveError::usual(format!("the handler {panicked}"))),
    }
}

/// Runs the responder of an event on lease. One that fails is retried, as an observer is: the platform does not retry.
pub(crate) async fn respond(dispatcher: &Dispatcher, record: &EventRecord, attempt: Attempt) -> Result<Answer, Failed> {
    let call = dispatcher.respond_stored(Source::from(record), attempt);
    call.log_unreadable();
    let event_type = call.context.raw().event_type;
    let running = match call.running {
        Ok(running) => running,
        Err(NotStarted::NoHandler(_)) => return Ok(Answer::Default),
        Err(failure @ NotStarted::Misshapen(_)) => return Err(Failed::Permanent(failure.to_string())),
    };
    match running.await {
        Ok(answer) => answer.map_err(|failure| Failed::Retry(failure.to_string())),
        Err(panicked) => Err(Failed::Retry(format!("the responder of {event_type} {panicked}"))),
    }
}

/// How long to wait after an attempt: twice as long as before it, within bounds, and not at the same moment as others.
fn pause(settings: &Settings, attempt: u32) -> Duration {
    let doubled = settings.backoff.first.saturating_mul(1 << attempt.saturating_sub(1).min(30));
    doubled.min(settings.backoff.longest).mul_f64(rand::random_range(0.5..=1.0))
}

/// Ends leases, many at a time.
struct Finisher {
    journal: Arc<dyn Journal>,
    ended: mpsc::Receiver<Finished>,
    /// What is to be written.
    taken: Vec<Finished>,
}

impl Finisher {
    /// Until nobody is left to end one.
    async fn run(&mut self) {
        while !self.taken.is_empty() || self.ended.recv_many(&mut self.taken, MAX_BATCH).await > 0 {
            // Retried while the journal cannot store; meanwhile there are no new leases, so nothing piles up.
            while let Err(failure) = self.journal.finish(self.taken.clone()).await
                && failure != JournalError::Closed
            {
                time::sleep(POLL_INTERVAL).await;
            }
            self.taken.clear();
        }
    }
}
