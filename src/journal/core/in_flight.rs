//! Events in flight by key, so that a repeat joins them.

use std::{collections::HashMap, sync::Arc};

use echostr_protocol::prehashed::BuildPrehashed;
use tokio::sync::oneshot;

use super::super::{Admission, Entry, JournalError};
use crate::platform::{DedupeKey, Key};

/// The outcome of an admission.
pub(crate) type Admitted = Result<Admission, JournalError>;

/// A delivery that waits for that.
pub(crate) type Waiter = oneshot::Sender<Admitted>;

/// The events of this process that have no durable reply yet, by key.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    keys: HashMap<Key, Running, BuildPrehashed>,
}

/// What runs under a key.
#[derive(Debug)]
pub(crate) enum Running {
    /// It is being admitted; these deliveries wait for the outcome.
    Asking(Vec<Waiter>),
    /// Its responder runs.
    Entry(Arc<Entry>),
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The entry that runs under a key.
    pub(crate) fn entry(&self, key: &DedupeKey) -> Option<&Arc<Entry>> {
        match self.keys.get(&key.bytes)? {
            Running::Entry(entry) => Some(entry),
            Running::Asking(_) => None,
        }
    }

    /// The entries whose responders run.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.keys.values().filter_map(|running| match running {
            Running::Entry(entry) => Some(entry),
            Running::Asking(_) => None,
        })
    }

    /// What runs under a key.
    pub(crate) fn running(&mut self, key: &DedupeKey) -> Option<&mut Running> {
        self.keys.get_mut(&key.bytes)
    }

    /// The store is asked to admit an event with a key under which nothing runs.
    pub(crate) fn ask(&mut self, key: &DedupeKey) {
        self.keys.insert(key.bytes, Running::Asking(Vec::new()));
    }

    /// The responder of an entry runs; returns the deliveries that wait for the outcome of its admission.
    pub(crate) fn run(&mut self, key: &DedupeKey, entry: &Arc<Entry>) -> Vec<Waiter> {
        Self::waiting(self.keys.insert(key.bytes, Running::Entry(Arc::clone(entry))))
    }

    /// A key is no longer in flight, or was not to run here; returns the deliveries that wait for the outcome
    /// of its admission.
    pub(crate) fn release(&mut self, key: &DedupeKey) -> Vec<Waiter> {
        Self::waiting(self.keys.remove(&key.bytes))
    }

    /// The reply of an entry is durable. Another may run under its key by now.
    pub(crate) fn end(&mut self, entry: &Arc<Entry>) {
        if let Some(key) = &entry.key
            && self.entry(key).is_some_and(|running| Arc::ptr_eq(running, entry))
        {
            self.keys.remove(&key.bytes);
        }
    }

    /// Nothing that runs here will be durable.
    pub(crate) fn abandon(&mut self) {
        for (_, running) in self.keys.drain() {
            if let Running::Entry(entry) = running {
                entry.settle(Err(JournalError::Closed));
            }
        }
    }

    fn waiting(running: Option<Running>) -> Vec<Waiter> {
        match running {
            Some(Running::Asking(waiting)) => waiting,
            Some(Running::Entry(_)) | None => Vec::new(),
        }
    }
}
