//! Identities: UUIDs of version 7 that grow, and the number that a file is ordered by.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

use super::Millis;

/// Bits below the milliseconds that count events within one.
const COUNTER: u32 = 12;

/// Makes identities that grow: within one millisecond they count, and a clock that jumps back is not followed.
#[derive(Debug, Default)]
pub struct Ids {
    /// Milliseconds and counter of the latest.
    latest: AtomicU64,
}

impl Ids {
    /// Identities later than the one with this number (see `number`).
    pub fn after(latest: u64) -> Self {
        Self { latest: AtomicU64::new(latest) }
    }

    /// The next identity, for an event of this time.
    pub fn next(&self, now: Millis) -> Uuid {
        let now = number_at(now);
        let next = |latest: u64| now.max(latest + 1);
        let latest = self.latest.update(Ordering::Relaxed, Ordering::Relaxed, next);
        uuid(next(latest), rand::random())
    }
}

fn uuid(number: u64, random: u64) -> Uuid {
    let mut bytes = [0; 10];
    let counter = u16::try_from(number & 0xFFF).unwrap_or_default();
    bytes[..2].copy_from_slice(&counter.to_be_bytes());
    bytes[2..].copy_from_slice(&random.to_be_bytes());
    Builder::from_unix_timestamp_millis(number >> COUNTER, &bytes).into_uuid()
}

/// The part of an identity that orders: milliseconds and counter. Unique within one file, since one process makes them.
pub(super) fn number(id: Uuid) -> u64 {
    let (high, _) = id.as_u64_pair();
    (high >> 16) << COUNTER | high & 0xFFF
}

/// The same identity with another number.
pub(super) fn with_number(id: Uuid, of: u64) -> Uuid {
    let (high, low) = id.as_u64_pair();
    Uuid::from_u64_pair((of >> COUNTER) << 16 | high & 0xF000 | of & 0xFFF, low)
}

/// When an identity was made, in milliseconds.
pub(super) fn millis_of(id: Uuid) -> Millis {
    (number(id) >> COUNTER).cast_signed()
}

/// The identity that every event of this time comes after.
pub(super) fn at(millis: Millis) -> Uuid {
    Uuid::from_u64_pair((millis.max(0).cast_unsigned() & 0xFFFF_FFFF_FFFF) << 16, 0)
}

/// The lowest number of an event of this time.
pub(super) fn number_at(millis: Millis) -> u64 {
    millis.max(0).cast_unsigned() << COUNTER
}

#[cfg(test)]
mod tests {
    use super::{super::now_millis, *};

    #[test]
    fn identities_are_version_7_and_grow_also_when_the_clock_jumps_back() {
        let future = number_at(now_millis() + 86_400_000);
        for ids in [Ids::default(), Ids::after(future)] {
            let some: Vec<Uuid> = (0..10_000).map(|_| ids.next(now_millis())).collect();
            assert!(some.is_sorted_by(|a, b| a < b && number(*a) < number(*b)));
            assert!(some.iter().all(|id| id.get_version_num() == 7));
        }
        assert!(number(Ids::after(future).next(now_millis())) > future);
    }

    #[test]
    fn number_and_identity_fit() {
        let number_ = number_at(1_790_000_000_123) + 4095;
        let id = uuid(number_, u64::MAX);
        assert_eq!(number(id), number_);
        assert_eq!(super::with_number(uuid(5 << 12, u64::MAX), number_), id);
        assert_eq!(id.get_timestamp().map(|time| time.to_unix().0), Some(1_790_000_000));
    }
}
