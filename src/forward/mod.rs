//! Forwards: observers of the configuration that send events to other servers, signed, until they are taken.
//!
//! ```text
//!             observers                message           webhook::Client
//! journal ──── lease ────▶ Forward ───▶ format, mask ────▶ sign, POST ────▶ target
//!                ▲            │
//!              gate ◀──── health: slowed, one probe at a time, paused
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `delivered` | what a responder has given to the target already, where its replies are used |
//! | `outlet` | what sends: an HTTP client, or a publisher of `queue` |
//! | `queue` | NATS, Redis, RabbitMQ, Kafka: done is what the broker has confirmed |
//! | `message` | an event in the format of the forward, masked |
//! | `health` | what answers of the target mean for the events that wait |
//! | `pause` | a target that is gone: kept in the journal, until somebody resumes the forward |

mod delivered;
mod health;
mod message;
mod outlet;
mod pause;
#[cfg_attr(not(feature = "queues"), allow(dead_code, reason = "each system has a part of it for itself"))]
mod queue;
mod status;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use self::{
    delivered::Delivered,
    message::{Content, Formatter},
    outlet::{Outlet, describe, send},
    pause::{Paused, lease_name},
    status::{ForwardState, ForwardStatus},
};
use self::{
    delivered::State,
    health::Health,
    queue::{Publisher, Trouble},
};
use crate::{
    clock::Clock,
    config::{self, Config, Policy},
    journal::{self, EventRecord, Journal, Leased},
    metrics::{ForwardMetrics, Metrics},
    observers::{Failed, Forwarded, Gate, Job, Run, Scope, Width},
    supervisor::Supervisor,
    telemetry,
    webhook::{Client, Guard, SendError},
};

/// How long an attempt may take beyond its request.
const MARGIN: Duration = Duration::from_secs(5);

/// After how long an event is tried again that could not be sent because the forward has to wait.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// The forwards of a server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwards {
    all: Arc<[Arc<Forward>]>,
    stopping: CancellationToken,
}

/// One forward.
pub(crate) struct Forward {
    name: Arc<str>,
    observer: Arc<str>,
    settings: config::Forward,
    outlet: Outlet,
    formatter: Formatter,
    health: Health,
    metrics: ForwardMetrics,
    journal: Arc<dyn Journal>,
    clock: Clock,
    delivered: Delivered,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Those of a configuration that get events.
fn enabled(config: &Config) -> impl Iterator<Item = &config::Forward> {
    config.forwards.iter().filter(|forward| forward.enabled)
}

/// Their observers, as the journal knows them.
pub(crate) fn observers(config: &Config) -> Vec<journal::Observer> {
    let observers = enabled(config).map(|forward| {
        let patterns = forward.patterns.clone();
        journal::Observer {
            name: forward.observer().into(),
            in_order: forward.in_order,
            from_beginning: false,
            wants: Arc::new(move |account, event_type| patterns.matches(account, event_type)),
            unanswered: None,
        }
    });
    observers.collect()
}

/// What they are for.
pub(crate) fn forwarded(config: &Config) -> Arc<[Forwarded]> {
    let forwarded = enabled(config).map(|forward| Forwarded {
        observer: forward.observer().into(),
        patterns: forward.patterns.clone(),
        condition: forward.condition.clone(),
    });
    forwarded.collect()
}

/// What their observers have instead of the settings of all.
pub(crate) fn policies(config: &Config) -> Vec<(String, Policy)> {
    let policies = enabled(config).map(|forward| {
        let attempts = u32::try_from(forward.retry.len()).unwrap_or(u32::MAX).saturating_add(1);
        let policy = Policy {
            max_attempts: Some(attempts),
            timeout: Some(forward.to.timeout() + MARGIN),
            concurrency: Some(forward.concurrency),
            ..Policy::default()
        };
        (forward.observer(), policy)
    });
    policies.collect()
}

impl Forwards {
    /// Those of a configuration. Nothing is sent before they are [started](Forwards::start).
    ///
    /// # Errors
    /// When a client cannot be set up.
    pub(crate) fn new(
        config: &Config,
        guard: &Guard,
        journal: &Arc<dyn Journal>,
        metrics: &Metrics,
        clock: &Clock,
        delivered: &Delivered,
    ) -> Result<Self, SendError> {
        let forwards = enabled(config).map(|settings| {
            let (name, observer): (Arc<str>, Arc<str>) = (settings.name.as_str().into(), settings.observer().into());
            let metrics = metrics.forward(&name);
            let gate = Arc::new(Gate::new(Width::Closed, settings.rate));
            Ok(Arc::new(Forward {
                outlet: Outlet::new(&settings.to, settings.concurrency, guard)?,
                formatter: Formatter::new(&settings.format, &settings.redact, &config.accounts),
                health: Health::new(Arc::clone(&name), gate, metrics.clone()),
                settings: settings.clone(),
                name,
                observer,
                metrics,
                journal: Arc::clone(journal),
                clock: clock.clone(),
                delivered: delivered.clone(),
            }))
        });
        Ok(Self { all: forwards.collect::<Result<_, SendError>>()?, stopping: CancellationToken::new() })
    }

