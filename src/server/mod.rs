//! The listening sockets: callbacks on one, health and metrics on the other.

mod activity;
mod admin;
mod body;
mod callback;
mod client;
mod connection;
mod files;
mod generation;
mod refusals;
mod reload;
mod routes;
pub(crate) mod trial;
mod unrouted;
mod watch;

/// What the event API answers with.
pub(crate) mod model {
    pub(crate) use super::admin::{
        change::{Dropped, Queued, Retried},
        error::ErrorBody,
        model::*,
    };
}

use std::{
    future::{Future, Ready},
    io, mem,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{dispatcher, error, info, warn};

pub use self::reload::{Loaded, Reload, ReloadError, Reloaded};
pub(crate) use self::routes::Routes;
use self::{
    callback::Callbacks,
    connection::Listener,
    generation::{Common, Generation, Plan, Retired},
    watch::Limits,
};
use crate::{
    answers::InstallError,
    api::ApiError,
    clock::Clock,
    config::{Config, ConfigError},
    crypto::KeyError,
    delivery::Memory,
    forward,
    hooks::Hooks,
    journal::{self, Journal, JournalError},
    kf, late, log,
    metrics::Metrics,
    next_message, observers,
    supervisor::Supervisor,
    thirdparty, websocket,
};

/// What requests are given to.
type Current = ArcSwap<Callbacks>;

pub use crate::hooks::ServerHandle;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{}", cannot_listen(*.address, .section, .source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Where it is configured.
        section: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// An account's AES key is not valid.
    #[error("[{account}] aes_key: {source}")]
    Key {
        /// The account.
        account: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Hooks are registered for an account that is not configured; a similar one, if there is one: `; did you mean …?`.
    #[error("hooks are registered for account `{0}`, which is not configured{1}")]
    UnknownAccount(String, String),
    /// The configuration names an observer that there is not.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The platforms' API cannot be called.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The service of an answer cannot be called.
    #[error("[[answer]] {0}")]
    Answer(String),
    /// The target of a forward cannot be called.
    #[error("[[forward]] {0}")]
    Forward(String),
    /// The journal cannot be used.
    #[error("[journal] {0}")]
    Journal(#[from] JournalError),
}

/// That an address cannot be listened on, and what to do.
pub(crate) fn cannot_listen(address: SocketAddr, section: &str, failure: &io::Error) -> String {
    let advice = match failure.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: stop it, or use another port",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this machine: 0.0.0.0 is all of them",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 need the right to (CAP_NET_BIND_SERVICE): use a higher one"
        }
        _ => "",
    };
    format!("cannot listen on {address} ({section}): {failure}{advice}")
}

impl From<InstallError> for StartError {
    fn from(failure: InstallError) -> Self {
        match failure {
            InstallError::Config(problems) => Self::Config(problems),
            InstallError::Client(failure) => Self::Answer(failure.to_string()),
        }
    }
}

/// How a server ended that did not finish everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The grace period was over, and what was in flight was cancelled. Platforms retry it, observers after the next start.
    #[error("the grace period was over; cancelled what was in flight")]
    Cancelled,
    /// A background task panicked that cannot be started again. The process should end, and be started anew.
    #[error("the background task {0} has ended for good; start the server anew")]
    Lost(Arc<str>),
}

/// A server that listens, and serves once it [runs](Server::run).
#[derive(Debug)]
pub struct Server {
    generation: Generation,
    common: Common,
    memory: Arc<Memory>,
    listener: Arc<Listener>,
    admin: Arc<Listener>,
    admin_parts: admin::Parts,
    journal: Arc<dyn Journal>,
    reload: Reload,
    reloads: mpsc::Receiver<reload::Answer>,
}

