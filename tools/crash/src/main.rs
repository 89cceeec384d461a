//! Failure tests: a server that is killed at random moments while it is loaded, and the power that is cut in a trace of
//! what it wrote. Nothing that was acknowledged to a platform may be lost, doubled or run again.
//!
//! `scripts/crash.sh` and `scripts/powercut.sh` build and run it; CONTRIBUTING.md says what they prove.

mod kf;
mod kills;
mod powercut;
mod trace;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use crash::{deliveries, load, serve};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kills a server under load, again and again, and checks what is left.
    Run(RunArguments),
    /// Kills servers that pull and answer messages of customer service, with an API that misbehaves.
    Kf(KfArguments),
    /// The server that is killed.
    Serve {
        #[arg(long)]
        config: PathBuf,
        /// The folder of the files that handlers append to.
        #[arg(long)]
        effects: PathBuf,
    },
    /// Sends deliveries to a server with the accounts of `config`, each until it is answered.
    Send {
        address: SocketAddr,
        /// The number of the first one.
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[arg(long, default_value_t = 200)]
        deliveries: u64,
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
    /// Prints a configuration with the accounts that `send` sends to.
    Config {
        listen: SocketAddr,
        admin: SocketAddr,
        /// Of the journal.
        url: String,
    },
    /// Checks a trace that strace has written of a server: see `scripts/powercut.sh`.
    Powercut {
        trace: PathBuf,
        /// At how many of the answers the power is cut.
        #[arg(long, default_value_t = 60)]
        cuts: usize,
        #[arg(long)]
        seed: Option<u64>,
        /// Pretend that the log was never synced: the check has to fail.
        #[arg(long)]
        without_syncs: bool,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// How often a server is killed.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    #[arg(long, value_enum, default_value_t = JournalKind::Sqlite)]
    journal: JournalKind,
    /// Servers on one journal; more than one needs PostgreSQL.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    nodes: u16,
    /// End after this long, whatever the number of kills.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Connections that send.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// Deliveries, at most.
    #[arg(long, default_value_t = 100_000)]
    deliveries: u64,
    /// Of the randomness; printed by each run.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, clap::Args)]
struct KfArguments {
    /// Messages that customers write.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Customer-service accounts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=9))]
    accounts: u16,
    /// How often a server is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    kills: u32,
    #[arg(long, value_enum, default_value_t = JournalKind::Sqlite)]
    journal: JournalKind,
    /// Servers on one journal; more than one needs PostgreSQL.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    nodes: u16,
    /// Of the randomness; printed by each run.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum JournalKind {
    Sqlite,
    Postgres,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => kills::run(&arguments),
        Command::Kf(arguments) => kf::run(&arguments),
        Command::Serve { config, effects } => serve::run(&config, &effects),
        Command::Send { address, first, deliveries, connections } => {
            load::send(address, first, deliveries, connections)
        }
        Command::Config { listen, admin, url } => {
            println!("{}[handlers.demo]", deliveries::config(listen, admin, &url));
            Ok(true)
        }
        Command::Powercut { trace, cuts, seed, without_syncs } => powercut::run(&trace, cuts, seed, without_syncs),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("crash: {failure}");
            ExitCode::FAILURE
        }
    }
}
