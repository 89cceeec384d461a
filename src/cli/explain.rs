//! `echostr explain PLATFORM/ACCOUNT --url '…' [--body FILE]`.

use std::{fs, path::PathBuf, process::ExitCode};

use super::{ConfigArgument, Done, accounts};
use crate::{
    clock::Clock,
    envelope::{Query, StepResult},
    log::escape,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// The account, as in mp/shop
    account: String,
    /// The requested URL, or only its query string
    #[arg(long)]
    url: String,
    /// File with the posted body; without it the request is a GET
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let (_, endpoint) = accounts::load(&arguments.config, &arguments.account)?;
    let body = match &arguments.body {
        Some(path) => Some(fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => None,
    };
    let url = arguments.url.split('#').next().unwrap_or_default();
    let query = url.split_once('?').map_or(url, |(_, query)| query);
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(refusal) => {
            println!("✗ query: {}", escape(&refusal.to_string()));
            return Ok(ExitCode::FAILURE);
        }
    };
    let steps = endpoint.keys.explain(&query, body.as_deref(), Clock::system().now());
    for step in &steps {
        let mark = if step.result == StepResult::Passed { '✓' } else { '✗' };
        println!("{mark} {}: {}", step.name, escape(&step.detail));
    }
    if steps.iter().any(|step| step.result == StepResult::Failed) {
        return Ok(ExitCode::FAILURE);
    }
    println!("the account accepts this request");
    Ok(ExitCode::SUCCESS)
}
