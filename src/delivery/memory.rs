//! What outlives a receiver: a configuration that is read again makes another one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

use crate::{
    envelope::ReplayGuard,
    journal::{Journal, Millis, millis},
};

/// Deliveries that are remembered.
const DELIVERIES: usize = 4096;

/// What a receiver remembers of what it has received.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Which signed queries were used.
    pub(crate) replays: ReplayGuard,
    /// When the latest deliveries came.
    pub(crate) deliveries: LatestDeliveries,
}

impl Memory {
    /// With the queries that the process before has used.
    pub(crate) fn of(journal: &dyn Journal) -> Arc<Self> {
        let this = Self::default();
        journal.used_queries().iter().for_each(|used| this.replays.remember(used));
        Arc::new(this)
    }
}

/// One delivery of an event that this process has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answered {
    /// When it came.
    pub(crate) at: Millis,
    /// How long it took until it had its answer.
    pub(crate) took: Duration,
}

/// When the latest deliveries came, and how long each took. Deliveries add to it without a lock.
pub(crate) struct LatestDeliveries {
    started: Instant,
    started_at: SystemTime,
    next: AtomicUsize,
    slots: Box<[Slot]>,
}

/// A delivery; all zeros without one.
#[derive(Default)]
struct Slot {
    /// The part of the event's identity that is random.
    event: AtomicU64,
    /// Milliseconds after the start.
    at: AtomicU64,
    /// Microseconds.
    took: AtomicU32,
}

impl Default for LatestDeliveries {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            next: AtomicUsize::new(0),
            slots: (0..DELIVERIES).map(|_| Slot::default()).collect(),
        }
    }
}

impl fmt::Debug for LatestDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatestDeliveries").finish_non_exhaustive()
    }
}

impl LatestDeliveries {
    /// A delivery that came then has its answer.
    pub(crate) fn answered(&self, event: Uuid, arrived: Instant) {
        let Some(slot) = self.slots.get(self.next.fetch_add(1, Ordering::Relaxed) % DELIVERIES) else { return };
        let at = arrived.saturating_duration_since(self.started).as_millis();
        let took = u32::try_from(arrived.elapsed().as_micros()).unwrap_or(u32::MAX);
        slot.event.store(0, Ordering::Release);
        slot.at.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Release);
        slot.took.store(took, Ordering::Release);
        slot.event.store(event.as_u64_pair().1, Ordering::Release);
    }

    /// Those of an event that are remembered, the first one first.
    pub(crate) fn of(&self, event: Uuid) -> Vec<Answered> {
        let event = event.as_u64_pair().1;
        let is_of = |slot: &&Slot| slot.event.load(Ordering::Acquire) == event;
        let found = self.slots.iter().filter(is_of).filter_map(|slot| {
            let (at, took) = (slot.at.load(Ordering::Acquire), slot.took.load(Ordering::Acquire));
            // Another delivery may have taken the place meanwhile.
            is_of(&slot).then(|| Answered { at: self.time(at), took: Duration::from_micros(took.into()) })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        found
    }

    fn time(&self, after: u64) -> Millis {
        let started = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(started.saturating_add(Duration::from_millis(after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_deliveries_of_an_event_are_remembered_and_no_more() {
        let memory = LatestDeliveries::default();
        let event = |number: u64| Uuid::from_u64_pair(7, number);
        assert_eq!(memory.of(event(1)), []);
        memory.answered(event(1), Instant::now());
        memory.answered(event(2), Instant::now());
        memory.answered(event(1), Instant::now());
        assert_eq!((memory.of(event(1)).len(), memory.of(event(2)).len()), (2, 1));
        let since = memory.of(event(2)).first().map(|it| crate::journal::now_millis() - it.at);
        assert!(since.is_some_and(|since| (-1000..60_000).contains(&since)), "{since:?}");
        for number in 0..DELIVERIES as u64 {
            memory.answered(event(10 + number), Instant::now());
        }
        assert_eq!((memory.of(event(1)), memory.of(event(10)).len()), (Vec::new(), 1));
    }
}
