//! What an admission costs in a journal that holds much already, with an observer and retention running beside it.

use std::{
    borrow::Cow,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use echostr::{
    clock::Clock,
    event::Platform,
    internals::{
        journal::{
            Admission, EventRecord, Finish, Finished, Journal, NewEvent, Observer, Options, ReplyRecord,
            sqlite::SqliteJournal,
        },
        supervisor::Supervisor,
    },
    payload::{self, Form, Payload},
    platform::{self, Body},
};
use tokio::runtime::Builder;

use crate::{
    Failure,
    process::{Workspace, cpu_of},
};

/// Deliveries at one time: while the journal is filled, and while it is measured.
const FILLING: u64 = 1024;
const MEASURED: u64 = 64;

/// Events that are measured, in so many rounds.
const EVENTS: u64 = 40_000;
const ROUNDS: usize = 5;

/// A journal is not measured with less room than this, in bytes.
const LEAST_SIZE: u64 = 128 << 20;

const OBSERVER: &str = "audit";

/// Prints a row for each number of events.
pub(crate) fn run(counts: &[u64]) -> Result<(), Failure> {
    let workspace = Workspace::new()?;
    let file = workspace.sqlite()?;
    let path = Path::new(file.strip_prefix("sqlite://").unwrap_or(&file));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let next = Arc::new(AtomicU64::new(1));
    println!("{MEASURED} deliveries at one time, an observer and retention beside them, medians of {ROUNDS} rounds");
    println!(
        "{:>12} {:>11} {:>9} {:>9} {:>9} {:>8} {:>12}",
        "events", "admitted/s", "p50 ms", "p99 ms", "CPU us", "ratio", "bytes/event"
    );
    let mut first = None;
    for count in counts {
        fill(&runtime, path, &next, *count)?;
        let size = fs::metadata(path)?.len();
        let rounds = measure(&runtime, path, &next, size)?;
        let of = |value: &dyn Fn(&Measured) -> f64| crate::median(rounds.iter().map(value).collect());
        let cpu = of(&|round| round.cpu.as_secs_f64() * 1e6 / EVENTS as f64);
        let first = *first.get_or_insert(cpu);
        println!(
            "{count:>12} {:>11.0} {:>9.2} {:>9.2} {cpu:>9.2} {:>7.2}x {:>12.0}",
            of(&|round| EVENTS as f64 / round.took.as_secs_f64()),
            of(&|round| round.p50.as_secs_f64() * 1e3),
            of(&|round| round.p99.as_secs_f64() * 1e3),
            cpu / first,
            size as f64 / *count as f64,
        );
    }
    Ok(())
}

fn open(path: &Path, max_size: u64) -> Result<Arc<SqliteJournal>, Failure> {
    let observer = Observer {
        name: OBSERVER.into(),
        in_order: false,
        from_beginning: false,
        wants: Arc::new(|_, _| true),
        unanswered: None,
    };
    let (retention, supervisor) = (Duration::from_secs(7 * 86_400), Supervisor::default());
    let (observers, clock, commits) = (vec![observer], Clock::system(), None);
    let options = Options { retention, max_size, observers, supervisor, clock, commits };
    Ok(Arc::new(SqliteJournal::open(path, &options)?))
}

/// Adds events until there have been so many.
fn fill(runtime: &tokio::runtime::Runtime, path: &Path, next: &Arc<AtomicU64>, count: u64) -> Result<(), Failure> {
    let journal = open(path, u64::MAX / 2)?;
    let left = count.saturating_sub(next.load(Ordering::Relaxed));
    runtime.block_on(admit(&journal, next, left, FILLING, false))?;
    Ok(runtime.block_on(journal.close())?)
}

struct Measured {
    took: Duration,
    cpu: Duration,
    p50: Duration,
    p99: Duration,
}

/// Admits events into a journal that may not grow: for each one that comes, an old one goes.
fn measure(
    runtime: &tokio::runtime::Runtime,
    path: &Path,
    next: &Arc<AtomicU64>,
    size: u64,
) -> Result<Vec<Measured>, Failure> {
    let journal = open(path, ((size as f64 / 0.94) as u64).max(LEAST_SIZE))?;
    let stop = Arc::new(AtomicBool::new(false));
    let observing = runtime.spawn(observe(Arc::clone(&journal), Arc::clone(&stop)));
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (cpu, started) = (cpu_of(std::process::id())?, Instant::now());
        let mut latencies = runtime.block_on(admit(&journal, next, EVENTS, MEASURED, true))?;
        let (took, cpu) = (started.elapsed(), cpu_of(std::process::id())?.saturating_sub(cpu));
        latencies.sort_unstable();
        let percentile = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
        rounds.push(Measured { took, cpu, p50: percentile(50), p99: percentile(99) });
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(observing)??;
    runtime.block_on(journal.close())?;
    Ok(rounds)
}

async fn observe(journal: Arc<SqliteJournal>, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    while !stop.load(Ordering::Relaxed) {
        let leased = journal.lease(OBSERVER, 256, Duration::from_secs(60)).await?;
        if leased.is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(100), journal.arrivals().notified()).await;
            continue;
        }
        let done = leased.into_iter().map(|leased| Finished { lease: leased.lease, outcome: Finish::Done });
        journal.finish(done.collect()).await?;
    }
    Ok(())
}

/// Admits and answers so many events, some at one time; returns how long each took.
async fn admit(
    journal: &Arc<SqliteJournal>,
    next: &Arc<AtomicU64>,
    count: u64,
    at_once: u64,
    observed: bool,
) -> Result<Vec<Duration>, Failure> {
    let end = next.load(Ordering::Relaxed) + count;
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let (journal, next) = (Arc::clone(journal), Arc::clone(next));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return Ok::<_, Failure>(latencies);
                    }
                    let started = Instant::now();
                    let Admission::Run(entry) = journal.admit(event(&journal, number, observed)).await? else {
                        return Err("an event was admitted twice".into());
                    };
                    journal.record(
                        &entry,
                        ReplyRecord { body: Body::Document("x".repeat(250)), failure: None, sender: None },
                    );
                    if let Err(failure) = entry.answered().await {
                        return Err(failure.clone().into());
                    }
                    latencies.push(started.elapsed());
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    next.store(end, Ordering::Relaxed);
    Ok(latencies)
}

fn event(journal: &SqliteJournal, number: u64, observed: bool) -> NewEvent {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let received = i64::try_from(now.as_millis()).unwrap_or_default();
    let user = format!("oUser{:023}", number % 100_003);
    let text = format!(
        "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName><FromUserName><![CDATA[{user}]]></FromUserName>\
         <CreateTime>{}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{:0>120}]]></Content>\
         <MsgId>{}</MsgId></xml>",
        1_790_000_000 + number / 10_000,
        number,
        // Numbers grow, and not one by one.
        24_000_000_000_000_000 + number * 1000 + number.wrapping_mul(7919) % 1000,
    );
    let key = payload::parse(Form::Xml, &text)
        .ok()
        .and_then(|tree| platform::dedupe_key(Platform::Mp, "mp/shop", None, &tree, &text, &|_| None));
    let facts = EventRecord {
        platform: Platform::Mp,
        account: "mp/shop".into(),
        event_type: Cow::Borrowed("mp.message.text"),
        subject: Some(user.into()),
        form: Form::Xml,
        payload: Payload::new(text),
        query: None,
        received,
    };
    NewEvent {
        id: journal.next_id(received),
        key,
        record: facts,
        observers: if observed { vec![OBSERVER.into()] } else { Vec::new() },
    }
}
