//! What a journal in memory holds, in bytes, and how much it may be.
//!
//! Texts count as long as they are allocated; what is around them as measured: the block of each structure, its places in
//! the tables, which are never full, and what the allocator adds.

use std::{mem::size_of, sync::Arc};

use super::{
    super::{Entry, EventRecord},
    state::{Observation, Observed, Remembered, StoredLease},
    waiting::Waiting,
};
use crate::platform::Body;

/// An event that is remembered, without its reply: its entry, and its places in a table and a queue.
pub(super) const ENTRY: usize = size_of::<Entry>() + ARC + 4 * size_of::<Remembered>();

/// The counters of an `Arc`.
const ARC: usize = 16;

/// An event that is observed, without its texts; one more observer of it.
const OBSERVED: usize = size_of::<Observed>() + 3 * ARC;
const OBSERVATION: usize = 2 * size_of::<(uuid::Uuid, Observation)>();

/// An observation that is found by a user, without the name: its places in two tables and a set.
const WAITER: usize = 2 * size_of::<(Box<str>, Waiting)>() + 2 * ARC;

/// A named lease without its texts.
const LEASE: usize = 2 * size_of::<(Arc<str>, StoredLease)>() + ARC;

/// What is held, by what for.
#[derive(Debug)]
pub(super) struct Space {
    limit: usize,
    /// Keys and replies. Most of it can be removed.
    remembered: usize,
    /// Pending observations.
    observed: usize,
    leases: usize,
}

impl Space {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, remembered: 0, observed: 0, leases: 0 }
    }

    pub(super) const fn used(&self) -> usize {
        self.remembered + self.observed + self.leases
    }

    /// Whether there is room for so much more.
    pub(super) const fn fits(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }

    /// What observations may fill: events without observers are still admitted when observers are behind.
    pub(super) const fn observable(&self) -> usize {
        self.limit - self.limit / 8
    }

    /// Whether observers may be given so much more.
    pub(super) const fn fits_observers(&self, bytes: usize) -> bool {
        bytes <= self.observable().saturating_sub(self.observed + self.leases)
    }

    /// Whether leases may grow by so much although there is no room: some have to, for observers to get on.
    pub(super) const fn is_owed_to_leases(&self, bytes: usize) -> bool {
        bytes <= (self.limit / 16).saturating_sub(self.leases)
    }

    pub(super) const fn remember(&mut self, bytes: usize) {
        self.remembered += bytes;
    }

    pub(super) const fn forget(&mut self, bytes: usize) {
        self.remembered = self.remembered.saturating_sub(bytes);
    }

    pub(super) const fn observe(&mut self, bytes: usize) {
        self.observed += bytes;
    }

    pub(super) const fn release(&mut self, bytes: usize) {
        self.observed = self.observed.saturating_sub(bytes);
    }

    pub(super) const fn resize_lease(&mut self, before: usize, after: usize) {
        self.leases = (self.leases + after).saturating_sub(before);
    }
}

/// What an event takes for its observers; nothing without any.
pub(super) fn of_observed(record: &EventRecord, has_key: bool, observers: usize) -> usize {
    if observers == 0 {
        return 0;
    }
    // Where there is no key nothing else counts its entry.
    let entry = if has_key { 0 } else { size_of::<Entry>() + ARC };
    OBSERVED + of_record(record) + entry + observers * OBSERVATION
}

/// The texts of an event.
pub(super) fn of_record(record: &EventRecord) -> usize {
    let subject = record.subject.as_ref().map_or(0, |subject| subject.len());
    let query = record.query.as_ref().map_or(0, |query| ARC + query.len());
    record.payload.text().len() + subject + query
}

/// What it takes to find an observation by a user.
pub(super) fn of_waiter(user: Option<&str>) -> usize {
    user.map_or(0, |user| 2 * user.len() + WAITER)
}

pub(super) const fn of_lease(name: &str, value: Option<&String>) -> usize {
    let value = match value {
        Some(value) => value.capacity(),
        None => 0,
    };
    LEASE + name.len() + value
}

pub(super) const fn of_body(reply: &Body) -> usize {
    match reply {
        Body::Plain(_) => 0,
        Body::Document(text) => text.capacity(),
    }
}

/// What the reply of an entry takes.
pub(super) fn of_reply(entry: &Entry) -> usize {
    entry.reply().and_then(|reply| reply.as_ref().ok()).map_or(0, of_body)
}
