//! The life of a delivery, without HTTP.
//!
//! ```text
//! bytes ─▶ open ─▶ tree ─▶ admit ─▶ new? ─▶ respond ─▶ record ─▶ answer ─▶ bytes
//!                    │                └─ known: the recorded reply ─┘
//!                    └─ control: a push that is not an event
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `endpoint` | an account, ready to receive |
//! | `open` | signature, decryption, replayed queries; the check of the URL |
//! | `pushed` | what comes over a connection of the account's own |
//! | `control` | tickets, and polls of streamed answers |
//! | `admit` | an event is stored once; its first delivery calls the responder |
//! | `respond` | runs the responder |
//! | `reply` | what a reply becomes: fitted, written, recorded, dropped |
//! | `next_message` | a late reply answers the next message of the user |
//! | `memory` | which queries were used, and when the latest deliveries came |
//! | `answer` | waits for the reply, until the deadline; seals it |

mod admit;
mod answer;
mod control;
mod endpoint;
mod memory;
mod next_message;
mod open;
mod pushed;
mod reply;
mod respond;

use std::{borrow::Cow, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::endpoint::{Endpoint, Neighbours};
pub(crate) use self::memory::{Answered, LatestDeliveries, Memory};
pub(crate) use self::pushed::{NotReceived, request_id};
use self::{admit::Admitted, answer::Unanswered, open::Opened};
use crate::{
    api::Apis,
    blocking::Blocking,
    bots::Bots,
    clock::Clock,
    dispatch::Dispatcher,
    envelope::{Query, Refusal, Step},
    hooks::Hooks,
    in_flight::Permit,
    journal::Journal,
    metrics::Outcome,
    observers::Subscribers,
    payload::{self, Form, Payload, PayloadError, Value},
    platform::{self, AUTHORIZER, Body, Identity},
    streams::Streams,
    supervisor::{Supervisor, TaskGroup},
    telemetry,
};

/// The response to a request of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Received, and this is the answer.
    Answer {
        /// The body, sealed when the delivery was.
        body: Cow<'static, str>,
        /// Whether it is JSON, XML or plain text.
        content: Content,
    },
    /// Refused.
    Refused(Refused),
    /// Rejected for now with 503; the platform retries.
    Unavailable(&'static str),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The step of the verification that failed, with the likely cause. Not of every one of many.
    pub step: Option<Box<Step>>,
}

/// Media type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `text/plain`
    Text,
    /// `application/xml`
    Xml,
    /// `application/json`
    Json,
}

/// Receives deliveries for all accounts.
#[derive(Debug)]
pub struct Receiver {
    dispatcher: Dispatcher,
    subscribers: Subscribers,
    /// Streamed answers of bots.
    streams: Option<Arc<Streams>>,
    journal: Arc<dyn Journal>,
    memory: Arc<Memory>,
    /// Room for deliveries in flight that is reserved for no account.
    in_flight: Arc<Semaphore>,
    tasks: TaskGroup,
}

/// A POST with a permit to be in flight.
#[derive(Clone, Copy)]
struct Request<'r> {
    endpoint: &'r Arc<Endpoint>,
    query: &'r str,
    /// The authorizer of a third-party platform, by the route.
    authorizer: Option<&'r str>,
    /// By which it is answered, when it came over a connection.
    request_id: Option<&'r str>,
    arrived: Instant,
    permit: &'r Arc<Permit>,
}

/// What a delivery is answered.
struct Handled {
    body: Body,
    /// Its event; of several the last one, none of a push that is no event.
    event: Option<Uuid>,
}

/// A delivery that was opened and read.
struct Delivery<'d> {
    request: Request<'d>,
    query: &'d Query<'d>,
    /// The parameters of the query that are data.
    data: Option<Arc<str>>,
    identity: &'d Identity<'d>,
    form: Form,
    /// Why its payload cannot be parsed.
    fault: Option<&'d PayloadError>,
    /// The time of day when it arrived, Unix seconds.
    now: i64,
}

