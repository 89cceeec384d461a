//! The journal in memory, for tests and trials: bounded, and gone with the process.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hashbrown::{HashTable, hash_table};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Admission, Entry, Facts, Finish, Finished, Held, Ids, Journal, JournalError, Lease, Leased, Millis, NewEvent,
    Observer, Options, Pulled, Reply, Task, Usage, WriteSlot, millis,
};
use crate::platform::{self, Body, DedupeKey};

/// How long an event is remembered; the longest schedule of repeats of a message is over by then.
const REMEMBERED: Millis = 600_000;

/// What one event takes with its reply, roughly.
const EVENT: usize = 640;

/// Remembers the latest events, as many as fit, and what observers have still to see.
#[derive(Debug)]
pub struct MemoryJournal {
    max_events: usize,
    in_order: HashMap<Arc<str>, bool>,
    ids: Ids,
    started: Instant,
    state: Mutex<State>,
    arrivals: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By key. A table that is small stays where it is fast: what is in the entries is not touched to find one.
    events: HashTable<Remembered>,
    /// In the order of admission, so the oldest are forgotten first.
    order: VecDeque<Remembered>,
    /// What each observer has still to see, by event.
    deliveries: HashMap<Arc<str>, BTreeMap<Uuid, Delivery>>,
    slots: HashMap<Arc<str>, Slot>,
    waiting: usize,
    dead: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slot {
    value: Option<String>,
    fence: i64,
    until: Millis,
    expires: Option<Millis>,
}

impl Slot {
    fn is_over(&self, now: Millis) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    entry: Arc<Entry>,
    admitted: Millis,
}

impl Remembered {
    fn has(&self, key: &DedupeKey) -> bool {
        self.entry.key.is_some_and(|own| own.bytes == key.bytes)
    }

    fn hash(&self) -> u64 {
        self.entry.key.map_or(0, |key| key.hash())
    }

