//! `[[forward]]`: observers that send events to other servers.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use toml::de::DeTable;

use super::{
    Account,
    needs::UnreadForward,
    queue::{self, Queue, System},
    reader::{Reader, Section},
    tables,
    target::{self, Target},
    values,
};
use crate::{
    crypto::EncodingKey,
    platform::Scheme,
    secret::Secret,
    webhook::{Condition, Guard, Patterns, shown_url},
};

/// The keys of [`Original`].
pub(super) const ORIGINAL_KEYS: [&str; 3] = ["token", "aes_key", "receive_id"];

const KEYS: [&str; 13] = [
    "answers",
    "name",
    "enabled",
    "format",
    "mode",
    "token",
    "aes_key",
    "receive_id",
    "order",
    "concurrency",
    "rate",
    "retry",
    "redact",
];

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The pauses between attempts, in seconds: 17 hours and a half in all.
const RETRY: [u64; 7] = [5, 30, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600];

/// Pauses and their number.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);
const MAX_PAUSES: usize = 100;

/// `[[forward]]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Forward {
    /// Its name; the observer is called `forward.NAME`.
    pub name: String,
    /// Whether it gets events.
    pub enabled: bool,
    /// Which accounts and event types.
    pub(crate) patterns: Patterns,
    /// What the fields of an event have to be.
    pub(crate) condition: Condition,
    /// Where they are sent to.
    pub to: Destination,
    /// What is sent.
    pub format: Format,
    /// Whether the events of one subject are sent one after the other.
    pub in_order: bool,
    /// How many are sent at one time.
    pub concurrency: usize,
    /// How many are sent in a time.
    pub rate: Option<Rate>,
    /// The pauses between attempts; then the event is a dead letter.
    pub retry: Vec<Duration>,
    /// Paths of fields that are masked.
    pub redact: Vec<Vec<String>>,
    /// Whether what the target responds is the reply.
    pub answers: bool,
    /// Where it is in the file.
    pub(super) line: Option<usize>,
}

/// Where a forward sends events to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Destination {
    /// A server that speaks HTTP.
    Http(Target),
    /// A queue.
    Queue(Queue),
}

/// What a forward sends of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Format {
    /// The CloudEvent as JSON.
    Structured,
    /// The typed JSON as the body, the attributes of the CloudEvent as headers.
    Binary,
    /// The opened payload as it came.
    Raw,
    /// A callback as the platform sends it, signed and sealed with keys of the forward.
    Original(Original),
}

/// The keys of callbacks that a forward sends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Original {
    /// Signs.
    pub token: Secret,
    /// Seals, where bodies are encrypted.
    pub aes_key: Option<Secret>,
    /// For whom a sealed body is, instead of the account's own id.
    pub receive_id: Option<String>,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub events: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    CloudEvents,
    Raw,
    Original,
}

impl Forward {
    /// The name of its observer.
    pub fn observer(&self) -> String {
        format!("{}{}", crate::journal::FORWARD_PREFIX, self.name)
    }
}

impl Destination {
    /// Where it is, as it may be shown: without user, password and query.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Http(target) => shown_url(&target.url),
            Self::Queue(queue) => queue.shown().to_owned(),
        }
    }

    /// What makes it another one; it may have a secret in it.
    pub(crate) fn identity(&self) -> &str {
        match self {
            Self::Http(target) => target.url.as_str(),
            Self::Queue(queue) => queue.shown(),
        }
    }

    /// How long one attempt may take.
    pub(crate) const fn timeout(&self) -> Duration {
        match self {
            Self::Http(target) => target.timeout,
            Self::Queue(queue) => queue.timeout,
        }
    }
}

/// Every key.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().chain(target::SELECTION).chain(target::KEYS).chain(queue::KEYS)
}

/// All forwards, in the order of the file; and those with secrets that were not read.
pub(super) fn read(
    reader: &Reader<'_>,
    root: &DeTable<'_>,
    accounts: &[Account],
    guard: &Guard,
) -> (Vec<Forward>, Vec<UnreadForward>) {
    let (mut forwards, mut unread) = (Vec::new(), Vec::new());
    for (name, section) in tables::read(reader, root, "forward") {
        let forward = forward(name.clone(), &section, accounts, guard);
        match section.unread() {
            None => forwards.extend(forward),
            Some(why) => {
                let to = forward.map(|forward| forward.to.shown());
                let enabled = section.flag("enabled").unwrap_or(true);
                unread.push(UnreadForward { name, enabled, to, why: why.to_owned() });
            }
        }
    }
    (forwards, unread)
}

