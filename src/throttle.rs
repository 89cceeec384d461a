//! Log lines that an attacker could cause by the thousand.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time between two lines about a limit of the server.
const LIMIT_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two lines about one account for one reason.
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(60);

/// Lets one line through in a while, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Passed>>);

/// The last line that was let through.
#[derive(Debug)]
struct Passed {
    last: Instant,
    omitted: u64,
}

/// How many lines were suppressed before this one: empty, or text to append to the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Omitted(u64);

impl Throttle {
    /// Whether the line may be written.
    pub(crate) fn allow(&self) -> Option<Omitted> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<Omitted> {
        allow(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), now, LIMIT_INTERVAL)
    }
}

fn allow(passed: &mut Option<Passed>, now: Instant, interval: Duration) -> Option<Omitted> {
    match passed {
        Some(passed) if now.saturating_duration_since(passed.last) < interval => {
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

/// The lines about one account: one for each kind and reason in a minute. Both are of fixed lists, so it stays small.
#[derive(Debug, Default)]
pub(crate) struct AccountLines(Mutex<Vec<AccountLine>>);

#[derive(Debug)]
struct AccountLine {
    kind: LineKind,
    reason: &'static str,
    passed: Option<Passed>,
}

/// What a line says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// It was refused.
    Refused,
    /// It was not read, and was given the default answer.
    Defaulted,
    /// It came from an address that is not the platform's, and was handled all the same.
    Unexpected,
    /// It was answered with 429.
    Limited,
}

impl AccountLines {
    /// Whether a line of this kind and reason may be written.
    pub(crate) fn allow(&self, kind: LineKind, reason: &'static str) -> Option<Omitted> {
        self.allow_at(kind, reason, Instant::now())
    }

    fn allow_at(&self, kind: LineKind, reason: &'static str, now: Instant) -> Option<Omitted> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.iter_mut().find(|line| (line.kind, line.reason) == (kind, reason)) {
            Some(line) => allow(&mut line.passed, now, ACCOUNT_INTERVAL),
            None => {
                lines.push(AccountLine { kind, reason, passed: Some(Passed { last: now, omitted: 0 }) });
                Some(Omitted(0))
            }
        }
    }

    /// The lines that were suppressed and whose minute is over, so that the end of a flood is logged, too; all of them
    /// when the server ends.
    pub(crate) fn take_omitted(&self, all: bool) -> Vec<(LineKind, &'static str, Omitted)> {
        self.take_omitted_at(all, Instant::now())
    }

    fn take_omitted_at(&self, all: bool, now: Instant) -> Vec<(LineKind, &'static str, Omitted)> {
        let mut taken = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|AccountLine { kind, reason, passed }| {
            let is_over = |last| all || now.saturating_duration_since(last) >= ACCOUNT_INTERVAL;
            let Some(Passed { omitted, .. }) = passed.as_ref().filter(|passed| is_over(passed.last)) else {
                return true;
            };
            if *omitted > 0 {
                taken.push((*kind, *reason, Omitted(*omitted)));
            }
            false
        });
        taken
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
        assert_eq!((line(LIMIT_INTERVAL / 2), line(LIMIT_INTERVAL / 2)), (None, None));
        assert_eq!(line(LIMIT_INTERVAL).as_deref(), Some(" (2 more times since the last line)"));
        assert_eq!((line(LIMIT_INTERVAL), line(2 * LIMIT_INTERVAL).is_some()), (None, true));
    }

    #[test]
    fn an_account_has_a_line_for_each_reason_and_minute_and_the_rest_is_counted() {
        let (lines, start) = (AccountLines::default(), Instant::now());
        let line = |kind, reason, after| lines.allow_at(kind, reason, start + after).map(|omitted| omitted.0);
        let (refused, defaulted) = (LineKind::Refused, LineKind::Defaulted);
        assert_eq!(line(refused, "stale", Duration::ZERO), Some(0));
        assert_eq!(
            (line(refused, "plaintext", Duration::ZERO), line(defaulted, "stale", Duration::ZERO)),
            (Some(0), Some(0))
        );
        for _ in 0..599 {
            assert_eq!(line(refused, "stale", ACCOUNT_INTERVAL / 2), None);
        }
        let taken = |all, after| lines.take_omitted_at(all, start + after);
        assert_eq!(taken(false, ACCOUNT_INTERVAL / 2), []);
        assert_eq!(taken(false, ACCOUNT_INTERVAL), [(refused, "stale", Omitted(599))]);
        assert_eq!(taken(false, ACCOUNT_INTERVAL), [], "it is said once, and nothing is kept");
        assert_eq!(lines.0.lock().unwrap().len(), 0);
        // Whichever comes first says it: the next line, or the end of the minute or of the server.
        assert_eq!(
            (line(refused, "stale", ACCOUNT_INTERVAL), line(refused, "stale", ACCOUNT_INTERVAL)),
            (Some(0), None)
        );
        assert_eq!(line(refused, "stale", 2 * ACCOUNT_INTERVAL), Some(1));
        assert_eq!(
            (line(refused, "stale", 2 * ACCOUNT_INTERVAL), taken(true, ACCOUNT_INTERVAL)),
            (None, vec![(refused, "stale", Omitted(1))])
        );
    }
}
