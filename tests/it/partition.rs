//! Several nodes on one PostgreSQL, and the network between them and it breaks at chosen moments.

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
use proxy::{Fault, Proxy};
use tokio::{sync::Notify, time};

use crate::support::{
    Answer, TestServer,
    postgres::{Gate, count, database},
    server::{ACCOUNTS, MP, text_message},
    until,
};

const EVENTS: &str = "SELECT count(*) FROM event";

/// A proxy before a database, and the URL of the database behind it.
pub async fn behind_proxy(url: &str) -> (Proxy, String) {
    let (user, rest) = url.split_once('@').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(address.parse().unwrap()).await.unwrap();
    let url = format!("{user}@{}/{database}", proxy.address());
    (proxy, url)
}

/// Two nodes, the first of them behind a proxy. A responder answers with the number of its run.
struct Nodes {
    url: String,
    proxy: Arc<Proxy>,
    a: TestServer,
    b: TestServer,
    runs: Arc<AtomicU32>,
}

impl Nodes {
    /// Nodes whose responders do this when they run, before they reply; `None` where PostgreSQL is not installed.
    async fn start<F: Future<Output = ()> + Send>(
        deadline: &str,
        run: impl Fn(Arc<Proxy>) -> F + Clone + Send + Sync + 'static,
    ) -> Option<Self> {
        let url = database().await?;
        let (proxy, proxied) = behind_proxy(&url).await;
        let (proxy, runs) = (Arc::new(proxy), Arc::new(AtomicU32::new(0)));
        let hooks = || {
            let (proxy, runs, run) = (Arc::clone(&proxy), Arc::clone(&runs), run.clone());
            Hooks::default().on(move |_: mp::TextMessage, _: Context| {
                let number = runs.fetch_add(1, Ordering::SeqCst) + 1;
                let running = run(Arc::clone(&proxy));
                async move {
                    running.await;
                    Ok(Reply::text(format!("run {number}")))
                }
            })
        };
        let accounts =
            ACCOUNTS.replacen("[mp.shop]", &format!("[mp.shop]\nlate_reply = \"drop\"\ndeadline = \"{deadline}\""), 1);
        let a = TestServer::start_on(&proxied, "", &accounts, hooks()).await;
        let b = TestServer::start_on(&url, "", &accounts, hooks()).await;
        let nodes = Self { url, proxy, a, b, runs };
        for server in [&nodes.a, &nodes.b] {
            ready(server).await;
        }
        Some(nodes)
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

pub async fn ready(server: &TestServer) {
    until(async || server.admin.get("/readyz").await.status == 200).await;
}

async fn deliver(server: &TestServer, nonce: &str) -> Answer {
    server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), nonce)).await
}

/// As the platform does: until it gets a 200.
async fn deliver_until_answered(server: &TestServer, nonce: &str) -> String {
    for attempt in 0..20 {
        let answer = deliver(server, &format!("{nonce}{attempt}")).await;
        if answer.status == 200 {
            return reply(&answer);
        }
        assert_eq!(answer.status, 503);
    }
    panic!("it was never answered");
}

/// The reply in clear text; `success` is not sealed.
fn reply(answer: &Answer) -> String {
    if answer.body == "success" { answer.body.clone() } else { MP.open_reply(&answer.body) }
}

#[tokio::test]
async fn an_event_is_run_whose_admission_committed_when_its_connection_was_broken() {
    for repeat_at_same_node in [true, false] {
        let Some(nodes) = Nodes::start("4500ms", |_| async {}).await else { return };
        let gate = Gate::close(&nodes.url).await;
        let first = deliver(&nodes.a, "a");
        let broken = async {
            until(async || gate.waiting().await == 1).await;
            nodes.proxy.begin(Fault::StallResponses);
            gate.open().await;
            until(async || count(&nodes.url, EVENTS).await == 1).await;
            nodes.proxy.begin(Fault::Cut);
        };
        let (first, ()) = tokio::join!(first, broken);
        assert_eq!((first.status, nodes.runs()), (503, 0));
        nodes.proxy.end();
        ready(&nodes.a).await;
        let repeat = deliver(if repeat_at_same_node { &nodes.a } else { &nodes.b }, "b").await;
        assert!(reply(&repeat).contains("run 1"), "{repeat:?}");
        assert_eq!(nodes.runs(), 1);
    }
}

