//! A platform's list of the addresses that its callbacks come from.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{config::IpRange, journal::Millis};

/// Entries of one list, at most: the platforms' have some hundred.
const MAX_ENTRIES: usize = 4096;

/// Where a text has several entries, they stand between these.
const SEPARATORS: [char; 6] = [',', ';', ' ', '\n', '\r', '\t'];

/// The addresses that a platform calls from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressList {
    /// Disjoint, in order, the first and the last address of each; IPv4 is mapped into IPv6.
    ranges: Vec<(u128, u128)>,
    /// As the platform wrote them, without those that could not be read.
    entries: Vec<String>,
    unreadable: usize,
    fetched: Millis,
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoList {
    /// There is no address in it.
    #[error("the platform's list of addresses is empty")]
    Empty,
    /// None of its entries is an address.
    #[error("no entry of the platform's list of addresses can be read")]
    Unreadable,
    /// It is no list of a platform.
    #[error("the platform's list of addresses has more than {MAX_ENTRIES} entries")]
    TooLong,
}

/// A list as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    fetched: Millis,
    entries: Vec<String>,
}

impl AddressList {
    /// Reads what the platform answers as `ip_list`: a list of texts, or one text with all of them. Entries are addresses,
    /// `10.0.0.0/8`, or `10.0.0.*`. One that is nothing of that is left out.
    ///
    /// # Errors
    /// [`NoList`] when no address is left.
    pub(crate) fn read(answer: &Value, fetched: Millis) -> Result<Self, NoList> {
        let texts: Vec<&str> = match answer {
            Value::Array(items) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
            Value::String(text) => text.split(SEPARATORS).filter(|part| !part.is_empty()).collect(),
            _ => Vec::new(),
        };
        Self::of(texts.into_iter().map(str::to_owned).collect(), fetched)
    }

    fn of(mut entries: Vec<String>, fetched: Millis) -> Result<Self, NoList> {
        let given = entries.len();
        if given > MAX_ENTRIES {
            return Err(NoList::TooLong);
        }
        let mut ranges = Vec::with_capacity(given);
        entries.retain(|entry| {
            let range = range(entry.trim());
            ranges.extend(range.map(|range| range.bounds()));
            range.is_some()
        });
        if ranges.is_empty() {
            return Err(if given == 0 { NoList::Empty } else { NoList::Unreadable });
        }
        ranges.sort_unstable();
        ranges.dedup_by(|next, before| {
            let overlaps = next.0 <= before.1;
            if overlaps {
                before.1 = before.1.max(next.1);
            }
            overlaps
        });
        Ok(Self { ranges, unreadable: given - entries.len(), entries, fetched })
    }

    /// Reads what [`AddressList::text`] has written.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Kept { fetched, entries } = serde_json::from_str(text).ok()?;
        Self::of(entries, fetched).ok()
    }

    /// As the journal keeps it.
    pub(super) fn text(&self) -> String {
        serde_json::json!(Kept { fetched: self.fetched, entries: self.entries.clone() }).to_string()
    }

    /// Whether an address is in it. IPv4 mapped into IPv6 is the same as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let before = self.ranges.partition_point(|(first, _)| *first <= address);
        before.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }

    /// How many entries could be read.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries could not be read.
    pub(crate) const fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// When it was fetched.
    pub(crate) const fn fetched(&self) -> Millis {
        self.fetched
    }

    /// How old it is.
    pub(crate) fn age(&self, now: Millis) -> Duration {
        Duration::from_millis(u64::try_from(now.saturating_sub(self.fetched)).unwrap_or(0))
    }
}

