//! `echostr events`: what is in the journal.

use std::{
    collections::HashSet,
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    Done,
    archive::{self, FilterArguments, PAGE_SIZE, Source, SourceArguments, print_time, print_time_within, usage},
    ids::{EventId, NOT_THERE, SHORT_ID},
    names, runtime,
    table::{Column, Table},
};
use crate::{
    journal::{Archive, Filter, Observation, ObservationState, State, Stored},
    log::{escape, escape_json},
};

/// How often `tail` polls the journal.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Events that `tail` starts with.
const TAIL_EVENTS: usize = 10;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Lists events, the newest last
    Ls {
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        filter: FilterArguments,
        /// Show at most N newest events (0 = all)
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// Print one CloudEvents object per line
        #[arg(long)]
        json: bool,
    },
    /// Shows one event, its reply, and the state of each observer
    Show {
        #[command(flatten)]
        source: SourceArguments,
        /// Id of the event, or its beginning
        id: EventId,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Shows the newest events, then follows new ones until Ctrl-C
    Tail {
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        filter: FilterArguments,
        /// Print one CloudEvents object per line
        #[arg(long)]
        json: bool,
    },
    /// Gives events to observers again, as if they were new; responders do not run
    Replay {
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        filter: FilterArguments,
        /// Ids of the events, or their beginnings
        #[arg(value_name = "ID")]
        ids: Vec<EventId>,
        /// Replay to this observer; can be repeated
        #[arg(long = "observer", value_name = "NAME", required_unless_present = "all_observers")]
        observers: Vec<String>,
        /// Replay to every observer that the events were for, except internal ones and those no longer registered
        #[arg(long, conflicts_with = "observers")]
        all_observers: bool,
        /// Replay every event; needed when neither a filter nor an id is given
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn run(command: &Command) -> Done {
    runtime()?.block_on(async {
        match command {
            Command::Ls { source, filter, limit, json } => {
                let filter = filter.filter();
                list(&archive::open_for(source, &filter).await?, &filter, *limit, *json).await
            }
            Command::Show { source, id, json } => show(&*archive::open(source)?.archive, id, *json).await,
            Command::Tail { source, filter, json } => {
                let filter = filter.filter();
                tail(&*archive::open_for(source, &filter).await?.archive, &filter, *json).await
            }
            Command::Replay { source, filter, ids, observers, all_observers, all } => {
                let filter = filter.filter();
                match (ids.is_empty(), filter == Filter::default()) {
                    (false, false) => usage("give either ids or a filter, not both"),
                    (true, true) if !all => usage("no events selected: give ids, a filter, or --all"),
                    _ => {}
                }
                let observers = (!all_observers).then_some(observers.as_slice());
                replay(&*archive::open_for(source, &filter).await?.archive, &filter, ids, observers).await
            }
        }
    })
}

/// An id, or as much of it as tells the event from others, where there is no room for more.
pub(super) fn short_id(id: Uuid, width: usize) -> String {
    let id = id.to_string();
    if width < id.len() { id.chars().take(SHORT_ID).collect() } else { id }
}

/// Writes events as they come, in lines of one kind.
struct Lines {
    out: io::BufWriter<io::Stdout>,
    json: bool,
    table: Table,
}

impl Lines {
    fn new(json: bool) -> Self {
        let table = Table::new(&[
            Column::short("received", 14, 24),
            Column::short("id", SHORT_ID, 36),
            Column::text("account", 9, 18),
            Column::text("type", 18, 32),
            Column::text("state", 8, 10),
            Column::number("n", 2),
            Column::rest("subject", 0),
        ]);
        Self { out: io::BufWriter::new(io::stdout()), json, table }
    }

    fn head(&mut self) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(self.out, "{}", self.table.head()) }
    }

    fn event(&mut self, stored: &Stored) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", escape_json(&stored.cloud_event().to_string()));
        }
        let record = &stored.record;
        let line = self.table.row(&[
            &print_time_within(record.received, self.table.width_of(0)),
            &short_id(stored.id, self.table.width_of(1)),
            &record.account,
            &record.event_type,
            stored.state.as_str(),
            &stored.deliveries.to_string(),
            record.subject.as_deref().unwrap_or("-"),
        ]);
        writeln!(self.out, "{line}")
    }
}

