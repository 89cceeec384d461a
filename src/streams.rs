//! Answers of AI bots that come in pieces: the platform asks for what there is by now, again and again, until the end.
//!
//! What there is lives in a slot of the journal beside the message itself, so that any node can tell it, and go on: when
//! the process that takes the pieces is gone, the node that is asked next has the slot to itself, and asks the handler
//! again. The text that users have seen never gets shorter by that.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::time;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use crate::{
    api::Apis,
    clock::Clock,
    event::{Answer, AnswerStream, Platform},
    hooks::{Context, ContextInner, Hooks, Payload, RawEvent},
    journal::{Held, Journal, JournalError, Millis, WriteSlot, now_millis},
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

/// Streams in work on this node, and how to go on with others.
pub(crate) struct Streams {
    hooks: Arc<Hooks>,
    apis: Apis,
    journal: Arc<dyn Journal>,
    clock: Clock,
    tasks: TaskTracker,
    live: Mutex<HashMap<Uuid, Arc<Mutex<Kept>>>>,
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

/// Pieces that are on their way.
struct Pump {
    account: Arc<str>,
    id: Uuid,
    held: Held,
    pieces: AnswerStream,
    /// What a run before this one had: shown until there is more.
    shown: String,
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

    /// Begins to take the pieces of an answer; gives the first answer, which has those that are there already.
    pub(crate) async fn begin(self: &Arc<Self>, context: &Context, mut pieces: AnswerStream) -> Result<Body, String> {
        let raw = context.raw();
        let id = context.event_id();
        let mut kept = Kept {
            content: String::new(),
            finished: false,
            began: now_millis(),
            runs: 1,
            payload: raw.payload.text().to_owned(),
        };
        while let Some(next) = pieces.next().now_or_never() {
            match next {
                Some(Ok(piece)) if !add(&mut kept.content, &piece) => {}
                Some(Ok(_)) | None => kept.finished = true,
                Some(Err(failure)) => {
                    kept.finished = true;
                    warn!(account = &*raw.account, event = %id, "{}: an answer breaks off: {failure}", raw.account);
                }
            }
            if kept.finished {
                return Ok(told(&id.simple().to_string(), &kept.content, true));
            }
        }
        let name = slot(&raw.account, id);
        let held = self.journal.hold_slot(&name, TERM).await.map_err(|failure| failure.to_string())?;
        let held = held.ok_or_else(|| "another node answers it".to_owned())?;
        self.write(&held, &kept).await.map_err(|failure| failure.to_string())?;
        let body = told(&id.simple().to_string(), &kept.content, false);
        let account = Arc::clone(&raw.account);
        self.start(Pump { account, id, held, pieces, shown: String::new() }, kept);
        Ok(body)
    }

    /// What there is by now.
    pub(crate) async fn poll(self: &Arc<Self>, account: &Arc<str>, payload: &Value<'_>) -> Result<Body, JournalError> {
        let stream = payload.as_object().and_then(|object| object.get("stream")).and_then(Value::as_object);
        let id = stream.and_then(|stream| stream.text("id")).unwrap_or_default();
        let Ok(event) = Uuid::try_parse(id) else { return Ok(told(id, "", true)) };
        let live = lock(&self.live).get(&event).cloned();
        if let Some(live) = live {
            let kept = lock(&live);
            return Ok(told(id, &kept.content, kept.finished));
        }
        let name = slot(account, event);
        let kept = self.journal.read_slot(&name).await?;
        let Some(kept) = kept.and_then(|kept| serde_json::from_str::<Kept>(&kept).ok()) else {
            return Ok(told(id, "", true));
        };
        let body = told(id, &kept.content, kept.finished);
        // Whoever takes the pieces has the slot. If nobody does, the process is gone.
        if !kept.finished
            && let Some(held) = self.journal.hold_slot(&name, TERM).await?
        {
            self.go_on(Arc::clone(account), event, held).await?;
        }
        Ok(body)
    }

