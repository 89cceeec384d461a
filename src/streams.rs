//! Streamed answers of AI bots, which come in chunks: the platform polls for the text so far, until the end.
//!
//! The text so far is in a named lease of the journal beside the message itself, so that any node can answer a poll, and
//! go on: when the process that takes the chunks has ended, the node that is polled next gets the lease, and calls the
//! handler again. The text that users have seen never gets shorter by that.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::{task, time};
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    blocking::Handler,
    dispatch::{Attempt, Dispatcher, Source},
    event::{Answer, AnswerStream, Platform, StreamError},
    hooks::Context,
    in_flight::Permit,
    journal::{Journal, JournalError, LeaseWrite, Millis, NamedLease, now_millis},
    payload::{self, Form, Object, Payload, Value},
    platform::Body,
    replies::wecom_bot::MAX_CONTENT_BYTES,
    supervisor::TaskGroup,
};

/// How long the platform polls, after the message.
const POLL_PERIOD: Duration = Duration::from_secs(360);

/// How long the lease lasts; longer than between two writes.
const LEASE_DURATION: Duration = Duration::from_secs(30);

/// How often the text so far is written, at most; and at least, to keep the lease.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the text stays in the journal.
const RETENTION: Duration = Duration::from_secs(900);

/// How often a handler is called for one message.
const MAX_RUNS: u32 = 3;

/// Chunks without text that are taken one after the other. A stream that has nothing but these must not keep a thread busy.
const MAX_EMPTY_CHUNKS: u32 = 64;

/// The pause after so many.
const EMPTY_PAUSE: Duration = Duration::from_millis(10);

/// The value of the lease.
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

/// What users see of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) content: String,
    pub(crate) finished: bool,
}

/// Streams that run on this node, and how to go on with others.
pub(crate) struct Streams {
    dispatcher: Dispatcher,
    journal: Arc<dyn Journal>,
    tasks: TaskGroup,
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

fn lease_name(account: &str, id: Uuid) -> String {
    format!("stream/{account}/{}", id.simple())
}

/// The answer so far, in the platform's form.
fn snapshot(id: &str, content: &str, finished: bool) -> Body {
    let mut stream = Object::with_capacity(3);
    stream.push("id", Value::Text(id.to_owned().into()));
    stream.push("finish", Value::Bool(finished));
    stream.push("content", Value::Text(content.to_owned().into()));
    let mut body = Object::with_capacity(2);
    body.push("msgtype", Value::Text("stream".into()));
    body.push("stream", Value::Object(stream));
    Body::Document(payload::write_json(&body))
}

/// Whether a reply is the streamed answer with this id.
fn is_stream(reply: &Body, id: &str) -> bool {
    let Body::Document(reply) = reply else { return false };
    serde_json::from_str::<Json>(reply).is_ok_and(|reply| reply["stream"]["id"] == *id)
}

/// Adds a chunk, as far as it fits; returns whether it is full now.
fn add(content: &mut String, chunk: &str) -> bool {
    let room = MAX_CONTENT_BYTES.saturating_sub(content.len());
    if chunk.len() <= room {
        content.push_str(chunk);
        return false;
    }
    let end = (0..=room).rev().find(|end| chunk.is_char_boundary(*end)).unwrap_or_default();
    content.push_str(&chunk[..end]);
    true
}

/// A running stream.
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

/// A stream whose polls this node answers from memory, until it ends in whatever way.
struct Shown {
    streams: Arc<Streams>,
    id: Uuid,
}

impl Drop for Shown {
    fn drop(&mut self) {
        lock(&self.streams.live).remove(&self.id);
    }
}

/// Why a message has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Its stream failed before it had any text.
    Stream(StreamError),
    /// Its text cannot be stored.
    Journal(JournalError),
}

fn log_aborted(account: &str, event_type: &str, event: Uuid, failure: &StreamError) {
    const PARTIAL: &str = "users keep what they have seen of it";
    match failure {
        StreamError::Failed(_) => {
            warn!(account, %event, kind = event_type, "{account}: streamed answer to {event_type} aborted: {failure}; {PARTIAL}");
        }
        StreamError::Panicked(_) => {
            error!(account, %event, kind = event_type, "{account}: streamed answer to {event_type} aborted: {failure}; {PARTIAL}");
        }
    }
}

