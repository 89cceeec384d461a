//! Several nodes on one PostgreSQL: any of them may get any delivery.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use tokio::{runtime::Runtime, sync::Notify, time};

use crate::support::{
    Answer, TestServer,
    postgres::{Instance, count, database},
    server::{MP, text_message},
    until,
};

/// A responder that counts its runs, says when it begins, and waits for `go` where there is one.
fn counting(runs: &Arc<AtomicU32>, began: Option<&Arc<Notify>>, go: Option<&Arc<Notify>>) -> Hooks {
    let (runs, began, go) = (Arc::clone(runs), began.map(Arc::clone), go.map(Arc::clone));
    Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        let (began, go) = (began.clone(), go.clone());
        async move {
            if let Some(began) = began {
                began.notify_one();
            }
            if let Some(go) = go {
                go.notified().await;
            }
            Ok(Reply::text(format!("run {run}")))
        }
    })
}

/// Waits until a server is ready, or is not.
async fn until_ready(server: &TestServer, ready: bool) {
    for _ in 0..300 {
        if (server.admin.get("/readyz").await.status == 200) == ready {
            return;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    panic!("ready: {ready} is not reached");
}

async fn deliver(server: &TestServer, id: u64, nonce: &str) -> Answer {
    server.post("/mp/shop", &MP.safe(&text_message(id, "hi"), nonce)).await
}

#[tokio::test]
async fn a_message_runs_once_whichever_node_it_comes_to() {
    let Some(url) = database().await else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let a = TestServer::start_at(&url, counting(&runs, None, None)).await;
    let b = TestServer::start_at(&url, counting(&runs, None, None)).await;
    for (id, expected) in [(1, 1), (2, 2)] {
        let mut replies = Vec::new();
        if id == 1 {
            let (one, two, three) = tokio::join!(deliver(&a, id, "a"), deliver(&b, id, "b"), deliver(&b, id, "c"));
            replies.extend([one, two, three]);
        }
        for (server, nonce) in [(&a, "d"), (&b, "e"), (&a, "f")] {
            replies.push(deliver(server, id, nonce).await);
        }
        for answer in replies {
            assert_eq!(answer.status, 200);
            assert!(MP.open_reply(&answer.body).contains(&format!("run {expected}")), "{id}");
        }
        assert_eq!(runs.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_repeat_joins_the_responder_of_another_node() {
    let Some(url) = database().await else { return };
    let (runs, began, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let a = TestServer::start_at(&url, counting(&runs, Some(&began), Some(&go))).await;
    let b = TestServer::start_at(&url, counting(&runs, None, None)).await;
    let first = deliver(&a, 1, "a");
    let second = async {
        began.notified().await;
        let release = async {
            let delivered = "SELECT coalesce(sum(deliveries), 0)::bigint FROM event";
            until(async || count(&url, delivered).await == 2).await;
            go.notify_one();
        };
        tokio::join!(deliver(&b, 1, "b"), release).0
    };
    let (first, second) = tokio::join!(first, second);
    for answer in [first, second] {
        assert!(MP.open_reply(&answer.body).contains("run 1"));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_a_dead_node_left_is_taken_over_once_its_lease_is_over() {
    let Some(url) = database().await else { return };
    let (began, runs) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (doomed, never) = (Runtime::new().unwrap(), Arc::new(Notify::new()));
    let hooks = counting(&runs, Some(&began), Some(&never));
    let at = url.clone();
    doomed.spawn(async move {
        let a = TestServer::start_at(&at, hooks).await;
        deliver(&a, 1, "a").await;
    });
    began.notified().await;
    // Nobody says good-bye.
    doomed.shutdown_background();
    let b = TestServer::start_at(&url, counting(&runs, None, None)).await;
    let mut answer = deliver(&b, 1, "b").await;
    for _ in 0..20 {
        if runs.load(Ordering::SeqCst) > 1 {
            break;
        }
        time::sleep(Duration::from_millis(500)).await;
        answer = deliver(&b, 1, "c").await;
    }
    assert!(MP.open_reply(&answer.body).contains("run 2"));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so_and_its_return_is_noticed() {
    let Some(mut postgres) = tokio::task::spawn_blocking(Instance::start).await.unwrap() else { return };
    let url = postgres.database().await;
    let runs = Arc::new(AtomicU32::new(0));
    let server = TestServer::start_at(&url, counting(&runs, None, None)).await;
    assert_eq!(deliver(&server, 1, "a").await.status, 200);
    postgres.stop();
    until_ready(&server, false).await;
    assert_eq!(deliver(&server, 2, "b").await.status, 503);
    assert_eq!(deliver(&server, 1, "c").await.status, 503);
    postgres.resume();
    until_ready(&server, true).await;
    assert!(MP.open_reply(&deliver(&server, 1, "d").await.body).contains("run 1"));
    assert!(MP.open_reply(&deliver(&server, 2, "e").await.body).contains("run 2"));
}
