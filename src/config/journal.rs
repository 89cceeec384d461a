//! `[journal]`: where events, replies and the state of observers live.

use std::{fmt, path::PathBuf, time::Duration};

use toml::de::DeTable;

use super::{mistakes, reader::Reader};
use crate::secret::Secret;

pub(super) const KEYS: &[&str] = &["url", "retention", "max_size", "memory_limit"];

const URL: &str = "\"sqlite://PATH\", \"postgres://USER@HOST/DATABASE\" or \"memory:\"";

/// `[journal]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Journal {
    /// Where it is; `sqlite://data/echostr.db`.
    pub url: JournalUrl,
    /// How long events are kept; 7 days.
    pub retention: Duration,
    /// How large it may get, in bytes; 10 GiB. Above it the oldest events are removed earlier, but none that observers
    /// need: when only these are left, deliveries are refused with 503. A `memory:` journal ignores it.
    pub max_size: u64,
    /// What a `memory:` journal may hold, in bytes; 64 MiB. Other journals ignore it.
    pub memory_limit: usize,
}

/// The `url` of the journal.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalUrl {
    /// `memory:` - lost when the process ends.
    Memory,
    /// `sqlite://PATH`; a relative path starts at the working directory.
    Sqlite(PathBuf),
    /// `postgres://...`, whole; a secret, as it may have a password in it.
    Postgres(Secret),
    /// There is one, which was not read: whoever read the configuration needs no journal.
    Unread,
}

impl JournalUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or_default();
            let hint =
                if path.is_empty() { "; a journal in memory is \"memory:\"" } else { "; the path cannot have `?`" };
            let usable = !path.is_empty() && path != ":memory:" && !path.contains(['?', '#', '\0']);
            return if usable { Ok(Self::Sqlite(path.into())) } else { Err(hint) };
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match rest {
            Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
                Ok(Self::Postgres(Secret::new(text)))
            }
            _ => Err(""),
        }
    }
}

impl fmt::Debug for JournalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres://…"),
            Self::Unread => f.write_str("…"),
        }
    }
}

impl Journal {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        let section = reader.section(root, "journal", KEYS);
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let parse = |text: Secret| {
            let url = JournalUrl::parse(text.expose());
            let hint = |hint: &str| if hint.is_empty() { mistakes::hint(text.expose()) } else { hint.to_owned() };
            url.map_err(|wrong| section.problem("url", format!("must be {URL}{}", hint(wrong)))).ok()
        };
        let url = section.secret("url").and_then(parse);
        let url = url.unwrap_or_else(|| match section.unread() {
            Some(_) => JournalUrl::Unread,
            None => JournalUrl::Sqlite("data/echostr.db".into()),
        });
        if url == JournalUrl::Memory {
            section.warning("url", "`url` is \"memory:\": what was acknowledged is lost when the process ends");
        }
        Self {
            url,
            retention: section.duration("retention", Duration::from_secs(60)..=days(3650)).unwrap_or(days(7)),
            max_size: section.size("max_size", 1 << 20..=1 << 50).unwrap_or(10 << 30),
            memory_limit: section.size("memory_limit", 1 << 20..=1 << 40).map_or(64 << 20, super::values::to_usize),
        }
    }
}
