//! The same across processes and nodes, and for messages at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{runtime::Runtime, sync::oneshot, task};

use super::{Disk, LATE, PLAIN_MP, Slow, accounts, done, message};
use crate::support::{
    TestServer, http,
    postgres::{count, database, execute},
    server::PLAIN,
    wait_for,
};

#[tokio::test]
async fn a_reply_waits_across_a_restart_and_a_kill() {
    for is_killed in [false, true] {
        let (slow, disk) = (Slow::new(), Disk::new());
        let server = disk.start(&accounts(LATE), &slow).await;
        PLAIN_MP.say_slowly(&server, 1, "slow question").await;
        slow.finish(1);
        done(&server, "mp/plain", 1.0).await;
        let waits = async || disk.events().await[0]["state"] == "late";
        wait_for("the reply waits", waits).await;
        let next = if is_killed { disk.killed() } else { disk };
        assert!(server.stop().await.unwrap());
        let server = next.start(&accounts(LATE), &slow).await;
        let fetched = PLAIN_MP.say(&server, 2, "next").await;
        assert!(fetched.contains("finished: slow question"), "{fetched}");
        // Killed between the record and the answer: the repeat of the message finds the reply.
        let killed = next.killed();
        let server = killed.start(&accounts(LATE), &slow).await;
        assert_eq!(PLAIN_MP.say(&server, 2, "next").await, fetched);
        assert!(PLAIN_MP.say(&server, 3, "more").await.contains("own: more"));
        assert_eq!(slow.runs(), ["slow question", "more"]);
    }
}

/// Gives `late_text`, and ends as `kill -9` ends a process, while the responder runs.
async fn end_while_it_runs(url: &str) {
    let (doomed, url) = (Runtime::new().unwrap(), url.to_owned());
    let (tell, told) = oneshot::channel();
    doomed.spawn(async move {
        let server = TestServer::start_on(&url, "", &accounts(LATE), Slow::new().hooks()).await;
        PLAIN_MP.say_slowly(&server, 1, "slow question").await;
        tell.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    told.await.unwrap();
    task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
}

/// What nobody runs is not waited for. A while later the responder runs again, and its reply waits as any other.
#[tokio::test]
async fn a_responder_that_was_killed_runs_again_and_its_reply_waits() {
    let disk = Disk::new();
    for url in [Some(disk.url()), database().await].into_iter().flatten() {
        end_while_it_runs(&url).await;
        let slow = Slow::new();
        if !url.starts_with("sqlite") {
            // Its heartbeat is over.
            assert!(execute(&url, "UPDATE node SET alive_until = alive_until - 10000").await);
        }
        let server = TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await;
        assert!(PLAIN_MP.say(&server, 2, "well?").await.contains("own: well?"));
        assert!(server.stop().await.unwrap());
        // The platform retries no more.
        if url.starts_with("sqlite") {
            let db = rusqlite::Connection::open(disk.0.path().join("journal.db")).unwrap();
            db.execute("UPDATE event SET received = received - 120000", []).unwrap();
            db.execute("UPDATE delivery SET due = due - 120000", []).unwrap();
        } else {
            assert!(execute(&url, "UPDATE node SET alive_until = alive_until - 120000").await);
        }
        slow.finish(1);
        let server = TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await;
        wait_for("it runs again", async || slow.go.available_permits() == 0).await;
        let late = "SELECT count(*) FROM event WHERE state = 3";
        let in_file = |file| rusqlite::Connection::open(file).unwrap().query_row(late, [], |row| row.get::<_, i64>(0));
        wait_for("its reply is recorded", async || match url.starts_with("sqlite") {
            true => in_file(disk.0.path().join("journal.db")).unwrap() == 1,
            false => count(&url, late).await == 1,
        })
        .await;
        assert!(PLAIN_MP.say(&server, 3, "next").await.contains("finished: slow question"), "{url}");
        assert!(PLAIN_MP.say(&server, 4, "more").await.contains("own: more"));
        assert_eq!(slow.runs(), ["well?", "slow question", "more"]);
    }
}

#[tokio::test]
async fn another_node_has_the_reply_and_knows_that_it_is_to_come() {
    let Some(url) = database().await else { return };
    let slow = Slow::new();
    let a = TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await;
    let b = TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await;
    PLAIN_MP.say_slowly(&a, 1, "slow question").await;
    PLAIN_MP.say_slowly(&b, 2, "well?").await;
    PLAIN_MP.say_slowly(&b, 1, "slow question").await;
    slow.finish(1);
    done(&a, "mp/plain", 1.0).await;
    let fetched = PLAIN_MP.say(&b, 3, "next").await;
    assert!(fetched.contains("finished: slow question"), "{fetched}");
    for server in [&a, &b] {
        assert_eq!(PLAIN_MP.say(server, 3, "next").await, fetched);
    }
    assert!(PLAIN_MP.say(&a, 4, "more").await.contains("own: more"));
    assert_eq!(slow.runs(), ["slow question", "more"]);
}

/// The node that gave up need not be the one that runs the responder.
#[tokio::test]
async fn a_repeat_at_another_node_has_the_reply_wait() {
    let Some(url) = database().await else { return };
    let slow = Slow::new();
    let patient = accounts(LATE).replace("400ms", "4900ms");
    let a = TestServer::start_on(&url, "", &patient, slow.hooks()).await;
    let b = TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await;
    let signed = PLAIN.plain(&message("anna", "to", 1, "slow question"), "a");
    let request = http::request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes());
    let cut = a.http.open(&request).await;
    wait_for("the responder runs", async || slow.runs().len() == 1).await;
    drop(cut);
    PLAIN_MP.say_slowly(&b, 1, "slow question").await;
    PLAIN_MP.say_slowly(&b, 2, "well?").await;
    slow.finish(1);
    done(&a, "mp/plain", 1.0).await;
    assert!(PLAIN_MP.say(&b, 3, "next").await.contains("finished: slow question"));
    assert!(PLAIN_MP.say(&b, 4, "more").await.contains("own: more"));
}

#[tokio::test]
async fn of_messages_at_the_same_time_one_takes_the_reply() {
    let sqlite = Disk::new();
    let mut urls = vec!["memory:".to_owned(), sqlite.url()];
    urls.extend(database().await);
    for url in urls {
        let slow = Slow::new();
        let mut nodes = vec![TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await];
        if url.starts_with("postgres") {
            nodes.push(TestServer::start_on(&url, "", &accounts(LATE), slow.hooks()).await);
        }
        for round in 0_u64..5 {
            PLAIN_MP.say_slowly(&nodes[0], 100 * round, "slow question").await;
            slow.finish(1);
            let is_ready = async || slow.go.available_permits() == 0;
            wait_for("it is ready", is_ready).await;
            let says = (1..=10).map(|id| PLAIN_MP.say(&nodes[id % nodes.len()], 100 * round + id as u64, "next"));
            let answers = join_all(says).await;
            let count = |text: &str| answers.iter().filter(|answer| answer.contains(text)).count();
            assert_eq!((count("finished: slow question"), count("own: next")), (1, 9), "{url}: {answers:?}");
        }
    }
}
