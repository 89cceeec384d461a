//! `[[answer]]`: responders that need no Rust: a service that is asked over HTTP, or rules.

use std::{ops::RangeInclusive, time::Duration};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};

use super::{
    Account,
    forward::{self, Destination, Format, Forward},
    reader::{Reader, Section},
    tables,
    target::{self, Target},
};
use crate::{
    event::{self, EventSpec},
    payload::Object,
    replies::json::{self, Asked},
    webhook::{Condition, Guard, Patterns, event_types},
};

/// The keys that are no members of a reply.
const KEYS: [&str; 8] = ["name", "rules", "echo", "format", "token", "aes_key", "receive_id", "reply_within"];
/// The keys of a rule that are no members of its reply.
const TESTS: [&str; 7] = ["keyword", "exact", "pattern", "key", "scene", "where", "echo"];

/// How long a service may take, where a late reply is of use.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a reply is waited for that comes through the event API.
const REPLY_WITHIN: Duration = Duration::from_secs(600);
const REPLY_WITHIN_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The memory that a pattern may take once it is compiled.
const PATTERN_BYTES: usize = 1 << 20;

/// `[[answer]]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Its name.
    pub name: String,
    /// Where it is in the file.
    pub(crate) line: Option<usize>,
    /// Which accounts and event types.
    pub(crate) patterns: Patterns,
    /// What the fields of an event have to be; of others the default answer is given.
    pub(crate) condition: Condition,
    /// The first that applies answers.
    pub(crate) rules: Vec<Rule>,
    /// Who answers when none does.
    pub(crate) otherwise: Option<Source>,
}

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The configuration.
    Said(Said),
    /// A service.
    Service(Box<Service>),
}

/// What is answered without asking anybody.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// What the user wrote.
    Echo,
    /// This.
    Reply(Json),
}

/// A service that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) target: Target,
    /// A CloudEvent, or callbacks as the platform sends them.
    pub(crate) format: Format,
    /// The forward that it is, too.
    pub(crate) forward: Option<String>,
    /// How long a reply is waited for that comes through the event API.
    pub(crate) reply_within: Duration,
}

/// An answer to some of the events.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// All of which have to hold; none of them says anything of an event that has not what it tests.
    pub(crate) tests: Vec<Test>,
    pub(crate) said: Said,
}

/// What an event has to be for a rule.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// The text contains one of these, in whatever case; they are in lower case.
    Keyword(Vec<String>),
    /// The text is one of these, but for the case and space around it.
    Exact(Vec<String>),
    /// The text matches.
    Pattern(Regex),
    /// The key of the menu item or button.
    Key(Vec<String>),
    /// The scene of the QR code.
    Scene(Vec<String>),
    /// The fields.
    Where(Condition),
}

/// The keys that are no members of a reply.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().chain(target::SELECTION).chain(target::KEYS)
}

/// All answers, in the order of the file.
pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>, accounts: &[Account], guard: &Guard) -> Vec<Answer> {
    let tables = tables::read(reader, root, "answer");
    tables.into_iter().filter_map(|(name, section)| answer(name, &section, accounts, guard)).collect()
}

fn answer(name: String, section: &Section<'_>, accounts: &[Account], guard: &Guard) -> Option<Answer> {
    let own: Vec<&str> = keys().collect();
    let all: Vec<&str> = own.iter().copied().chain(json::MEMBERS.iter().copied()).collect();
    section.only(&all);
    let (patterns, condition) = target::selection(section, accounts);
    let answered = answered(&patterns, accounts);
    if answered.is_empty() && !patterns.is_empty() {
        section.problem("match", "matches no event whose platform takes a reply");
    }
    let rules = rules(section, &answered);
    let said = said(section, &own, &answered);
    let target = section.has("to").then(|| Target::read(section, guard, TIMEOUT)).flatten();
    if !section.has("to") {
        let of_service = ["format", "reply_within"].into_iter().chain(target::KEYS).chain(forward::ORIGINAL_KEYS);
        for key in of_service.filter(|key| section.has(key)) {
            section.problem(key, "needs `to`: it is of a service that is asked");
        }
    }
    let reply_within = section.duration("reply_within", REPLY_WITHIN_RANGE).unwrap_or(REPLY_WITHIN);
    let format = format(section, accounts, &patterns);
    let otherwise = match (said, target) {
        (Some(_), Some(_)) => {
            section.problem("to", "cannot stand beside a reply: either a service answers, or the configuration");
            return None;
        }
        (Some(said), None) => Some(Source::Said(said)),
        (None, Some(target)) => {
            Some(Source::Service(Box::new(Service { target, format: format?, forward: None, reply_within })))
        }
        (None, None) => None,
    };
    if otherwise.is_none() && rules.is_empty() && !section.has("to") && !section.has("rules") {
        section.refuse("says nothing: it needs `to`, `rules`, or a reply such as `text = \"…\"`");
    }
    // Nobody is asked by those who do without its secrets.
    if section.unread().is_some() {
        return None;
    }
    Some(Answer { name, line: section.line_of("name"), patterns, condition, rules, otherwise })
}

/// The keys of callbacks as the platform sends them, where the service gets these.
fn format(section: &Section<'_>, accounts: &[Account], patterns: &Patterns) -> Option<Format> {
    let is_original = section.choice("format", &[("cloudevents", false), ("original", true)]).unwrap_or(false);
    if is_original {
        return forward::original(section, accounts, patterns).map(Format::Original);
    }
    for key in forward::ORIGINAL_KEYS.into_iter().filter(|key| section.has(key) && section.has("to")) {
        section.problem(key, "needs `format = \"original\"`");
    }
    Some(Format::Structured)
}

