//! `echostr check`.

use std::{io, process::ExitCode, sync::Arc};

use super::{BuildHooks, ConfigArgument, Done};
use crate::{
    api::{Api, ApiError, Apis},
    clock::Clock,
    config::{Account, Config, JournalUrl, Source, SourceCheck, Target, find_config},
    demo,
    forward::Outlet,
    journal::{
        self, FORWARD_PREFIX, INTERNAL_PREFIX, Journal, JournalError, Observer, ObserverState, Options, Usable,
        memory::MemoryJournal,
    },
    log::{self, escape},
    metrics::Metrics,
    platform::Probe,
    server::{self, trial},
    source::AddressList,
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
    /// Also set up the handlers of the program, which may connect to what they need, and check what the configuration has for
    /// them
    #[arg(long)]
    handlers: bool,
}

pub(super) fn run(Arguments { config, online, handlers }: &Arguments, hooks: BuildHooks<'_>) -> Done {
    let path = find_config(config.config.as_deref())?;
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let (mut problems, mut notices): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    problems.extend(log::filter(&config.log.level).err().map(|problem| escape(&problem.to_string()).into_owned()));
    // Handlers that are set up may spawn tasks.
    let runtime = tokio::runtime::Runtime::new()?;
    let hooks = match handlers {
        true => runtime.block_on(super::hooks(&config, hooks)),
        false => demo::hooks(&config).map(Option::unwrap_or_default).map_err(Into::into),
    };
    let hooks = hooks.map_err(|problem| problems.push(problem.to_string())).ok();
    // What a server would stop at is found as a server would find it.
    let observers = hooks.and_then(|hooks| {
        let started = runtime.block_on(trial::start(&config, hooks, *handlers));
        started.map_err(|problem| problems.push(problem.to_string())).ok()
    });
    if let Some(folder) = &config.server.files
        && let Err(failure) = std::fs::read_dir(folder)
    {
        problems.push(format!("[server] files: cannot read {}: {failure}", folder.display()));
    }
    let journal = runtime.block_on(journal::usable(&config.journal));
    let in_use = journal == Ok(Usable::InUse);
    match journal {
        Ok(Usable::Yes) => {}
        Ok(Usable::InUse) => notices.push(format!("[journal] {STOP}: it uses the journal")),
        Ok(Usable::Unreachable(failure)) if !online => notices.push(format!(
            "{}; a server starts all the same, and answers 503 until it can be reached",
            in_journal(&failure)
        )),
        Ok(Usable::Unreachable(failure)) | Err(failure) => problems.push(in_journal(&failure)),
    }
    check_addresses(&config, in_use, &mut problems, &mut notices);
    if let Some(observers) = observers {
        // What is not there, or cannot be reached, has been reported.
        notices.extend(runtime.block_on(unregistered(&config, &observers, *handlers)).unwrap_or_default());
    }
    if *online {
        problems.extend(runtime.block_on(ask_platforms(&config))?);
        problems.extend(runtime.block_on(reach_targets(&config)));
    }
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    notices.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if *handlers {
        super::unread_handlers(&config).for_each(|warning| eprintln!("warning: {}: {warning}", path.display()));
    }
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
        println!("{}: {}", account.id(), account.receives());
    }
    if !handlers {
        println!("handlers are not set up; `check --handlers` does it, and checks [handlers] and [observers] by them");
    }
    println!("{}: no problem", path.display());
    Ok(ExitCode::SUCCESS)
}

fn in_journal(problem: &JournalError) -> String {
    format!("[journal] {}", escape(&problem.to_string()))
}

/// What somebody has to do before the server that was checked can start.
const STOP: &str = "an echostr runs, and has to stop before another one starts";

