//! `echostr forwards`: which there are, how they do, the end of a pause, and one event to try a target with.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use serde_json::json;
use uuid::Uuid;

use super::{ConfigArgument, Done, archive::print_time, runtime, simulate::find_event};
use crate::{
    catalog::{self, Entry},
    clock::Clock,
    config::{Account, Config, Forward, find_config, suggestion},
    forward::{self, Formatter, Outlet, Paused, lease_name},
    journal::{self, Archive, ObserverState},
    log::{escape, escape_json, escape_lines},
    platform::Platform,
    simulate::Push,
    webhook::Guard,
};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Ends the pause of a forward whose target answered 410; what waits is sent
    Resume {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the forward
        name: String,
    },
    /// Sends one sample event to the target of a forward, once, and prints what it answers
    Test {
        #[command(flatten)]
        config: ConfigArgument,
        /// Name of the forward
        name: String,
        /// Event type, as for simulate [default: the first that the forward matches and that has a sample]
        event: Option<String>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Done {
    match &arguments.command {
        None => runtime()?.block_on(list(&load(&arguments.config)?, arguments.json)),
        Some(Command::Resume { config, name }) => runtime()?.block_on(resume(&load(config)?, name)),
        Some(Command::Test { config, name, event }) => {
            runtime()?.block_on(test(&load(config)?, name, event.as_deref()))
        }
    }
}

fn load(config: &ConfigArgument) -> Result<Config, Box<dyn Error>> {
    Ok(Config::load(&find_config(config.config.as_deref())?)?)
}

fn find<'c>(config: &'c Config, name: &str) -> Result<&'c Forward, String> {
    let known: Vec<&str> = config.forwards.iter().map(|forward| &*forward.name).collect();
    let found = config.forwards.iter().find(|forward| forward.name == name);
    found.ok_or_else(|| format!("no [[forward]] is called `{name}`{}", suggestion(name, &known)))
}

/// What the journal has of a forward.
#[derive(Debug, Default)]
struct InJournal {
    observer: Option<ObserverState>,
    paused: Option<Paused>,
}

async fn list(config: &Config, json: bool) -> Done {
    // One in memory is its server's alone.
    let archive = journal::open_archive(&config.journal);
    let states = match &archive {
        Ok(archive) => archive.observer_states().await?,
        Err(_) => Vec::new(),
    };
    let mut out = io::BufWriter::new(io::stdout());
    if !json {
        writeln!(out, "{:<24} {:>8} {:>8}  {:<10} to", "forward", "pending", "dead", "state")?;
    }
    for forward in &config.forwards {
        let mut known =
            InJournal { observer: states.iter().find(|it| it.name == forward.observer()).cloned(), paused: None };
        if let Ok(archive) = &archive {
            let value = archive.lease_value(&lease_name(&forward.name)).await?;
            known.paused = value.and_then(|value| Paused::read(&value, forward.to.identity()));
        }
        writeln!(out, "{}", line(forward, &known, json))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(forward: &Forward, InJournal { observer, paused }: &InJournal, as_json: bool) -> String {
    let state = match paused {
        _ if !forward.enabled => "disabled",
        Some(_) => "paused",
        None => "enabled",
    };
    let (pending, dead) = (observer.as_ref().map(|it| it.pending), observer.as_ref().map(|it| it.dead));
    let (to, why) = (forward.to.shown(), paused.as_ref().map(|paused| paused.why.as_str()));
    let since = paused.as_ref().map(|paused| print_time(paused.since));
    if as_json {
        let line = json!({
            "forward": forward.name, "to": to, "state": state, "why": why, "since": since, "pending": pending, "dead": dead,
        });
        return escape_json(&line.to_string()).into_owned();
    }
    let count = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let because = match (since, why) {
        (Some(since), Some(why)) => format!("  since {since}: {why}"),
        _ => String::new(),
    };
    let line = format!("{:<24} {:>8} {:>8}  {state:<10} {to}{because}", forward.name, count(pending), count(dead));
    escape(&line).into_owned()
}

async fn resume(config: &Config, name: &str) -> Done {
    let forward = find(config, name)?;
    let archive: Box<dyn Archive> = journal::open_archive(&config.journal)?;
    if archive.clear_lease(&lease_name(&forward.name)).await? {
        println!("{name}: resumed; a server that runs goes on within a second");
    } else {
        println!("{name}: is not paused");
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(config: &Config, name: &str, event: Option<&str>) -> Done {
    let forward = find(config, name)?;
    let (account, entry) = choose(config, forward, event)?;
    let now = Clock::system().now();
    let push = Push::sample(&entry, None, &[], now)?;
    let (id, record) = (Uuid::now_v7(), forward::sample(account, push, now.saturating_mul(1000)));
    let formatter = Formatter::new(&forward.format, &forward.redact, &config.accounts);
    let guard = Guard::default();
    guard.protect([config.server.listen, config.admin.listen]);
    let outlet = Outlet::new(&forward.to, forward.concurrency, &guard)?;
    let content = formatter.content(&record, id, now)?;
    let (to, size) = (forward.to.shown(), content.body.len());
    println!("→ {} of {} to {to}, {size} bytes, id {id}", entry.id, account.id());
    let begun = Instant::now();
    let client = match outlet {
        Outlet::Http(client) => client,
        Outlet::Queue(publisher) => {
            let published = publisher.publish(&formatter, &record, id, now).await;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            return Ok(match published {
                Ok(()) => {
                    println!("← confirmed in {took:.1} ms: delivered");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    println!("← not confirmed in {took:.1} ms: {}", escape(&error.text));
                    ExitCode::FAILURE
                }
            });
        }
    };
    let mut received = forward::send(&client, &id.to_string(), now, content).await?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    if received.is_success() {
        let (body, _) = received.start_of_body(4096).await?;
        println!("← {} in {took:.1} ms: delivered", received.status());
        if !body.is_empty() {
            println!("{}", escape_lines(&String::from_utf8_lossy(&body)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    println!("← {} in {took:.1} ms: {}", received.status(), forward::describe(&mut received).await);
    Ok(ExitCode::FAILURE)
}

/// An account and an event that the forward matches, with a sample.
fn choose<'c>(
    config: &'c Config,
    forward: &Forward,
    event: Option<&str>,
) -> Result<(&'c Account, Entry), Box<dyn Error>> {
    let mut why: Option<Box<dyn Error>> = None;
    for account in config.accounts.iter().filter(|account| forward.patterns.may_match(&account.id())) {
        let id = account.id();
        if let Some(event) = event {
            match find_event(account.platform, event) {
                Ok(entry) if forward.patterns.matches(&id, &entry.id) => return Ok((account, entry)),
                Ok(entry) => why = Some(format!("`match` of {} leaves out {} of {id}", forward.name, entry.id).into()),
                Err(error) => why = why.or(Some(error)),
            }
            continue;
        }
        let others = account.platform.protocol().receives_of().iter().copied();
        for platform in std::iter::once(account.platform).chain(others) {
            let found = entries(platform)?.find(|entry| forward.patterns.matches(&id, &entry.id));
            if let Some(entry) = found {
                return Ok((account, entry));
            }
        }
    }
    Err(why.unwrap_or_else(|| "no event that it matches has a sample".into()))
}

fn entries(platform: Platform) -> Result<impl Iterator<Item = Entry>, Box<dyn Error>> {
    use crate::payload::Form;
    let has_sample = |entry: &Entry| [Form::Xml, Form::Json].iter().any(|form| catalog::sample(entry, *form).is_some());
    Ok(catalog::entries(platform)?.into_iter().filter(has_sample))
}
