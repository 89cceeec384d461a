//! The life of a delivery, without HTTP: open, read, admit, respond, seal.

use std::{
    borrow::Cow,
    future::ready,
    sync::Arc,
    task::{self, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{sync::Semaphore, time};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::{
    api::Apis,
    clock::Clock,
    config::{self, LateReply, Verdict},
    crypto::EncodingKey,
    envelope::{Guarded, Keys, Query, ReceiveIds, Refusal, ReplayGuard, Seal, UsedQuery},
    event::{Answer, EventSpec, ReplyKind, StreamError},
    hooks::{self, Context, ContextInner, Hooks, Payload, RawEvent, RespondError, Responding},
    in_flight::{Load, Permit},
    journal::{self, Admission, Entry, EventRecord, Journal, JournalError, Millis, NewEvent},
    late,
    metrics::{AccountMetrics, Metrics, Outcome},
    panics::{Caught, Panicked},
    payload::{self, Form, Value},
    platform::{self, AUTHORIZER, Address, Body, Control, Identity},
    replies,
    secret::Secret,
    streams::{NoAnswer, Streams},
    thirdparty::ReleaseTest,
    wire::Unreadable,
};

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
    /// Which of its queries are remembered.
    guarded: Guarded,
    metrics: AccountMetrics,
    /// What it has in flight.
    load: Arc<Load>,
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
            receive_ids: match account.receives_for_any {
                true => ReceiveIds::Any,
                false => ReceiveIds::OneOf(account.receive_ids.clone()),
            },
            mode: account.mode,
            max_age: account.max_age,
            sdk_app_id: account.sdk_app_id,
        };
        let (id, platform): (Arc<str>, _) = (account.id().into(), account.platform.as_str());
        let load = Arc::new(Load::new(Arc::clone(&id), account.share));
        metrics.watch(platform, &account.name, &load);
        let metrics = metrics.account(platform, &account.name);
        Ok(Self { id, guarded: Guarded::of(&keys, &[]), keys, metrics, load, account })
    }

    /// Guards queries with tokens that open clear text on other accounts, too.
    #[must_use]
    pub fn guarding(self, clear: &[Secret]) -> Self {
        Self { guarded: Guarded::of(&self.keys, clear), ..self }
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
    hooks: Arc<Hooks>,
    /// The server's own observers.
    own: Vec<journal::Observer>,
    apis: Apis,
    /// Answers of bots that come in pieces.
    streams: Option<Arc<Streams>>,
    journal: Arc<dyn Journal>,
    clock: Clock,
    replays: ReplayGuard,
    /// Room for deliveries in flight that is reserved for no account.
    in_flight: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// An event of a delivery that has been read and admitted.
struct Admitted {
    entry: Arc<Entry>,
    wait: Wait,
    /// The event, for the default answer; a repeat needs none.
    event: Option<(Option<&'static EventSpec>, Context)>,
    repeated: bool,
}

/// How long a delivery waits for the reply.
#[derive(Clone, Copy)]
struct Wait {
    until: Instant,
    /// The platform asks again when it gets no answer, and may wait for that.
    is_held: bool,
    /// A reply that comes later is sent by this observer.
    sender: Option<&'static str>,
}

/// Why a delivery has no answer.
enum Unanswered {
    /// Its event is not durable, or cannot be said to be.
    Journal(JournalError),
    /// The reply is still to come, and the platform asks again.
    Held,
}

impl From<JournalError> for Unanswered {
    fn from(failure: JournalError) -> Self {
        Self::Journal(failure)
    }
}

/// An event that has been read, with its responder not yet begun.
struct Prepared {
    spec: Option<&'static EventSpec>,
    context: Context,
    work: Option<Responding>,
}

/// A delivery that was opened and read.
struct Delivery<'d> {
    endpoint: &'d Arc<Endpoint>,
    query: &'d Query<'d>,
    /// The account that has authorised a third-party platform.
    authorizer: Option<&'d str>,
    /// The parameters of the query that are data.
    data: Option<Arc<str>>,
    identity: &'d Identity<'d>,
    form: Form,
    arrived: Instant,
    /// The time of day then, Unix seconds.
    now: i64,
    permit: &'d Arc<Permit>,
}

/// What has to be known once a responder is done.
struct Responded {
    endpoint: Arc<Endpoint>,
    entry: Arc<Entry>,
    /// Where the reply is recorded; nowhere, when the event is not stored.
    journal: Option<Arc<dyn Journal>>,
    /// The time of day, Unix seconds, for the reply.
    now: i64,
    spec: Option<&'static EventSpec>,
    address: Address,
    context: Context,
    /// Who takes the pieces of an answer that comes in such.
    streams: Option<Arc<Streams>>,
    /// Who sends a reply that comes too late.
    sender: Option<&'static str>,
    subject: Option<Box<str>>,
    received: Millis,
    permit: Arc<Permit>,
}

impl Responded {
    /// Records the reply, or the default answer in its place.
    fn with(self, result: Result<Result<Answer, RespondError>, Panicked>, started: Instant) {
        self.endpoint.metrics.responder.record(started.elapsed().as_secs_f64());
        let (endpoint, context, spec) = (&self.endpoint, &self.context, self.spec);
        let raw = context.raw();
        let default = || default_answer(endpoint.account.on_error != Verdict::Deny, spec, raw);
        let mut is_passive = false;
        let (body, failure, outcome) = match result {
            Ok(Ok(Answer::Stream(chunks))) if let Some(streams) = self.streams.clone() => {
                let tasks = streams.tasks().clone();
                // The event is to be durable, whenever the first chunk comes.
                if let Some(journal) = &self.journal {
                    journal.store(&self.entry);
                }
                tasks.spawn(async move {
                    let begun = streams.begin(&self.context, chunks, Arc::clone(&self.permit)).await;
                    self.begun(begun);
                });
                return;
            }
            Ok(Ok(Answer::Default)) => (default_answer(true, spec, raw), None, Outcome::Answered),
            Ok(Ok(answer)) => {
                is_passive = matches!(answer, Answer::Passive(_));
                let body = platform::write_answer(raw.platform, raw.form, answer, self.address, self.now);
                (body, None, Outcome::Answered)
            }
            Ok(Err(failure)) => (default(), Some(failure.to_string()), log_failure(endpoint, context, &failure)),
            Err(panicked) => {
                (default(), Some(format!("the responder {panicked}")), log_panic(endpoint, context, &panicked))
            }
        };
        endpoint.metrics.count(outcome);
        let is_due = self.entry.mark_replied();
        let sender = self.sender.filter(|_| is_passive).map(|observer| {
            let facts = EventRecord {
                platform: raw.platform,
                account: Arc::clone(&raw.account),
                event_type: Cow::Borrowed(raw.event_type),
                subject: self.subject,
                form: raw.form,
                payload: raw.payload.clone(),
                query: raw.query.clone(),
                received: self.received,
            };
            Box::new(journal::ReplySender { observer: observer.into(), is_due, record: facts })
        });
        record(self.journal.as_deref(), &self.entry, journal::ReplyRecord { body, failure, sender });
    }
}

impl Responded {
    /// Records the first answer of a stream.
    fn begun(self, begun: Result<Body, NoAnswer>) {
        let Self { endpoint, entry, journal, spec, context, .. } = self;
        let (body, failure, outcome) = match begun {
            Ok(body) => (body, None, Outcome::Answered),
            Err(no_answer) => {
                let (failure, outcome) = match no_answer {
                    NoAnswer::Stream(StreamError::Panicked(panicked)) => {
                        (format!("the responder {panicked}"), log_panic(&endpoint, &context, &panicked))
                    }
                    NoAnswer::Stream(StreamError::Failed(failure)) => {
                        let failure = RespondError::Handler(failure);
                        (failure.to_string(), log_failure(&endpoint, &context, &failure))
                    }
                    NoAnswer::Journal(failure) => {
                        warn!(account = &*endpoint.id, event = %context.event_id(), "{}: no answer: {failure}", endpoint.id);
                        (failure, Outcome::Failed)
                    }
                };
                let default = default_answer(endpoint.account.on_error != Verdict::Deny, spec, context.raw());
                (default, Some(failure), outcome)
            }
        };
        endpoint.metrics.count(outcome);
        entry.mark_replied();
        record(journal.as_deref(), &entry, journal::ReplyRecord { body, failure, sender: None });
    }
}

/// Records a reply, which settles the entry once it is durable.
fn record(journal: Option<&dyn Journal>, entry: &Arc<Entry>, reply: journal::ReplyRecord) {
    match journal {
        Some(journal) => journal.record(entry, reply),
        None => entry.settle(Ok(reply.body)),
    }
}

impl Receiver {
    /// A receiver with these handlers, and room for so many deliveries in flight beside those reserved for each account.
    pub fn new(hooks: Arc<Hooks>, journal: Arc<dyn Journal>, clock: Clock, in_flight: usize) -> Self {
        let replays = ReplayGuard::default();
        journal.used_queries().iter().for_each(|used| replays.remember(used));
        Self {
            hooks,
            own: Vec::new(),
            apis: Apis::default(),
            streams: None,
            journal,
            clock,
            replays,
            in_flight: Arc::new(Semaphore::new(in_flight)),
            tasks: TaskTracker::new(),
        }
    }

    /// Offers events to the server's own observers too, and gives handlers the platforms' API.
    #[must_use]
    pub fn with_api(self, own: Vec<journal::Observer>, apis: Apis) -> Self {
        let (hooks, journal) = (Arc::clone(&self.hooks), Arc::clone(&self.journal));
        let streams = Streams::new(hooks, apis.clone(), journal, self.clock.clone(), self.tasks.clone());
        Self { own, apis, streams: Some(streams), ..self }
    }

    /// Answers a GET, which checks the URL.
    pub async fn verify_url(&self, endpoint: &Endpoint, query: &str) -> Response {
        if !endpoint.keys.has_url_check() {
            return Response::Refused(Refusal::BadQuery);
        }
        let verified = Query::parse(query).and_then(|query| {
            let echo = endpoint.keys.verify_url(&query, self.clock.now())?;
            let used = endpoint.guarded.used(&endpoint.keys, &query, None);
            used.iter().try_for_each(|used| self.replays.check(used))?;
            Ok((echo, used))
        });
        let verified = match verified {
            Ok((echo, used)) => match self.use_query(used.as_ref()).await {
                Ok(used) => used.map(|()| echo),
                Err(failure) => return self.not_taken(endpoint, &failure),
            },
            Err(refusal) => Err(refusal),
        };
        match verified {
            Ok(echo) => {
                endpoint.metrics.count(Outcome::Verified);
                debug!(account = &*endpoint.id, "url check of {} answered", endpoint.id);
                Response::Answer { body: echo.into(), content: Content::Text }
            }
            Err(refusal) => refused(endpoint, refusal),
        }
    }

    /// Refuses a POST whose body is still to come, if its query says enough.
    pub fn refuse_early(&self, endpoint: &Endpoint, query: &str) -> Option<Response> {
        let checked = Query::parse(query).and_then(|query| endpoint.keys.check_query(&query, self.clock.now()));
        checked.err().map(|refusal| refused(endpoint, refusal))
    }

    /// Takes one POST from its arrival to its answer. `authorizer` is the account whose message a third-party platform is
    /// given, by its route.
    pub async fn receive(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        query: &str,
        authorizer: Option<&str>,
        body: Bytes,
        arrived: Instant,
    ) -> Response {
        let Some(permit) = endpoint.load.enter(&self.in_flight) else {
            endpoint.metrics.count(Outcome::Overloaded);
            return Response::Unavailable("overloaded");
        };
        let permit = Arc::new(permit);
        if !self.journal.is_remote() {
            return self.take(endpoint, query, authorizer, body, arrived, &permit).await;
        }
        // A client that hangs up must not leave an event that is admitted and has no responder.
        let (receiver, endpoint, query) = (Arc::clone(self), Arc::clone(endpoint), query.to_owned());
        let authorizer = authorizer.map(str::to_owned);
        let taken = self.tasks.spawn(async move {
            receiver.take(&endpoint, &query, authorizer.as_deref(), body, arrived, &permit).await
        });
        taken.await.unwrap_or(Response::Unavailable("failed"))
    }

    /// Opens and reads a delivery, starts the handlers of its events if they are new, and answers.
    async fn take(
        &self,
        endpoint: &Arc<Endpoint>,
        query: &str,
        authorizer: Option<&str>,
        body: Bytes,
        arrived: Instant,
        permit: &Arc<Permit>,
    ) -> Response {
        let now = self.clock.now();
        let opened = Query::parse(query).and_then(|parsed| {
            let verified = endpoint.keys.open(&parsed, &body, now)?;
            let used = endpoint.guarded.used(&endpoint.keys, &parsed, Some(&verified));
            used.iter().try_for_each(|used| self.replays.check(used))?;
            let (text, form, seal) = verified.into_parts();
            Ok((parsed, text, form, seal, used))
        });
        // It is not held while the reply is waited for.
        drop(body);
        let (parsed, text, form, seal, used) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return refused(endpoint, refusal),
        };
        let tree = match payload::parse(form, &text) {
            Ok(tree) => tree,
            Err(failure) => return refused(endpoint, failure.into()),
        };
        match self.use_query(used.as_ref()).await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => return refused(endpoint, refusal),
            Err(failure) => return self.not_stored(endpoint, None, &tree, &failure),
        }
        let platform = endpoint.account.platform;
        // What is rare is boxed: the other deliveries are moved about without room for it.
        match tree.as_object().and_then(|object| platform.protocol().control(object)) {
            Some(Control::Poll) => return Box::pin(self.tell_stream(endpoint, &tree, seal.as_ref(), permit)).await,
            Some(Control::Ticket(ticket)) => return Box::pin(self.keep_ticket(endpoint, &tree, ticket)).await,
            None => {}
        }
        let identity = platform::identify(platform, &tree, parsed.get("CallbackCommand"));
        let data = match authorizer {
            Some(authorizer) => Some(format!("{AUTHORIZER}={authorizer}").into()),
            None => platform.protocol().has_data_in_query().then(|| Query::data(query).into()),
        };
        let delivery =
            Delivery { authorizer, endpoint, query: &parsed, data, identity: &identity, form, arrived, now, permit };
        let mut reply = Body::Plain(platform::plain_success(platform));
        let events = platform::events_of(&tree, identity.spec);
        let mut admitted = Vec::with_capacity(events.len());
        for event in events {
            // An event of a list is its own payload; any other is as the platform wrote it.
            let whole = std::ptr::eq(event, &tree);
            let text = if whole { Arc::clone(&text) } else { payload::to_json(event).into() };
            match self.admit_event(&delivery, event, &text).await {
                Ok(admission) => admitted.push((event, text, admission)),
                Err(failure) => return self.not_stored(endpoint, identity.spec, &tree, &failure),
            }
        }
        for (event, text, admission) in &admitted {
            let mut told = self.reply_of(endpoint, admission).await;
            if matches!(told, Err(Unanswered::Journal(JournalError::Abandoned))) {
                // This node takes the event over.
                told = match self.admit_event(&delivery, event, text).await {
                    Ok(admission) => self.reply_of(endpoint, &admission).await,
                    Err(failure) => Err(failure.into()),
                };
            }
            match told {
                Ok(body) => reply = body,
                Err(Unanswered::Journal(failure)) => {
                    return self.not_stored(endpoint, identity.spec, &tree, &failure);
                }
                Err(Unanswered::Held) => {
                    endpoint.metrics.count(Outcome::Held);
                    return Response::Unavailable("held");
                }
            }
        }
        self.write(endpoint, reply, seal.as_ref())
    }

    /// Has the journal remember a query, and asks it what other nodes know of it.
    async fn use_query(&self, used: Option<&UsedQuery>) -> Result<Result<(), Refusal>, JournalError> {
        let Some(used) = used else { return Ok(Ok(())) };
        let Some(asked) = self.journal.use_query(used) else { return Ok(Ok(())) };
        let body = asked.await?;
        if body == used.body {
            return Ok(Ok(()));
        }
        // What came first stands, here as there.
        self.replays.remember(&UsedQuery { body, ..*used });
        Ok(Err(Refusal::ReplayedQuery))
    }

    /// Waits until no responder runs.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn admit_event(
        &self,
        delivery: &Delivery<'_>,
        tree: &Value<'_>,
        text: &Arc<str>,
    ) -> Result<Admitted, JournalError> {
        let Delivery { endpoint, identity, arrived, .. } = *delivery;
        let received = journal::now_millis();
        let id = self.journal.next_id(received);
        let mut prepared = self.prepare(delivery, tree, text, id);
        let Some(event) = self.new_event(delivery, &prepared, tree, id, received) else {
            // A question of now that nobody observes: there is nothing to remember.
            let entry = Entry::new(id, None, 1);
            entry.mark_stored();
            return Ok(self.respond(delivery, tree, prepared, entry, received, None));
        };
        let entry = match self.journal.admit(event).await? {
            Admission::Known(entry) => {
                let wait = wait(endpoint, identity.spec, arrived, entry.deliveries());
                return Ok(Admitted { entry, wait, event: None, repeated: true });
            }
            Admission::Run(entry) => entry,
        };
        if entry.id != id {
            prepared = self.prepare(delivery, tree, text, entry.id);
        }
        Ok(self.respond(delivery, tree, prepared, entry, received, Some(Arc::clone(&self.journal))))
    }

    /// Reads an event and looks for its responder.
    fn prepare(&self, delivery: &Delivery<'_>, tree: &Value<'_>, text: &Arc<str>, id: Uuid) -> Prepared {
        let Delivery { endpoint, identity, form, arrived, .. } = *delivery;
        let platform = endpoint.account.platform;
        let context_of = |event_type| {
            let (account, payload) = (Arc::clone(&endpoint.id), Payload::new(Arc::clone(text)));
            let query = delivery.data.clone();
            let event = RawEvent { platform, account, event_type, form, payload, query };
            let deadline = arrived + endpoint.account.deadline;
            let api = self.apis.of_event(&endpoint.id, tree, delivery.authorizer);
            Context::new(ContextInner { event, id, deadline, clock: self.clock.clone(), attempt: 1, api })
        };
        let known = identity.spec.filter(|spec| !platform::is_wrapper(tree, spec)).and_then(|spec| {
            let context = context_of(spec.id);
            let work = self.start(endpoint, Some(spec), tree, form, &context).ok()?;
            Some(Prepared { spec: Some(spec), context, work })
        });
        let mut prepared = known.unwrap_or_else(|| {
            let context = context_of(platform::unknown_type(platform, &identity.key));
            let work = self.start(endpoint, None, tree, form, &context).unwrap_or_default();
            Prepared { spec: None, context, work }
        });
        if endpoint.account.release_test
            && delivery.authorizer.is_some()
            && let Some(step) = ReleaseTest::of(tree)
        {
            prepared.work = Some(self.answer_release_test(endpoint, step));
        }
        prepared
    }

    /// Answers the platform that tests its third-party platform.
    fn answer_release_test(&self, endpoint: &Endpoint, step: ReleaseTest) -> Responding {
        let (code, user) = match step {
            ReleaseTest::Answer(answer) => return Caught::new(Box::pin(ready(Ok(answer)))),
            ReleaseTest::Message { code, user } => (code, user),
        };
        let (api, tasks) = (self.apis.get(&endpoint.id).cloned(), self.tasks.clone());
        Caught::new(Box::pin(async move {
            if let Some(api) = api {
                tasks.spawn(ReleaseTest::send(api, code, user));
            }
            Ok(Answer::Default)
        }))
    }

    /// Tells a bot's platform what there is by now of an answer.
    async fn tell_stream(
        &self,
        endpoint: &Endpoint,
        tree: &Value<'_>,
        seal: Option<&Seal>,
        permit: &Arc<Permit>,
    ) -> Response {
        let told = match &self.streams {
            Some(streams) => streams.poll(&endpoint.id, tree, permit).await,
            None => Ok(Body::Plain(platform::plain_success(endpoint.account.platform))),
        };
        match told {
            Ok(body) => {
                endpoint.metrics.count(Outcome::Answered);
                self.write(endpoint, body, seal)
            }
            Err(failure) => self.not_stored(endpoint, None, tree, &failure),
        }
    }

    /// Keeps what tokens of a third-party platform or application are made of.
    async fn keep_ticket(&self, endpoint: &Endpoint, tree: &Value<'_>, ticket: &str) -> Response {
        let kept = match self.apis.get(&endpoint.id) {
            Some(api) => api.keep_ticket(ticket).await,
            None => {
                warn!(account = &*endpoint.id, "{}: a ticket is not kept, for there is no `secret`", endpoint.id);
                Ok(())
            }
        };
        if let Err(failure) = kept {
            return self.not_stored(endpoint, None, tree, &failure);
        }
        endpoint.metrics.count(Outcome::Acknowledged);
        self.write(endpoint, Body::Plain(platform::plain_success(endpoint.account.platform)), None)
    }

    /// What the journal is given; `None` for what is not kept.
    fn new_event(
        &self,
        delivery: &Delivery<'_>,
        prepared: &Prepared,
        tree: &Value<'_>,
        id: Uuid,
        received: Millis,
    ) -> Option<NewEvent> {
        let Delivery { endpoint, identity, form, .. } = *delivery;
        let platform = endpoint.account.platform;
        let event_type = prepared.context.raw().event_type;
        let payload = &prepared.context.raw().payload;
        let query = |name: &str| delivery.query.get(name).map(str::to_owned);
        let key = platform::dedupe_key(platform, &endpoint.id, identity.spec, tree, payload.text(), &query);
        let own = self.own.iter().filter(|own| (own.wants)(&endpoint.id, event_type)).map(|own| &own.name);
        let observers = self.hooks.observers(&endpoint.id, event_type, prepared.spec).chain(own);
        let observers: Vec<_> = observers.map(Arc::clone).collect();
        if key.is_none() && observers.is_empty() {
            return None;
        }
        let facts = EventRecord {
            platform,
            account: Arc::clone(&endpoint.id),
            event_type: Cow::Borrowed(event_type),
            subject: platform::subject(platform, tree).map(Into::into),
            form,
            payload: payload.clone(),
            query: delivery.data.clone(),
            received,
        };
        Some(NewEvent { id, key, record: facts, observers })
    }

    /// Has the responder answer, if there is one.
    fn respond(
        &self,
        delivery: &Delivery<'_>,
        tree: &Value<'_>,
        prepared: Prepared,
        entry: Arc<Entry>,
        received: Millis,
        journal: Option<Arc<dyn Journal>>,
    ) -> Admitted {
        let Delivery { endpoint, arrived, .. } = *delivery;
        let Prepared { spec, context, work } = prepared;
        let wait = wait(endpoint, spec, arrived, entry.deliveries());
        match work {
            Some(work) => self.run_responder(
                work,
                Responded {
                    endpoint: Arc::clone(endpoint),
                    entry: Arc::clone(&entry),
                    journal,
                    now: delivery.now,
                    spec,
                    address: Address::of(tree),
                    context: context.clone(),
                    streams: self.streams.clone(),
                    sender: wait.sender,
                    subject: wait
                        .sender
                        .and_then(|_| platform::subject(endpoint.account.platform, tree))
                        .map(Into::into),
                    received,
                    permit: Arc::clone(delivery.permit),
                },
            ),
            None => {
                endpoint.metrics.count(if spec.is_some() { Outcome::Acknowledged } else { Outcome::Unknown });
                let body = default_answer(true, spec, context.raw());
                entry.mark_replied();
                record(journal.as_deref(), &entry, journal::ReplyRecord { body, failure: None, sender: None });
            }
        }
        Admitted { entry, wait, event: Some((spec, context)), repeated: false }
    }

    /// The journal could not store: the platform is to ask again. What it asks once only gets the configured verdict.
    fn not_stored(
        &self,
        endpoint: &Endpoint,
        spec: Option<&'static EventSpec>,
        tree: &Value<'_>,
        failure: &JournalError,
    ) -> Response {
        let unavailable = self.not_taken(endpoint, failure);
        match (spec.filter(|spec| spec.reply == ReplyKind::Verdict), tree) {
            (Some(spec), Value::Object(payload)) => {
                let allow = endpoint.account.on_error != Verdict::Deny;
                let body = Body::Document(payload::write_json(&replies::im::default_verdict(spec, payload, allow)));
                self.write(endpoint, body, None)
            }
            _ => unavailable,
        }
    }

    fn not_taken(&self, endpoint: &Endpoint, failure: &JournalError) -> Response {
        endpoint.metrics.count(Outcome::NotStored);
        warn!(account = &*endpoint.id, "{}: a delivery was not taken: {failure}", endpoint.id);
        Response::Unavailable("not_stored")
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
    fn run_responder(&self, mut work: Responding, mut responded: Responded) {
        let started = Instant::now();
        // Whoever polls next brings a waker of its own.
        match work.poll_unpin(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => responded.with(result, started),
            Poll::Pending => {
                // The event is to be durable before its default answer is given.
                if let Some(journal) = &responded.journal {
                    journal.store(&responded.entry);
                }
                self.tasks.spawn(async move {
                    let event_type = responded.context.raw().event_type;
                    let permit = Arc::clone(&responded.permit);
                    let run = permit.run(event_type, started);
                    let result = work.await;
                    drop(run);
                    responded.now = responded.context.clock().now();
                    responded.with(result, started);
                });
            }
        }
    }

    /// Writes the reply that goes back, sealed when the delivery was.
    fn write(&self, endpoint: &Endpoint, reply: Body, seal: Option<&Seal>) -> Response {
        let (body, sealed) = match (reply, seal) {
            (Body::Plain(text), _) => (Cow::Borrowed(text), false),
            (Body::Document(text), None) => (Cow::Owned(text), false),
            (Body::Document(text), Some(seal)) => {
                // Neither is a secret: they keep two seals of one reply apart.
                let (random, nonce): ([u8; 16], u32) = rand::random();
                let sealed = endpoint.keys.answer(seal, &text, self.clock.now(), &nonce.to_string(), random);
                (Cow::Owned(sealed), true)
            }
        };
        let content = match body.as_bytes().first() {
            Some(b'<') => Content::Xml,
            Some(b'{') => Content::Json,
            _ => Content::Text,
        };
        debug!(account = &*endpoint.id, sealed, "{}: answered", endpoint.id);
        Response::Answer { body, content }
    }

    /// Waits for the reply of an event.
    async fn reply_of(&self, endpoint: &Endpoint, event: &Admitted) -> Result<Body, Unanswered> {
        let Admitted { entry, wait, .. } = event;
        let reply = match entry.reply() {
            Some(reply) => Some(reply),
            None => time::timeout_at(wait.until.into(), entry.answered()).await.ok(),
        };
        if let Some(reply) = reply {
            if event.repeated && reply.is_ok() {
                endpoint.metrics.count(Outcome::Repeated);
            }
            return Ok(reply.clone()?);
        }
        let slow = || JournalError::storage("the journal takes too long");
        entry.stored().now_or_never().unwrap_or_else(|| Err(slow()))?;
        if let Err(failure @ JournalError::Storage(_)) = self.journal.health() {
            return Err(failure.into());
        }
        if wait.is_held && !entry.is_replied() {
            return Err(Unanswered::Held);
        }
        // A reply that is there and cannot be recorded is not late: whoever asks again gets it. Nor is one that may have been
        // recorded by another node.
        if !entry.give_up() {
            return Err(slow().into());
        }
        if wait.sender.is_some()
            && let Some(reply) = self.journal.give_up(entry).await?
        {
            return Ok(reply);
        }
        endpoint.metrics.count(Outcome::Late);
        let then = if wait.sender.is_some() { "; the reply is sent when it is ready" } else { "" };
        warn!(account = &*endpoint.id, event = %entry.id, attempt = entry.deliveries(),
            "{}: the responder is late, the default answer was given{then}", endpoint.id);
        Ok(match &event.event {
            Some((spec, context)) => default_answer(endpoint.account.on_timeout != Verdict::Deny, *spec, context.raw()),
            None => Body::Plain(platform::plain_success(endpoint.account.platform)),
        })
    }
}

