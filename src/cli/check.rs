//! `echostr check`.

use std::process::ExitCode;

use super::{ConfigArgument, Done, runtime};
use crate::{
    config::{Config, find_config},
    handlers, journal,
    metrics::Metrics,
    receiver::Endpoint,
};

pub(super) fn run(arguments: &ConfigArgument) -> Done {
    let path = find_config(arguments.config.as_deref())?;
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut problems: Vec<String> = Vec::new();
    problems.extend(handlers::hooks(&config).err().map(|problem| problem.to_string()));
    for account in &config.accounts {
        let endpoint = Endpoint::new(account.clone(), &Metrics::new());
        problems.extend(endpoint.err().map(|problem| format!("[{}] aes_key: {problem}", account.id())));
    }
    let journal = runtime()?.block_on(journal::check(&config.journal));
    problems.extend(journal.err().map(|problem| format!("[journal] {problem}")));
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    for name in config.handler_names().filter(|name| !handlers::NAMES.contains(name)) {
        eprintln!("warning: {}: [handlers.{name}]: no handler reads this table", path.display());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    for account in &config.accounts {
        println!("{} is received at {}", account.id(), account.path);
    }
    println!("{}: no problem", path.display());
    Ok(ExitCode::SUCCESS)
}
