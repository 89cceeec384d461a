//! Callbacks without a server: what an application that has one of its own begins with.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use crate::{
    crypto::{EncodingKey, KeyError},
    envelope::{Keys, Mode, Query, ReceiveIds, Refusal, Seal, SealError, Verified},
    event::{Answer, AnswerStream, Event, EventSpec, Platform, Reply, ReplyError},
    payload::{self, Form, Object, PayloadError, Value},
    platform::{self, Address, Body, Control, DedupeKey, Identity},
    replies::wecom_bot::MAX_CONTENT_BYTES,
    secret::Secret,
    wire::Reading,
};

/// How old a request may be, where the platform does not say it.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What a request is. There is nothing else that a platform sends.
#[derive(Clone, Debug)]
pub enum Received {
    /// The console checks the URL: this is the answer.
    UrlCheck(Response),
    /// A message, an event, or a [ticket](Push::ticket).
    Push(Push),
}

/// Why a request is not read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// It is not authentic, or not for this account: answer 403 (400 if [it cannot be decrypted](Refusal)), and nothing more.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is authentic and cannot be read as XML or JSON: answer the platform's success, or it comes again.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// Why a reply cannot be given.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyFailure {
    /// It breaks a rule of the platform.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It comes in chunks that are not all there: the platform then asks for the rest, which needs somebody who keeps it.
    #[error("a streamed answer whose chunks are not all there needs the echostr server")]
    Streamed,
    /// The system has no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// The body of a response, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The body.
    pub body: String,
    /// Its `Content-Type`.
    pub content_type: &'static str,
}

/// A request that was opened: a message or an event as the platform pushed it.
#[derive(Clone)]
pub struct Push {
    platform: Platform,
    payload: Arc<str>,
    form: Form,
    seal: Option<Seal>,
    /// Of the request: of some platforms it has data of the event.
    query: Box<str>,
    spec: Option<&'static EventSpec>,
    event_type: &'static str,
}

/// What keeps two sealed answers of one reply apart.
#[derive(Clone, Debug)]
pub struct Unique {
    /// Unix seconds.
    pub now: i64,
    /// Up to 40 digits and letters, new for each answer.
    pub nonce: String,
    /// New for each answer.
    pub random: [u8; 16],
}

impl Keys {
    /// Keys of an account whose requests are signed with this token, and not encrypted, for whomever they are. Most accounts need
    /// [`with_aes_key`](Self::with_aes_key) and [`for_id`](Self::for_id), too.
    pub fn new(platform: Platform, token: impl Into<String>) -> Self {
        let token = token.into();
        Self {
            platform,
            tokens: Some(token).filter(|token| !token.is_empty()).map(Secret::new).into_iter().collect(),
            aes_keys: Vec::new(),
            receive_ids: ReceiveIds::Any,
            mode: Mode::Plain,
            max_age: Some(platform.protocol().account().max_age.unwrap_or(MAX_AGE)),
            sdk_app_id: None,
        }
    }

    /// Requests are encrypted with this key (EncodingAESKey). A second one is the previous key, as long as the platform may use
    /// it.
    ///
    /// # Errors
    /// [`KeyError`] when it is none.
    pub fn with_aes_key(mut self, key: &str) -> Result<Self, KeyError> {
        self.aes_keys.push(EncodingKey::parse(key)?);
        self.mode = Mode::Safe;
        Ok(self)
    }

    /// Clear text is taken, too: the mode of the console that has both.
    #[must_use]
    pub const fn with_clear_text(mut self) -> Self {
        self.mode = Mode::Compat;
        self
    }

    /// Requests may be for this AppID, CorpID or SuiteID; called twice, for either. A bot of the own company has an empty one.
    #[must_use]
    pub fn for_id(mut self, id: &str) -> Self {
        match &mut self.receive_ids {
            ReceiveIds::OneOf(ids) => ids.push(id.to_owned()),
            ReceiveIds::Any => self.receive_ids = ReceiveIds::OneOf(vec![id.to_owned()]),
        }
        self
    }

