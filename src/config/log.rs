//! `[log]`: what is written to standard error, and how.

use toml::de::DeTable;
use tracing_subscriber::EnvFilter;

use super::reader::{self, Reader};

pub(super) const KEYS: &[&str] = &["format", "level"];

/// `[log]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Log {
    /// `text` for people (the default), `json` for a collector.
    pub format: LogFormat,
    /// Filter in the form of `tracing_subscriber`, known to parse; `info`.
    pub level: String,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Log {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        const LEVEL: &str = "a level (off, error, warn, info, debug, trace) or a filter such as \"info,echostr=debug\"";
        let section = reader.section(root, "log", KEYS);
        let format = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let level = section.parsed("level", LEVEL, |text| match filter(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(hint) => Err(format!("{LEVEL}{hint}")),
        });
        Self { format: format.unwrap_or(LogFormat::Text), level: level.unwrap_or_else(|| "info".to_owned()) }
    }
}

/// Checks a filter; the error is a hint to append.
fn filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        // The filter takes a misspelt level for the name of a module, and shows nothing.
        let word = !directive.contains(['=', '[', '{', '}']);
        if word && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive)) {
            return Err(reader::suggestion(directive, &LEVELS));
        }
    }
    EnvFilter::builder().parse(text).map(drop).map_err(|_| String::new())
}