    /// What their observers do.
    pub(crate) fn jobs(&self, config: &Config) -> Vec<Job> {
        let jobs = self.all.iter().map(|forward| {
            let matching = config.accounts.iter().filter(|it| forward.settings.patterns.may_match(&it.id()));
            let sending = Arc::clone(forward);
            let run: Run = Arc::new(move |leased, _deadline, permit| {
                let forward = Arc::clone(&sending);
                Box::pin(async move {
                    let _permit = permit;
                    forward.deliver(&leased).await
                })
            });
            let (name, gate) = (Arc::clone(&forward.observer), Some(Arc::clone(forward.health.gate())));
            Job { name, timeout: None, scope: Scope::All { accounts: matching.count() }, gate, run }
        });
        jobs.collect()
    }

    /// Looks up which of them are paused, and opens the others.
    pub(crate) fn start(&self, supervisor: &Supervisor) {
        let tasks = supervisor.group("forwards");
        for forward in &*self.all {
            let watched = Arc::clone(forward);
            let watch = supervisor.keep(&forward.observer, move || pause::watch(Arc::clone(&watched)));
            drop(tasks.spawn(self.stopping.clone().run_until_cancelled_owned(watch)));
        }
    }

    /// Others take their place.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// For whoever must not keep the journal open.
    pub(crate) fn downgrade(&self) -> WeakForwards {
        WeakForwards(Arc::downgrade(&self.all))
    }
}

/// The forwards of a server, as long as it runs.
#[derive(Clone, Debug)]
pub(crate) struct WeakForwards(Weak<[Arc<Forward>]>);

impl WeakForwards {
    /// What they are doing.
    pub(crate) fn statuses(&self) -> Vec<ForwardStatus> {
        let forwards = self.0.upgrade();
        let forwards = forwards.iter().flat_map(|forwards| &**forwards);
        forwards.map(|forward| forward.health.status(&forward.settings.to.shown())).collect()
    }
}

impl Forward {
    /// One attempt.
    async fn deliver(&self, leased: &Leased) -> Result<(), Failed> {
        match self.delivered.state(&self.name, leased.lease.id) {
            Some(State::Done) => return Ok(()),
            Some(State::Asking) => {
                let reason = "its responder is asking the target".to_owned();
                return Err(Failed::NotYet { after: SHORT_WAIT, of_account: false, reason });
            }
            None => {}
        }
        match &self.outlet {
            Outlet::Http(client) => self.post(client, leased).await,
            Outlet::Queue(publisher) => self.publish(publisher, leased).await,
        }
    }

    /// One attempt to publish to a queue.
    async fn publish(&self, publisher: &Publisher, leased: &Leased) -> Result<(), Failed> {
        let (id, now) = (leased.lease.id, self.clock.now());
        match publisher.publish(&self.formatter, &leased.record, id, now).await {
            Ok(()) => {
                self.succeeded();
                Ok(())
            }
            Err(error) => match error.trouble {
                Trouble::Unacceptable => Err(self.gave_up(error.text)),
                Trouble::Busy => {
                    let after = self.health.slow(Instant::now(), &error.text, None);
                    Err(self.failed(leased.lease.attempt, error.text, Some(after)))
                }
                Trouble::Unavailable | Trouble::Refused => Err(self.failed(leased.lease.attempt, error.text, None)),
            },
        }
    }

