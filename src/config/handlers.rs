//! `[handlers.NAME]`: settings of handlers, which only they understand.

use serde::de::DeserializeOwned;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{
    Config, ConfigError,
    reader::{Lines, Reader, kind, name},
};

/// Names of the tables.
pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Vec<String> {
    let Some((at, value)) = root.get_key_value("handlers") else { return Vec::new() };
    let DeValue::Table(handlers) = value.get_ref() else {
        reader.problem(Some(reader.line(at)), format!("`handlers` must be a table, not {}", kind(value.get_ref())));
        return Vec::new();
    };
    for (at, value) in handlers {
        if !value.get_ref().is_table() {
            let text = format!("[handlers] {} must be a table: [handlers.NAME]", name(at.get_ref()));
            reader.problem(Some(reader.line(at)), text);
        }
    }
    handlers.keys().map(|at| at.get_ref().clone().into_owned()).collect()
}

impl Config {
    /// Settings of the handler `name`, absent when the file has no table `[handlers.NAME]`.
    ///
    /// `T` does well to `deny_unknown_fields`, and to read its secrets with [`secret`](super::secret). `toml::Table`
    /// takes anything.
    ///
    /// # Errors
    ///
    /// The table is not a `T`. The message has line and key; values are left out of it, unless `T` has its own.
    pub fn handler<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        let source = self.source.expose();
        let wrong = |error: &toml::de::Error, at: usize| {
            let line = Lines::new(source).of(error.span().map_or(at, |span| span.start));
            ConfigError::one(&self.origin, Some(line), format!("[handlers.{name}] {}", without_value(error.message())))
        };
        let root = DeTable::parse(source).map_err(|error| wrong(&error, 0))?;
        let found = root.get_ref().get("handlers").and_then(|value| value.get_ref().get(name));
        let Some((table, span)) = found.and_then(|value| Some((value.get_ref().as_table()?, value.span()))) else {
            return Ok(None);
        };
        let deserializer = Deserializer::from(Spanned::new(span.clone(), table.clone()));
        T::deserialize(deserializer).map(Some).map_err(|error| wrong(&error, span.start))
    }

    /// Names of the `[handlers.NAME]` tables: a name that no handler claims is worth a warning.
    pub fn handler_names(&self) -> impl Iterator<Item = &str> {
        self.handlers.iter().map(String::as_str)
    }
}

/// Serde's messages quote the value they complain about.
fn without_value(message: &str) -> String {
    for kind in ["invalid type", "invalid value", "unknown variant"] {
        if message.starts_with(kind) {
            let expected = message.rfind(", expected ").map_or("", |at| &message[at..]);
            return format!("{kind}{expected}");
        }
    }
    message.to_owned()
}
