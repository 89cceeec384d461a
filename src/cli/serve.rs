//! `echostr serve`.

use std::{
    error::Error,
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{BuildHooks, ConfigArgument, Done, table};
use crate::{
    clock::Clock,
    config::{Config, Log, LogFormat, find_config},
    hooks::{HandlerError, Hooks},
    log::{EscapedJson, fields, filter, let_level_change, take_panics, take_panics_as_json},
    server::{Reload, RunError, Server},
    telemetry,
};

pub(super) fn run(arguments: &ConfigArgument, hooks: BuildHooks<'_>) -> Done {
    let file = find_config(arguments.config.as_deref())?;
    let config = Config::load(&file)?;
    start_log(&config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let format = config.log.format;
    match runtime.block_on(serve(&file, config, hooks)) {
        // Every line of such a log is an object, the last one too.
        Err(failure) if format == LogFormat::Json => {
            error!("{failure}");
            Ok(ExitCode::FAILURE)
        }
        done => done,
    }
}

async fn serve(file: &Path, config: Config, build: BuildHooks<'_>) -> Done {
    match telemetry::start() {
        Ok(Some(to)) => info!(%to, "traces are exported to {to}"),
        Ok(None) => {}
        Err(wrong) => return Err(wrong.into()),
    }
    let hooks = set_up(&config, build).await.map_err(|failure| -> Box<dyn Error> { failure })?;
    let server = Server::bind(&config, hooks, Clock::system()).await?;
    for account in &config.accounts {
        info!(account = account.id(), "{}: {}", account.id(), account.receives());
    }
    let (address, admin) = (server.address()?, server.admin_address()?);
    info!(%address, %admin, "listening on {address}, health and metrics on {admin}");
    tokio::spawn(reload_on_hangup(server.reload(), signal(SignalKind::hangup())?));
    let load = async || {
        let config = Config::load(file)?;
        let hooks = set_up(&config, build).await?;
        Ok((config, hooks))
    };
    let ended = server.run_reloading(stop()?, load).await;
    let _ = tokio::task::spawn_blocking(telemetry::flush).await;
    match ended {
        Err(lost @ RunError::Lost(_)) => Err(lost.into()),
        Ok(()) | Err(RunError::Cancelled) => Ok(ExitCode::SUCCESS),
    }
}

/// The handlers for a configuration. What may be a mistake in it is logged.
async fn set_up(config: &Config, build: BuildHooks<'_>) -> Result<Hooks, HandlerError> {
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let hooks = super::hooks(config, build).await?;
    super::unread_handlers(config).for_each(|warning| warn!("{warning}"));
    Ok(hooks)
}

/// SIGHUP has the configuration read again. The server logs what came of it.
async fn reload_on_hangup(reload: Reload, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let _ = reload.reload().await;
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&log.level)?).with_writer(io::stderr);
    let builder = builder.with_ansi(table::wants_colour() && io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => take_panics(),
        LogFormat::Json => take_panics_as_json(),
    }
    match log.format {
        LogFormat::Text => {
            let builder = builder.fmt_fields(fields()).with_filter_reloading();
            let level = builder.reload_handle();
            builder.try_init().map_err(|error| error.to_string())?;
            let_level_change(move |filter| level.reload(filter).is_ok());
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_writer(|| EscapedJson(io::stderr()));
            let builder = builder.with_filter_reloading();
            let level = builder.reload_handle();
            builder.try_init().map_err(|error| error.to_string())?;
            let_level_change(move |filter| level.reload(filter).is_ok());
        }
    }
    Ok(())
}

/// A connection is a file descriptor, and the usual soft limit of 1024 is less than `max_connections`.
fn raise_file_limit() {
    if let Err(failure) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!("cannot raise the limit of open files, so `ulimit -n` limits connections: {failure}");
    }
}
