//! `echostr journal check`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

use super::{ConfigArgument, Done, archive::print_time, runtime};
use crate::{
    config::{Config, Needs, find_config},
    journal::{self, Contents, Millis, ObserverState, Report},
    log::{escape, escape_json},
};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Checks that the journal is whole, and says what is in it; changes nothing, and a server may run
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Command) -> Done {
    let Command::Check { config, json } = command;
    let config = Config::load_for(&find_config(config.config.as_deref())?, Needs::JOURNAL)?;
    let found = runtime()?.block_on(journal::inspect(&config.journal));
    // One that cannot be read is not whole, either.
    let report = found.unwrap_or_else(|failure| Report { problems: vec![failure.to_string()], ..Report::default() });
    let mut out = io::BufWriter::new(io::stdout());
    if *json {
        writeln!(out, "{}", escape_json(&as_json(&report).to_string()))?;
    } else {
        print(&mut out, &report)?;
    }
    out.flush()?;
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { schema, problems, notes, contents } = report;
    if let Some(schema) = schema {
        writeln!(out, "schema version {schema}")?;
    }
    if let Some(Contents { events, unanswered, oldest, newest, keys, leases, observers }) = contents {
        writeln!(out, "{events} events, received from {} to {}", time(*oldest), time(*newest))?;
        writeln!(out, "{unanswered} events without a reply; {keys} keys of repeats; {leases} named leases")?;
        for ObserverState { name, absent_since, pending, oldest, dead } in observers {
            let oldest = oldest.map_or_else(String::new, |at| format!(", the oldest of {}", print_time(at)));
            let absent = absent_since.map_or_else(String::new, |at| format!("; absent since {}", print_time(at)));
            let line = format!("observer {name}: {pending} pending{oldest}; {dead} dead letters{absent}");
            writeln!(out, "{}", escape(&line))?;
        }
    }
    for note in notes {
        writeln!(out, "note: {}", escape(note))?;
    }
    for problem in problems {
        writeln!(out, "problem: {}", escape(problem))?;
    }
    writeln!(out, "{}", if problems.is_empty() { "no problem" } else { "the journal is not whole" })
}

fn time(time: Option<Millis>) -> String {
    time.map_or_else(|| "-".to_owned(), print_time)
}

fn as_json(report: &Report) -> serde_json::Value {
    let Report { schema, problems, notes, contents } = report;
    let contents = contents.as_ref().map(|contents| {
        let Contents { events, unanswered, oldest, newest, keys, leases, observers } = contents;
        let observers: Vec<_> = observers
            .iter()
            .map(|ObserverState { name, absent_since, pending, oldest, dead }| {
                json!({
                    "observer": name, "pending": pending, "oldest": oldest.map(print_time), "dead": dead,
                    "absent_since": absent_since.map(print_time),
                })
            })
            .collect();
        json!({
            "events": events, "unanswered": unanswered, "oldest": oldest.map(print_time), "newest": newest.map(print_time),
            "keys": keys, "leases": leases, "observers": observers,
        })
    });
    json!({
        "ok": problems.is_empty(), "schema_version": schema, "problems": problems, "notes": notes, "contents": contents,
    })
}
