//! Plain mode signs no body: a captured query must not carry another one.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::{Query, Refusal};

/// As many queries as are remembered; the oldest are forgotten first.
const MAX_QUERIES: usize = 65_536;

/// Remembers which body a signed query came with. Bounded; safe to share.
#[derive(Debug, Default)]
pub struct ReplayGuard {
    seen: Mutex<Seen>,
}

type Digested = [u8; 32];

#[derive(Debug, Default)]
struct Seen {
    bodies: HashMap<Digested, Digested>,
    order: VecDeque<Digested>,
}

impl ReplayGuard {
    /// Checks a plain request that was opened; an identical one is a repeat and allowed.
    ///
    /// # Errors
    /// [`Refusal::ReplayedQuery`] when the query came with another body before.
    pub fn check(&self, account: &str, query: &Query<'_>, payload: &str) -> Result<(), Refusal> {
        let signed = ["signature", "timestamp", "nonce"].map(|name| query.get(name).unwrap_or_default());
        let query = Sha256::digest([account, signed[0], signed[1], signed[2]].join("\n")).into();
        let body = Sha256::digest(payload).into();

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
