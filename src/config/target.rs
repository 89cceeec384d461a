//! Where events are sent to, and which: the keys that `[[forward]]` and `[[answer]]` share.

use std::{fmt, ops::RangeInclusive, time::Duration};

use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};
use toml::de::DeValue;

use super::{
    Account, mistakes,
    reader::{Section, kind, suggestion},
};
use crate::{
    secret::Secret,
    webhook::{Condition, Guard, PatternError, Patterns, Refused, Scalar, Signer, SigningKey, Test, shown_url},
};

/// The keys of [`Target`].
pub(super) const KEYS: [&str; 6] = ["to", "secret", "secret_previous", "headers", "proxy", "timeout"];
/// The keys of [`selection`].
pub(super) const SELECTION: [&str; 2] = ["match", "where"];

const URL: &str = "a URL such as \"https://crm.example.com/events\", http or https, without fragment";
const PROXY: &str = "the URL of a proxy such as \"http://proxy.example.com:3128\"";
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(300);
const MAX_HEADERS: usize = 64;

/// Where events are sent to. `Debug` shows no secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct Target {
    /// Its address, which may have a secret in it.
    pub(crate) url: Url,
    /// What signs what is sent.
    pub(crate) signer: Option<Signer>,
    /// Headers that are sent with it.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The proxy that it is sent through.
    pub(crate) proxy: Option<Url>,
    /// How long a request may take, its answer included.
    pub(crate) timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &shown_url(&self.url))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Reads it; `None` where it has no address, which is a problem only for those that need one. `guard` knows where the
    /// server itself will listen.
    pub(super) fn read(section: &Section<'_>, guard: &Guard, timeout: Duration) -> Option<Self> {
        Self::read_to(section, guard, section.secret("to").as_ref(), timeout)
    }

    /// The same where the address has been read.
    pub(super) fn read_to(
        section: &Section<'_>,
        guard: &Guard,
        to: Option<&Secret>,
        timeout: Duration,
    ) -> Option<Self> {
        let signer = signer(section);
        let headers = headers(section);
        let proxy = section.secret("proxy").and_then(|text| url(section, "proxy", &text, PROXY, guard));
        let timeout = section.duration("timeout", TIMEOUT).unwrap_or(timeout);
        Some(Self { url: url(section, "to", to?, URL, guard)?, signer, headers, proxy, timeout })
    }
}

fn url(section: &Section<'_>, key: &str, text: &Secret, expected: &str, guard: &Guard) -> Option<Url> {
    let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none();
    let Some(url) = Url::parse(text.expose()).ok().filter(usable) else {
        section.problem(key, format!("must be {expected}{}", mistakes::hint(text.expose())));
        return None;
    };
    guard.check_literal(&url).map_err(|refused| section.problem(key, refusal(refused))).ok()?;
    Some(url)
}

/// Why an address is refused, as it goes on after the name of its key.
pub(super) const fn refusal(refused: Refused) -> &'static str {
    match refused {
        Refused::Metadata(_) => "must not be an address where clouds serve metadata",
        Refused::Own(_) => "must not be an address where echostr itself listens",
    }
}

fn signer(section: &Section<'_>) -> Option<Signer> {
    let read = |key: &str| {
        let text: Secret = section.secret(key)?;
        let wrong = |wrong: &dyn fmt::Display| format!("{wrong}{}", mistakes::hint(text.expose()));
        SigningKey::parse(&text).map_err(|failure| section.problem(key, wrong(&failure))).ok()
    };
    let (key, previous) = (read("secret"), read("secret_previous"));
    if section.has("secret_previous") && !section.has("secret") {
        section.problem("secret_previous", "needs `secret`: it is signed with both while the key is replaced");
    }
    Some(Signer { key: key?, previous })
}

fn headers(section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    /// These say what is sent, and how.
    const OWN: [&str; 9] = [
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "host",
        "te",
        "trailer",
        "upgrade",
    ];
    let Some(table) = section.table("headers", "a table such as { \"X-Team\" = \"crm\" }") else { return Vec::new() };
    let mut headers = Vec::new();
    for (key, _) in table.entries() {
        let Ok(header) = key.parse::<HeaderName>() else {
            table.problem(key, "is not the name of a header");
            continue;
        };
        let is_own = ["webhook-", "ce-"].iter().any(|prefix| header.as_str().starts_with(prefix));
        if is_own || OWN.contains(&header.as_str()) {
            table.problem(key, "is set by echostr itself");
            continue;
        }
        let Some(text) = table.any_secret(key) else { continue };
        match HeaderValue::from_str(text.expose()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.push((header, value));
            }
            Err(_) => table.problem(key, "has characters that a header cannot have"),
        }
    }
    if headers.len() > MAX_HEADERS {
        section.problem("headers", format!("must be {MAX_HEADERS} at most"));
    }
    headers
}

