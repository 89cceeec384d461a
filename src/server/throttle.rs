//! Log lines that an attacker could cause by the thousand.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// At most one line in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through in a while, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Option<Passed>>);

#[derive(Debug)]
struct Passed {
    last: Instant,
    omitted: u64,
}

/// How many lines were suppressed before this one: empty, or text to append to the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Omitted(u64);

impl Throttle {
    /// Whether the line may be written.
    pub(super) fn allow(&self) -> Option<Omitted> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<Omitted> {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *passed {
            Some(passed) if now.saturating_duration_since(passed.last) < LOG_INTERVAL => {
                passed.omitted = passed.omitted.saturating_add(1);
                None
            }
            earlier => {
                let omitted = earlier.as_ref().map_or(0, |earlier| earlier.omitted);
                *earlier = Some(Passed { last: now, omitted: 0 });
                Some(Omitted(omitted))
            }
        }
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more times since the last line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_were_left_out() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let line = |after| throttle.allow_at(start + after).map(|omitted| omitted.to_string());
        assert_eq!(line(Duration::ZERO).as_deref(), Some(""));
        assert_eq!((line(LOG_INTERVAL / 2), line(LOG_INTERVAL / 2)), (None, None));
        assert_eq!(line(LOG_INTERVAL).as_deref(), Some(" (2 more times since the last line)"));
        assert_eq!((line(LOG_INTERVAL), line(2 * LOG_INTERVAL).is_some()), (None, true));
    }
}
