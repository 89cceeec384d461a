//! Ages of requests in words.

use std::{fmt, time::Duration};

/// How old a request is; negative: it is from the future.
pub(super) struct Age(pub(super) i64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = in_words(self.0.unsigned_abs());
        if self.0 < 0 { write!(f, "{words} in the future") } else { write!(f, "{words} old") }
    }
}

/// A duration as somebody would say it.
pub(super) fn duration_in_words(duration: Duration) -> String {
    in_words(duration.as_secs())
}

/// In the unit of which there are two at least.
fn in_words(seconds: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("day", 86_400), ("hour", 3600), ("minute", 60)];
    let unit = UNITS.iter().find(|(_, length)| seconds >= 2 * length || (seconds == *length));
    let (name, count) = unit.map_or(("second", seconds), |(name, length)| (*name, seconds / length));
    let end = if count == 1 { "" } else { "s" };
    format!("{} {name}{end}", with_commas(count))
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_said_in_words() {
        for (seconds, expected) in [
            (0, "0 seconds old"),
            (1, "1 second old"),
            (90, "90 seconds old"),
            (60, "1 minute old"),
            (601, "10 minutes old"),
            (3600, "1 hour old"),
            (5400, "90 minutes old"),
            (86_400, "1 day old"),
            (100_000, "27 hours old"),
            (95_610_445, "1,106 days old"),
            (-700, "11 minutes in the future"),
            (i64::MAX, "106,751,991,167,300 days old"),
        ] {
            assert_eq!(Age(seconds).to_string(), expected);
        }
        assert_eq!(Age(i64::MIN).to_string(), "106,751,991,167,300 days in the future");
        assert_eq!(duration_in_words(Duration::from_secs(300)), "5 minutes");
    }
}
