//! Events that a responder has given to the target of a forward whose replies are used: they are not sent there again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// Events that are remembered. What is forgotten is sent twice, which the target has to expect anyway.
const MAX_EVENTS: usize = 65_536;

/// What responders have done, by forward and event. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    events: HashMap<Key, State>,
    order: VecDeque<Key>,
}

type Key = (Arc<str>, Uuid);

/// How far a responder is with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The target is being asked.
    Asking,
    /// It has the event.
    Done,
}

/// A target that is being asked. When this is dropped, it was not.
#[derive(Debug)]
pub(crate) struct Asking {
    delivered: Delivered,
    key: Key,
    is_done: bool,
}

impl Delivered {
    /// The target of a forward is asked now.
    pub(crate) fn ask(&self, forward: &Arc<str>, event: Uuid) -> Asking {
        let key = (Arc::clone(forward), event);
        let mut remembered = self.lock();
        if remembered.events.insert(key.clone(), State::Asking).is_none() {
            remembered.order.push_back(key.clone());
        }
        if remembered.order.len() > MAX_EVENTS
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.events.remove(&oldest);
        }
        Asking { delivered: self.clone(), key, is_done: false }
    }

    /// How far the responder is; nothing where it has not asked, or in vain.
    pub(super) fn state(&self, forward: &Arc<str>, event: Uuid) -> Option<State> {
        self.lock().events.get(&(Arc::clone(forward), event)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// The target has the event.
    pub(crate) fn done(mut self) {
        self.is_done = true;
        if let Some(state) = self.delivered.lock().events.get_mut(&self.key) {
            *state = State::Done;
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.is_done {
            self.delivered.lock().events.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_in_vain_is_sent() {
        let (delivered, forward, event) = (Delivered::default(), Arc::from("app"), Uuid::from_u128(1));
        assert_eq!(delivered.state(&forward, event), None);
        let asking = delivered.ask(&forward, event);
        assert_eq!(delivered.state(&forward, event), Some(State::Asking));
        drop(asking);
        assert_eq!(delivered.state(&forward, event), None);
        delivered.ask(&forward, event).done();
        assert_eq!(delivered.state(&forward, event), Some(State::Done));
        assert_eq!(delivered.state(&"other".into(), event), None);
    }

    #[test]
    fn it_does_not_grow() {
        let (delivered, forward) = (Delivered::default(), Arc::from("app"));
        for event in 0..MAX_EVENTS as u128 + 10 {
            delivered.ask(&forward, Uuid::from_u128(event)).done();
        }
        assert_eq!(delivered.lock().events.len(), MAX_EVENTS);
        assert_eq!(delivered.state(&forward, Uuid::from_u128(1)), None);
    }
}
