//! Failure test: two nodes on one PostgreSQL, and the network between them and it, which stalls and breaks at random. What
//! was acknowledged to the platform must have been answered by its responder, be in the journal once, and reach its
//! observers.
//!
//! `scripts/partition.sh` builds and runs it; CONTRIBUTING.md says what it proves.

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use crash::{
    Failure,
    load::Pace,
    nodes::Node,
    postgres::{self, Postgres},
    serve,
    trial::{Folder, Trial},
};
use proxy::{Fault, Proxy};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

/// Nodes, each behind a proxy of its own.
const NODES: u16 = 2;

/// How long a fault lasts, and how long it takes until the next of the same node, in milliseconds.
const FAULT_MILLIS: std::ops::RangeInclusive<u64> = 1_000..=14_000;
const PEACE_MILLIS: std::ops::RangeInclusive<u64> = 500..=6_000;

/// How long the platform waits before it repeats a delivery, at most, in milliseconds.
const RETRY_MILLIS: std::ops::RangeInclusive<u64> = 100..=5_000;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loads two nodes while their connections to the database stall and break, and checks what is left.
    Run(RunArguments),
    /// The server under test.
    Serve {
        #[arg(long)]
        config: PathBuf,
        /// The folder of the files that handlers append to.
        #[arg(long)]
        effects: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// How long the load and the faults last.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Of the randomness; printed by each run.
    #[arg(long)]
    seed: Option<u64>,
    /// Connections that send.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// Deliveries, at most.
    #[arg(long, default_value_t = 1_000_000)]
    deliveries: u64,
    /// The pause of a connection between two deliveries, at most, in milliseconds.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pause: u64,
    /// Another build of this program, which serves.
    #[arg(long)]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Serve { config, effects } => serve::run(&config, &effects),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("partition: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether nothing was lost, doubled or answered without its reply.
fn run(arguments: &RunArguments) -> Result<bool, Failure> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (folder, runtime) = (Folder::new()?, Runtime::new()?);
    let postgres = Postgres::start_in(folder.path())?;
    let database = postgres.address().ok_or("the database is not our own")?;
    let proxies = (0..NODES).map(|_| runtime.block_on(Proxy::start(database)));
    let proxies: Vec<Proxy> = proxies.collect::<Result<_, _>>()?;
    let nodes = (0..NODES).zip(&proxies).map(|(number, proxy)| {
        let journal = postgres::url_at(proxy.address());
        let node = Node::new(folder.path(), folder.effects(), number, &journal)?;
        Ok(match &arguments.server {
            Some(program) => node.run_by(program.clone()),
            None => node,
        })
    });
    let nodes: Vec<Node> = nodes.collect::<Result<_, Failure>>()?;
    let pace = Pace { pause: arguments.pause, retry: RETRY_MILLIS };
    let trial = Trial::start(&folder, runtime, nodes, pace, arguments.deliveries, arguments.connections, seed)?;

    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let faults = thread::scope(|scope| {
        let disturb = |(number, proxy)| scope.spawn(move || disturb(proxy, seed.wrapping_add(number), until));
        let running: Vec<_> = (0_u64..).zip(&proxies).map(disturb).collect();
        let ended = running.into_iter().map(|it| it.join().map_err(|_| "what makes the faults panicked"));
        ended.collect::<Result<Vec<Vec<Fault>>, _>>()
    })?
    .concat();
    let of = |fault| faults.iter().filter(|it| **it == fault).count();
    let facts = [
        ("connections to the database", proxies.iter().map(Proxy::opened).sum()),
        ("stalls of both ways", of(Fault::Stall)),
        ("stalls of what nodes send", of(Fault::StallRequests)),
        ("stalls of what the database sends", of(Fault::StallResponses)),
        ("cuts", of(Fault::Cut)),
    ];
    let right = trial.finish(postgres.url(), &facts)?;
    drop(postgres);
    folder.end(right);
    Ok(right)
}

/// One fault after the other on the connections of a node; returns which there were.
fn disturb(proxy: &Proxy, seed: u64, until: Instant) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let rest = |millis| {
        let until = until.min(Instant::now() + Duration::from_millis(millis));
        thread::sleep(until.saturating_duration_since(Instant::now()));
    };
    while Instant::now() < until {
        rest(random.random_range(PEACE_MILLIS));
        let fault = Fault::ALL[random.random_range(0..Fault::ALL.len())];
        match random.random() {
            true => proxy.begin(fault),
            // Some of what the node does goes on.
            false => proxy.begin_some(fault, || random.random()),
        }
        rest(random.random_range(FAULT_MILLIS));
        proxy.end();
        faults.push(fault);
    }
    faults
}
