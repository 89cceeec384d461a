//! Background tasks that fail: readiness, log, metric, and what becomes of the task.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use echostr::{
    events::mp,
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
    server::RunError,
    simulate::api::FakeApi,
};
use tempfile::TempDir;

use crate::support::{
    Log, TestServer,
    api::{accounts, announce},
    http::{read_answer, request},
    postgres::database,
    server::{ACCOUNTS, PLAIN, text_message},
    until,
};

/// An observer that counts.
fn counting(seen: &Arc<AtomicU32>) -> Hooks {
    let seen = Arc::clone(seen);
    let hooks = Hooks::default().background("tick", async |server| {
        server.stopping().await;
        Ok(())
    });
    hooks.observe("push", move |_: mp::TextMessage, _: Context| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    })
}

async fn send(server: &TestServer, id: u32) -> u16 {
    server.post("/mp/plain", &PLAIN.plain(&text_message(id.into(), "hi"), &format!("n{id}"))).await.status
}

fn panics(task: &str) -> String {
    format!("echostr_task_panics_total{{task=\"{task}\"}}")
}

async fn is_ready(server: &TestServer) -> bool {
    server.admin.get("/readyz").await.status == 200
}

/// Has each of these tasks panic, and looks that the server says so, gets well again, and loses nothing.
async fn fail_each(url: &str, tasks: &[&str]) {
    let (log, _guard) = Log::begin();
    let seen = Arc::new(AtomicU32::new(0));
    let server = TestServer::start_at(url, counting(&seen)).await;
    let mut sent = 0;
    for task in tasks {
        until(async || is_ready(&server).await).await;
        assert_eq!(server.metric(&panics(task)).await, 0.0, "{task}");
        assert!(server.supervisor.inject_panic(task), "{task}");
        // A delivery, so that whatever waits for one has something to do.
        sent += 1;
        assert_eq!(send(&server, sent).await, 200, "{task}");
        until(async || {
            let ready = server.admin.get("/readyz").await;
            ready.status == 503 && ready.body == format!("the background task {task} has panicked\n")
        })
        .await;
        assert_eq!(server.metric(&panics(task)).await, 1.0, "{task}");
        until(async || is_ready(&server).await).await;
        sent += 1;
        assert_eq!(send(&server, sent).await, 200, "{task}");
        until(async || seen.load(Ordering::SeqCst) == sent).await;
        // The log of a test has what its own thread says.
        if !(*task == "admin" || *task == "journal.maintenance" && url.starts_with("sqlite")) {
            let text = log.text();
            assert!(text.contains(&format!("task {task} panicked: injected into {task}; it starts again in 0.1 s")));
            assert!(text.contains(&format!("task {task} runs again")));
        }
    }
    assert!(server.stop().await.unwrap(), "everything finished");
}

const OF_EVERY_SERVER: [&str; 6] =
    ["listener", "admin", "metrics", "observer push", "observers.finish", "background tick"];

#[tokio::test]
async fn a_task_that_panics_is_started_again() {
    fail_each("memory:", &OF_EVERY_SERVER).await;
}

#[tokio::test]
async fn so_is_the_maintenance_of_a_file() {
    let folder = TempDir::new().unwrap();
    fail_each(&format!("sqlite://{}", folder.path().join("journal.db").display()), &["journal.maintenance"]).await;
}

#[tokio::test]
async fn so_are_the_tasks_of_a_node() {
    let Some(url) = database().await else { return };
    let tasks = ["heartbeat", "admissions", "replies", "polls", "questions", "queries", "maintenance"];
    let tasks: Vec<_> = tasks.iter().map(|task| format!("journal.{task}")).collect();
    fail_each(&url, &tasks.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn pulls_go_on_after_a_panic() {
    let api = FakeApi::start(1).await.unwrap();
    let server = TestServer::start_with("", &accounts(&api, ""), Hooks::default()).await;
    let observer = "observer echostr.kf-pull";
    until(async || is_ready(&server).await).await;
    assert!(server.supervisor.inject_panic(observer));
    until(async || server.metric(&panics(observer)).await == 1.0).await;
    api.customer_writes("wkDesk", "wm1", "hello");
    assert_eq!(announce(&server, &api, "wkDesk", "n1").await.status, 200);
    until(async || api.counts().calls.get("/cgi-bin/kf/sync_msg").is_some_and(|calls| *calls > 0)).await;
    until(async || is_ready(&server).await).await;
    assert!(server.stop().await.unwrap());
}

/// Says so when it is dropped.
struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_is_left_after_the_grace_period_has_ended_when_the_server_has() {
    let dropped = Arc::new(AtomicU32::new(0));
    let (responder, observer) = (Arc::clone(&dropped), Arc::clone(&dropped));
    let hooks = Hooks::default()
        .on(move |_: mp::TextMessage, _: Context| {
            let dropped = Dropped(Arc::clone(&responder));
            async move {
                let _dropped = dropped;
                pending::<Result<Reply, HandlerError>>().await
            }
        })
        .observe("push", move |_: mp::TextMessage, _: Context| {
            let dropped = Dropped(Arc::clone(&observer));
            async move {
                let _dropped = dropped;
                pending::<Result<(), HandlerError>>().await
            }
        });
    let server = TestServer::start_with("shutdown_grace = \"10ms\"", ACCOUNTS, hooks).await;
    // Two that wait for their reply, one whose client has left, and one that has sent a part of a request.
    let mut clients = Vec::new();
    for id in [1, 2, 3] {
        let signed = PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"));
        let whole = request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes());
        clients.push(server.http.open(&whole).await);
    }
    clients.push(server.http.open(b"POST /mp/plain?signature=").await);
    until(async || server.metric("echostr_in_flight").await == 3.0).await;
    drop(clients.pop());
    assert!(!server.stop().await.unwrap(), "not everything finished");
    assert_eq!(dropped.load(Ordering::SeqCst), 6, "responders and observers");
    for mut client in clients {
        assert!(read_answer(&mut client).await.is_none(), "closed without an answer");
    }
}

#[tokio::test]
async fn the_server_ends_when_the_writer_of_its_file_panics() {
    let (folder, seen) = (TempDir::new().unwrap(), Arc::new(AtomicU32::new(0)));
    let server = TestServer::start_in(folder.path(), "", counting(&seen)).await;
    assert_eq!(send(&server, 1).await, 200);
    assert!(server.supervisor.inject_panic("journal.writer"));
    // The admission wakes the writer. Nobody is told 200 for what is not in the file.
    assert_eq!(send(&server, 2).await, 503);
    assert_eq!(server.supervisor.failing().as_deref(), Some("journal.writer"));
    assert_eq!(server.ended().await, Err(RunError::Lost("journal.writer".into())));
    let again = TestServer::start_in(folder.path(), "", counting(&seen)).await;
    for id in [1, 2, 3] {
        assert_eq!(send(&again, id).await, 200);
    }
    until(async || seen.load(Ordering::SeqCst) >= 3).await;
    assert!(again.stop().await.unwrap());
}
