//! What lately came of an account, in a few hundred atomic numbers: how many deliveries a minute, and how long they took.
//!
//! Metrics collect this over all time for whoever stores it; the event API shows it without a collector.

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::metrics::Outcome;

/// Minutes that are kept.
pub(crate) const MINUTES: usize = 60;

/// Periods whose times are kept, and how many minutes each is.
const PERIODS: usize = 6;
const PERIOD_MINUTES: u64 = 10;

/// The bounds of times grow by a quarter of a power of two, from 16 µs to 16 s.
const STEPS: u32 = 4;
const FIRST: u32 = 4;
const BUCKETS: usize = 81;

/// What is known of one account. Deliveries add to it without a lock.
pub(crate) struct AccountStats {
    started: Instant,
    started_at: SystemTime,
    outcomes: [AtomicU64; Outcome::NAMES.len()],
    refused: AtomicU64,
    /// When the last delivery was answered, in milliseconds after the start, from 1.
    last: AtomicU64,
    /// Of each minute: its number, and how many were answered in it.
    minutes: [AtomicU64; MINUTES],
    periods: [Period; PERIODS],
}

/// How long deliveries took.
struct Period {
    number: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
}

/// Times that so many of a hundred do not exceed, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl fmt::Debug for AccountStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountStats").finish_non_exhaustive()
    }
}

impl Default for AccountStats {
    fn default() -> Self {
        let period = || Period { number: AtomicU64::new(u64::MAX), buckets: [const { AtomicU32::new(0) }; BUCKETS] };
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            outcomes: Default::default(),
            refused: AtomicU64::new(0),
            last: AtomicU64::new(0),
            minutes: [const { AtomicU64::new(0) }; MINUTES],
            periods: std::array::from_fn(|_| period()),
        }
    }
}

impl AccountStats {
    /// Counts how a delivery ended.
    pub(crate) fn count(&self, outcome: Outcome) {
        match self.outcomes.get(outcome.number()) {
            Some(count) => count.fetch_add(1, Ordering::Relaxed),
            None => self.refused.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Counts a refused request.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A delivery that came then has its answer.
    pub(crate) fn answered(&self, arrived: Instant, now: Instant) {
        let age = now.saturating_duration_since(self.started);
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(millis + 1, Ordering::Relaxed);
        let minute = age.as_secs() / 60;
        if let Some(kept) = self.minutes.get((minute % MINUTES as u64) as usize) {
            let add = |kept: u64| Some(if kept >> 32 == minute { kept + 1 } else { minute << 32 | 1 });
            let _ = kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
        let number = minute / PERIOD_MINUTES;
        if let Some(period) = self.periods.get((number % PERIODS as u64) as usize) {
            period.add(number, now.saturating_duration_since(arrived));
        }
    }

    /// How often deliveries ended in each way, by name.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Outcome::NAMES.into_iter().zip(&self.outcomes).map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// When the last delivery was answered, in milliseconds since 1970.
    pub(crate) fn last(&self) -> Option<i64> {
        let millis = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        let at = (self.started_at + Duration::from_millis(millis)).duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(at.as_millis()).ok()
    }

    /// How many deliveries were answered in each of the last minutes, the present one last.
    pub(crate) fn rates(&self, now: Instant) -> Vec<u64> {
        let minute = now.saturating_duration_since(self.started).as_secs() / 60;
        let of = |minute: u64| {
            let kept = self.minutes.get((minute % MINUTES as u64) as usize)?.load(Ordering::Relaxed);
            (kept >> 32 == minute).then_some(kept & u64::from(u32::MAX))
        };
        let ago = (0..MINUTES as u64).rev();
        ago.map(|ago| minute.checked_sub(ago).and_then(of).unwrap_or_default()).collect()
    }

    /// How long deliveries of the last hour took; `None` when there were none.
    pub(crate) fn percentiles(&self, now: Instant) -> Option<Percentiles> {
        let number = now.saturating_duration_since(self.started).as_secs() / 60 / PERIOD_MINUTES;
        let mut counts = [0_u64; BUCKETS];
        for period in &self.periods {
            if number.checked_sub(period.number.load(Ordering::Relaxed)).is_some_and(|ago| ago < PERIODS as u64) {
                counts.iter_mut().zip(&period.buckets).for_each(|(all, one)| {
                    *all += u64::from(one.load(Ordering::Relaxed));
                });
            }
        }
        let all: u64 = counts.iter().sum();
        let at = |part: f64| {
            let wanted = ((all as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            upper_millis(bucket.unwrap_or(BUCKETS - 1))
        };
        (all > 0).then(|| Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
    }
}

impl Period {
    fn add(&self, number: u64, took: Duration) {
        // Whoever comes first empties it. What others add meanwhile may be lost, which is a few of many.
        let kept = self.number.load(Ordering::Relaxed);
        if kept != number && self.number.compare_exchange(kept, number, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        if let Some(bucket) = self.buckets.get(bucket(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The bucket of a time.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    if power < FIRST {
        return 0;
    }
    let step = (micros >> (power - 2)) as u32 & (STEPS - 1);
    (((power - FIRST) * STEPS + step + 1) as usize).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn upper_millis(bucket: usize) -> f64 {
    let first = f64::from(1 << FIRST) / 1000.0;
    let step = u32::try_from(bucket).unwrap_or_default();
    let (power, step) = (step / STEPS, step % STEPS);
    first * f64::from(1 << power) * (1.0 + f64::from(step) / f64::from(STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_known_within_a_quarter() {
        for micros in [1, 15, 16, 17, 100, 999, 1000, 4500, 123_456, 4_999_999, 15_999_999] {
            let (exact, upper) = (micros as f64 / 1000.0, upper_millis(bucket(Duration::from_micros(micros))));
            assert!(exact <= upper && (upper <= exact * 1.26 || micros < 16), "{micros}: {upper}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn minutes_and_periods_end() {
        let stats = AccountStats::default();
        let at = |seconds| stats.started + Duration::from_secs(seconds);
        assert_eq!((stats.last(), stats.percentiles(at(0))), (None, None));
        for (seconds, millis) in [(1, 1), (2, 1), (61, 100), (3601, 5)] {
            stats.answered(at(seconds), at(seconds) + Duration::from_millis(millis));
        }
        let rates = stats.rates(at(3601));
        assert_eq!((rates.len(), &rates[..2], &rates[58..]), (60, &[1, 0][..], &[0, 1][..]));
        assert!(stats.last().is_some());
        let all = stats.percentiles(at(3601));
        // The first period is over, and its place has been taken.
        assert!(all.is_some_and(|all| (5.0..6.5).contains(&all.p50) && all.p50 == all.p99), "{all:?}");
        assert_eq!(stats.percentiles(at(3601 + 3600 + 600)), None);
        assert_eq!(stats.rates(at(10_000)), vec![0; MINUTES]);
    }
}
