//! Your handlers. This folder is a fork's own: upstream does not change it, so merges stay clean.
//!
//! It belongs to the program and not to the library, so that a changed handler is rebuilt in seconds. A file per concern stands
//! beside this one; `docs/handlers.md` shows how a handler is written.

use echostr::{
    config::Config,
    hooks::{HandlerError, Hooks},
};

/// Every handler of this server.
///
/// Add yours here: `Ok(Hooks::default().on(…).observe("name", …).merge(shop::hooks()))`. The server takes care of signatures, repeats,
/// deadlines and panics. This runs inside the runtime when the server starts: connect to a database here, and give the connection
/// to handlers with `Hooks::with`.
///
/// # Errors
/// When the settings of a handler, `config.handler("NAME")?` for `[handlers.NAME]`, are wrong, or what it needs is not there.
pub async fn hooks(_config: &Config) -> Result<Hooks, HandlerError> {
    Ok(Hooks::default())
}
