//! The journal in memory, for tests and trials: bounded, and gone with the process.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Admission, Entry};
use crate::{platform::DedupeKey, prehashed::BuildPrehashed};

/// How long an event is remembered; the longest schedule of repeats of a message is over by then.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What one event takes with its reply, roughly.
const EVENT: usize = 640;

/// Remembers the latest events, as many as fit.
#[derive(Debug)]
pub struct MemoryJournal {
    max_events: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: HashMap<[u8; 32], Remembered, BuildPrehashed>,
    /// In the order of admission, so the oldest are forgotten first.
    order: VecDeque<([u8; 32], Instant)>,
}

#[derive(Debug)]
struct Remembered {
    entry: Arc<Entry>,
    until: Instant,
    admitted: Instant,
}

impl MemoryJournal {
    /// A journal that holds about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { max_events: (limit / EVENT).clamp(1, 1 << 20), state: Mutex::default() }
    }

    /// Admits a delivery: says whether its event is new. Without a key every delivery is an event of its own.
    pub fn admit(&self, key: Option<DedupeKey>) -> Admission {
        let Some(key) = key else { return Admission::New(Entry::new()) };
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now + key.window.unwrap_or(REMEMBERED).min(REMEMBERED);
        let entry = Entry::new();
        let remembered = Remembered { entry: Arc::clone(&entry), until, admitted: now };
        match state.events.entry(key.hash) {
            hash_map::Entry::Occupied(known) if known.get().until > now => {
                let known = &known.get().entry;
                known.delivered_again();
                return Admission::Known(Arc::clone(known));
            }
            hash_map::Entry::Occupied(mut over) => {
                over.insert(remembered);
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(remembered);
            }
        }
        state.order.push_back((key.hash, now));
        self.forget(&mut state, now);
        Admission::New(entry)
    }

    /// Forgets what is too old, and the oldest of what is too much.
    fn forget(&self, state: &mut State, now: Instant) {
        while let Some((hash, admitted)) = state.order.front().copied() {
            let old = now.duration_since(admitted) > REMEMBERED;
            if !old && state.order.len() <= self.max_events {
                return;
            }
            state.order.pop_front();
            // The key may have been admitted anew after its window.
            if state.events.get(&hash).is_some_and(|known| known.admitted == admitted) {
                state.events.remove(&hash);
            }
        }
    }
}
