//! Replies that were too late or too long for the response: sent through the API, each at most once.
//!
//! The reply is in the journal, and with it an observation of this observer: both came in one step. A send is marked
//! before it starts. When its outcome is not known - the process died, the platform gave no answer - it is not repeated,
//! for the platform may have sent it: it becomes a dead letter that states this.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::{
    api::{Api, ApiError, Apis},
    config::{Config, LateReply, LongText},
    event::Platform,
    journal::{self, Journal, LeaseWrite, Leased, NamedLease},
    observers::{Failed, Job, Run, Scope},
    payload::{self, Form},
    platform::{AUTHORIZER, Body},
    replies,
};

/// Name of the observer.
pub const OBSERVER: &str = "echostr.late-reply";

/// Longer than a call with its pauses.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);

/// How long it is recorded that a send was started.
const STARTED_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// The value of the lease: the part that is being sent, the parts that were sent, or that all were.
const BEGUN: &str = "begun";
const PARTS: &str = "parts ";
const SENT: &str = "sent";

/// The observer, if an account needs it. Events are offered to it with their late replies only.
pub fn observer(config: &Config) -> Option<journal::Observer> {
    let sends = |platform: Platform| platform.protocol().account().sends_replies;
    let mut accounts = config.accounts.iter();
    let needed = accounts.any(|account| {
        let is_late_sent = matches!(account.late_reply, LateReply::Hold | LateReply::Send);
        let is_needed = is_late_sent || account.long_text == Some(LongText::Split);
        sends(account.platform) && account.secret.is_some() && is_needed
    });
    needed.then(|| journal::Observer {
        name: OBSERVER.into(),
        in_order: false,
        from_beginning: false,
        wants: Arc::new(|_, _| false),
    })
}

/// What it does.
pub fn job(apis: &Apis, journal: &Arc<dyn Journal>) -> Job {
    let (apis, journal) = (apis.clone(), Arc::clone(journal));
    let run: Run = Arc::new(move |leased, _: Instant, permit| {
        let (apis, journal) = (apis.clone(), Arc::clone(&journal));
        Box::pin(async move {
            let _permit = permit;
            let (account, record) = (&leased.record.account, &leased.record);
            let api = {
                let tree = payload::parse(record.form, record.payload.text());
                let tree = tree.map_err(|failure| Failed::Permanent(failure.to_string()))?;
                apis.of_event(account, &tree, record.query(AUTHORIZER).as_deref())
            };
            let api = api.ok_or(Failed::NoSecret)?;
            send(&api.without_waiting(), &*journal, &leased).await
        })
    });
    Job { name: OBSERVER.into(), timeout: Some(SEND_TIMEOUT), scope: Scope::Account, run }
}

async fn send(api: &Api, journal: &dyn Journal, leased: &Leased) -> Result<(), Failed> {
    let Some(Body::Document(reply)) = &leased.reply else { return Ok(()) };
    let message = {
        let form = if reply.starts_with('<') { Form::Xml } else { Form::Json };
        let tree = payload::parse(form, reply).map_err(|failure| Failed::Permanent(failure.to_string()))?;
        let object = tree.as_object().ok_or_else(|| Failed::Permanent("the reply is not a document".to_owned()))?;
        let message = leased.record.platform.protocol().message(api.agent_id(), object);
        message.map_err(|failure| Failed::Permanent(failure.to_string()))?
    };
    let lease_name = format!("late/{}", leased.lease.id);
    let held = journal.acquire_lease(&lease_name, SEND_TIMEOUT).await.map_err(|failure| again(&failure))?;
    let held = held.ok_or_else(|| Failed::Retry("another attempt is sending it".to_owned()))?;
    let sent: usize = match held.value.as_deref() {
        Some(BEGUN) => return Err(not_known("the process ended while it was sent")),
        Some(SENT) => return Ok(()),
        Some(value) => value.strip_prefix(PARTS).and_then(|sent| sent.parse().ok()).unwrap_or_default(),
        None => 0,
    };
    let bodies = in_parts(message.body);
    for (at, body) in bodies.iter().enumerate().skip(sent) {
        mark(journal, &held, BEGUN, Some(SEND_TIMEOUT)).await.map_err(|failure| again(&failure))?;
        match api.call_once(message.path, body).await {
            Ok(_) if at + 1 < bodies.len() => {
                let sent = format!("{PARTS}{}", at + 1);
                let marked = mark(journal, &held, &sent, Some(SEND_TIMEOUT)).await;
                marked.map_err(|failure| not_known(&failure.to_string()))?;
            }
            // Otherwise a later attempt would take the outcome for unknown.
            Ok(_) => drop(mark(journal, &held, SENT, None).await),
            Err(failure) if failure.is_uncertain() => return Err(not_known(&failure.to_string())),
            Err(failure) => {
                // It was not sent, so it can be repeated.
                let marked = mark(journal, &held, &format!("{PARTS}{at}"), None).await;
                marked.map_err(|failure| not_known(&failure.to_string()))?;
                return Err(failed(api, &failure));
            }
        }
    }
    Ok(())
}

/// The messages that a message becomes whose text is longer than the platform takes.
fn in_parts(message: Json) -> Vec<Json> {
    let parts: Vec<Json> = match message["text"]["content"].as_str() {
        Some(text) if text.len() > replies::MAX_TEXT_BYTES => replies::parts(text).map(Json::from).collect(),
        _ => return vec![message],
    };
    let with = |part| {
        let mut message = message.clone();
        message["text"]["content"] = part;
        message
    };
    parts.into_iter().map(with).collect()
}

async fn mark(
    journal: &dyn Journal,
    held: &NamedLease,
    value: &str,
    keep: Option<Duration>,
) -> Result<(), journal::JournalError> {
    let write =
        LeaseWrite { value: Some(value.to_owned()), keep, expires: Some(STARTED_RETENTION), events: Vec::new() };
    journal.write_lease(held, write).await.map(drop)
}

fn not_known(why: &str) -> Failed {
    Failed::Permanent(format!("it may have been sent, so it is not sent again: {why}"))
}

fn again(failure: &impl ToString) -> Failed {
    Failed::Retry(failure.to_string())
}

/// Whether a refused call is retried. One that the platform limits has not failed: it waits, as does
/// everything of its account; where others have authorised the account, each has limits of its own.
pub(crate) fn failed(api: &Api, failure: &ApiError) -> Failed {
    if let Some(after) = failure.pause() {
        return Failed::NotYet { after, of_account: !api.is_of_authorizer(), reason: failure.to_string() };
    }
    if failure.is_passing() || failure.can_be_mended() {
        again(failure)
    } else {
        Failed::Permanent(failure.to_string())
    }
}
