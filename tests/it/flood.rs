//! A flood of the largest events, whose observers cannot get on: the process stays within its limits, whatever the journal.

use std::{fs, path::Path};

use echostr::simulate::api::{FakeApi, Faults};
use futures_util::future::join_all;
use tempfile::TempDir;

use crate::support::{
    Http,
    api::{accounts, announcement},
    postgres::database,
    program::Program,
};

/// Events of the flood, each with a body of 900 KiB: several times what the process may take for them.
const EVENTS: usize = 256;
const SENDERS: usize = 5;
/// What is encrypted in a body.
const TOKEN: usize = 670 << 10;

const MIB: u64 = 1 << 20;
const MAX_IN_FLIGHT: u64 = 4;
const BODY_LIMIT: u64 = MIB;
const MEMORY_LIMIT: u64 = 16 * MIB;
/// Events that the observer has on lease.
const CONCURRENCY: u64 = 4;

/// What the process takes beside its events, however many come: itself and the allocator's reserve (a third of it), the caches
/// of SQLite or the buffers of connections to PostgreSQL, the observer's events, and the copies of a delivery while it is
/// decrypted, parsed and stored. Measured: 60 to 90 MiB, the limits included. The rest is for machines with other timing: it is less
/// than what the flood would take if it were kept (170 MiB), so a journal that keeps it fails.
const CONSTANT: u64 = 128 * MIB;

async fn flood(journal: &str, folder: &Path, kept_in_memory: u64) {
    let api = FakeApi::start(1).await.unwrap();
    api.set_faults(Faults { silent: 1.0, ..Faults::default() });
    let more = format!("max_attempts = 1000\nconcurrency = {CONCURRENCY}");
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nmax_age = \"off\"\nbody_timeout = \"60s\"\nmax_in_flight = {MAX_IN_FLIGHT}\nbody_limit = \"1MiB\"\n\
         body_memory = \"{MAX_IN_FLIGHT}MiB\"\nmax_in_flight_per_account = {MAX_IN_FLIGHT}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"{journal}\"\nmemory_limit = \"16MiB\"\n{}",
        accounts(&api, &more)
    );
    let file = folder.join("echostr.toml");
    fs::write(&file, config).unwrap();
    let program = Program::serve(&file);
    let [address, admin] = program.addresses().await;
    let server = Http(address);
    let taken = join_all((0..SENDERS).map(|sender| async move {
        let mut taken = 0;
        for number in (sender..EVENTS).step_by(SENDERS) {
            // Equal notices would be one event, and the latest of a desk stands for those before it.
            let token = format!("{number}{}", "t".repeat(TOKEN));
            let signed = announcement(&token, &format!("wkDesk{number}"), &format!("n{number}"));
            assert!((880 << 10..1 << 20).contains(&signed.body.len()), "{}", signed.body.len());
            let answer = server.post(&format!("/wecom_kf/support?{}", signed.query), &signed.body).await;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            taken += usize::from(answer.status == 200);
        }
        taken
    }));
    let taken: usize = taken.await.into_iter().sum();
    let (peak, limit) = (program.peak_memory(), kept_in_memory + MAX_IN_FLIGHT * BODY_LIMIT + CONSTANT);
    let [shown, allowed] = [peak, limit].map(|bytes| bytes / MIB);
    eprintln!("{journal}: took {taken} of {EVENTS} events, {shown} MiB at most, {allowed} MiB allowed");
    assert!(peak <= limit, "{shown} MiB and not {allowed} MiB at most, {taken} events taken");
    // It was a flood, and what it took was not taken for nothing.
    match kept_in_memory {
        0 => assert!(taken > EVENTS / 2, "{taken}"),
        _ => assert!((8..=24).contains(&taken), "{taken}"),
    }
    assert_eq!(Http(admin).get("/healthz").await.status, 200);
}

#[tokio::test]
async fn memory_holds_its_limit() {
    flood("memory:", TempDir::new().unwrap().path(), MEMORY_LIMIT).await;
}

#[tokio::test]
async fn sqlite_holds_no_events_in_memory() {
    let folder = TempDir::new().unwrap();
    flood(&format!("sqlite://{}", folder.path().join("journal.db").display()), folder.path(), 0).await;
}

#[tokio::test]
async fn postgres_holds_no_events_in_memory() {
    let Some(url) = database().await else { return };
    flood(&url, TempDir::new().unwrap().path(), 0).await;
}
