//! From a message that was pushed to its answer, which is sent once.
//!
//! A message is admitted as every delivery is. Beside it the journal has an observation of [`OBSERVER`] from that moment
//! on: it is done when the answer is sent. So what a process leaves behind that ends, or that loses its connection, is
//! taken up by whoever has the connection: the message is given to the receiver again, as a repeat, and so gets the
//! recorded reply, joins the responder that runs on another node, or runs it when that node is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    time,
};
use tracing::warn;
use uuid::Uuid;

use super::{
    sending::{Answer, Outcome, Sender},
    session::{Session, lock},
};
use crate::{
    delivery::{Endpoint, NotReceived, Receiver, request_id},
    event::Platform,
    journal::{EventRecord, Leased, now_millis},
    observers::{Failed, Permit, Run},
    payload::{self, Form, Value},
    platform::{self, Body, Key},
    supervisor::TaskGroup,
    throttle::Throttle,
};

/// Name of the observer that takes up what was not answered.
pub const OBSERVER: &str = "echostr.websocket-answer";

/// An attempt of the observer may wait for a responder and its stream.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(3600 + 600);

/// Messages whose answers are in the making, beyond those that have a permit: they wait for one.
const MAX_WAITING: usize = 256;

/// Bytes of all of them; one is a few KiB.
const MAX_BYTES: usize = 16 << 20;

/// How long a message is tried to be admitted: nobody else has it.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After a new connection the platform may repeat what has no answer. What is left behind is taken up after that.
pub(super) const REPEAT_TIME: Duration = Duration::from_secs(2);

/// How often it is tried again to take up what is answered elsewhere.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A platform does not take an answer to a message that is older, and a user does not expect it.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Messages that are being answered by this process.
pub(super) struct Answers {
    pub(super) endpoint: Arc<Endpoint>,
    receiver: Arc<Receiver>,
    pub(super) sender: Sender,
    flights: Mutex<Flights>,
    /// As many as may be in flight of the account; the others wait for their turn.
    room: Semaphore,
    tasks: TaskGroup,
    dropped: Throttle,
}

#[derive(Default)]
struct Flights {
    by_key: HashMap<Key, Arc<Flight>>,
    /// Bytes of those that were pushed.
    bytes: usize,
}

/// One message that is being answered.
pub(super) struct Flight {
    /// By which id it is answered: that of its latest delivery.
    request_id: Mutex<String>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    pub(super) fn request_id(&self) -> String {
        lock(&self.request_id).clone()
    }
}

/// Keeps a message among those that are being answered.
struct InFlight {
    answers: Arc<Answers>,
    key: Key,
    flight: Arc<Flight>,
    bytes: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut flights = lock(&self.answers.flights);
        flights.by_key.remove(&self.key);
        flights.bytes = flights.bytes.saturating_sub(self.bytes);
        drop(flights);
        // It panicked, or was cancelled.
        self.flight.outcome.send_if_modified(|outcome| {
            let is_open = outcome.is_none();
            outcome.get_or_insert_with(|| Outcome::NotSent("it was cancelled".to_owned()));
            is_open
        });
    }
}

/// What a body is.
struct Read {
    key: Option<Key>,
    event_type: &'static str,
}

fn read(platform: Platform, account: &str, body: &str) -> Read {
    let tree = payload::parse(Form::Json, body).unwrap_or(Value::Null);
    let identity = platform::identify(platform, &tree, None);
    let key = platform::dedupe_key(platform, account, identity.spec, &tree, body, &|_: &str| None);
    Read { key: key.map(|key| key.bytes), event_type: identity.event_type(platform) }
}

impl Answers {
    pub(super) fn new(endpoint: Arc<Endpoint>, receiver: Arc<Receiver>, sender: Sender, tasks: TaskGroup) -> Self {
        let room = Semaphore::new(endpoint.account.share.most);
        Self { endpoint, receiver, sender, flights: Mutex::default(), room, tasks, dropped: Throttle::default() }
    }

