//! The answer to what was pulled: the responder runs, its reply is recorded, then it is sent under the event's own id.
//!
//! The platform refuses a second message of one id. So a send with an unknown outcome is repeated, and a refusal that
//! nothing else explains means that the first one had arrived.

use std::{collections::HashMap, sync::Arc, time::Instant};

use serde_json::{Map, Value as Json, json};
use tracing::{debug, info};

use crate::{
    api::{Api, ApiError, meaning},
    config::{Config, LongText},
    dispatch::{Attempt, Dispatcher},
    event::Answer,
    journal::{self, Entry, Journal, Lease, Leased},
    late,
    observers::{self, Failed, Run},
    payload::{self, Value},
    platform::{self, Address, Body},
    replies,
};

/// How many messages a customer is sent in answer to one.
const MAX_PARTS: usize = 5;

/// The session cannot change to that state: it may have it already.
const NOT_TO_THAT_STATE: i64 = 95016;

/// A servicer has the session, or it waits for one.
const NOT_OURS: i64 = 95018;

const NO_CUSTOMER: &str = "the message names no customer";

/// Answers what was pulled.
pub(super) struct Replier {
    /// What happens to long texts, by account.
    long_texts: HashMap<Arc<str>, LongText>,
    dispatcher: Dispatcher,
    journal: Arc<dyn Journal>,
}

/// Where an answer goes.
struct Destination {
    open_kfid: String,
    customer: Option<String>,
    /// The one-time code of an event; a message has none.
    code: Option<String>,
    is_event: bool,
}

impl Destination {
    fn of(tree: &Value<'_>) -> Self {
        let object = tree.as_object();
        let event = object.and_then(|object| object.get("event")).and_then(Value::as_object);
        let text = |name| {
            let inner = event.and_then(|event| event.text(name));
            inner.or_else(|| object.and_then(|object| object.text(name))).map(str::to_owned)
        };
        let code = text("welcome_code").or_else(|| text("msg_code")).filter(|code| !code.is_empty());
        Self {
            open_kfid: text("open_kfid").unwrap_or_default(),
            customer: text("external_userid"),
            code,
            is_event: event.is_some(),
        }
    }
}

impl Replier {
    pub(super) fn new(config: &Config, dispatcher: Dispatcher, journal: Arc<dyn Journal>) -> Self {
        let long_texts = config.accounts.iter().filter_map(|it| Some((it.id().into(), it.long_text?))).collect();
        Self { long_texts, dispatcher, journal }
    }

    pub(super) fn run(self: Arc<Self>) -> Run {
        Arc::new(move |leased, deadline, permit| {
            let replier = Arc::clone(&self);
            Box::pin(async move {
                let _permit = permit;
                replier.answer(leased, deadline).await
            })
        })
    }

    async fn answer(&self, leased: Leased, deadline: Instant) -> Result<(), Failed> {
        let lease = leased.lease.clone();
        let account = Arc::clone(&leased.record.account);
        let Some(api) = self.dispatcher.apis.get(&account) else {
            return Err(Failed::NoSecret);
        };
        let text = leased.record.payload.clone();
        let destination = match payload::parse(leased.record.form, text.text()) {
            Ok(tree) => Destination::of(&tree),
            Err(failure) => return Err(Failed::Permanent(failure.to_string())),
        };
        let body = match leased.reply.clone() {
            Some(body) => body,
            None => {
                let body = self.respond(&leased, deadline).await?;
                self.record(&lease, body).await?
            }
        };
        let Body::Document(message) = body else { return Ok(()) };
        let mut message: Map<String, Json> =
            serde_json::from_str(&message).map_err(|failure| Failed::Permanent(failure.to_string()))?;
        let transfer = message.remove(replies::wecom_kf::TRANSFER);
        let api = api.without_waiting();
        if !message.is_empty() {
            match self.send(&api, &lease, &destination, &message).await {
                Err(Unsent { code: Some(NOT_OURS), .. }) if lease.attempt > 1 && transfer.is_some() => {
                    info!(account = &*account, event = %lease.id, "an earlier attempt was sent, and handed the session over");
                    return Ok(());
                }
                sent => sent.map_err(|unsent| unsent.failed)?,
            }
        }
        match transfer {
            Some(Json::Object(to)) => hand_over(&api, &lease, &destination, &to).await,
            _ => Ok(()),
        }
    }

    /// Runs the responder.
    async fn respond(&self, leased: &Leased, deadline: Instant) -> Result<Body, Failed> {
        let Leased { lease, record, .. } = leased;
        let (platform, form) = (record.platform, record.form);
        let plain = Body::Plain(platform::plain_success(platform));
        let attempt = Attempt { id: lease.id, number: lease.attempt, deadline };
        let answer = observers::respond(&self.dispatcher, record, attempt).await?;
        if let Some(bytes) = replies::long_text(&answer)
            && self.long_texts.get(&record.account) == Some(&LongText::Error)
        {
            return Err(Failed::Retry(replies::too_long(bytes).to_string()));
        }
        Ok(match answer {
            Answer::Default => plain,
            answer => platform::write_answer(platform, form, answer, Address::default(), self.dispatcher.clock.now()),
        })
    }

