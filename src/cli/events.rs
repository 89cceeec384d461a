//! `echostr events`: what is in the journal.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    ConfigArgument, Done,
    archive::{self, FilterArguments, PAGE, print_time, usage},
    runtime,
};
use crate::{
    journal::{Archive, Filter, ObservationState, Stored},
    log::{escape, escape_json},
};

/// How often `tail` looks.
const LOOK: Duration = Duration::from_millis(500);

/// Events that `tail` begins with.
const TAIL: usize = 10;

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// Lists events, the newest last
    Ls {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        filter: FilterArguments,
        /// The newest of this many; 0 for all
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// One CloudEvents object a line
        #[arg(long)]
        json: bool,
    },
    /// Shows one event, its reply, and what its observers have done
    Show {
        #[command(flatten)]
        config: ConfigArgument,
        /// Its id
        id: Uuid,
        /// All of it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Lists the newest events, and then those that come
    Tail {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        filter: FilterArguments,
        /// One CloudEvents object a line
        #[arg(long)]
        json: bool,
    },
    /// Offers events to observers once more, as if they were new
    Replay {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        filter: FilterArguments,
        /// Events, by their ids
        #[arg(value_name = "ID")]
        ids: Vec<Uuid>,
        /// To this observer; may be given several times
        #[arg(long = "observer", value_name = "NAME", required = true)]
        observers: Vec<String>,
        /// Every event, where neither a filter nor an id is given
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn run(command: &Command) -> Done {
    runtime()?.block_on(async {
        match command {
            Command::Ls { config, filter, limit, json } => {
                let archive = archive::open(config)?;
                list(&*archive, &filter.filter(), *limit, *json).await
            }
            Command::Show { config, id, json } => show(&*archive::open(config)?, *id, *json).await,
            Command::Tail { config, filter, json } => {
                let archive = archive::open(config)?;
                tail(&*archive, &filter.filter(), *json).await
            }
            Command::Replay { config, filter, ids, observers, all } => {
                let filter = filter.filter();
                match (ids.is_empty(), filter == Filter::default()) {
                    (false, false) => usage("either ids or a filter, not both"),
                    (true, true) if !all => usage("which events? Give ids, a filter, or --all"),
                    _ => {}
                }
                replay(&*archive::open(config)?, &filter, ids, observers).await
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
        let facts = &stored.record;
        writeln!(
            self.out,
            "{}  {}  {:<18} {:<32} {:<10} {:>2}  {}",
            print_time(facts.received),
            stored.id,
            facts.account,
            facts.event_type,
            stored.state.as_str(),
            stored.deliveries,
            escape(facts.subject.as_deref().unwrap_or("-"))
        )
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
            let page = archive.events(filter, after, PAGE).await?;
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
        let mut after = None;
        let mut page = archive.newest(filter, TAIL).await?;
        loop {
            for stored in &page {
                lines.event(stored)?;
                after = Some(stored.id);
            }
            lines.out.flush()?;
            if page.len() < PAGE {
                tokio::time::sleep(LOOK).await;
            }
            page = archive.events(filter, after, PAGE).await?;
        }
    };
    tokio::select! {
        ended = tokio::signal::ctrl_c() => Ok(ended.map(|()| ExitCode::SUCCESS)?),
        failed = follow => failed,
    }
}

async fn show(archive: &dyn Archive, id: Uuid, json: bool) -> Done {
    let Some(stored) = archive.event(id).await? else { return Err(format!("no event {id}").into()) };
    let deliveries = archive.observations(id).await?;
    let observers: Vec<Json> = deliveries
        .iter()
        .map(|delivery| {
            let time = match delivery.state {
                ObservationState::Waiting(at) | ObservationState::Leased(at) | ObservationState::Dead(at) => {
                    Some(print_time(at))
                }
                ObservationState::Done => None,
            };
            json!({
                "observer": delivery.observer,
                "state": delivery.state.as_str(),
                "time": time,
                "attempts": delivery.attempts,
                "error": delivery.error,
            })
        })
        .collect();
    let whole = json!({
        "event": stored.cloud_event(),
        "state": stored.state.as_str(),
        "reply": stored.reply,
        "failure": stored.failure,
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
        writeln!(out, "failure: {}", escape(failure))?;
    }
    match &stored.reply {
        Some(reply) => writeln!(out, "reply: {}", escape(reply))?,
        None => writeln!(out, "reply: the plain success")?,
    }
    for delivery in &deliveries {
        let error = delivery.error.as_ref().map_or_else(String::new, |error| format!(": {}", escape(error)));
        let state = match delivery.state {
            ObservationState::Waiting(at) => format!("waiting, due {}", print_time(at)),
            ObservationState::Leased(until) => format!("at work, until {} at the latest", print_time(until)),
            ObservationState::Done => "done".to_owned(),
            ObservationState::Dead(at) => format!("dead since {}", print_time(at)),
        };
        let attempts =
            if delivery.attempts == 0 { String::new() } else { format!(", attempts: {}", delivery.attempts) };
        writeln!(out, "observer {}: {state}{attempts}{error}", delivery.observer)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(archive: &dyn Archive, filter: &Filter, ids: &[Uuid], observers: &[String]) -> Done {
    archive::check_observers(archive, observers).await?;
    let offer = |events: Vec<Uuid>| async move {
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
    writeln!(io::stdout(), "offered once more: {offered}; what waits already stays as it is")?;
    Ok(ExitCode::SUCCESS)
}
