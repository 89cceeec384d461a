//! The run: a load, and trouble at random moments; then everything is compared.

use std::{
    thread,
    time::{Duration, Instant},
};

use crash::{
    Failure, deliveries,
    load::{Pace, QUICK_RETRY},
    nodes::Node,
    postgres::Postgres,
    slow::Api,
    target::Target,
    trial::{Folder, Trial},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

use crate::{JournalKind, RunArguments};

/// When a server that is ready is killed, in milliseconds.
const LIFE_MILLIS: std::ops::Range<u64> = 20..400;

/// Pauses of a connection between two deliveries, at most, in milliseconds.
const PAUSE_MILLIS: u64 = 60;

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
    let folder = Folder::new()?;
    let mut postgres = None;
    let journal = match arguments.journal {
        JournalKind::Sqlite => format!("sqlite://{}", folder.path().join("echostr.db").display()),
        JournalKind::Postgres => postgres.insert(Postgres::find(folder.path())?).url().to_owned(),
    };
    let runtime = Runtime::new()?;
    let api = Api::start(&runtime, seed)?;
    let target = Target::start(&runtime, folder.effects())?;
    let nodes = (0..arguments.nodes).map(|number| {
        Node::with_config(folder.path(), folder.effects(), number, |address, admin| {
            deliveries::config(address, admin, &journal) + &api.accounts() + &target.forwards()
        })
    });
    let nodes: Vec<Node> = nodes.collect::<Result<_, _>>()?;
    let pace = Pace { pause: PAUSE_MILLIS, retry: QUICK_RETRY };
    let (deliveries, connections) = (arguments.deliveries, arguments.connections);
    let trial = Trial::start(&folder, runtime, nodes, pace, deliveries, connections, seed)?;
    let mut trial = trial.with_slow_answers(api, seed).with_forwards();
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let random = &mut StdRng::seed_from_u64(seed);
    let troubles = make_trouble(arguments, &mut trial.nodes, postgres.as_mut(), random, until)?;
    let of = |trouble| troubles.iter().filter(|it| **it == trouble).count();
    let mut facts = vec![("kills of a server", of(Trouble::Kill))];
    if postgres.is_some() {
        facts.push(("restarts of the database, at once", of(Trouble::RestartDatabase)));
        facts.push(("stops of the database, 3 s", of(Trouble::StopDatabase)));
    }
    let right = trial.finish(&journal, &facts)?;
    drop(postgres);
    folder.end(right);
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
