//! The response: the reply if it is there in time, else the default answer, sealed when the delivery was.

use std::{borrow::Cow, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time;
use tracing::{debug, error, warn};

use super::{
    Content, Delivery, Endpoint, PushedEvent, Receiver, Response,
    admit::Admitted,
    next_message::{answer_late, sender_of},
};
use crate::{
    config::{self, LateReply, Verdict},
    envelope::{Query, Seal},
    event::{EventSpec, Platform, ReplyKind},
    hooks::RawEvent,
    journal::{GiveUp, JournalError},
    log::seconds,
    metrics::Outcome,
    payload::{Object, Value},
    platform::{self, Body},
    replies,
    throttle::LineKind,
};

/// How much of the deadline the journal may take before the responder begins. When it takes more, the responder is not
/// late: the platform has to retry.
const ADMISSION_TIME: Duration = Duration::from_secs(1);

/// Why a delivery has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// Its event is not durable, or it is not known whether it is.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The reply is not ready, and the platform retries.
    #[error("the reply is not ready; the platform retries")]
    Held,
    /// A handler blocked its thread for so long that nothing could be stored in time.
    #[error("{0}")]
    Blocked(Arc<str>),
}

impl Receiver {
    /// The answer to an event.
    pub(super) async fn answer(
        &self,
        delivery: &Delivery<'_>,
        event: &PushedEvent<'_>,
        admitted: &Admitted,
    ) -> Result<Body, Unanswered> {
        match self.reply_of(delivery, event, admitted).await {
            // The node that handled the event has stopped; this one takes the event over.
            Err(Unanswered::Journal(JournalError::Abandoned)) => {
                // It is still the same attempt.
                let admitted = Admitted { wait: admitted.wait, ..self.admit(delivery, event).await? };
                self.reply_of(delivery, event, &admitted).await
            }
            reply => reply,
        }
    }

    /// Waits for the reply of an event.
    async fn reply_of(
        &self,
        delivery: &Delivery<'_>,
        pushed: &PushedEvent<'_>,
        admitted: &Admitted,
    ) -> Result<Body, Unanswered> {
        let (endpoint, Admitted { entry, wait, event }) = (delivery.request.endpoint, admitted);
        let reply = match entry.reply() {
            Some(reply) => Some(reply),
            None => time::timeout_at(wait.until.into(), entry.answered()).await.ok(),
        };
        if let Some(reply) = reply {
            if event.is_none() && reply.is_ok() {
                endpoint.metrics.count(Outcome::Repeated);
            }
            if event.is_none()
                && wait.waits()
                && matches!(reply, Ok(Body::Plain(_)))
                && let Some(body) = self.answer_repeat(delivery, pushed).await
            {
                return Ok(body);
            }
            return Ok(reply.clone()?);
        }
        // The journal is as late as the thread that waits for it.
        let slow = || match self.dispatcher.blocking.since(delivery.request.arrived) {
            Some(what) => Unanswered::Blocked(what),
            None => JournalError::storage("the journal takes too long").into(),
        };
        match entry.stored().now_or_never() {
            Some(stored) => stored?,
            None => return Err(slow()),
        }
        if let Err(failure @ (JournalError::Storage(_) | JournalError::Newer(_))) = self.journal.health() {
            return Err(failure.into());
        }
        if wait.is_held && !entry.is_replied() {
            return Err(Unanswered::Held);
        }
        // A reply that is there and cannot be recorded is not late: the next repeat gets it. Nor is that of a responder which
        // had no time because the journal took it, and what another node runs that node has to know.
        let patience = wait.deadline.saturating_sub(ADMISSION_TIME);
        if !entry.give_up(patience) {
            return Err(slow());
        }
        let waits = if wait.waits() { sender_of(delivery, pushed) } else { None };
        let is_awaited = waits.is_some();
        let sends = wait.sender.is_some() && (is_awaited || !wait.waits());
        let terms = GiveUp { sends, patience, waits };
        if let Some(reply) = self.journal.give_up(entry, terms).await? {
            return Ok(reply);
        }
        endpoint.metrics.count(Outcome::Late);
        log_late(endpoint, admitted, sends);
        if is_awaited && let Some(body) = answer_late(delivery, pushed) {
            return Ok(body);
        }
        Ok(match event {
            Some((spec, context)) => default_answer(endpoint.account.on_timeout != Verdict::Deny, *spec, context.raw()),
            None => Body::Plain(platform::plain_success(endpoint.account.platform)),
        })
    }

