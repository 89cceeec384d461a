//! Plain mode signs no body: a captured query must not carry another one.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::{Mutex, PoisonError},
};

use super::{Query, Refusal};
use crate::prehashed::BuildPrehashed;

/// At least so many queries are remembered, and at most twice as many, in some 9 MiB. Enough for 380 a second over the
/// default `max_age`. As many as fill a map of this size, which grows at seven eighths.
const QUERIES: usize = 262_144 / 8 * 7;

/// Remembers which body a signed query came with. Bounded; safe to share.
#[derive(Debug, Default)]
pub struct ReplayGuard {
    /// Keyed at random, so nobody outside can choose two bodies that hash alike.
    hasher: RandomState,
    seen: Mutex<Seen>,
}

/// Hashes of queries, and of the bodies they came with.
type Bodies = HashMap<u64, u64, BuildPrehashed>;

/// Old queries are forgotten all at one time: to look each up again would double what a check costs.
#[derive(Debug, Default)]
struct Seen {
    latest: Bodies,
    /// Those before, once there were enough of them.
    earlier: Bodies,
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
        let Seen { latest, earlier } = &mut *seen;
        match latest.get(&query).or_else(|| earlier.get(&query)) {
            Some(known) if *known == body => Ok(()),
            Some(_) => Err(Refusal::ReplayedQuery),
            None => {
                if latest.len() == QUERIES {
                    mem::swap(latest, earlier);
                    latest.clear();
                }
                latest.insert(query, body);
                Ok(())
            }
        }
    }
}
