//! The handlers of this fork, which may use the dependencies of its own Cargo.toml.

use echostr::{
    config::Config,
    hooks::{HandlerError, Hooks},
};

pub async fn hooks(_config: &Config) -> Result<Hooks, HandlerError> {
    Ok(Hooks::default())
}
