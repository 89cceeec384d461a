//! Events by the beginning of their ids, as tables show them.

use std::{error::Error, str::FromStr};

use uuid::Uuid;

use super::archive::{PAGE_SIZE, print_time};
use crate::journal::{Archive, Filter, Stored};

/// Digits of an id that are enough for the time of an event, with the rest of its group.
pub(super) const SHORT_ID: usize = 18;

/// Fewer digits are most likely a mistake.
const LEAST_DIGITS: usize = 4;

/// How many events are named that an id may mean.
const MAX_NAMED: usize = 5;

/// The digits of an id, or the first ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventId(String);

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected the id of an event, or its first 4 characters or more";
        // As a table shows one that it has cut.
        let text = text.trim_end_matches(['…', '.']);
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        let is_id =
            (LEAST_DIGITS..=32).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_id { Ok(Self(digits.to_ascii_lowercase())) } else { Err(EXPECTED) }
    }
}

impl EventId {
    /// The event that is meant; whether one with a whole id is there is not looked up.
    ///
    /// # Errors
    /// When no event has such an id, or several have.
    pub(super) async fn resolve(&self, archive: &dyn Archive) -> Result<Uuid, Box<dyn Error>> {
        if let Ok(whole) = Uuid::try_parse(&self.0).map_err(drop) {
            return Ok(whole);
        }
        let mut found = self.search(archive).await?;
        match found.len() {
            0 => Err(format!("no event whose id begins with {}; {NOT_THERE}", self.shown()).into()),
            1 => Ok(found.remove(0).id),
            _ => {
                let more = if found.len() > MAX_NAMED { ", and more" } else { "" };
                let named: Vec<String> = found.iter().take(MAX_NAMED).map(describe).collect();
                Err(format!("{} is the beginning of several ids: {}{more}", self.shown(), named.join(", ")).into())
            }
        }
    }

    /// The events whose ids begin so, one more than are named at most.
    async fn search(&self, archive: &dyn Archive) -> Result<Vec<Stored>, Box<dyn Error>> {
        /// Digits of the time, in milliseconds.
        const OF_TIME: usize = 12;
        let time: String = self.0.chars().chain(std::iter::repeat('0')).take(OF_TIME).collect();
        let first = u64::from_str_radix(&time, 16)? << 16;
        // Behind every event of the millisecond before.
        let mut after = Uuid::from_u64_pair(first.saturating_sub(1), u64::MAX);
        let last: String = self.0.chars().chain(std::iter::repeat('f')).take(32).collect();
        let last = Uuid::from_u128(u128::from_str_radix(&last, 16)?);
        let mut found = Vec::new();
        loop {
            let page = archive.events(&Filter::default(), Some(after), PAGE_SIZE.min(100)).await?;
            let Some(end) = page.last().map(|stored| stored.id) else { return Ok(found) };
            after = end;
            found.extend(page.into_iter().filter(|stored| stored.id.simple().to_string().starts_with(&self.0)));
            found.truncate(MAX_NAMED + 1);
            if end > last || found.len() > MAX_NAMED {
                return Ok(found);
            }
        }
    }

    fn shown(&self) -> String {
        const GROUPS: [usize; 4] = [8, 12, 16, 20];
        let mut shown = String::new();
        for (at, digit) in self.0.chars().enumerate() {
            if GROUPS.contains(&at) {
                shown.push('-');
            }
            shown.push(digit);
        }
        shown
    }
}

/// Why an event may not be there.
pub(super) const NOT_THERE: &str =
    "events are removed after `retention`, and \"before\" callbacks of IM are stored only if an observer wants them";

fn describe(stored: &Stored) -> String {
    let record = &stored.record;
    format!("{} ({} {} {})", stored.id, record.account, record.event_type, print_time(record.received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_written_in_part() {
        let id = |text: &str| text.parse::<EventId>().map(|id| id.shown());
        for (text, expected) in [
            ("019ad1f2-7c3e-7001-8000-000000000000", "019ad1f2-7c3e-7001-8000-000000000000"),
            ("019AD1F27C3E", "019ad1f2-7c3e"),
            ("019ad1f2-7c3e-70…", "019ad1f2-7c3e-70"),
            ("019a", "019a"),
        ] {
            assert_eq!(id(text).as_deref(), Ok(expected));
        }
        for wrong in ["", "019", "…", "xyz0", "019ad1f2-7c3e-7001-8000-0000000000001", "mp/shop"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
