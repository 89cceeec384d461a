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
    pub(crate) fn new(to: &reqwest::Url, since: Millis, why: &str) -> Self {
        Self { since, why: why.to_owned(), to: digest(to) }
    }

    /// What the journal has, if that is of this target.
    pub(crate) fn read(value: &str, to: &reqwest::Url) -> Option<Self> {
        serde_json::from_str::<Self>(value).ok().filter(|paused| paused.to == digest(to))
    }
}

fn digest(url: &reqwest::Url) -> String {
    hex(&Sha256::digest(url.as_str()))
}

/// The lease of a forward.
pub(crate) fn lease_name(forward: &str) -> String {
    format!("forward/{forward}")
}

/// Keeps a forward and the journal of one mind about whether it is paused.
pub(super) async fn watch(forward: Arc<Forward>) {
    let name: Arc<str> = lease_name(&forward.name).into();
    loop {
        // The journal logs what is wrong.
        let Ok(value) = forward.journal.read_lease(&name).await else {
            time::sleep(POLL_INTERVAL).await;
            continue;
        };
        match value.and_then(|value| Paused::read(&value, &forward.settings.target.url)) {
            Some(paused) => {
                forward.health.hold(paused);
                time::sleep(POLL_INTERVAL).await;
            }
            None => {
                forward.health.resume();
                let paused = async {
                    match forward.journal.is_remote() {
                        true => time::timeout(NODES_INTERVAL, forward.health.pausing()).await.is_ok(),
                        false => {
                            forward.health.pausing().await;
                            true
                        }
                    }
                };
                if paused.await {
                    keep(&forward, &name).await;
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
