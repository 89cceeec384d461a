//! The listening sockets: callbacks on one, health and metrics on the other.

mod activity;
mod admin;
mod body;
mod callback;
mod client;
mod connection;
mod files;
mod refusals;
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
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use tokio::{runtime, sync::oneshot, time};
use tokio_util::sync::CancellationToken;
use tracing::{dispatcher, error, info, warn};

use self::{callback::Callbacks, connection::Listener, refusals::Refusals, watch::Limits};
use crate::{
    answers::{self, Deferred, InstallError, Listeners},
    api::{ApiError, Apis},
    background::Backgrounds,
    bots::Bots,
    clock::Clock,
    config::{self, Config, ConfigError},
    crypto::KeyError,
    delivery::{Endpoint, Receiver},
    dispatch::Dispatcher,
    envelope::Guarded,
    forward::{self, Delivered, Forwards},
    hooks::Hooks,
    journal::{self, Journal, JournalError},
    kf, late,
    metrics::Metrics,
    next_message,
    observers::{self, Job, Observers, Subscribers},
    supervisor::Supervisor,
    thirdparty,
    webhook::Guard,
    websocket::{self, Connections, Links},
};

pub use crate::hooks::ServerHandle;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({section}): {source}")]
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
    /// Hooks are registered for an account that is not configured.
    #[error("hooks are registered for account `{0}`, which is not configured")]
    UnknownAccount(String),
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
    callbacks: Arc<Callbacks>,
    connections: Connections,
    listener: Arc<Listener>,
    admin: Arc<Listener>,
    admin_parts: admin::Parts,
    metrics: Metrics,
    supervisor: Supervisor,
    jobs: Vec<Job>,
    forwards: Forwards,
    handle: ServerHandle,
    backgrounds: Backgrounds,
    journal: Arc<dyn Journal>,
    observer_settings: config::Observers,
    grace: Duration,
}

