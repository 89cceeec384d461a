//! Answers of AI bots that come in pieces: the platform asks for what there is by now, again and again, until the end.
//!
//! What there is lives in a slot of the journal beside the message itself, so that any node can tell it, and go on: when
//! the process that takes the pieces is gone, the node that is asked next has the slot to itself, and asks the handler
//! again. The text that users have seen never gets shorter by that.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::{task, time};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    api::Apis,
    clock::Clock,
    event::{Answer, AnswerStream, Platform, StreamError},
    hooks::{Context, ContextInner, Hooks, Payload, RawEvent},
    in_flight::Permit,
    journal::{Journal, JournalError, LeaseWrite, Millis, NamedLease, now_millis},
    payload::{self, Form, Object, Value},
    platform::{self, Body},
    replies::wecom_bot::MAX_CONTENT_BYTES,
};

/// How long the platform asks, after the message.
const ASKED: Duration = Duration::from_secs(360);

/// How long the slot is held without a word; longer than between two writes.
const TERM: Duration = Duration::from_secs(30);

/// How often what there is is written, at most; and at least, to keep the slot.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(10);

/// How long what there is stays in the journal.
const KEPT: Duration = Duration::from_secs(900);

/// How often a handler is asked for one message.
const RUNS: u32 = 3;

/// Chunks without text that are taken one after the other. A stream that has nothing but these must not keep a thread busy.
const MAX_EMPTY_CHUNKS: u32 = 64;

/// The pause after so many.
const EMPTY_PAUSE: Duration = Duration::from_millis(10);

/// What the slot holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    content: String,
    finished: bool,
    /// When the message came.
    began: Millis,
    runs: u32,
    /// The message.
    payload: String,
}

/// What users are told of an answer.
#[derive(Clone, Debug, Default)]
struct Seen {
    content: String,
    finished: bool,
}

/// Streams that run on this node, and how to go on with others.
pub(crate) struct Streams {
    hooks: Arc<Hooks>,
    apis: Apis,
    journal: Arc<dyn Journal>,
    clock: Clock,
    tasks: TaskTracker,
    live: Mutex<HashMap<Uuid, Arc<Mutex<Seen>>>>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot(account: &str, id: Uuid) -> String {
    format!("stream/{account}/{}", id.simple())
}

/// The answer that tells what there is.
fn told(id: &str, content: &str, finished: bool) -> Body {
    let mut stream = Object::with_capacity(3);
    stream.push("id", Value::Text(id.to_owned().into()));
    stream.push("finish", Value::Bool(finished));
    stream.push("content", Value::Text(content.to_owned().into()));
    let mut body = Object::with_capacity(2);
    body.push("msgtype", Value::Text("stream".into()));
    body.push("stream", Value::Object(stream));
    Body::Document(payload::write_json(&body))
}

/// Adds a piece, as far as it fits; says whether it is full now.
fn add(content: &mut String, piece: &str) -> bool {
    let room = MAX_CONTENT_BYTES.saturating_sub(content.len());
    if piece.len() <= room {
        content.push_str(piece);
        return false;
    }
    let end = (0..=room).rev().find(|end| piece.is_char_boundary(*end)).unwrap_or_default();
    content.push_str(&piece[..end]);
    true
}

/// A stream that runs.
struct Pump {
    account: Arc<str>,
    event_type: &'static str,
    id: Uuid,
    held: NamedLease,
    chunks: AnswerStream,
    /// What a run before this one had: shown until there is more.
    shown: String,
    /// It takes room as long as it runs, so that the number of streams is bounded.
    _permit: Arc<Permit>,
}

/// Why a message has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Its stream failed before it had any text.
    Stream(StreamError),
    /// What there is cannot be kept.
    Journal(String),
}

fn log_aborted(account: &str, event_type: &str, event: Uuid, failure: &StreamError) {
    const KEPT: &str = "users keep what they have seen of it";
    match failure {
        StreamError::Failed(_) => {
            warn!(account, %event, kind = event_type, "{account}: streamed answer to {event_type} aborted: {failure}; {KEPT}");
        }
        StreamError::Panicked(_) => {
            error!(account, %event, kind = event_type, "{account}: streamed answer to {event_type} aborted: {failure}; {KEPT}");
        }
    }
}

