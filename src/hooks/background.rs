//! Jobs of a program that run beside the server, and what they may use.

use std::{
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::HandlerError;
use crate::{
    api::{Api, ApiError, Apis, WeakApis},
    bots::Bots,
    clock::Clock,
    config::{Account, Config, suggestion},
    websocket::{Bot, BotError},
};

/// How a background job runs: under which name, and on which nodes. A name alone will do: then every node runs it.
///
/// ```
/// use echostr::hooks::{Background, Hooks};
///
/// let hooks = Hooks::default().background(Background::named("digest").on_one_node(), async |server| {
///     while server.sleep(std::time::Duration::from_secs(3600)).await {
///         let followers = server.api("mp/shop")?.get("cgi-bin/user/get", &[]).await?;
///         tracing::info!("{} followers", followers["total"]);
///     }
///     Ok(())
/// });
/// # drop(hooks);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    pub(crate) name: Arc<str>,
    pub(crate) on_one_node: bool,
}

impl Background {
    /// Under this name, which log lines and readiness have.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), on_one_node: false }
    }

    /// On one node of those that share a journal, which has a lease for it; when that node is gone, another runs it. What it has
    /// begun is then cancelled where it waits, and may have been done in part.
    #[must_use]
    pub const fn on_one_node(mut self) -> Self {
        self.on_one_node = true;
        self
    }
}

impl From<&str> for Background {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

type Run = Arc<dyn Fn(ServerHandle) -> Running + Send + Sync>;
type Running = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// A registered job.
#[derive(Clone)]
pub(crate) struct BackgroundJob {
    pub(crate) how: Background,
    pub(crate) run: Run,
    pub(super) registered: &'static Location<'static>,
}

impl BackgroundJob {
    #[track_caller]
    pub(super) fn new<F, Fut>(how: Background, run: F) -> Self
    where
        F: Fn(ServerHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        Self { how, run: Arc::new(move |server| Box::pin(run(server))), registered: Location::caller() }
    }
}

/// A running server, as jobs and the program around it see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    accounts: RwLock<Accounts>,
}

/// What there is for each account. Nothing here keeps the journal open.
#[derive(Debug, Default)]
struct Accounts {
    names: Vec<String>,
    apis: WeakApis,
    bots: Bots,
}

impl ServerHandle {
    /// That of a server whose accounts are not there yet.
    pub(crate) fn new(clock: &Clock) -> Self {
        let shared = Shared { clock: clock.clone(), accounts: RwLock::default() };
        Self { shared: Arc::new(shared), stopping: CancellationToken::new() }
    }

    /// These are its accounts from now on.
    pub(crate) fn show(&self, config: &Config, apis: &Apis, bots: &Bots) {
        let names = config.accounts.iter().map(Account::id).collect();
        let accounts = Accounts { names, apis: apis.downgrade(), bots: bots.clone() };
        *self.shared.accounts.write().unwrap_or_else(PoisonError::into_inner) = accounts;
    }

    /// The same for something that may end earlier.
    pub(crate) fn until(&self, stopping: CancellationToken) -> Self {
        Self { shared: Arc::clone(&self.shared), stopping }
    }

    /// What [`stopping`](Self::stopping) waits for.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The platform's API, with the access token of this account (`mp/shop`).
    ///
    /// # Errors
    /// When there is no such account, it has no `secret` ([`ApiError::NoSecret`]), or the server has ended.
    pub fn api(&self, account: &str) -> Result<Api, ApiError> {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if !accounts.names.iter().any(|known| known == account) {
            let known: Vec<&str> = accounts.names.iter().map(String::as_str).collect();
            let hint = suggestion(account, &known);
            return Err(ApiError::UnknownAccount { account: account.to_owned(), hint });
        }
        let apis = accounts.apis.upgrade().ok_or(ApiError::Ended)?;
        apis.get(account).cloned().ok_or_else(|| ApiError::NoSecret(account.to_owned()))
    }

    /// The connection of a bot in WebSocket mode.
    ///
    /// # Errors
    /// [`BotError::NotWebSocket`] when the account has none.
    pub fn bot(&self, account: &str) -> Result<Bot, BotError> {
        let accounts = self.shared.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.bots.connection(account).cloned().ok_or_else(|| BotError::NotWebSocket(account.to_owned()))
    }

    /// Ready when the server is asked to stop. A job then has the grace period (`[server] shutdown_grace`) to end; what has not
    /// ended by then is cancelled.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stopping.clone().cancelled_owned()
    }

    /// Whether the server has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits; returns false as soon as the server is asked to stop.
    pub async fn sleep(&self, pause: Duration) -> bool {
        self.stopping.run_until_cancelled(time::sleep(pause)).await.is_some()
    }

    /// The time of day, which tests may set.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

impl fmt::Debug for BackgroundJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundJob").field("how", &self.how).finish_non_exhaustive()
    }
}
