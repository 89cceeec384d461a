//! `echostr dead`: events that an observer permanently failed on.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    str::FromStr,
};

use serde_json::json;
use uuid::Uuid;

use super::{
    Done,
    archive::{self, FilterArguments, PAGE_SIZE, SourceArguments, print_time, print_time_within, usage},
    events::short_id,
    ids::{EventId, SHORT_ID},
    runtime,
    table::{Column, Table},
};
use crate::{
    journal::{Archive, DeadLetter, Filter, ObservationState},
    log::escape_json,
};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Lists dead letters, the newest event first
    Ls {
        #[command(flatten)]
        which: Which,
        /// Show at most N newest dead letters (0 = all)
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Print one JSON object per line: the event as a CloudEvent, observer, attempts, error, time
        #[arg(long)]
        json: bool,
    },
    /// Gives dead letters to their observers again
    Replay(Chosen),
    /// Removes dead letters; the events stay in the journal until their retention is over
    Drop(Chosen),
}

/// Which dead letters.
#[derive(clap::Args, Debug)]
pub(super) struct Which {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// Only dead letters of this observer
    #[arg(long, value_name = "NAME")]
    observer: Option<String>,
}

impl Which {
    fn filter(&self) -> Filter {
        Filter { observer: self.observer.clone(), ..self.filter.filter() }
    }
}

/// Which dead letters something is done to.
#[derive(clap::Args, Debug)]
pub(super) struct Chosen {
    #[command(flatten)]
    which: Which,
    /// Ids of the events or their beginnings, each for all of its observers or for one
    #[arg(value_name = "ID[/OBSERVER]")]
    letters: Vec<Letter>,
    /// Every dead letter; needed when neither a filter nor an id is given
    #[arg(long)]
    all: bool,
}

/// `ID` or `ID/OBSERVER`.
#[derive(Clone, Debug)]
struct Letter {
    event: EventId,
    observer: Option<String>,
}

impl FromStr for Letter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (event, observer) = text.split_once('/').map_or((text, None), |(id, name)| (id, Some(name.to_owned())));
        Ok(Self { event: event.parse()?, observer })
    }
}

impl Chosen {
    /// Refuses no selection, or two.
    fn check(&self) {
        let filter = Filter { observer: None, ..self.which.filter() };
        match (self.letters.is_empty(), filter == Filter::default()) {
            (false, false) => usage("give either ids or a filter, not both; --observer can be combined with ids"),
            (true, true) if self.which.observer.is_none() && !self.all => {
                usage("no dead letters selected: give ids, a filter, or --all")
            }
            _ => {}
        }
    }
}

pub(super) fn run(command: &Command) -> Done {
    if let Command::Replay(chosen) | Command::Drop(chosen) = command {
        chosen.check();
    }
    runtime()?.block_on(async {
        match command {
            Command::Ls { which, limit, json } => {
                let filter = which.filter();
                list(&*archive::open_for(&which.source, &filter).await?.archive, &filter, *limit, *json).await
            }
            Command::Replay(chosen) => {
                let archive = archive::open_for(&chosen.which.source, &chosen.which.filter()).await?.archive;
                let done = each(&*archive, chosen, |letters| archive.revive(letters)).await?;
                writeln!(io::stdout(), "queued {} again", count(done))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Drop(chosen) => {
                let archive = archive::open_for(&chosen.which.source, &chosen.which.filter()).await?.archive;
                let done = each(&*archive, chosen, |letters| archive.drop_dead(letters)).await?;
                writeln!(io::stdout(), "removed {}", count(done))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn count(letters: u64) -> String {
    format!("{letters} dead letter{}", if letters == 1 { "" } else { "s" })
}

async fn list(archive: &dyn Archive, filter: &Filter, limit: usize, json: bool) -> Done {
    check_observer(archive, filter).await?;
    let mut out = io::BufWriter::new(io::stdout());
    let table = Table::new(&[
        Column::short("died", 14, 24),
        Column::short("event", SHORT_ID, 36),
        Column::text("type", 15, 32),
        Column::text("observer", 12, 16),
        Column::number("n", 2),
        Column::rest("error", 8),
    ]);
    if !json {
        writeln!(out, "{}", table.head())?;
    }
    let mut left = if limit == 0 { usize::MAX } else { limit };
    let mut before = None;
    while left > 0 {
        let page = archive.newest_dead(filter, before, PAGE_SIZE.min(left)).await?;
        let Some(last) = page.last() else { break };
        before = Some((last.event.id, last.observer.clone()));
        left -= page.len();
        for letter in &page {
            write_letter(&mut out, letter, (!json).then_some(&table))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write_letter(out: &mut impl Write, letter: &DeadLetter, table: Option<&Table>) -> io::Result<()> {
    let DeadLetter { event, observer, attempts, error, died } = letter;
    let Some(table) = table else {
        let died = print_time(*died);
        let letter = json!({
            "event": event.cloud_event(), "observer": observer, "attempts": attempts, "error": error, "died": died,
        });
        return writeln!(out, "{}", escape_json(&letter.to_string()));
    };
    let (died, id) = (print_time_within(*died, table.width_of(0)), short_id(event.id, table.width_of(1)));
    writeln!(out, "{}", table.row(&[&died, &id, &event.record.event_type, observer, &attempts.to_string(), error]))
}

async fn check_observer(archive: &dyn Archive, filter: &Filter) -> Result<(), Box<dyn Error>> {
    match &filter.observer {
        Some(name) => archive::check_observers(archive, std::slice::from_ref(name)).await,
        None => Ok(()),
    }
}

/// Calls `act` with the chosen letters, page by page.
async fn each<'a>(
    archive: &'a dyn Archive,
    chosen: &Chosen,
    act: impl Fn(Vec<(Uuid, String)>) -> crate::journal::Task<'a, u64>,
) -> Result<u64, Box<dyn Error>> {
    let filter = chosen.which.filter();
    check_observer(archive, &filter).await?;
    let mut done = 0;
    if !chosen.letters.is_empty() {
        let observers = archive.observers().await?;
        let mut letters = Vec::new();
        for Letter { event, observer } in &chosen.letters {
            let event = event.resolve(archive).await?;
            let known = archive.observations(event).await?;
            let dead =
                known.into_iter().filter(|it| matches!(it.state, ObservationState::Dead(_))).map(|it| it.observer);
            let wanted = observer.as_ref().or(filter.observer.as_ref());
            let before = letters.len();
            letters.extend(dead.filter(|name| wanted.is_none_or(|wanted| wanted == name)).map(|name| (event, name)));
            if letters.len() == before {
                let of = wanted.map_or_else(String::new, |name| format!(" of observer {name}"));
                let hint = wanted.filter(|name| !observers.contains(name)).map_or("", |_| ", which does not exist");
                return Err(format!("no dead letter of event {event}{of}{hint}; nothing was done").into());
            }
        }
        return Ok(act(letters).await?);
    }
    let progress = archive::progress();
    let mut after = None;
    loop {
        let page = archive.dead(&filter, after, PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.event.id, last.observer.clone()));
        progress.inc(page.len() as u64);
        done += act(page.into_iter().map(|letter| (letter.event.id, letter.observer)).collect()).await?;
    }
    progress.finish_and_clear();
    Ok(done)
}