    /// Makes the reply durable; returns the one that stands.
    async fn record(&self, lease: &Lease, body: Body) -> Result<Body, Failed> {
        let entry = Entry::pulled(lease.id);
        entry.mark_replied();
        self.journal.record(&entry, journal::ReplyRecord { body, failure: None, sender: None });
        entry.answered().await.clone().map_err(|failure| Failed::Retry(failure.to_string()))
    }

    async fn send(
        &self,
        api: &Api,
        lease: &Lease,
        destination: &Destination,
        message: &Map<String, Json>,
    ) -> Result<(), Unsent> {
        let id = lease.id.simple().to_string();
        let splits = self.long_texts.get(&lease.account) == Some(&LongText::Split) && destination.code.is_none();
        let parts = in_parts(message, splits);
        for (at, message) in parts.iter().enumerate() {
            // An id has 32 characters at most.
            let id = if at == 0 { id.clone() } else { format!("{}-{at}", id.get(..30).unwrap_or(&id)) };
            // An attempt that is postponed behind some parts is not counted. If they were refused, so is the last one.
            let may_be_sent = lease.attempt > 1 || at + 1 < parts.len();
            self.send_part(api, lease, destination, (&id, message), may_be_sent).await?;
        }
        Ok(())
    }

    async fn send_part(
        &self,
        api: &Api,
        lease: &Lease,
        destination: &Destination,
        (id, message): (&str, &Map<String, Json>),
        may_be_sent: bool,
    ) -> Result<(), Unsent> {
        let Destination { open_kfid, customer, code, is_event } = destination;
        let sent = match (code, customer) {
            (Some(code), _) => api.kf_send_on_event(code, id, message).await,
            (None, _) if *is_event => {
                debug!(account = api.account(), event = %lease.id, "an event without a code cannot be answered");
                return Ok(());
            }
            (None, Some(customer)) => api.kf_send(open_kfid, customer, id, message).await,
            (None, None) => return Err(Failed::Permanent(NO_CUSTOMER.to_owned()).into()),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(failure) if may_be_sent && is_repeat(&failure) => {
                info!(account = api.account(), event = %lease.id, "an earlier attempt was sent already: {failure}");
                Ok(())
            }
            // The platform knows the id, so that it may be sent again.
            Err(failure) if failure.is_uncertain() => Err(Failed::Retry(failure.to_string()).into()),
            Err(failure) => Err(Unsent { code: failure.code(), failed: late::failed(api, &failure) }),
        }
    }
}

/// Why a message was not sent.
struct Unsent {
    /// The platform's code.
    code: Option<i64>,
    failed: Failed,
}

impl From<Failed> for Unsent {
    fn from(failed: Failed) -> Self {
        Self { code: None, failed }
    }
}

/// Hands the session over. The call has no id, so that one that was made already is refused: the session has that state.
async fn hand_over(api: &Api, lease: &Lease, destination: &Destination, to: &Map<String, Json>) -> Result<(), Failed> {
    let Destination { open_kfid, customer: Some(customer), .. } = destination else {
        return Err(Failed::Permanent(NO_CUSTOMER.to_owned()));
    };
    match api.kf_transfer(open_kfid, customer, to).await {
        Ok(_) => Ok(()),
        Err(failure) if lease.attempt > 1 && failure.code() == Some(NOT_TO_THAT_STATE) => {
            info!(account = api.account(), event = %lease.id, "the session was handed over already: {failure}");
            Ok(())
        }
        Err(failure) if failure.is_uncertain() => Err(Failed::Retry(failure.to_string())),
        Err(failure) => Err(late::failed(api, &failure)),
    }
}

/// The messages that a message becomes whose text is longer than the platform takes: one that is cut, or as many parts as a
/// customer may be sent.
fn in_parts(message: &Map<String, Json>, splits: bool) -> Vec<Map<String, Json>> {
    let content = message.get("text").and_then(|text| text["content"].as_str());
    let Some(content) = content.filter(|content| content.len() > replies::MAX_TEXT_BYTES) else {
        return vec![message.clone()];
    };
    let parts: Vec<&str> = match splits {
        true => replies::parts(content).take(MAX_PARTS).collect(),
        false => vec![replies::cut(content)],
    };
    let with = |part: &&str| {
        let mut message = message.clone();
        message.insert("text".to_owned(), json!({ "content": part }));
        message
    };
    parts.iter().map(with).collect()
}

/// Whether a refusal can only mean that the id was used before.
fn is_repeat(failure: &ApiError) -> bool {
    failure.code().is_some_and(|code| meaning(code).is_none())
}