/// One event of a delivery.
struct PushedEvent<'v> {
    tree: &'v Value<'v>,
    payload: Payload,
}

impl Delivery<'_> {
    /// Records that the delivery of an event has its answer, or has none.
    fn trace(&self, admission: &Admitted, failure: Option<&Unanswered>) {
        let Request { endpoint, arrived, .. } = self.request;
        if telemetry::traces(admission.entry.id) {
            telemetry::record(telemetry::Span {
                event: admission.entry.id,
                kind: telemetry::Kind::Delivery { is_first: admission.event.is_some() },
                account: endpoint.id.to_string(),
                event_type: self.identity.event_type(endpoint.account.platform).to_string(),
                started: arrived,
                error: failure.map(ToString::to_string),
            });
        }
    }
}

impl Receiver {
    /// A receiver with these handlers, and permits for so many deliveries in flight beside those reserved for each account.
    pub fn new(hooks: Arc<Hooks>, journal: Arc<dyn Journal>, clock: Clock, in_flight: usize) -> Self {
        let subscribers = Subscribers::new(Arc::clone(&hooks), Vec::new(), Arc::default());
        let dispatcher =
            Dispatcher { hooks, apis: Apis::default(), bots: Bots::default(), clock, blocking: Blocking::default() };
        let memory = Memory::of(&*journal);
        Self::of(dispatcher, subscribers, journal, memory, in_flight, &Supervisor::default())
    }

    pub(crate) fn of(
        dispatcher: Dispatcher,
        subscribers: Subscribers,
        journal: Arc<dyn Journal>,
        memory: Arc<Memory>,
        in_flight: usize,
        supervisor: &Supervisor,
    ) -> Self {
        let (in_flight, tasks) = (Arc::new(Semaphore::new(in_flight)), supervisor.group("responders"));
        Self { dispatcher, subscribers, streams: None, journal, memory, in_flight, tasks }
    }

    /// Supports streamed answers, too.
    #[must_use]
    pub(crate) fn with_streams(self) -> Self {
        let streams = Streams::new(self.dispatcher.clone(), Arc::clone(&self.journal), self.tasks.clone());
        Self { streams: Some(streams), ..self }
    }

    /// Handles one POST from its arrival to its answer. `authorizer` is the account whose message a third-party platform
    /// receives, by the route.
    pub async fn receive(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        query: &str,
        authorizer: Option<&str>,
        body: Bytes,
        arrived: Instant,
    ) -> Response {
        let Some(permit) = endpoint.load.enter(&self.in_flight) else {
            return self.verdict_unread(endpoint, query, Outcome::Overloaded).unwrap_or_else(|| {
                endpoint.metrics.count(Outcome::Overloaded);
                Response::Unavailable("overloaded")
            });
        };
        let permit = Arc::new(permit);
        if !self.journal.is_remote() {
            let request = Request { endpoint, query, authorizer, request_id: None, arrived, permit: &permit };
            return self.take(request, body).await.unwrap_or_else(|response| response);
        }
        // A client that hangs up must not leave an event that is admitted and has no responder.
        let (receiver, own_endpoint, own_query) = (Arc::clone(self), Arc::clone(endpoint), query.to_owned());
        let authorizer = authorizer.map(str::to_owned);
        let taken = self.tasks.spawn(async move {
            let (query, authorizer) = (&*own_query, authorizer.as_deref());
            let request =
                Request { endpoint: &own_endpoint, query, authorizer, request_id: None, arrived, permit: &permit };
            receiver.take(request, body).await.unwrap_or_else(|response| response)
        });
        taken.await.ok().flatten().unwrap_or_else(|| {
            let verdict = self.verdict_unread(endpoint, query, Outcome::Panicked);
            verdict.unwrap_or(Response::Unavailable("failed"))
        })
    }

