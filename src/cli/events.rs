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
    archive::{self, FilterArguments, PAGE_SIZE, SourceArguments, print_time, usage},
    runtime,
};
use crate::{
    journal::{Archive, Filter, ObservationState, State, Stored},
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
        /// Id of the event
        id: Uuid,
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
        /// Ids of the events
        #[arg(value_name = "ID")]
        ids: Vec<Uuid>,
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
                let archive = archive::open(source)?;
                list(&*archive, &filter.filter(), *limit, *json).await
            }
            Command::Show { source, id, json } => show(&*archive::open(source)?, *id, *json).await,
            Command::Tail { source, filter, json } => {
                let archive = archive::open(source)?;
                tail(&*archive, &filter.filter(), *json).await
            }
            Command::Replay { source, filter, ids, observers, all_observers, all } => {
                let filter = filter.filter();
                match (ids.is_empty(), filter == Filter::default()) {
                    (false, false) => usage("give either ids or a filter, not both"),
                    (true, true) if !all => usage("no events selected: give ids, a filter, or --all"),
                    _ => {}
                }
                let observers = (!all_observers).then_some(observers.as_slice());
                replay(&*archive::open(source)?, &filter, ids, observers).await
            }
        }
    })
}

/// Writes events as they come, in lines of one kind.
struct Lines {
    out: io::BufWriter<io::Stdout>,
    json: bool,
}

impl Lines {
    fn new(json: bool) -> Self {
        Self { out: io::BufWriter::new(io::stdout()), json }
    }

    fn head(&mut self) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let (time, id) = ("received", "id");
        writeln!(self.out, "{time:<24}  {id:<36}  {:<18} {:<32} {:<10} {:>2}  subject", "account", "type", "state", "n")
    }

    fn event(&mut self, stored: &Stored) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", escape_json(&stored.cloud_event().to_string()));
        }
        let record = &stored.record;
        let line = format!(
            "{}  {}  {:<18} {:<32} {:<10} {:>2}  {}",
            print_time(record.received),
            stored.id,
            record.account,
            record.event_type,
            stored.state.as_str(),
            stored.deliveries,
            record.subject.as_deref().unwrap_or("-")
        );
        writeln!(self.out, "{}", escape(&line))
    }
}

async fn list(archive: &dyn Archive, filter: &Filter, limit: usize, json: bool) -> Done {
    let mut lines = Lines::new(json);
    lines.head()?;
    if limit > 0 {
        for stored in archive.newest(filter, limit).await? {
            lines.event(&stored)?;
        }
    } else {
        let mut after = None;
        loop {
            let page = archive.events(filter, after, PAGE_SIZE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            page.iter().try_for_each(|stored| lines.event(stored))?;
        }
    }
    lines.out.flush()?;
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

async fn show(archive: &dyn Archive, id: Uuid, json: bool) -> Done {
    let Some(stored) = archive.event(id).await? else { return Err(format!("no event {id}").into()) };
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
        let error = observation.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let state = match observation.state {
            ObservationState::Waiting(at) => format!("waiting, due {}", print_time(at)),
            ObservationState::Leased(until) => format!("in flight, lease expires {}", print_time(until)),
            ObservationState::Done => "done".to_owned(),
            ObservationState::Dead(at) => format!("dead since {}", print_time(at)),
        };
        let attempts =
            if observation.attempts == 0 { String::new() } else { format!(", attempts: {}", observation.attempts) };
        let line = format!("observer {}: {state}{attempts}{error}", observation.observer);
        writeln!(out, "{}", escape(&line))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Replays to these observers, or to all.
async fn replay(archive: &dyn Archive, filter: &Filter, ids: &[Uuid], observers: Option<&[String]>) -> Done {
    archive::check_observers(archive, observers.unwrap_or_default()).await?;
    let offer = |events: Vec<Uuid>| async move {
        let Some(observers) = observers else { return Ok(archive.replay_to_all(events).await?) };
        let mut offered = 0;
        for observer in observers {
            offered += archive.replay(observer, events.clone()).await?;
        }
        Ok::<_, Box<dyn Error>>(offered)
    };
    let mut offered = 0;
    for id in ids {
        if archive.event(*id).await?.is_none() {
            return Err(format!("no event {id}").into());
        }
    }
    if !ids.is_empty() {
        offered += offer(ids.to_vec()).await?;
    } else {
        offered += archive::each_page(archive, filter, offer).await?;
    }
    writeln!(io::stdout(), "replayed: {offered}; observations that are pending already are not doubled")?;
    Ok(ExitCode::SUCCESS)
}
