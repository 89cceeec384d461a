//! Faults of PostgreSQL and of nodes: whatever happens, nothing that was acknowledged is lost without a word, and no event
//! has two replies.

use std::{
    collections::HashMap,
    os::unix::fs::chown,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc},
    time,
};

use crate::{
    disk::SmallDisk,
    support::{
        Answer, Http, Log, TestServer,
        postgres::{Instance, client, count, database, execute},
        server::{MP, text_message},
        until,
    },
};

/// A responder whose reply names its run.
fn counting(runs: &Arc<AtomicU32>) -> Hooks {
    let runs = Arc::clone(runs);
    Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(Reply::text(format!("run {run}."))) }
    })
}

async fn deliver(http: Http, id: u64, nonce: &str) -> Answer {
    let signed = MP.safe(&text_message(id, "hi"), nonce);
    http.post(&format!("/mp/shop?{}", signed.query), &signed.body).await
}

/// The reply of an event, delivered until there is one.
async fn reply(http: Http, id: u64, nonce: &str) -> String {
    for attempt in 0.. {
        let answer = deliver(http, id, &format!("{nonce}{attempt}")).await;
        if answer.status == 200 {
            return run_of(&answer);
        }
        assert!(attempt < 1000, "{id} is never answered");
        time::sleep(Duration::from_millis(20)).await;
    }
    String::new()
}

fn run_of(answer: &Answer) -> String {
    let text = MP.open_reply(&answer.body);
    let run = text.split("run ").nth(1).and_then(|rest| rest.split('.').next());
    run.unwrap_or_else(|| panic!("no reply: {text}")).to_owned()
}

async fn is_ready(admin: Http) -> bool {
    admin.get("/readyz").await.status == 200
}

/// How long a table is locked: longer than a delivery, a statement or a lease of a node lasts.
const LOCKED: Duration = Duration::from_secs(20);

/// A table is locked for so long that statements on it fail.
async fn lock(table: &str, mode: &str) {
    let Some(url) = database().await else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let a = TestServer::start_at(&url, counting(&runs)).await;
    let b = TestServer::start_at(&url, counting(&runs)).await;
    let before = reply(a.http, 1, "a").await;
    let mut blocker = client(&url).await;
    let locked = blocker.transaction().await.unwrap();
    locked.batch_execute(&format!("LOCK TABLE {table} IN {mode} MODE")).await.unwrap();
    let begun = Instant::now();
    let mut number = 2;
    while is_ready(a.admin).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "a lock of {table} is not noticed");
        let _ = time::timeout(Duration::from_secs(1), deliver(a.http, number, "b")).await;
        number += 1;
    }
    // It stays so, and says so at once.
    while begun.elapsed() < LOCKED {
        assert!(!is_ready(a.admin).await, "{table}");
        let asked = Instant::now();
        assert_eq!(deliver(a.http, 1000, "c").await.status, 503, "{table}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{table}");
        time::sleep(Duration::from_millis(100)).await;
    }
    locked.commit().await.unwrap();
    until(async || is_ready(a.admin).await && is_ready(b.admin).await).await;
    // What was sent meanwhile is there once, and has one reply.
    for id in 1..number {
        let first = reply(a.http, id, "d").await;
        assert_eq!(reply(b.http, id, "e").await, first, "{table} {id}");
    }
    assert_eq!(reply(b.http, 1, "f").await, before);
    assert_eq!(count(&url, "SELECT count(*) FROM event").await, i64::try_from(number - 1).unwrap());
    assert!(a.stop().await.unwrap() && b.stop().await.unwrap());
}

#[tokio::test]
async fn a_lock_on_the_events_is_reported_until_it_is_gone() {
    lock("event", "ACCESS EXCLUSIVE").await;
}

#[tokio::test]
async fn a_lock_on_the_keys_is_reported_until_it_is_gone() {
    lock("dedupe", "EXCLUSIVE").await;
}

#[tokio::test]
async fn a_lock_on_the_nodes_is_reported_until_it_is_gone() {
    lock("node", "EXCLUSIVE").await;
}

