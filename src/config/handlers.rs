//! `[handlers.NAME]`: settings of handlers, which only they understand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde::de::DeserializeOwned;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{
    Config, ConfigError,
    reader::{Lines, Reader, kind, name},
};

/// A table, and whether a handler has read it. Clones of a configuration share that.
pub(super) type Table = (String, Arc<AtomicBool>);

/// The tables.
pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Vec<Table> {
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
    handlers.keys().map(|at| (at.get_ref().clone().into_owned(), Arc::default())).collect()
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
        if let Some((_, is_read)) = self.handlers.iter().find(|(known, _)| known == name) {
            is_read.store(true, Ordering::Relaxed);
        }
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

    /// Names of the `[handlers.NAME]` tables that no handler has [read](Config::handler) so far: worth a warning once every
    /// handler is registered.
    pub fn unread_handlers(&self) -> Vec<&str> {
        let unread = self.handlers.iter().filter(|(_, is_read)| !is_read.load(Ordering::Relaxed));
        unread.map(|(name, _)| name.as_str()).collect()
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
