//! What a fork edits: [`hooks`] registers every handler. A file per concern stands beside this one.

mod demo;

use crate::{
    config::{Config, ConfigError},
    hooks::Hooks,
};

/// Every handler of this server.
///
/// Add yours here: `Ok(hooks.on(…).observe("name", …))`. The book-keeping around them (signatures, repeats,
/// deadlines, panics) is done by the server.
///
/// # Errors
/// When the settings of a handler (`[handlers.NAME]`) are wrong.
pub fn hooks(config: &Config) -> Result<Hooks, ConfigError> {
    let mut hooks = Hooks::default();
    if let Some(settings) = config.handler("demo")? {
        hooks = hooks.merge(demo::hooks(settings));
    }
    Ok(hooks)
}

/// The `[handlers.NAME]` tables that [`hooks`] reads; any other is a mistake worth a warning.
pub const NAMES: [&str; 1] = ["demo"];
