//! Gives events to observers: leases them from the journal, runs the handlers, tells the journal how it went.
//!
//! One task per observer leases as much as it has room for; each event runs in a task of its own; one task ends the
//! leases, many at a time. What is not told is given again when its lease is over, by this process or another.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::{
    clock::Clock,
    config::Delivery as Settings,
    event,
    hooks::{Context, ContextInner, Hooks, Observer, RawEvent},
    journal::{self, Facts, Finish, Finished, Journal, JournalError, Lease, Leased},
    metrics::Metrics,
    payload, platform,
};

/// A lease outlasts the longest attempt by this, so that its end is told in time.
const MARGIN: Duration = Duration::from_secs(15);

/// How often an observer looks when nothing is announced: for pauses that are over, replays, other nodes.
const LOOK: Duration = Duration::from_millis(500);

/// How many events are leased, and how many leases are ended, at one time.
const BATCH: usize = 256;

/// What the journal is told of the observers.
pub fn of_hooks(hooks: &Arc<Hooks>) -> Vec<journal::Observer> {
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
        }
    });
    known.collect()
}

/// Observers at work.
#[derive(Debug)]
pub struct Observers {
    /// No more events are leased.
    stop: CancellationToken,
    /// Handlers that run are cut off.
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// What the tasks of an observer share.
struct Work {
    observer: Observer,
    journal: Arc<dyn Journal>,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    ends: mpsc::Sender<Finished>,
    cut: CancellationToken,
}

impl Observers {
    /// Begins to give events to the observers.
    pub fn start(
        hooks: &Hooks,
        journal: &Arc<dyn Journal>,
        settings: &Settings,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Self {
        let (stop, cut, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let (ends, ended) = mpsc::channel(BATCH);
        for (_, observer) in hooks.each_observer() {
            let work = Arc::new(Work {
                observer: observer.clone(),
                journal: Arc::clone(journal),
                settings: settings.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                ends: ends.clone(),
                cut: cut.clone(),
            });
            let (stop, running) = (stop.clone(), tasks.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(lease(work, running)).await;
            });
        }
        tasks.spawn(finish(Arc::clone(journal), ended));
        tasks.close();
        Self { stop, cut, tasks }
    }

    /// Leases no more events.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until no handler runs and every lease is ended.
    pub async fn drain(&self) {
        self.stop();
        self.tasks.wait().await;
    }

    /// Cuts off the handlers that still run; their events are given again, and the attempt does not count.
    pub async fn cut_off(&self) {
        self.cut.cancel();
        self.drain().await;
    }
}

/// Leases events and starts their handlers, for ever.
async fn lease(work: Arc<Work>, tasks: TaskTracker) {
    let name = Arc::clone(&work.observer.how.name);
    let room = Arc::new(Semaphore::new(work.settings.concurrency));
    let term = work.settings.timeout + MARGIN;
    loop {
        let Ok(first) = Arc::clone(&room).acquire_owned().await else { return };
        let mut places = vec![first];
        while places.len() < BATCH
            && let Ok(place) = Arc::clone(&room).try_acquire_owned()
        {
            places.push(place);
        }
        let arrivals = work.journal.arrivals().notified();
        match work.journal.lease(&name, places.len(), term).await {
            Ok(leased) if leased.is_empty() => {
                drop(places);
                let _ = time::timeout(LOOK, arrivals).await;
            }
            Ok(leased) => {
                for (leased, place) in leased.into_iter().zip(places) {
                    tasks.spawn(observe(Arc::clone(&work), leased, place));
                }
            }
            // The journal says by itself what is wrong.
            Err(_) => {
                drop(places);
                time::sleep(LOOK).await;
            }
        }
    }
}

/// Gives an event to an observer, and tells how it went.
async fn observe(work: Arc<Work>, leased: Leased, place: OwnedSemaphorePermit) {
    let Leased { lease, facts } = leased;
    let name = &*work.observer.how.name;
    let attempt = AssertUnwindSafe(attempt(&work, &lease, facts)).catch_unwind();
    let limit = work.settings.timeout;
    let error = match work.cut.run_until_cancelled(time::timeout(limit, attempt)).await {
        None => return work.end(lease, Finish::Released).await,
        Some(Ok(Ok(Ok(())))) => {
            work.metrics.observed.increment(1);
            return work.end(lease, Finish::Done).await;
        }
        Some(Ok(Ok(Err(error)))) => error,
        Some(Ok(Err(_panic))) => "the handler panicked".to_owned(),
        Some(Err(_elapsed)) => format!("the handler took longer than {} s", limit.as_secs_f64()),
    };
    // Its room is free for others while the journal is told.
    drop(place);
    work.metrics.observation_failed.increment(1);
    let (event, attempt) = (lease.id, lease.attempt);
    if attempt >= work.settings.max_attempts {
        work.metrics.observation_dead.increment(1);
        error!(observer = name, %event, attempt, "observer {name} failed for good on {event}: {error}");
        return work.end(lease, Finish::Dead { error }).await;
    }
    let after = pause(&work.settings, attempt);
    warn!(observer = name, %event, attempt, "observer {name} failed on {event}, again in {} s: {error}", after.as_secs_f64());
    work.end(lease, Finish::Retry { after, error }).await;
}

impl Work {
    async fn end(&self, lease: Lease, outcome: Finish) {
        // Whoever takes them ends last.
        let _ = self.ends.send(Finished { lease, outcome }).await;
    }
}

/// One attempt. The event is read anew: what is stored is what the platform wrote.
async fn attempt(work: &Work, lease: &Lease, facts: Facts) -> Result<(), String> {
    if lease.attempt > work.settings.max_attempts {
        return Err("the process ended during the last attempt".to_owned());
    }
    let running = {
        let text = facts.payload.clone();
        let tree = payload::parse(facts.form, text.text()).map_err(|failure| failure.to_string())?;
        let command = facts.query("CallbackCommand");
        let (event_type, _) = platform::classify(facts.platform, &tree, facts.form, command.as_deref());
        let Facts { platform, account, form, payload, query, .. } = facts;
        let context = Context::new(ContextInner {
            event: RawEvent { platform, account, event_type, form, payload, query },
            id: lease.id,
            deadline: Instant::now() + work.settings.timeout,
            clock: work.clock.clone(),
            attempt: lease.attempt,
        });
        work.observer.start(&tree, form, context).map_err(|error| format!("unexpected shape: {error}"))?
    };
    running.await.map_err(|failure| failure.to_string())
}

/// How long to wait after an attempt: twice as long as before it, within bounds, and not at the same moment as others.
fn pause(settings: &Settings, attempt: u32) -> Duration {
    let doubled = settings.backoff.first.saturating_mul(1 << attempt.saturating_sub(1).min(30));
    doubled.min(settings.backoff.longest).mul_f64(rand::random_range(0.5..=1.0))
}

/// Ends leases, many at a time, until nobody is left to tell of one.
async fn finish(journal: Arc<dyn Journal>, mut ended: mpsc::Receiver<Finished>) {
    let mut some = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut some, BATCH).await > 0 {
        // A journal that cannot store is asked again; meanwhile there are no new leases, so nothing piles up.
        while let Err(failure) = journal.finish(some.clone()).await
            && failure != JournalError::Closed
        {
            time::sleep(LOOK).await;
        }
        some.clear();
    }
}
