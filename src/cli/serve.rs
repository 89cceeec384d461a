//! `echostr serve`.

use std::{
    error::Error,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::{BuildHooks, ConfigArgument, Done};
use crate::{
    clock::Clock,
    config::{Config, Log, LogFormat, find_config},
    log::{EscapedJson, fields, take_panics},
    server::{RunError, Server},
};

pub(super) fn run(arguments: &ConfigArgument, hooks: BuildHooks<'_>) -> Done {
    let config = Config::load(&find_config(arguments.config.as_deref())?)?;
    start_log(&config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config, hooks))
}

async fn serve(config: &Config, hooks: BuildHooks<'_>) -> Done {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let hooks = super::hooks(config, hooks).map_err(|failure| -> Box<dyn Error> { failure })?;
    super::unread_handlers(config).for_each(|warning| warn!("{warning}"));
    let server = Server::bind(config, hooks, Clock::system()).await?;
    for account in &config.accounts {
        info!(account = account.id(), "{} is received {}", account.id(), account.receives());
    }
    let (address, admin) = (server.address()?, server.admin_address()?);
    info!(%address, %admin, "listening on {address}, health and metrics on {admin}");
    match server.run(stop()?).await {
        Err(lost @ RunError::Lost(_)) => Err(lost.into()),
        Ok(()) | Err(RunError::Cancelled) => Ok(ExitCode::SUCCESS),
    }
}

/// Ready when the process is asked to stop.
pub(super) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Logs go to standard error; `RUST_LOG` overrides the level.
pub(super) fn start_log(log: &Log) -> Result<(), Box<dyn Error>> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter)?,
        Err(_) => EnvFilter::try_new(&log.level)?,
    };
    let filter = without_contents(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let builder = builder.with_ansi(io::stderr().is_terminal());
    take_panics();
    match log.format {
        LogFormat::Text => builder.fmt_fields(fields()).try_init().map_err(|error| error.to_string())?,
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_writer(|| EscapedJson(io::stderr()));
            builder.try_init().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Whatever level is asked for, the frames of WebSocket connections are not logged: they hold secrets, and what users write. Nor is
/// what clients of queues say: names that are made of events, and what went wrong is a line of the forward.
fn without_contents(filter: EnvFilter) -> Result<EnvFilter, Box<dyn Error>> {
    const QUIET: [&str; 8] = [
        "tungstenite=warn",
        "tungstenite::protocol=warn",
        "tungstenite::protocol::frame=warn",
        "tungstenite::protocol::frame::frame=warn",
        "async_nats=off",
        "lapin=off",
        "redis=off",
        "rskafka=off",
    ];
    QUIET.iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
}

/// A connection is a file descriptor, and the usual soft limit of 1024 is less than `max_connections`.
fn raise_file_limit() {
    if let Err(failure) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!("cannot raise the limit of open files, so `ulimit -n` limits connections: {failure}");
    }
}