#[tokio::test]
async fn connections_that_are_terminated_lose_and_double_nothing() {
    let Some(url) = database().await else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let a = TestServer::start_at(&url, counting(&runs)).await;
    let b = TestServer::start_at(&url, counting(&runs)).await;
    let name = url.rsplit_once('/').unwrap().1;
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'echostr'"
    );
    let done = Notify::new();
    let terminating = async {
        for _ in 0..8 {
            assert!(execute(&url, &terminate).await);
            time::sleep(Duration::from_millis(200)).await;
        }
        done.notify_one();
    };
    let sending = async {
        let mut replies = HashMap::new();
        let mut ended = false;
        let mut wait = Box::pin(done.notified());
        let mut id = 0;
        while !ended {
            let ids = id..id + 20;
            let sent = ids.clone().map(|id| {
                let http = if id % 2 == 0 { a.http } else { b.http };
                async move { (id, reply(http, id, "a").await) }
            });
            replies.extend(futures_util::future::join_all(sent).await);
            id += 20;
            ended = futures_util::FutureExt::now_or_never(&mut wait).is_some();
        }
        replies
    };
    let ((), replies) = tokio::join!(terminating, sending);
    until(async || is_ready(a.admin).await && is_ready(b.admin).await).await;
    let ran = runs.load(Ordering::SeqCst);
    for (id, first) in &replies {
        for http in [a.http, b.http] {
            assert_eq!(reply(http, *id, "z").await, *first, "{id}");
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), ran, "an answered event ran again");
    assert_eq!(count(&url, "SELECT count(*) FROM event").await, i64::try_from(replies.len()).unwrap());
    assert!(a.stop().await.unwrap() && b.stop().await.unwrap());
}

#[tokio::test]
async fn a_full_disk_is_reported_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("40m") else { return };
    let Some(instance) = tokio::task::spawn_blocking(Instance::start).await.unwrap() else { return };
    let place = disk.path("space");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(disk.path("."), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if let Some((user, group)) = crate::support::postgres::somebody() {
        chown(&place, Some(user), Some(group)).unwrap();
    }
    let first = instance.database().await;
    assert!(execute(&first, &format!("CREATE TABLESPACE small LOCATION '{}'", place.display())).await);
    assert!(execute(&first, "CREATE DATABASE shop TABLESPACE small").await);
    let url = instance.url("shop");
    let (log, _log) = Log::begin();
    let runs = Arc::new(AtomicU32::new(0));
    let server = TestServer::start_at(&url, counting(&runs)).await;
    let before = reply(server.http, 1, "a").await;
    disk.fill();
    let mut id = 2;
    // What is free in the files is used first.
    while is_ready(server.admin).await {
        let text: String = (0..1500).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
        let signed = MP.safe(&text_message(id, &text), "b");
        server.http.post(&format!("/mp/shop?{}", signed.query), &signed.body).await;
        id += 1;
        assert!(id < 20_000, "the disk is not full");
    }
    assert!(log.text().contains("disk is full"), "{}", log.text());
    for _ in 0..15 {
        assert!(!is_ready(server.admin).await);
        assert_eq!(deliver(server.http, 50_000, "c").await.status, 503);
        time::sleep(Duration::from_millis(100)).await;
    }
    disk.make_room();
    until(async || is_ready(server.admin).await).await;
    assert_eq!(reply(server.http, 1, "d").await, before);
    let again = reply(server.http, 50_000, "e").await;
    assert_eq!(reply(server.http, 50_000, "f").await, again);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn what_a_promoted_standby_lacks_is_named() {
    let Some(mut primary) = tokio::task::spawn_blocking(Instance::start).await.unwrap() else { return };
    let url = primary.database().await;
    let (log, _log) = Log::begin();
    let standby = primary.standby();
    // The database is wherever one accepts writes.
    let (head, tail) = url.rsplit_once('/').unwrap();
    let both = format!("{head},127.0.0.1:{}/{tail}?target_session_attrs=read-write", standby.port);
    let runs = Arc::new(AtomicU32::new(0));
    let server = TestServer::start_at(&both, counting(&runs)).await;
    let mut kept = Vec::new();
    for id in 1..=4 {
        kept.push(reply(server.http, id, "a").await);
    }
    standby.catch_up(&primary).await;
    standby.part().await;
    let mut lost = Vec::new();
    for id in 5..=9 {
        lost.push(reply(server.http, id, "b").await);
    }
    primary.stop();
    standby.promote().await;
    let elsewhere = standby.url(tail);
    until(async || server.metric("echostr_journal_lost_events ").await == 5.0).await;
    until(async || is_ready(server.admin).await).await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains("LOST 5 events")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("ERROR") && line.contains("promoted"), "{line}");
    for (id, reply_before) in (1..).zip(&kept) {
        assert_eq!(reply(server.http, id, "c").await, *reply_before);
    }
    let stored = client(&elsewhere).await.query("SELECT id::text FROM event", &[]).await.unwrap();
    for row in stored {
        assert!(!line.contains(row.get::<_, &str>(0)), "it is not lost");
    }
    // A repeat of a lost event is new, as the log said, and has one reply from then on.
    let again = reply(server.http, 5, "d").await;
    assert_eq!(reply(server.http, 5, "e").await, again);
    assert_eq!(server.metric("echostr_journal_lost_events ").await, 5.0, "each is counted once");
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_reply_that_the_database_has_lost_is_named() {
    let Some(url) = database().await else { return };
    let (log, _log) = Log::begin();
    let server = TestServer::start_at(&url, counting(&Arc::default())).await;
    reply(server.http, 1, "a").await;
    reply(server.http, 2, "b").await;
    // As a copy from between admission and reply has it.
    let back = "UPDATE event SET state = 0, reply = NULL WHERE id = (SELECT id FROM event ORDER BY id LIMIT 1)";
    assert!(execute(&url, back).await);
    let name = url.rsplit_once('/').unwrap().1;
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'echostr'"
    );
    assert!(execute(&url, &terminate).await);
    until(async || server.metric("echostr_journal_lost_events ").await == 1.0).await;
    let text = log.text();
    assert!(text.contains("LOST the replies of 1 events") && text.contains("runs its responder again"), "{text}");
    assert!(server.stop().await.unwrap());
}