    /// Whether a delivery with its key is still the same event.
    fn stands(&self, now: Millis) -> bool {
        let window = self.entry.key.and_then(|key| key.window).map_or(REMEMBERED, millis).min(REMEMBERED);
        now - self.admitted < window
    }
}

#[derive(Debug)]
struct Delivery {
    facts: Facts,
    /// Where the event's reply is told.
    entry: Arc<Entry>,
    due: Millis,
    attempts: u32,
    leased: bool,
}

impl MemoryJournal {
    /// A journal that holds about [`Options::max_size`] bytes.
    pub fn new(options: &Options) -> Self {
        let limit = usize::try_from(options.max_size).unwrap_or(usize::MAX);
        let in_order = |observer: &Observer| (Arc::clone(&observer.name), observer.in_order);
        Self {
            max_events: (limit / EVENT).clamp(1, 1 << 20),
            in_order: options.observers.iter().map(in_order).collect(),
            ids: Ids::default(),
            started: Instant::now(),
            state: Mutex::default(),
            arrivals: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        millis(self.started.elapsed())
    }

    fn admit_now(&self, event: NewEvent) -> Result<Admission, JournalError> {
        let now = self.now();
        let mut state = self.lock();
        if state.closed {
            return Err(JournalError::Closed);
        }
        if state.waiting >= self.max_events && !event.observers.is_empty() {
            return Err(JournalError::Full);
        }
        let entry = match event.key {
            Some(key) => match state.claim(key, event.id, now, self.max_events) {
                Admission::Run(entry) => entry,
                known @ Admission::Known(_) => return Ok(known),
            },
            None => Entry::new(event.id, None, 1),
        };
        entry.mark_stored();
        if !event.observers.is_empty() {
            state.offer(&event.facts, &entry, event.observers, now);
            self.arrivals.notify_waiters();
        }
        Ok(Admission::Run(entry))
    }

    /// A reply that is to be sent.
    fn offer_late(&self, entry: &Arc<Entry>, reply: &Reply) {
        let Some(sender) = &reply.sender else { return };
        // What a repeat is told is another matter.
        let replied = Entry::answered_with(entry.id, 1, reply.body.clone());
        self.lock().offer(&sender.facts, &replied, vec![Arc::clone(&sender.observer)], self.now());
        self.arrivals.notify_waiters();
    }

    /// The reply of an event that was asked for: its observers are given it from now on.
    fn replied(&self, entry: &Entry, reply: &Body) {
        let mut state = self.lock();
        let same = state.deliveries.values_mut().filter_map(|deliveries| deliveries.get_mut(&entry.id));
        same.for_each(|delivery| delivery.entry.settle(Ok(reply.clone())));
    }

    fn hold_now(&self, name: &str, term: Duration) -> Option<Held> {
        let now = self.now();
        let mut state = self.lock();
        state.slots.retain(|_, slot| !slot.is_over(now));
        let name: Arc<str> = name.into();
        let slot = state.slots.entry(Arc::clone(&name)).or_default();
        if slot.until > now {
            return None;
        }
        (slot.fence, slot.until, slot.expires) = (slot.fence + 1, now.saturating_add(millis(term)), None);
        Some(Held { name, value: slot.value.clone(), fence: slot.fence })
    }

    fn write_now(&self, held: &Held, write: WriteSlot) -> Result<usize, JournalError> {
        let now = self.now();
        let mut state = self.lock();
        if state.waiting >= self.max_events && !write.events.is_empty() {
            return Err(JournalError::Full);
        }
        let slot = state.slots.get_mut(&held.name).filter(|slot| slot.fence == held.fence);
        let slot = slot.ok_or(JournalError::Lost)?;
        let after = |time: Option<Duration>| time.map(|time| now.saturating_add(millis(time)));
        slot.value = write.value.or(slot.value.take());
        (slot.until, slot.expires) = (after(write.keep).unwrap_or_default(), after(write.expires));
        let mut admitted = 0;
        for Pulled { event, responds } in write.events {
            let entry = match event.key {
                Some(key) => match state.claim(key, event.id, now, self.max_events) {
                    Admission::Run(entry) => entry,
                    Admission::Known(_) => continue,
                },
                None => Entry::new(event.id, None, 1),
            };
            entry.mark_stored();
            if !responds {
                entry.settle(Ok(Body::Plain(platform::plain_success(event.facts.platform))));
            }
            state.offer(&event.facts, &entry, event.observers, now);
            admitted += 1;
        }
        if admitted > 0 {
            self.arrivals.notify_waiters();
        }
        Ok(admitted)
    }

    fn lease_now(&self, observer: &str, limit: usize, term: Duration) -> Vec<Leased> {
        let now = self.now();
        let until = now.saturating_add(millis(term));
        let mut state = self.lock();
        let Some((name, in_order)) = self.in_order.get_key_value(observer) else { return Vec::new() };
        let Some(deliveries) = state.deliveries.get_mut(observer) else { return Vec::new() };
        let mut lanes = HashSet::new();
        let mut leased = Vec::new();
        for (id, delivery) in deliveries.iter_mut() {
            if leased.len() >= limit {
                break;
            }
            // The first of a lane holds back the others, whatever it waits for.
            let first = !in_order || delivery.facts.subject.clone().is_none_or(|subject| lanes.insert(subject));
            if first && delivery.due <= now {
                (delivery.due, delivery.leased) = (until, true);
                delivery.attempts += 1;
                let lease = Lease { id: *id, observer: Arc::clone(name), attempt: delivery.attempts, until };
                let reply = delivery.entry.reply().and_then(|reply| reply.clone().ok());
                leased.push(Leased { lease, facts: delivery.facts.clone(), reply });
            }
        }
        leased
    }

    fn finish_now(&self, Finished { lease, outcome }: Finished) {
        let now = self.now();
        let mut state = self.lock();
        let Some(deliveries) = state.deliveries.get_mut(&lease.observer) else { return };
        let Some(delivery) = deliveries.get_mut(&lease.id) else { return };
        if !delivery.leased || delivery.attempts != lease.attempt {
            return;
        }
        delivery.leased = false;
        match outcome {
            Finish::Retry { after, error: _ } => delivery.due = now.saturating_add(millis(after)),
            Finish::Released => (delivery.due, delivery.attempts) = (now, lease.attempt - 1),
            done @ (Finish::Done | Finish::Dead { .. }) => {
                deliveries.remove(&lease.id);
                state.waiting -= 1;
                state.dead += u64::from(done != Finish::Done);
            }
        }
    }
}

impl State {
    fn offer(&mut self, facts: &Facts, entry: &Arc<Entry>, observers: Vec<Arc<str>>, due: Millis) {
        for observer in observers {
            let (facts, entry) = (facts.clone(), Arc::clone(entry));
            let id = entry.id;
            let delivery = Delivery { facts, entry, due, attempts: 0, leased: false };
            self.deliveries.entry(observer).or_default().insert(id, delivery);
            self.waiting += 1;
        }
    }

