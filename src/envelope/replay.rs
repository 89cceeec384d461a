//! Plain mode signs no body: a captured query must not carry another one.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use super::{Query, Refusal};
use crate::prehashed::BuildPrehashed;

/// As many queries as are remembered, some 15 MiB; the oldest are forgotten first. Enough for 400 a second over the
/// default `max_age`.
const MAX_QUERIES: usize = 262_144;

/// Remembers which body a signed query came with. Bounded; safe to share.
#[derive(Debug, Default)]
pub struct ReplayGuard {
    /// Keyed at random, so nobody outside can choose two bodies that hash alike.
    hasher: RandomState,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Hashes of queries, and of the bodies they came with.
    bodies: HashMap<u64, u64, BuildPrehashed>,
    order: VecDeque<u64>,
}

impl ReplayGuard {
    /// Checks a plain request that was opened; an identical one is a repeat and allowed.
    ///
    /// # Errors
    /// [`Refusal::ReplayedQuery`] when the query came with another body before.
    pub fn check(&self, account: &str, query: &Query<'_>, payload: &str) -> Result<(), Refusal> {
        // Time and nonce are joined before they are signed: digits moved from one to the other keep the signature.
        let signature = query.get("signature").unwrap_or_default();
        let query = self.hasher.hash_one((account, signature));
        let body = self.hasher.hash_one(payload);

        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.bodies.entry(query) {
            Entry::Occupied(entry) if *entry.get() == body => Ok(()),
            Entry::Occupied(_) => Err(Refusal::ReplayedQuery),
            Entry::Vacant(entry) => {
                entry.insert(body);
                seen.order.push_back(query);
                if seen.order.len() > MAX_QUERIES
                    && let Some(oldest) = seen.order.pop_front()
                {
                    seen.bodies.remove(&oldest);
                }
                Ok(())
            }
        }
    }
}