impl Server {
    /// Listens on the configured addresses; port 0 takes a free one.
    ///
    /// # Errors
    /// [`StartError`] when an address is taken or the accounts do not fit the hooks.
    pub async fn bind(config: &Config, hooks: Hooks, clock: Clock) -> Result<Self, StartError> {
        let common = Common::new(clock);
        let Common { metrics, supervisor, guard, deferred, listeners, refusals, clock, .. } = &common;
        let plan = Plan::new(config, hooks, &common, &[])?;
        let journal = journal::open(&config.journal, plan.observers(), supervisor, clock, Some(metrics.commits()))?;
        deferred.attach(&journal);
        let memory = Memory::of(&*journal);
        let generation = Generation::new(plan, &journal, &memory, &common)?;
        generation.show(&common.handle);
        let limits = Limits {
            connections: config.server.max_connections,
            header: config.server.header_timeout,
            idle: config.server.keep_alive,
            new: config.server.keep_alive,
        };
        let listener =
            Listener::bind(config.server.listen, limits, "max_connections", "raise it if the clients are legitimate")
                .map_err(|source| StartError::Listen {
                address: config.server.listen,
                section: "[server] listen",
                source,
            })?;
        let callback = listener.address().unwrap_or(config.server.listen);
        let (reload, reloads) = Reload::channel();
        let admin_parts = admin::Parts {
            config: config.admin.clone(),
            journal_config: config.journal.clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            view: generation.view(),
            memory: Arc::clone(&memory),
            refusals: Arc::clone(refusals),
            deferred: deferred.clone(),
            listeners: listeners.clone(),
            callback,
            clock: clock.clone(),
            reload: reload.clone(),
        };
        let limits = Limits { connections: ADMIN_CONNECTIONS, ..limits };
        let admin =
            Listener::bind(config.admin.listen, limits, "the limit of admin connections", "check who can reach it")
                .map_err(|source| StartError::Listen {
                    address: config.admin.listen,
                    section: "[admin] listen",
                    source,
                })?;
        guard.protect([listener.address(), admin.address()].into_iter().flatten());
        let listener = Arc::new(listener.counted(metrics.connections.clone()));
        let admin = Arc::new(admin);
        Ok(Self { generation, common, memory, listener, admin, admin_parts, journal, reload, reloads })
    }

