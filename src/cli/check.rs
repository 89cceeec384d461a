//! `echostr check`.

use std::{process::ExitCode, sync::Arc};

use serde_json::json;

use super::{ConfigArgument, Done, runtime};
use crate::{
    api::{Api, ApiError, Apis},
    config::{Account, Config, find_config},
    event::Platform,
    handlers,
    journal::{self, Journal, Options, memory::MemoryJournal},
    log::escape,
    metrics::Metrics,
    receiver::Endpoint,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Also asks the platforms whether the secret of each account works, from this machine
    #[arg(long)]
    online: bool,
}

pub(super) fn run(Arguments { config, online }: &Arguments) -> Done {
    let path = find_config(config.config.as_deref())?;
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
    let runtime = runtime()?;
    let journal = runtime.block_on(journal::check(&config.journal));
    problems.extend(journal.err().map(|problem| format!("[journal] {}", escape(&problem.to_string()))));
    if *online {
        problems.extend(runtime.block_on(ask_platforms(&config))?);
    }
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

/// Asks the platform of each account that has a secret; says what works, and gives what does not.
async fn ask_platforms(config: &Config) -> Result<Vec<String>, ApiError> {
    // The tokens are for this process only: a server's are not touched, for the platforms give the same one.
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(&Options {
        retention: config.journal.retention,
        max_size: 1 << 20,
        observers: Vec::new(),
    }));
    let apis = Apis::new(config, &journal, &Metrics::new())?;
    let mut problems = Vec::new();
    for account in &config.accounts {
        let id = account.id();
        match apis.get(&id) {
            Some(api) => match ask(account, api).await {
                Ok(()) => println!("{id}: the secret works"),
                Err(failure) => {
                    let failure = failure.to_string();
                    problems.push(format!("[{}.{}] secret: {}", account.platform, account.name, escape(&failure)));
                }
            },
            None if account.platform == Platform::Im => {}
            None => println!("{id}: no `secret`, nothing to ask"),
        }
    }
    Ok(problems)
}

/// A token first, then a call that only reads: WeCom looks at the caller's address and permissions there.
async fn ask(account: &Account, api: &Api) -> Result<(), ApiError> {
    api.check().await?;
    match (account.platform, account.agent_id) {
        (Platform::WeComKf, _) => api.call("cgi-bin/kf/account/list", &json!({ "offset": 0, "limit": 1 })).await,
        (Platform::WeCom, Some(agent)) => api.get("cgi-bin/agent/get", &[("agentid", &agent.to_string())]).await,
        _ => api.get("cgi-bin/getcallbackip", &[]).await,
    }
    .map(drop)
}
