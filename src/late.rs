//! Replies that were too late or too long for the response: sent through the API, each at most once.
//!
//! The reply is in the journal, and with it an observation of this observer: both came in one step. An event whose process
//! ended before there was a reply is observed, too, when the platform does not retry any more: its responder runs again.
//! That is so for accounts whose late replies wait for the next message, too: those are not sent.
//!
//! A send is marked before it starts. When its outcome is not known - the process died, the platform gave no answer - it is
//! not repeated, for the platform may have sent it: it becomes a dead letter that states this. Of a long text that is the
//! fate of one part: those behind it are sent all the same.

mod progress;
mod unanswered;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tracing::warn;
use uuid::Uuid;

use self::{progress::Progress, unanswered::Unanswered};
use crate::{
    api::{Api, ApiError},
    config::{Account, Config, LateReply, LongText},
    dispatch::Dispatcher,
    event::{self, ReplyKind},
    journal::{self, Journal, LeaseWrite, Leased, NamedLease},
    observers::{Failed, Job, Run, Scope},
    payload::{self, Form},
    platform::{AUTHORIZER, Body},
    replies,
};

/// Name of the observer.
pub(crate) const OBSERVER: &str = "echostr.late-reply";

/// Longer than a call with its pauses.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);

/// How long it is recorded that a send was started.
const STARTED_RETENTION: Duration = Duration::from_secs(7 * 86_400);

/// The observer, if an account needs it. Events are offered to it with their late replies only.
pub(crate) fn observer(config: &Config) -> Option<journal::Observer> {
    let sends = |account: &&Account| account.platform.protocol().account().sends_replies && account.secret.is_some();
    let is_late = |account: &&Account| matches!(account.late_reply, LateReply::Hold | LateReply::Send);
    let accounts = config.accounts.iter().filter(sends);
    let late: HashSet<String> = accounts.clone().filter(is_late).map(Account::id).collect();
    let next: HashSet<String> =
        config.accounts.iter().filter(|account| account.next_message.is_some()).map(Account::id).collect();
    let splits = |account: &Account| account.long_text == Some(LongText::Split);
    let is_needed = !late.is_empty() || !next.is_empty() || accounts.clone().any(splits);
    is_needed.then(|| journal::Observer {
        name: OBSERVER.into(),
        in_order: false,
        from_beginning: false,
        wants: Arc::new(|_, _| false),
        unanswered: Some(Arc::new(move |account, event_type| {
            event::by_id(event_type).is_some_and(|spec| {
                (late.contains(account) && spec.reply == ReplyKind::Passive)
                    || (next.contains(account) && spec.is_awaited())
            })
        })),
    })
}

/// What it does.
pub(crate) fn job(config: &Config, dispatcher: &Dispatcher, journal: &Arc<dyn Journal>) -> Job {
    let long_texts = config.accounts.iter().filter_map(|account| Some((account.id().into(), account.long_text?)));
    let next =
        config.accounts.iter().filter_map(|account| Some((account.id().into(), account.next_message.as_ref()?.keep)));
    let unanswered = Arc::new(Unanswered {
        long_texts: long_texts.collect(),
        next: next.collect(),
        dispatcher: dispatcher.clone(),
        journal: Arc::clone(journal),
    });
    let (apis, journal) = (dispatcher.apis.clone(), Arc::clone(journal));
    let run: Run = Arc::new(move |leased, deadline: Instant, permit| {
        let (apis, journal, unanswered) = (apis.clone(), Arc::clone(&journal), Arc::clone(&unanswered));
        Box::pin(async move {
            let _permit = permit;
            if leased.reply.is_none() {
                return unanswered.respond(leased, deadline).await;
            }
            if !leased.is_late {
                // A delivery was answered with it, before this observer came to it.
                return Ok(());
            }
            if unanswered.waits(&leased.record.account) && !leased.reply.as_ref().is_some_and(is_long) {
                // The platform has repeated it meanwhile, and its reply waits for the next message.
                return Ok(());
            }
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
    Job { name: OBSERVER.into(), timeout: Some(SEND_TIMEOUT), scope: Scope::Account, gate: None, run }
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
    let bodies = in_parts(message.body);
    let progress = match &held.value {
        Some(value) => Progress::parse(value, bodies.len()),
        None => Progress::new(bodies.len()),
    };
    Sending { api, journal, held, event: leased.lease.id, path: message.path, bodies, progress }.run().await
}

/// The parts of a message, on their way.
struct Sending<'s> {
    api: &'s Api,
    journal: &'s dyn Journal,
    held: NamedLease,
    event: Uuid,
    path: &'static str,
    bodies: Vec<Json>,
    progress: Progress,
}

impl Sending<'_> {
    async fn run(mut self) -> Result<(), Failed> {
        let mut why = None;
        if self.progress.is_begun {
            why = Some(self.pass_over("the process ended while it was sent".to_owned()));
        }
        while let Some(body) = self.bodies.get(self.progress.next) {
            self.progress.is_begun = true;
            self.mark(Some(SEND_TIMEOUT)).await.map_err(|failure| again(&failure))?;
            match self.api.call_once(self.path, body).await {
                Ok(_) => self.progress.pass(),
                Err(failure) if failure.is_uncertain() => {
                    let passed = self.pass_over(failure.to_string());
                    if self.progress.is_open() {
                        // What is behind it has another attempt, later: the platform may be away.
                        self.mark(None).await.map_err(|failure| again(&failure))?;
                        return Err(Failed::Retry(passed));
                    }
                    why = Some(passed);
                }
                Err(failure) => {
                    // It was not sent, so it can be repeated.
                    self.progress.is_begun = false;
                    self.mark(None).await.map_err(|failure| again(&failure))?;
                    return Err(failed(self.api, &failure));
                }
            }
        }
        // Otherwise a later attempt would take the outcome for unknown.
        let _ = self.mark(None).await;
        match (self.progress.unknown.as_slice(), self.bodies.len()) {
            ([], _) => Ok(()),
            (_, 1) => Err(not_known(&why.unwrap_or_default())),
            (unknown, parts) => Err(not_known(&progress::named(unknown, parts))),
        }
    }

    /// The part that was begun is not sent again. Returns why.
    fn pass_over(&mut self, why: String) -> String {
        let (part, parts, account, event) = (self.progress.next + 1, self.bodies.len(), self.api.account(), self.event);
        self.progress.pass_unknown();
        if parts > 1 {
            warn!(
                account,
                %event,
                "{account}: part {part} of {parts} of a reply may have been sent, so it is not sent again: {why}"
            );
        }
        why
    }

    async fn mark(&self, keep: Option<Duration>) -> Result<(), journal::JournalError> {
        let value = Some(self.progress.to_string());
        let write = LeaseWrite { value, keep, expires: Some(STARTED_RETENTION), events: Vec::new() };
        self.journal.write_lease(&self.held, write).await.map(drop)
    }
}

/// Whether a reply is a text that is longer than the platform takes.
fn is_long(reply: &Body) -> bool {
    let Body::Document(reply) = reply else { return false };
    let form = if reply.starts_with('<') { Form::Xml } else { Form::Json };
    let tree = payload::parse(form, reply).ok();
    let text = tree.as_ref().and_then(|tree| tree.as_object()?.text("Content"));
    text.is_some_and(|text| text.len() > replies::MAX_TEXT_BYTES)
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