/// Reads `match` and `where`: which events are meant.
pub(super) fn selection(section: &Section<'_>, accounts: &[Account]) -> (Patterns, Condition) {
    const PATTERN: &str = "an account and an event type such as \"mp/shop:mp.event.*\"";
    section.require("match", "which events are meant, such as \"mp/*\"");
    let accounts: Vec<_> = accounts.iter().map(|account| (account.platform, account.id())).collect();
    let mut patterns = Patterns::default();
    let texts = section.one_or_more("match", PATTERN);
    if texts.is_empty() && section.has("match") {
        section.problem("match", format!("must have {PATTERN}"));
    }
    for (line, text) in texts {
        let known = accounts.iter().map(|(platform, id)| (*platform, &**id));
        let wrong = match patterns.add(text, known) {
            Ok(()) => continue,
            Err(PatternError::Empty) => format!("must be {PATTERN}"),
            Err(PatternError::NoAccount { written }) => {
                let ids: Vec<&str> = accounts.iter().map(|(_, id)| &**id).collect();
                format!("matches no configured account{}", suggestion(&written, &ids))
            }
            Err(PatternError::NoType { written, types }) => {
                let families: Vec<String> = types.iter().filter_map(|it| family(it)).collect();
                let known: Vec<&str> = types.into_iter().chain(families.iter().map(|it| &**it)).collect();
                let hint = suggestion(&written, &known);
                format!("matches no event type of its accounts; `echostr catalog` lists them{hint}")
            }
        };
        section.problem_at(line, "match", &wrong);
    }
    (patterns, condition(section))
}

/// Reads `where`.
pub(super) fn condition(section: &Section<'_>) -> Condition {
    let mut condition = Condition::default();
    if let Some(table) = section.table("where", "a table such as { \"MsgType\" = \"text\" }") {
        tests(&table, &table, "", &mut condition);
    }
    condition
}

/// `mp.event.*` of `mp.event.subscribe`.
fn family(event_type: &str) -> Option<String> {
    let (family, _) = event_type.rsplit_once('.')?;
    family.contains('.').then(|| format!("{family}.*"))
}

/// The tests of a table; a path may also be written as keys in keys, as TOML has it without quotes.
fn tests(whole: &Section<'_>, table: &Section<'_>, below: &str, condition: &mut Condition) {
    const TESTS: [&str; 2] = ["prefix", "exists"];
    const EXPECTED: &str =
        "must be a text, a number, true or false, a list of these, { prefix = \"text\" } or { exists = true }";
    for (key, value) in table.entries() {
        let path = if below.is_empty() { key.to_owned() } else { format!("{below}.{key}") };
        if path.split('.').any(str::is_empty) {
            whole.problem(key, "is no path: names with dots between them");
            continue;
        }
        match value {
            DeValue::Table(inner) => {
                let Some(inside) = table.table(key, EXPECTED) else { continue };
                if !TESTS.iter().any(|test| inner.contains_key(*test)) {
                    if inner.is_empty() {
                        table.problem(key, EXPECTED);
                    }
                    tests(whole, &inside, &path, condition);
                    continue;
                }
                inside.only(&TESTS);
                let prefix = inside.matching("prefix", "a text", |text| Some(text.to_owned()));
                prefix.into_iter().for_each(|prefix| condition.add(&path, Test::Prefix(prefix)));
                inside.flag("exists").into_iter().for_each(|flag| condition.add(&path, Test::Exists(flag)));
            }
            DeValue::Array(items) => {
                let values: Option<Vec<Scalar>> = items.iter().map(|item| scalar(item.get_ref())).collect();
                match values.filter(|values| !values.is_empty()) {
                    Some(values) => condition.add(&path, Test::OneOf(values)),
                    None => table.problem(key, EXPECTED),
                }
            }
            value => match scalar(value) {
                Some(scalar) => condition.add(&path, Test::OneOf(vec![scalar])),
                None => table.problem(key, format!("{EXPECTED}, not {}", kind(value))),
            },
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<Scalar> {
    Some(match value {
        DeValue::String(text) => Scalar::Text(text.clone().into_owned()),
        DeValue::Integer(number) => Scalar::Int(i64::from_str_radix(number.as_str(), number.radix()).ok()?),
        DeValue::Float(number) => Scalar::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(flag) => Scalar::Bool(*flag),
        _ => return None,
    })
}

/// Paths of fields, as lists of their names.
pub(super) fn paths(section: &Section<'_>, key: &str) -> Vec<Vec<String>> {
    let parse = |text: &str| {
        let path: Vec<String> = text.split('.').map(str::to_owned).collect();
        path.iter().all(|name| !name.is_empty()).then_some(path)
    };
    let read = section.list(key, "paths such as \"MsgBody.MsgContent.Text\"", parse).unwrap_or_default();
    read.into_iter().map(|(_, path)| path).collect()
}
