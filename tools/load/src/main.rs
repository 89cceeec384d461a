//! Measures what a delivery costs: requests per second, latency, and the server's CPU time for each, the last one also as
//! a ratio to a bare axum server that reads the body and answers a constant of the same size. CPU time per request is
//! the figure that is stable, and the ratio the one that can be compared between machines.
//!
//! `scripts/load.sh` builds and runs it.

mod bare;
mod cases;
mod client;
mod forwards;
mod memory;
mod nodes;
mod pair;
mod process;
mod rate;
mod stored;
mod waiting;

use std::{error::Error, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use self::{
    cases::Case,
    client::Round,
    pair::Pair,
    process::{Core, Workspace},
};

type Failure = Box<dyn Error + Send + Sync>;

/// As the server has it, so that the bare one is built as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of one round at most: they are made before it, and held in memory.
const MAX_BATCH: usize = 200_000;

/// A server less busy than this was not measured, but waited for.
const MIN_BUSY: f64 = 0.85;

/// Measures echostr against a bare axum server. The whole run takes about rounds x seconds x 15.
#[derive(Parser)]
struct Arguments {
    /// Rounds of each case, each next to one of the bare server.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of a round.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Keep-alive connections, each with one request at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Only the cases with this in their names.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Keep events in a journal: `sqlite`, or the URL of a PostgreSQL one.
    #[arg(long, value_name = "JOURNAL")]
    journal: Option<String>,
    /// `memory_limit` of the journal; the server's default without it.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<String>,
    /// Send so many deliveries a second, whatever the server does (open loop), and print latencies from the moment each was due.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Measure one node and more, up to so many, on a PostgreSQL of their own.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=16), conflicts_with = "rate")]
    nodes: Option<u16>,
    /// Measure memory instead of time.
    #[arg(long)]
    memory: bool,
    /// Measure memory under a flood of large notices that are never pulled.
    #[arg(long)]
    waiting: bool,
    /// Measure admissions into a SQLite journal that holds so many events already, as in 10000,1000000.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    stored: Vec<u64>,
    /// Measure what it costs to forward so many events to a healthy target.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    forwards: Option<u64>,
    /// The server; the one beside this program by default.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Serve as the bare server on this address.
    #[arg(long, hide = true, requires_all = ["path", "size"])]
    bare: Option<SocketAddr>,
    #[arg(long, hide = true)]
    path: Option<String>,
    #[arg(long, hide = true)]
    size: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.bare, &arguments.path, arguments.size) {
        (Some(address), Some(path), Some(size)) => bare::serve(*address, path, size).map(|()| true),
        _ if !arguments.stored.is_empty() => stored::run(&arguments.stored).map(|()| true),
        _ if arguments.forwards.is_some() => {
            let events = arguments.forwards.unwrap_or_default();
            forwards::run(events, arguments.journal.as_deref(), arguments.server.as_deref()).map(|()| true)
        }
        _ if arguments.waiting => waiting::run(arguments.server.as_deref()).map(|()| true),
        _ if arguments.memory => memory::run(arguments.server.as_deref()).map(|()| true),
        _ => run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Measures every case; returns whether every answer was right.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let wanted = |case: &Case| arguments.case.as_ref().is_none_or(|name| case.name().contains(name.as_str()));
    let cases: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let names: Vec<_> = Case::all().iter().map(Case::name).collect();
        return Err(format!("unknown case; expected one of {}", names.join(", ")).into());
    }
    if let Some(rate) = arguments.rate {
        return rate::run(arguments, rate, &cases);
    }
    if let Some(most) = arguments.nodes {
        return nodes::run(arguments, most, &cases);
    }
    let workspace = Workspace::new()?;
    let core = Core::of_server();
    println!("{} rounds of {} s, {} connections, {core}\n", arguments.rounds, arguments.seconds, arguments.connections);
    println!(
        "{:<30} {:>10} {:>7} {:>7} {:>6} {:>7} {:>8} {:>7} {:>6}",
        "case", "requests/s", "p50 ms", "p99 ms", "busy", "CPU us", "bare us", "ratio", "aim"
    );
    let (mut bare, mut wrong, mut waited) = (Vec::new(), 0, false);
    for case in cases {
        let measured = measure(arguments, &case, &workspace, core)?;
        wrong += measured.wrong;
        waited |= median(measured.rounds.iter().map(Round::busy).collect()) < MIN_BUSY;
        print_row(case.name(), &measured.rounds, Some((&measured.bare, case.aim(arguments.journal.is_some()))));
        bare.extend(measured.bare);
    }
    print_row("bare", &bare, None);
    if waited {
        println!(
            "\nThe server was waiting for the load: something else keeps the cores busy. CPU and ratio are too high."
        );
    }
    println!("\nnot 200, or not the right answer: {wrong}");
    Ok(wrong == 0)
}

struct Measured {
    rounds: Vec<Round>,
    /// The rounds of the bare server, each behind the one of the same place.
    bare: Vec<Round>,
    wrong: usize,
}

fn measure(arguments: &Arguments, case: &Case, workspace: &Workspace, core: Core) -> Result<Measured, Failure> {
    let length = Duration::from_secs_f64(arguments.seconds.clamp(0.05, 10.0));
    let mut pair = Pair::start(arguments, case, workspace, core)?;
    let requests = |warm_up: &Round| ((warm_up.rate() * length.as_secs_f64()) as usize).clamp(1_000, MAX_BATCH);
    let (count, bare_count) = (requests(&pair.warm_up), requests(&pair.bare_warm_up));
    let mut measured = Measured { rounds: Vec::new(), bare: Vec::new(), wrong: pair.warm_up.wrong };
    for _ in 0..arguments.rounds {
        let (round, bare) = pair.round(count, bare_count, None)?;
        measured.wrong += round.wrong;
        measured.rounds.push(round);
        measured.bare.push(bare);
    }
    Ok(measured)
}

fn print_row(name: &str, rounds: &[Round], bare: Option<(&[Round], f64)>) {
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    print!(
        "{name:<30} {:>10.0} {:>7.2} {:>7.2} {:>5.0}% {:>7.2}",
        of(&Round::rate),
        of(&|round| round.p50.as_secs_f64() * 1e3),
        of(&|round| round.p99.as_secs_f64() * 1e3),
        of(&Round::busy) * 100.0,
        of(&Round::cpu_us),
    );
    match bare {
        Some((bare, aim)) => {
            let ratios = rounds.iter().zip(bare).map(|(round, bare)| round.cpu_us() / bare.cpu_us()).collect();
            let bare = median(bare.iter().map(Round::cpu_us).collect());
            println!(" {bare:>8.2} {:>6.2}x {aim:>5.1}x", median(ratios));
        }
        None => println!(),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
