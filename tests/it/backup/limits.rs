//! A file stays within its limit while deliveries go on.

use std::{fs, sync::Arc, time::Duration};

use echostr::internals::journal::{Finish, Journal, JournalError, Options};

use super::{Place, TERM, finish, observer, settings};
use crate::journal::{document, message, run};

/// Events of one writer, and writers: several times what there is room for.
const EVENTS: u64 = 400;
const WRITERS: u64 = 8;
const REPLY: usize = 4 << 10;
const LIMIT: u64 = 2 << 20;

/// Writes events; one that finds no room waits until there is some.
async fn write(journal: Arc<dyn Journal>, writer: u64) {
    for number in 0..EVENTS {
        let event = || message(&format!("user {writer}"), number).new_event(&*journal, &["audit"]);
        let entry = loop {
            match journal.admit(event()).await {
                Ok(admission) => break run(admission),
                Err(JournalError::Full) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(failure) => panic!("{failure}"),
            }
        };
        journal.record(&entry, document(&"x".repeat(REPLY)));
        entry.answered().await.clone().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_stays_within_its_limit_while_deliveries_go_on() {
    let place = Place::sqlite();
    let options = Options { max_size: LIMIT, observers: vec![observer("audit", false)], ..settings() };
    let journal = place.open(&options).await;
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&journal), writer))).collect();
    let file = place.file().unwrap();
    let (mut largest, mut seen) = (0, 0);
    while seen < EVENTS * WRITERS {
        let leased = journal.lease("audit", 500, TERM).await.unwrap();
        seen += leased.len() as u64;
        finish(&*journal, &leased, Finish::Done).await;
        largest = largest.max(fs::metadata(&file).unwrap().len());
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    // Nothing is admitted above the limit but what was on its way to the disk.
    assert!(largest <= LIMIT + LIMIT / 4, "{largest}");
    assert!(largest > LIMIT / 2, "{largest}");
    let kept = place.archive().events(&echostr::internals::journal::Filter::default(), None, 10_000).await.unwrap();
    let bytes = kept.len() * REPLY;
    assert!(bytes > 1 << 18 && bytes < usize::try_from(LIMIT).unwrap(), "{bytes}");
    // The oldest go first, whoever they are of.
    let oldest = kept.iter().map(|stored| stored.record.received).min().unwrap();
    assert!(oldest > 0, "{oldest}");
    journal.close().await.unwrap();
    place.ok(&["journal", "check"]).await;
}
