//! `echostr observers`: which there are, what is left of each, and the end of one.

use std::{
    error::Error,
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use serde_json::json;

use super::{
    ConfigArgument, Done,
    archive::{self, SourceArguments, print_time, print_time_within},
    runtime,
    table::{Column, Table},
};
use crate::{
    journal::{Archive, ObserverState},
    log::{escape, escape_json},
};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Lists observers: pending events, the oldest of them, dead letters, and whether one is registered
    Ls {
        #[command(flatten)]
        source: SourceArguments,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Removes an observer that is no longer registered, with its pending events and dead letters
    Rm {
        #[command(flatten)]
        config: ConfigArgument,
        /// Names of the observers
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Do not ask; without a terminal nothing is asked
        #[arg(long, short)]
        yes: bool,
    },
}

pub(super) fn run(command: &Command) -> Done {
    runtime()?.block_on(async {
        match command {
            Command::Ls { source, json } => list(&*archive::open(source)?.archive, *json).await,
            Command::Rm { config, names, yes } => {
                remove(&*archive::open_configured(config)?.archive, names, *yes).await
            }
        }
    })
}

async fn list(archive: &dyn Archive, json: bool) -> Done {
    let mut out = io::BufWriter::new(io::stdout());
    let table = Table::new(&[
        Column::text("observer", 22, 32),
        Column::number("pending", 7),
        Column::short("oldest", 14, 24),
        Column::number("dead", 6),
        Column::rest("state", 10),
    ]);
    if !json {
        writeln!(out, "{}", table.head())?;
    }
    for ObserverState { name, absent_since, pending, oldest, dead } in archive.observer_states().await? {
        if json {
            let (oldest, since) = (oldest.map(print_time), absent_since.map(print_time));
            let state = if since.is_some() { "absent" } else { "registered" };
            let line = json!({
                "observer": name, "state": state, "absent_since": since, "pending": pending, "oldest": oldest, "dead": dead,
            });
            writeln!(out, "{}", escape_json(&line.to_string()))?;
            continue;
        }
        let time = |time| print_time_within(time, table.width_of(2));
        let oldest = oldest.map_or_else(|| "-".to_owned(), time);
        let state =
            absent_since.map_or_else(|| "registered".to_owned(), |since| format!("absent since {}", time(since)));
        writeln!(out, "{}", table.row(&[&name, &pending.to_string(), &oldest, &dead.to_string(), &state]))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Removes all of them or none.
async fn remove(archive: &dyn Archive, names: &[String], yes: bool) -> Done {
    archive::check_observers(archive, names).await?;
    let known = archive.observer_states().await?;
    let chosen: Vec<&ObserverState> = known.iter().filter(|it| names.contains(&it.name)).collect();
    if let Some(present) = chosen.iter().find(|it| it.absent_since.is_none()) {
        return Err(is_registered(&present.name));
    }
    if !yes && io::stdin().is_terminal() && !ask(&chosen)? {
        return Err("nothing was removed".into());
    }
    for ObserverState { name, pending, dead, .. } in chosen {
        if !archive.remove_observer(name).await? {
            return Err(is_registered(name));
        }
        writeln!(io::stdout(), "removed {}: {pending} pending events, {dead} dead letters", escape(name))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(chosen: &[&ObserverState]) -> io::Result<bool> {
    let mut out = io::stderr().lock();
    for ObserverState { name, pending, dead, .. } in chosen {
        writeln!(out, "observer {}: {pending} pending events and {dead} dead letters would be lost", escape(name))?;
    }
    write!(out, "remove? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn is_registered(name: &str) -> Box<dyn Error> {
    format!(
        "observer {name} is registered with the server that runs, or that ran last: remove its handler (of an internal one, the \
         accounts or the `secret` that it is for), restart the server, and try again; nothing was removed"
    )
    .into()
}
