//! What a journal in memory shows: its latest events.

use std::{collections::BTreeSet, future::ready, sync::Arc};

use uuid::Uuid;

use super::{
    super::{
        Archive, DeadLetter, Entry, Filter, INTERNAL_PREFIX, JournalError, Millis, Observation, ObservationState,
        ObserverState, Page, Place, Stored, Task, now_millis,
    },
    MemoryJournal,
    history::Kept,
    state::{Origin, State},
};

fn done<'t, T: Send + 't>(value: T) -> Task<'t, T> {
    Box::pin(ready(Ok(value)))
}

/// Those that match, as they are stored.
fn matching<'k>(events: impl Iterator<Item = &'k Kept>, filter: &Filter) -> impl Iterator<Item = Stored> {
    events.map(Kept::stored).filter(|stored| filter.matches(stored))
}

impl MemoryJournal {
    /// The time of day of a time of this journal.
    fn time_of_day(&self, time: Millis) -> Millis {
        now_millis().saturating_sub(self.age()).saturating_add(time)
    }

    /// Gives an event to an observer, unless that is to see it already.
    fn offer_again(&self, state: &mut State, observer: &str, stored: &Stored) -> bool {
        let Some((observer, _)) = state.observing(observer) else { return false };
        if state.observations.get(&observer).is_some_and(|pending| pending.contains_key(&stored.id)) {
            return false;
        }
        let entry = match stored.body() {
            Some(body) => Entry::answered_with(stored.id, stored.deliveries, body),
            None => Entry::new(stored.id, None, stored.deliveries),
        };
        state.offer(stored.record.clone(), &entry, vec![observer], self.age(), Origin::Delivery);
        true
    }

    fn change(&self, change: impl FnOnce(&mut State) -> u64) -> Task<'_, u64> {
        let mut state = self.lock();
        if state.closed {
            return Box::pin(ready(Err(JournalError::Closed)));
        }
        let changed = change(&mut state);
        drop(state);
        self.arrivals.notify_waiters();
        Box::pin(ready(Ok(changed)))
    }

    fn letters(
        &self,
        filter: &Filter,
        limit: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
        newest_first: bool,
    ) -> Vec<DeadLetter> {
        let state = self.lock();
        let matches = |letter: &DeadLetter| {
            filter.matches(&letter.event)
                && filter.observer.as_ref().is_none_or(|observer| letter.observer == *observer)
                && wanted(letter)
        };
        if newest_first {
            state.history.letters().rev().filter(matches).take(limit).collect()
        } else {
            state.history.letters().filter(matches).take(limit).collect()
        }
    }
}

impl Archive for MemoryJournal {
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>> {
        let page = matching(self.lock().history.after(after), filter).take(limit).collect();
        done(page)
    }

