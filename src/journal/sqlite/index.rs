//! Which keys are known, without asking the file.
//!
//! One process owns the file, so this is the authority for the keys it is complete for; the file is asked for others. It
//! is bounded: the least keys of a kind, which are of the earliest times, go first.

use std::collections::BTreeMap;

use super::super::Millis;
use crate::platform::{DedupeKey, KEY, Key};

/// The keys of the file, the latest of them.
#[derive(Debug)]
pub(super) struct Index {
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
        Self { stored: std::array::from_fn(|_| stored()) }
    }

    /// Whether the file may have a key, so that it has to be asked; else the key is new.
    pub(super) fn may_have(&self, key: &DedupeKey, now: Millis) -> bool {
        let Some(stored) = self.stored.get(usize::from(key.bytes[0])) else { return true };
        match stored.keys.get(&key.bytes) {
            Some(until) => until.is_none_or(|until| now < until),
            None => key.bytes < stored.complete_from,
        }
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
