//! The three-part signature of WeChat covers no body: a captured query must not carry another one.
//!
//! What has to be remembered is every query with such a signature, made with a token that opens clear text on some account:
//! whichever account it came to, in the clear, encrypted, or as a check of the URL. It must be remembered as long as the
//! query is fresh, by the next process and by every node, too: see [`Journal::use_query`](crate::journal::Journal).

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use siphasher::sip::SipHasher13;

use super::{Keys, Query, Refusal, Verified};
use crate::{prehashed::BuildPrehashed, secret::Secret};

/// At least so many queries are remembered, and at most twice as many, in some 9 MiB. Enough for 380 a second over the
/// default `max_age`. As many as fill a map of this size, which grows at seven eighths.
const QUERIES: usize = 262_144 / 8 * 7;

/// How long a query is remembered beyond this process where `max_age` is off. It is accepted at any time then, and nothing
/// is remembered forever.
const WITHOUT_MAX_AGE: Duration = Duration::from_secs(3600);

/// A three-part signature that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlainSignature {
    pub(super) token: usize,
    pub(super) digest: [u8; 20],
}

/// A signed query that was used, and for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedQuery {
    /// Its three-part signature. It stands for token, time and nonce however they are written, since digits that are moved
    /// from one of the latter to the other do not change it.
    pub signature: [u8; 20],
    /// A hash of the body; [`UsedQuery::URL_CHECK`] for none.
    pub body: u64,
    /// How long it has to be remembered.
    pub term: Duration,
}

impl UsedQuery {
    /// Stands for the body of a GET.
    pub const URL_CHECK: u64 = 0;

    /// As many are worth remembering.
    pub const MAX: usize = 2 * QUERIES;

    /// For tables in memory: a part of the signature, which nobody outside can choose.
    fn hash(&self) -> u64 {
        self.signature.last_chunk().map_or(0, |last| u64::from_ne_bytes(*last))
    }
}

/// Hashes bodies under a key that follows from a token. So nobody outside can choose two bodies that hash alike, and
/// every node and the next process hash as this one does.
#[derive(Clone)]
struct BodyHasher(SipHasher13);

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHasher(…)")
    }
}

impl BodyHasher {
    fn new(token: &Secret) -> Self {
        let digest = Sha256::new().chain_update("echostr body of a signed query\0").chain_update(token.expose());
        let mut key = [0; 16];
        key.copy_from_slice(&digest.finalize()[..16]);
        Self(SipHasher13::new_with_key(&key))
    }

    fn hash(&self, body: &str) -> u64 {
        self.0.hash(body.as_bytes())
    }
}

/// Which queries of an account have to be remembered.
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// For each token of the account, if it opens clear text on any; empty when none does.
    tokens: Vec<Option<BodyHasher>>,
    term: Duration,
}

impl Guarded {
    /// Those with a token that is among `clear`, or any, when the account takes clear text itself.
    pub fn of(keys: &Keys, clear: &[Secret]) -> Self {
        let opens = |token: &&Secret| keys.takes_clear_text() || clear.contains(token);
        if !keys.tokens.iter().any(|token| opens(&token)) {
            return Self::default();
        }
        let tokens = keys.tokens.iter().map(|token| Some(token).filter(opens).map(BodyHasher::new)).collect();
        // Fresh is what is up to `max_age` ahead, too.
        Self { tokens, term: keys.max_age.map_or(WITHOUT_MAX_AGE, |age| age.saturating_mul(2)) }
    }

    /// The tokens that open clear text on this account.
    pub fn clear_tokens(keys: &Keys) -> &[Secret] {
        if keys.takes_clear_text() { &keys.tokens } else { &[] }
    }

    /// What is to be remembered of a request that was opened, or of a check of the URL.
    pub fn used(&self, keys: &Keys, query: &Query<'_>, opened: Option<&Verified>) -> Option<UsedQuery> {
        if self.tokens.is_empty() {
            return None;
        }
        let signed = opened.and_then(Verified::signed).or_else(|| keys.plain_signature(query))?;
        let hasher = self.tokens.get(signed.token)?.as_ref()?;
        let body = opened.map_or(UsedQuery::URL_CHECK, |opened| hasher.hash(opened.payload()));
        Some(UsedQuery { signature: signed.digest, body, term: self.term })
    }
}

/// Remembers which body a signed query came with. Bounded; safe to share.
#[derive(Debug, Default)]
pub struct ReplayGuard(Mutex<Seen>);

/// Hashes of queries, and of the bodies they came with.
type Bodies = HashMap<u64, u64, BuildPrehashed>;

/// Old queries are removed all at one time: to look each up again would double what a check costs.
#[derive(Debug, Default)]
struct Seen {
    latest: Bodies,
    /// Those before, once there were enough of them.
    earlier: Bodies,
}

impl Seen {
    fn insert(&mut self, used: &UsedQuery) {
        if self.latest.len() == QUERIES {
            mem::swap(&mut self.latest, &mut self.earlier);
            self.latest.clear();
        }
        self.latest.insert(used.hash(), used.body);
    }
}

impl ReplayGuard {
    /// Checks a query that is used; the same with the same body is a repeat and allowed.
    ///
    /// # Errors
    /// [`Refusal::ReplayedQuery`] when it came with another body before.
    pub fn check(&self, used: &UsedQuery) -> Result<(), Refusal> {
        let mut seen = self.lock();
        let query = used.hash();
        match seen.latest.get(&query).or_else(|| seen.earlier.get(&query)) {
            Some(known) if *known == used.body => Ok(()),
            Some(_) => Err(Refusal::ReplayedQuery),
            None => {
                seen.insert(used);
                Ok(())
            }
        }
    }

    /// A query was used for this body, by another node or by the process before.
    pub fn remember(&self, used: &UsedQuery) {
        self.lock().insert(used);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
