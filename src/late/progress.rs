//! How far the parts of a reply are sent: the value of a named lease.

use std::fmt;

/// That the only part is being sent, or may have been; that everything was sent.
const BEGUN: &str = "begun";
const SENT: &str = "sent";

/// Between the parts that were sent and those whose outcome is not known.
const UNKNOWN: &str = " unknown ";

/// How far the parts of a reply are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// How many there are.
    parts: usize,
    /// The part that is sent next, from 0.
    pub(super) next: usize,
    /// Whether that was begun.
    pub(super) is_begun: bool,
    /// Parts before it that may have been sent or not.
    pub(super) unknown: Vec<usize>,
}

impl Progress {
    /// Nothing was sent of so many parts.
    pub(super) const fn new(parts: usize) -> Self {
        Self { parts, next: 0, is_begun: false, unknown: Vec::new() }
    }

    /// Reads a value. Of one that cannot be read everything may have been sent.
    pub(super) fn parse(value: &str, parts: usize) -> Self {
        let nothing_known = || Self { next: parts, unknown: (0..parts).collect(), ..Self::new(parts) };
        if value == SENT {
            return Self { next: parts, ..Self::new(parts) };
        }
        if value == BEGUN && parts == 1 {
            return Self { is_begun: true, ..Self::new(parts) };
        }
        let read = || {
            let (place, unknown) = value.split_once(UNKNOWN).unwrap_or((value, ""));
            let (what, next) = place.split_once(' ')?;
            let numbers = unknown.split(',').filter(|number| !number.is_empty()).map(str::parse);
            let unknown = numbers.collect::<Result<Vec<usize>, _>>().ok()?;
            Some(Self { parts, next: next.parse().ok()?, is_begun: what == BEGUN, unknown })
        };
        read().unwrap_or_else(nothing_known)
    }

    /// Whether something is still to be sent.
    pub(super) const fn is_open(&self) -> bool {
        self.next < self.parts
    }

    /// Goes on behind the part that was begun.
    pub(super) const fn pass(&mut self) {
        self.next += 1;
        self.is_begun = false;
    }

    /// Goes on behind it, and does not know whether it was sent.
    pub(super) fn pass_unknown(&mut self) {
        self.unknown.push(self.next);
        self.pass();
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parts, next, is_begun, unknown } = self;
        if *parts == 1 && (*is_begun || !unknown.is_empty()) {
            return f.write_str(BEGUN);
        }
        if !self.is_open() && unknown.is_empty() {
            return f.write_str(SENT);
        }
        write!(f, "{} {next}", if *is_begun { BEGUN } else { "parts" })?;
        let unknown: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        if unknown.is_empty() { Ok(()) } else { write!(f, "{UNKNOWN}{}", unknown.join(",")) }
    }
}

/// Parts as a reader counts them: `the part 2 of 5`.
pub(super) fn named(unknown: &[usize], parts: usize) -> String {
    let numbers: Vec<String> = unknown.iter().map(|part| (part + 1).to_string()).collect();
    format!("the part {} of {parts}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Progress, named};

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for (progress, value) in [
            (Progress::new(1), "parts 0"),
            (Progress { is_begun: true, ..Progress::new(1) }, "begun"),
            (Progress { next: 1, ..Progress::new(1) }, "sent"),
            (Progress { is_begun: true, ..Progress::new(5) }, "begun 0"),
            (Progress { next: 3, ..Progress::new(5) }, "parts 3"),
            (Progress { next: 4, is_begun: true, unknown: vec![1, 3], ..Progress::new(5) }, "begun 4 unknown 1,3"),
            (Progress { next: 5, unknown: vec![4], ..Progress::new(5) }, "parts 5 unknown 4"),
            (Progress { next: 5, ..Progress::new(5) }, "sent"),
        ] {
            assert_eq!(progress.to_string(), value);
            assert_eq!(Progress::parse(value, progress.parts), progress, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_sent_again() {
        for value in ["", "begun", "begun x", "parts", "parts 1 unknown x"] {
            let progress = Progress::parse(value, 3);
            assert!(!progress.is_open(), "{value}");
            assert_eq!(named(&progress.unknown, 3), "the part 1, 2, 3 of 3");
        }
        let mut single = Progress::parse("begun", 1);
        assert!(single.is_open() && single.is_begun);
        single.pass_unknown();
        assert_eq!((single.is_open(), single.to_string().as_str()), (false, "begun"));
    }
}