impl Server {
    /// Listens on the configured addresses; port 0 takes a free one.
    ///
    /// # Errors
    /// [`StartError`] when an address is taken or the accounts do not fit the hooks.
    pub async fn bind(config: &Config, hooks: Hooks, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let supervisor = Supervisor::new(&metrics);
        let (guard, deferred) = (Guard::default(), Deferred::default());
        let (delivered, listeners) = (Delivered::default(), Listeners::default());
        let hooks = answers::install(config, hooks, &guard, &deferred, &delivered, &listeners)?;
        let hooks = Arc::new(hooks);
        let prepared = config.accounts.iter().map(|account| {
            Endpoint::new(account.clone(), &metrics).map_err(|source| StartError::Key { account: account.id(), source })
        });
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        let clear: Vec<_> = prepared.iter().flat_map(|it| Guarded::clear_tokens(&it.keys)).cloned().collect();
        let prepared: Vec<_> = prepared.into_iter().map(|it| Arc::new(it.guarding(&clear))).collect();
        let accounts = prepared.clone();
        let (connecting, routed): (Vec<_>, Vec<_>) =
            prepared.into_iter().partition(|it| it.account.websocket.is_some());
        let endpoints: HashMap<_, _> = routed.into_iter().map(|it| (it.account.path.clone(), it)).collect();
        if let Some(unknown) = hooks.accounts().find(|id| config.account(id).is_none()) {
            return Err(StartError::UnknownAccount(unknown.to_owned()));
        }
        check_observers(config, &hooks, true)?;
        let internal = internal_observers(config, &hooks);
        let has = |name: &str| internal.iter().any(|observer| *observer.name == *name);
        let (sends_late, redeems) = (has(late::OBSERVER), has(thirdparty::OBSERVER));
        let keeps_late = has(next_message::OBSERVER);
        let of_forwards = forward::policies(config);
        let of_forwards = of_forwards.iter().map(|(name, policy)| (name.as_str(), policy));
        let observer_settings = config.observers.clone().with_policies(hooks.policies().chain(of_forwards));
        let journal = journal::open(&config.journal, registered_observers(config, &hooks), &supervisor, &clock)?;
        let apis = Apis::new(config, &journal, &metrics, &supervisor)?;
        let (weak_apis, admin_clock) = (apis.downgrade(), clock.clone());
        let refusals = Arc::<Refusals>::default();
        let forwards = Forwards::new(config, &guard, &journal, &metrics, &clock, &delivered)
            .map_err(|failure| StartError::Forward(failure.to_string()))?;
        let subscribers = Subscribers::new(Arc::clone(&hooks), internal, forward::forwarded(config));
        let links = Links::new(config);
        let (handle, bots) = (ServerHandle::new(&clock), Bots::new(config, &links)?);
        handle.show(config, &apis, &bots);
        let backgrounds = Backgrounds::new(hooks.background_jobs(), &handle, &journal);
        let dispatcher = Dispatcher { hooks, apis, bots, clock };
        let mut jobs = observers::jobs_of_hooks(&dispatcher, config.accounts.len());
        jobs.extend(kf::jobs(config, &dispatcher, &subscribers, &journal));
        jobs.extend(sends_late.then(|| late::job(config, &dispatcher, &journal)));
        jobs.extend(keeps_late.then(|| next_message::job(config)));
        jobs.extend(redeems.then(|| thirdparty::job(&dispatcher.apis)));
        jobs.extend(forwards.jobs(config));
        let in_flight = config.shared_in_flight();
        let receiver = Receiver::of(dispatcher, subscribers, Arc::clone(&journal), in_flight, &supervisor);
        let receiver = Arc::new(receiver.with_streams());
        let connections = Connections::new(connecting, links, &receiver, &journal, &metrics, &supervisor);
        jobs.extend(connections.job());
        let callbacks = Arc::new(Callbacks::new(receiver, endpoints, &config.server, &metrics, Arc::clone(&refusals)));
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
        let admin_parts = admin::Parts {
            config: config.admin.clone(),
            journal_config: config.journal.clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            accounts,
            apis: weak_apis,
            forwards: forwards.downgrade(),
            refusals,
            deferred,
            listeners,
            callback,
            clock: admin_clock,
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
        Ok(Self {
            callbacks,
            connections,
            forwards,
            handle,
            backgrounds,
            listener: Arc::new(listener.counted(metrics.connections.clone())),
            admin: Arc::new(admin),
            admin_parts,
            metrics,
            supervisor,
            jobs,
            journal,
            observer_settings,
            grace: config.server.shutdown_grace,
        })
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
        self.handle.clone()
    }

    /// The journal, for tests that wait until observers are done.
    #[doc(hidden)]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Its background tasks, for tests that have them fail.
    #[doc(hidden)]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Serves until `shutdown` is ready; then takes no more connections, and lets deliveries and handlers in flight finish
    /// within the grace period. What is left is cancelled; everything that was started has ended when this returns.
    ///
    /// # Errors
    /// [`RunError`] when something in flight was cancelled, or when a background task ended that the server cannot do
    /// without: then it does not wait for `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let (stopping, supervisor) = (self.handle.token().clone(), self.supervisor);
        let admin = Arc::new(admin::Admin::new(
            self.admin_parts,
            self.metrics.clone(),
            stopping.clone(),
            &self.journal,
            supervisor.clone(),
            self.connections.statuses(),
        ));
        let observers = Observers::start(self.jobs, &self.journal, &self.observer_settings, &self.metrics, &supervisor);
        // Probes are answered, and refused readiness, until the last delivery is done.
        let stopped = CancellationToken::new();
        let _stopped = stopped.clone().drop_guard();
        let serve = {
            let (listener, callbacks, stopping) =
                (Arc::clone(&self.listener), Arc::clone(&self.callbacks), stopping.clone());
            move || {
                let (listener, callbacks, stopping) = (Arc::clone(&listener), Arc::clone(&callbacks), stopping.clone());
                async move { listener.serve(stopping, |peer| callback::service(Arc::clone(&callbacks), peer)).await }
            }
        };
        self.connections.start(&supervisor);
        self.forwards.start(&supervisor);
        self.backgrounds.start(&supervisor);
        let mut serving = tokio::spawn(supervisor.keep("listener", serve));
        let serving_admin = serve_admin(self.admin, &admin, stopped.clone(), &supervisor);
        let upkeep = {
            let (metrics, journal, callbacks) = (self.metrics, Arc::clone(&self.journal), Arc::clone(&self.callbacks));
            move || maintain(metrics.clone(), Arc::clone(&journal), Arc::clone(&callbacks))
        };
        let upkeep = tokio::spawn(supervisor.keep("metrics", upkeep));
        let lost = tokio::select! {
            () = shutdown => None,
            lost = supervisor.lost() => Some(lost),
        };
        info!("shutting down: waiting {} s at most for what is in flight", self.grace.as_secs_f64());
        stopping.cancel();
        observers.stop();
        let drained = time::timeout(self.grace, async {
            // The platform has other nodes to go to at once.
            self.connections.stop().await;
            let _ = (&mut serving).await;
            self.callbacks.drain().await;
            observers.drain().await;
            self.backgrounds.drain().await;
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
            tokio::join!(
                supervisor.cancel_groups(),
                observers.cancel(),
                self.backgrounds.cancel(),
                self.connections.stop()
            );
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
        self.callbacks.log_omitted(true);
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

async fn maintain(metrics: Metrics, journal: Arc<dyn Journal>, callbacks: Arc<Callbacks>) {
    /// How often responders that run for long are logged.
    const LONG_INTERVAL: Duration = Duration::from_secs(60);
    let mut tick = time::interval(Duration::from_secs(5));
    let mut named = Instant::now();
    loop {
        tick.tick().await;
        metrics.upkeep();
        callbacks.log_omitted(false);
        if named.elapsed() >= LONG_INTERVAL {
            named = Instant::now();
            metrics.loads().log_long(named);
        }
        metrics.show_usage(journal.usage());
    }
}
