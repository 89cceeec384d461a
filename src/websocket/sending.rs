//! Sends one answer over the connection, and keeps in a named lease how far it is.
//!
//! The lease has one holder at a time, so that an answer is not sent by two. It outlives the process: what is marked as
//! sent is not sent again, and what has begun and has no acknowledgement is sent again only where that shows once: a stream
//! has an id, by which the platform knows it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    answers::{Flight, REPEAT_TIME, is_message, lease_name},
    frame,
    session::{Link, RequestError, Session},
};
use crate::{
    delivery::Receiver,
    event::Event as _,
    events::wecom_bot::{EnterChat, TemplateCardAction},
    in_flight::Permit,
    journal::{Journal, JournalError, LeaseWrite, NamedLease},
    streams::Seen,
};

/// How long the lease of an answer lasts; longer than between two writes.
const LEASE_DURATION: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the lease is waited for while another has it, and how often it is tried.
const LEASE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How long it is known that an answer was sent: as long as the platform takes one.
const RETENTION: Duration = Duration::from_secs(86_400);

/// How often the text of a stream is sent, at most.
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// How often an answer is sent whose acknowledgement does not come, or that is refused.
const MAX_ATTEMPTS: u32 = 3;
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How long a connection that ended is waited for to be made again.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// What the platform refuses that no longer takes an answer by this id.
const BAD_REQUEST_ID: i64 = 846_605;
const STREAM_EXPIRED: i64 = 846_608;

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Some of a stream was sent, not its end.
    Begun,
    /// It was sent as the answer to the message; it is not known whether it arrived.
    Answering,
    /// It was sent as a message of its own; it is not known whether it arrived.
    Pushing,
    /// The platform has it.
    Sent,
}

impl Progress {
    const ALL: [Self; 4] = [Self::Begun, Self::Answering, Self::Pushing, Self::Sent];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Answering => "answering",
            Self::Pushing => "pushing",
            Self::Sent => "sent",
        }
    }

    fn of(value: Option<&str>) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| Some(progress.as_str()) == value)
    }
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The platform has it, from now or from before.
    Sent,
    /// There is nothing to send.
    Nothing,
    /// Another task or node sends it.
    Elsewhere,
    /// It was not sent.
    NotSent(String),
    /// The platform refused it.
    Refused(String),
    /// The platform may have it.
    Unknown {
        why: String,
        /// Whether it shows once all the same.
        may_be_sent_again: bool,
    },
}

/// An answer that is to be sent.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) event: Uuid,
    pub(super) event_type: &'static str,
    /// As in the response of URL mode.
    pub(super) document: &'a str,
    /// What is answered.
    pub(super) message: &'a str,
    /// Whether the platform has just pushed the message, and so has no answer.
    pub(super) is_pushed: bool,
}

impl Answer<'_> {
    fn command(&self) -> &'static str {
        match self.event_type {
            kind if kind == EnterChat::SPEC.id => frame::WELCOME,
            kind if kind == TemplateCardAction::SPEC.id => frame::UPDATE,
            _ => frame::RESPOND,
        }
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    stream: Option<StreamBody>,
}

#[derive(Deserialize)]
struct StreamBody {
    id: String,
    #[serde(default)]
    finish: bool,
    #[serde(default)]
    content: String,
}

impl StreamBody {
    fn of(document: &str) -> Option<Self> {
        serde_json::from_str::<Document>(document).ok()?.stream
    }

    fn frame(id: &str, seen: &Seen) -> Json {
        json!({ "msgtype": "stream", "stream": { "id": id, "finish": seen.finished, "content": seen.content } })
    }
}

/// Sends answers over whichever connection there is.
pub(super) struct Sender {
    pub(super) link: watch::Receiver<Link>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) receiver: Arc<Receiver>,
    /// The server shuts down: no connection is made any more.
    pub(super) stopping: CancellationToken,
}

