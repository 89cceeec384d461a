//! Searches for the body that costs the server the most CPU time, on every platform, by senders that can sign and by
//! anybody, and compares it with an ordinary text of the same size. What a sender pays for a byte must not be out of
//! all proportion to what the server pays.
//!
//! `scripts/cost.sh` builds and runs it; CONTRIBUTING.md says what it prints.

mod search;
mod server;
mod shape;
mod targets;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use rand::{SeedableRng as _, rngs::StdRng};

use self::{
    search::{Found, Ordinary, Search},
    server::{Server, Workspace},
    targets::Target,
};

type Failure = Box<dyn Error + Send + Sync>;

/// A body may cost as much as so many ordinary texts of its size.
const LIMIT: f64 = 10.0;

/// Searches for the dearest bodies. Ends with 1 when one costs more than 10 ordinary texts of the same size.
#[derive(Parser)]
struct Arguments {
    /// How long is searched on each target.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Bytes of a body; the default of `body_limit` by default.
    #[arg(long, default_value_t = 1 << 20)]
    bytes: usize,
    /// Makes the same choices again, though what is measured differs.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the targets with this in their names.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// How many shapes are shown of each target.
    #[arg(long, default_value_t = 3)]
    show: usize,
    /// The server; the one beside this program by default.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("cost: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Searches on every target; returns whether every body is within the limit.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let program = match &arguments.server {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("echostr"),
    };
    let length = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 86_400.0));
    println!("seed {seed}, {} bytes, {} s for each target\n", arguments.bytes, length.as_secs_f64());
    println!(
        "{:<24} {:>9} {:>9} {:>6} {:>9} {:>6} {:>8} {:>6}  shape",
        "target", "text ms", "ms", "ratio", "text MiB", "MiB", "bytes", "status"
    );
    let workspace = Workspace::new()?;
    let mut server = Server::start(&program, &workspace)?;
    let mut random = StdRng::seed_from_u64(seed);
    let (mut serial, mut dearest, mut tried) = (0, 0.0_f64, 0);
    let targets = Target::all()?;
    for target in &targets {
        let name = format!("{}{}", target.name, if target.trusted { "" } else { ", unsigned" });
        if arguments.target.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        // Unsigned requests are compared with signed ones.
        let trusted =
            targets.iter().find(|other| other.trusted && other.name == target.name).ok_or("no such account")?;
        let ordinary = Ordinary::new(trusted)?;
        let mut search = Search {
            target,
            server: &mut server,
            random: &mut random,
            serial: &mut serial,
            body: arguments.bytes,
            bases: search::bases(target)?,
            ordinary: &ordinary,
            tried: 0,
        };
        let text = search.measure_ordinary()?;
        let best = search.run(length, text)?;
        *search.serial += 1;
        let text_mib = memory(&program, &workspace, &ordinary.request(arguments.bytes, *search.serial))?;
        for (place, Found { shape, cost, ratio, bytes }) in best.iter().take(arguments.show).enumerate() {
            dearest = dearest.max(*ratio);
            let mib = memory(&program, &workspace, &search.request(shape))?;
            println!(
                "{:<24} {:>9.2} {:>9.2} {ratio:>5.1}x {text_mib:>9.1} {mib:>6.1} {bytes:>8} {:>6}  {}",
                if place == 0 { &name } else { "" },
                text.as_secs_f64() * 1e3,
                cost.cpu.as_secs_f64() * 1e3,
                cost.status,
                shape::describe(&search.bases[shape.base], shape),
            );
        }
        tried += search.tried;
    }
    println!("\n{tried} bodies tried; the dearest costs as much as {dearest:.1} ordinary texts (limit {LIMIT})");
    Ok(dearest <= LIMIT)
}

/// By how much a delivery raises the peak of a server that has just begun, in MiB.
fn memory(program: &Path, workspace: &Workspace, (path, body): &(String, String)) -> Result<f64, Failure> {
    let mut fresh = Server::start(program, workspace)?;
    let before = fresh.peak_mib()?;
    fresh.deliver(path, body)?;
    Ok((fresh.peak_mib()? - before).max(0.0))
}
