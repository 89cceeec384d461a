//! What a journal in memory holds: what is remembered, what waits for observers, named leases.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use hashbrown::{HashTable, hash_table};
use uuid::Uuid;

use super::{
    super::{Entry, EventRecord, JournalError, Millis, NewEvent, State as EventState, Stored, millis},
    history::History,
    room::{ENTRY, Space, of_body, of_lease, of_observed, of_reply, of_waiter},
    waiting::Waiters,
};
use crate::platform::{Body, DedupeKey};

/// How long an event is remembered, where it fits: stores are repeated for 3.6 h, which is the longest schedule.
const EVENT_RETENTION: Millis = 4 * 3_600_000 + 900_000;

/// How often expired named leases are removed.
const SWEEP_INTERVAL: Millis = 1_000;

/// How long a lease that was released and never written is kept: its holder may be late.
const RELEASED_LEASE_RETENTION: Millis = 600_000;

/// The part of the limit that the latest events take to be looked at: one in so many.
const HISTORY: usize = 16;

/// How much of the error of an attempt is kept.
const MAX_ERROR: usize = 512;

/// The mark in the ticket of an entry with pending observations. The rest of it is when it was admitted.
const OBSERVED_MARK: u64 = 1;

#[derive(Debug)]
pub(super) struct State {
    /// By key. A table that is small stays where it is fast: what is in the entries is not touched to find one.
    events: HashTable<Remembered>,
    /// Those that are no longer needed, in the order in which that happened, so the oldest are removed first.
    done: VecDeque<Remembered>,
    /// The observers, and whether they get the events of one subject one after the other.
    pub(super) observers: HashMap<Arc<str>, bool>,
    /// Pending observations of each observer, by event.
    pub(super) observations: HashMap<Arc<str>, BTreeMap<Uuid, Observation>>,
    /// Late replies that wait for the next message of a user.
    pub(super) waiters: Waiters,
    pub(super) leases: HashMap<Arc<str>, StoredLease>,
    /// Token of the latest lease, whichever.
    pub(super) token: i64,
    /// When leases were looked through.
    swept: Millis,
    pub(super) room: Space,
    /// What there was no room for.
    refused: Option<Wanted>,
    pub(super) waiting: usize,
    pub(super) history: History,
    pub(super) closed: bool,
}

/// Bytes that something new takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) observed: usize,
    pub(super) remembered: usize,
}

#[derive(Debug, Default)]
pub(super) struct StoredLease {
    pub(super) value: Option<String>,
    pub(super) token: i64,
    pub(super) until: Millis,
    pub(super) expires: Option<Millis>,
}

impl StoredLease {
    /// Whether it expires, so that it may be removed earlier when there is no room.
    const fn ends(&self) -> bool {
        self.expires.is_some() || self.value.is_none()
    }

    pub(super) fn is_over(&self, now: Millis) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
            || (self.value.is_none() && now.saturating_sub(self.until) >= RELEASED_LEASE_RETENTION)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Remembered {
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
        let window = self.entry.key.and_then(|key| key.window).map_or(EVENT_RETENTION, millis).min(EVENT_RETENTION);
        now - self.admitted < window
    }
}

/// An event, once for all that observe it; removed with the last of their observations.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) record: EventRecord,
    /// Where the event's reply is published.
    pub(super) entry: Arc<Entry>,
    pub(super) origin: Origin,
    bytes: usize,
}

/// Why an event is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Delivery,
    /// It was pulled. One of its observers answers it: when they are done, nobody will.
    Pull,
    /// The platform was answered without its reply, which is to be sent.
    Late,
}

#[derive(Debug)]
pub(super) struct Observation {
    pub(super) event: Arc<Observed>,
    pub(super) due: Millis,
    pub(super) attempts: u32,
    pub(super) leased: bool,
    /// The error of the last attempt.
    pub(super) error: Option<Box<str>>,
    /// The user whose next message it waits for.
    pub(super) user: Option<Box<str>>,
}

impl Observed {
    /// As it is kept with a dead letter.
    pub(super) fn stored(&self, id: Uuid) -> Stored {
        let reply = self.entry.reply().and_then(|reply| reply.as_ref().ok());
        let state = match (reply, self.origin) {
            (_, Origin::Late) => EventState::Late,
            (None, _) => EventState::Responding,
            (Some(_), _) => EventState::Answered,
        };
        let reply = match reply {
            Some(Body::Document(text)) => Some(text.clone()),
            _ => None,
        };
        let (record, deliveries) = (self.record.clone(), self.entry.deliveries());
        Stored { id, record, deliveries, state, reply, failure: None }
    }
}

impl Observation {
    /// An attempt has failed.
    pub(super) fn fail(&mut self, error: &str) {
        self.error = error.get(..error.floor_char_boundary(MAX_ERROR)).map(Into::into);
    }
}