    /// Opens a delivery, handles it, and writes the answer.
    ///
    /// # Errors
    /// With the response, when it ends before that.
    async fn take(&self, request: Request<'_>, body: Bytes) -> Result<Response, Response> {
        let endpoint = request.endpoint;
        let now = self.dispatcher.clock.now();
        let opened = self.open(endpoint, request.query, &body, now);
        if opened.is_err() && endpoint.keys.is_path_probe(&body) {
            endpoint.metrics.count(Outcome::Verified);
            return Ok(self.write(endpoint, Body::Plain(platform::plain_success(endpoint.account.platform)), None));
        }
        let opened = opened.map_err(|refusal| endpoint.refused_request(refusal, request.query, Some(&body), now))?;
        // It is not held while the reply is waited for.
        drop(body);
        let handled = self.handle(request, &opened, now).await?;
        if let Some(event) = handled.event {
            self.memory.deliveries.answered(event, request.arrived);
        }
        Ok(self.write(endpoint, handled.body, opened.seal.as_ref()))
    }

    /// Reads what was opened, admits its events, has those answered that are new, and waits for their replies.
    ///
    /// # Errors
    /// With the response, when it ends before that.
    async fn handle(&self, request: Request<'_>, opened: &Opened<'_>, now: i64) -> Result<Handled, Response> {
        let endpoint = request.endpoint;
        let Opened { query, text, form, used, .. } = opened;
        let form = *form;
        let parsed = payload::parse(form, text);
        let repaired: Option<Arc<str>> = parsed.is_err().then(|| payload::repair(form, text)).flatten().map(Into::into);
        let (text, parsed) = match &repaired {
            Some(repaired) => (repaired, payload::parse(form, repaired)),
            None => (text, parsed),
        };
        // The sender is authentic: whatever it says is acknowledged.
        let (tree, fault) = parsed.map_or_else(|fault| (Value::Null, Some(fault)), |tree| (tree, None));
        let used = self.use_query(used.as_ref()).await.map_err(|failure| self.not_stored(endpoint, &failure))?;
        used.map_err(|refusal| endpoint.refused(refusal))?;

        let platform = endpoint.account.platform;
        if let Some(control) = tree.as_object().and_then(|object| platform.protocol().control(object)) {
            // It is rare, and large: boxed, so that every other result stays small.
            let body = Box::pin(self.control(request, &tree, control)).await?;
            return Ok(Handled { body, event: None });
        }

        let identity = &platform::identify(platform, &tree, query.get("CallbackCommand"));
        let data = match (request.authorizer, request.request_id) {
            (Some(authorizer), _) => Some(format!("{AUTHORIZER}={authorizer}").into()),
            (None, Some(id)) => Some(pushed::data(id)),
            (None, None) => platform.protocol().has_data_in_query().then(|| Query::data(request.query).into()),
        };
        let delivery = Delivery { request, query, data, identity, form, fault: fault.as_ref(), now };
        let events = platform::events_of(&tree, identity.spec);
        let mut admitted = Vec::with_capacity(events.len());
        for event in events {
            // An event of a list is its own payload; any other is as the platform wrote it.
            let whole = std::ptr::eq(event, &tree);
            let payload = Payload::new(if whole { Arc::clone(text) } else { payload::to_json(event).into() });
            let event = PushedEvent { tree: event, payload };
            let admission = self.admit(&delivery, &event).await;
            let admission = admission.map_err(|failure| self.event_not_stored(&delivery, &tree, &failure))?;
            admitted.push((event, admission));
        }
        let mut handled = Handled { body: Body::Plain(platform::plain_success(platform)), event: None };
        for (event, admission) in &admitted {
            let answer = self.answer(&delivery, event, admission).await;
            delivery.trace(admission, answer.as_ref().err());
            let body = answer.map_err(|why| self.unanswered(&delivery, &tree, &why))?;
            handled = Handled { body, event: Some(admission.entry.id) };
        }
        Ok(handled)
    }

    /// Waits until no responder runs.
    pub async fn drain(&self) {
        self.tasks.drain().await;
    }
}
