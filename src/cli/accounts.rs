//! Accounts for commands that act towards one.

use std::error::Error;

use super::{ConfigArgument, names};
use crate::{
    config::{Account, Config, Needs, find_config},
    delivery::Endpoint,
    metrics::Metrics,
};

/// What `demo` serves.
pub(super) const DEMO: &str = include_str!("../../config/demo.toml");

/// The configuration and the account called `id` in it. Where no file was named, an account that the usual file does
/// not have may be one of `demo`, which is printed.
pub(super) fn load(arguments: &ConfigArgument, id: &str) -> Result<(Config, Endpoint), Box<dyn Error>> {
    load_for(arguments, id, Needs::NONE)
}

/// The same with more secrets than those of this account.
pub(super) fn load_for(
    arguments: &ConfigArgument,
    id: &str,
    needs: Needs<'_>,
) -> Result<(Config, Endpoint), Box<dyn Error>> {
    let config = match find_config(arguments.config.as_deref()) {
        Ok(path) => Config::load_for(&path, needs.with_account(id))?,
        Err(_) if arguments.config.is_none() => demo()?,
        Err(error) => return Err(error.into()),
    };
    let demo = demo()?;
    let config = match config.account(id) {
        None if arguments.config.is_none() && demo.account(id).is_some() => {
            eprintln!("using {id} of `echostr demo`: no configuration has such an account");
            demo
        }
        _ => config,
    };
    let endpoint = endpoint(&config, id)?;
    match &endpoint.account.websocket {
        None => Ok((config, endpoint)),
        Some(_) => {
            Err(format!("{id} receives over a WebSocket: there are no requests to it, and its address is not checked")
                .into())
        }
    }
}

/// The configuration of `demo`.
pub(super) fn demo() -> Result<Config, Box<dyn Error>> {
    Ok(Config::parse(DEMO, "demo", |name| std::env::var(name))?)
}

/// The account called `id`.
pub(super) fn endpoint(config: &Config, id: &str) -> Result<Endpoint, Box<dyn Error>> {
    let account = config.account(id).ok_or_else(|| {
        let known: Vec<_> = config.known_accounts().map(Account::id).collect();
        format!("{} (accounts of {})", names::unknown_account(id, &known), config.origin())
    })?;
    Ok(Endpoint::new(account.clone(), &Metrics::new())?)
}
