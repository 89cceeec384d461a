//! Whether a forward is paused. A named lease of the journal has it, so that a restart does not end it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time;

use super::Forward;
use crate::{
    crypto::hex,
    journal::{JournalError, LeaseWrite, Millis},
};

/// How often a paused forward looks whether it was resumed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often a forward looks whether another node has paused it.
const NODES_INTERVAL: Duration = Duration::from_secs(10);

/// How long the lease is held to be written.
const TERM: Duration = Duration::from_secs(10);

/// Why a forward is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paused {
    /// Since when, milliseconds since 1970.
    pub(crate) since: Millis,
    pub(crate) why: String,
    /// What its target was: with another one it is not paused. A digest, as a URL may have a secret in it.
    to: String,
}

impl Paused {
    pub(crate) fn new(to: &str, since: Millis, why: &str) -> Self {
        Self { since, why: why.to_owned(), to: digest(to) }
    }

    /// What the journal has, if that is of this target.
    pub(crate) fn read(value: &str, to: &str) -> Option<Self> {
        serde_json::from_str::<Self>(value).ok().filter(|paused| paused.to == digest(to))
    }
}

fn digest(to: &str) -> String {
    hex(&Sha256::digest(to))
}

/// The lease of a forward.
pub(crate) fn lease_name(forward: &str) -> String {
    format!("forward/{forward}")
}

/// Keeps a forward and the journal of one mind about whether it is paused.
pub(super) async fn watch(forward: Arc<Forward>) {
    let name: Arc<str> = lease_name(&forward.name).into();
    let mut is_kept = false;
    loop {
        // The journal logs what is wrong.
        let Ok(value) = forward.journal.read_lease(&name).await else {
            time::sleep(POLL_INTERVAL).await;
            continue;
        };
        match value.and_then(|value| Paused::read(&value, forward.settings.to.identity())) {
            Some(paused) => {
                is_kept = true;
                forward.health.hold(paused);
                time::sleep(POLL_INTERVAL).await;
            }
            None if !is_kept && forward.health.paused().is_some() => keep(&forward, &name).await,
            None => {
                is_kept = false;
                forward.health.resume();
                let pausing = forward.health.pausing();
                match forward.journal.is_remote() {
                    true => drop(time::timeout(NODES_INTERVAL, pausing).await),
                    false => pausing.await,
                }
            }
        }
    }
}

/// Writes that the forward is paused, until that has succeeded.
async fn keep(forward: &Forward, name: &Arc<str>) {
    while let Some(paused) = forward.health.paused()
        && write(forward, name, &paused).await.is_err()
    {
        time::sleep(POLL_INTERVAL).await;
    }
}

async fn write(forward: &Forward, name: &Arc<str>, paused: &Paused) -> Result<(), JournalError> {
    let Some(held) = forward.journal.acquire_lease(name, TERM).await? else { return Err(JournalError::Lost) };
    let value = serde_json::to_string(paused).map_err(JournalError::storage)?;
    forward.journal.write_lease(&held, LeaseWrite { value: Some(value), ..LeaseWrite::default() }).await.map(drop)
}
