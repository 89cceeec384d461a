//! Whether a store can store, and how much it holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::{error, info};

use super::super::{Absent, JournalError, ObserverState, Usage};

/// Whether a store can store; part of what is behind its lock, so that nothing is admitted after it has failed.
#[derive(Debug)]
pub(crate) struct Health {
    /// Prefix of log lines, where the error does not name the journal.
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

    /// It cannot store until further notice.
    pub(crate) fn fail(&mut self, trouble: &JournalError) {
        if self.trouble.replace(trouble.clone()).is_none() {
            error!("{}{trouble}; deliveries are answered with 503 until it can store again", self.prefix);
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

/// How much a store holds, as last measured.
#[derive(Debug)]
pub(crate) struct Counts {
    bytes: AtomicU64,
    waiting: AtomicU64,
    dead: AtomicU64,
    /// Observers that are absent, their pending observations, and their dead letters.
    absent: [AtomicU64; 3],
    lost: AtomicU64,
    full: AtomicBool,
    max_size: u64,
}

impl Counts {
    pub(crate) fn new(max_size: u64) -> Self {
        Self {
            bytes: AtomicU64::default(),
            waiting: AtomicU64::default(),
            dead: AtomicU64::default(),
            absent: Default::default(),
            lost: AtomicU64::default(),
            full: AtomicBool::default(),
            max_size,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let all = [&self.bytes, &self.waiting, &self.dead, &self.lost];
        let [bytes, waiting, dead, lost] = all.map(|it| it.load(Ordering::Relaxed));
        let [observers, of_absent, dead_of_absent] = self.absent.each_ref().map(|it| it.load(Ordering::Relaxed));
        Usage { bytes, waiting, dead, absent: Absent { observers, waiting: of_absent, dead: dead_of_absent }, lost }
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

    /// It has become smaller; the next measurement shows whether there is room.
    pub(crate) fn shrunk(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The database has lost so many events, or replies of events, that were acknowledged.
    pub(crate) fn lost(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, waiting: i64, dead: i64) {
        self.waiting.store(waiting.cast_unsigned(), Ordering::Relaxed);
        self.dead.store(dead.cast_unsigned(), Ordering::Relaxed);
    }

    /// These observers are absent.
    pub(crate) fn absent(&self, observers: &[ObserverState]) {
        let sum = |of: fn(&ObserverState) -> u64| observers.iter().map(of).sum();
        let counts = [observers.len() as u64, sum(|it| it.pending), sum(|it| it.dead)];
        self.absent.iter().zip(counts).for_each(|(place, count)| place.store(count, Ordering::Relaxed));
    }
}