impl Wanted {
    pub(super) fn of(event: &NewEvent) -> Self {
        let has_key = event.key.is_some();
        let observed = of_observed(&event.record, has_key, event.observers.len());
        Self { observed, remembered: if has_key { ENTRY } else { 0 } }
    }
}

impl State {
    pub(super) fn new(limit: usize, observers: HashMap<Arc<str>, bool>) -> Self {
        Self {
            observers,
            events: HashTable::new(),
            done: VecDeque::new(),
            observations: HashMap::new(),
            waiters: Waiters::default(),
            leases: HashMap::new(),
            token: 0,
            swept: 0,
            room: Space::new(limit - limit / HISTORY),
            refused: None,
            waiting: 0,
            history: History::new(limit / HISTORY),
            closed: false,
        }
    }

    pub(super) fn observing(&self, name: &str) -> Option<(Arc<str>, bool)> {
        self.observers.get_key_value(name).map(|(name, in_order)| (Arc::clone(name), *in_order))
    }

    /// The event that has a key, as long as another delivery with it is the same event.
    pub(super) fn known(&self, key: &DedupeKey, now: Millis) -> Option<&Arc<Entry>> {
        let known = self.events.find(key.hash(), |known| known.has(key));
        known.filter(|known| known.stands(now)).map(|known| &known.entry)
    }

    /// An event by its identity, which is rarely asked for.
    pub(super) fn entry(&self, event: Uuid) -> Option<&Arc<Entry>> {
        self.events.iter().map(|known| &known.entry).find(|entry| entry.id == event)
    }

    /// Removes what is too old, and the oldest of what is not needed, until there is room. Returns what was removed last.
    pub(super) fn make_room(&mut self, now: Millis, wanted: Wanted) -> Result<Option<Arc<Entry>>, JournalError> {
        if wanted.observed > self.room.observable() {
            return Err(JournalError::storage(format!(
                "the observations of one event take {} bytes, more than fits into [journal] memory_limit; raise it",
                wanted.observed
            )));
        }
        if wanted.observed > 0 && !self.room.fits_observers(wanted.observed) {
            self.refused = Some(wanted);
            return Err(JournalError::Full);
        }
        let bytes = wanted.observed + wanted.remembered;
        let mut forgotten = None;
        while let Some(oldest) = self.done.front() {
            if now - oldest.admitted <= EVENT_RETENTION && self.room.fits(bytes) {
                break;
            }
            forgotten = self.forget_oldest();
        }
        if bytes > 0 && !self.room.fits(bytes) {
            self.refused = Some(wanted);
            return Err(JournalError::Full);
        }
        Ok(forgotten)
    }

    fn forget_oldest(&mut self) -> Option<Arc<Entry>> {
        let oldest = self.done.pop_front()?;
        // The key may have been admitted again after its window.
        let is_oldest = |known: &Remembered| Arc::ptr_eq(&known.entry, &oldest.entry);
        if let Ok(known) = self.events.find_entry(oldest.hash(), is_oldest) {
            known.remove();
        }
        self.room.forget(ENTRY + of_reply(&oldest.entry));
        Some(oldest.entry)
    }

    /// Enters an event whose key is not known.
    pub(super) fn enter(&mut self, event: &NewEvent, forgotten: Option<Arc<Entry>>, now: Millis) -> Arc<Entry> {
        let Some(key) = event.key else { return Entry::new(event.id, None, 1) };
        let entry = Entry::renewed(forgotten, event.id, key);
        entry.ticket.store(now.cast_unsigned() << 1, Ordering::Relaxed);
        let remembered = Remembered { entry: Arc::clone(&entry), admitted: now };
        match self.events.entry(key.hash(), |known| known.has(&key), Remembered::hash) {
            hash_table::Entry::Occupied(mut over) => *over.get_mut() = remembered,
            hash_table::Entry::Vacant(place) => drop(place.insert(remembered)),
        }
        self.room.remember(ENTRY);
        entry
    }

    pub(super) fn offer(
        &mut self,
        record: EventRecord,
        entry: &Arc<Entry>,
        observers: Vec<Arc<str>>,
        due: Millis,
        origin: Origin,
    ) {
        self.offer_to(record, entry, observers, due, origin, None);
    }

    /// The same for the next message of a user.
    pub(super) fn offer_to(
        &mut self,
        record: EventRecord,
        entry: &Arc<Entry>,
        mut observers: Vec<Arc<str>>,
        due: Millis,
        origin: Origin,
        user: Option<&str>,
    ) {
        // Since the delivery began, one may have gone: nobody would ever take it.
        observers.retain(|observer| self.observers.contains_key(observer));
        if observers.is_empty() {
            return;
        }
        let bytes = of_observed(&record, entry.key.is_some(), observers.len()) + of_waiter(user);
        self.room.observe(bytes);
        if entry.key.is_none() {
            self.room.remember(of_reply(entry));
        }
        entry.ticket.fetch_or(OBSERVED_MARK, Ordering::Relaxed);
        let event = Arc::new(Observed { record, entry: Arc::clone(entry), origin, bytes });
        for observer in observers {
            let observation = Observation {
                event: Arc::clone(&event),
                due,
                attempts: 0,
                leased: false,
                error: None,
                user: user.map(Into::into),
            };
            match self.observations.entry(observer).or_default().insert(entry.id, observation) {
                Some(same) => self.release(same.event),
                None => self.waiting += 1,
            }
        }
    }