    /// A message or an event has come. Whatever becomes of it, the connection goes on meanwhile.
    pub(super) fn pushed(self: &Arc<Self>, request_id: &str, body: &str) {
        let Read { key, event_type } = read(self.endpoint.account.platform, &self.endpoint.id, body);
        let Some(key) = key else { return };
        let Some(in_flight) = self.begin(key, request_id, body.len()) else { return };
        let (this, body) = (Arc::clone(self), body.to_owned());
        self.tasks.spawn(async move {
            let outcome = this.answer(&in_flight.flight, event_type, &body, true).await;
            this.log(event_type, &outcome);
            in_flight.flight.outcome.send_replace(Some(outcome));
        });
    }

    /// Marks a message as being answered; `None` when it is already, by its new id from now on, or when there is no room.
    /// `bytes` is 0 for one that was not pushed now.
    fn begin(self: &Arc<Self>, key: Key, request_id: &str, bytes: usize) -> Option<InFlight> {
        let is_pushed = bytes > 0;
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.by_key.get(&key) {
            if is_pushed {
                request_id.clone_into(&mut lock(&flight.request_id));
            }
            return None;
        }
        let most = self.endpoint.account.share.most.saturating_add(MAX_WAITING);
        let is_full = flights.by_key.len() >= most || flights.bytes.saturating_add(bytes) > MAX_BYTES;
        if is_pushed && is_full {
            drop(flights);
            if let Some(omitted) = self.dropped.allow() {
                let account = &*self.endpoint.id;
                warn!(
                    account,
                    "{account}: DROPPED a message: too many wait for an answer; raise max_in_flight{omitted}"
                );
            }
            return None;
        }
        let flight =
            Arc::new(Flight { request_id: Mutex::new(request_id.to_owned()), outcome: watch::Sender::new(None) });
        flights.by_key.insert(key, Arc::clone(&flight));
        flights.bytes += bytes;
        drop(flights);
        Some(InFlight { answers: Arc::clone(self), key, flight, bytes })
    }

