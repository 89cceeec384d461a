//! Reading the configuration again while the server runs.

use std::{error::Error, fmt, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use super::{
    StartError,
    generation::{Common, Generation, Plan, Running},
};
use crate::{
    config::{Account, Config, ConfigError},
    delivery::Memory,
    hooks::{HandlerError, Hooks},
    journal::{self, Journal},
    panics::Panicked,
};

/// Reloads that wait, at most: each does the same.
const MAX_WAITING: usize = 16;

/// What a reload gives: the configuration as it is now, and the handlers for it.
pub type Loaded = Result<(Config, Hooks), HandlerError>;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[non_exhaustive]
pub struct Reloaded {
    /// Accounts that receive from now on, and did not before.
    pub added: Vec<String>,
    /// Accounts that no longer receive.
    pub removed: Vec<String>,
    /// Keys of the configuration that have changed and stay as they were until the next start.
    pub needs_restart: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration was read again")?;
        let parts = [
            ("accounts added", &self.added),
            ("accounts removed", &self.removed),
            ("needs a restart", &self.needs_restart),
        ];
        for (what, list) in parts.into_iter().filter(|(_, list)| !list.is_empty()) {
            write!(f, "; {what}: {}", list.join(", "))?;
        }
        Ok(())
    }
}

/// Why the configuration stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It is wrong: every problem, a line each.
    #[error("the new configuration is wrong, and the old one goes on: {}", .0.join("; "))]
    Wrong(Vec<String>),
    /// The server was started with a configuration that is not read again.
    #[error("this server cannot read its configuration again: the program that runs it does not say where it is")]
    Unsupported,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
    /// Too many wait already.
    #[error("the configuration is being read already")]
    Busy,
}

impl ReloadError {
    /// Of whatever kept a configuration from being used.
    pub(super) fn wrong(failure: &(dyn Error + 'static)) -> Self {
        let problems = failure.downcast_ref::<ConfigError>().or_else(|| match failure.downcast_ref() {
            Some(super::StartError::Config(problems)) => Some(problems),
            _ => None,
        });
        Self::Wrong(match problems {
            Some(problems) => problems.problems.iter().map(ToString::to_string).collect(),
            None => vec![failure.to_string()],
        })
    }
}

impl Reloaded {
    /// What is different.
    fn between(before: &Config, after: &Config) -> Self {
        let missing_in = |config: &Config, of: &Config| {
            of.accounts.iter().map(Account::id).filter(|id| config.account(id).is_none()).collect()
        };
        Self { added: missing_in(before, after), removed: missing_in(after, before), needs_restart: Vec::new() }
    }
}

/// What a configuration that was read again makes.
pub(super) struct Next {
    pub(super) generation: Generation,
    pub(super) observers: Vec<journal::Observer>,
    pub(super) reloaded: Reloaded,
}

/// Reads the configuration again, and makes of it what a server needs. Nothing of that runs yet.
///
/// # Errors
/// [`ReloadError::Wrong`] with what is wrong.
pub(super) async fn load<L, F>(
    load: &L,
    former: &Running,
    journal: &Arc<dyn Journal>,
    memory: &Arc<Memory>,
    common: &Common,
) -> Result<Next, ReloadError>
where
    L: Fn() -> F,
    F: Future<Output = Loaded>,
{
    // Hooks that do not fit together panic, as they do at the start.
    let loaded = AssertUnwindSafe(async { load().await }).catch_unwind().await;
    let loaded =
        loaded.map_err(|payload| ReloadError::Wrong(vec![format!("its handlers: {}", Panicked::of(payload))]))?;
    let (mut config, hooks) = loaded.map_err(|failure| ReloadError::wrong(&*failure))?;
    let wrong = |failure: StartError| ReloadError::wrong(&failure);
    // What is applied is what is shown; the rest stays as it was.
    let needs_restart = config.keep_fixed(&former.config).into_iter().map(str::to_owned).collect();
    let reloaded = Reloaded { needs_restart, ..Reloaded::between(&former.config, &config) };
    let plan = Plan::new(&config, hooks, common, &former.endpoints).map_err(wrong)?;
    let observers = plan.observers();
    let generation = Generation::new(plan, journal, memory, common).map_err(wrong)?;
    generation.prepare().await;
    Ok(Next { generation, observers, reloaded })
}

/// Who asked for a reload is told what came of it.
pub(super) type Answer = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// Has a server read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reload(Arc<mpsc::Sender<Answer>>);

impl Reload {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Answer>) {
        let (ask, asked) = mpsc::channel(MAX_WAITING);
        (Self(Arc::new(ask)), asked)
    }

    /// Reads the configuration again, and applies it as a whole or not at all.
    ///
    /// # Errors
    /// [`ReloadError`] when everything stays as it was.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ReloadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReloadError::Stopping,
        })?;
        answered.await.unwrap_or(Err(ReloadError::Stopping))
    }
}
