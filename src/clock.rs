//! The time of day, which tests may set, and how long things last, which they may shorten.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where the time of day comes from. Cheap to clone; clones share a set clock.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Set>>);

/// A clock that stands still.
#[derive(Default)]
struct Set {
    /// The time of day, Unix seconds.
    seconds: AtomicI64,
    /// The milliseconds that have passed because a test said so.
    passed: AtomicI64,
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `unix_seconds` until it is set.
    pub fn fixed(unix_seconds: i64) -> Self {
        Self(Some(Arc::new(Set { seconds: AtomicI64::new(unix_seconds), passed: AtomicI64::default() })))
    }

    /// Sets a clock made by [`Clock::fixed`]; the system's stays as it is.
    pub fn set(&self, unix_seconds: i64) {
        if let Some(clock) = &self.0 {
            clock.seconds.store(unix_seconds, Ordering::Relaxed);
        }
    }

    /// Lets time pass that a clock made by [`Clock::fixed`] does not wait for: leases, keys and access tokens are so much
    /// nearer to their end. The time of day stays. PostgreSQL has a clock of its own, which its leases go by.
    pub fn advance(&self, time: Duration) {
        if let Some(clock) = &self.0 {
            clock.passed.fetch_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// The milliseconds that have passed beside the system's.
    pub(crate) fn passed(&self) -> i64 {
        self.0.as_ref().map_or(0, |clock| clock.passed.load(Ordering::Relaxed))
    }

    /// Seconds since 1970-01-01 UTC.
    pub fn now(&self) -> i64 {
        match &self.0 {
            Some(clock) => clock.seconds.load(Ordering::Relaxed),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed()),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(fixed)" } else { "Clock(system)" })
    }
}
