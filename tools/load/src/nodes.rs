//! Several nodes on one PostgreSQL: what a delivery costs each of them, the database and the client, from which follows what
//! machines of their own carry. The last column checks that: what the cores of this machine should carry by these costs.

use std::{fs, path::Path, thread, time::Duration};

use crash::postgres::Postgres;

use crate::{
    Arguments, Failure,
    cases::{Batch, Case},
    client::{Client, Round},
    median,
    pair::WARM_UP,
    process::{Core, Process, Workspace, cpu_of_family},
};

/// Bytes that PostgreSQL has logged, and transactions that it has committed, since it began.
const WRITTEN: &str =
    "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint || ' ' || sum(xact_commit)::bigint FROM pg_stat_database";

/// What the database has done so far, and the CPU time of the client.
#[derive(Clone, Copy)]
struct Work {
    cpu: Duration,
    client: Duration,
    bytes: f64,
    commits: f64,
}

/// One round of all nodes.
struct Shared {
    /// Deliveries of all nodes in a second.
    rate: f64,
    p99: Duration,
    /// CPU time for a delivery, in microseconds.
    node_us: f64,
    database_us: f64,
    client_us: f64,
    bytes: f64,
    commits: f64,
    wrong: usize,
}

/// Prints a row for each number of nodes up to `most`. Returns whether every answer was right.
pub(crate) fn run(arguments: &Arguments, most: u16, cases: &[Case]) -> Result<bool, Failure> {
    let workspace = Workspace::new()?;
    println!(
        "{} rounds of {} s, {} connections to each node; nodes and database share the cores\n",
        arguments.rounds, arguments.seconds, arguments.connections
    );
    println!(
        "{:<30} {:>5} {:>12} {:>7} {:>8} {:>8} {:>8} {:>9} {:>8} {:>12}",
        "case",
        "nodes",
        "deliveries/s",
        "p99 ms",
        "node us",
        "database",
        "client",
        "WAL bytes",
        "commits",
        "by the costs"
    );
    let cores = thread::available_parallelism()?.get() as f64;
    let mut wrong = 0;
    for case in cases {
        for nodes in 1..=most {
            let rounds = measure(arguments, case.name(), nodes, &workspace)?;
            wrong += rounds.iter().map(|round| round.wrong).sum::<usize>();
            let of = |value: &dyn Fn(&Shared) -> f64| median(rounds.iter().map(value).collect());
            println!(
                "{:<30} {nodes:>5} {:>12.0} {:>7.2} {:>8.2} {:>8.2} {:>8.2} {:>9.0} {:>8.4} {:>12.0}",
                case.name(),
                of(&|round| round.rate),
                of(&|round| round.p99.as_secs_f64() * 1e3),
                of(&|round| round.node_us),
                of(&|round| round.database_us),
                of(&|round| round.client_us),
                of(&|round| round.bytes),
                of(&|round| round.commits),
                of(&|round| cores * 1e6 / (round.node_us + round.database_us + round.client_us)),
            );
        }
    }
    println!("\nnot 200, or not the right answer: {wrong}");
    Ok(wrong == 0)
}

/// Each number of nodes has a database of its own.
fn measure(
    arguments: &Arguments,
    case: &'static str,
    nodes: u16,
    workspace: &Workspace,
) -> Result<Vec<Shared>, Failure> {
    let folder = workspace.folder(&format!("{nodes} nodes of {}", case.replace('>', "")))?;
    let postgres = Postgres::start_in(&folder)?;
    let mut servers = Vec::new();
    for _ in 0..nodes {
        let server = start(arguments.server.as_deref(), workspace, &postgres)?;
        let client = Client::connect(server.address(), usize::from(arguments.connections))?;
        servers.push((server, client));
    }
    let length = arguments.seconds.clamp(0.05, 10.0);
    // Each node has numbers of its own: it must not get the repeats of another.
    let mut serials: Vec<u64> = (0..u64::from(nodes)).map(|node| node << 40).collect();
    let warm_up = round(case, &mut servers, &mut serials, WARM_UP)?;
    let rate = warm_up.iter().map(Round::rate).sum::<f64>();
    let count = ((rate * length / f64::from(nodes)) as usize).clamp(500, crate::MAX_BATCH);
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        let before = work(&postgres)?;
        let each = round(case, &mut servers, &mut serials, count)?;
        let after = work(&postgres)?;
        let deliveries = (count * usize::from(nodes)) as f64;
        let us_of = |spent: Duration| spent.as_secs_f64() * 1e6 / deliveries;
        rounds.push(Shared {
            rate: each.iter().map(Round::rate).sum(),
            p99: each.iter().map(|round| round.p99).max().unwrap_or_default(),
            node_us: each.iter().map(Round::cpu_us).sum::<f64>() / f64::from(nodes),
            database_us: us_of(after.cpu.saturating_sub(before.cpu)),
            client_us: us_of(after.client.saturating_sub(before.client)),
            bytes: (after.bytes - before.bytes) / deliveries,
            commits: (after.commits - before.commits) / deliveries,
            wrong: each.iter().map(|round| round.wrong).sum(),
        });
    }
    Ok(rounds)
}

/// The nodes run wherever the system likes: with one core for all of them, each would wait for the others.
fn start(program: Option<&Path>, workspace: &Workspace, postgres: &Postgres) -> Result<Process, Failure> {
    Process::echostr(program, workspace, Core::Any, (postgres.url(), None))
}

/// Sends a batch to every node at one time.
fn round(
    case: &'static str,
    servers: &mut [(Process, Client)],
    serials: &mut [u64],
    count: usize,
) -> Result<Vec<Round>, Failure> {
    thread::scope(|scope| {
        let sending: Vec<_> = servers
            .iter_mut()
            .zip(&mut *serials)
            .map(|((server, client), serial)| {
                scope.spawn(move || {
                    let case = Case::all().into_iter().find(|known| known.name() == case).ok_or("no such case")?;
                    let batch = Batch::new(&case, *serial, count);
                    *serial = batch.next_serial();
                    client.run(server, Some(&case), &batch, count)
                })
            })
            .collect();
        sending.into_iter().map(|node| node.join().map_err(|_| "a client panicked")?).collect()
    })
}

fn work(postgres: &Postgres) -> Result<Work, Failure> {
    let first = postgres.process().ok_or("the database has no process")?;
    let written = postgres.ask(WRITTEN)?;
    let (bytes, commits) = written.split_once(' ').ok_or("the database does not say what it wrote")?;
    Ok(Work {
        cpu: cpu_of_family(first)?.into_values().sum(),
        client: own_cpu()?,
        bytes: bytes.parse()?,
        commits: commits.parse()?,
    })
}

/// The CPU time of this process, with that of its threads that have ended.
fn own_cpu() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit_once(')').ok_or("/proc/self/stat cannot be read")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    // Linux counts hundredths of a second here, whatever its own clock does.
    Ok(Duration::from_millis(ticks * 10))
}