/// Whether a server could listen on its addresses. One that runs already has them, and is no problem.
fn check_addresses(config: &Config, in_use: bool, problems: &mut Vec<String>, notices: &mut Vec<String>) {
    // Of a file it is known whether a server runs on it.
    let may_be_own = in_use || !matches!(config.journal.url, JournalUrl::Sqlite(_));
    let addresses = [("[server] listen", config.server.listen, false), ("[admin] listen", config.admin.listen, true)];
    for (section, address, is_admin) in addresses {
        let Err(failure) = trial::bind(address) else { continue };
        let is_taken = failure.kind() == io::ErrorKind::AddrInUse;
        if is_taken && may_be_own && trial::is_echostr(address, is_admin) {
            notices.push(format!("{section}: {STOP}: it listens on {address}"));
        } else {
            problems.push(server::cannot_listen(address, section, &failure));
        }
    }
}

/// A warning for each observer of the journal that a server with this configuration and these handlers would not have; of
/// the server's own alone if the handlers are not those of the program.
async fn unregistered(config: &Config, wanted: &[Observer], has_handlers: bool) -> Result<Vec<String>, JournalError> {
    // One that is not there yet, or in memory, has no observers.
    let Ok(archive) = journal::open_archive(&config.journal) else { return Ok(Vec::new()) };
    let is_missing = |it: &ObserverState| wanted.iter().all(|observer| *observer.name != *it.name);
    let is_known = |it: &ObserverState| has_handlers || is_reserved(&it.name);
    let missing = archive.observer_states().await?.into_iter().filter(|it| is_known(it) && is_missing(it));
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

/// Whether no handler's observer can have this name.
fn is_reserved(name: &str) -> bool {
    [INTERNAL_PREFIX, FORWARD_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// Checks each account that has a secret against its platform; prints successes, returns failures.
async fn ask_platforms(config: &Config) -> Result<Vec<String>, ApiError> {
    // The tokens are for this process only: a server's stay valid, as the platforms return the same one.
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::new(&Options {
        commits: None,
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
        let needs_ticket = account.platform.protocol().api().is_some_and(|rules| rules.credential.needs_ticket());
        match apis.get(&id) {
            Some(_) if needs_ticket => println!(
                "{id}: not checked, for its access token is requested with the ticket that the platform pushes to the server that \
                 runs; /v1/accounts shows the state of it"
            ),
            Some(api) => match ask(account, api).await {
                Ok(None) => println!("{id}: the secret works"),
                Ok(Some(list)) => println!(
                    "{id}: the secret works; the platform calls from {} addresses and ranges{}",
                    list.len(),
                    match list.unreadable() {
                        0 => String::new(),
                        unreadable => format!(", and {unreadable} more that cannot be read"),
                    }
                ),
                Err((key, failure)) => {
                    problems.push(format!("[{}.{}] {key}: {}", account.platform, account.name, escape(&failure)));
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

/// A token first, then a call that only reads: WeCom checks the caller's address and permissions there. Then the list of the
/// platform's addresses, where it is used.
///
/// # Errors
/// With the key of the account that is about it.
async fn ask(account: &Account, api: &Api) -> Result<Option<AddressList>, (&'static str, String)> {
    let of_secret = |failure: ApiError| ("secret", failure.to_string());
    api.check().await.map_err(of_secret)?;
    let Some(rules) = account.platform.protocol().api() else { return Ok(None) };
    let answer = match (rules.probe, account.agent_id) {
        (Probe::Post(path, body), _) => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            api.call(path, &body).await
        }
        (Probe::GetAgent(path, _), Some(agent)) => api.get(path, &[("agentid", &agent.to_string())]).await,
        (Probe::GetAgent(_, path) | Probe::Get(path), _) => api.get(path, &[]).await,
    };
    answer.map_err(of_secret)?;
    if account.source == SourceCheck::Off {
        return Ok(None);
    }
    let answer = api.callback_ips().await.map_err(|failure| ("source", failure.to_string()))?;
    AddressList::read(&answer, journal::now_millis()).map(Some).map_err(|failure| ("source", failure.to_string()))
}
