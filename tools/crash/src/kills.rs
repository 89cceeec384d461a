//! The run: a load, and trouble at random moments; then everything is compared.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

use crate::{
    Failure, JournalKind, RunArguments, check, effects,
    load::Load,
    nodes::Node,
    postgres::Postgres,
    serve::{LOOSE, ORDERED},
};

/// When a server that is ready is killed, in milliseconds.
const LIFE_MILLIS: std::ops::Range<u64> = 20..400;

/// Pauses of a connection between two deliveries, at most, in milliseconds.
const PAUSE_MILLIS: u64 = 60;

/// How long observers may need for what is left, once nothing new arrives.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);

/// What happens to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Kill,
    /// The database forgets everything that is not durable, and comes back.
    RestartDatabase,
    /// The database is away for a while.
    StopDatabase,
}

/// Returns whether nothing was lost, doubled or run again.
pub(crate) fn run(arguments: &RunArguments) -> Result<bool, Failure> {
    if arguments.journal == JournalKind::Sqlite && arguments.nodes > 1 {
        return Err("several nodes need --journal postgres".into());
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("seed {seed}");
    let folder = tempfile::tempdir()?;
    let effects = folder.path().join("effects");
    fs::create_dir(&effects)?;
    let mut postgres = None;
    let journal = match arguments.journal {
        JournalKind::Sqlite => format!("sqlite://{}", folder.path().join("echostr.db").display()),
        JournalKind::Postgres => postgres.insert(Postgres::find(folder.path())?).url().to_owned(),
    };
    let nodes = (0..arguments.nodes).map(|number| Node::new(folder.path(), &effects, number, &journal));
    let mut nodes: Vec<Node> = nodes.collect::<Result<_, _>>()?;
    for node in &mut nodes {
        node.start()?;
    }
    nodes.iter_mut().try_for_each(Node::ready)?;

    let runtime = Runtime::new()?;
    let load = Load::new(nodes.iter().map(Node::address).collect(), 0..arguments.deliveries, 1, PAUSE_MILLIS);
    let connections = load.start(&runtime, usize::from(arguments.connections), seed);
    let started = Instant::now();
    let until = started + Duration::from_secs(arguments.seconds);
    let troubles = make_trouble(arguments, &mut nodes, postgres.as_mut(), &mut StdRng::seed_from_u64(seed), until)?;
    load.stop();
    runtime.block_on(async {
        for connection in connections {
            connection.await?;
        }
        Ok::<_, Failure>(())
    })?;
    let loaded = started.elapsed();
    let caught_up = catch_up(&load, &effects)?;
    for node in &mut nodes {
        let status = node.stop()?;
        if !status.success() {
            return Err(format!("a server that was asked to stop ended with {status}\n{}", node.log()).into());
        }
    }

    let stored = runtime.block_on(check::stored(&journal))?;
    let report = check::Report::new(&load.answered(), &stored, &effects)?;
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    println!("{:<58} {:>8}", "kills of a server", troubles.iter().filter(|it| **it == Trouble::Kill).count());
    if postgres.is_some() {
        let of = |trouble| troubles.iter().filter(|it| **it == trouble).count();
        println!("{:<58} {:>8}", "restarts of the database, at once", of(Trouble::RestartDatabase));
        println!("{:<58} {:>8}", "stops of the database, 3 s", of(Trouble::StopDatabase));
    }
    println!("{:<58} {:>8.1}", "seconds of load", loaded.as_secs_f64());
    println!("{:<58} {:>8}", "attempts", count(&load.counts.attempts));
    println!("{:<58} {:>8}", "attempts that were cancelled or not connected", count(&load.counts.cut));
    println!("{:<58} {:>8}", "attempts that were refused with 503", count(&load.counts.refused));
    println!("{:<58} {:>8}", "repeats after a 200, same reply", count(&load.counts.repeats));
    report.print();
    let panics: usize = nodes.iter().map(|node| node.log().matches("panicked").count()).sum();
    println!("{:<58} {panics:>8}   must be 0", "panics in the logs");
    let wrong = load.wrong();
    println!("{:<58} {:>8}   must be 0", "wrong answers", wrong.len());
    wrong.iter().take(10).for_each(|wrong| eprintln!("  {wrong}"));
    let right = report.is_right() && wrong.is_empty() && caught_up && panics == 0;
    if !right {
        let kept = folder.keep();
        eprintln!("FAILED; the files are in {}", kept.display());
    }
    Ok(right)
}

fn make_trouble(
    arguments: &RunArguments,
    nodes: &mut [Node],
    mut postgres: Option<&mut Postgres>,
    random: &mut StdRng,
    until: Instant,
) -> Result<Vec<Trouble>, Failure> {
    let mut troubles = Vec::new();
    let kills = |troubles: &[Trouble]| troubles.iter().filter(|it| **it == Trouble::Kill).count();
    while kills(&troubles) < arguments.kills as usize && Instant::now() < until {
        thread::sleep(Duration::from_millis(random.random_range(LIFE_MILLIS)));
        let database = postgres.as_deref_mut().filter(|postgres| postgres.is_own());
        let trouble = match database.is_some().then(|| random.random_range(0..10)) {
            Some(0) => Trouble::RestartDatabase,
            Some(1) => Trouble::StopDatabase,
            _ => Trouble::Kill,
        };
        match (trouble, database) {
            (Trouble::RestartDatabase, Some(database)) => database.restart()?,
            (Trouble::StopDatabase, Some(database)) => {
                database.stop()?;
                thread::sleep(Duration::from_secs(3));
                database.start()?;
            }
            _ => {
                let node = random.random_range(0..nodes.len());
                nodes[node].kill()?;
                nodes[node].start()?;
                nodes[node].ready()?;
            }
        }
        nodes.iter_mut().try_for_each(Node::ready)?;
        troubles.push(trouble);
    }
    Ok(troubles)
}

/// Waits until the observers have seen everything that was answered.
fn catch_up(load: &Arc<Load>, effects: &Path) -> Result<bool, Failure> {
    let until = Instant::now() + CATCH_UP_TIMEOUT;
    let answered = load.answered();
    loop {
        let sightings = effects::sightings(effects)?;
        let missing = [LOOSE, ORDERED].map(|observer| {
            let of_it = sightings.iter().filter(|sighting| sighting.observer == observer);
            let seen: HashSet<u64> = of_it.map(|sighting| sighting.serial).collect();
            answered.keys().filter(|serial| !seen.contains(serial)).count()
        });
        if missing == [0, 0] {
            return Ok(true);
        }
        if Instant::now() > until {
            eprintln!("observers have not caught up: {missing:?} events are missing");
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(200));
    }
}