impl Streams {
    pub(crate) fn new(dispatcher: Dispatcher, journal: Arc<dyn Journal>, tasks: TaskGroup) -> Arc<Self> {
        Arc::new(Self { dispatcher, journal, tasks, live: Mutex::default() })
    }

    /// Where the answers that go on are counted, so that a shutdown waits for them.
    pub(crate) const fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    /// Starts to take the chunks of an answer; returns the first answer, which has the chunks that are ready.
    ///
    /// # Errors
    /// [`NoAnswer`] when there is nothing to show.
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
        let (blocking, handler) = (&self.dispatcher.blocking, Handler::Responder(event_type));
        let mut empty = 0;
        while empty < MAX_EMPTY_CHUNKS
            && let Some(next) = blocking.timing(&account, &handler, chunks.next_chunk()).now_or_never()
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
                return Ok(snapshot(&id.simple().to_string(), &kept.content, true));
            }
        }
        let held = self.keep(&lease_name(&account, id), &kept).await.map_err(NoAnswer::Journal)?;
        let body = snapshot(&id.simple().to_string(), &kept.content, false);
        self.start(Pump { account, event_type, id, held, chunks, shown: String::new(), _permit: permit }, kept);
        Ok(body)
    }

    /// Stores the first text. As long as that fails, the answer is not shown to anybody, and the platform has to retry: so it is
    /// tried again, for as long as the platform would poll.
    async fn keep(&self, name: &str, kept: &Kept) -> Result<NamedLease, JournalError> {
        let until = Instant::now() + POLL_PERIOD;
        loop {
            let stored = async {
                // One that is held is that of a process which has ended, and cannot be told yet from one that runs.
                let held = self.journal.acquire_lease(name, LEASE_DURATION).await?.ok_or(JournalError::Lost)?;
                self.write(&held, Some(kept)).await.map(|()| held)
            };
            match stored.await {
                Ok(held) => return Ok(held),
                Err(failure) if failure == JournalError::Closed || Instant::now() > until => return Err(failure),
                Err(_) => time::sleep(FLUSH_INTERVAL).await,
            }
        }
    }

    /// The text so far, as the answer to a poll.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn poll(
        self: &Arc<Self>,
        account: &Arc<str>,
        payload: &Value<'_>,
        permit: &Arc<Permit>,
    ) -> Result<Body, JournalError> {
        let stream = payload.as_object().and_then(|object| object.get("stream")).and_then(Value::as_object);
        let id = stream.and_then(|stream| stream.text("id")).unwrap_or_default();
        let Ok(event) = Uuid::try_parse(id) else { return Ok(snapshot(id, "", true)) };
        if let Some(Seen { content, finished }) = self.so_far(account, event, permit).await? {
            return Ok(snapshot(id, &content, finished));
        }
        // What was complete at once is only the reply of its message.
        let reply = self.journal.recorded_reply(account, event).await?;
        Ok(reply.filter(|reply| is_stream(reply, id)).unwrap_or_else(|| snapshot(id, "", true)))
    }

    /// The text so far; `None` of what is no streamed answer.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) async fn so_far(
        self: &Arc<Self>,
        account: &Arc<str>,
        event: Uuid,
        permit: &Arc<Permit>,
    ) -> Result<Option<Seen>, JournalError> {
        let live = lock(&self.live).get(&event).cloned();
        if let Some(live) = live {
            return Ok(Some(lock(&live).clone()));
        }
        let name = lease_name(account, event);
        let kept = self.journal.read_lease(&name).await?;
        let Some(kept) = kept.and_then(|kept| serde_json::from_str::<Kept>(&kept).ok()) else { return Ok(None) };
        let seen = Seen { content: kept.content, finished: kept.finished };
        // Whoever takes the chunks has the lease. If nobody has it, the process has ended.
        if !kept.finished
            && let Some(held) = self.journal.acquire_lease(&name, LEASE_DURATION).await?
        {
            self.go_on(Arc::clone(account), event, held, Arc::clone(permit)).await?;
        }
        Ok(Some(seen))
    }

    /// Calls the handler again for an answer whose process has ended.
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
        if kept.finished
            || kept.runs >= MAX_RUNS
            || age > Millis::try_from(POLL_PERIOD.as_millis()).unwrap_or(Millis::MAX)
        {
            kept.finished = true;
            return self.write(&held, Some(&kept)).await;
        }
        kept.runs += 1;
        self.write(&held, Some(&kept)).await?;
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
        let platform = Platform::of_account(account).ok_or("the platform of its account is unknown")?;
        let payload = Payload::new(kept.payload.as_str());
        let source = Source { platform, account, form: Form::Json, payload: &payload, query: None };
        let attempt = Attempt { id, number: kept.runs, deadline: Instant::now() + POLL_PERIOD };
        let call = self.dispatcher.respond_stored(source, attempt);
        call.log_unreadable();
        let event_type = call.context.raw().event_type;
        let answer = time::timeout(POLL_PERIOD, call.running?).await;
        match answer.map_err(|_| format!("the responder of {event_type} returned no answer in time"))? {
            Ok(Ok(Answer::Stream(chunks))) => Ok((event_type, chunks)),
            Ok(Ok(_)) => Err(format!("the responder of {event_type} returned no stream this time").into()),
            Ok(Err(failure)) => Err(failure.into()),
            Err(panicked) => Err(format!("the responder of {event_type} {panicked}").into()),
        }
    }

    fn start(self: &Arc<Self>, pump: Pump, kept: Kept) {
        let seen = Seen { content: pump.shown.clone() + &kept.content, finished: kept.finished };
        let live = Arc::new(Mutex::new(seen));
        lock(&self.live).insert(pump.id, Arc::clone(&live));
        let shown = Shown { streams: Arc::clone(self), id: pump.id };
        self.tasks.spawn(async move {
            shown.streams.pump(pump, kept, &live).await;
        });
    }

    /// Takes chunks until the end, and writes the text so far now and then.
    async fn pump(&self, pump: Pump, mut kept: Kept, live: &Mutex<Seen>) {
        let Pump { account, event_type, id, held, mut chunks, shown, _permit } = pump;
        let (ends, handler) = (Instant::now() + POLL_PERIOD, Handler::Responder(event_type));
        let (mut written, mut changed, mut empty) = (Instant::now(), false, 0_u32);
        while !kept.finished {
            let rest = if changed { FLUSH_INTERVAL } else { KEEPALIVE_INTERVAL }.saturating_sub(written.elapsed());
            let next = self.dispatcher.blocking.timing(&account, &handler, chunks.next_chunk());
            match time::timeout(rest, next).await {
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
                    // A stream that is always ready yields the thread to others now and then.
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
            let is_due = written.elapsed() >= FLUSH_INTERVAL && (changed || written.elapsed() >= KEEPALIVE_INTERVAL);
            if kept.finished {
                self.settle(&held, &Kept { content: content.clone(), ..kept.clone() }).await;
            } else if is_due {
                let so_far = changed.then(|| Kept { content: content.clone(), ..kept.clone() });
                let wrote = self.write(&held, so_far.as_ref()).await;
                written = Instant::now();
                match wrote {
                    Ok(()) => changed = false,
                    Err(JournalError::Lost) => return,
                    // It is tried again after the next interval, with what there is then.
                    Err(_) => continue,
                }
            } else {
                continue;
            }
            // Nobody sees what is not in the journal: after the end of this process it would be missing.
            let mut seen = lock(live);
            seen.content.clone_from(content);
            seen.finished = kept.finished;
        }
    }

    /// Writes the end; what cannot be written is shown as long as this process lives.
    async fn settle(&self, held: &NamedLease, kept: &Kept) {
        if let Err(failure) = self.write(held, Some(kept)).await {
            warn!("could not store the end of a streamed answer: {failure}");
        }
    }

    /// Writes the text so far; without, only the lease goes on.
    async fn write(&self, held: &NamedLease, kept: Option<&Kept>) -> Result<(), JournalError> {
        let value = kept.map(serde_json::to_string).transpose().map_err(JournalError::storage)?;
        let keep = kept.is_none_or(|kept| !kept.finished).then_some(LEASE_DURATION);
        let write = LeaseWrite { value, keep, expires: Some(RETENTION), events: Vec::new() };
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