    fn place(&self) -> Task<'_, Place> {
        let event = self.lock().history.events().next_back().map(|kept| kept.entry.id);
        done(Place { event, ..Place::default() })
    }

    fn follow(&self, filter: &Filter, mut since: Place, limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)> {
        let state = self.lock();
        let mut page = Vec::new();
        for kept in state.history.after(since.event) {
            if page.len() >= limit {
                break;
            }
            since.event = Some(kept.entry.id);
            let stored = kept.stored();
            if filter.matches(&stored) {
                page.push((stored, since.clone()));
            }
        }
        drop(state);
        done((page, since))
    }

    fn page(&self, filter: &Filter, before: Option<Uuid>, limit: usize, scan: usize) -> Task<'_, Page> {
        let state = self.lock();
        let (mut page, mut next) = (Vec::new(), None);
        for (looked_at, kept) in state.history.before(before).rev().enumerate() {
            if page.len() >= limit || looked_at >= scan {
                break;
            }
            next = Some(kept.entry.id);
            page.extend(Some(kept.stored()).filter(|stored| filter.matches(stored)));
        }
        let more = next.is_some_and(|next| state.history.before(Some(next)).next().is_some());
        drop(state);
        done((page, next.filter(|_| more)))
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>> {
        let mut page: Vec<_> = matching(self.lock().history.events().rev(), filter).take(limit).collect();
        page.reverse();
        done(page)
    }

    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>> {
        let found = self.lock().history.find(id).map(Kept::stored);
        done(found)
    }

    fn observations(&self, id: Uuid) -> Task<'_, Vec<Observation>> {
        let state = self.lock();
        let mut found = Vec::new();
        for (observer, pending) in &state.observations {
            let Some(observation) = pending.get(&id) else { continue };
            let due = self.time_of_day(observation.due);
            let error = observation.error.as_deref().map(str::to_owned);
            found.push(Observation {
                observer: observer.to_string(),
                state: if observation.leased { ObservationState::Leased(due) } else { ObservationState::Waiting(due) },
                attempts: observation.attempts,
                error,
            });
        }
        for letter in state.history.letters().filter(|letter| letter.event.id == id) {
            let DeadLetter { observer, attempts, error, died, .. } = letter;
            found.push(Observation { observer, state: ObservationState::Dead(died), attempts, error: Some(error) });
        }
        let seen = state.history.find(id).into_iter().flat_map(|kept| &kept.done);
        for observer in seen {
            if !found.iter().any(|known| *known.observer == **observer) {
                let (observer, state) = (observer.to_string(), ObservationState::Done);
                found.push(Observation { observer, state, attempts: 0, error: None });
            }
        }
        found.sort_by(|one, other| one.observer.cmp(&other.observer));
        done(found)
    }

    fn observers(&self) -> Task<'_, Vec<String>> {
        let names: BTreeSet<_> = self.lock().observers.keys().map(|name| name.to_string()).collect();
        done(names.into_iter().collect())
    }

    fn observer_states(&self) -> Task<'_, Vec<ObserverState>> {
        let state = self.lock();
        let of = |name: &Arc<str>| {
            let pending = state.observations.get(name);
            let oldest = pending.and_then(|pending| pending.values().next());
            ObserverState {
                name: name.to_string(),
                absent_since: None,
                pending: pending.map_or(0, |pending| pending.len() as u64),
                oldest: oldest.map(|observation| observation.event.record.received),
                dead: state.history.letters().filter(|letter| *letter.observer == **name).count() as u64,
            }
        };
        let mut states: Vec<_> = state.observers.keys().map(of).collect();
        states.sort_by(|one, other| one.name.cmp(&other.name));
        done(states)
    }

    /// It ends with its process, so none is absent.
    fn remove_observer(&self, name: &str) -> Task<'_, bool> {
        done(!self.lock().observers.contains_key(name))
    }

    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64> {
        self.change(|state| {
            let mut offered = 0;
            for event in events {
                let Some(stored) = state.history.find(event).map(Kept::stored) else { continue };
                if self.offer_again(state, observer, &stored) {
                    state.history.exhume(event, observer);
                    offered += 1;
                }
            }
            offered
        })
    }

    fn replay_to_all(&self, events: Vec<Uuid>) -> Task<'_, u64> {
        Box::pin(async move {
            let mut offered = 0;
            for event in events {
                for Observation { observer, .. } in self.observations(event).await? {
                    if !observer.starts_with(INTERNAL_PREFIX) {
                        offered += self.replay(&observer, vec![event]).await?;
                    }
                }
            }
            Ok(offered)
        })
    }

    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let is_behind = |letter: &DeadLetter| {
            after.as_ref().is_none_or(|(id, name)| (letter.event.id, &letter.observer) > (*id, name))
        };
        done(self.letters(filter, limit, is_behind, false))
    }

    fn newest_dead(&self, filter: &Filter, before: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let is_before = |letter: &DeadLetter| {
            before.as_ref().is_none_or(|(id, name)| (letter.event.id, &letter.observer) < (*id, name))
        };
        done(self.letters(filter, limit, is_before, true))
    }

    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(|state| {
            let mut revived = 0;
            for (event, observer) in letters {
                let Some(stored) = state.history.exhume(event, &observer) else { continue };
                revived += u64::from(self.offer_again(state, &observer, &stored));
            }
            revived
        })
    }

    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(|state| {
            letters.iter().filter(|(event, observer)| state.history.exhume(*event, observer).is_some()).count() as u64
        })
    }

    fn lease_value(&self, name: &str) -> Task<'_, Option<String>> {
        let value = self.lock().leases.get(name).and_then(|lease| lease.value.clone());
        done(value.filter(|value| !value.is_empty()))
    }

    fn clear_lease(&self, name: &str) -> Task<'_, bool> {
        done(self.lock().clear_lease(name))
    }
}
