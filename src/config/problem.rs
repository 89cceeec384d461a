//! What is wrong with a configuration, reported so that it can be fixed.

use std::{fmt, sync::Arc};

/// One error, or one of [`Config::warnings`](super::Config::warnings).
///
/// Printed as `config/echostr.toml:12: [mp.shop] unknown key ...`. The text names keys, never values: a secret in the
/// wrong place must not reach a log either.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// File, or another name of the text, as the user gave it.
    pub origin: Arc<str>,
    /// Line in it, from 1; absent where the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong and, if known, what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.origin, self.text),
            None => write!(f, "{}: {}", self.origin, self.text),
        }
    }
}

/// A configuration that cannot be used: every problem found, in the order of the file.
///
/// The user is at fault, and nothing was started. `Display` prints a problem on each line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
#[non_exhaustive]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn one(origin: &str, line: Option<usize>, text: String) -> Self {
        Self { problems: vec![Problem { origin: origin.into(), line, text }] }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