#[tokio::test]
async fn an_event_is_run_whose_admission_commits_after_its_node_has_recovered() {
    let Some(nodes) = Nodes::start("4500ms", |_| async {}).await else { return };
    let gate = Gate::close(&nodes.url).await;
    let first = deliver(&nodes.a, "a");
    let broken = async {
        until(async || gate.waiting().await == 1).await;
        nodes.proxy.begin(Fault::Cut);
    };
    let (first, ()) = tokio::join!(first, broken);
    assert_eq!(first.status, 503);
    nodes.proxy.end();
    ready(&nodes.a).await;
    // The statement is still there, and nobody waits for it any more.
    assert_eq!((gate.waiting().await, count(&nodes.url, EVENTS).await), (1, 0));
    gate.open().await;
    until(async || count(&nodes.url, EVENTS).await == 1).await;
    let repeat = deliver(&nodes.b, "b").await;
    assert!(reply(&repeat).contains("run 1"), "{repeat:?}");
    assert_eq!(nodes.runs(), 1);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_does_not_run_what_another_has_answered() {
    let Some(nodes) = Nodes::start("1s", |_| async {}).await else { return };
    let gate = Gate::close(&nodes.url).await;
    let first = deliver(&nodes.a, "a");
    let taken_over = async {
        until(async || gate.waiting().await == 1).await;
        nodes.proxy.begin(Fault::StallResponses);
        gate.open().await;
        until(async || count(&nodes.url, EVENTS).await == 1).await;
        assert!(deliver_until_answered(&nodes.b, "b").await.contains("run 1"));
        // Now the node is told that it is to run the event.
        nodes.proxy.end();
    };
    let (first, ()) = tokio::join!(first, taken_over);
    assert_eq!((first.status, nodes.runs()), (503, 1));
    ready(&nodes.a).await;
    assert!(deliver_until_answered(&nodes.a, "c").await.contains("run 1"));
    assert_eq!(nodes.runs(), 1);
}

#[tokio::test]
async fn a_reply_that_its_node_cannot_record_is_not_late_at_another() {
    let began = Arc::new(Notify::new());
    let begins = Arc::clone(&began);
    let run = move |proxy: Arc<Proxy>| {
        let began = Arc::clone(&begins);
        async move {
            proxy.begin(Fault::Stall);
            began.notify_one();
        }
    };
    let Some(nodes) = Nodes::start("1s", run).await else { return };
    let second = async {
        began.notified().await;
        deliver(&nodes.b, "b").await
    };
    let (first, second) = tokio::join!(deliver(&nodes.a, "a"), second);
    assert_eq!((first.status, second.status), (503, 503), "{second:?}");
    nodes.proxy.end();
    assert!(deliver_until_answered(&nodes.b, "c").await.contains("run 1"));
    assert_eq!(nodes.runs(), 1);
}

#[tokio::test]
async fn a_responder_that_is_late_at_its_node_is_late_at_another() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let run = move |_| {
        let go = Arc::clone(&goes);
        async move { go.notified().await }
    };
    let Some(nodes) = Nodes::start("1s", run).await else { return };
    let second = async {
        until(async || nodes.runs() == 1).await;
        deliver(&nodes.b, "b").await
    };
    let (first, second) = tokio::join!(deliver(&nodes.a, "a"), second);
    assert_eq!((first.body.as_str(), second.body.as_str()), ("success", "success"));
    go.notify_one();
    assert_eq!(nodes.runs(), 1);
}

#[tokio::test]
async fn a_responder_that_began_at_the_deadline_is_not_late() {
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let run = move |_| {
        let go = Arc::clone(&goes);
        async move { go.notified().await }
    };
    let Some(nodes) = Nodes::start("1500ms", run).await else { return };
    let gate = Gate::close(&nodes.url).await;
    let arrived = time::Instant::now();
    let admitted = async {
        // The deadline itself is what is waited for.
        time::sleep_until(arrived + Duration::from_millis(1600)).await;
        assert_eq!(nodes.runs(), 0);
        gate.open().await;
    };
    let (first, ()) = tokio::join!(deliver(&nodes.a, "a"), admitted);
    assert_eq!((first.status, nodes.runs()), (503, 1), "{first:?}");
    go.notify_one();
    assert!(deliver_until_answered(&nodes.a, "b").await.contains("run 1"));
    assert_eq!(nodes.runs(), 1);
}
