//! A service that answers: it is sent the event, and its response is the reply.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value as Json;
use tracing::debug;

use super::{
    chunks::{Chunks, Syntax, short},
    deferred::Deferred,
    route::Route,
};
use crate::{
    envelope::Sender,
    event::{Answer, AnswerStream, ReplyKind},
    forward::{Content, Delivered, Formatter},
    hooks::{Context, HandlerError, RawEvent},
    payload::{self, Form, Object},
    replies::json::{self, Asked},
    telemetry,
    webhook::{Client, Message, Received, TRACEPARENT},
};

/// How long the service has for the reply to be in the response, in milliseconds. There is no standard header for it.
const TIME_LEFT: HeaderName = HeaderName::from_static("echostr-time-left");

/// How long an answer that comes in chunks may take, as long as AI bots are asked for it.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(360);

/// The most text that is taken of an answer that comes in chunks, where it is given as a whole.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A service that is asked.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    pub(super) client: Client,
    pub(super) formatter: Formatter,
    /// The forward that sends to it, too, and what it has of that.
    pub(super) forward: Option<(Arc<str>, Delivered)>,
    pub(super) timeout: Duration,
    pub(super) reply_within: Duration,
    pub(super) deferred: Deferred,
}

impl Service {
    /// Asks, and gives the reply.
    pub(super) async fn answer(
        self: &Arc<Self>,
        event: &RawEvent,
        context: &Context,
        route: Route,
    ) -> Result<Answer, HandlerError> {
        // The process that asked before has ended, and the reply has come meanwhile.
        if context.attempt() > 1
            && let Some(reply) = self.deferred.kept(context.event_id()).await?
        {
            return reply_to(event, reply);
        }
        let due = route.due(context);
        let asking = self.ask(event, context, route, due);
        route.in_time(context, asking, || format!("{} gave no answer in time", self.client.shown())).await
    }

    async fn ask(
        self: &Arc<Self>,
        event: &RawEvent,
        context: &Context,
        route: Route,
        due: Instant,
    ) -> Result<Answer, HandlerError> {
        let (id, now) = (context.event_id(), context.clock().now());
        let record = super::record(event, context);
        let content = self.formatter.content(&record, id, now)?;
        let mut headers = content.headers()?;
        let Content { content_type, query, body, .. } = content;
        let left = due.saturating_duration_since(Instant::now());
        headers.insert(TIME_LEFT, HeaderValue::from(super::millis(left)));
        let id = id.to_string();
        let mut message = Message { id: &id, now, content_type, headers, query: query.as_deref(), body };
        let timeout = match route {
            Route::Chunks => STREAM_TIMEOUT,
            Route::Response | Route::Later => self.timeout,
        };
        let kind = telemetry::Kind::Ask { answer: self.name.to_string() };
        let (event_id, asked) = (context.event_id(), Instant::now());
        if let Some(parent) = telemetry::traceparent(event_id, &kind) {
            message.headers.insert(TRACEPARENT, HeaderValue::from_str(&parent)?);
        }
        let asking = self.forward.as_ref().map(|(name, delivered)| delivered.ask(name, context.event_id()));
        let response = self.client.post(message, Some(timeout)).await;
        if telemetry::traces(event_id) {
            telemetry::record(telemetry::Span {
                event: event_id,
                kind,
                account: context.account().to_owned(),
                event_type: event.event_type.to_owned(),
                started: asked,
                error: response.as_ref().err().map(ToString::to_string),
            });
        }
        let response = response?;
        if response.is_success()
            && let Some(asking) = asking
        {
            asking.done();
        }
        debug!(account = context.account(), event = %context.event_id(), answer = &*self.name, status = response.status(), "asked");
        self.read(response, event, context, route).await
    }

    /// What a response says.
    async fn read(
        &self,
        mut response: Received,
        event: &RawEvent,
        context: &Context,
        route: Route,
    ) -> Result<Answer, HandlerError> {
        match response.status() {
            204 => return Ok(Answer::Default),
            202 => return self.deferred.answer(event, context, route, self.reply_within).await,
            200 => {}
            status => {
                let (start, _) = response.start_of_body(200).await.unwrap_or_default();
                let start = short(&String::from_utf8_lossy(&start));
                let said = if start.is_empty() { String::new() } else { format!(": {start}") };
                return Err(format!("{} answered {status}{said}", self.client.shown()).into());
            }
        }
        let content_type = response.content_type().unwrap_or_default();
        if let Some(syntax) = Syntax::of(&content_type) {
            return match route {
                Route::Chunks => Ok(streamed(response, syntax)),
                Route::Response | Route::Later => reply_to(event, text_reply(whole(response, syntax).await?)),
            };
        }
        let body = response.body().await?;
        let body = String::from_utf8(body).map_err(|_| "the answer is not UTF-8")?;
        let keys = self.formatter.keys(context.account()).filter(|keys| !keys.aes_keys.is_empty());
        match keys.filter(|_| is_document(&body)) {
            Some(keys) => {
                let opened = Sender::new(keys).open_reply(&body);
                let opened =
                    opened.map_err(|wrong| format!("the answer cannot be opened as the platform would: {wrong}"))?;
                read_body("", &opened, event)
            }
            None => read_body(&content_type, &body, event),
        }
    }
}

