//! Deliveries in flight: limits for all and for each account, and which responders run for minutes.
//!
//! `max_in_flight` is divided in two. One half belongs to the accounts, an equal part each, so that none is ever refused
//! because of others. The other half is for whoever needs more; no account takes more than its share in all.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::config::Share;
use crate::log::seconds;

/// A responder that runs for longer is logged.
const LONG_RUN: Duration = Duration::from_secs(60);

/// How often it is logged that an account rejects deliveries.
const REJECTED_INTERVAL: Duration = Duration::from_secs(10);

/// Lines about long-running responders that are logged at one time.
const MAX_LINES: usize = 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one account has in flight.
pub(crate) struct Load {
    account: Arc<str>,
    share: Share,
    /// The part that no other account takes.
    own: Arc<Semaphore>,
    used: AtomicUsize,
    rejected: Throttle,
    running: Mutex<Running>,
}

/// Responders that were not ready at once, the oldest first. Each has a permit, so their number is bounded.
#[derive(Default)]
struct Running {
    next: u64,
    since: BTreeMap<(Instant, u64), &'static str>,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("share", &self.share).field("used", &self.used()).finish_non_exhaustive()
    }
}

/// A delivery in flight. Its responder and its stream hold it too, after the client has left.
#[derive(Debug)]
pub(crate) struct Permit {
    load: Arc<Load>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A responder that runs.
pub(crate) struct Run<'p> {
    load: &'p Load,
    key: (Instant, u64),
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        lock(&self.load.running).since.remove(&self.key);
    }
}

impl Permit {
    /// Notes that a responder runs, until this is dropped.
    pub(crate) fn run(&self, event_type: &'static str, since: Instant) -> Run<'_> {
        let mut running = lock(&self.load.running);
        running.next += 1;
        let key = (since, running.next);
        running.since.insert(key, event_type);
        Run { load: &self.load, key }
    }
}

/// Responders of one event type that have run for long.
#[derive(Debug, PartialEq, Eq)]
struct Long {
    event_type: &'static str,
    count: usize,
    longest: Duration,
}

impl Load {
    pub(crate) fn new(account: Arc<str>, share: Share) -> Self {
        let own = Arc::new(Semaphore::new(share.reserved));
        Self { account, share, own, used: AtomicUsize::new(0), rejected: Throttle::new(), running: Mutex::default() }
    }

    /// A permit for one more delivery, of the account's own or of the `shared`. `None` if there is none, which is logged.
    pub(crate) fn enter(self: &Arc<Self>, shared: &Arc<Semaphore>) -> Option<Permit> {
        let Share { most, of, .. } = self.share;
        let permit = match self.used.fetch_add(1, Ordering::Relaxed) < most {
            true => Arc::clone(&self.own).try_acquire_owned().or_else(|_| Arc::clone(shared).try_acquire_owned()).ok(),
            false => None,
        };
        let Some(permit) = permit else {
            let used = self.used.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
            // Clients can cause this line, so it is not logged for each rejection.
            if let Some(skipped) = self.rejected.pass() {
                let account = &*self.account;
                let why = match used >= most && most < of {
                    true => format!("its share of max_in_flight ({most} of {of}) reached"),
                    false => format!("max_in_flight ({of}) reached"),
                };
                let more = if skipped > 0 { format!("; {skipped} more since the last line") } else { String::new() };
                warn!(account, "{account}: rejected a delivery with 503: {why}{more}");
            }
            return None;
        };
        Some(Permit { load: Arc::clone(self), _permit: permit })
    }

    /// Deliveries in flight, with responders whose clients have left.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How long the oldest responder has run.
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        let running = lock(&self.running);
        running.since.keys().next().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }

    fn long(&self, now: Instant) -> Vec<Long> {
        let Some(before) = now.checked_sub(LONG_RUN) else { return Vec::new() };
        let mut long: Vec<Long> = Vec::new();
        for ((since, _), event_type) in lock(&self.running).since.range(..(before, u64::MAX)) {
            match long.iter_mut().find(|it| it.event_type == *event_type) {
                Some(known) => known.count += 1,
                None => {
                    long.push(Long { event_type, count: 1, longest: now.saturating_duration_since(*since) });
                }
            }
        }
        long
    }
}

/// What every account of a server has in flight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(Arc<Mutex<Vec<Weak<Load>>>>);

impl Loads {
    /// Counts an account, until nothing of it is left.
    pub(crate) fn add(&self, load: &Arc<Load>) {
        let mut loads = lock(&self.0);
        loads.retain(|load| load.strong_count() > 0);
        loads.push(Arc::downgrade(load));
    }

