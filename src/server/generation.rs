//! What a configuration makes of a server. When the configuration is read again, another generation takes its place: what the
//! old one has begun it finishes.
//!
//! ```text
//! configuration, hooks ─▶ Plan ─▶ Generation ─▶ Running ─▶ retired: finishes, and is gone
//!                          observers ─▶ journal
//! ```

use std::{collections::VecDeque, sync::Arc};

use tokio::{task::JoinHandle, time};

use super::{
    Routes, StartError, callback::Callbacks, check_observers, internal_observers, refusals::Refusals,
    registered_observers,
};
use crate::{
    answers::{self, Deferred, Listeners},
    api::{Apis, WeakApis},
    background::Backgrounds,
    blocking::Blocking,
    bots::Bots,
    clock::Clock,
    config::{self, Config},
    delivery::{Endpoint, Memory, Neighbours, Receiver},
    dispatch::Dispatcher,
    envelope::Guarded,
    forward::{self, Delivered, Forwards, WeakForwards},
    hooks::{Hooks, ServerHandle},
    journal::{self, Journal},
    kf, late,
    metrics::Metrics,
    next_message,
    observers::{self, Job, Observers, Subscribers},
    source::Sources,
    supervisor::Supervisor,
    thirdparty,
    webhook::Guard,
    websocket::{Connections, Links, Statuses},
};

/// Generations that finish at one time, beside the one that receives: each takes memory.
const MAX_RETIRED: usize = 3;

/// What all generations of a server share.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) metrics: Metrics,
    pub(super) supervisor: Supervisor,
    pub(super) guard: Guard,
    pub(super) deferred: Deferred,
    pub(super) delivered: Delivered,
    pub(super) listeners: Listeners,
    pub(super) refusals: Arc<Refusals>,
    pub(super) clock: Clock,
    pub(super) handle: ServerHandle,
}

impl Common {
    pub(super) fn new(clock: Clock) -> Self {
        let metrics = Metrics::new();
        Self {
            supervisor: Supervisor::new(&metrics),
            metrics,
            guard: Guard::default(),
            deferred: Deferred::default(),
            delivered: Delivered::default(),
            listeners: Listeners::default(),
            refusals: Arc::default(),
            handle: ServerHandle::new(&clock),
            clock,
        }
    }
}

/// A configuration with its handlers, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    hooks: Arc<Hooks>,
    endpoints: Vec<Arc<Endpoint>>,
    internal: Vec<journal::Observer>,
}

impl Plan {
    /// Accounts that `former` has too count on where they are.
    ///
    /// # Errors
    /// [`StartError`] when the accounts do not fit the hooks.
    pub(super) fn new(
        config: &Config,
        hooks: Hooks,
        common: &Common,
        former: &[Arc<Endpoint>],
    ) -> Result<Self, StartError> {
        let plan = Self::with(config, hooks, common, former)?;
        check_observers(config, &plan.hooks, true)?;
        Ok(plan)
    }

    /// The same with handlers that may not be all that the configuration has settings for.
    pub(super) fn with(
        config: &Config,
        hooks: Hooks,
        common: &Common,
        former: &[Arc<Endpoint>],
    ) -> Result<Self, StartError> {
        let Common { guard, deferred, delivered, listeners, metrics, .. } = common;
        let hooks = Arc::new(answers::install(config, hooks, guard, deferred, delivered, listeners)?);
        let prepared = config.accounts.iter().map(|account| {
            Endpoint::new(account.clone(), metrics).map_err(|source| StartError::Key { account: account.id(), source })
        });
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        let clear: Vec<_> = prepared.iter().flat_map(|it| Guarded::clear_tokens(&it.keys)).cloned().collect();
        let neighbours = Neighbours::of(&prepared);
        let endpoints = prepared.into_iter().map(|endpoint| {
            let endpoint = endpoint.guarding(&clear).among(&neighbours);
            Arc::new(match former.iter().find(|former| former.id == endpoint.id) {
                Some(former) => endpoint.continuing(former),
                None => endpoint,
            })
        });
        let endpoints = endpoints.collect();
        if let Some(unknown) = hooks.accounts().find(|id| config.account(id).is_none()) {
            let known: Vec<String> = config.accounts.iter().map(config::Account::id).collect();
            let hint = config::suggestion(unknown, &known.iter().map(String::as_str).collect::<Vec<_>>());
            return Err(StartError::UnknownAccount(unknown.to_owned(), hint));
        }
        let internal = internal_observers(config, &hooks);
        Ok(Self { config: config.clone(), hooks, endpoints, internal })
    }