/// An answer, and the lease of how far it is.
struct Sending<'s> {
    sender: &'s Sender,
    flight: &'s Flight,
    answer: &'s Answer<'s>,
    held: NamedLease,
    progress: Option<Progress>,
    /// The platform may have the answer already: a refusal does not mean that it has not.
    may_be_done: bool,
    kept: Instant,
    is_released: bool,
}

impl Sender {
    /// Whether it is known that the answer was sent.
    pub(super) async fn is_sent(&self, account: &str, event: Uuid) -> bool {
        let value = self.journal.read_lease(&lease_name(account, event)).await;
        value.is_ok_and(|value| Progress::of(value.as_deref()) == Some(Progress::Sent))
    }

    /// Sends an answer, unless it was sent before.
    pub(super) async fn send(
        &self,
        account: &Arc<str>,
        flight: &Flight,
        answer: &Answer<'_>,
        permit: &Arc<Permit>,
    ) -> Outcome {
        let held = match self.lease(&lease_name(account, answer.event)).await {
            Ok(Some(held)) => held,
            Ok(None) => return Outcome::Elsewhere,
            Err(failure) => return Outcome::NotSent(failure.to_string()),
        };
        let progress = Progress::of(held.value.as_deref());
        let may_be_done = progress == Some(Progress::Answering);
        let kept = Instant::now();
        let mut sending =
            Sending { sender: self, flight, answer, held, progress, may_be_done, kept, is_released: false };
        let outcome = match progress {
            Some(Progress::Sent) => Outcome::Sent,
            // A message of its own does not answer what is repeated, so a repeat does not mean that it was lost.
            Some(Progress::Pushing) => sending.unknown("the process that sent it ended, or its connection"),
            _ => match StreamBody::of(answer.document) {
                Some(stream) => sending.stream(account, stream, permit).await,
                None if progress == Some(Progress::Answering) && !answer.is_pushed => {
                    sending.unknown("the process that sent it ended, or its connection")
                }
                None => match serde_json::from_str(answer.document) {
                    Ok(body) => sending.finish(&body, false).await,
                    Err(failure) => Outcome::Refused(failure.to_string()),
                },
            },
        };
        sending.release().await;
        outcome
    }

