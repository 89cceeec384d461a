//! The listening sockets: callbacks on one, health and metrics on the other.

mod admin;
mod callback;
mod connection;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;
use tokio::{
    net::{TcpListener, TcpSocket},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{callback::Callbacks, connection::Listener};
use crate::{
    api::{ApiError, Apis},
    clock::Clock,
    config::{self, Config},
    crypto::KeyError,
    hooks::Hooks,
    journal::{self, Journal, JournalError},
    kf, late,
    metrics::Metrics,
    observers::{self, Duty, Observers},
    receiver::{Endpoint, Receiver},
    thirdparty,
};

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
        /// What the system said.
        source: io::Error,
    },
    /// An account's AES key is no key.
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
    /// The platforms' API cannot be called.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The journal cannot be used.
    #[error("[journal] {0}")]
    Journal(#[from] JournalError),
}

/// A server that listens, and serves once it [runs](Server::run).
#[derive(Debug)]
pub struct Server {
    callbacks: Arc<Callbacks>,
    listener: Listener,
    admin: Listener,
    token: Option<crate::secret::Secret>,
    metrics: Metrics,
    duties: Vec<Duty>,
    journal: Arc<dyn Journal>,
    delivery: config::Delivery,
    grace: Duration,
}

impl Server {
    /// Listens on the configured addresses; port 0 takes a free one.
    ///
    /// # Errors
    /// [`StartError`] when an address is taken or the accounts do not fit the hooks.
    pub async fn bind(config: &Config, hooks: Hooks, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let hooks = Arc::new(hooks);
        let mut endpoints = HashMap::with_capacity(config.accounts.len());
        for account in &config.accounts {
            let endpoint = Endpoint::new(account.clone(), &metrics)
                .map_err(|source| StartError::Key { account: account.id(), source })?;
            endpoints.insert(account.path.clone(), Arc::new(endpoint));
        }
        if let Some(unknown) = hooks.accounts().find(|id| config.account(id).is_none()) {
            return Err(StartError::UnknownAccount(unknown.to_owned()));
        }
        let own = kf::observers(config, &hooks).into_iter().chain(late::observer(config));
        let own: Vec<_> = own.chain(thirdparty::observer(config)).collect();
        let observers = observers::of_hooks(&hooks).into_iter().chain(own.iter().cloned());
        let journal = journal::open(&config.journal, observers.collect())?;
        let apis = Apis::new(config, &journal, &metrics)?;
        let mut duties = observers::duties_of_hooks(&hooks, &clock, &apis);
        duties.extend(kf::duties(config, &hooks, &apis, &journal, &own, &clock));
        duties.extend(own.iter().any(|it| &*it.name == late::OBSERVER).then(|| late::duty(&apis, &journal)));
        duties.extend(own.iter().any(|it| &*it.name == thirdparty::OBSERVER).then(|| thirdparty::duty(&apis)));
        let max_in_flight = config.server.max_in_flight;
        let receiver = Receiver::new(hooks, Arc::clone(&journal), clock, metrics.clone(), max_in_flight);
        let receiver = receiver.with_api(own, apis);
        let callbacks = Arc::new(Callbacks::new(receiver, endpoints, &config.server));
        let listen = |address, section| async move {
            bind(address).map_err(|source| StartError::Listen { address, section, source })
        };
        let limits = connection::Limits {
            connections: config.server.max_connections,
            header: config.server.header_timeout,
            idle: config.server.keep_alive,
        };
        let admin_limits = connection::Limits { connections: 64, ..limits };
        let open = metrics.connections.clone();
        Ok(Self {
            callbacks,
            listener: Listener::new(listen(config.server.listen, "[server] listen").await?, limits, Some(open)),
            admin: Listener::new(listen(config.admin.listen, "[admin] listen").await?, admin_limits, None),
            token: config.admin.token.clone(),
            metrics,
            duties,
            journal,
            delivery: config.delivery.clone(),
            grace: config.server.shutdown_grace,
        })
    }

    /// Where callbacks are received.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Where health and metrics are served.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.address()
    }

    /// Serves until `shutdown` is ready; then takes no more connections, lets deliveries and handlers in work finish
    /// within the grace period, and returns. Says whether everything finished.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> bool {
        let stopping = CancellationToken::new();
        let admin =
            Arc::new(admin::Admin::new(self.metrics.clone(), self.token, stopping.clone(), Arc::clone(&self.journal)));
        let observers = Observers::start(self.duties, &self.journal, &self.delivery, &self.metrics);
        // Probes are answered, and refused readiness, until the last delivery is done.
        let stopped = CancellationToken::new();
        let serving = tokio::spawn(self.listener.serve(stopping.clone(), {
            let callbacks = Arc::clone(&self.callbacks);
            move |peer| callback::service(Arc::clone(&callbacks), peer)
        }));
        let serving_admin =
            tokio::spawn(self.admin.serve(stopped.clone(), move |_| admin::service(Arc::clone(&admin))));
        let upkeep = tokio::spawn(upkeep(self.metrics, Arc::clone(&self.journal)));
        shutdown.await;
        info!("shutting down: finishing what is in work, {} s at most", self.grace.as_secs_f64());
        stopping.cancel();
        observers.stop();
        let drained = time::timeout(self.grace, async {
            let _ = serving.await;
            self.callbacks.drain().await;
            observers.drain().await;
        });
        let finished = drained.await.is_ok();
        if !finished {
            warn!("the grace period is over; what was in work was cut off: the platform asks again, observers too");
        }
        let closed = time::timeout(CLOSING, async {
            observers.cut_off().await;
            self.journal.close().await
        });
        if let Ok(Err(failure)) = closed.await {
            warn!("{failure}");
        }
        stopped.cancel();
        let _ = time::timeout(Duration::from_secs(1), serving_admin).await;
        upkeep.abort();
        finished
    }
}

/// How long the journal may take to write what is left, beyond the grace period.
const CLOSING: Duration = Duration::from_secs(5);

/// Listens with a longer queue than the 128 of the standard library: when many connect at one time, as after a restart
/// of the proxy, a full queue lets each of the others wait for a second. The system caps it (`net.core.somaxconn`).
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    const QUEUE: u32 = 4096;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

async fn upkeep(metrics: Metrics, journal: Arc<dyn Journal>) {
    let mut tick = time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        metrics.upkeep();
        metrics.show_usage(journal.usage());
    }
}
