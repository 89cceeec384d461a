//! The journal in memory, for tests and trials: bounded, and lost when the process ends.
//!
//! The bound is in bytes (`room.rs`). For what is new, the oldest events are removed that are answered and that observers
//! have seen; when there are none left, new events are refused.

mod archive;
mod history;
mod room;
mod state;
mod waiting;

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::warn;
use uuid::Uuid;

use self::{
    room::of_lease,
    state::{Origin, State, Wanted},
};
use super::{
    Admission, Archive, Entry, Finish, Finished, GiveUp, Ids, Journal, JournalError, Lease, LeaseWrite, Leased, Millis,
    NamedLease, NewEvent, Observer, Options, Pulled, Recipient, ReplyRecord, Room, TakenReply, Task, Undecoded, Usage,
    WaitingReply, millis, model::plain_success, now_millis,
};
use crate::{
    clock::Clock,
    platform::{Body, DedupeKey},
};

fn in_order(observers: &[Observer]) -> HashMap<Arc<str>, bool> {
    observers.iter().map(|observer| (Arc::clone(&observer.name), observer.in_order)).collect()
}

/// Holds the latest events, as many as fit, and the pending observations.
#[derive(Debug)]
pub struct MemoryJournal {
    ids: Ids,
    started: Instant,
    clock: Clock,
    state: Mutex<State>,
    arrivals: Notify,
}

