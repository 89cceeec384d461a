//! The time of day, which tests may set.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Where the time of day comes from. Cheap to clone; clones share a set clock.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `unix_seconds` until it is set.
    pub fn fixed(unix_seconds: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(unix_seconds))))
    }

    /// Sets a clock made by [`Clock::fixed`]; the system's stays as it is.
    pub fn set(&self, unix_seconds: i64) {
        if let Some(clock) = &self.0 {
            clock.store(unix_seconds, Ordering::Relaxed);
        }
    }

    /// Seconds since 1970-01-01 UTC.
    pub fn now(&self) -> i64 {
        match &self.0 {
            Some(clock) => clock.load(Ordering::Relaxed),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed()),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(fixed)" } else { "Clock(system)" })
    }
}