/// A server on a thread of its own that can be stopped, as SIGSTOP stops a process: its time goes on without it.
struct Stoppable {
    http: Http,
    admin: Http,
    stop: mpsc::UnboundedSender<std::sync::mpsc::Receiver<()>>,
}

impl Stoppable {
    async fn start(url: &str, hooks: Hooks) -> Self {
        let (started, server) = tokio::sync::oneshot::channel();
        let (stop, mut stops) = mpsc::unbounded_channel::<std::sync::mpsc::Receiver<()>>();
        let url = url.to_owned();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = TestServer::start_at(&url, hooks).await;
                let _ = started.send((server.http, server.admin));
                while let Some(go_on) = stops.recv().await {
                    let _ = go_on.recv();
                }
                let _ = server.stop().await;
            });
        });
        let (http, admin) = server.await.unwrap();
        Self { http, admin, stop }
    }

    /// Stops it, until what is returned is dropped.
    fn stop(&self) -> std::sync::mpsc::Sender<()> {
        let (go_on, stopped) = std::sync::mpsc::channel();
        self.stop.send(stopped).unwrap();
        go_on
    }
}

/// A node is stopped while its responder runs, for longer than others wait for it.
async fn stopped_node(responder_ends: bool) {
    let Some(url) = database().await else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let hooks = {
        let (began, go, runs) = (Arc::clone(&began), Arc::clone(&go), Arc::clone(&runs));
        Hooks::default().on(move |_: mp::TextMessage, _: Context| {
            let (began, go) = (Arc::clone(&began), Arc::clone(&go));
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                began.notify_one();
                go.notified().await;
                Ok(Reply::text(format!("run {run}.")))
            }
        })
    };
    let a = Stoppable::start(&url, hooks).await;
    let b = TestServer::start_at(&url, counting(&runs)).await;
    let first = tokio::spawn(deliver(a.http, 1, "a"));
    began.notified().await;
    let stopped = a.stop();
    let taken_over = reply_of_takeover(&b).await;
    if responder_ends {
        go.notify_one();
    }
    drop(stopped);
    // It may say that it has nothing, or what the other node has answered, and nothing else.
    let first = first.await.unwrap();
    if first.status == 200 {
        assert_eq!(run_of(&first), taken_over);
    } else {
        assert_eq!(first.status, 503);
    }
    until(async || is_ready(a.admin).await).await;
    for nonce in ["x", "y"] {
        let answer = deliver(b.http, 1, nonce).await;
        assert_eq!(run_of(&answer), taken_over);
    }
    go.notify_one();
    until(async || {
        let answer = deliver(a.http, 1, &rand::random::<u32>().to_string()).await;
        answer.status == 200 && run_of(&answer) == taken_over
    })
    .await;
    assert!(b.stop().await.unwrap());
}

/// Delivers an event to a node until that has taken it over.
async fn reply_of_takeover(node: &TestServer) -> String {
    for attempt in 0..40 {
        let answer = deliver(node.http, 1, &format!("take{attempt}")).await;
        if answer.status == 200 && MP.open_reply(&answer.body).contains("run ") {
            return run_of(&answer);
        }
        time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the event is not taken over");
}

#[tokio::test]
async fn a_node_that_was_stopped_gives_no_other_reply() {
    stopped_node(true).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_gives_no_default_answer() {
    stopped_node(false).await;
}