/// How long a delivery waits for the reply. A held one waits until the platform asks again, and the last attempt is
/// answered in time whatever happens.
fn wait(endpoint: &Endpoint, spec: Option<&EventSpec>, arrived: Instant, attempt: u32) -> Wait {
    let account = &endpoint.account;
    let reaches_user = spec.is_some_and(|spec| spec.reply == ReplyKind::Passive);
    let is_held = account.late_reply == LateReply::Hold && reaches_user && attempt < ATTEMPTS;
    let deadline = if is_held { account.deadline.max(PLATFORM_LIMIT) } else { account.deadline };
    let sends = reaches_user && account.late_reply != LateReply::Drop && account.secret.is_some();
    Wait { until: arrived + deadline, is_held, sender: sends.then_some(late::OBSERVER) }
}

/// The answer of an event that nobody has answered. What decides (IM "before") is allowed or refused, which takes the
/// payload for those that are decided account by account.
fn default_answer(allow: bool, spec: Option<&EventSpec>, event: &RawEvent) -> Body {
    let plain = Body::Plain(platform::plain_success(event.platform));
    let Some(spec) = spec.filter(|spec| spec.reply == ReplyKind::Verdict) else { return plain };
    if let Some(verdict) = replies::im::verdict_without_payload(spec, allow) {
        return Body::Document(payload::write_json(&verdict));
    }
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

fn log_panic(endpoint: &Endpoint, context: &Context, panicked: &Panicked) -> Outcome {
    error!(account = &*endpoint.id, event = %context.event_id(), kind = context.raw().event_type,
        "{}: the responder of {} {panicked}", endpoint.id, context.raw().event_type);
    Outcome::Panicked
}

fn refused(endpoint: &Endpoint, refusal: Refusal) -> Response {
    endpoint.metrics.count_refusal(&refusal);
    Response::Refused(refusal)
}
