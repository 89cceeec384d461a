//! The journal in memory, for tests and trials: bounded, and gone with the process.
//!
//! The bound is in bytes (`room.rs`). For what is new, the oldest events are forgotten that are answered and that observers
//! have seen; when there are none left, nothing more is taken.

mod room;
mod state;

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use uuid::Uuid;

use self::{
    room::of_slot,
    state::{State, Wanted},
};
use super::{
    Admission, Entry, Finish, Finished, Held, Ids, Journal, JournalError, Lease, Leased, Millis, NewEvent, Observer,
    Options, Pulled, Reply, Room, Task, Undecoded, Usage, WriteSlot, millis, model::plain_success,
};
use crate::platform::DedupeKey;

/// Remembers the latest events, as many as fit, and what observers have still to see.
#[derive(Debug)]
pub struct MemoryJournal {
    in_order: HashMap<Arc<str>, bool>,
    ids: Ids,
    started: Instant,
    state: Mutex<State>,
    arrivals: Notify,
}

impl MemoryJournal {
    /// A journal that holds [`Options::max_size`] bytes.
    pub fn new(options: &Options) -> Self {
        let limit = usize::try_from(options.max_size).unwrap_or(usize::MAX);
        let in_order = |observer: &Observer| (Arc::clone(&observer.name), observer.in_order);
        Self {
            in_order: options.observers.iter().map(in_order).collect(),
            ids: Ids::default(),
            started: Instant::now(),
            state: Mutex::new(State::new(limit)),
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
        if let Some(known) = event.key.and_then(|key| state.known(&key, now)) {
            known.delivered_again();
            return Ok(Admission::Known(Arc::clone(known)));
        }
        let forgotten = state.make_room(now, Wanted::of(&event))?;
        let entry = state.enter(&event, forgotten, now);
        entry.mark_stored();
        if !event.observers.is_empty() {
            state.offer(event.facts, &entry, event.observers, now, false);
            self.arrivals.notify_waiters();
        }
        Ok(Admission::Run(entry))
    }

    /// Counts another delivery of an event that is known.
    fn join(&self, key: &DedupeKey) -> Option<Result<Admission, JournalError>> {
        let now = self.now();
        let state = self.lock();
        if state.closed {
            return Some(Err(JournalError::Closed));
        }
        let known = state.known(key, now)?;
        known.delivered_again();
        Some(Ok(Admission::Known(Arc::clone(known))))
    }

    /// A reply that is to be sent. There is room for it: the responder held it until now.
    fn offer_late(&self, entry: &Arc<Entry>, reply: &Reply) {
        let Some(sender) = &reply.sender else { return };
        // What a repeat is answered is another matter.
        let replied = Entry::answered_with(entry.id, 1, reply.body.clone());
        self.lock().offer(sender.facts.clone(), &replied, vec![Arc::clone(&sender.observer)], self.now(), false);
        self.arrivals.notify_waiters();
    }

    fn hold_now(&self, name: &str, term: Duration) -> Result<Option<Held>, JournalError> {
        let now = self.now();
        let mut state = self.lock();
        let state = &mut *state;
        state.sweep(now);
        if state.slots.get(name).is_some_and(|slot| slot.until > now) {
            return Ok(None);
        }
        let name: Arc<str> = name.into();
        if !state.slots.contains_key(&name) {
            state.grow_slot(&name, None, None)?;
        }
        state.fence += 1;
        let fence = state.fence;
        let slot = state.slots.entry(Arc::clone(&name)).or_default();
        if slot.is_over(now) {
            slot.expires = None;
            let gone = slot.value.take();
            state.room.resize_slot(of_slot(&name, gone.as_ref()), of_slot(&name, None));
        }
        (slot.fence, slot.until, slot.expires) = (fence, now.saturating_add(millis(term)), None);
        Ok(Some(Held { name, value: slot.value.clone(), fence }))
    }

    fn write_now(&self, held: &Held, write: WriteSlot) -> Result<usize, JournalError> {
        let now = self.now();
        let mut state = self.lock();
        let slot = state.slots.get(&held.name).filter(|slot| slot.fence == held.fence).ok_or(JournalError::Lost)?;
        let before = slot.value.as_ref().map(String::capacity);
        let is_new = |one: &&Pulled| one.event.key.is_none_or(|key| state.known(&key, now).is_none());
        let wanted = write.events.iter().filter(is_new).map(|one| Wanted::of(&one.event));
        let wanted = wanted.reduce(|one, other| Wanted {
            observed: one.observed + other.observed,
            remembered: one.remembered + other.remembered,
        });
        if let Some(wanted) = wanted {
            state.make_room(now, wanted)?;
        }
        if let Some(value) = &write.value {
            state.grow_slot(&held.name, before, Some(value))?;
        }
        let slot = state.slots.get_mut(&held.name).ok_or(JournalError::Lost)?;
        let after = |time: Option<Duration>| time.map(|time| now.saturating_add(millis(time)));
        slot.value = write.value.or(slot.value.take());
        (slot.until, slot.expires) = (after(write.keep).unwrap_or_default(), after(write.expires));
        let mut admitted = 0;
        for Pulled { event, responds } in write.events {
            if event.key.is_some_and(|key| state.known(&key, now).is_some()) {
                continue;
            }
            let entry = state.enter(&event, None, now);
            entry.mark_stored();
            let platform = event.facts.platform;
            state.offer(event.facts, &entry, event.observers, now, true);
            if !responds {
                state.settle(&entry, plain_success(platform));
            }
            admitted += 1;
        }
        if admitted > 0 {
            self.arrivals.notify_waiters();
        }
        Ok(admitted)
    }

    fn lease_now(&self, observer: &str, room: &Room, term: Duration) -> Vec<Leased> {
        let now = self.now();
        let until = now.saturating_add(millis(term));
        let mut state = self.lock();
        let Some((name, in_order)) = self.in_order.get_key_value(observer) else { return Vec::new() };
        let Some(deliveries) = state.deliveries.get_mut(observer) else { return Vec::new() };
        let mut keys = HashSet::new();
        let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
        let mut leased = Vec::new();
        for (id, delivery) in deliveries.iter_mut() {
            if leased.len() >= room.limit {
                break;
            }
            let event = &delivery.event;
            let account = &event.facts.account;
            let of_account = taken.entry(Arc::clone(account)).or_default();
            // The first of an ordering key holds back the others, whatever it waits for.
            let key = event.facts.subject.clone().map(|subject| (Arc::clone(account), subject));
            let first = !in_order || key.is_none_or(|key| keys.insert(key));
            if first && delivery.due <= now && *of_account < room.of_account(account) {
                *of_account += 1;
                (delivery.due, delivery.leased) = (until, true);
                delivery.attempts += 1;
                let (observer, account) = (Arc::clone(name), Arc::clone(account));
                let lease = Lease { id: *id, observer, account, attempt: delivery.attempts, until };
                let reply = event.entry.reply().and_then(|reply| reply.clone().ok());
                leased.push(Leased { lease, facts: event.facts.clone(), reply });
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
            Finish::Postponed { after } => {
                (delivery.due, delivery.attempts) = (now.saturating_add(millis(after)), lease.attempt - 1);
            }
            done @ (Finish::Done | Finish::Dead { .. }) => {
                let gone = deliveries.remove(&lease.id);
                state.waiting -= 1;
                gone.into_iter().for_each(|delivery| state.release(delivery.event));
                state.dead += u64::from(done != Finish::Done);
            }
        }
    }
}

impl Journal for MemoryJournal {
    fn next_id(&self, received: Millis) -> Uuid {
        self.ids.next(received)
    }

    fn admit(&self, event: NewEvent) -> Task<'_, Admission> {
        Box::pin(ready(self.admit_now(event)))
    }

    fn admit_undecoded<'j>(&'j self, Undecoded { key, decode, .. }: Undecoded<'j>) -> Task<'j, Admission> {
        let joined = self.join(&key);
        Box::pin(ready(joined.unwrap_or_else(|| self.admit_now(decode()))))
    }

    fn store(&self, _entry: &Arc<Entry>) {}

    fn record(&self, entry: &Arc<Entry>, reply: Reply) {
        if reply.is_late() {
            self.offer_late(entry, &reply);
        }
        let mut state = self.lock();
        if entry.pulled {
            // Its observers are given the reply from now on.
            let same = state.deliveries.values().filter_map(|deliveries| deliveries.get(&entry.id));
            let same: Vec<_> = same.map(|delivery| Arc::clone(&delivery.event.entry)).collect();
            same.into_iter().for_each(|entry| state.settle(&entry, reply.body.clone()));
        }
        state.settle(entry, reply.for_repeat());
    }

    fn read_slot(&self, name: &str) -> Task<'_, Option<String>> {
        let now = self.now();
        let value = self.lock().slots.get(name).filter(|slot| !slot.is_over(now)).and_then(|slot| slot.value.clone());
        Box::pin(ready(Ok(value)))
    }

    fn hold_slot(&self, name: &str, term: Duration) -> Task<'_, Option<Held>> {
        Box::pin(ready(self.hold_now(name, term)))
    }

    fn write_slot(&self, held: &Held, write: WriteSlot) -> Task<'_, usize> {
        Box::pin(ready(self.write_now(held, write)))
    }

    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>> {
        Box::pin(ready(Ok(self.lease_now(observer, &room, term))))
    }

    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()> {
        finished.into_iter().for_each(|one| self.finish_now(one));
        Box::pin(ready(Ok(())))
    }

    fn arrivals(&self) -> &Notify {
        &self.arrivals
    }

    fn health(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        match () {
            () if state.closed => Err(JournalError::Closed),
            () if state.is_full() => Err(JournalError::Full),
            () => Ok(()),
        }
    }

    fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { bytes: state.room.used() as u64, waiting: state.waiting as u64, dead: state.dead }
    }

    fn close(&self) -> Task<'_, ()> {
        self.lock().closed = true;
        Box::pin(ready(Ok(())))
    }
}
