//! A named lease that a node keeps for as long as it does something that only one node may do.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{Journal, JournalError, LeaseWrite, NamedLease};

/// How long the lease lasts. A node that cannot renew it ends before its end what it does.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(10);
const RENEW_INTERVAL: Duration = Duration::from_secs(3);

/// What the lease is for ends this long before it.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// How often a node without the lease tries to get it, or one that cannot renew it tries again.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A named lease that is acquired, renewed and released.
pub(crate) struct KeptLease {
    journal: Arc<dyn Journal>,
    name: String,
    held: Mutex<Option<NamedLease>>,
}

/// A lease that was acquired.
#[derive(Debug)]
pub(crate) struct Acquired {
    pub(crate) held: NamedLease,
    /// What it is for ends then, unless the lease is renewed.
    until: Instant,
}

/// Why it is kept no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotKept {
    Taken,
    NotRenewed,
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "another node has the lease",
            Self::NotRenewed => "the lease could not be renewed",
        })
    }
}

impl fmt::Debug for KeptLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptLease").field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeptLease {
    pub(crate) fn new(journal: &Arc<dyn Journal>, name: String) -> Self {
        Self { journal: Arc::clone(journal), name, held: Mutex::default() }
    }

    /// Waits until this node has it; `None` when `stopping` comes first.
    pub(crate) async fn acquire(&self, stopping: &CancellationToken) -> Option<Acquired> {
        loop {
            let began = Instant::now();
            // The journal logs what is wrong.
            if let Ok(Some(held)) = self.journal.acquire_lease(&self.name, LEASE_DURATION).await {
                *self.held() = Some(held.clone());
                return Some(Acquired { held, until: began + LEASE_DURATION - LEASE_MARGIN });
            }
            let pause = POLL_INTERVAL.mul_f64(rand::random_range(1.0..=2.0));
            stopping.run_until_cancelled(time::sleep(pause)).await?;
        }
    }

    /// Keeps it; ready when it is lost, or about to be.
    pub(crate) async fn renew(&self, Acquired { held, until }: &Acquired) -> NotKept {
        let mut until = *until;
        loop {
            time::sleep(RENEW_INTERVAL.min(until.saturating_duration_since(Instant::now()))).await;
            let began = Instant::now();
            let write = LeaseWrite { value: None, keep: Some(LEASE_DURATION), expires: None, events: Vec::new() };
            match time::timeout_at(until.into(), self.journal.write_lease(held, write)).await {
                Ok(Ok(_)) => until = began + LEASE_DURATION - LEASE_MARGIN,
                Ok(Err(JournalError::Lost)) => return NotKept::Taken,
                Ok(Err(_)) if Instant::now() + POLL_INTERVAL < until => time::sleep(POLL_INTERVAL).await,
                Ok(Err(_)) | Err(_) => return NotKept::NotRenewed,
            }
        }
    }

    /// Gives it to other nodes, if this one has it.
    pub(crate) async fn release(&self) {
        let Some(held) = self.held().take() else { return };
        let release = LeaseWrite { value: None, keep: None, expires: None, events: Vec::new() };
        // One that is lost already is somebody else's.
        let _ = time::timeout(LEASE_MARGIN, self.journal.write_lease(&held, release)).await;
    }

    fn held(&self) -> MutexGuard<'_, Option<NamedLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
