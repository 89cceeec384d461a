//! Whether a store can store, and how much it holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::{error, info};

use super::super::{JournalError, Usage};

/// Whether a store can store; part of what is behind its lock, so that nothing is taken in after it has failed.
#[derive(Debug)]
pub(crate) struct Health {
    /// What a log line begins with, where the trouble does not say that it is of the journal.
    prefix: &'static str,
    trouble: Option<JournalError>,
    closed: bool,
}

impl Health {
    pub(crate) const fn new(prefix: &'static str) -> Self {
        Self { prefix, trouble: None, closed: false }
    }

    /// # Errors
    /// When it is closed, or why it cannot store.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        self.trouble.clone().map_or(Ok(()), Err)
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) const fn has_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// It cannot store until it says otherwise.
    pub(crate) fn fail(&mut self, trouble: &JournalError) {
        if self.trouble.replace(trouble.clone()).is_none() {
            error!("{}{trouble}; events are not taken until it can store again", self.prefix);
        }
    }

    pub(crate) fn recover(&mut self, name: impl FnOnce() -> String) {
        if self.trouble.take().is_some() {
            info!("{} can store again", name());
        }
    }

    pub(crate) const fn close(&mut self) {
        self.closed = true;
    }
}

/// How much a store holds, as it was lately.
#[derive(Debug)]
pub(crate) struct Counts {
    bytes: AtomicU64,
    waiting: AtomicU64,
    dead: AtomicU64,
    full: AtomicBool,
    max_size: u64,
}

impl Counts {
    pub(crate) fn new(max_size: u64) -> Self {
        Self {
            bytes: AtomicU64::default(),
            waiting: AtomicU64::default(),
            dead: AtomicU64::default(),
            full: AtomicBool::default(),
            max_size,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let [bytes, waiting, dead] = [&self.bytes, &self.waiting, &self.dead].map(|it| it.load(Ordering::Relaxed));
        Usage { bytes, waiting, dead }
    }

    /// # Errors
    /// When it was as large as it may be when it was [measured](Self::measured) last.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        if self.full.load(Ordering::Relaxed) { Err(JournalError::Full) } else { Ok(()) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it has more than a share of what it may have.
    pub(crate) fn is_above(&self, share: f64) -> bool {
        self.bytes() as f64 > self.max_size as f64 * share
    }

    pub(crate) fn measured(&self, bytes: u64) {
        self.full.store(bytes >= self.max_size, Ordering::Relaxed);
        self.shrunk(bytes);
    }

    /// It has become smaller; the next measurement tells whether there is room.
    pub(crate) fn shrunk(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, waiting: i64, dead: i64) {
        self.waiting.store(waiting.cast_unsigned(), Ordering::Relaxed);
        self.dead.store(dead.cast_unsigned(), Ordering::Relaxed);
    }
}