    /// Has a message answered, and sends the answer.
    async fn answer(&self, flight: &Flight, event_type: &'static str, body: &str, is_pushed: bool) -> Outcome {
        let _turn = self.room.acquire().await;
        let arrived = Instant::now();
        let mut pause = FIRST_PAUSE;
        let answered = loop {
            let received = self.receiver.receive_pushed(&self.endpoint, &flight.request_id(), body, arrived).await;
            match received {
                Ok(answered) => break answered,
                Err(NotReceived::Unavailable(_)) if arrived.elapsed() < ADMISSION_TIMEOUT => {
                    time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Err(failure) => return Outcome::NotSent(failure.to_string()),
            }
        };
        let (Some(event), Body::Document(document)) = (answered.event, answered.body) else { return Outcome::Nothing };
        let answer = Answer { event, event_type, document: &document, message: body, is_pushed };
        self.sender.send(&self.endpoint.id, flight, &answer, &answered.permit).await
    }

    fn log(&self, event_type: &'static str, outcome: &Outcome) {
        let account = &*self.endpoint.id;
        match outcome {
            Outcome::Sent | Outcome::Nothing | Outcome::Elsewhere => {}
            Outcome::NotSent(why) | Outcome::Refused(why) | Outcome::Unknown { why, .. } => {
                let then = match is_message(event_type) {
                    true => "it is taken up again",
                    false => "it is not sent later: the platform takes it within 5 s only",
                };
                warn!(account, kind = event_type, "{account}: the answer to {event_type} was not sent: {why}; {then}");
            }
        }
    }

    /// Ready when those are answered, or not, that are being answered now.
    pub(super) async fn settle(&self) {
        let flights: Vec<_> = lock(&self.flights).by_key.values().cloned().collect();
        for flight in flights {
            let _ = flight.outcome.subscribe().wait_for(Option::is_some).await;
        }
    }

    /// Takes up a message that may have no answer.
    async fn take_up(self: &Arc<Self>, leased: Leased, mut permit: Permit) -> Result<(), Failed> {
        let Leased { lease, record, reply, .. } = leased;
        if matches!(reply, Some(Body::Plain(_))) {
            return Ok(());
        }
        let Read { key, event_type } = read(record.platform, &record.account, record.payload.text());
        let Some(key) = key else { return Ok(()) };
        let flight = lock(&self.flights).by_key.get(&key).cloned();
        if let Some(flight) = flight {
            // Only to wait takes no room.
            permit.release();
            let outcome = flight.outcome.subscribe().wait_for(Option::is_some).await.map(|outcome| outcome.clone());
            return finish(outcome.ok().flatten().unwrap_or(Outcome::Elsewhere));
        }
        if self.sender.is_sent(&self.endpoint.id, lease.id).await {
            return Ok(());
        }
        let age = now_millis().saturating_sub(record.received);
        if age > i64::try_from(MAX_AGE.as_millis()).unwrap_or(i64::MAX) {
            return Err(Failed::Permanent("nobody could answer it for a day".to_owned()));
        }
        self.is_time(&record)?;
        let request_id = request_id(record.query.as_deref()).unwrap_or_default();
        let Some(in_flight) = self.begin(key, &request_id, 0) else {
            return finish(Outcome::Elsewhere);
        };
        let outcome = self.answer(&in_flight.flight, event_type, record.payload.text(), false).await;
        in_flight.flight.outcome.send_replace(Some(outcome.clone()));
        finish(outcome)
    }

    /// Whether this process has the connection, for long enough that the platform has repeated what it wants to.
    fn is_time(&self, record: &EventRecord) -> Result<(), Failed> {
        let Some(session) = self.sender.session() else {
            return Err(Failed::NotHere("another node has the connection, or there is none"));
        };
        let rest = REPEAT_TIME.saturating_sub(session.since.elapsed());
        if record.received < session.since_millis && !rest.is_zero() {
            let reason = "the platform may repeat it".to_owned();
            return Err(Failed::NotYet { after: rest, of_account: false, reason });
        }
        Ok(())
    }
}

/// Whether an answer to it is sent later, if it has to be.
pub(super) fn is_message(event_type: &str) -> bool {
    event_type.split('.').nth(1) == Some("message")
}

fn finish(outcome: Outcome) -> Result<(), Failed> {
    match outcome {
        Outcome::Sent | Outcome::Nothing => Ok(()),
        Outcome::Elsewhere => {
            let reason = "it is being answered".to_owned();
            Err(Failed::NotYet { after: POLL_INTERVAL, of_account: false, reason })
        }
        Outcome::NotSent(reason) => Err(Failed::NotYet { after: POLL_INTERVAL, of_account: false, reason }),
        Outcome::Refused(why) | Outcome::Unknown { why, may_be_sent_again: true } => Err(Failed::Retry(why)),
        Outcome::Unknown { why, may_be_sent_again: false } => {
            Err(Failed::Permanent(format!("{why}: the user may have it, so it is not sent again")))
        }
    }
}

/// What the observer does.
pub(super) fn run(answers: HashMap<Arc<str>, Arc<Answers>>) -> Run {
    let answers = Arc::new(answers);
    Arc::new(move |leased: Leased, _, permit| {
        let answers = answers.get(&leased.record.account).cloned();
        Box::pin(async move {
            match answers {
                Some(answers) => answers.take_up(leased, permit).await,
                None => Err(Failed::Permanent("its account receives over no WebSocket any more".to_owned())),
            }
        })
    })
}

/// Name of the lease that keeps how far an answer is.
pub(super) fn lease_name(account: &str, event: Uuid) -> String {
    format!("answer/{account}/{}", event.simple())
}

impl Sender {
    /// The connection, if this process has it.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.link.borrow().session().cloned()
    }
}