    /// The previous token is taken, too, as long as the platform may use it.
    #[must_use]
    pub fn with_previous_token(mut self, token: &str) -> Self {
        self.tokens.push(Secret::new(token));
        self
    }

    /// The IM application.
    #[must_use]
    pub const fn with_sdk_app_id(mut self, id: u64) -> Self {
        self.sdk_app_id = Some(id);
        self
    }

    /// Opens a request, GET or POST, and reads what it is. `query` is what stands behind the `?` of its address.
    ///
    /// # Errors
    /// [`ReceiveError`] with the first check that fails.
    #[cfg(feature = "system")]
    pub fn receive(&self, query: &str, body: &[u8]) -> Result<Received, ReceiveError> {
        self.receive_at(query, body, system::now())
    }

    /// The same at this time, in Unix seconds.
    ///
    /// # Errors
    /// As `receive`.
    pub fn receive_at(&self, query: &str, body: &[u8], now: i64) -> Result<Received, ReceiveError> {
        let parsed = Query::parse(query)?;
        if body.is_empty() && self.has_url_check() && parsed.get("echostr").is_some() {
            let body = self.verify_url(&parsed, now)?;
            return Ok(Received::UrlCheck(Response { body, content_type: TEXT }));
        }
        let verified = self.open(&parsed, body, now)?;
        Push::of(self.platform, verified, &parsed, query).map(Received::Push)
    }

    /// The response with a reply to a push: in the syntax of the push, and sealed if that was.
    ///
    /// # Errors
    /// [`ReplyFailure`]; answer [`Push::success`] then.
    #[cfg(feature = "system")]
    pub fn reply(&self, push: &Push, reply: impl Reply) -> Result<Response, ReplyFailure> {
        self.reply_with(push, reply, system::unique()?)
    }

    /// The same with this time, nonce and random bytes.
    ///
    /// # Errors
    /// As `reply`.
    pub fn reply_with(&self, push: &Push, reply: impl Reply, unique: Unique) -> Result<Response, ReplyFailure> {
        let Unique { now, nonce, random } = unique;
        let address = push.tree().map(|tree| Address::of(&tree)).unwrap_or_default();
        let answer = match reply.into_answer()? {
            Answer::Stream(chunks) => finished(chunks, &nonce)?,
            answer => answer,
        };
        match platform::write_answer(push.platform, push.form, answer, address, now) {
            Body::Plain(_) => Ok(push.success()),
            Body::Document(document) => {
                let body = match &push.seal {
                    Some(seal) => self.answer(seal, &document, now, &nonce, random)?,
                    None => document,
                };
                Ok(Response::of(body))
            }
        }
    }
}

impl Push {
    fn of(platform: Platform, verified: Verified, parsed: &Query<'_>, query: &str) -> Result<Self, ReceiveError> {
        let (payload, form, seal) = verified.into_parts();
        let (event_type, spec) = {
            let tree = payload::parse(form, &payload)?;
            let Identity { key, spec } = platform::identify(platform, &tree, parsed.get("CallbackCommand"));
            (spec.map_or_else(|| platform::unknown_type(platform, &key), |spec| spec.id), spec)
        };
        Ok(Self { platform, payload, form, seal, query: query.into(), spec, event_type })
    }

