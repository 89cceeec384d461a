//! Which keys are known, without asking the file.
//!
//! One process owns the file, so this is the authority for the keys it is complete for; the file is asked for others. It
//! is bounded: the least keys of a kind, which are of the earliest times, go first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::super::{Entry, Millis};
use crate::{
    platform::{DedupeKey, KEY, Key},
    prehashed::BuildPrehashed,
};

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Known {
    /// Its responder runs.
    Running(Arc<Entry>),
    /// It is new.
    New,
    /// It is in the file, or may be.
    AskFile,
}

#[derive(Debug)]
pub(super) struct Index {
    running: HashMap<Key, Arc<Entry>, BuildPrehashed>,
    /// By [`Order`](crate::platform::Order).
    stored: [Ordered; ORDERS],
}

/// Kinds of keys.
const ORDERS: usize = 3;

/// Keys of one kind.
#[derive(Debug)]
struct Ordered {
    /// With the time until which another delivery with the key is the same event; `None`: for good.
    keys: BTreeMap<Key, Option<Millis>>,
    /// Every key from this one on is in `keys`.
    complete_from: Key,
    capacity: usize,
}

impl Index {
    /// An index that holds so many keys of a kind.
    pub(super) fn new(capacity: usize) -> Self {
        let stored = || Ordered { keys: BTreeMap::new(), complete_from: [0; KEY], capacity };
        Self { running: HashMap::default(), stored: std::array::from_fn(|_| stored()) }
    }

    pub(super) fn look(&self, key: &DedupeKey, now: Millis) -> Known {
        if let Some(entry) = self.running.get(&key.bytes) {
            return Known::Running(Arc::clone(entry));
        }
        let Some(stored) = self.stored.get(usize::from(key.bytes[0])) else { return Known::AskFile };
        match stored.keys.get(&key.bytes) {
            Some(until) if until.is_none_or(|until| now < until) => Known::AskFile,
            Some(_over) => Known::New,
            None if key.bytes >= stored.complete_from => Known::New,
            None => Known::AskFile,
        }
    }

    pub(super) fn run(&mut self, key: &DedupeKey, entry: &Arc<Entry>) {
        self.running.insert(key.bytes, Arc::clone(entry));
    }

    /// The entry that runs under a key.
    pub(super) fn running(&self, key: &DedupeKey) -> Option<&Arc<Entry>> {
        self.running.get(&key.bytes)
    }

    /// Its reply is in the file.
    pub(super) fn answered(&mut self, key: &DedupeKey, until: Option<Millis>) {
        self.running.remove(&key.bytes);
        self.remember(key.bytes, until);
    }

    /// It could not be stored: the key is free again.
    pub(super) fn release(&mut self, key: &DedupeKey) {
        self.running.remove(&key.bytes);
    }

    /// A key of the file.
    pub(super) fn remember(&mut self, key: Key, until: Option<Millis>) {
        let Some(stored) = self.stored.get_mut(usize::from(key[0])) else { return };
        stored.keys.insert(key, until);
        if stored.keys.len() > stored.capacity
            && let Some((least, _)) = stored.keys.pop_first()
            && least >= stored.complete_from
        {
            stored.complete_from = next(least);
        }
    }
}

/// The key after this one.
fn next(mut key: Key) -> Key {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    key
}
