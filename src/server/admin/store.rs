//! The journal of the running server, as the event API sees it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::task;

use super::error::ApiError;
use crate::{
    config::{self, JournalUrl},
    journal::{self, Archive, Journal, JournalError},
};

/// Opens the archive on first use. The connections are its own, so that a list that takes a while holds up no delivery.
pub(super) struct Store {
    /// Weak: the admin thread must not keep the journal open after its server.
    journal: Weak<dyn Journal>,
    config: config::Journal,
    opened: Mutex<Opened>,
}

#[derive(Default)]
enum Opened {
    /// Nobody has asked yet.
    #[default]
    No,
    Yes(Arc<dyn Archive>),
    /// The server is shutting down.
    NeverAgain,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.config.url).finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn new(journal: &Arc<dyn Journal>, config: config::Journal) -> Self {
        Self { journal: Arc::downgrade(journal), config, opened: Mutex::default() }
    }

    /// The journal itself, while the server runs.
    pub(super) fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.journal.upgrade()
    }

    /// What kind of journal it is.
    pub(super) const fn kind(&self) -> &'static str {
        match self.config.url {
            JournalUrl::Memory => "memory",
            JournalUrl::Sqlite(_) => "sqlite",
            JournalUrl::Postgres(_) => "postgres",
            JournalUrl::Unread => "unread",
        }
    }

    /// How large it may get, in bytes.
    pub(super) const fn max_bytes(&self) -> u64 {
        match self.config.url {
            JournalUrl::Memory => self.config.memory_limit as u64,
            JournalUrl::Sqlite(_) | JournalUrl::Postgres(_) | JournalUrl::Unread => self.config.max_size,
        }
    }

    /// What is in it.
    pub(super) async fn archive(&self) -> Result<Arc<dyn Archive>, ApiError> {
        let journal = self.journal.upgrade().ok_or(JournalError::Closed)?;
        if let Some(own) = journal.archive() {
            return Ok(own);
        }
        match &*self.lock() {
            Opened::No => {}
            Opened::Yes(opened) => return Ok(Arc::clone(opened)),
            Opened::NeverAgain => return Err(JournalError::Closed.into()),
        }
        let config = self.config.clone();
        let archive = task::spawn_blocking(move || journal::open_archive(&config)).await;
        let archive: Arc<dyn Archive> = archive.unwrap_or(Err(JournalError::Closed))?.into();
        let mut opened = self.lock();
        if matches!(*opened, Opened::NeverAgain) {
            return Err(JournalError::Closed.into());
        }
        *opened = Opened::Yes(Arc::clone(&archive));
        Ok(archive)
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server is shutting down: the file must be free for the next one.
    pub(super) fn close(&self) {
        *self.lock() = Opened::NeverAgain;
    }
}