    /// What it is: `mp.message.text`, or `mp.event.unknown` and the like for what the catalogue does not know.
    pub const fn event_type(&self) -> &'static str {
        self.event_type
    }

    /// Its row of the catalogue.
    pub const fn spec(&self) -> Option<&'static EventSpec> {
        self.spec
    }

    /// The push as this type, if it is that: also a follow through a QR code as a follow. Of a push with a list of events the
    /// first; [`events`](Self::events) has all.
    pub fn event<E: Event>(&self) -> Option<E> {
        self.events().into_iter().next()
    }

    /// The events of a push as this type: one, but for the few that carry a list of them. One that cannot be read as that is left
    /// out.
    pub fn events<E: Event>(&self) -> Vec<E> {
        let is_one = self.spec.is_some_and(|spec| spec == E::SPEC || spec.general() == Some(E::SPEC));
        let Some(tree) = self.tree().ok().filter(|_| is_one) else { return Vec::new() };
        let events = platform::events_of(&tree, self.spec).iter();
        events.filter_map(|event| E::read(event, &mut Reading::new(self.form)).ok()).collect()
    }

    /// The ticket that a push to a third-party platform or application carries, which is no event; access tokens are
    /// requested with it. It is a secret.
    pub fn ticket(&self) -> Option<Secret> {
        let tree = self.tree().ok()?;
        match self.platform.protocol().control(tree.as_object()?)? {
            Control::Ticket(ticket) => Some(Secret::new(ticket)),
            Control::Poll => None,
        }
    }

    /// What two deliveries of one event have in common, as the platform retries a delivery; `None` where every delivery is an event of its
    /// own. Keys of different accounts differ.
    pub fn repeat_key(&self, account: &str) -> Option<DedupeKey> {
        let tree = self.tree().ok()?;
        let query = |name: &str| Query::parse(&self.query).ok()?.get(name).map(str::to_owned);
        platform::dedupe_key(self.platform, account, self.spec, &tree, &self.payload, &query)
    }

    /// Whom it is about: openid, userid, external_userid or account id.
    pub fn subject(&self) -> Option<String> {
        platform::subject(self.platform, &self.tree().ok()?).map(str::to_owned)
    }

    /// The opened payload, as the platform wrote it.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Syntax of the payload.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The payload as a tree.
    ///
    /// # Errors
    /// Never: it was parsed before.
    pub fn tree(&self) -> Result<Value<'_>, PayloadError> {
        payload::parse(self.form, &self.payload)
    }

    /// The response that says no more than "received".
    pub fn success(&self) -> Response {
        Response::of(platform::plain_success(self.platform).to_owned())
    }
}

/// A streamed answer whose chunks are all there, as one that is finished at once.
fn finished(mut chunks: AnswerStream, id: &str) -> Result<Answer, ReplyFailure> {
    let mut content = String::new();
    loop {
        match chunks.next_chunk().now_or_never() {
            Some(None) => break,
            Some(Some(Ok(chunk))) if content.len() + chunk.len() <= MAX_CONTENT_BYTES => content.push_str(&chunk),
            _ => return Err(ReplyFailure::Streamed),
        }
    }
    let mut stream = Object::with_capacity(3);
    stream.push("id", Value::Text(id.to_owned().into()));
    stream.push("finish", Value::Bool(true));
    stream.push("content", Value::Text(content.into()));
    let mut body = Object::with_capacity(2);
    body.push("msgtype", Value::Text("stream".into()));
    body.push("stream", Value::Object(stream));
    Ok(Answer::Body(body))
}

/// Without what users write.
impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("event_type", &self.event_type).field("form", &self.form).finish_non_exhaustive()
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Response {
    fn of(body: String) -> Self {
        let content_type = match body.bytes().next() {
            Some(b'<') => "application/xml; charset=utf-8",
            Some(b'{') => "application/json",
            _ => TEXT,
        };
        Self { body, content_type }
    }
}

/// What the system is asked for.
#[cfg(feature = "system")]
mod system {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::{ReplyFailure, Unique};

    pub(super) fn now() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    pub(super) fn unique() -> Result<Unique, ReplyFailure> {
        let failed = |failure: getrandom::Error| ReplyFailure::Random(failure.to_string());
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(failed)?;
        let nonce = getrandom::u64().map_err(failed)?.to_string();
        Ok(Unique { now: now(), nonce, random })
    }
}
