//! `echostr backup` and `echostr restore`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use super::{ConfigArgument, Done, archive::print_time, runtime};
use crate::{
    config::{Config, Needs, find_config},
    journal::{self, Summary},
    log::escape,
};

#[derive(clap::Args, Debug)]
pub(super) struct BackupArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// File that is written; a SQLite journal, whatever the journal is. Keep it secret: it has what users wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// A backup, of this journal or of another one; SQLite or PostgreSQL
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn back_up(BackupArguments { config, file, force }: &BackupArguments) -> Done {
    let config = Config::load_for(&find_config(config.config.as_deref())?, Needs::JOURNAL)?;
    let summary = runtime()?.block_on(journal::back_up(&config.journal, file, *force))?;
    let file = file.display().to_string();
    writeln!(io::stdout(), "backed up {} to {}", content(&summary), escape(&file))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(RestoreArguments { config, file }: &RestoreArguments) -> Done {
    let config = Config::load_for(&find_config(config.config.as_deref())?, Needs::JOURNAL)?;
    let summary = runtime()?.block_on(journal::restore(&config.journal, file))?;
    let mut out = io::stdout().lock();
    let into = format!("{:?}", config.journal.url);
    writeln!(out, "restored {} into {}", content(&summary), escape(&into))?;
    let program = summary.program.as_deref().unwrap_or("?");
    let since = match summary.taken {
        Some(taken) => format!("the backup, which echostr {} made at {}", escape(program), print_time(taken)),
        None => "the copy was made".to_owned(),
    };
    writeln!(
        out,
        "not in it: everything since {since}. An event from then that a platform sends again is a new one, and what observers, \
         forwards and late replies have done since then for older events, they do again"
    )?;
    writeln!(out, "not in it: access tokens; the server asks for new ones")?;
    if summary.renamed > 0 {
        writeln!(
            out,
            "{} events have a new identity: nodes had given the same number to several, and a file has one event for each",
            summary.renamed
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn content(Summary { events, pending, dead, .. }: &Summary) -> String {
    format!("{events} events, {pending} pending observations and {dead} dead letters")
}
