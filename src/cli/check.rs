//! `echostr check`.

use std::{process::ExitCode, sync::Arc};

use super::{BuildHooks, ConfigArgument, Done, runtime};
use crate::{
    answers::{self, Deferred, Listeners},
    api::{Api, ApiError, Apis},
    clock::Clock,
    config::{Account, Config, Source, Target, find_config},
    delivery::Endpoint,
    forward::{Delivered, Outlet},
    hooks::Hooks,
    journal::{
        self, FORWARD_PREFIX, INTERNAL_PREFIX, Journal, JournalError, ObserverState, Options, memory::MemoryJournal,
    },
    log::escape,
    metrics::Metrics,
    platform::Probe,
    server,
    supervisor::Supervisor,
    webhook::{Client, Guard, SendError, shown_url},
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
    let hooks = super::hooks(&config, hooks).map_err(|problem| problems.push(problem.to_string())).ok();
    let hooks = hooks.and_then(|hooks| {
        let installed = answers::install(
            &config,
            hooks,
            &Guard::default(),
            &Deferred::default(),
            &Delivered::default(),
            &Listeners::default(),
        );
        installed.map_err(|problem| problems.push(problem.to_string())).ok()
    });
    let misnamed = hooks.as_ref().and_then(|hooks| server::check_observers(&config, hooks).err());
    problems.extend(misnamed.map(|problem| problem.to_string()));
    for account in &config.accounts {
        let endpoint = Endpoint::new(account.clone(), &Metrics::new());
        problems.extend(endpoint.err().map(|problem| format!("[{}] aes_key: {problem}", account.id())));
    }
    if let Some(folder) = &config.server.files
        && let Err(failure) = std::fs::read_dir(folder)
    {
        problems.push(format!("[server] files: cannot read {}: {failure}", folder.display()));
    }
    let runtime = runtime()?;
    let journal = runtime.block_on(journal::check(&config.journal));
    let mut absent = Vec::new();
    match (journal, hooks) {
        (Ok(()), Some(hooks)) => match runtime.block_on(unregistered(&config, hooks)) {
            Ok(observers) => absent = observers,
            Err(problem) => problems.push(in_journal(&problem)),
        },
        (Ok(()), None) => {}
        (Err(problem), _) => problems.push(in_journal(&problem)),
    }
    if *online {
        problems.extend(runtime.block_on(ask_platforms(&config))?);
        problems.extend(runtime.block_on(reach_targets(&config)));
    }
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    absent.iter().for_each(|warning| eprintln!("warning: {warning}"));
    super::unread_handlers(&config).for_each(|warning| eprintln!("warning: {}: {warning}", path.display()));
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    for forward in &config.forwards {
        let off = if forward.enabled { "" } else { ", but it is not enabled" };
        println!("forward {} sends to {}{off}", forward.name, forward.to.shown());
    }
    for (name, target) in services(&config) {
        println!("answer {name} asks {}", shown_url(&target.url));
    }
    for account in &config.accounts {
        println!("{} is received {}", account.id(), account.receives());
    }
    println!("{}: no problem", path.display());
    Ok(ExitCode::SUCCESS)
}

fn in_journal(problem: &JournalError) -> String {
    format!("[journal] {}", escape(&problem.to_string()))
}

/// A warning for each observer of the journal that a server with this configuration and these handlers would not have.
async fn unregistered(config: &Config, hooks: Hooks) -> Result<Vec<String>, JournalError> {
    // One that is not there yet, or in memory, has no observers.
    let Ok(archive) = journal::open_archive(&config.journal) else { return Ok(Vec::new()) };
    let wanted = server::registered_observers(config, &Arc::new(hooks));
    let is_missing = |it: &ObserverState| wanted.iter().all(|observer| *observer.name != *it.name);
    let missing = archive.observer_states().await?.into_iter().filter(is_missing);
    let warnings = missing.map(|ObserverState { name, pending, dead, .. }| {
        let name = escape(&name).into_owned();
        let needs = match &*name {
            name if name.starts_with(INTERNAL_PREFIX) => "its accounts, with their `secret`",
            name if name.starts_with(FORWARD_PREFIX) => "its [[forward]], with `enabled = true`",
            _ => "its handler",
        };
        format!(
            "[journal] observer {name} would not be registered; its {pending} pending events and {dead} dead letters would \
             be kept for `retention`: bring back {needs}, or remove it with `echostr observers rm {name}` once the \
             server runs without it"
        )
    });
    Ok(warnings.collect())
}

/// Checks each account that has a secret against its platform; prints successes, returns failures.
async fn ask_platforms(config: &Config) -> Result<Vec<String>, ApiError> {
    // The tokens are for this process only: a server's stay valid, as the platforms return the same one.
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(&Options {
        retention: config.journal.retention,
        max_size: 1 << 20,
        observers: Vec::new(),
        supervisor: Supervisor::default(),
        clock: Clock::system(),
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
            None if account.websocket.is_some() => {
                println!("{id}: not checked, for that would end the connection of a server that runs");
            }
            None if account.platform.protocol().api().is_none() => {}
            None => println!("{id}: no `secret`, not checked"),
        }
    }
    Ok(problems)
}

/// The services that are asked, without those that forwards have, too.
fn services(config: &Config) -> impl Iterator<Item = (&str, &Target)> {
    config.answers.iter().filter_map(|answer| match &answer.otherwise {
        Some(Source::Service(service)) if service.forward.is_none() => Some((&*answer.name, &service.target)),
        _ => None,
    })
}

/// Connects to each target and service, without an event; prints successes, returns failures.
async fn reach_targets(config: &Config) -> Vec<String> {
    let guard = Guard::default();
    guard.protect([config.server.listen, config.admin.listen]);
    let mut problems = Vec::new();
    let mut report = |table: &str, name: &str, reached: Result<String, SendError>| match reached {
        Ok(how) => println!("{table} {name}: its target can be reached ({how})"),
        Err(failure) => problems.push(format!("[[{table}]] {name}: to: {}", escape(&failure.to_string()))),
    };
    for forward in config.forwards.iter().filter(|forward| forward.enabled) {
        let reached = match Outlet::new(&forward.to, forward.concurrency, &guard) {
            Ok(outlet) => outlet.reach().await,
            Err(failure) => Err(failure),
        };
        report("forward", &forward.name, reached);
    }
    for (name, target) in services(config) {
        let reached = match Client::new(target, &guard) {
            Ok(client) => client.reach().await.map(|status| format!("status {status} to OPTIONS")),
            Err(failure) => Err(failure),
        };
        report("answer", name, reached);
    }
    problems
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