    /// Where callbacks are received.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Where health and metrics are served.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.address()
    }

    /// What the program around it may use while it runs: the platforms' API, and when it stops.
    pub fn handle(&self) -> ServerHandle {
        self.common.handle.clone()
    }

    /// The journal, for tests that wait until observers are done.
    #[doc(hidden)]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Its background tasks, for tests that have them fail.
    #[doc(hidden)]
    pub fn supervisor(&self) -> &Supervisor {
        &self.common.supervisor
    }

    /// Has the server read its configuration again while it runs: see [`Server::run_reloading`].
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `shutdown` is ready; then takes no more connections, and lets deliveries and handlers in flight finish
    /// within the grace period. What is left is cancelled; everything that was started has ended when this returns.
    ///
    /// # Errors
    /// [`RunError`] when something in flight was cancelled, or when a background task ended that the server cannot do
    /// without: then it does not wait for `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        self.serve(shutdown, None::<fn() -> Ready<Loaded>>).await
    }

    /// The same; the configuration, and the handlers for it, are read again with `load` whenever that is
    /// [asked](Server::reload) for.
    ///
    /// What is new is used as a whole or not at all: a configuration that is wrong, or handlers that cannot be set up, change
    /// nothing. Requests and handlers that run go on with the configuration that they began with. Addresses, the journal and a
    /// few limits change with the next start only: [`Reloaded::needs_restart`] names them.
    ///
    /// # Errors
    /// As for [`Server::run`].
    pub async fn run_reloading<L, F>(self, shutdown: impl Future<Output = ()>, load: L) -> Result<(), RunError>
    where
        L: Fn() -> F,
        F: Future<Output = Loaded>,
    {
        self.serve(shutdown, Some(load)).await
    }

    async fn serve<L, F>(mut self, shutdown: impl Future<Output = ()>, load: Option<L>) -> Result<(), RunError>
    where
        L: Fn() -> F,
        F: Future<Output = Loaded>,
    {
        let (stopping, supervisor) = (self.common.handle.token().clone(), self.common.supervisor.clone());
        let admin = Arc::new(admin::Admin::new(
            self.admin_parts,
            self.common.metrics.clone(),
            stopping.clone(),
            &self.journal,
            supervisor.clone(),
        ));
        self.generation.prepare().await;
        let current = Arc::new(Current::new(Arc::clone(&self.generation.callbacks)));
        let mut grace = self.generation.config.server.shutdown_grace;
        let mut running = self.generation.start(&self.journal, &self.common);
        // Probes are answered, and refused readiness, until the last delivery is done.
        let stopped = CancellationToken::new();
        let _stopped = stopped.clone().drop_guard();
        let serve = {
            let (listener, current, stopping) = (Arc::clone(&self.listener), Arc::clone(&current), stopping.clone());
            move || {
                let (listener, current, stopping) = (Arc::clone(&listener), Arc::clone(&current), stopping.clone());
                async move { listener.serve(stopping, |peer| callback::service(Arc::clone(&current), peer)).await }
            }
        };
        let mut serving = tokio::spawn(supervisor.keep("listener", serve));
        let serving_admin = serve_admin(self.admin, &admin, stopped.clone(), &supervisor);
        let upkeep = {
            let (metrics, journal) = (self.common.metrics.clone(), Arc::clone(&self.journal));
            let current = Arc::clone(&current);
            move || maintain(metrics.clone(), Arc::clone(&journal), Arc::clone(&current))
        };
        let upkeep = tokio::spawn(supervisor.keep("metrics", upkeep));
        let mut retired = Retired::default();
        let mut shutdown = pin!(shutdown);
        let lost = loop {
            let answer = tokio::select! {
                () = &mut shutdown => break None,
                lost = supervisor.lost() => break Some(lost),
                Some(answer) = self.reloads.recv() => answer,
            };
            let Some(load) = &load else {
                let _ = answer.send(Err(ReloadError::Unsupported));
                continue;
            };
            let loading = async {
                retired.make_room().await;
                let next = reload::load(load, &running, &self.journal, &self.memory, &self.common).await?;
                self.journal.register(next.observers).await.map_err(|failure| ReloadError::wrong(&failure))?;
                Ok::<_, ReloadError>((next.generation, next.reloaded))
            };
            let next = tokio::select! {
                () = &mut shutdown => break None,
                next = loading => next,
            };
            let done = next.map(|(next, done)| {
                grace = next.config.server.shutdown_grace;
                log::set_level(&next.config.log.level);
                admin.reload(&next.config, next.view());
                current.store(Arc::clone(&next.callbacks));
                let former = mem::replace(&mut running, next.start(&self.journal, &self.common));
                retired.add(former);
                done
            });
            match &done {
                Ok(done) => info!("{done}"),
                Err(failure) => error!("{failure}"),
            }
            let _ = answer.send(done);
        };
        info!("shutting down: waiting {} at most for what is in flight", log::seconds(grace));
        stopping.cancel();
        self.reloads.close();
        running.stop();
        let drained = time::timeout(grace, async {
            // The platform has other nodes to go to at once.
            running.disconnect().await;
            let _ = (&mut serving).await;
            running.drain().await;
            retired.drain().await;
        });
        let finished = drained.await.is_ok();
        if !finished {
            warn!(
                "the grace period is over; cancelled what was in flight: platforms retry it, observers after the next start"
            );
        }
        let closed = time::timeout(CLOSE_TIMEOUT, async {
            self.listener.abort();
            if !serving.is_finished() {
                let _ = serving.await;
            }
            tokio::join!(supervisor.cancel_groups(), running.cancel(), retired.cancel());
            admin.close();
            self.journal.close().await
        });
        match closed.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => warn!("{failure}"),
            Err(_elapsed) => {
                warn!("a handler blocks its thread and cannot be cancelled: the server does not wait for it")
            }
        }
        upkeep.abort();
        let _ = upkeep.await;
        running.callbacks.log_omitted(true);
        stopped.cancel();
        let _ = time::timeout(Duration::from_secs(1), serving_admin).await;
        match lost {
            Some(lost) => Err(RunError::Lost(lost)),
            None if finished => Ok(()),
            None => Err(RunError::Cancelled),
        }
    }
}