/// An entry: what a proxy may be, too, or the first numbers of an address of IPv4 with stars for the others.
fn range(entry: &str) -> Option<IpRange> {
    let Some((numbers, stars)) = entry.split_once(".*") else { return IpRange::parse(entry) };
    let count = numbers.split('.').count();
    let is_rest = stars.len() % 2 == 0 && stars == ".*".repeat(stars.len() / 2) && count + stars.len() / 2 < 4;
    let zeros = ".0".repeat(4_usize.checked_sub(count).filter(|_| is_rest)?);
    IpRange::parse(&format!("{numbers}{zeros}/{}", 8 * count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn list(answer: &Value) -> AddressList {
        AddressList::read(answer, 7).unwrap()
    }

    fn has(list: &AddressList, address: &str) -> bool {
        list.contains(address.parse().unwrap())
    }

    #[test]
    fn entries_are_addresses_ranges_and_numbers_with_stars() {
        let list = list(&json!([
            "101.226.62.77",
            " 10.1.0.0/16 ",
            "182.254.*.*",
            "61.*",
            "101.226.103.*",
            "2402:4e00::/32",
            "::ffff:9.9.9.8/127",
            "::1",
        ]));
        assert_eq!((list.len(), list.unreadable()), (8, 0));
        for address in [
            "101.226.62.77",
            "::ffff:101.226.62.77",
            "10.1.0.0",
            "10.1.255.255",
            "182.254.0.1",
            "182.254.255.255",
            "61.1.2.3",
            "101.226.103.0",
            "101.226.103.255",
            "2402:4e00:ffff::1",
            "9.9.9.9",
            "::ffff:9.9.9.8",
            "::1",
        ] {
            assert!(has(&list, address), "{address}");
        }
        for address in [
            "101.226.62.76",
            "101.226.62.78",
            "10.0.255.255",
            "10.2.0.0",
            "182.255.0.0",
            "60.255.255.255",
            "62.0.0.0",
            "101.226.104.0",
            "2402:4e01::",
            "9.9.9.10",
            "::2",
            "::",
            "0.0.0.1",
            "255.255.255.255",
            "2402:4dff:ffff::",
        ] {
            assert!(!has(&list, address), "{address}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_nothing_is_no_list() {
        let wrong = [
            "",
            "localhost",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.4/33",
            "*",
            "*.*.*.*",
            "1.2.*.4",
            "1.2.3.4.*",
            "1.*.*.*.*",
            "1.2.3.*/24",
            "1.2..*",
            "a.*",
            "1.2.3.**",
            "-1.*",
            "1.2.3.4-1.2.3.9",
        ];
        let mixed = list(&json!(
            wrong.iter().map(|entry| json!(entry)).chain([json!(1), json!(null), json!("1.2.3.4")]).collect::<Vec<_>>()
        ));
        assert_eq!((mixed.len(), mixed.unreadable()), (1, wrong.len() + 2), "{mixed:?}");
        assert!(has(&mixed, "1.2.3.4") && !has(&mixed, "1.2.3.5"));
        for (answer, why) in [
            (json!([]), NoList::Empty),
            (json!(null), NoList::Empty),
            (json!({}), NoList::Empty),
            (json!(""), NoList::Empty),
            (json!(wrong), NoList::Unreadable),
            (json!(vec!["1.2.3.4"; MAX_ENTRIES + 1]), NoList::TooLong),
        ] {
            assert_eq!(AddressList::read(&answer, 7), Err(why), "{answer}");
        }
        assert_eq!(list(&json!(vec!["1.2.3.4"; MAX_ENTRIES])).len(), MAX_ENTRIES);
        assert!(has(&list(&json!("1.2.3.4, 5.6.7.*")), "5.6.7.8"), "one text with all of them");
    }

    #[test]
    fn it_is_kept_as_it_is() {
        let fetched = list(&json!(["1.2.3.*", "nothing", "::1"]));
        let kept = AddressList::parse(&fetched.text()).unwrap();
        assert_eq!((&kept.ranges, &kept.entries, kept.fetched()), (&fetched.ranges, &fetched.entries, 7));
        for text in ["", "{}", "null", "[]", r#"{"fetched":1,"entries":[]}"#, r#"{"fetched":1,"entries":["x"]}"#] {
            assert_eq!(AddressList::parse(text), None, "{text}");
        }
        assert_eq!((kept.age(1007), kept.age(0)), (Duration::from_secs(1), Duration::ZERO));
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_list_when_it_is_in_an_entry(
            entries in prop::collection::vec((any::<u32>(), 0_u8..=32), 1..40), near in any::<u32>(), at in any::<prop::sample::Index>(),
        ) {
            let texts: Vec<_> = entries.iter().map(|(address, bits)| format!("{}/{bits}", IpAddr::from(address.to_be_bytes()))).collect();
            let list = list(&json!(texts));
            let (base, _) = at.get(&entries);
            for address in [near, *base, base.wrapping_add(1), base.wrapping_sub(1), base ^ 1 << (near % 32)] {
                let address = IpAddr::from(address.to_be_bytes());
                let expected = texts.iter().any(|text| IpRange::parse(text).unwrap().contains(address));
                prop_assert_eq!(list.contains(address), expected, "{} in {:?}", address, texts);
            }
        }

        #[test]
        fn no_text_is_a_panic(entry in "[0-9a-f.:*/ ]{0,24}|.{0,12}") {
            let _ = AddressList::read(&json!([entry]), 0);
        }
    }
}
