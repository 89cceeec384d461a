//! Whether a journal is whole, and what is in it.

use super::{JournalError, Millis, ObserverState};
use crate::config::{self, JournalUrl};

/// What a check has found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The version of the tables.
    pub(crate) schema: Option<usize>,
    /// What is wrong, a sentence each.
    pub(crate) problems: Vec<String>,
    /// What is worth to know, and not wrong.
    pub(crate) notes: Vec<String>,
    /// What is in it; nothing when that could not be read.
    pub(crate) contents: Option<Contents>,
}

/// What is in a journal.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) events: u64,
    /// Events without a reply.
    pub(crate) unanswered: u64,
    /// When the oldest event was received, and the newest.
    pub(crate) oldest: Option<Millis>,
    pub(crate) newest: Option<Millis>,
    /// Keys that repeats are recognised by.
    pub(crate) keys: u64,
    pub(crate) leases: u64,
    pub(crate) observers: Vec<ObserverState>,
}

impl Report {
    /// So many of something are there that must not be.
    pub(crate) fn found(&mut self, count: u64, what: &str) {
        if count > 0 {
            self.problems.push(format!("{count} {what}"));
        }
    }
}

/// Checks a journal, and changes nothing; a server may run on it.
///
/// # Errors
/// When it is not there, or cannot be read at all.
pub(crate) async fn inspect(config: &config::Journal) -> Result<Report, JournalError> {
    match &config.url {
        JournalUrl::Memory => Err(JournalError::storage(
            "a \"memory:\" journal is lost when its server ends, and only that server can read it: there is nothing to check",
        )),
        #[cfg(feature = "sqlite")]
        JournalUrl::Sqlite(path) => super::sqlite::inspect(path),
        #[cfg(feature = "postgres")]
        JournalUrl::Postgres(url) => super::postgres::inspect(url.expose()).await,
        JournalUrl::Unread => Err(super::unread()),
        #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
        other => Err(super::not_built(other)),
    }
}
