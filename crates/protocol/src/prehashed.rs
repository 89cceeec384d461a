//! Maps whose keys are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`Prehashed`].
pub type BuildPrehashed = BuildHasherDefault<Prehashed>;

/// Takes the last eight bytes of a key as its hash. Only for keys that clients cannot choose: digests, and hashes
/// under a random key.
#[derive(Debug, Default)]
pub struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// The length of a key, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