fn forward(name: String, section: &Section<'_>, accounts: &[Account], guard: &Guard) -> Option<Forward> {
    const RATE: &str = "how many in a time such as \"100/s\" or \"600/m\", from 1/h to 100000/s";
    section.only(&keys().collect::<Vec<_>>());
    let (patterns, condition) = target::selection(section, accounts);
    section.require("to", "where the events are sent");
    let to = section.secret("to");
    let queue = to.as_ref().filter(|to| System::of(to.expose()).is_some());
    let destination = match queue {
        Some(to) => queue::read(section, guard, to, TIMEOUT).map(Destination::Queue),
        None => {
            // Where it was not read, nobody knows what it is.
            if to.is_some() {
                queue::refuse_keys(section);
            }
            Target::read_to(section, guard, to.as_ref(), TIMEOUT).map(Destination::Http)
        }
    };
    let format = format(section, accounts, &patterns, queue.is_some());
    let order = section.choice("order", &[("none", false), ("subject", true)]);
    let concurrency = section.integer("concurrency", 1..=1000).map(values::to_usize);
    let rate = section.matching("rate", RATE, Rate::parse);
    let enabled = section.flag("enabled");
    let answers = section.flag("answers").unwrap_or(false);
    if answers && queue.is_none() && !matches!(format, None | Some(Format::Original(_))) {
        section.problem("answers", "needs `format = \"original\"`; in other formats `[[answer]]` asks a service");
    }
    let (retry, redact) = (retry(section), target::paths(section, "redact"));
    Some(Forward {
        name,
        enabled: enabled.unwrap_or(true),
        patterns,
        condition,
        to: destination?,
        format: format?,
        in_order: order.unwrap_or(false),
        concurrency: concurrency.unwrap_or(16),
        rate,
        retry: retry.unwrap_or_else(|| RETRY.map(Duration::from_secs).to_vec()),
        redact,
        answers,
        line: section.line_of("name"),
    })
}

fn retry(section: &Section<'_>) -> Option<Vec<Duration>> {
    const EXPECTED: &str = "pauses such as \"5s\", from 1ms to 7d";
    let parse = |text: &str| values::duration(text).filter(|pause| PAUSE.contains(pause));
    let pauses: Vec<Duration> = section.list("retry", EXPECTED, parse)?.into_iter().map(|(_, pause)| pause).collect();
    if pauses.len() > MAX_PAUSES {
        section.problem("retry", format!("must have {MAX_PAUSES} pauses at most"));
    }
    Some(pauses)
}

fn format(section: &Section<'_>, accounts: &[Account], patterns: &Patterns, is_queue: bool) -> Option<Format> {
    let words = [("cloudevents", Word::CloudEvents), ("raw", Word::Raw), ("original", Word::Original)];
    let word = if section.has("format") { section.choice("format", &words)? } else { Word::CloudEvents };
    let is_binary = section.choice("mode", &[("structured", false), ("binary", true)]).unwrap_or(false);
    if word != Word::CloudEvents && section.has("mode") {
        section.problem("mode", "needs `format = \"cloudevents\"`");
    }
    if is_queue && word == Word::Original {
        section.problem("format", "must be \"cloudevents\" or \"raw\": \"original\" is a request over HTTP");
        return None;
    }
    if word != Word::Original && !is_queue {
        for key in ["token", "aes_key", "receive_id"].into_iter().filter(|key| section.has(key)) {
            section.problem(key, "needs `format = \"original\"`");
        }
    }
    Some(match word {
        Word::CloudEvents if is_binary => Format::Binary,
        Word::CloudEvents => Format::Structured,
        Word::Raw => Format::Raw,
        Word::Original => Format::Original(original(section, accounts, patterns)?),
    })
}

/// Reads the keys of callbacks that are sent as the platform sends them.
pub(super) fn original(section: &Section<'_>, accounts: &[Account], patterns: &Patterns) -> Option<Original> {
    const RECEIVE_ID: &str = "the id that the application expects, up to 128 characters";
    section.require("token", "callbacks are signed with it; the application behind has the same");
    let token = section.secret("token");
    let aes_key = section.secret("aes_key");
    if let Some(Err(wrong)) = aes_key.as_ref().map(|key| EncodingKey::parse(key.expose())) {
        section.problem("aes_key", wrong.to_string());
    }
    let is_sealed = |account: &Account| account.platform.protocol().envelope().scheme == Scheme::Encrypted;
    if !section.has("aes_key") && accounts.iter().any(|it| is_sealed(it) && patterns.may_match(&it.id())) {
        section.require("aes_key", "callbacks of some of its accounts are always encrypted");
    }
    let receive_id = section.matching("receive_id", RECEIVE_ID, |text| {
        (text.len() <= 128 && !text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    Some(Original { token: token?, aes_key, receive_id })
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (events, unit) = text.split_once('/')?;
        let per = values::duration(&format!("1{unit}")).filter(|_| matches!(unit, "s" | "m" | "h"))?;
        let digits = events.bytes().all(|byte| byte.is_ascii_digit());
        let events = events.parse().ok().filter(|events: &NonZeroU32| digits && events.get() <= 100_000)?;
        Some(Self { events, per })
    }
}