impl MemoryJournal {
    /// A journal that holds [`Options::max_size`] bytes.
    pub fn new(options: &Options) -> Self {
        let limit = usize::try_from(options.max_size).unwrap_or(usize::MAX);
        Self {
            ids: Ids::default(),
            started: Instant::now(),
            clock: options.clock.clone(),
            state: Mutex::new(State::new(limit, in_order(&options.observers))),
            arrivals: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since it was opened.
    fn age(&self) -> Millis {
        millis(self.started.elapsed()).saturating_add(self.clock.passed())
    }

    fn admit_now(&self, event: NewEvent) -> Result<Admission, JournalError> {
        let now = self.age();
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
        if event.observers.is_empty() {
            state.history.keep(&entry, event.record);
        } else {
            state.history.keep(&entry, event.record.clone());
            state.offer(event.record, &entry, event.observers, now, Origin::Delivery);
            self.arrivals.notify_waiters();
        }
        Ok(Admission::Run(entry))
    }

    /// Counts another delivery of an event that is known.
    fn join(&self, key: &DedupeKey) -> Option<Result<Admission, JournalError>> {
        let now = self.age();
        let state = self.lock();
        if state.closed {
            return Some(Err(JournalError::Closed));
        }
        let known = state.known(key, now)?;
        known.delivered_again();
        Some(Ok(Admission::Known(Arc::clone(known))))
    }

    /// A reply that is to be sent. There is room for it: the responder held it until now.
    fn offer_late(&self, entry: &Arc<Entry>, reply: &ReplyRecord) {
        let Some(sender) = &reply.sender else { return };
        // What a repeat is answered is another matter.
        let replied = Entry::answered_with(entry.id, 1, reply.body.clone());
        let (now, mut state) = (self.age(), self.lock());
        match &sender.waits {
            Some(wait) => state.wait_for_next(sender, wait, &replied, now),
            None => state.offer(sender.record.clone(), &replied, vec![Arc::clone(&sender.observer)], now, Origin::Late),
        }
        self.arrivals.notify_waiters();
    }

    fn acquire_now(&self, name: &str, term: Duration) -> Result<Option<NamedLease>, JournalError> {
        let now = self.age();
        let mut state = self.lock();
        let state = &mut *state;
        state.sweep(now);
        if state.leases.get(name).is_some_and(|lease| lease.until > now) {
            return Ok(None);
        }
        let name: Arc<str> = name.into();
        if !state.leases.contains_key(&name) {
            state.grow_lease(&name, None, None)?;
        }
        state.token += 1;
        let token = state.token;
        let lease = state.leases.entry(Arc::clone(&name)).or_default();
        if lease.is_over(now) {
            lease.expires = None;
            let gone = lease.value.take();
            state.room.resize_lease(of_lease(&name, gone.as_ref()), of_lease(&name, None));
        }
        (lease.token, lease.until, lease.expires) = (token, now.saturating_add(millis(term)), None);
        Ok(Some(NamedLease { name, value: lease.value.clone(), lease_token: token }))
    }

    fn write_now(&self, held: &NamedLease, write: LeaseWrite) -> Result<usize, JournalError> {
        let now = self.age();
        let mut state = self.lock();
        let lease =
            state.leases.get(&held.name).filter(|lease| lease.token == held.lease_token).ok_or(JournalError::Lost)?;
        let before = lease.value.as_ref().map(String::capacity);
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
            state.grow_lease(&held.name, before, Some(value))?;
        }
        let lease = state.leases.get_mut(&held.name).ok_or(JournalError::Lost)?;
        let after = |time: Option<Duration>| time.map(|time| now.saturating_add(millis(time)));
        lease.value = write.value.or(lease.value.take());
        (lease.until, lease.expires) = (after(write.keep).unwrap_or_default(), after(write.expires));
        let mut admitted = 0;
        for Pulled { event, responds } in write.events {
            if event.key.is_some_and(|key| state.known(&key, now).is_some()) {
                continue;
            }
            let entry = state.enter(&event, None, now);
            entry.mark_stored();
            let platform = event.record.platform;
            state.history.keep(&entry, event.record.clone());
            state.offer(event.record, &entry, event.observers, now, Origin::Pull);
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
        let now = self.age();
        let until = now.saturating_add(millis(term));
        let mut state = self.lock();
        let Some((name, in_order)) = state.observing(observer) else { return Vec::new() };
        let Some(observations) = state.observations.get_mut(observer) else { return Vec::new() };
        let mut keys = HashSet::new();
        let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
        let mut leased = Vec::new();
        for (id, observation) in observations.iter_mut() {
            if leased.len() >= room.limit {
                break;
            }
            let event = &observation.event;
            let account = &event.record.account;
            let of_account = taken.entry(Arc::clone(account)).or_default();
            // The first of an ordering key blocks the others, whatever it waits for.
            let key = event.record.subject.clone().map(|subject| (Arc::clone(account), subject));
            let first = !in_order || key.is_none_or(|key| keys.insert(key));
            if first && observation.due <= now && *of_account < room.of_account(account) {
                *of_account += 1;
                (observation.due, observation.leased) = (until, true);
                observation.attempts += 1;
                let (observer, account) = (Arc::clone(&name), Arc::clone(account));
                let lease = Lease { id: *id, observer, account, attempt: observation.attempts, until };
                let reply = event.entry.reply().and_then(|reply| reply.clone().ok());
                let is_late = observation.is_late();
                leased.push(Leased { lease, record: event.record.clone(), reply, is_late });
            }
        }
        leased
    }

    fn finish_now(&self, Finished { lease, outcome }: Finished) {
        let now = self.age();
        let mut state = self.lock();
        let Some(observations) = state.observations.get_mut(&lease.observer) else { return };
        let Some(observation) = observations.get_mut(&lease.id) else { return };
        if !observation.leased || observation.attempts != lease.attempt {
            return;
        }
        observation.leased = false;
        match outcome {
            Finish::Retry { after, error } => {
                observation.due = now.saturating_add(millis(after));
                observation.fail(&error);
            }
            Finish::Released => (observation.due, observation.attempts) = (now, lease.attempt - 1),
            Finish::Postponed { after } => {
                (observation.due, observation.attempts) = (now.saturating_add(millis(after)), lease.attempt - 1);
            }
            Finish::Done => {
                state.remove(&lease.observer, lease.id);
                state.history.seen(lease.id, &lease.observer);
            }
            Finish::Dropped { reason } => {
                state.remove(&lease.observer, lease.id);
                state.history.seen(lease.id, &lease.observer);
                state.history.dropped(lease.id, reason);
            }
            Finish::Dead { error } => {
                let event = observation.event.stored(lease.id);
                state.remove(&lease.observer, lease.id);
                state.history.bury(event, &lease.observer, lease.attempt, error, now_millis());
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

    fn record(&self, entry: &Arc<Entry>, reply: ReplyRecord) {
        if reply.is_late() {
            self.offer_late(entry, &reply);
        }
        let mut state = self.lock();
        state.history.note(entry.id, &reply);
        if entry.pulled {
            // Its observers are given the reply from now on.
            let same = state.observations.values().filter_map(|observations| observations.get(&entry.id));
            let same: Vec<_> = same.map(|observation| Arc::clone(&observation.event.entry)).collect();
            same.into_iter().for_each(|entry| state.settle(&entry, reply.body.clone()));
        }
        state.settle(entry, reply.for_repeat());
    }

    fn give_up<'j>(&'j self, entry: &'j Arc<Entry>, terms: GiveUp) -> Task<'j, Option<Body>> {
        let now = self.age();
        if let Some(sender) = &terms.waits
            && let Some(wait) = &sender.waits
        {
            let mut state = self.lock();
            // Without room for it the reply is found once it is ready.
            let is_new = entry.reply().is_none() && !state.is_awaited(sender, entry.id);
            if is_new && state.make_room(now, Wanted::of_waiting(sender)).is_ok() {
                state.wait_for_next(sender, wait, entry, now);
            }
        }
        Box::pin(ready(Ok(None)))
    }

    /// An identity is of one account, and cannot be guessed.
    fn recorded_reply(&self, _: &str, event: Uuid) -> Task<'_, Option<Body>> {
        let reply = self.lock().entry(event).and_then(|entry| entry.reply()?.clone().ok());
        Box::pin(ready(Ok(reply)))
    }

    fn waiting_reply<'j>(&'j self, recipient: &'j Recipient, except: Option<Uuid>) -> Task<'j, WaitingReply> {
        Box::pin(ready(Ok(self.lock().waiting_reply(recipient, except, self.age()))))
    }

    fn take_reply<'j>(&'j self, recipient: &'j Recipient, entry: &'j Entry) -> Task<'j, Option<TakenReply>> {
        let mut state = self.lock();
        let taken = match entry.reply() {
            None => state.take_reply(recipient, entry.id, self.age()),
            Some(_) => None,
        };
        Box::pin(ready(Ok(taken)))
    }

    fn read_lease(&self, name: &str) -> Task<'_, Option<String>> {
        let now = self.age();
        let value =
            self.lock().leases.get(name).filter(|lease| !lease.is_over(now)).and_then(|lease| lease.value.clone());
        Box::pin(ready(Ok(value)))
    }

    fn acquire_lease(&self, name: &str, term: Duration) -> Task<'_, Option<NamedLease>> {
        Box::pin(ready(self.acquire_now(name, term)))
    }

