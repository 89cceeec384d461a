//! `[observers]`: how often and how long an event is offered to an observer that fails, and `[observers.NAME]`, what one
//! observer has instead.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use toml::de::{DeTable, DeValue};

use super::{
    Config, ConfigError, Problem,
    reader::{Reader, Section, name, suggestion},
    values,
};
use crate::journal::FORWARD_PREFIX;

pub(super) const KEYS: &[&str] = &["max_attempts", "backoff", "timeout", "concurrency"];

/// `[observers]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observers {
    /// Attempts before an event is a dead letter; 12.
    pub max_attempts: u32,
    /// Pauses between them; 1 second to 10 minutes.
    pub backoff: Backoff,
    /// How long an attempt may take before it counts as failed; 1 minute.
    pub timeout: Duration,
    /// How many events an observer is given at one time; 32.
    pub concurrency: usize,
    /// `[observers.NAME]`: what one has instead.
    by_name: HashMap<String, Named>,
}

/// What one observer has, and where that is in the file.
#[derive(Clone, Debug, Default)]
struct Named {
    policy: Policy,
    line: Option<usize>,
}

/// What one observer has instead of the settings of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Attempts before an event is a dead letter.
    pub max_attempts: Option<u32>,
    /// Pauses between them.
    pub backoff: Option<Backoff>,
    /// How long an attempt may take before it counts as failed.
    pub timeout: Option<Duration>,
    /// How many events it is given at one time.
    pub concurrency: Option<usize>,
}

/// Pauses that double from `first` until they are `longest`; who waits adds the jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
}

impl Backoff {
    /// Pauses that are usable: none is 0, none longer than a day.
    pub(crate) fn of(first: Duration, longest: Duration) -> Option<Self> {
        let usable = !first.is_zero() && first <= longest && longest <= Duration::from_secs(86_400);
        usable.then_some(Self { first, longest })
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, longest) = text.split_once("..")?;
        Self::of(values::duration(first)?, values::duration(longest)?)
    }
}

impl Policy {
    pub(crate) const MAX_ATTEMPTS: RangeInclusive<u32> = 1..=1000;
    pub(crate) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
    pub(crate) const CONCURRENCY: RangeInclusive<usize> = 1..=10_000;

    fn read(section: &Section<'_>) -> Self {
        const BACKOFF: &str = "two durations such as \"1s..10m\", the shorter one first, more than 0 and at most 1d";
        let (least, most) = (u64::from(*Self::MAX_ATTEMPTS.start()), u64::from(*Self::MAX_ATTEMPTS.end()));
        let attempts = section.integer("max_attempts", least..=most);
        let (fewest, highest) = (*Self::CONCURRENCY.start() as u64, *Self::CONCURRENCY.end() as u64);
        Self {
            max_attempts: attempts.and_then(|number| u32::try_from(number).ok()),
            backoff: section.matching("backoff", BACKOFF, Backoff::parse),
            timeout: section.duration("timeout", Self::TIMEOUT),
            concurrency: section.integer("concurrency", fewest..=highest).map(values::to_usize),
        }
    }

    /// This, and where it says nothing another.
    fn or(&self, other: &Self) -> Self {
        Self {
            max_attempts: self.max_attempts.or(other.max_attempts),
            backoff: self.backoff.or(other.backoff),
            timeout: self.timeout.or(other.timeout),
            concurrency: self.concurrency.or(other.concurrency),
        }
    }
}

impl Observers {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        let table = root.get("observers").and_then(|value| value.get_ref().as_table());
        let named = table.into_iter().flatten().filter_map(|(at, value)| match value.get_ref() {
            DeValue::Table(of_one) if !KEYS.contains(&&**at.get_ref()) => Some((at, of_one)),
            _ => None,
        });
        let named: Vec<_> = named.collect();
        let names = named.iter().map(|(at, _)| &**at.get_ref());
        let known: Vec<&str> = KEYS.iter().copied().chain(names).collect();
        let all = Policy::read(&reader.section(root, "observers", &known));
        let by_name = named.into_iter().map(|(at, of_one)| {
            let (name, line): (&str, _) = (at.get_ref(), reader.line(at));
            (name.to_owned(), Named { policy: read_named(reader, name, line, of_one), line: Some(line) })
        });
        Self {
            max_attempts: all.max_attempts.unwrap_or(12),
            backoff: all
                .backoff
                .unwrap_or(Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(600) }),
            timeout: all.timeout.unwrap_or(Duration::from_secs(60)),
            concurrency: all.concurrency.unwrap_or(32),
            by_name: by_name.collect(),
        }
    }

    /// With what observers have where the file says nothing of them.
    pub(crate) fn with_policies<'p>(mut self, policies: impl IntoIterator<Item = (&'p str, &'p Policy)>) -> Self {
        for (name, policy) in policies {
            let named = self.by_name.entry(name.to_owned()).or_default();
            named.policy = named.policy.or(policy);
        }
        self
    }

    /// The settings of one observer.
    pub(crate) fn of(&self, name: &str) -> Self {
        let own = self.by_name.get(name).map(|named| named.policy.clone()).unwrap_or_default();
        Self {
            max_attempts: own.max_attempts.unwrap_or(self.max_attempts),
            backoff: own.backoff.unwrap_or(self.backoff),
            timeout: own.timeout.unwrap_or(self.timeout),
            concurrency: own.concurrency.unwrap_or(self.concurrency),
            by_name: HashMap::new(),
        }
    }
}

fn read_named(reader: &Reader<'_>, name: &str, line: usize, table: &DeTable<'_>) -> Policy {
    let section = Section::new(reader, label(name), line, table);
    if name.starts_with(FORWARD_PREFIX) || name == FORWARD_PREFIX.trim_end_matches('.') {
        section.refuse("does not apply to a forward: its [[forward]] has `retry`, `timeout` and `concurrency`");
        return Policy::default();
    }
    for (at, value) in table {
        if value.get_ref().is_table() {
            let inner = format!("{name}.{}", at.get_ref());
            let text = format!("a name with a dot in it needs quotes: {}", label(&inner));
            reader.problem(Some(reader.line(at)), format!("{} {text}", label(name)));
            return Policy::default();
        }
    }
    section.only(KEYS);
    let policy = Policy::read(&section);
    if policy.timeout.is_some() && name.starts_with(crate::journal::INTERNAL_PREFIX) {
        section.problem("timeout", "of an internal observer cannot be changed");
    }
    policy
}

/// The head of the table of an observer.
fn label(of: &str) -> String {
    let is_bare = of.len() <= 40 && of.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if is_bare { format!("[observers.{of}]") } else { format!("[observers.\"{}\"]", name(of).trim_matches('`')) }
}

impl Config {
    /// Checks that every `[observers.NAME]` is of an observer that there is, or may be.
    ///
    /// # Errors
    ///
    /// One is not, with its line.
    pub(crate) fn check_observers(&self, known: &[&str], may_be: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let unknown =
            self.observers.by_name.iter().filter(|(name, _)| !known.contains(&name.as_str()) && !may_be(name));
        let mut problems: Vec<_> = unknown
            .map(|(name, Named { line, .. })| {
                let text = format!("{} no observer has this name{}", label(name), suggestion(name, known));
                Problem { origin: self.origin.clone(), line: *line, text }
            })
            .collect();
        problems.sort_by_key(|problem| problem.line);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}
