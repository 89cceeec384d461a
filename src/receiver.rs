//! The life of a delivery, without HTTP: open, read, admit, respond, seal.

use std::{
    any::Any,
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{self, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use metrics::Gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::{
    clock::Clock,
    config::{self, LateReply, Verdict},
    crypto::EncodingKey,
    envelope::{Keys, Mode, Query, ReceiveIds, Refusal, ReplayGuard, Seal},
    event::{Answer, EventSpec, Platform, ReplyKind},
    hooks::{self, Context, ContextInner, Hooks, Payload, RawEvent, RespondError, Responding},
    journal::{Admission, Entry, memory::MemoryJournal},
    metrics::{AccountMetrics, Metrics, Outcome},
    payload::{self, Form, Value},
    platform::{self, Address, Body, Identity},
    replies,
    wire::Unreadable,
};

/// Observers that run at one time, and that may wait for their turn.
const OBSERVERS_RUNNING: usize = 256;
const OBSERVERS_WAITING: usize = 8192;

/// When the platforms cut the connection of an attempt; a held attempt waits no longer.
const PLATFORM_LIMIT: Duration = Duration::from_secs(5);

/// How often WeChat and WeCom deliver an event that is not answered.
const ATTEMPTS: u32 = 3;

/// One configured account, ready to receive.
#[derive(Debug)]
pub struct Endpoint {
    /// The account as it is configured.
    pub account: config::Account,
    /// As in `mp/shop`.
    pub id: Arc<str>,
    /// What its requests are checked with.
    pub keys: Keys,
    metrics: AccountMetrics,
}

impl Endpoint {
    /// Prepares an account.
    ///
    /// # Errors
    /// When one of its AES keys is no key; the configuration checks that before.
    pub fn new(account: config::Account, metrics: &Metrics) -> Result<Self, crate::crypto::KeyError> {
        let aes_keys = account.aes_keys.iter().map(|key| EncodingKey::parse(key.expose())).collect::<Result<_, _>>()?;
        let keys = Keys {
            platform: account.platform,
            tokens: account.tokens.clone(),
            aes_keys,
            receive_ids: ReceiveIds::OneOf(account.receive_ids.clone()),
            mode: account.mode,
            max_age: account.max_age,
            sdk_app_id: account.sdk_app_id,
        };
        let metrics = metrics.account(account.platform.as_str(), &account.name);
        Ok(Self { id: account.id().into(), keys, metrics, account })
    }

    /// Counts a delivery that ended before it was a request.
    pub fn count(&self, outcome: Outcome) {
        self.metrics.count(outcome);
    }
}

/// What the platform is told.
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
    Refused(Refusal),
    /// Cannot be taken now; the platform asks again.
    Unavailable(&'static str),
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
    hooks: Hooks,
    journal: MemoryJournal,
    clock: Clock,
    metrics: Metrics,
    replays: ReplayGuard,
    in_flight: Arc<Semaphore>,
    observing: Observing,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Observing {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// An event of a delivery that has been read and admitted.
struct Admitted {
    entry: Arc<Entry>,
    /// Wait this long for the reply.
    until: Instant,
    /// The event, for the default answer; a repeat needs none.
    event: Option<(Option<&'static EventSpec>, Context)>,
    repeated: bool,
}

/// A delivery that was opened and read.
struct Delivery<'d> {
    endpoint: &'d Arc<Endpoint>,
    query: &'d Query<'d>,
    raw_query: &'d str,
    identity: &'d Identity<'d>,
    form: Form,
    arrived: Instant,
    place: &'d Arc<Place>,
}

/// A place among the deliveries in work. A responder keeps its own after the client has hung up, so that their number
/// is bounded too.
type Place = OwnedSemaphorePermit;

/// Counts one up, and down when it is dropped, as it is when a client hangs up.
struct Counted<'g>(&'g Gauge);

impl<'g> Counted<'g> {
    fn new(gauge: &'g Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What has to be known once a responder is done.
struct Responded {
    endpoint: Arc<Endpoint>,
    entry: Arc<Entry>,
    clock: Clock,
    spec: Option<&'static EventSpec>,
    address: Address,
    context: Context,
    _place: Arc<Place>,
}

impl Responded {
    /// Records the reply, or the default answer in its place.
    fn with(self, result: Result<Result<Answer, RespondError>, Panicked>, started: Instant) {
        let Self { endpoint, entry, clock, spec, address, context, _place } = self;
        endpoint.metrics.responder.record(started.elapsed().as_secs_f64());
        let raw = context.raw();
        let allow = endpoint.account.on_error != Verdict::Deny;
        let (body, outcome) = match result {
            Ok(Ok(Answer::Default)) => (default_answer(true, spec, raw), Outcome::Answered),
            Ok(Ok(answer)) => {
                (platform::write_answer(raw.platform, raw.form, answer, address, clock.now()), Outcome::Answered)
            }
            Ok(Err(failure)) => (default_answer(allow, spec, raw), log_failure(&endpoint, &context, &failure)),
            Err(_panic) => {
                error!(account = &*endpoint.id, event = %context.event_id(), kind = raw.event_type,
                    "{}: the responder of {} panicked", endpoint.id, raw.event_type);
                (default_answer(allow, spec, raw), Outcome::Panicked)
            }
        };
        endpoint.metrics.count(outcome);
        entry.record(body);
    }
}

/// What a panic leaves behind.
type Panicked = Box<dyn Any + Send>;

impl Receiver {
    /// A receiver with these handlers.
    pub fn new(hooks: Hooks, journal: MemoryJournal, clock: Clock, metrics: Metrics, max_in_flight: usize) -> Self {
        Self {
            hooks,
            journal,
            clock,
            metrics,
            replays: ReplayGuard::default(),
            in_flight: Arc::new(Semaphore::new(max_in_flight)),
            observing: Observing {
                running: Arc::new(Semaphore::new(OBSERVERS_RUNNING)),
                waiting: Arc::new(Semaphore::new(OBSERVERS_WAITING)),
            },
            tasks: TaskTracker::new(),
        }
    }

    /// Answers a GET, which checks the URL.
    pub fn verify_url(&self, endpoint: &Endpoint, query: &str) -> Response {
        if endpoint.account.platform == Platform::Im {
            return Response::Refused(Refusal::BadQuery);
        }
        let verified = Query::parse(query).and_then(|query| endpoint.keys.verify_url(&query, self.clock.now()));
        match verified {
            Ok(echo) => {
                endpoint.metrics.count(Outcome::Verified);
                debug!(account = &*endpoint.id, "url check of {} answered", endpoint.id);
                Response::Answer { body: echo.into(), content: Content::Text }
            }
            Err(refusal) => refused(endpoint, refusal),
        }
    }

    /// Takes one POST from its arrival to its answer.
    pub async fn receive(&self, endpoint: &Arc<Endpoint>, query: &str, body: Bytes, arrived: Instant) -> Response {
        let Ok(place) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            endpoint.metrics.count(Outcome::Overloaded);
            warn!(account = &*endpoint.id, "{}: too many deliveries in work", endpoint.id);
            return Response::Unavailable("overloaded");
        };
        let place = Arc::new(place);
        let _counted = Counted::new(&self.metrics.in_flight);
        match self.admit(endpoint, query, &body, arrived, &place) {
            Ok((admitted, seal)) => self.answer(endpoint, admitted, seal.as_ref()).await,
            Err(refusal) => refused(endpoint, refusal),
        }
    }

    /// Waits until no responder and no observer runs.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Opens and reads a delivery, and starts the handlers of its events if they are new.
    fn admit(
        &self,
        endpoint: &Arc<Endpoint>,
        query: &str,
        body: &[u8],
        arrived: Instant,
        place: &Arc<Place>,
    ) -> Result<(Vec<Admitted>, Option<Seal>), Refusal> {
        let parsed = Query::parse(query)?;
        let platform = endpoint.account.platform;
        let verified = endpoint.keys.open(&parsed, body, self.clock.now())?;
        // Where clear text is taken, an encrypted request's query must not come back with one.
        let takes_clear_text = endpoint.account.mode != Mode::Safe && platform != Platform::Im;
        if takes_clear_text && parsed.get("signature").is_some() {
            self.replays.check(&endpoint.id, &parsed, verified.payload())?;
        }
        let (text, form, seal) = verified.into_parts();
        let tree = payload::parse(form, &text)?;
        let identity = platform::identify(platform, &tree, parsed.get("CallbackCommand"));
        let events = platform::events_of(&tree, identity.spec);
        let delivery =
            Delivery { endpoint, query: &parsed, raw_query: query, identity: &identity, form, arrived, place };
        let admitted = events.iter().map(|event| {
            // An event of a list is its own payload; any other is as the platform wrote it.
            let whole = std::ptr::eq(event, &tree);
            let text = if whole { Arc::clone(&text) } else { payload::to_json(event).into() };
            self.admit_event(&delivery, event, &text)
        });
        Ok((admitted.collect(), seal))
    }

    fn admit_event(&self, delivery: &Delivery<'_>, tree: &Value<'_>, text: &Arc<str>) -> Admitted {
        let Delivery { endpoint, identity, form, arrived, .. } = *delivery;
        let platform = endpoint.account.platform;
        let query = |name: &str| delivery.query.get(name).map(str::to_owned);
        let key = platform::dedupe_key(platform, &endpoint.id, identity.spec, tree, text, &query);
        let entry = match self.journal.admit(key) {
            Admission::Known(entry) => {
                let until = wait_until(endpoint, identity.spec, arrived, entry.deliveries());
                return Admitted { entry, until, event: None, repeated: true };
            }
            Admission::New(entry) => entry,
        };
        let context_of = |event_type| {
            let query = (platform == Platform::Im).then(|| delivery.raw_query.into());
            let (account, payload) = (Arc::clone(&endpoint.id), Payload::new(Arc::clone(text)));
            let event = RawEvent { platform, account, event_type, form, payload, query: hooks::Query(query) };
            let deadline = arrived + endpoint.account.deadline;
            Context::new(ContextInner { event, id: entry.id, deadline, clock: self.clock.clone() })
        };
        let known = identity.spec.filter(|spec| !platform::is_wrapper(tree, spec)).and_then(|spec| {
            let context = context_of(spec.id);
            let work = self.start(endpoint, Some(spec), tree, form, &context).ok()?;
            Some((spec, context, work))
        });
        let (spec, context, work) = match known {
            Some((spec, context, work)) => (Some(spec), context, work),
            None => {
                let context = context_of(platform::unknown_type(platform, &identity.key));
                let work = self.start(endpoint, None, tree, form, &context).unwrap_or_default();
                (None, context, work)
            }
        };
        self.start_observers(endpoint, spec, tree, form, &context);
        match work {
            Some(work) => self.run_responder(
                work,
                Responded {
                    endpoint: Arc::clone(endpoint),
                    entry: Arc::clone(&entry),
                    clock: self.clock.clone(),
                    spec,
                    address: Address::of(tree),
                    context: context.clone(),
                    _place: Arc::clone(delivery.place),
                },
            ),
            None => {
                endpoint.metrics.count(if spec.is_some() { Outcome::Acknowledged } else { Outcome::Unknown });
                entry.record(default_answer(true, spec, context.raw()));
            }
        }
        let until = wait_until(endpoint, spec, arrived, 1);
        Admitted { entry, until, event: Some((spec, context)), repeated: false }
    }

    /// The responder of an event, reading it as its type; `None` when nobody responds.
    ///
    /// # Errors
    /// When the payload has not the shape of its type.
    fn start(
        &self,
        endpoint: &Endpoint,
        spec: Option<&'static EventSpec>,
        tree: &Value<'_>,
        form: Form,
        context: &Context,
    ) -> Result<Option<Responding>, Unreadable> {
        let event_type = context.raw().event_type;
        let responder = self.hooks.responder(&endpoint.id, event_type, spec);
        // A typed responder reads the event itself.
        let untyped = responder.is_none_or(|responder| !responder.is_for(spec));
        let read = match spec.filter(|_| untyped) {
            Some(spec) => hooks::read_unseen(spec, tree, form, context).map(|()| responder),
            None => Ok(responder),
        };
        let started = read.and_then(|responder| responder.map(|it| it.start(tree, form, context.clone())).transpose());
        started.inspect_err(|error| {
            warn!(
                account = &*endpoint.id,
                kind = event_type,
                "{}: {event_type} has an unexpected shape: {error}",
                endpoint.id
            );
        })
    }

    /// Runs the responder. One that is ready at once needs no task; any other becomes a task of its own, which survives
    /// a client that hangs up. Either way its panic is only its own.
    fn run_responder(&self, work: Responding, responded: Responded) {
        let started = Instant::now();
        let mut work = AssertUnwindSafe(work).catch_unwind();
        // Whoever polls next brings a waker of its own.
        match work.poll_unpin(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => responded.with(result, started),
            Poll::Pending => {
                self.tasks.spawn(async move { responded.with(work.await, started) });
            }
        }
    }

    /// Runs the observers in the background, bounded in number.
    fn start_observers(
        &self,
        endpoint: &Endpoint,
        spec: Option<&'static EventSpec>,
        tree: &Value<'_>,
        form: Form,
        context: &Context,
    ) {
        for (name, start) in self.hooks.observers(&endpoint.id, context.raw().event_type, spec) {
            let Ok(work) = start(tree, form, context.clone()) else { continue };
            let Ok(waiting) = Arc::clone(&self.observing.waiting).try_acquire_owned() else {
                self.metrics.observation_dropped.increment(1);
                warn!(observer = &**name, event = %context.event_id(), "observer {name} skipped: too many are waiting");
                continue;
            };
            let running = Arc::clone(&self.observing.running);
            let (name, metrics, id) = (Arc::clone(name), self.metrics.clone(), context.event_id());
            self.tasks.spawn(async move {
                let _running = running.acquire_owned().await;
                match AssertUnwindSafe(work).catch_unwind().await {
                    Ok(Ok(())) => metrics.observed.increment(1),
                    Ok(Err(failure)) => {
                        metrics.observation_failed.increment(1);
                        warn!(observer = &*name, event = %id, "observer {name} failed: {failure}");
                    }
                    Err(_panic) => {
                        metrics.observation_failed.increment(1);
                        error!(observer = &*name, event = %id, "observer {name} panicked");
                    }
                }
                drop(waiting);
            });
        }
    }

    /// Waits for the replies, and seals the one that goes back.
    async fn answer(&self, endpoint: &Endpoint, admitted: Vec<Admitted>, seal: Option<&Seal>) -> Response {
        let mut reply = Body::Plain(platform::plain_success(endpoint.account.platform));
        for event in admitted {
            reply = self.reply_of(endpoint, &event).await;
        }
        let (body, sealed) = match (reply, seal) {
            (Body::Plain(text), _) => (Cow::Borrowed(text), false),
            (Body::Document(text), None) => (Cow::Owned(text), false),
            (Body::Document(text), Some(seal)) => (Cow::Owned(self.seal(endpoint, seal, &text)), true),
        };
        let content = match body.as_bytes().first() {
            Some(b'<') => Content::Xml,
            Some(b'{') => Content::Json,
            _ => Content::Text,
        };
        debug!(account = &*endpoint.id, sealed, "{}: answered", endpoint.id);
        Response::Answer { body, content }
    }

    async fn reply_of(&self, endpoint: &Endpoint, event: &Admitted) -> Body {
        let reply = match event.entry.reply() {
            Some(reply) => Some(reply),
            None => time::timeout_at(event.until.into(), event.entry.answered()).await.ok(),
        };
        match reply {
            Some(reply) => {
                if event.repeated {
                    endpoint.metrics.count(Outcome::Repeated);
                }
                reply.clone()
            }
            None => {
                endpoint.metrics.count(Outcome::Late);
                warn!(account = &*endpoint.id, event = %event.entry.id, attempt = event.entry.deliveries(),
                    "{}: the responder is late, the default answer was given", endpoint.id);
                match &event.event {
                    Some((spec, context)) => {
                        default_answer(endpoint.account.on_timeout != Verdict::Deny, *spec, context.raw())
                    }
                    None => Body::Plain(platform::plain_success(endpoint.account.platform)),
                }
            }
        }
    }

    fn seal(&self, endpoint: &Endpoint, seal: &Seal, reply: &str) -> String {
        // Neither is a secret: they keep two seals of one reply apart.
        let (random, nonce): ([u8; 16], u32) = rand::random();
        endpoint.keys.seal(seal, reply, self.clock.now(), &nonce.to_string(), random)
    }
}

/// How long a delivery waits for the reply. A held one waits until the platform asks again, and the last attempt is
/// answered in time whatever happens.
fn wait_until(endpoint: &Endpoint, spec: Option<&EventSpec>, arrived: Instant, attempt: u32) -> Instant {
    let account = &endpoint.account;
    let reaches_user = spec.is_some_and(|spec| spec.reply == ReplyKind::Passive);
    if account.late_reply == LateReply::Hold && reaches_user && attempt < ATTEMPTS {
        arrived + account.deadline.max(PLATFORM_LIMIT)
    } else {
        arrived + account.deadline
    }
}

/// The answer of an event that nobody has answered. What decides (IM "before") is allowed or refused, which takes the
/// payload for those that are decided account by account.
fn default_answer(allow: bool, spec: Option<&EventSpec>, event: &RawEvent) -> Body {
    let plain = Body::Plain(platform::plain_success(event.platform));
    let Some(spec) = spec.filter(|spec| spec.reply == ReplyKind::Verdict) else { return plain };
    match event.tree() {
        Ok(Value::Object(payload)) => {
            Body::Document(payload::write_json(&replies::im::default_verdict(spec, &payload, allow)))
        }
        _ => plain,
    }
}

fn log_failure(endpoint: &Endpoint, context: &Context, failure: &RespondError) -> Outcome {
    warn!(account = &*endpoint.id, event = %context.event_id(), kind = context.raw().event_type,
        "{}: no answer to {}: {failure}", endpoint.id, context.raw().event_type);
    match failure {
        RespondError::Handler(_) => Outcome::Failed,
        RespondError::Reply(_) => Outcome::BadReply,
    }
}

fn refused(endpoint: &Endpoint, refusal: Refusal) -> Response {
    endpoint.metrics.count_refusal(&refusal);
    Response::Refused(refusal)
}
