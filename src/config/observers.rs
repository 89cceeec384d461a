//! `[observers]`: how often and how long an event is offered to an observer that fails.

use std::time::Duration;

use toml::de::DeTable;

use super::{reader::Reader, values};

pub(super) const KEYS: &[&str] = &["max_attempts", "backoff", "timeout", "concurrency"];

/// `[observers]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observers {
    /// Attempts before an event is a dead letter; 12.
    pub max_attempts: u32,
    /// Pauses between them; 1 second to 10 minutes.
    pub backoff: Backoff,
    /// How long an attempt may take before it counts as failed; 1 minute.
    pub timeout: Duration,
    /// How many events an observer is given at one time; 32.
    pub concurrency: usize,
}

/// Pauses that double from `first` until they are `longest`; who waits adds the jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Backoff {
    fn parse(text: &str) -> Option<Self> {
        let (first, longest) = text.split_once("..")?;
        let (first, longest) = (values::duration(first)?, values::duration(longest)?);
        let usable = !first.is_zero() && first <= longest && longest <= Duration::from_secs(86_400);
        usable.then_some(Self { first, longest })
    }
}

impl Observers {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        const BACKOFF: &str = "two durations such as \"1s..10m\", the shorter one first, more than 0 and at most 1d";
        let section = reader.section(root, "observers", KEYS);
        let default = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(600) };
        let attempts = section.integer("max_attempts", 1..=1000).and_then(|number| u32::try_from(number).ok());
        Self {
            max_attempts: attempts.unwrap_or(12),
            backoff: section.matching("backoff", BACKOFF, Backoff::parse).unwrap_or(default),
            timeout: section
                .duration("timeout", Duration::from_millis(1)..=Duration::from_secs(3600))
                .unwrap_or(Duration::from_secs(60)),
            concurrency: section.integer("concurrency", 1..=10_000).map_or(32, values::to_usize),
        }
    }
}
