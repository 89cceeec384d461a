//! What runs under which key, so that a repeat joins it.

use std::{collections::HashMap, sync::Arc};

use echostr_protocol::prehashed::BuildPrehashed;
use tokio::sync::oneshot;

use super::super::{Admission, Entry, JournalError};
use crate::platform::{DedupeKey, Key};

/// What comes of an admission.
pub(crate) type Admitted = Result<Admission, JournalError>;

/// A delivery that waits for that.
pub(crate) type Waiter = oneshot::Sender<Admitted>;

/// The events of this process that have no durable reply yet, by key.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    keys: HashMap<Key, Running, BuildPrehashed>,
}

#[derive(Debug)]
enum Running {
    /// It is being admitted; these deliveries want to know what comes of it.
    Asking(Vec<Waiter>),
    /// Its responder runs.
    Entry(Arc<Entry>),
}

/// What a delivery finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: it is the one that asks the store.
    Nothing(Waiter),
    /// Another that asks the store; it waits for what comes of that.
    Asking,
    /// An event whose responder runs.
    Entry(Arc<Entry>),
}

impl InFlight {
    /// The entry that runs under a key.
    pub(crate) fn entry(&self, key: &DedupeKey) -> Option<&Arc<Entry>> {
        match self.keys.get(&key.bytes)? {
            Running::Entry(entry) => Some(entry),
            Running::Asking(_) => None,
        }
    }

    /// Joins what there is under a key.
    pub(crate) fn join(&mut self, key: &DedupeKey, waiter: Waiter) -> Found {
        match self.keys.get_mut(&key.bytes) {
            Some(Running::Asking(waiting)) => {
                waiting.push(waiter);
                Found::Asking
            }
            Some(Running::Entry(entry)) => Found::Entry(Arc::clone(entry)),
            None => {
                self.keys.insert(key.bytes, Running::Asking(Vec::new()));
                Found::Nothing(waiter)
            }
        }
    }

    /// The responder of an entry runs; gives those who wait for what comes of its admission.
    pub(crate) fn run(&mut self, key: &DedupeKey, entry: &Arc<Entry>) -> Vec<Waiter> {
        Self::waiting(self.keys.insert(key.bytes, Running::Entry(Arc::clone(entry))))
    }

    /// Nothing runs under a key any more, or it was not to run here; gives those who wait for what comes of its admission.
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

    fn waiting(running: Option<Running>) -> Vec<Waiter> {
        match running {
            Some(Running::Asking(waiting)) => waiting,
            Some(Running::Entry(_)) | None => Vec::new(),
        }
    }
}