/// The answers of forwards whose targets reply.
pub(super) fn of_forwards(forwards: &[Forward]) -> impl Iterator<Item = Answer> {
    let answering = forwards.iter().filter(|forward| forward.answers && forward.enabled);
    let answering = answering.filter_map(|forward| match &forward.to {
        Destination::Http(target) => Some((forward, target)),
        Destination::Queue(_) => None,
    });
    answering.map(|(forward, target)| Answer {
        name: forward.name.clone(),
        line: forward.line,
        patterns: forward.patterns.clone(),
        condition: forward.condition.clone(),
        rules: Vec::new(),
        otherwise: Some(Source::Service(Box::new(Service {
            target: target.clone(),
            format: forward.format.clone(),
            forward: Some(forward.name.clone()),
            reply_within: REPLY_WITHIN,
        }))),
    })
}

/// The events that an answer is for, with their platforms.
fn answered(patterns: &Patterns, accounts: &[Account]) -> Vec<Asked<'static>> {
    static NOTHING: Object<'_> = Object::new();
    let mut answered: Vec<Asked<'static>> = Vec::new();
    for account in accounts {
        let id = account.id();
        for event_type in event_types(account.platform).filter(|event_type| patterns.matches(&id, event_type)) {
            let spec = event::by_id(event_type);
            let is_there = |asked: &Asked<'_>| asked.platform == account.platform && asked.spec == spec;
            if spec.is_none_or(EventSpec::takes_reply) && !answered.iter().any(is_there) {
                answered.push(Asked { platform: account.platform, spec, event: &NOTHING });
            }
        }
    }
    answered
}

fn rules(section: &Section<'_>, answered: &[Asked<'_>]) -> Vec<Rule> {
    const RULE: &str = "a list of rules such as { keyword = \"price\", text = \"…\" }";
    const TESTED: [&str; 6] = ["keyword", "exact", "pattern", "key", "scene", "where"];
    let keys: Vec<&str> = TESTS.iter().chain(json::MEMBERS).copied().collect();
    let read = |rule: Section<'_>| {
        rule.only(&keys);
        let tests = tests(&rule);
        if !TESTED.iter().any(|test| rule.has(test)) {
            rule.refuse(&format!(
                "tests nothing: it needs one of {}",
                TESTED.map(|test| format!("`{test}`")).join(", ")
            ));
        }
        let said = said(&rule, &TESTS, answered);
        if said.is_none() && !rule.has("echo") && !json::MEMBERS.iter().any(|member| rule.has(member)) {
            rule.refuse("has no reply, such as `text = \"…\"`");
        }
        Some(Rule { tests, said: said? })
    };
    section.tables("rules", RULE).into_iter().filter_map(read).collect()
}

fn tests(rule: &Section<'_>) -> Vec<Test> {
    const TEXT: &str = "a text that is not empty";
    let texts = |key: &str| {
        let texts = rule.one_or_more(key, TEXT);
        if rule.has(key) && (texts.is_empty() || texts.iter().any(|(_, text)| text.trim().is_empty())) {
            rule.problem(key, format!("must be {TEXT}, or a list of them"));
        }
        let texts: Vec<String> = texts.into_iter().map(|(_, text)| text.to_owned()).collect();
        (!texts.is_empty()).then_some(texts)
    };
    let lower = |texts: Vec<String>| texts.into_iter().map(|text| text.trim().to_lowercase()).collect::<Vec<_>>();
    let pattern = rule.parsed("pattern", "a regular expression", |text| {
        let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
        built.map_err(|_| "a regular expression (no look-around and no back-references), of moderate size".to_owned())
    });
    let condition = rule.has("where").then(|| target::condition(rule));
    let tests = [
        texts("keyword").map(lower).map(Test::Keyword),
        texts("exact").map(lower).map(Test::Exact),
        pattern.map(Test::Pattern),
        texts("key").map(Test::Key),
        texts("scene").map(Test::Scene),
        condition.map(Test::Where),
    ];
    tests.into_iter().flatten().collect()
}

/// The reply that a table has, checked against every event that it may answer.
fn said(section: &Section<'_>, others: &[&str], answered: &[Asked<'_>]) -> Option<Said> {
    let members: Vec<_> = section.entries().filter(|(key, _)| !others.contains(key)).collect();
    let echo = section.flag("echo").filter(|echo| *echo);
    if echo.is_some() {
        if let Some((key, _)) = members.first() {
            section.problem(key, "cannot stand beside `echo`: a reply is one thing");
        }
        let reply = Json::String("echo".to_owned());
        return checked(section, "echo", &reply, answered).then_some(Said::Echo);
    }
    let (key, _) = members.first()?;
    let reply: Map<String, Json> =
        members.iter().filter_map(|(key, value)| Some(((*key).to_owned(), to_json(value)?))).collect();
    let reply = Json::Object(reply);
    checked(section, key, &reply, answered).then_some(Said::Reply(reply))
}

/// Reports a reply that some event cannot have.
fn checked(section: &Section<'_>, key: &str, reply: &Json, answered: &[Asked<'_>]) -> bool {
    let wrong = answered.iter().find_map(|asked| Some((asked, json::reply(asked, reply.clone()).err()?)));
    let Some((asked, wrong)) = wrong else { return true };
    let of = asked.spec.map_or_else(|| format!("unknown events of {}", asked.platform), |spec| spec.id.to_owned());
    let narrow = if answered.len() > 1 { "; narrow `match` to the events that it fits" } else { "" };
    section.problem(key, format!("is no reply to {of}: {wrong}{narrow}"));
    false
}

fn to_json(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::String(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok()?.into(),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect::<Option<_>>()?,
        DeValue::Table(members) => {
            let members =
                members.iter().map(|(at, value)| Some((at.get_ref().clone().into_owned(), to_json(value.get_ref())?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
    })
}