    /// Enters a key, or finds the event that has it.
    fn claim(&mut self, key: DedupeKey, id: Uuid, now: Millis, max_events: usize) -> Admission {
        let known = self.events.find(key.hash(), |known| known.has(&key));
        if let Some(known) = known.filter(|known| known.stands(now)) {
            known.entry.delivered_again();
            return Admission::Known(Arc::clone(&known.entry));
        }
        let forgotten = self.make_room(now, max_events);
        let entry = Entry::renewed(forgotten, id, key);
        let remembered = Remembered { entry: Arc::clone(&entry), admitted: now };
        match self.events.entry(key.hash(), |known| known.has(&key), Remembered::hash) {
            hash_table::Entry::Occupied(mut over) => *over.get_mut() = remembered.clone(),
            hash_table::Entry::Vacant(place) => drop(place.insert(remembered.clone())),
        }
        self.order.push_back(remembered);
        Admission::Run(entry)
    }

    /// Forgets what is too old, and of what is too much the oldest; gives what was forgotten last.
    fn make_room(&mut self, now: Millis, max_events: usize) -> Option<Arc<Entry>> {
        let mut forgotten = None;
        while let Some(oldest) = self.order.front() {
            if now - oldest.admitted <= REMEMBERED && self.order.len() < max_events {
                break;
            }
            // The key may have been admitted anew after its window.
            let is_oldest = |known: &Remembered| Arc::ptr_eq(&known.entry, &oldest.entry);
            if let Ok(known) = self.events.find_entry(oldest.hash(), is_oldest) {
                known.remove();
            }
            forgotten = self.order.pop_front().map(|oldest| oldest.entry);
        }
        forgotten
    }
}

impl Journal for MemoryJournal {
    fn next_id(&self, received: Millis) -> Uuid {
        self.ids.next(received)
    }

    fn admit(&self, event: NewEvent) -> Task<'_, Admission> {
        Box::pin(ready(self.admit_now(event)))
    }

    fn store(&self, _entry: &Arc<Entry>) {}

    fn record(&self, entry: &Arc<Entry>, reply: Reply) {
        if reply.is_late() {
            self.offer_late(entry, &reply);
        }
        if entry.pulled {
            self.replied(entry, &reply.body);
        }
        entry.settle(Ok(reply.told()));
    }

    fn read_slot(&self, name: &str) -> Task<'_, Option<String>> {
        let now = self.now();
        let value = self.lock().slots.get(name).filter(|slot| !slot.is_over(now)).and_then(|slot| slot.value.clone());
        Box::pin(ready(Ok(value)))
    }

    fn hold_slot(&self, name: &str, term: Duration) -> Task<'_, Option<Held>> {
        Box::pin(ready(Ok(self.hold_now(name, term))))
    }

    fn write_slot(&self, held: &Held, write: WriteSlot) -> Task<'_, usize> {
        Box::pin(ready(self.write_now(held, write)))
    }

    fn lease(&self, observer: &str, limit: usize, term: Duration) -> Task<'_, Vec<Leased>> {
        Box::pin(ready(Ok(self.lease_now(observer, limit, term))))
    }

    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()> {
        finished.into_iter().for_each(|one| self.finish_now(one));
        Box::pin(ready(Ok(())))
    }

    fn arrivals(&self) -> &Notify {
        &self.arrivals
    }

    fn health(&self) -> Result<(), JournalError> {
        let state = self.lock();
        match () {
            () if state.closed => Err(JournalError::Closed),
            () if state.waiting >= self.max_events => Err(JournalError::Full),
            () => Ok(()),
        }
    }

    fn usage(&self) -> Usage {
        let state = self.lock();
        let bytes = ((state.events.len() + state.waiting) * EVENT) as u64;
        Usage { bytes, waiting: state.waiting as u64, dead: state.dead }
    }

    fn close(&self) -> Task<'_, ()> {
        self.lock().closed = true;
        Box::pin(ready(Ok(())))
    }
}