/// Whether a body may be sealed.
fn is_document(body: &str) -> bool {
    body.trim_start().starts_with(['<', '{'])
}

/// The reply that a body is.
fn read_body(content_type: &str, body: &str, event: &RawEvent) -> Result<Answer, HandlerError> {
    let reply = written(content_type, body)?;
    // `null` that is written is a decision, too; nothing at all, or any text, is none.
    let says_nothing = reply.is_null() && body.trim() != "null";
    if (says_nothing || reply.is_string() && content_type != "application/json") && is_question(event) {
        return Err("the answer decides nothing, and the event asks for that: answer such as {\"allow\": true}".into());
    }
    reply_to(event, reply)
}

/// The reply that a body is, as JSON.
fn written(content_type: &str, body: &str) -> Result<Json, HandlerError> {
    let text = body.trim();
    // `success` is what applications answer that were written for the platform.
    if text.is_empty() || text == "success" {
        return Ok(Json::Null);
    }
    if text.starts_with("<xml") {
        let reply =
            payload::parse(Form::Xml, text).map_err(|failure| format!("the answer cannot be read: {failure}"))?;
        return Ok(serde_json::to_value(&reply)?);
    }
    if text.starts_with('{') || content_type == "application/json" {
        return serde_json::from_str(text).map_err(|failure| format!("the answer is not JSON: {failure}").into());
    }
    if content_type == "text/plain" {
        return Ok(Json::String(body.to_owned()));
    }
    let content_type = short(if content_type.is_empty() { "no content type" } else { content_type });
    Err(format!(
        "the answer is neither a JSON object nor a document of the platform ({content_type}): answer such as {{\"text\": \"hi\"}}"
    )
    .into())
}

/// The reply that a whole response of a service is, as JSON.
///
/// # Errors
/// When it is none.
pub(crate) async fn read_reply(mut response: Received) -> Result<Json, HandlerError> {
    match response.status() {
        204 => return Ok(Json::Null),
        200 => {}
        status => {
            let (start, _) = response.start_of_body(200).await.unwrap_or_default();
            return Err(format!("status {status}: {}", short(&String::from_utf8_lossy(&start))).into());
        }
    }
    let content_type = response.content_type().unwrap_or_default();
    if let Some(syntax) = Syntax::of(&content_type) {
        return whole(response, syntax).await.map(text_reply);
    }
    let body = String::from_utf8(response.body().await?).map_err(|_| "the answer is not UTF-8")?;
    written(&content_type, &body)
}

fn text_reply(text: String) -> Json {
    Json::from(serde_json::Map::from_iter([("text".to_owned(), text.into())]))
}

/// Whether the answer decides about something: then a text alone says nothing.
fn is_question(event: &RawEvent) -> bool {
    let spec = crate::event::by_id(event.event_type);
    spec.map_or_else(|| event.query("CallbackCommand").is_some(), |spec| spec.reply == ReplyKind::Verdict)
}

/// A reply written as JSON.
pub(super) fn reply_to(event: &RawEvent, reply: Json) -> Result<Answer, HandlerError> {
    with_asked(event, |asked| json::reply(asked, reply))
}

pub(super) fn with_asked<T, E: Into<HandlerError>>(
    event: &RawEvent,
    then: impl FnOnce(&Asked<'_>) -> Result<T, E>,
) -> Result<T, HandlerError> {
    static NOTHING: Object<'_> = Object::new();
    let tree = event.tree().ok();
    let payload = tree.as_ref().and_then(|tree| tree.as_object()).unwrap_or(&NOTHING);
    let asked = Asked { platform: event.platform, spec: crate::event::by_id(event.event_type), event: payload };
    then(&asked).map_err(Into::into)
}

/// An answer in chunks, as they come.
fn streamed(response: Received, syntax: Syntax) -> Answer {
    let state = (response, Chunks::new(syntax));
    let chunks = futures_util::stream::try_unfold(state, |(mut response, mut chunks)| async move {
        let next = next_chunk(&mut response, &mut chunks).await?;
        Ok::<_, HandlerError>(next.map(|text| (text, (response, chunks))))
    });
    Answer::Stream(AnswerStream::new(chunks))
}

/// All of an answer that comes in chunks.
async fn whole(mut response: Received, syntax: Syntax) -> Result<String, HandlerError> {
    let (mut chunks, mut text) = (Chunks::new(syntax), String::new());
    while let Some(chunk) = next_chunk(&mut response, &mut chunks).await? {
        if text.len() + chunk.len() > MAX_TEXT_BYTES {
            return Err("the streamed answer is longer than 1 MiB".into());
        }
        text.push_str(&chunk);
    }
    Ok(text)
}

async fn next_chunk(response: &mut Received, chunks: &mut Chunks) -> Result<Option<String>, HandlerError> {
    loop {
        if let Some(text) = chunks.next() {
            return Ok(Some(text));
        }
        if chunks.has_ended() {
            return Ok(None);
        }
        match response.chunk().await? {
            Some(bytes) => chunks.push(&bytes)?,
            None => chunks.end()?,
        }
    }
}
