//! Plain mode signs no body: a captured query must not carry another one.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::{Query, Refusal};

/// As many queries as are remembered, some 20 MiB; the oldest are forgotten first. Enough for 400 a second over the
/// default `max_age`.
const MAX_QUERIES: usize = 262_144;

/// Remembers which body a signed query came with. Bounded; safe to share.
#[derive(Debug, Default)]
pub struct ReplayGuard {
    seen: Mutex<Seen>,
}

/// Half of a SHA-256 is plenty to tell bodies apart.
type Digested = [u8; 16];

fn digest(parts: &[&str]) -> Digested {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

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
        // Time and nonce are joined before they are signed: digits moved from one to the other keep the signature.
        let signature = query.get("signature").unwrap_or_default();
        let query = digest(&[account, signature]);
        let body = digest(&[payload]);

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
