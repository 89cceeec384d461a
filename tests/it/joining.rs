//! Deliveries of one event that come while the journal of one node has to ask its file for the key.

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use echostr::{
    internals::journal::{Admission, Journal, NewEvent, sqlite::SqliteJournal},
    platform::DedupeKey,
};
use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::{runtime::Builder, task, time};

use crate::journal::{document, known, message, options, run};

/// An event whose key is of a kind that memory knows nothing of, so that the file has to be asked.
fn event(journal: &dyn Journal) -> NewEvent {
    let event = message("user", 1).new_event(journal, &[]);
    let mut bytes = event.key.unwrap().bytes;
    bytes[0] = u8::MAX;
    NewEvent { key: Some(DedupeKey { bytes, window: None }), ..event }
}

/// Runs a test on a journal, where what asks the file does so one after the other, and not before `go` is dropped.
fn test<F: Future<Output = ()>>(test: impl FnOnce(Arc<dyn Journal>, Sender<()>) -> F) {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let folder = TempDir::new().unwrap();
    runtime.block_on(async {
        let journal = SqliteJournal::open(&folder.path().join("journal.db"), &options(Vec::new())).unwrap();
        let (go, gone) = channel();
        task::spawn_blocking(move || gone.recv());
        time::timeout(Duration::from_secs(60), test(Arc::new(journal), go)).await.expect("it ends");
    });
}

#[test]
fn a_delivery_that_runs_and_ends_while_another_asks_the_file_runs_once() {
    test(|journal, go| async move {
        let (mut first, mut second) = (journal.admit(event(&*journal)), journal.admit(event(&*journal)));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        drop(go);
        // The file was read for whoever asks it.
        task::spawn_blocking(|| ()).await.unwrap();
        let entry = run(first.await.unwrap());
        journal.record(&entry, document("reply"));
        let reply = entry.answered().await.clone().unwrap();
        let repeat = known(second.await.unwrap());
        assert_eq!((repeat.id, repeat.answered().await, repeat.deliveries()), (entry.id, &Ok(reply), 2));
    });
}

#[test]
fn a_client_that_hangs_up_while_the_file_is_asked_holds_up_no_other() {
    test(|journal, go| async move {
        let [mut first, mut second, mut third] = [(); 3].map(|()| journal.admit(event(&*journal)));
        for delivery in [&mut first, &mut second, &mut third] {
            assert!(delivery.now_or_never().is_none());
        }
        drop((first, go));
        let (second, third) = tokio::join!(second, third);
        let (entry, repeat) = match (second.unwrap(), third.unwrap()) {
            (Admission::Run(entry), Admission::Known(repeat)) | (Admission::Known(repeat), Admission::Run(entry)) => {
                (entry, repeat)
            }
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&entry, &repeat));
    });
}
