//! `[[answer]]`: responders that the configuration declares. Rules answer by themselves, a service is asked over HTTP.
//!
//! | module | what it does |
//! |---|---|
//! | `rules` | replies that the configuration has |
//! | `service` | asks a service: the event goes out, its response is the reply |
//! | `chunks` | answers that come in chunks |
//! | `deferred` | replies that come later, through the event API |
//!
//! They are handlers like those in Rust: deadlines, late replies, panics and the default answer are the same.

mod chunks;
mod deferred;
mod rules;
mod service;

use std::{sync::Arc, time::Duration};

use serde_json::Value as Json;

pub(crate) use self::deferred::{Deferred, NotTaken};
use self::{
    rules::Facts,
    service::{Route, Service, reply_to, with_asked},
};
use crate::{
    config::{self, Config, ConfigError, LateReply, Problem, Said, Source},
    event::{self, Answer, EventSpec},
    forward::{Delivered, Formatter},
    hooks::{Configured, Context, HandlerError, Hooks, RawEvent},
    journal::EventRecord,
    payload::Object,
    platform,
    replies::RawReply,
    webhook::{Client, Guard, SendError, event_types},
};

/// One `[[answer]]`.
struct Configuration {
    answer: config::Answer,
    service: Option<Arc<Service>>,
    /// The accounts whose late replies are given later.
    sends_late: Vec<String>,
}

/// The handlers of the program with those that the configuration declares. `deferred` has those that wait for a reply, `delivered` what
/// the targets of forwards have of them.
///
/// # Errors
/// When two would answer one event.
pub(crate) fn install(
    config: &Config,
    hooks: Hooks,
    guard: &Guard,
    deferred: &Deferred,
    delivered: &Delivered,
) -> Result<Hooks, InstallError> {
    let problems = doubles(config, &hooks);
    if !problems.is_empty() {
        return Err(ConfigError { problems }.into());
    }
    let answers = config.answers.iter().map(|answer| {
        let service = match &answer.otherwise {
            Some(Source::Service(service)) => Some(Arc::new(Service {
                name: answer.name.as_str().into(),
                client: Client::new(&service.target, guard)?,
                formatter: Formatter::new(&service.format, &[], &config.accounts),
                forward: service.forward.as_deref().map(|name| (name.into(), delivered.clone())),
                timeout: service.target.timeout,
                reply_within: service.reply_within,
                deferred: deferred.clone(),
            })),
            _ => None,
        };
        let sends_late =
            config.accounts.iter().filter(|account| sends_late(account)).map(config::Account::id).collect();
        let configuration = Arc::new(Configuration { answer: answer.clone(), service, sends_late });
        let handler = move |event: RawEvent, context: Context| {
            let configuration = Arc::clone(&configuration);
            async move { configuration.reply(&event, &context).await.map(|answer| RawReply::from_answer(Ok(answer))) }
        };
        Ok(Configured::new(answer.patterns.clone(), handler))
    });
    let answers = answers.collect::<Result<Vec<_>, SendError>>()?;
    Ok(hooks.with_answers(answers))
}

/// Why the answers cannot be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Two would answer one event.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing can be sent.
    #[error("cannot call services: {0}")]
    Client(#[from] SendError),
}

/// Whether a reply of an account that was too late is given later.
fn sends_late(account: &config::Account) -> bool {
    match account.late_reply {
        LateReply::Next => true,
        LateReply::Hold | LateReply::Send => account.can_send() || account.late_reply == LateReply::Hold,
        LateReply::Drop => false,
    }
}

/// Events that two would answer: a problem for each pair, with the first such event.
fn doubles(config: &Config, hooks: &Hooks) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut report = |answer: &config::Answer, other: String, event_type: &str, account: &str| {
        let name = &answer.name;
        let start = format!("[[answer]] `{name}`: {other} answers ");
        if !problems.iter().any(|problem| problem.text.starts_with(&start)) {
            let text = format!("{start}{event_type} of {account}, too; only one can: narrow `match`");
            problems.push(Problem { origin: config.origin().into(), line: answer.line, text });
        }
    };
    for account in &config.accounts {
        let id = account.id();
        for event_type in event_types(account.platform).filter(|it| event::by_id(it).is_none_or(EventSpec::takes_reply))
        {
            let mut ranked: Vec<_> = config
                .answers
                .iter()
                .filter_map(|answer| Some((answer.patterns.rank(&id, event_type)?, answer)))
                .collect();
            ranked.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
            for pair in ranked.windows(2) {
                if let [(rank, one), (other_rank, other)] = pair
                    && rank == other_rank
                {
                    report(other, format!("[[answer]] `{}`", one.name), event_type, &id);
                }
            }
            if let Some(location) = hooks.typed(&id, event_type) {
                for (_, answer) in &ranked {
                    report(answer, format!("the handler registered at {location}"), event_type, &id);
                }
            }
        }
    }
    problems
}

impl Configuration {
    async fn reply(&self, event: &RawEvent, context: &Context) -> Result<Answer, HandlerError> {
        let Self { answer, service, sends_late } = self;
        let data = || record(event, context).data();
        if !answer.condition.is_empty() && !answer.condition.holds(&data()) {
            return Ok(Answer::Default);
        }
        let said = {
            let tree = event.tree().ok();
            let payload = tree.as_ref().and_then(|tree| tree.as_object());
            payload.and_then(|payload| self.said(event, payload, &data))
        };
        if let Some(reply) = said {
            return reply_to(event, reply);
        }
        let Some(service) = service else { return Ok(Answer::Default) };
        let sends_late = sends_late.iter().any(|account| account == context.account());
        let route = with_asked(event, |asked| Ok::<_, HandlerError>(Route::of(asked, sends_late)))?;
        service.answer(event, context, route).await
    }

    /// What the configuration answers.
    fn said(&self, event: &RawEvent, payload: &Object<'_>, data: &dyn Fn() -> Json) -> Option<Json> {
        let facts = Facts::of(event.platform, payload, data);
        let otherwise = || match &self.answer.otherwise {
            Some(Source::Said(said)) => Some(said),
            _ => None,
        };
        facts.first(&self.answer.rules).or_else(otherwise).map(|said: &Said| facts.reply(said))
    }
}

/// An event as it would be in the journal now.
fn record(event: &RawEvent, context: &Context) -> EventRecord {
    let subject = event.tree().ok().and_then(|tree| platform::subject(event.platform, &tree).map(Into::into));
    event.record(subject, context.clock().now().saturating_mul(1000))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