    /// One request.
    async fn post(&self, client: &Client, leased: &Leased) -> Result<(), Failed> {
        let (attempt, id) = (leased.lease.attempt, leased.lease.id.to_string());
        let content = self.formatter.content(&leased.record, leased.lease.id, self.clock.now());
        let content = content.map_err(|error| self.gave_up(error))?;
        let kind = telemetry::Kind::Observe { observer: self.observer.to_string(), attempt };
        let parent = telemetry::traceparent(leased.lease.id, &kind);
        let sent = send(client, &id, self.clock.now(), content, parent.as_deref()).await;
        let mut received = match sent {
            Ok(received) => received,
            Err(error) => return Err(self.failed(attempt, error.to_string(), None)),
        };
        let (status, retry_after) = (received.status(), received.retry_after());
        if received.is_success() {
            // Read, so that its connection can be used again; an answer that is cut off was perhaps not meant.
            if let Err(error) = received.start_of_body(crate::webhook::BODY_LIMIT).await {
                return Err(self.failed(attempt, format!("{status}, and then: {error}"), None));
            }
            self.succeeded();
            return Ok(());
        }
        let error = describe(&mut received).await;
        match status {
            410 => {
                let why = format!("the target answered {error}");
                self.health.pause(Paused::new(self.settings.to.identity(), self.journal.now(), &why));
                Err(Failed::NotYet { after: SHORT_WAIT, of_account: false, reason: why })
            }
            // It lives, and says that it has too much to do: that is no failure of the event.
            429 => {
                let after = self.health.slow(Instant::now(), &error, retry_after);
                Err(Failed::NotYet { after, of_account: false, reason: error })
            }
            502..=504 => {
                let after = self.health.slow(Instant::now(), &error, retry_after);
                Err(self.failed(attempt, error, Some(after)))
            }
            _ => {
                if retry_after.is_some() {
                    self.health.slow(Instant::now(), &error, retry_after);
                }
                Err(self.failed(attempt, error, retry_after))
            }
        }
    }

    fn succeeded(&self) {
        self.metrics.delivered.increment(1);
        self.health.succeeded(Instant::now());
    }

    /// Another attempt after the next pause, or none.
    fn failed(&self, attempt: u32, error: String, at_least: Option<Duration>) -> Failed {
        self.health.failed(Instant::now(), &error, at_least);
        let pause =
            usize::try_from(attempt).ok().and_then(|attempt| self.settings.retry.get(attempt.saturating_sub(1)));
        let Some(pause) = pause else {
            self.metrics.dead.increment(1);
            return Failed::Permanent(error);
        };
        self.metrics.failed.increment(1);
        let pause = pause.mul_f64(rand::random_range(0.8..=1.2));
        Failed::RetryAfter(pause.max(at_least.unwrap_or_default()), error)
    }

    /// Another attempt would not help.
    fn gave_up(&self, error: String) -> Failed {
        self.metrics.dead.increment(1);
        warn!(forward = &*self.name, "forward {}: an event cannot be written: {error}", self.name);
        Failed::Permanent(error)
    }
}

/// The sample of an event type, as it would be stored if it came to this account now.
pub(crate) fn sample(account: &config::Account, push: crate::simulate::Push, now: journal::Millis) -> EventRecord {
    let query = push.command.map(|command| format!("CallbackCommand={command}").into());
    let tree = crate::payload::parse(push.form, &push.payload).unwrap_or(crate::payload::Value::Null);
    let command = query.as_deref().and_then(|query: &str| query.split_once('=')).map(|(_, command)| command);
    let (event_type, _) = crate::platform::classify(account.platform, &tree, push.form, command);
    let subject = crate::platform::subject(account.platform, &tree).map(Into::into);
    EventRecord {
        platform: account.platform,
        account: account.id().into(),
        event_type: event_type.into(),
        subject,
        form: push.form,
        payload: crate::payload::Payload::new(push.payload.clone()),
        query,
        received: now,
    }
}
