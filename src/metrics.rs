//! Metrics. Labels come from tables and configuration, never from payloads.

mod api;
mod forward;
mod observer;
mod outcome;
mod source;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use self::{api::ApiMetrics, outcome::Outcome};
pub(crate) use self::{forward::ForwardMetrics, observer::ObserverMetrics, source::SourceMetrics};
use crate::{
    envelope::Refusal,
    in_flight::{Load, Loads},
    journal::{Absent, Usage},
    stats::AccountStats,
};

const DELIVERIES: &str = "echostr_deliveries_total";
const COMMITS: &str = "echostr_journal_commit_seconds";
const BLOCKED: &str = "echostr_blocked_polls_total";
const UNROUTED: &str = "echostr_unknown_path_requests_total";
const LIMITED: &str = "echostr_limited_requests_total";
const RESPONDER: &str = "echostr_responder_seconds";
const IN_FLIGHT: &str = "echostr_in_flight";
const ACCOUNT_IN_FLIGHT: &str = "echostr_account_in_flight";
const OLDEST_RESPONDER: &str = "echostr_oldest_responder_seconds";
const CONNECTIONS: &str = "echostr_connections";
const BODY_MEMORY: &str = "echostr_body_memory_bytes";
const JOURNAL_BYTES: &str = "echostr_journal_bytes";
const WAITING: &str = "echostr_observations_waiting";
const DEAD: &str = "echostr_dead_letters";
const ABSENT: &str = "echostr_absent_observers";
const ABSENT_WAITING: &str = "echostr_absent_observations_waiting";
const ABSENT_DEAD: &str = "echostr_absent_dead_letters";
const LOST: &str = "echostr_journal_lost_events";
const TASK_PANICS: &str = "echostr_task_panics_total";
const WEBSOCKET: &str = "echostr_websocket_connected";
const WEBSOCKET_CONNECTIONS: &str = "echostr_websocket_connections_total";
const WEBSOCKET_KICKS: &str = "echostr_websocket_kicks_total";

/// Buckets of the time that a commit takes, in seconds.
const COMMIT_BUCKETS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Between the fastest handler and the longest deadline, in seconds.
const BUCKETS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.5, 10.0];

/// The registry of one server; its text is what `/metrics` shows.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Open connections of the receiving listener.
    pub connections: Gauge,
    /// Bytes of `body_memory` in use.
    pub body_memory: Gauge,
    /// Polls that blocked a thread: of responders, of observers.
    pub blocked: [Counter; 2],
    /// Bytes of the journal in use.
    pub journal_bytes: Gauge,
    /// Pending observations: one per event and observer.
    pub waiting: Gauge,
    /// Dead letters.
    pub dead: Gauge,
    /// Observers that are absent, what is pending of them, and their dead letters.
    absent: [Gauge; 3],
    /// Acknowledged events that the journal has lost.
    pub lost: Gauge,
    /// Requests at paths that no account has: without a signature, and with one.
    unrouted: [Counter; 2],
    /// Requests without a valid signature that were answered with 429.
    pub(crate) limited: Counter,
    /// Deliveries in flight.
    in_flight: Gauge,
    /// What each account has in flight; its gauges.
    loads: Loads,
    shown: Arc<Mutex<Vec<Shown>>>,
}