impl Streams {
    pub(crate) fn new(
        hooks: Arc<Hooks>,
        apis: Apis,
        journal: Arc<dyn Journal>,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { hooks, apis, journal, clock, tasks, live: Mutex::default() })
    }

    /// Where the answers that go on are counted, so that a shutdown waits for them.
    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Begins to take the chunks of an answer; gives the first answer, which has those that are there already.
    ///
    /// # Errors
    /// [`NoAnswer`] when there is nothing to be told.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        context: &Context,
        mut chunks: AnswerStream,
        permit: Arc<Permit>,
    ) -> Result<Body, NoAnswer> {
        let raw = context.raw();
        let (id, event_type, account) = (context.event_id(), raw.event_type, Arc::clone(&raw.account));
        let mut kept = Kept {
            content: String::new(),
            finished: false,
            began: now_millis(),
            runs: 1,
            payload: raw.payload.text().to_owned(),
        };
        let mut empty = 0;
        while empty < MAX_EMPTY_CHUNKS
            && let Some(next) = chunks.next_chunk().now_or_never()
        {
            match next {
                Some(Ok(chunk)) => {
                    empty += u32::from(chunk.is_empty());
                    kept.finished = add(&mut kept.content, &chunk);
                }
                None => kept.finished = true,
                Some(Err(failure)) if kept.content.is_empty() => return Err(NoAnswer::Stream(failure)),
                Some(Err(failure)) => {
                    log_aborted(&account, event_type, id, &failure);
                    kept.finished = true;
                }
            }
            if kept.finished {
                return Ok(told(&id.simple().to_string(), &kept.content, true));
            }
        }
        let journal = |failure: JournalError| NoAnswer::Journal(failure.to_string());
        let held = self.journal.acquire_lease(&slot(&account, id), TERM).await.map_err(journal)?;
        let held = held.ok_or_else(|| NoAnswer::Journal("another node answers it".to_owned()))?;
        self.write(&held, &kept).await.map_err(journal)?;
        let body = told(&id.simple().to_string(), &kept.content, false);
        self.start(Pump { account, event_type, id, held, chunks, shown: String::new(), _permit: permit }, kept);
        Ok(body)
    }

    /// What there is by now.
    ///
    /// # Errors
    /// When the journal cannot say.
    pub(crate) async fn poll(
        self: &Arc<Self>,
        account: &Arc<str>,
        payload: &Value<'_>,
        permit: &Arc<Permit>,
    ) -> Result<Body, JournalError> {
        let stream = payload.as_object().and_then(|object| object.get("stream")).and_then(Value::as_object);
        let id = stream.and_then(|stream| stream.text("id")).unwrap_or_default();
        let Ok(event) = Uuid::try_parse(id) else { return Ok(told(id, "", true)) };
        let live = lock(&self.live).get(&event).cloned();
        if let Some(live) = live {
            let seen = lock(&live);
            return Ok(told(id, &seen.content, seen.finished));
        }
        let name = slot(account, event);
        let kept = self.journal.read_lease(&name).await?;
        let Some(kept) = kept.and_then(|kept| serde_json::from_str::<Kept>(&kept).ok()) else {
            return Ok(told(id, "", true));
        };
        let body = told(id, &kept.content, kept.finished);
        // Whoever takes the pieces has the slot. If nobody does, the process is gone.
        if !kept.finished
            && let Some(held) = self.journal.acquire_lease(&name, TERM).await?
        {
            self.go_on(Arc::clone(account), event, held, Arc::clone(permit)).await?;
        }
        Ok(body)
    }

    /// Asks the handler again for an answer whose process is gone.
    async fn go_on(
        self: &Arc<Self>,
        account: Arc<str>,
        id: Uuid,
        held: NamedLease,
        permit: Arc<Permit>,
    ) -> Result<(), JournalError> {
        let kept = held.value.as_deref().and_then(|kept| serde_json::from_str::<Kept>(kept).ok());
        let Some(mut kept) = kept else { return Ok(()) };
        let age = now_millis().saturating_sub(kept.began);
        if kept.finished || kept.runs >= RUNS || age > Millis::try_from(ASKED.as_millis()).unwrap_or(Millis::MAX) {
            kept.finished = true;
            return self.write(&held, &kept).await;
        }
        kept.runs += 1;
        self.write(&held, &kept).await?;
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            match this.ask(&account, id, &kept).await {
                Ok((event_type, chunks)) => {
                    let shown = std::mem::take(&mut kept.content);
                    this.start(Pump { account, event_type, id, held, chunks, shown, _permit: permit }, kept);
                }
                Err(failure) => {
                    warn!(account = &*account, event = %id, "{account}: streamed answer aborted after a restart: {failure}");
                    kept.finished = true;
                    this.settle(&held, &kept).await;
                }
            }
        });
        Ok(())
    }

    /// The chunks of another run.
    async fn ask(
        &self,
        account: &Arc<str>,
        id: Uuid,
        kept: &Kept,
    ) -> Result<(&'static str, AnswerStream), Box<dyn std::error::Error + Send + Sync>> {
        let (event_type, responding) = {
            let tree = payload::parse(Form::Json, &kept.payload)?;
            let (event_type, spec) = platform::classify(Platform::WeComBot, &tree, Form::Json, None);
            let event = RawEvent {
                platform: Platform::WeComBot,
                account: Arc::clone(account),
                event_type,
                form: Form::Json,
                payload: Payload::new(kept.payload.as_str()),
                query: None,
            };
            let (clock, api) = (self.clock.clone(), self.apis.of_event(account, &tree, None));
            let deadline = Instant::now() + ASKED;
            let context = Context::new(ContextInner { event, id, deadline, clock, attempt: kept.runs, api });
            let responder = self.hooks.responder(account, event_type, spec);
            let responder = responder.ok_or_else(|| format!("nobody responds to {event_type}"))?;
            (event_type, responder.start(&tree, Form::Json, context)?)
        };
        let answer = time::timeout(ASKED, responding).await;
        match answer.map_err(|_| format!("the responder of {event_type} gave no answer in time"))? {
            Ok(Ok(Answer::Stream(chunks))) => Ok((event_type, chunks)),
            Ok(Ok(_)) => Err(format!("the responder of {event_type} gave no stream this time").into()),
            Ok(Err(failure)) => Err(failure.into()),
            Err(panicked) => Err(format!("the responder of {event_type} {panicked}").into()),
        }
    }

    fn start(self: &Arc<Self>, pump: Pump, kept: Kept) {
        let seen = Seen { content: pump.shown.clone() + &kept.content, finished: kept.finished };
        let live = Arc::new(Mutex::new(seen));
        lock(&self.live).insert(pump.id, Arc::clone(&live));
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let id = pump.id;
            this.pump(pump, kept, &live).await;
            lock(&this.live).remove(&id);
        });
    }

    /// Takes chunks until the end, and writes what there is now and then.
    async fn pump(&self, pump: Pump, mut kept: Kept, live: &Mutex<Seen>) {
        let Pump { account, event_type, id, held, mut chunks, shown, _permit } = pump;
        let ends = Instant::now() + ASKED;
        let (mut written, mut changed, mut empty) = (Instant::now(), false, 0_u32);
        while !kept.finished {
            let rest = if changed { OFTEN } else { SELDOM }.saturating_sub(written.elapsed());
            match time::timeout(rest, chunks.next_chunk()).await {
                Ok(Some(Ok(chunk))) if chunk.is_empty() => {
                    empty += 1;
                    match empty.is_multiple_of(MAX_EMPTY_CHUNKS) {
                        true => time::sleep(EMPTY_PAUSE).await,
                        false => task::yield_now().await,
                    }
                }
                Ok(Some(Ok(chunk))) => {
                    kept.finished = add(&mut kept.content, &chunk);
                    (changed, empty) = (true, 0);
                    // One that has all of it ready leaves the thread to others now and then.
                    task::coop::consume_budget().await;
                }
                Ok(Some(Err(failure))) => {
                    log_aborted(&account, event_type, id, &failure);
                    kept.finished = true;
                }
                Ok(None) => kept.finished = true,
                Err(_elapsed) => {}
            }
            kept.finished |= Instant::now() > ends;
            let content = if kept.content.len() < shown.len() { &shown } else { &kept.content };
            if kept.finished {
                // It is in the journal before somebody is told that it is the end.
                self.settle(&held, &Kept { content: content.clone(), ..kept.clone() }).await;
            } else if written.elapsed() >= OFTEN && (changed || written.elapsed() >= SELDOM) {
                let so_far = Kept { content: content.clone(), ..kept.clone() };
                if self.write(&held, &so_far).await == Err(JournalError::Lost) {
                    return;
                }
                (written, changed) = (Instant::now(), false);
            }
            let mut seen = lock(live);
            seen.content.clone_from(content);
            seen.finished = kept.finished;
        }
    }

    /// Writes the end; what cannot be written is told as long as this process lives.
    async fn settle(&self, held: &NamedLease, kept: &Kept) {
        if let Err(failure) = self.write(held, kept).await {
            warn!("the end of an answer is not kept: {failure}");
        }
    }

    async fn write(&self, held: &NamedLease, kept: &Kept) -> Result<(), JournalError> {
        let value = serde_json::to_string(kept).map_err(JournalError::storage)?;
        let keep = (!kept.finished).then_some(TERM);
        let write = LeaseWrite { value: Some(value), keep, expires: Some(KEPT), events: Vec::new() };
        self.journal.write_lease(held, write).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::add;
    use crate::replies::wecom_bot::MAX_CONTENT_BYTES;

    #[test]
    fn what_does_not_fit_is_left_out_between_characters() {
        let mut content = "x".repeat(MAX_CONTENT_BYTES - 4);
        assert!(!add(&mut content, "好"));
        assert!(add(&mut content, "好"));
        assert_eq!(content.len(), MAX_CONTENT_BYTES - 1);
        assert!(content.ends_with("x好"));
    }
}