    fn write_lease(&self, held: &NamedLease, write: LeaseWrite) -> Task<'_, usize> {
        Box::pin(ready(self.write_now(held, write)))
    }

    fn lease_within(&self, observer: &str, room: Room, term: Duration) -> Task<'_, Vec<Leased>> {
        Box::pin(ready(Ok(self.lease_now(observer, &room, term))))
    }

    fn finish(&self, finished: Vec<Finished>) -> Task<'_, ()> {
        finished.into_iter().for_each(|one| self.finish_now(one));
        Box::pin(ready(Ok(())))
    }

    /// What is pending of those that are no longer registered is dropped: when the process ends it is lost anyway, and until
    /// then it would take the room of others.
    fn register(&self, observers: Vec<Observer>) -> Task<'_, ()> {
        let registered = in_order(&observers);
        let mut state = self.lock();
        let names: Vec<Arc<str>> = state.observations.keys().cloned().collect();
        for name in names.into_iter().filter(|name| !registered.contains_key(name)) {
            let pending: Vec<Uuid> =
                state.observations.get(&name).into_iter().flat_map(|it| it.keys().copied()).collect();
            for event in &pending {
                state.remove(&name, *event);
            }
            state.observations.remove(&name);
            if !pending.is_empty() {
                let count = pending.len();
                warn!(
                    observer = &*name,
                    count,
                    "observer {name} is no longer registered; dropped its {count} pending events: a journal in memory keeps none"
                );
            }
        }
        state.observers = registered;
        drop(state);
        self.arrivals.notify_waiters();
        Box::pin(ready(Ok(())))
    }

    fn arrivals(&self) -> &Notify {
        &self.arrivals
    }

    fn now(&self) -> Millis {
        now_millis().saturating_add(self.clock.passed())
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
        // What is only kept to be looked at has its own part of the limit, and mostly shares its texts with what is counted.
        let (bytes, dead) = (state.room.used(), state.history.dead());
        Usage { bytes: bytes as u64, waiting: state.waiting as u64, dead: dead as u64, ..Usage::default() }
    }

    fn archive(self: Arc<Self>) -> Option<Arc<dyn Archive>> {
        Some(self)
    }

    fn close(&self) -> Task<'_, ()> {
        self.lock().closed = true;
        Box::pin(ready(Ok(())))
    }
}
