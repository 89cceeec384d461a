//! What limits how many events an observer is given beside its concurrency: whoever has the gate changes that at any time.
//! What is not given waits in the journal, and uses up no attempt.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::config::Rate;

/// How many events an observer may have at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// None.
    Closed,
    /// One after the other.
    One,
    /// As many as it has permits for.
    All,
}

/// Limits what one observer is given.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Notified when it may be wider.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    width: Width,
    /// Nothing is given before that.
    not_before: Option<Instant>,
    bucket: Option<Bucket>,
}

/// A token bucket, which holds what comes in a second.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let per_second = f64::from(rate.events.get()) / rate.per.as_secs_f64();
        Self { per_second, tokens: per_second.max(1.0), filled: Instant::now() }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * self.per_second).min(self.per_second.max(1.0));
        self.filled = self.filled.max(now);
    }

    /// When there is a token again.
    fn next(&self) -> Instant {
        self.filled + Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.per_second)
    }
}

impl Gate {
    pub(crate) fn new(width: Width, rate: Option<Rate>) -> Self {
        let state = State { width, not_before: None, bucket: rate.map(Bucket::new) };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is as wide as that, and nothing is given before `not_before`.
    pub(crate) fn set(&self, width: Width, not_before: Option<Instant>) {
        let mut state = self.lock();
        (state.width, state.not_before) = (width, not_before);
        drop(state);
        self.changed.notify_one();
    }

    /// How many more may be given while so many are in flight.
    pub(crate) fn room(&self, now: Instant, in_flight: usize) -> usize {
        let mut state = self.lock();
        let by_width = match state.width {
            Width::Closed => 0,
            Width::One => 1_usize.saturating_sub(in_flight),
            Width::All => usize::MAX,
        };
        if by_width == 0 || state.not_before.is_some_and(|until| now < until) {
            return 0;
        }
        let by_rate = state.bucket.as_mut().map_or(usize::MAX, |bucket| {
            bucket.fill(now);
            // Far below the limits of either.
            bucket.tokens as usize
        });
        by_width.min(by_rate)
    }

    /// One was given.
    pub(super) fn take(&self) {
        if let Some(bucket) = &mut self.lock().bucket {
            bucket.tokens -= 1.0;
        }
    }

    /// Ready when it may be wider than it was.
    pub(super) async fn widened(&self) {
        let until = {
            let state = self.lock();
            // A closed one waits for a change; what is in flight is somebody else's.
            let by_rate = state.bucket.as_ref().filter(|bucket| bucket.tokens < 1.0).map(Bucket::next);
            (state.width != Width::Closed).then(|| state.not_before.max(by_rate)).flatten()
        };
        let until = async {
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = until => {}
            () = self.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn its_width_and_its_time_decide() {
        let (gate, now) = (Gate::new(Width::Closed, None), Instant::now());
        assert_eq!(gate.room(now, 0), 0);
        gate.set(Width::One, None);
        assert_eq!((gate.room(now, 0), gate.room(now, 1), gate.room(now, 9)), (1, 0, 0));
        gate.set(Width::All, Some(now + Duration::from_secs(5)));
        assert_eq!((gate.room(now, 0), gate.room(now + Duration::from_secs(5), 3)), (0, usize::MAX));
    }

    #[test]
    fn a_rate_lets_so_many_through_in_a_time() {
        let rate = |events, per| Some(Rate { events: NonZeroU32::new(events).unwrap(), per: Duration::from_secs(per) });
        let gate = Gate::new(Width::All, rate(10, 1));
        let now = Instant::now();
        assert_eq!(gate.room(now, 0), 10);
        (0..10).for_each(|_| gate.take());
        assert_eq!(gate.room(now, 10), 0);
        assert_eq!(gate.room(now + Duration::from_millis(510), 0), 5);
        assert_eq!(gate.room(now + Duration::from_secs(60), 0), 10, "it holds what comes in a second");

        let slow = Gate::new(Width::All, rate(6, 60));
        assert_eq!(slow.room(now, 0), 1);
        slow.take();
        assert_eq!(slow.room(now + Duration::from_secs(9), 0), 0);
        assert_eq!(slow.room(now + Duration::from_millis(10_100), 0), 1);
    }

    #[tokio::test]
    async fn who_waits_for_it_is_woken() {
        let gate = Gate::new(Width::Closed, None);
        let widen = async { gate.set(Width::All, None) };
        tokio::join!(gate.widened(), widen);
        gate.set(Width::One, Some(Instant::now() + Duration::from_millis(20)));
        gate.widened().await;
        gate.widened().await;
        assert_eq!(gate.room(Instant::now(), 0), 1);
    }
}