    /// An observer is done with an event, or will never be.
    pub(super) fn remove(&mut self, observer: &str, event: Uuid) {
        let observations = self.observations.get_mut(observer);
        let Some(gone) = observations.and_then(|observations| observations.remove(&event)) else { return };
        self.waiting -= 1;
        if let Some(user) = &gone.user {
            self.waiters.remove(&gone.event.record.account, user, event);
        }
        self.release(gone.event);
    }

    /// One observer less has to see an event.
    pub(super) fn release(&mut self, event: Arc<Observed>) {
        let Some(Observed { entry, origin, bytes, .. }) = Arc::into_inner(event) else { return };
        self.room.release(bytes);
        entry.ticket.fetch_and(!OBSERVED_MARK, Ordering::Relaxed);
        match entry.key {
            None => self.room.forget(of_reply(&entry)),
            Some(_) if origin == Origin::Pull || entry.reply().is_some() => self.done(&entry),
            Some(_) => {}
        }
    }

    /// An event has its reply.
    pub(super) fn settle(&mut self, entry: &Arc<Entry>, reply: Body) {
        if entry.reply().is_some() {
            return;
        }
        let bytes = of_body(&reply);
        entry.settle(Ok(reply));
        let is_observed = entry.ticket.load(Ordering::Relaxed) & OBSERVED_MARK != 0;
        if entry.key.is_none() && !is_observed {
            return;
        }
        self.room.remember(bytes);
        if !is_observed {
            self.done(entry);
        }
        while !self.room.fits(0) && self.forget_oldest().is_some() {}
    }

    /// An event is no longer needed.
    fn done(&mut self, entry: &Arc<Entry>) {
        let admitted = (entry.ticket.load(Ordering::Relaxed) >> 1).cast_signed();
        self.done.push_back(Remembered { entry: Arc::clone(entry), admitted });
    }

    /// Counts the new value of a lease, if there is room for it. Leases that end by themselves end earlier for others.
    pub(super) fn grow_lease(
        &mut self,
        name: &str,
        before: Option<usize>,
        value: Option<&String>,
    ) -> Result<(), JournalError> {
        let is_new = !self.leases.contains_key(name);
        let before = if is_new { 0 } else { of_lease(name, None) + before.unwrap_or_default() };
        let after = of_lease(name, value);
        let more = after.saturating_sub(before);
        while more > 0 && !self.room.is_owed_to_leases(more) && !self.room.fits(more) {
            if self.forget_oldest().is_none() && !self.drop_lease(name) {
                return Err(JournalError::Full);
            }
        }
        self.room.resize_lease(before, after);
        Ok(())
    }

    /// Removes the value of a lease; returns whether there was one.
    pub(super) fn clear_lease(&mut self, name: &str) -> bool {
        let Some(value) = self.leases.get_mut(name).and_then(|lease| lease.value.take()) else { return false };
        self.room.resize_lease(of_lease(name, Some(&value)), of_lease(name, None));
        !value.is_empty()
    }

    /// Removes the lease that would end first, but for those that are held.
    fn drop_lease(&mut self, but: &str) -> bool {
        let now = self.swept;
        let free = self.leases.iter().filter(|(name, lease)| lease.until <= now && lease.ends() && ***name != *but);
        let Some(name) = free.min_by_key(|(_, lease)| lease.expires).map(|(name, _)| Arc::clone(name)) else {
            return false;
        };
        let lease = self.leases.remove(&name);
        self.room.resize_lease(of_lease(&name, lease.and_then(|lease| lease.value).as_ref()), 0);
        true
    }

    /// Removes leases that are over, now and then.
    pub(super) fn sweep(&mut self, now: Millis) {
        if now - self.swept < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let room = &mut self.room;
        self.leases.retain(|name, lease| {
            let stays = !lease.is_over(now);
            if !stays {
                room.resize_lease(of_lease(name, lease.value.as_ref()), 0);
            }
            stays
        });
    }

    /// Whether there is still no room for what was refused.
    pub(super) fn is_full(&mut self) -> bool {
        let Some(Wanted { observed, remembered }) = self.refused else { return false };
        let fits = self.room.fits(observed + remembered) || !self.done.is_empty();
        if fits && self.room.fits_observers(observed) {
            self.refused = None;
        }
        self.refused.is_some()
    }
}
