//! The command line: `echostr COMMAND`.
//!
//! Exit codes: 0 done, 1 it failed, 2 usage.

mod accounts;
mod archive;
#[cfg(feature = "sqlite")]
mod backup;
mod catalog;
mod check;
mod dead;
mod demo;
mod events;
mod explain;
mod forwards;
mod health;
mod ids;
mod journal;
mod keygen;
mod listen;
mod names;
mod observers;
mod reload;
mod remote;
mod serve;
mod shell;
mod simulate;
mod table;

use std::{
    error::Error,
    future::Future,
    io::{self, Write},
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{
    config::{Config, ConfigError},
    hooks::{HandlerError, Hooks},
    http,
    log::{escape, escape_lines},
    server::{StartError, trial::reachable},
};

/// Receives the callbacks of WeChat, WeCom and Tencent IM: verifies, decrypts, answers and stores them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server until it is stopped
    Serve(ConfigArgument),
    /// Checks the configuration and prints every problem with its line
    Check(check::Arguments),
    /// Runs a server with an account per platform and sends it the platforms' callbacks; needs no configuration
    Demo(demo::Arguments),
    /// Acts as the platform: signs, encrypts and posts a sample event, decrypts and prints the answer
    Simulate(simulate::Arguments),
    /// Verifies a captured request step by step and names the step that fails
    Explain(explain::Arguments),
    /// Sends events of a running server to a local address, and its answers back; for development
    Listen(listen::Arguments),
    /// Prints a new token and a new AES key, or a key for webhooks
    Keygen(keygen::Arguments),
    /// Lists the events that are known, or names the event type of payload files
    Catalog(catalog::Arguments),
    /// Lists, shows, follows and replays stored events
    #[command(subcommand)]
    Events(events::Command),
    /// Lists, replays and drops dead letters: events that an observer permanently failed on
    #[command(subcommand)]
    Dead(dead::Command),
    /// Lists observers with what is pending of them, and removes those that are no longer registered
    #[command(subcommand)]
    Observers(observers::Command),
    /// Lists forwards, ends their pauses, and tries their targets
    Forwards(forwards::Arguments),
    /// Has the running server read its configuration again, as SIGHUP does; it is applied as a whole or not at all
    Reload(reload::Arguments),
    /// Copies the journal as it is at this moment into a file; servers may run
    #[cfg(feature = "sqlite")]
    Backup(backup::BackupArguments),
    /// Fills an empty journal from a backup
    #[cfg(feature = "sqlite")]
    Restore(backup::RestoreArguments),
    /// Checks the journal
    #[command(subcommand)]
    Journal(journal::Command),
    /// Checks whether the running server is ready; for container health checks
    Health(ConfigArgument),
    /// Prints completions for a shell
    Completions(shell::CompletionArguments),
    /// Prints the manual page, or writes one for each command
    Man(shell::ManArguments),
}

/// Which configuration.
#[derive(clap::Args, Debug)]
struct ConfigArgument {
    /// Configuration file [default: $ECHOSTR_CONFIG, ./config/echostr.toml, /etc/echostr/echostr.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Longer lines of help are hard to read.
const MAX_HELP_WIDTH: usize = 100;

/// What a command ends with: its exit code, or what went wrong.
type Done = Result<ExitCode, Box<dyn Error>>;

/// Sets up the handlers of a program.
trait SetUp {
    /// The handlers for a configuration.
    fn build<'a>(&'a self, config: &'a Config) -> Pin<Box<dyn Future<Output = Result<Hooks, HandlerError>> + 'a>>;
}

impl<H: AsyncFn(&Config) -> Result<Hooks, HandlerError>> SetUp for H {
    fn build<'a>(&'a self, config: &'a Config) -> Pin<Box<dyn Future<Output = Result<Hooks, HandlerError>> + 'a>> {
        Box::pin(self(config))
    }
}

/// Builds the handlers for a configuration, as often as it is asked.
type BuildHooks<'h> = &'h dyn SetUp;

/// The handlers of the program, and those of `[handlers.demo]` if the configuration has that table.
async fn hooks(config: &Config, build: BuildHooks<'_>) -> Result<Hooks, HandlerError> {
    let hooks = build.build(config).await?;
    Ok(match crate::demo::hooks(config)? {
        Some(demo) => hooks.with_defaults(demo),
        None => hooks,
    })
}

/// Tables of handlers that [`hooks`] did not read: a warning for each.
fn unread_handlers(config: &Config) -> impl Iterator<Item = String> {
    config.unread_handlers().into_iter().map(|name| format!("[handlers.{name}]: no handler reads this table"))
}

/// The `echostr` command: parses the arguments of the process, and runs what they name. `hooks` sets up the handlers for the
/// configuration, whose `[handlers.NAME]` tables have their settings.
///
/// Only `serve` and `check --handlers` set up handlers. It is done inside the runtime, where it can connect to a database and
/// spawn tasks; an error ends the command. The process has a cryptography provider for TLS by then (`ring`).
///
/// ```no_run
/// use echostr::{config::Config, hooks::Hooks};
///
/// fn main() -> std::process::ExitCode {
///     echostr::run(async |config: &Config| {
///         let books = std::fs::read_to_string("books.txt")?;
///         println!("{} accounts, {} books", config.accounts.len(), books.lines().count());
///         Ok(Hooks::default())
///     })
/// }
/// ```
///
/// The program should have a fast allocator, such as mimalloc.
pub fn run<H>(hooks: H) -> ExitCode
where
    H: AsyncFn(&Config) -> Result<Hooks, HandlerError>,
{
    http::install_crypto();
    // Help has the width of the terminal, also where that is not the one of standard output.
    let matches = Arguments::command().term_width(table::terminal_width().min(MAX_HELP_WIDTH)).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|wrong| wrong.exit());
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments, &hooks),
        Command::Check(arguments) => check::run(&arguments, &hooks),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Listen(arguments) => listen::run(arguments),
        Command::Keygen(arguments) => keygen::run(&arguments),
        Command::Catalog(arguments) => catalog::run(&arguments),
        Command::Events(command) => events::run(&command),
        Command::Dead(command) => dead::run(&command),
        Command::Observers(command) => observers::run(&command),
        Command::Forwards(arguments) => forwards::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        #[cfg(feature = "sqlite")]
        Command::Backup(arguments) => backup::back_up(&arguments),
        #[cfg(feature = "sqlite")]
        Command::Restore(arguments) => backup::restore(&arguments),
        Command::Journal(command) => journal::run(&command),
        Command::Health(arguments) => health::run(&arguments),
        Command::Completions(arguments) => shell::complete(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
    };
    done.unwrap_or_else(|error| {
        // A closed pipe (`| head`) is not a failure.
        if io_error_kind(&*error) == Some(io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        // Of a configuration every problem has its line; other errors may be of texts from outside.
        let text = if is_of_configuration(&*error) { escape_lines(&text) } else { escape(&text) };
        let _ = writeln!(io::stderr(), "error: {text}");
        ExitCode::FAILURE
    })
}

/// Where the admin listener of a configuration is reached from here.
fn admin_url(config: &Config) -> String {
    format!("http://{}", reachable(config.admin.listen))
}

fn is_of_configuration(error: &(dyn Error + 'static)) -> bool {
    error.is::<ConfigError>() || matches!(error.downcast_ref(), Some(StartError::Config(_)))
}

fn io_error_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let direct = error.downcast_ref::<io::Error>().map(io::Error::kind);
    direct.or_else(|| error.downcast_ref::<serde_json::Error>()?.io_error_kind())
}

/// The runtime of a short command.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
