//! Accounts for commands that act towards one.

use std::error::Error;

use super::ConfigArgument;
use crate::{
    config::{Config, find_config},
    metrics::Metrics,
    receiver::Endpoint,
};

/// What `demo` serves.
pub(super) const DEMO: &str = include_str!("../../config/demo.toml");

/// The configuration of the arguments; without any, the one of `demo`, and the user is told.
pub(super) fn load(arguments: &ConfigArgument) -> Result<Config, Box<dyn Error>> {
    match find_config(arguments.config.as_deref()) {
        Ok(path) => Ok(Config::load(&path)?),
        Err(_) if arguments.config.is_none() => {
            eprintln!("no configuration file found: taking the accounts of `echostr demo`");
            demo()
        }
        Err(error) => Err(error.into()),
    }
}

/// The configuration of `demo`.
pub(super) fn demo() -> Result<Config, Box<dyn Error>> {
    Ok(Config::parse(DEMO, "demo", |name| std::env::var(name))?)
}

/// The account called `id`.
pub(super) fn endpoint(config: &Config, id: &str) -> Result<Endpoint, Box<dyn Error>> {
    let account = config.account(id).ok_or_else(|| {
        let known: Vec<_> = config.accounts.iter().map(crate::config::Account::id).collect();
        format!("no account `{id}` in {}; there are {}", config.origin(), known.join(", "))
    })?;
    Ok(Endpoint::new(account.clone(), &Metrics::new())?)
}
