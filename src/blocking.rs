//! Handlers that block their thread: everything else that runs on it waits meanwhile, deliveries of other accounts included.
//!
//! Each poll of a handler is timed, with two looks at the clock and nothing else.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tracing::warn;

use crate::{hooks::Running, log::seconds, metrics::Metrics, panics::Panicked, throttle::Throttle};

/// What a poll may take. One that is asynchronous takes microseconds.
const LONGEST_POLL: Duration = Duration::from_millis(500);

/// A handler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handler {
    /// The responder of an event type.
    Responder(&'static str),
    /// The observer of a name.
    Observer(Arc<str>),
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Responder(event_type) => write!(f, "responder of {event_type}"),
            Self::Observer(name) => write!(f, "observer {name}"),
        }
    }
}

/// What the handlers of a server have blocked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocking(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    metrics: Option<Metrics>,
    /// The latest of all, and when it ended.
    latest: Mutex<Option<(Instant, Arc<str>)>>,
    /// Which handlers were named lately. They are as many as are registered.
    lines: Mutex<HashMap<Handler, Throttle>>,
}

impl Blocking {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Shared { metrics: Some(metrics.clone()), ..Shared::default() }))
    }

    /// What blocked a thread at this time or later, in a sentence.
    pub(crate) fn since(&self, then: Instant) -> Option<Arc<str>> {
        lock(&self.0.latest).as_ref().filter(|(ended, _)| *ended >= then).map(|(_, what)| Arc::clone(what))
    }

    /// Runs what is of a handler, and times each of its polls.
    pub(crate) async fn timing<F: Future>(&self, account: &str, handler: &Handler, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| self.timed(account, handler, || future.as_mut().poll(context))).await
    }

    fn timed<R>(&self, account: &str, handler: &Handler, poll: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let polled = poll();
        let took = begun.elapsed();
        if took >= LONGEST_POLL {
            self.blocked(account, handler, took);
        }
        polled
    }

    #[cold]
    fn blocked(&self, account: &str, handler: &Handler, took: Duration) {
        let what = format!("{handler} blocked its thread for {}", seconds(took));
        *lock(&self.0.latest) = Some((Instant::now(), what.as_str().into()));
        if let Some(metrics) = &self.0.metrics {
            metrics.blocked[usize::from(matches!(handler, Handler::Observer(_)))].increment(1);
        }
        let more = lock(&self.0.lines).entry(handler.clone()).or_default().allow();
        if let Some(more) = more {
            warn!(account, "{account}: {what}: use async I/O or tokio::task::spawn_blocking{more}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handler that runs, and each of whose polls is timed.
pub(crate) struct Timed<T> {
    running: Running<T>,
    blocking: Blocking,
    account: Arc<str>,
    handler: Handler,
}

impl<T> Timed<T> {
    pub(crate) const fn new(running: Running<T>, blocking: Blocking, account: Arc<str>, handler: Handler) -> Self {
        Self { running, blocking, account, handler }
    }
}

impl<T> Future for Timed<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { running, blocking, account, handler } = &mut *self;
        blocking.timed(account, handler, || running.poll_unpin(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_blocked_is_known_for_what_came_before_its_end() {
        let blocking = Blocking::default();
        let before = Instant::now();
        assert_eq!(blocking.since(before), None);
        blocking.blocked("mp/shop", &Handler::Responder("mp.event.click"), Duration::from_secs(7));
        assert_eq!(blocking.since(before).as_deref(), Some("responder of mp.event.click blocked its thread for 7.0 s"));
        assert_eq!(blocking.since(Instant::now() + Duration::from_millis(1)), None);
    }
}
