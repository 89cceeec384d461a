//! What `events` and `dead` share: which journal, which events, and work that goes page by page.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use clap::{CommandFactory as _, ValueEnum, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Timestamp, civil, tz::TimeZone};
use uuid::Uuid;

use super::{Arguments, ConfigArgument, names, remote::RemoteArchive};
use crate::{
    config::{Account, Config, Needs, find_config},
    event::Platform,
    journal::{self, Archive, Filter, Millis, State},
    log::escape,
    secret::Secret,
};

/// How many events are asked for at one time.
pub(super) const PAGE_SIZE: usize = 500;

/// Which journal.
#[derive(clap::Args, Debug)]
pub(super) struct SourceArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Address of the admin listener of a running server, as in http://127.0.0.1:9180, instead of the configured journal
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
    /// With --url: `token` of [admin]; better in the variable, as arguments can be seen by others
    #[arg(long, value_name = "TOKEN", env = "ECHOSTR_ADMIN_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
}

pub(super) fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// Which events.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct FilterArguments {
    /// Only events of this platform
    #[arg(long)]
    platform: Option<Platform>,
    /// Only events of this account, as in mp/shop
    #[arg(long)]
    account: Option<String>,
    /// Only events of this type; mp.event.* matches every type that begins so
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events about this openid, userid or account id
    #[arg(long)]
    subject: Option<String>,
    /// Only events received at this time or later: RFC 3339, a date (UTC), or an age such as 90m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Millis>,
    /// Only events received before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Millis>,
    /// Only events in this state
    #[arg(long)]
    state: Option<StateArgument>,
    /// Only events whose payload has this text, as the platform wrote it
    #[arg(long)]
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    /// No reply yet
    Responding,
    /// Answered by the responder, or no reply needed
    Answered,
    /// Default answer given, as the responder failed
    Defaulted,
    /// Default answer given, as the reply came after the deadline; it is sent through the API
    Late,
}

impl FilterArguments {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            platform: self.platform,
            account: self.account.clone(),
            event_type: self.event_type.clone(),
            subject: self.subject.clone(),
            since: self.since,
            until: self.until,
            state: self.state.map(|state| match state {
                StateArgument::Responding => State::Responding,
                StateArgument::Answered => State::Answered,
                StateArgument::Defaulted => State::Defaulted,
                StateArgument::Late => State::Late,
            }),
            text: self.text.clone(),
            observer: None,
        }
    }
}

/// A point in time: RFC 3339, a date, or how long ago.
fn time(text: &str) -> Result<Millis, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(date) = text.parse::<civil::Date>() {
        let start = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(start.timestamp().as_millisecond());
    }
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let ago = number.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds * 1000));
    let ago =
        ago.filter(|_| seconds > 0).ok_or("expected RFC 3339, a date such as 2026-01-02, or an age such as 2h")?;
    Ok(Timestamp::now().as_millisecond().saturating_sub(ago))
}

/// A time with as much of it as there is room for.
pub(super) fn print_time_within(millis: Millis, width: usize) -> String {
    let time = Timestamp::from_millisecond(millis);
    match (time, width) {
        (Ok(time), 24..) => format!("{time:.3}"),
        (Ok(time), 20..) => format!("{time:.0}"),
        (Ok(time), _) => time.strftime("%m-%dT%H:%M:%S").to_string(),
        (Err(_), _) => millis.to_string(),
    }
}

