//! `echostr forwards`: which there are, how they do, the end of a pause, and one event to try a target with.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use serde_json::json;
use uuid::Uuid;

use super::{
    ConfigArgument, Done,
    archive::print_time,
    runtime,
    simulate::find_event,
    table::{Column, Table},
};
use crate::{
    catalog::{self, Entry},
    clock::Clock,
    config::{Account, Config, Forward, Needs, find_config, suggestion},
    forward::{self, Formatter, Outlet, Paused, lease_name},
    http,
    journal::{self, Archive, FORWARD_PREFIX, ObserverState},
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
        None => {
            let config = load(&arguments.config, Needs::JOURNAL.with_forwards())?;
            runtime()?.block_on(list(&config, arguments.json))
        }
        Some(Command::Resume { config, name }) => runtime()?.block_on(resume(&load(config, Needs::JOURNAL)?, name)),
        Some(Command::Test { config, name, event }) => {
            let config = load(config, Needs::NONE.with_forward(name))?;
            runtime()?.block_on(test(&config, name, event.as_deref()))
        }
    }
}

fn load(config: &ConfigArgument, needs: Needs<'_>) -> Result<Config, Box<dyn Error>> {
    Ok(Config::load_for(&find_config(config.config.as_deref())?, needs)?)
}

/// Names of the forwards, also of those whose secrets were not read.
fn names(config: &Config) -> Vec<&str> {
    let unread = config.unread_forwards.iter().map(|forward| &*forward.name);
    config.forwards.iter().map(|forward| &*forward.name).chain(unread).collect()
}

fn unknown(config: &Config, name: &str) -> String {
    format!("no [[forward]] is called `{name}`{}", suggestion(name, &names(config)))
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
    let table = (!json).then(|| {
        Table::new(&[
            Column::text("forward", 18, 32),
            Column::number("pending", 7),
            Column::number("dead", 6),
            Column::text("state", 8, 10),
            Column::rest("to", 30),
        ])
    });
    if let Some(table) = &table {
        writeln!(out, "{}", table.head())?;
    }
    for name in names(config) {
        let observer = format!("{FORWARD_PREFIX}{name}");
        let mut known = InJournal { observer: states.iter().find(|it| it.name == observer).cloned(), paused: None };
        let listed = match config.forwards.iter().find(|forward| forward.name == name) {
            Some(forward) => {
                if let Ok(archive) = &archive {
                    let value = archive.lease_value(&lease_name(name)).await?;
                    known.paused = value.and_then(|value| Paused::read(&value, forward.to.identity()));
                }
                Listed { name, enabled: forward.enabled, to: Some(forward.to.shown()), unread: None }
            }
            None => {
                let Some(unread) = config.unread_forwards.iter().find(|unread| unread.name == name) else { continue };
                Listed { name, enabled: unread.enabled, to: unread.to.clone(), unread: Some(&unread.why) }
            }
        };
        writeln!(out, "{}", line(&listed, &known, table.as_ref()))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What the configuration says of a forward, as far as it could be read.
struct Listed<'c> {
    name: &'c str,
    enabled: bool,
    to: Option<String>,
    /// Why one of its secrets was not read.
    unread: Option<&'c str>,
}

fn line(listed: &Listed<'_>, InJournal { observer, paused }: &InJournal, table: Option<&Table>) -> String {
    let Listed { name, enabled, to, unread } = listed;
    let state = match paused {
        _ if !enabled => "disabled",
        Some(_) => "paused",
        None => "enabled",
    };
    let (pending, dead) = (observer.as_ref().map(|it| it.pending), observer.as_ref().map(|it| it.dead));
    let why = paused.as_ref().map(|paused| paused.why.as_str()).or(*unread);
    let since = paused.as_ref().map(|paused| print_time(paused.since));
    let Some(table) = table else {
        let line = json!({
            "forward": name, "to": to, "state": state, "why": why, "since": since, "pending": pending, "dead": dead,
        });
        return escape_json(&line.to_string()).into_owned();
    };
    let count = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let because = match (since, why) {
        (Some(since), Some(why)) => format!("  since {since}: {why}"),
        (None, Some(why)) => format!("  {why}"),
        _ => String::new(),
    };
    let to = format!("{}{because}", to.as_deref().unwrap_or("-"));
    table.row(&[name, &count(pending), &count(dead), state, &to])
}

async fn resume(config: &Config, name: &str) -> Done {
    if !names(config).contains(&name) {
        return Err(unknown(config, name).into());
    }
    let archive: Box<dyn Archive> = journal::open_archive(&config.journal)?;
    if archive.clear_lease(&lease_name(name)).await? {
        println!("{name}: resumed; a server that runs goes on within a second");
    } else {
        println!("{name}: is not paused");
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(config: &Config, name: &str, event: Option<&str>) -> Done {
    let found = config.forwards.iter().find(|forward| forward.name == name);
    let forward = found.ok_or_else(|| unknown(config, name))?;
    // What is sent has no secret of theirs.
    let accounts: Vec<Account> = config.known_accounts().cloned().collect();
    let (account, entry) = choose(&accounts, forward, event)?;
    let now = Clock::system().now();
    let push = Push::sample(&entry, None, &[], now)?;
    let (id, record) = (Uuid::now_v7(), forward::sample(account, push, now.saturating_mul(1000)));
    let formatter = Formatter::new(&forward.format, &forward.redact, &accounts);
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
    let mut received = forward::send(&client, &id.to_string(), now, content, None).await?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    if received.is_success() {
        let (body, _) = received.start_of_body(4096).await?;
        println!("← {} in {took:.1} ms: delivered", received.status());
        if !body.is_empty() {
            println!("{}", escape_lines(&String::from_utf8_lossy(&body)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let redirected = http::redirected(received.status(), received.header("location"));
    let why = match redirected {
        Some(why) => escape(&why).into_owned(),
        None => forward::describe(&mut received).await,
    };
    println!("← {} in {took:.1} ms: {why}", received.status());
    Ok(ExitCode::FAILURE)
}

/// An account and an event that the forward matches, with a sample.
fn choose<'c>(
    accounts: &'c [Account],
    forward: &Forward,
    event: Option<&str>,
) -> Result<(&'c Account, Entry), Box<dyn Error>> {
    let mut why: Option<Box<dyn Error>> = None;
    for account in accounts.iter().filter(|account| forward.patterns.may_match(&account.id())) {
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