/// What is shown of an account when somebody looks.
struct Shown {
    load: Weak<Load>,
    in_flight: Gauge,
    oldest_responder: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The counters of one account, registered once.
#[derive(Clone, Debug)]
pub struct AccountMetrics {
    outcomes: Arc<[Counter]>,
    /// Questions that were not read, and were given the default answer.
    defaulted: Arc<[Counter]>,
    refusals: Arc<[Counter]>,
    /// The same for the event API.
    pub(crate) stats: Arc<AccountStats>,
    /// How long responders take, in seconds.
    pub responder: Histogram,
}

/// The metrics of one account's connection, registered once.
#[derive(Clone, Debug)]
pub struct WebSocketMetrics {
    /// 1 while this process has the connection.
    pub connected: Gauge,
    /// Connections that were subscribed.
    pub subscribed: Counter,
    /// Subscriptions that the platform refused.
    pub refused: Counter,
    /// Connections that could not be made, or broke.
    pub broken: Counter,
    /// Connections that ended because another client uses the bot.
    pub kicks: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        // The list of buckets is a constant that is not empty, which is all that could be wrong with it.
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Full(RESPONDER.to_owned()), &BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(COMMITS.to_owned()), &COMMIT_BUCKETS))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = Arc::new(builder.build_recorder());
        let handle = recorder.handle();
        for (name, unit, text) in [
            (DELIVERIES, None, "Deliveries, by outcome"),
            (UNROUTED, None, "Requests at paths that no account has; with a signature, a console has another address"),
            (LIMITED, None, "Requests without a valid signature that were answered with 429: too many of one address"),
            (source::UNEXPECTED, None, "Requests from addresses that are not among the platform's"),
            (
                observer::ATTEMPTS,
                None,
                "Attempts of observers: done, failed and to be repeated, dead for good, dropped",
            ),
            (api::CALLS, None, "Calls of the platforms' API: succeeded, failed"),
            (api::TOKENS, None, "Access tokens requested from the platform"),
            (
                forward::ATTEMPTS,
                None,
                "Attempts to send events of forwards: delivered, failed and to be repeated, dead for good",
            ),
            (BLOCKED, None, "Polls of handlers that blocked their thread for half a second or longer"),
            (TASK_PANICS, None, "Panics of background tasks"),
            (WEBSOCKET_CONNECTIONS, None, "WebSocket connections of bots: subscribed, refused, broken"),
            (WEBSOCKET_KICKS, None, "WebSocket connections that ended because another client uses the bot"),
        ] {
            recorder.describe_counter(name.into(), unit, text.into());
        }
        recorder.describe_histogram(RESPONDER.into(), Some(Unit::Seconds), "Run time of responders".into());
        recorder.describe_histogram(COMMITS.into(), Some(Unit::Seconds), "Time of a commit of the journal".into());
        for (name, unit, text) in [
            (observer::PENDING, None, "Pending observations of each observer"),
            (
                observer::OLDEST,
                Some(Unit::Seconds),
                "Age of the oldest pending observation of each observer; 0 without one",
            ),
            (observer::DEAD, None, "Dead letters of each observer"),
            (source::ADDRESSES, None, "Entries of the platform's list of its addresses; 0 while none is known"),
            (source::AGE, Some(Unit::Seconds), "How old the platform's list of its addresses is"),
            (api::TOKEN, None, "The state of each access token: 1 at the one it has"),
            (
                api::KF_LAG,
                Some(Unit::Seconds),
                "How old the newest message of the last pull of customer service was by then",
            ),
        ] {
            recorder.describe_gauge(name.into(), unit, text.into());
        }
        recorder.describe_gauge(IN_FLIGHT.into(), None, "Deliveries in flight".into());
        recorder.describe_gauge(ACCOUNT_IN_FLIGHT.into(), None, "Deliveries in flight, by account".into());
        recorder.describe_gauge(
            OLDEST_RESPONDER.into(),
            Some(Unit::Seconds),
            "Run time so far of the responder that has run longest".into(),
        );
        recorder.describe_gauge(
            WEBSOCKET.into(),
            None,
            "Whether this process has the bot's WebSocket connection".into(),
        );
        recorder.describe_gauge(forward::STATE.into(), None, "The state of each forward: 1 at the one it has".into());
        recorder.describe_gauge(CONNECTIONS.into(), None, "Open connections".into());
        recorder.describe_gauge(
            BODY_MEMORY.into(),
            Some(Unit::Bytes),
            "Memory of the request bodies being read, beyond 16 KiB of each".into(),
        );
        recorder.describe_gauge(JOURNAL_BYTES.into(), Some(Unit::Bytes), "Bytes of the journal in use".into());
        recorder.describe_gauge(WAITING.into(), None, "Pending observations (one per event and observer)".into());
        recorder.describe_gauge(
            DEAD.into(),
            None,
            "Dead letters: events that an observer permanently failed on".into(),
        );
        for (name, text) in [
            (ABSENT, "Observers that are no longer registered, and still have their place in the journal"),
            (ABSENT_WAITING, "Pending observations of observers that are no longer registered"),
            (ABSENT_DEAD, "Dead letters of observers that are no longer registered"),
        ] {
            recorder.describe_gauge(name.into(), None, text.into());
        }
        recorder.describe_gauge(
            LOST.into(),
            None,
            "Acknowledged events, or their replies, that the journal's database has lost since the start".into(),
        );
        Self {
            in_flight: recorder.register_gauge(&Key::from_static_name(IN_FLIGHT), &METADATA),
            connections: recorder.register_gauge(&Key::from_static_name(CONNECTIONS), &METADATA),
            body_memory: recorder.register_gauge(&Key::from_static_name(BODY_MEMORY), &METADATA),
            blocked: ["responder", "observer"]
                .map(|handler| counter(&recorder, BLOCKED, vec![Label::from_static_parts("handler", handler)])),
            journal_bytes: recorder.register_gauge(&Key::from_static_name(JOURNAL_BYTES), &METADATA),
            waiting: recorder.register_gauge(&Key::from_static_name(WAITING), &METADATA),
            dead: recorder.register_gauge(&Key::from_static_name(DEAD), &METADATA),
            absent: [ABSENT, ABSENT_WAITING, ABSENT_DEAD]
                .map(|name| recorder.register_gauge(&Key::from_static_name(name), &METADATA)),
            lost: recorder.register_gauge(&Key::from_static_name(LOST), &METADATA),
            unrouted: ["false", "true"]
                .map(|signed| counter(&recorder, UNROUTED, vec![Label::from_static_parts("signed", signed)])),
            limited: counter(&recorder, LIMITED, Vec::new()),
            loads: Loads::default(),
            shown: Arc::default(),
            recorder,
            handle,
        }
    }

    /// Registers the counters of an account.
    pub fn account(&self, platform: &'static str, name: &str) -> AccountMetrics {
        let labels = |outcome: &'static str, reason: &'static str| {
            vec![
                Label::from_static_parts("platform", platform),
                Label::new("account", name.to_owned()),
                Label::from_static_parts("outcome", outcome),
                Label::from_static_parts("reason", reason),
            ]
        };
        let delivered = |(outcome, reason)| counter(&self.recorder, DELIVERIES, labels(outcome, reason));
        let account = vec![Label::from_static_parts("platform", platform), Label::new("account", name.to_owned())];
        AccountMetrics {
            outcomes: Outcome::ALL.into_iter().map(|outcome| delivered(outcome.labels())).collect(),
            defaulted: Outcome::UNREAD.into_iter().map(|outcome| delivered(("defaulted", outcome.reason()))).collect(),
            refusals: Refusal::REASONS.into_iter().map(|reason| delivered(("refused", reason))).collect(),
            stats: Arc::default(),
            responder: self.recorder.register_histogram(&Key::from_parts(RESPONDER, account), &METADATA),
        }
    }

    /// Registers the metrics of an account's connection.
    pub(crate) fn websocket(&self, account: &str) -> WebSocketMetrics {
        let (platform, name) = account.split_once('/').unwrap_or((account, ""));
        let labels = || vec![Label::new("platform", platform.to_owned()), Label::new("account", name.to_owned())];
        let connections = |result| {
            let mut labels = labels();
            labels.push(Label::from_static_parts("result", result));
            counter(&self.recorder, WEBSOCKET_CONNECTIONS, labels)
        };
        WebSocketMetrics {
            connected: self.recorder.register_gauge(&Key::from_parts(WEBSOCKET, labels()), &METADATA),
            subscribed: connections("subscribed"),
            refused: connections("refused"),
            broken: connections("broken"),
            kicks: counter(&self.recorder, WEBSOCKET_KICKS, labels()),
        }
    }

    /// Registers the counter of a background task.
    pub(crate) fn task_panics(&self, name: &Arc<str>) -> Counter {
        counter(&self.recorder, TASK_PANICS, vec![Label::new("task", Arc::clone(name))])
    }

    /// How long commits of the journal take, in seconds.
    pub(crate) fn commits(&self) -> Histogram {
        self.recorder.register_histogram(&Key::from_static_name(COMMITS), &METADATA)
    }

    /// Shows what an account has in flight.
    pub(crate) fn watch(&self, platform: &'static str, name: &str, load: &Arc<Load>) {
        let gauge = |gauge| {
            let labels = vec![Label::from_static_parts("platform", platform), Label::new("account", name.to_owned())];
            self.recorder.register_gauge(&Key::from_parts(gauge, labels), &METADATA)
        };
        let (in_flight, oldest_responder) = (gauge(ACCOUNT_IN_FLIGHT), gauge(OLDEST_RESPONDER));
        let shown = Shown { load: Arc::downgrade(load), in_flight, oldest_responder };
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
        self.loads.add(load);
    }

    /// What the accounts have in flight.
    pub(crate) const fn loads(&self) -> &Loads {
        &self.loads
    }

    /// The Prometheus text.
    pub fn render(&self) -> String {
        let now = Instant::now();
        // Nothing is counted twice: what is in flight is what has a permit now.
        let mut all = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of accounts that are no longer configured come before what the same account has now.
        for Shown { load, in_flight, oldest_responder } in &*all {
            let load = load.upgrade();
            in_flight.set(load.as_ref().map_or(0, |load| load.used()) as f64);
            oldest_responder.set(load.map_or(Duration::ZERO, |load| load.longest(now)).as_secs_f64());
        }
        all.retain(|shown| shown.load.strong_count() > 0);
        drop(all);
        self.in_flight.set(self.loads.used() as f64);
        self.handle.render()
    }

    /// Counts a request at a path that no account has.
    pub(crate) fn count_unrouted(&self, is_signed: bool) {
        let [unsigned, signed] = &self.unrouted;
        if is_signed { signed } else { unsigned }.increment(1);
    }

    /// Shows what the journal holds.
    pub fn show_usage(&self, usage: Usage) {
        self.journal_bytes.set(usage.bytes as f64);
        self.waiting.set(usage.waiting as f64);
        self.dead.set(usage.dead as f64);
        let Absent { observers, waiting, dead } = usage.absent;
        self.absent.iter().zip([observers, waiting, dead]).for_each(|(gauge, count)| gauge.set(count as f64));
        self.lost.set(usage.lost as f64);
    }

    /// Folds recorded samples into their buckets; must be called now and then, or samples pile up.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl AccountMetrics {
    /// Counts how a delivery ended.
    pub fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.increment(1);
        }
        self.stats.count(outcome);
    }

    /// Counts a question that was not read and was given the default answer.
    pub(crate) fn count_defaulted(&self, why: Outcome) {
        // The platform has the default answer.
        self.stats.count(Outcome::Undecided);
        let at = Outcome::UNREAD.iter().position(|outcome| *outcome == why);
        if let Some(counter) = at.and_then(|at| self.defaulted.get(at)) {
            counter.increment(1);
        }
    }

    /// Counts a refused request.
    pub fn count_refusal(&self, refusal: &Refusal) {
        self.stats.count_refused();
        let at = Refusal::REASONS.iter().position(|reason| *reason == refusal.reason());
        if let Some(counter) = at.and_then(|at| self.refusals.get(at)) {
            counter.increment(1);
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new("echostr", Level::INFO, None);

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}