    /// The lease of an answer, once nobody else has it: one whose node has ended is free after a while.
    async fn lease(&self, name: &str) -> Result<Option<NamedLease>, JournalError> {
        let until = Instant::now() + LEASE_TIMEOUT;
        loop {
            let held = self.journal.acquire_lease(name, LEASE_DURATION).await?;
            if held.is_some() || Instant::now() >= until {
                return Ok(held);
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The connection, once there is one: one that ended is made again, unless another node has it now.
    async fn connected(&self) -> Option<Arc<Session>> {
        let mut link = self.link.clone();
        let settled = async { link.wait_for(|link| !matches!(link, Link::Coming)).await.ok()?.session().cloned() };
        tokio::select! {
            biased;
            session = time::timeout(SESSION_TIMEOUT, settled) => session.ok().flatten(),
            () = self.stopping.cancelled() => None,
        }
    }
}

impl Sending<'_> {
    fn unknown(&self, why: &str) -> Outcome {
        Outcome::Unknown { why: why.to_owned(), may_be_sent_again: false }
    }

    /// Sends a stream as it comes, up to its end.
    async fn stream(&mut self, account: &Arc<str>, first: StreamBody, permit: &Arc<Permit>) -> Outcome {
        let StreamBody { id, finish, content } = first;
        let mut seen = Seen { content, finished: finish };
        let mut shown: Option<String> = None;
        // The platform takes no more of it by this id; the whole is sent as a message of its own.
        let mut is_closed = false;
        while !seen.finished {
            let began = Instant::now();
            if !is_closed && shown.as_ref() != Some(&seen.content) {
                if self.progress.is_none()
                    && let Err(failure) = self.mark(Progress::Begun).await
                {
                    return Outcome::NotSent(failure.to_string());
                }
                let Some(session) = self.sender.connected().await else { return not_connected() };
                let body = StreamBody::frame(&id, &seen);
                // What does not arrive of it comes with the next text, which is the whole one.
                let sent = session.request(frame::RESPOND, &self.flight.request_id(), Some(&body)).await;
                is_closed = sent.is_err_and(|failure| is_closed_by(&failure));
                shown = Some(std::mem::take(&mut seen.content));
            }
            if self.kept.elapsed() >= KEEPALIVE_INTERVAL
                && let Err(failure) = self.keep().await
            {
                return Outcome::NotSent(failure.to_string());
            }
            time::sleep(FLUSH_INTERVAL.saturating_sub(began.elapsed())).await;
            seen = match self.sender.receiver.stream_so_far(account, self.answer.event, permit).await {
                Ok(Some(seen)) => seen,
                Ok(None) => Seen { content: shown.take().unwrap_or_default(), finished: true },
                Err(failure) => return Outcome::NotSent(failure.to_string()),
            };
        }
        self.finish(&StreamBody::frame(&id, &seen), true).await
    }

    /// Sends what ends the answer: as the answer, and as a message of its own where that is no longer taken.
    async fn finish(&mut self, body: &Json, is_stream: bool) -> Outcome {
        let outcome = self.try_finish(body, is_stream).await;
        let is_undone = matches!(outcome, Outcome::NotSent(_) | Outcome::Refused(_));
        if is_undone && !self.may_be_done && self.progress == Some(Progress::Answering) {
            // Nothing was done: it may be sent again.
            let _ = self.mark(Progress::Begun).await;
        }
        outcome
    }

    async fn try_finish(&mut self, body: &Json, is_stream: bool) -> Outcome {
        let mut refused = None;
        for attempt in 0..MAX_ATTEMPTS {
            let Some(session) = self.sender.connected().await else { return not_connected() };
            if self.progress != Some(Progress::Answering)
                && let Err(failure) = self.mark(Progress::Answering).await
            {
                return Outcome::NotSent(failure.to_string());
            }
            let request_id = self.flight.request_id();
            match session.request(self.answer.command(), &request_id, Some(body)).await {
                Ok(_) => return self.sent().await,
                Err(failure) if is_closed_by(&failure) => {
                    // The platform may be about to repeat the message, by another id.
                    time::sleep(REPEAT_TIME.saturating_sub(session.since.elapsed())).await;
                    refused = Some(failure);
                    if self.flight.request_id() == request_id {
                        break;
                    }
                }
                Err(failure @ RequestError::Refused { .. }) => {
                    refused = Some(failure);
                    if attempt + 1 < MAX_ATTEMPTS {
                        time::sleep(REFUSED_PAUSE).await;
                    }
                }
                Err(RequestError::NotConnected) => session.ended().await,
                Err(failure) => {
                    self.may_be_done = true;
                    if !is_stream {
                        return self.unknown(&failure.to_string());
                    }
                    refused = Some(failure);
                }
            }
        }
        let Some(failure) = refused else { return not_connected() };
        match failure {
            RequestError::Refused { .. } if self.may_be_done => self.unknown(&failure.to_string()),
            RequestError::Refused { .. } if is_message(self.answer.event_type) => self.push(body, &failure).await,
            RequestError::Refused { .. } => Outcome::Refused(failure.to_string()),
            failure => Outcome::Unknown { why: failure.to_string(), may_be_sent_again: true },
        }
    }

    /// Sends the answer as a message of its own to the chat.
    async fn push(&mut self, body: &Json, refused: &RequestError) -> Outcome {
        let Some(message) = message_to(self.answer.message, body) else { return Outcome::Refused(refused.to_string()) };
        let Some(session) = self.sender.connected().await else { return not_connected() };
        if let Err(failure) = self.mark(Progress::Pushing).await {
            return Outcome::NotSent(failure.to_string());
        }
        match session.request(frame::SEND, &session.next_id(frame::SEND), Some(&message)).await {
            Ok(_) => self.sent().await,
            Err(failure @ (RequestError::Refused { .. } | RequestError::NotConnected | RequestError::NotJson)) => {
                // Nothing was done: it may be tried again.
                let _ = self.mark(Progress::Begun).await;
                Outcome::Refused(failure.to_string())
            }
            Err(failure) => Outcome::Unknown { why: failure.to_string(), may_be_sent_again: false },
        }
    }

    async fn sent(&mut self) -> Outcome {
        // The platform has it in any case. If this cannot be stored, a repeat would be answered once more.
        if self.write(Some(Progress::Sent), None).await.is_ok() {
            self.is_released = true;
        }
        Outcome::Sent
    }

    async fn mark(&mut self, progress: Progress) -> Result<(), JournalError> {
        self.write(Some(progress), Some(LEASE_DURATION)).await?;
        self.progress = Some(progress);
        Ok(())
    }

    async fn keep(&mut self) -> Result<(), JournalError> {
        self.write(None, Some(LEASE_DURATION)).await
    }

    async fn release(&mut self) {
        if !self.is_released {
            // One that cannot be released expires.
            let _ = self.write(None, None).await;
        }
    }

    async fn write(&mut self, progress: Option<Progress>, keep: Option<Duration>) -> Result<(), JournalError> {
        let value = progress.map(|progress| progress.as_str().to_owned());
        let write = LeaseWrite { value, keep, expires: Some(RETENTION), events: Vec::new() };
        self.kept = Instant::now();
        self.sender.journal.write_lease(&self.held, write).await.map(drop)
    }
}

fn not_connected() -> Outcome {
    Outcome::NotSent(RequestError::NotConnected.to_string())
}

/// Whether the platform takes nothing more by this id.
fn is_closed_by(failure: &RequestError) -> bool {
    matches!(failure, RequestError::Refused { code: BAD_REQUEST_ID | STREAM_EXPIRED, .. })
}

/// An answer as a message of its own to the chat of the message.
fn message_to(message: &str, answer: &Json) -> Option<Json> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        chatid: Option<String>,
        from: From,
    }
    #[derive(Deserialize)]
    struct From {
        userid: String,
    }
    let Message { chatid, from } = serde_json::from_str(message).ok()?;
    let (chat, chat_type) = match chatid.filter(|chat| !chat.is_empty()) {
        Some(chat) => (chat, 2),
        None => (from.userid, 1),
    };
    let (kind, content) = match &answer["stream"]["content"] {
        Json::String(content) if content.is_empty() => return None,
        Json::String(content) => ("markdown", json!({ "content": content })),
        _ => ("template_card", answer.get("template_card")?.clone()),
    };
    Some(json!({ "chatid": chat, "chat_type": chat_type, "msgtype": kind, kind: content }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Progress, message_to};

    #[test]
    fn an_answer_becomes_a_message_to_the_chat_it_belongs_to() {
        let single = r#"{"chattype":"single","from":{"userid":"zhangsan"}}"#;
        let group = r#"{"chatid":"wr1","chattype":"group","from":{"userid":"zhangsan"}}"#;
        let stream = json!({"msgtype": "stream", "stream": {"id": "s", "finish": true, "content": "**42**"}});
        let card = json!({"msgtype": "template_card", "template_card": {"card_type": "text_notice"}});
        let markdown =
            json!({"chatid": "zhangsan", "chat_type": 1, "msgtype": "markdown", "markdown": {"content": "**42**"}});
        assert_eq!(message_to(single, &stream), Some(markdown));
        let message = json!({"chatid": "wr1", "chat_type": 2, "msgtype": "template_card",
            "template_card": {"card_type": "text_notice"}});
        assert_eq!(message_to(group, &card), Some(message));
        let nothing = json!({"msgtype": "stream", "stream": {"id": "s", "finish": true, "content": ""}});
        assert_eq!(message_to(group, &nothing), None, "there is nothing to say");
        assert_eq!(message_to("{}", &card), None, "nobody to say it to");
    }

    #[test]
    fn how_far_an_answer_is_survives_the_journal() {
        for progress in Progress::ALL {
            assert_eq!(Progress::of(Some(progress.as_str())), Some(progress));
        }
        assert_eq!((Progress::of(None), Progress::of(Some("another version"))), (None, None));
    }
}