    fn all(&self) -> Vec<Arc<Load>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }

    /// Deliveries in flight.
    pub(crate) fn used(&self) -> usize {
        self.all().iter().map(|load| load.used()).sum()
    }

    /// Whether there is no room, and most of it is held by responders that have run for long: nothing will be received
    /// until what they wait for has come.
    pub(crate) fn are_stuck(&self, now: Instant) -> bool {
        let loads = self.all();
        let Some(of) = loads.last().map(|load| load.share.of) else { return false };
        let full = loads.iter().map(|load| load.used()).sum::<usize>() >= of;
        full && loads.iter().flat_map(|load| load.long(now)).map(|long| long.count).sum::<usize>() * 2 >= of
    }

    /// Writes a line about the responders of each account and event type that have run for long, the longest first.
    pub(crate) fn log_long(&self, now: Instant) {
        let loads = self.all();
        let of = |load: &Arc<Load>| load.long(now).into_iter().map(|long| (Arc::clone(load), long)).collect::<Vec<_>>();
        let mut all: Vec<_> = loads.iter().flat_map(of).collect();
        all.sort_by_key(|(_, long)| std::cmp::Reverse(long.longest));
        for (load, Long { event_type, count, longest }) in all.iter().take(MAX_LINES) {
            let (account, most, oldest) = (&*load.account, load.share.most, seconds(*longest));
            warn!(
                account,
                kind = event_type,
                count,
                longest = longest.as_secs(),
                "{account}: {count} responders of {event_type} have run for over {}, the oldest for {oldest}; each \
                 takes one of the account's {most} deliveries in flight: give them a timeout",
                seconds(LONG_RUN)
            );
        }
        if let Some(more) = all.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            warn!("responders of {more} more accounts and event types have run for over {}", seconds(LONG_RUN));
        }
    }
}

/// Lets one through now and then, and counts the others.
struct Throttle {
    started: Instant,
    /// When the next may pass, in milliseconds since the start.
    next: AtomicU64,
    skipped: AtomicU64,
}

impl Throttle {
    fn new() -> Self {
        Self { started: Instant::now(), next: AtomicU64::new(0), skipped: AtomicU64::new(0) }
    }

    /// How many did not pass since the last that did, if this one does.
    fn pass(&self) -> Option<u64> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (millis(self.started.elapsed()), self.next.load(Ordering::Relaxed));
        let then = now.saturating_add(millis(REJECTED_INTERVAL));
        if now < next || self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.skipped.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use tokio::sync::Semaphore;

    use super::{Load, Loads, Long};
    use crate::config::Share;

    fn load(name: &str, most: usize, reserved: usize) -> Arc<Load> {
        Arc::new(Load::new(name.into(), Share { most, reserved, of: 8 }))
    }

    #[test]
    fn however_many_accounts_are_stuck_the_others_have_their_part() {
        let shared = Arc::new(Semaphore::new(5));
        let (a, b, c) = (load("mp/a", 4, 1), load("mp/b", 4, 1), load("mp/c", 4, 1));
        let enter = |load: &Arc<Load>| std::iter::from_fn(|| load.enter(&shared)).collect::<Vec<_>>();
        let (of_a, of_b, of_c) = (enter(&a), enter(&b), enter(&c));
        assert_eq!((of_a.len(), of_b.len(), of_c.len()), (4, 3, 1));
        drop(of_a);
        let more = enter(&c);
        assert_eq!((more.len(), a.used(), c.used()), (3, 0, 4));
        drop((of_b, of_c, more));
        assert_eq!((b.used(), c.used(), shared.available_permits()), (0, 0, 5));
    }

    #[test]
    fn responders_that_run_for_minutes_are_known_by_their_event() {
        let (shared, loads, load) = (Arc::new(Semaphore::new(8)), Loads::default(), load("mp/a", 8, 0));
        loads.add(&load);
        let permits: Vec<_> = std::iter::from_fn(|| load.enter(&shared)).collect();
        let began = Instant::now();
        let mut runs: Vec<_> = permits.iter().take(3).map(|permit| permit.run("mp.message.text", began)).collect();
        let later = began + Duration::from_secs(50);
        runs.push(permits[3].run("mp.message.image", later));
        assert_eq!(load.long(began + Duration::from_secs(59)), []);
        let (minute, now) = (began + Duration::from_secs(61), began + Duration::from_secs(120));
        let text = |seconds| Long { event_type: "mp.message.text", count: 3, longest: Duration::from_secs(seconds) };
        assert_eq!(load.long(minute), [text(61)]);
        let image = Long { event_type: "mp.message.image", count: 1, longest: Duration::from_secs(70) };
        assert_eq!(load.long(now), [text(120), image]);
        assert_eq!(load.longest(now), Duration::from_secs(120));
        assert!(!loads.are_stuck(minute) && loads.are_stuck(now));
        drop(runs);
        assert_eq!((load.long(now), load.longest(now)), (Vec::new(), Duration::ZERO));
        assert!(!loads.are_stuck(now));
    }
}