/// Every observer that a server with these hooks has.
pub(crate) fn registered_observers(config: &Config, hooks: &Arc<Hooks>) -> Vec<journal::Observer> {
    let forwards = forward::observers(config);
    observers::of_hooks(hooks).into_iter().chain(internal_observers(config, hooks)).chain(forwards).collect()
}

/// Checks that every `[observers.NAME]` is of an observer of these hooks, or of an internal one, which an account may need or
/// not. If the hooks are not `complete`, a name that one of theirs may have is right.
pub(crate) fn check_observers(config: &Config, hooks: &Hooks, complete: bool) -> Result<(), ConfigError> {
    let internal = [
        kf::PULL,
        kf::REPLY,
        kf::REPLY_AT_ONCE,
        late::OBSERVER,
        next_message::OBSERVER,
        thirdparty::OBSERVER,
        websocket::OBSERVER,
    ];
    let known: Vec<&str> = hooks.policies().map(|(name, _)| name).chain(internal).collect();
    let is_open = |name: &str| !complete && !name.starts_with(journal::INTERNAL_PREFIX);
    config.check_observers(&known, is_open)
}

/// Those that the server needs for what its accounts are.
fn internal_observers(config: &Config, hooks: &Arc<Hooks>) -> Vec<journal::Observer> {
    let kf = kf::observers(config, hooks).into_iter();
    let late = late::observer(config).into_iter().chain(next_message::observer(config));
    kf.chain(late).chain(thirdparty::observer(config)).chain(websocket::observer(config, hooks)).collect()
}

/// How long the journal may take to write what is left, beyond the grace period.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of the admin listener; more than probes and collectors of metrics need.
const ADMIN_CONNECTIONS: usize = 64;

/// Serves the admin listener on a thread of its own until `stopped`. What is returned is ready when it has ended.
fn serve_admin(
    listener: Arc<Listener>,
    admin: &Arc<admin::Admin>,
    stopped: CancellationToken,
    supervisor: &Supervisor,
) -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    let log = dispatcher::get_default(Clone::clone);
    let workers = runtime::Handle::current();
    let routes = admin::routes(admin);
    let serve = supervisor.keep("admin", move || {
        let (listener, stopped, routes) = (Arc::clone(&listener), stopped.clone(), routes.clone());
        async move { listener.serve(stopped, move |peer| admin::service(routes.clone(), peer)).await }
    });
    let serve = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        dispatcher::with_default(&log, || match runtime {
            Ok(runtime) => {
                runtime.spawn(wake(workers));
                runtime.block_on(serve);
            }
            Err(failure) => error!("[admin] is not served: {failure}"),
        });
        let _ = ended.send(());
    };
    if let Err(failure) = thread::Builder::new().name("admin".to_owned()).spawn(serve) {
        error!("[admin] is not served: cannot start its thread: {failure}");
    }
    end
}

/// Wakes a worker of the runtime that serves deliveries now and then. The one that waits for the sockets may be the one that
/// a handler blocks; the others then sleep, and no request is read until one of them wakes.
async fn wake(workers: runtime::Handle) {
    const WAKE_INTERVAL: Duration = Duration::from_millis(200);
    let mut tick = time::interval(WAKE_INTERVAL);
    loop {
        tick.tick().await;
        // One at a time, so that none pile up while every worker is blocked.
        let _ = workers.spawn(std::future::ready(())).await;
    }
}

async fn maintain(metrics: Metrics, journal: Arc<dyn Journal>, current: Arc<Current>) {
    /// How often responders that run for long are logged.
    const LONG_INTERVAL: Duration = Duration::from_secs(60);
    let mut tick = time::interval(Duration::from_secs(5));
    let mut named = Instant::now();
    loop {
        tick.tick().await;
        metrics.upkeep();
        current.load().log_omitted(false);
        if named.elapsed() >= LONG_INTERVAL {
            named = Instant::now();
            metrics.loads().log_long(named);
        }
        metrics.show_usage(journal.usage());
    }
}