    /// Asks the handler again for an answer whose process is gone.
    async fn go_on(self: &Arc<Self>, account: Arc<str>, id: Uuid, held: Held) -> Result<(), JournalError> {
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
            let asked = AssertUnwindSafe(this.ask(&account, id, &kept)).catch_unwind().await;
            match asked.unwrap_or_default() {
                Some(pieces) => {
                    let shown = std::mem::take(&mut kept.content);
                    this.start(Pump { account, id, held, pieces, shown }, kept);
                }
                None => {
                    kept.finished = true;
                    this.settle(&held, &kept).await;
                }
            }
        });
        Ok(())
    }

    /// The pieces of another run.
    async fn ask(&self, account: &Arc<str>, id: Uuid, kept: &Kept) -> Option<AnswerStream> {
        let responding = {
            let tree = payload::parse(Form::Json, &kept.payload).ok()?;
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
            self.hooks.responder(account, event_type, spec)?.start(&tree, Form::Json, context).ok()?
        };
        match responding.await {
            Ok(Answer::Stream(pieces)) => Some(pieces),
            _ => None,
        }
    }

    fn start(self: &Arc<Self>, pump: Pump, kept: Kept) {
        let live = Arc::new(Mutex::new(Kept { content: pump.shown.clone() + &kept.content, ..kept.clone() }));
        lock(&self.live).insert(pump.id, Arc::clone(&live));
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            let id = pump.id;
            let pumped = AssertUnwindSafe(this.pump(pump, kept, &live)).catch_unwind().await;
            if pumped.is_err() {
                warn!(event = %id, "an answer breaks off: the handler panicked");
            }
            lock(&this.live).remove(&id);
        });
    }

    /// Takes pieces until the end, and writes what there is now and then.
    async fn pump(&self, pump: Pump, mut kept: Kept, live: &Mutex<Kept>) {
        let Pump { account, id, held, mut pieces, shown } = pump;
        let ends = Instant::now() + ASKED;
        let (mut written, mut changed) = (Instant::now(), false);
        while !kept.finished {
            let rest = if changed { OFTEN } else { SELDOM }.saturating_sub(written.elapsed());
            match time::timeout(rest, pieces.next()).await {
                Ok(Some(Ok(piece))) => {
                    kept.finished = add(&mut kept.content, &piece);
                    changed = true;
                }
                Ok(Some(Err(failure))) => {
                    warn!(account = &*account, event = %id, "{account}: an answer breaks off: {failure}");
                    kept.finished = true;
                }
                Ok(None) => kept.finished = true,
                Err(_elapsed) => {}
            }
            kept.finished |= Instant::now() > ends;
            let so_far = Kept {
                content: if kept.content.len() < shown.len() { shown.clone() } else { kept.content.clone() },
                ..kept.clone()
            };
            if so_far.finished {
                // It is in the journal before somebody is told that it is the end.
                self.settle(&held, &so_far).await;
            } else if written.elapsed() >= OFTEN && (changed || written.elapsed() >= SELDOM) {
                if self.write(&held, &so_far).await == Err(JournalError::Lost) {
                    return;
                }
                (written, changed) = (Instant::now(), false);
            }
            *lock(live) = so_far;
        }
    }

    /// Writes the end; what cannot be written is told as long as this process lives.
    async fn settle(&self, held: &Held, kept: &Kept) {
        if let Err(failure) = self.write(held, kept).await {
            warn!("the end of an answer is not kept: {failure}");
        }
    }

    async fn write(&self, held: &Held, kept: &Kept) -> Result<(), JournalError> {
        let value = serde_json::to_string(kept).map_err(JournalError::storage)?;
        let keep = (!kept.finished).then_some(TERM);
        let write = WriteSlot { value: Some(value), keep, expires: Some(KEPT), events: Vec::new() };
        self.journal.write_slot(held, write).await.map(drop)
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