    /// Its handlers.
    pub(super) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Its observers, as the journal knows them.
    pub(super) fn observers(&self) -> Vec<journal::Observer> {
        registered_observers(&self.config, &self.hooks)
    }
}

/// Everything that a configuration makes of a server, ready to start.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) config: Config,
    endpoints: Vec<Arc<Endpoint>>,
    apis: Apis,
    bots: Bots,
    connections: Connections,
    forwards: Forwards,
    sources: Sources,
    backgrounds: Backgrounds,
    jobs: Vec<Job>,
    observer_settings: config::Observers,
}

impl Generation {
    /// # Errors
    /// [`StartError`] when something that calls others cannot be set up.
    pub(super) fn new(
        plan: Plan,
        journal: &Arc<dyn Journal>,
        memory: &Arc<Memory>,
        common: &Common,
    ) -> Result<Self, StartError> {
        let Plan { config, hooks, endpoints, internal } = plan;
        let Common { metrics, supervisor, guard, delivered, refusals, clock, handle, .. } = common;
        let has = |name: &str| internal.iter().any(|observer| *observer.name == *name);
        let (sends_late, redeems) = (has(late::OBSERVER), has(thirdparty::OBSERVER));
        let keeps_late = has(next_message::OBSERVER);
        let of_forwards = forward::policies(&config);
        let of_forwards = of_forwards.iter().map(|(name, policy)| (name.as_str(), policy));
        let observer_settings = config.observers.clone().with_policies(hooks.policies().chain(of_forwards));
        let apis = Apis::new(&config, journal, metrics, supervisor)?;
        let forwards = Forwards::new(&config, guard, journal, metrics, clock, delivered)
            .map_err(|failure| StartError::Forward(failure.to_string()))?;
        let sources = Sources::new(&endpoints, &apis, journal);
        let subscribers = Subscribers::new(Arc::clone(&hooks), internal, forward::forwarded(&config));
        let links = Links::new(&config);
        let bots = Bots::new(&config, &links)?;
        let backgrounds = Backgrounds::new(hooks.background_jobs(), handle, journal);
        let dispatcher = Dispatcher {
            hooks,
            apis: apis.clone(),
            bots: bots.clone(),
            clock: clock.clone(),
            blocking: Blocking::new(metrics),
        };
        let mut jobs = observers::jobs_of_hooks(&dispatcher, config.accounts.len());
        jobs.extend(kf::jobs(&config, &dispatcher, &subscribers, journal, metrics));
        jobs.extend(sends_late.then(|| late::job(&config, &dispatcher, journal)));
        jobs.extend(keeps_late.then(|| next_message::job(&config)));
        jobs.extend(redeems.then(|| thirdparty::job(&dispatcher.apis)));
        jobs.extend(forwards.jobs(&config));
        let in_flight = config.shared_in_flight();
        let (journal, memory) = (Arc::clone(journal), Arc::clone(memory));
        let receiver =
            Receiver::of(dispatcher, subscribers, Arc::clone(&journal), memory, in_flight, supervisor).with_streams();
        let receiver = Arc::new(receiver);
        let connects = |it: &&Arc<Endpoint>| it.account.websocket.is_some();
        let connecting = endpoints.iter().filter(connects).cloned().collect();
        let connections = Connections::new(connecting, links, &receiver, &journal, metrics, supervisor);
        jobs.extend(connections.job());
        let routes = Routes::new(endpoints.iter().cloned());
        let callbacks = Callbacks::new(receiver, routes, &config.server, metrics, Arc::clone(refusals));
        Ok(Self {
            callbacks: Arc::new(callbacks),
            config,
            endpoints,
            apis,
            bots,
            connections,
            forwards,
            sources,
            backgrounds,
            jobs,
            observer_settings,
        })
    }

