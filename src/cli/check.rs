//! `echostr check`.

use std::{process::ExitCode, sync::Arc};

use super::{BuildHooks, ConfigArgument, Done, runtime};
use crate::{
    api::{Api, ApiError, Apis},
    config::{Account, Config, find_config},
    delivery::Endpoint,
    journal::{self, Journal, Options, memory::MemoryJournal},
    log::escape,
    metrics::Metrics,
    platform::Probe,
    supervisor::Supervisor,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Also call each platform to check that the account's secret works from this machine
    #[arg(long)]
    online: bool,
}

pub(super) fn run(Arguments { config, online }: &Arguments, hooks: BuildHooks<'_>) -> Done {
    let path = find_config(config.config.as_deref())?;
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut problems: Vec<String> = Vec::new();
    problems.extend(super::hooks(&config, hooks).err().map(|problem| problem.to_string()));
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
    super::unread_handlers(&config).for_each(|warning| eprintln!("warning: {}: {warning}", path.display()));
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

/// Checks each account that has a secret against its platform; prints successes, returns failures.
async fn ask_platforms(config: &Config) -> Result<Vec<String>, ApiError> {
    // The tokens are for this process only: a server's stay valid, as the platforms return the same one.
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(&Options {
        retention: config.journal.retention,
        max_size: 1 << 20,
        observers: Vec::new(),
        supervisor: Supervisor::default(),
    }));
    let apis = Apis::new(config, &journal, &Metrics::new(), &Supervisor::default())?;
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
            None if account.platform.protocol().api().is_none() => {}
            None => println!("{id}: no `secret`, not checked"),
        }
    }
    Ok(problems)
}

/// A token first, then a call that only reads: WeCom checks the caller's address and permissions there.
async fn ask(account: &Account, api: &Api) -> Result<(), ApiError> {
    api.check().await?;
    let Some(rules) = account.platform.protocol().api() else { return Ok(()) };
    match (rules.probe, account.agent_id) {
        (Probe::Post(path, body), _) => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            api.call(path, &body).await
        }
        (Probe::GetAgent(path, _), Some(agent)) => api.get(path, &[("agentid", &agent.to_string())]).await,
        (Probe::GetAgent(_, path) | Probe::Get(path), _) => api.get(path, &[]).await,
    }
    .map(drop)
}