    /// Writes the response, sealed when the delivery was.
    pub(super) fn write(&self, endpoint: &Endpoint, reply: Body, seal: Option<&Seal>) -> Response {
        let (body, sealed) = match (reply, seal) {
            (Body::Plain(text), _) => (Cow::Borrowed(text), false),
            (Body::Document(text), None) => (Cow::Owned(text), false),
            (Body::Document(text), Some(seal)) => {
                // Neither is a secret: they keep two seals of one reply apart.
                let (random, nonce): ([u8; 16], u32) = rand::random();
                let now = self.dispatcher.clock.now();
                match endpoint.keys.answer(seal, &text, now, &nonce.to_string(), random) {
                    Ok(sealed) => (Cow::Owned(sealed), true),
                    Err(failure) => {
                        let account = &*endpoint.id;
                        error!(
                            account,
                            "{account}: cannot seal an answer; answered 503 so the platform retries: {failure}"
                        );
                        return Response::Unavailable("not_sealed");
                    }
                }
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

    /// The answer to a delivery whose event has none: the platform has to retry.
    pub(super) fn unanswered(&self, delivery: &Delivery<'_>, tree: &Value<'_>, why: &Unanswered) -> Response {
        let endpoint = delivery.request.endpoint;
        match why {
            Unanswered::Journal(failure) => self.event_not_stored(delivery, tree, failure),
            Unanswered::Held => {
                endpoint.metrics.count(Outcome::Held);
                Response::Unavailable("held")
            }
            Unanswered::Blocked(what) => {
                let (account, advice) = (&*endpoint.id, "use async I/O or tokio::task::spawn_blocking");
                endpoint.metrics.count(Outcome::Blocked);
                warn!(
                    account,
                    "{account}: answered 503 so the platform retries, as the time was over: {what}: {advice}"
                );
                self.verdict_instead(delivery, tree, Response::Unavailable("blocked"))
            }
        }
    }

    /// The journal could not store an event. A question that the platform asks only once gets the configured verdict.
    pub(super) fn event_not_stored(
        &self,
        delivery: &Delivery<'_>,
        tree: &Value<'_>,
        failure: &JournalError,
    ) -> Response {
        let unavailable = self.not_stored(delivery.request.endpoint, failure);
        self.verdict_instead(delivery, tree, unavailable)
    }

    /// The configured verdict for a question; for anything else that it is unavailable.
    fn verdict_instead(&self, delivery: &Delivery<'_>, tree: &Value<'_>, unavailable: Response) -> Response {
        let endpoint = delivery.request.endpoint;
        let platform = endpoint.account.platform;
        match delivery.identity.answered_as(platform).filter(|spec| spec.reply == ReplyKind::Verdict) {
            Some(spec) => self.write(endpoint, default_of(allows(endpoint), Some(spec), platform, tree), None),
            None => unavailable,
        }
    }

    /// The verdict on a question whose body is not read, by its query alone: the platform takes any other answer for a
    /// permission. `None` where the query is not authentic, or asks nothing.
    pub fn verdict_unread(&self, endpoint: &Endpoint, query: &str, why: Outcome) -> Option<Response> {
        let platform = endpoint.account.platform;
        let query = Query::parse(query).ok()?;
        let identity = platform::identify(platform, &Value::Null, Some(query.get("CallbackCommand")?));
        let spec = identity.answered_as(platform).filter(|spec| spec.reply == ReplyKind::Verdict)?;
        endpoint.keys.check_query(&query, self.dispatcher.clock.now()).ok()?;
        endpoint.metrics.count_defaulted(why);
        if let Some(more) = endpoint.lines.allow(LineKind::Defaulted, why.reason()) {
            let (account, kind, reason) = (&*endpoint.id, identity.event_type(platform), why.reason());
            let verdict = if allows(endpoint) { "allow" } else { "deny" };
            warn!(
                account,
                kind,
                reason,
                "{account}: could not read a request of {kind} ({reason}); answered `on_error`: {verdict}{more}"
            );
        }
        Some(self.write(endpoint, default_of(allows(endpoint), Some(spec), platform, &Value::Null), None))
    }

    /// The journal could not store: the platform has to retry.
    pub(super) fn not_stored(&self, endpoint: &Endpoint, failure: &JournalError) -> Response {
        endpoint.metrics.count(Outcome::NotStored);
        warn!(
            account = &*endpoint.id,
            "{}: could not store a delivery; answered 503 so the platform retries: {failure}", endpoint.id
        );
        Response::Unavailable("not_stored")
    }
}

fn log_late(endpoint: &Endpoint, Admitted { entry, wait, .. }: &Admitted, sends: bool) {
    let (account, event, attempt) = (&*endpoint.id, entry.id, entry.deliveries());
    let dropped = || format!("the reply will be DROPPED ({})", late_advice(&endpoint.account));
    let (given, then) = match (sends, wait.waits()) {
        (true, true) => {
            ("answered `late_text`", "the reply answers the next message of the user when it is ready".to_owned())
        }
        (true, false) => ("gave the default answer", "the reply is sent through the API when it is ready".to_owned()),
        (false, _) => ("gave the default answer", dropped()),
    };
    let waited = seconds(wait.deadline);
    warn!(account, %event, attempt, "{account}: no reply within {waited}, {given}; {then}");
}

/// What needs no API.
const NEXT: &str = "`late_reply = \"next\"` to answer the user's next message with it";

/// What would have a late reply sent.
pub(super) fn late_advice(account: &config::Account) -> String {
    let knows = |key| account.platform.protocol().account().has(key);
    let missing = [
        (account.secret.is_none(), "`secret`"),
        (knows("agent_id") && account.agent_id.is_none(), "`agent_id`"),
        (account.late_reply == LateReply::Drop, "`late_reply = \"send\"`"),
    ];
    let missing: Vec<_> = missing.into_iter().filter_map(|(is_missing, what)| is_missing.then_some(what)).collect();
    let only = "only the response can carry it: answer earlier".to_owned();
    let rules = account.platform.protocol().account();
    match (rules.sends_replies, knows("late_reply")) {
        _ if account.late_reply == LateReply::Next => only,
        (true, _) if missing.is_empty() => only,
        (true, _) => format!("set {} to send it through the API, or {NEXT}", missing.join(" and ")),
        (false, true) => format!("set {NEXT}"),
        (false, false) => only,
    }
}

/// The answer to an event without a reply. A question (IM "before") is allowed or refused; where it is decided account
/// by account, that takes the payload.
pub(super) fn default_answer(allow: bool, spec: Option<&EventSpec>, event: &RawEvent) -> Body {
    if let Some(body) = default_without_payload(allow, spec, event.platform) {
        return body;
    }
    let tree = event.tree().unwrap_or(Value::Null);
    default_of_payload(allow, spec, event.platform, &tree)
}

/// The same for an event that is read already.
pub(super) fn default_of(allow: bool, spec: Option<&EventSpec>, platform: Platform, tree: &Value<'_>) -> Body {
    default_without_payload(allow, spec, platform).unwrap_or_else(|| default_of_payload(allow, spec, platform, tree))
}

fn default_without_payload(allow: bool, spec: Option<&EventSpec>, platform: Platform) -> Option<Body> {
    match spec.filter(|spec| spec.reply == ReplyKind::Verdict) {
        Some(spec) => replies::im::verdict_without_payload(spec, allow).map(Body::Document),
        None => Some(Body::Plain(platform::plain_success(platform))),
    }
}

fn default_of_payload(allow: bool, spec: Option<&EventSpec>, platform: Platform, tree: &Value<'_>) -> Body {
    static NOTHING: Object<'_> = Object::new();
    let payload = tree.as_object().unwrap_or(&NOTHING);
    match spec {
        Some(spec) => Body::Document(replies::im::default_verdict(spec, payload, allow)),
        None => Body::Plain(platform::plain_success(platform)),
    }
}

/// What an account wants done with a question that cannot be answered.
pub(super) fn allows(endpoint: &Endpoint) -> bool {
    endpoint.account.on_error != Verdict::Deny
}