    /// Reads what it needs to know before the first request.
    pub(super) async fn prepare(&self) {
        self.sources.load().await;
    }

    /// Shows its accounts to whoever has the handle of the server.
    pub(super) fn show(&self, handle: &ServerHandle) {
        handle.show(&self.config, &self.apis, &self.bots);
    }

    /// What there is to be seen of it.
    pub(super) fn view(&self) -> View {
        View {
            endpoints: self.endpoints.clone(),
            apis: self.apis.downgrade(),
            connections: self.connections.statuses(),
            forwards: self.forwards.downgrade(),
        }
    }

    /// Starts everything but the listener.
    pub(super) fn start(self, journal: &Arc<dyn Journal>, common: &Common) -> Running {
        self.show(&common.handle);
        let Self {
            callbacks,
            config,
            endpoints,
            connections,
            forwards,
            sources,
            mut backgrounds,
            jobs,
            observer_settings,
            ..
        } = self;
        let Common { metrics, supervisor, .. } = common;
        let observers = Observers::start(jobs, journal, &observer_settings, metrics, supervisor);
        connections.start(supervisor);
        forwards.start(supervisor);
        sources.start(supervisor);
        backgrounds.start(supervisor);
        Running { callbacks, config, endpoints, connections, forwards, sources, backgrounds, observers }
    }
}

/// What is seen of a generation through the admin listener.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) apis: WeakApis,
    pub(super) connections: Statuses,
    pub(super) forwards: WeakForwards,
}

/// A generation that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) config: Config,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    connections: Connections,
    forwards: Forwards,
    sources: Sources,
    backgrounds: Backgrounds,
    observers: Observers,
}

impl Running {
    /// No more events are leased.
    pub(super) fn stop(&self) {
        self.observers.stop();
        self.forwards.stop();
        self.sources.stop();
        self.backgrounds.stop();
    }

    /// Closes the connections of bots, with their answers sent.
    pub(super) async fn disconnect(&self) {
        self.connections.stop().await;
    }

    /// Waits until every delivery and every handler has ended.
    pub(super) async fn drain(&self) {
        self.callbacks.drain().await;
        self.observers.drain().await;
        self.sources.drain().await;
        self.backgrounds.drain().await;
    }

    /// Cancels what observers and background jobs still do.
    pub(super) async fn cancel(&self) {
        tokio::join!(self.observers.cancel(), self.backgrounds.cancel(), self.connections.stop());
    }
}

/// Generations whose place others have taken, and that finish what they have begun.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<(Arc<Running>, JoinHandle<()>)>);

impl Retired {
    pub(super) fn add(&mut self, former: Running) {
        former.stop();
        let former = Arc::new(former);
        let finishing = Arc::clone(&former);
        let task = tokio::spawn(async move {
            // The jobs of the new configuration do the same work.
            let ended = time::timeout(finishing.config.server.shutdown_grace, finishing.backgrounds.drain());
            if ended.await.is_err() {
                finishing.backgrounds.cancel().await;
            }
            tokio::join!(finishing.disconnect(), finishing.drain());
            finishing.callbacks.log_omitted(true);
        });
        self.0.push_back((former, task));
    }

    /// Forgets those that have finished, and waits for the oldest while there are many.
    pub(super) async fn make_room(&mut self) {
        self.0.retain(|(_, task)| !task.is_finished());
        while self.0.len() >= MAX_RETIRED
            && let Some((_, task)) = self.0.front_mut()
        {
            let _ = task.await;
            self.0.pop_front();
        }
    }

    /// Waits until all have finished.
    pub(super) async fn drain(&mut self) {
        while let Some((_, task)) = self.0.front_mut() {
            let _ = task.await;
            self.0.pop_front();
        }
    }

    /// Cancels what they still do.
    pub(super) async fn cancel(&mut self) {
        for (former, task) in self.0.drain(..) {
            former.cancel().await;
            let _ = task.await;
        }
    }
}
