//! `[api]`: how the platforms' own API is called.

use std::time::Duration;

use toml::de::DeTable;

use super::reader::Reader;

pub(super) const KEYS: &[&str] = &["timeout", "limit_pause"];

/// `[api]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Api {
    /// How long a call may take; 10 seconds.
    pub timeout: Duration,
    /// How long an API is not called after the platform's rate limit was reached; 1 minute, as long as the shortest of
    /// its limits.
    pub limit_pause: Duration,
}

impl Api {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        let section = reader.section(root, "api", KEYS);
        let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(300));
        Self {
            timeout: section.duration("timeout", shortest..=longest).unwrap_or(Duration::from_secs(10)),
            limit_pause: section.duration("limit_pause", shortest..=longest).unwrap_or(Duration::from_secs(60)),
        }
    }
}