async fn list(source: &Source, filter: &Filter, limit: usize, json: bool) -> Done {
    let archive = &*source.archive;
    let mut lines = Lines::new(json);
    lines.head()?;
    let mut is_empty = true;
    if limit > 0 {
        for stored in archive.newest(filter, limit).await? {
            is_empty = false;
            lines.event(&stored)?;
        }
    } else {
        let mut after = None;
        loop {
            let page = archive.events(filter, after, PAGE_SIZE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            is_empty = false;
            page.iter().try_for_each(|stored| lines.event(stored))?;
        }
    }
    lines.out.flush()?;
    if is_empty {
        eprintln!("{}", names::why_nothing(source, filter).await?);
    }
    Ok(ExitCode::SUCCESS)
}

async fn tail(archive: &dyn Archive, filter: &Filter, json: bool) -> Done {
    let follow = async {
        let mut lines = Lines::new(json);
        lines.head()?;
        let mut place = archive.place().await?;
        let mut page = archive.newest(filter, TAIL_EVENTS).await?;
        // What came between these two is in both.
        let mut shown: HashSet<Uuid> = page.iter().map(|stored| stored.id).collect();
        page.iter().try_for_each(|stored| lines.event(stored))?;
        loop {
            lines.out.flush()?;
            if page.len() < PAGE_SIZE {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            let followed;
            (followed, place) = archive.follow(filter, place, PAGE_SIZE).await?;
            page = followed.into_iter().map(|(stored, _)| stored).collect();
            page.iter().filter(|stored| !shown.remove(&stored.id)).try_for_each(|stored| lines.event(stored))?;
        }
    };
    tokio::select! {
        ended = tokio::signal::ctrl_c() => Ok(ended.map(|()| ExitCode::SUCCESS)?),
        failed = follow => failed,
    }
}

async fn show(archive: &dyn Archive, id: &EventId, json: bool) -> Done {
    let id = id.resolve(archive).await?;
    let stored = archive.event(id).await?.ok_or_else(|| missing(id))?;
    let observations = archive.observations(id).await?;
    let observers: Vec<Json> = observations
        .iter()
        .map(|observation| {
            let time = match observation.state {
                ObservationState::Waiting(at) | ObservationState::Leased(at) | ObservationState::Dead(at) => {
                    Some(print_time(at))
                }
                ObservationState::Done => None,
            };
            json!({
                "observer": observation.observer,
                "state": observation.state.as_str(),
                "time": time,
                "attempts": observation.attempts,
                "error": observation.error,
            })
        })
        .collect();
    // Of an event that has its reply it is no failure.
    let is_note = matches!(stored.state, State::Answered | State::Late);
    let whole = json!({
        "event": stored.cloud_event(),
        "state": stored.state.as_str(),
        "reply": stored.reply,
        "failure": stored.failure.as_ref().filter(|_| !is_note),
        "note": stored.failure.as_ref().filter(|_| is_note),
        "observers": observers,
    });
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", escape_json(&whole.to_string()))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}\n", escape_json(&format!("{:#}", whole["event"])))?;
    writeln!(out, "state: {}", stored.state.as_str())?;
    if let Some(failure) = &stored.failure {
        writeln!(out, "{}: {}", if is_note { "note" } else { "failure" }, escape(failure))?;
    }
    match &stored.reply {
        Some(reply) => writeln!(out, "reply: {}", escape(reply))?,
        None => writeln!(out, "reply: the plain success")?,
    }
    for observation in &observations {
        writeln!(out, "{}", escape(&format!("observer {}: {}", observation.observer, describe(observation))))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How far an observer is with an event, and the last error.
fn describe(Observation { state, attempts, error, .. }: &Observation) -> String {
    let failed = match attempts {
        0 => String::new(),
        1 => "failed once, ".to_owned(),
        more => format!("failed {more} times, "),
    };
    let state = match state {
        ObservationState::Waiting(at) if *attempts == 0 => format!("pending, first attempt at {}", print_time(*at)),
        ObservationState::Waiting(at) => format!("{failed}next attempt at {}", print_time(*at)),
        ObservationState::Leased(until) => format!("in flight, lease expires at {}", print_time(*until)),
        ObservationState::Done => "done".to_owned(),
        ObservationState::Dead(at) => format!("{failed}dead letter since {}", print_time(*at)),
    };
    error.as_ref().map_or_else(|| state.clone(), |error| format!("{state}: {error}"))
}

fn missing(id: Uuid) -> String {
    format!("no event {id}; {NOT_THERE}")
}

/// Replays to these observers, or to all.
async fn replay(archive: &dyn Archive, filter: &Filter, ids: &[EventId], observers: Option<&[String]>) -> Done {
    archive::check_observers(archive, observers.unwrap_or_default()).await?;
    let offer = |events: Vec<Uuid>| async move {
        let Some(observers) = observers else { return Ok(archive.replay_to_all(events).await?) };
        let mut offered = 0;
        for observer in observers {
            offered += archive.replay(observer, events.clone()).await?;
        }
        Ok::<_, Box<dyn Error>>(offered)
    };
    let (mut offered, mut events) = (0, Vec::with_capacity(ids.len()));
    for id in ids {
        let id = id.resolve(archive).await?;
        if archive.event(id).await?.is_none() {
            return Err(missing(id).into());
        }
        events.push(id);
    }
    if !events.is_empty() {
        offered += offer(events).await?;
    } else {
        offered += archive::each_page(archive, filter, offer).await?;
    }
    let each = if observers.is_some_and(|observers| observers.len() == 1) { "" } else { ", counted for each observer" };
    let events = if offered == 1 { "event" } else { "events" };
    writeln!(io::stdout(), "queued {offered} {events} again{each}; those still pending were skipped")?;
    Ok(ExitCode::SUCCESS)
}
