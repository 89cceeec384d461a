//! What it costs to keep an event and its reply: time per event, with as many at one time as make a commit worth while.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use echostr::{
    clock::Clock,
    event::Platform,
    internals::{
        journal::{
            Admission, EventRecord, Journal, NewEvent, Options, ReplyRecord, memory::MemoryJournal,
            sqlite::SqliteJournal,
        },
        supervisor::Supervisor,
    },
    payload::{self, Form, Payload},
    platform::{self, Body},
};
use tempfile::TempDir;
use tokio::runtime::Builder;

const AT_ONCE: [u64; 3] = [1, 8, 64];

/// A text message of 370 bytes, as they mostly are.
fn event(journal: &dyn Journal, number: u64) -> NewEvent {
    let head = format!(
        "<xml><ToUserName>gh_0123456789ab</ToUserName><FromUserName>oUser_{:022}</FromUserName>\
         <CreateTime>1790000000</CreateTime><MsgType>text</MsgType><MsgId>{}</MsgId><Content>",
        number % 1000,
        24_000_000_000_000_000 + number
    );
    let tail = "</Content></xml>";
    let text = format!("{head}{}{tail}", "x".repeat(370 - head.len() - tail.len()));
    let tree = payload::parse(Form::Xml, &text).expect("it is XML");
    let key = platform::dedupe_key(Platform::Mp, "mp/shop", None, &tree, &text, &|_| None);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let received = i64::try_from(now.as_millis()).expect("it is before the end of time");
    let facts = EventRecord {
        platform: Platform::Mp,
        account: "mp/shop".into(),
        event_type: Cow::Borrowed("mp.message.text"),
        subject: Some(format!("oUser_{:022}", number % 1000).into()),
        form: Form::Xml,
        payload: Payload::new(text),
        query: None,
        received,
    };
    NewEvent { id: journal.next_id(received), key, record: facts, observers: Vec::new() }
}

async fn keep(journal: &dyn Journal, event: NewEvent) {
    let Ok(Admission::Run(entry)) = journal.admit(event).await else { panic!("the event is not new") };
    journal.record(&entry, ReplyRecord { body: Body::Document("y".repeat(250)), failure: None, sender: None });
    assert!(entry.answered().await.is_ok());
}

fn journals(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let folder = TempDir::new().expect("a folder");
    let (retention, supervisor) = (Duration::from_secs(604_800), Supervisor::default());
    let commits = None;
    let options =
        Options { retention, max_size: 1 << 40, observers: Vec::new(), supervisor, clock: Clock::system(), commits };
    let small = Options { max_size: 4 << 20, ..options.clone() };
    let sqlite = SqliteJournal::open(&folder.path().join("bench.db"), &options).expect("it opens");
    let journals: [(&str, Arc<dyn Journal>); 2] =
        [("memory", Arc::new(MemoryJournal::new(&small))), ("sqlite", Arc::new(sqlite))];
    let mut number = 0;
    for (name, journal) in journals {
        let mut group = criterion.benchmark_group(format!("keep_{name}"));
        group.throughput(Throughput::Elements(1));
        for at_once in AT_ONCE {
            group.bench_function(format!("{at_once}_at_once"), |bencher| {
                bencher.iter_custom(|times| {
                    let share = times.div_ceil(at_once);
                    let batches: Vec<Vec<NewEvent>> = (0..at_once)
                        .map(|_| {
                            number += share;
                            (number - share..number).map(|number| event(&*journal, number)).collect()
                        })
                        .collect();
                    let started = Instant::now();
                    runtime.block_on(async {
                        let tasks = batches.into_iter().map(|events| {
                            let journal = Arc::clone(&journal);
                            tokio::spawn(async move {
                                for event in events {
                                    keep(&*journal, event).await;
                                }
                            })
                        });
                        for task in tasks.collect::<Vec<_>>() {
                            task.await.expect("it ends well");
                        }
                    });
                    // More than were asked for, where they do not divide evenly.
                    started.elapsed().mul_f64(times as f64 / (share * at_once) as f64)
                });
            });
        }
        group.finish();
        runtime.block_on(journal.close()).expect("it closes");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = journals
}
criterion_main!(benches);
