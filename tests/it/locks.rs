//! One server at a time serves from a SQLite journal, whatever happens to its files and by whatever name it is opened.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use echostr::{clock::Clock, config::Config, hooks::Hooks, server::Server};

use crate::support::{
    NOW, TestServer,
    server::{ACCOUNTS, PLAIN, text_message},
    wait_for,
};

fn beside(journal: &Path, end: &str) -> PathBuf {
    format!("{}{end}", journal.display()).into()
}

async fn start(journal: &Path) -> TestServer {
    TestServer::start_on(&format!("sqlite://{}", journal.display()), "", ACCOUNTS, Hooks::default()).await
}

/// Why a second server does not start.
async fn refusal(journal: &Path) -> String {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [journal]\nurl = \"sqlite://{}\"\n{ACCOUNTS}",
        journal.display()
    );
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let refused = Server::bind(&config, Hooks::default(), Clock::fixed(NOW)).await.map(drop);
    refused.expect_err("a second server is refused").to_string()
}

async fn assert_refused(journal: &Path) {
    let refusal = refusal(journal).await;
    assert!(refusal.contains("another echostr uses"), "{refusal}");
}

/// Waits until the server has made its lock file again.
async fn locked(journal: &Path) {
    wait_for("it is made again", async || beside(journal, ".lock").exists()).await;
}

async fn post(server: &TestServer, id: u64) -> u16 {
    server.post("/mp/plain", &PLAIN.plain(&text_message(id, "hello"), &format!("nonce{id}"))).await.status
}

#[tokio::test]
async fn a_second_server_is_refused_also_when_the_lock_file_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    let server = start(&journal).await;
    assert_refused(&journal).await;
    let lock = beside(&journal, ".lock");
    for spoil in [
        (|lock: &Path| fs::remove_file(lock).unwrap()) as fn(&Path),
        |lock| {
            fs::remove_file(lock).unwrap();
            fs::write(lock, "").unwrap();
        },
        |lock| fs::rename(lock, lock.with_extension("away")).unwrap(),
    ] {
        locked(&journal).await;
        spoil(&lock);
        assert_refused(&journal).await;
        assert_eq!(post(&server, 1).await, 200, "the first goes on");
    }
    // What was refused has left no lock behind that keeps the first one or its successor out.
    assert_eq!(server.admin.get("/readyz").await.status, 200);
    assert!(server.stop().await.unwrap());
    assert!(start(&journal).await.stop().await.unwrap());
}

#[tokio::test]
async fn a_removed_lock_file_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    let server = start(&journal).await;
    fs::remove_file(beside(&journal, ".lock")).unwrap();
    locked(&journal).await;
    assert!(fs::File::open(beside(&journal, ".lock")).unwrap().try_lock().is_err(), "it is not locked");
    assert_eq!(server.admin.get("/readyz").await.status, 200);
    assert_eq!(post(&server, 1).await, 200);
}

#[tokio::test]
async fn a_lock_file_that_another_holds_stops_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    let server = start(&journal).await;
    let lock = beside(&journal, ".lock");
    // As a version would that knows no other lock.
    fs::remove_file(&lock).unwrap();
    let other = fs::File::create(&lock).unwrap();
    if other.try_lock().is_err() {
        // The server was faster, and has it again.
        return;
    }
    wait_for("it notices", async || server.admin.get("/readyz").await.status != 200).await;
    assert_eq!(post(&server, 1).await, 503);
    drop(other);
    wait_for("it goes on", async || server.admin.get("/readyz").await.status == 200).await;
    assert_eq!(post(&server, 1).await, 200);
}

#[tokio::test]
async fn a_second_server_is_refused_by_whatever_name_it_opens_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    let server = start(&journal).await;
    let (elsewhere, in_link) = (folder.path().join("elsewhere"), folder.path().join("link"));
    fs::create_dir(&elsewhere).unwrap();
    symlink(folder.path(), &in_link).unwrap();
    let (soft, hard) = (elsewhere.join("soft.db"), elsewhere.join("hard.db"));
    symlink(&journal, &soft).unwrap();
    fs::hard_link(&journal, &hard).unwrap();
    let around = elsewhere.join("../echostr.db");
    for name in [&soft, &hard, &around, &in_link.join("echostr.db")] {
        assert_refused(name).await;
        locked(&journal).await;
        fs::remove_file(beside(&journal, ".lock")).unwrap();
        assert_refused(name).await;
        assert_eq!(post(&server, 1).await, 200);
    }
}

#[tokio::test]
async fn a_journal_behind_a_link_is_served_and_kept_beside_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (data, link) = (folder.path().join("data"), folder.path().join("echostr.db"));
    fs::create_dir(&data).unwrap();
    // The file is not there yet.
    symlink("data/real.db", &link).unwrap();
    for id in 1..=2 {
        let server = start(&link).await;
        assert_eq!(post(&server, id).await, 200);
        assert_refused(&data.join("real.db")).await;
        assert!(server.stop().await.unwrap());
    }
    assert!(beside(&data.join("real.db"), ".lock").exists() && !beside(&link, ".lock").exists());
}

#[tokio::test]
async fn a_database_that_was_replaced_is_not_served_from_by_two() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    let server = start(&journal).await;
    assert_eq!(post(&server, 1).await, 200);
    fs::rename(&journal, folder.path().join("away.db")).unwrap();
    fs::remove_file(beside(&journal, ".lock")).unwrap();
    wait_for("it notices", async || server.admin.get("/readyz").await.status != 200).await;
    assert_eq!(post(&server, 2).await, 503);
}