/// A time as it is printed.
pub(super) fn print_time(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

/// Exits with a usage error.
pub(super) fn usage(what: &str) -> ! {
    Arguments::command().error(ErrorKind::ArgumentConflict, what).exit()
}

/// A journal, and whose accounts are in it.
pub(super) struct Source {
    pub(super) archive: Arc<dyn Archive>,
    accounts: Accounts,
}

/// Who knows the accounts.
enum Accounts {
    Configured(Vec<String>),
    Remote(Arc<RemoteArchive>),
}

impl Source {
    /// The journal of a running server.
    pub(super) fn remote(remote: Arc<RemoteArchive>) -> Self {
        Self { archive: Arc::clone(&remote) as Arc<dyn Archive>, accounts: Accounts::Remote(remote) }
    }

    /// Ids of the accounts that are configured.
    pub(super) async fn accounts(&self) -> Result<Vec<String>, Box<dyn Error>> {
        match &self.accounts {
            Accounts::Configured(ids) => Ok(ids.clone()),
            Accounts::Remote(remote) => Ok(remote.accounts().await?),
        }
    }
}

/// The journal of a configuration, or of a running server.
pub(super) fn open(arguments: &SourceArguments) -> Result<Source, Box<dyn Error>> {
    match &arguments.url {
        Some(url) => Ok(Source::remote(Arc::new(RemoteArchive::new(url, arguments.token.clone())?))),
        None => open_configured(&arguments.config),
    }
}

/// The journal of a configuration.
pub(super) fn open_configured(arguments: &ConfigArgument) -> Result<Source, Box<dyn Error>> {
    let config = Config::load_for(&find_config(arguments.config.as_deref())?, Needs::JOURNAL)?;
    let accounts = Accounts::Configured(config.known_accounts().map(Account::id).collect());
    Ok(Source { archive: journal::open_archive(&config.journal)?.into(), accounts })
}

/// Opens a journal for those of its events that are asked for.
pub(super) async fn open_for(arguments: &SourceArguments, filter: &Filter) -> Result<Source, Box<dyn Error>> {
    let source = open(arguments)?;
    names::check(&source, filter).await?;
    Ok(source)
}

/// Refuses names of unknown observers.
pub(super) async fn check_observers(archive: &dyn Archive, names: &[String]) -> Result<(), Box<dyn Error>> {
    let known = archive.observers().await?;
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(unknown) => {
            let (unknown, expected) = (escape(unknown), known.join(", "));
            let hint = if known.is_empty() {
                "the journal has none".to_owned()
            } else {
                format!("expected one of {expected}")
            };
            Err(format!("unknown observer `{unknown}`; {}", escape(&hint)).into())
        }
    }
}

/// Calls `act` with each page of events, the oldest first, and shows the progress on a terminal.
pub(super) async fn each_page<W: Future<Output = Result<u64, Box<dyn Error>>>>(
    archive: &dyn Archive,
    filter: &Filter,
    mut act: impl FnMut(Vec<Uuid>) -> W,
) -> Result<u64, Box<dyn Error>> {
    let progress = progress();
    let (mut after, mut done) = (None, 0);
    loop {
        let page: Vec<Uuid> = archive.events(filter, after, PAGE_SIZE).await?.iter().map(|stored| stored.id).collect();
        let Some(last) = page.last().copied() else { break };
        after = Some(last);
        progress.inc(page.len() as u64);
        done += act(page).await?;
    }
    progress.finish_and_clear();
    Ok(done)
}

/// A progress bar, on a terminal only.
pub(super) fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}");
    let progress = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_dates_and_ages() {
        assert_eq!(time("2026-01-02T03:04:05Z"), Ok(1_767_323_045_000));
        assert_eq!(time("2026-01-02T03:04:05.678+08:00"), Ok(1_767_294_245_678));
        assert_eq!(time("2026-01-02"), Ok(1_767_312_000_000));
        let now = Timestamp::now().as_millisecond();
        for (age, seconds) in [("90s", 90), ("2h", 7200), ("7d", 604_800), ("0m", 0)] {
            let difference = now - time(age).unwrap() - seconds * 1000;
            assert!(difference.abs() < 60_000, "{age}: {difference}");
        }
        for wrong in
            ["", "h", "2", "2w", "-2h", "yesterday", "2026-13-01", "99999999999999999999d", "9223372036854775807d"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_printed_with_milliseconds() {
        assert_eq!(print_time(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
    }
}
