//! `memory:` keeps its limit, whatever the events, their replies and their observers are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks, RawEvent},
    replies::mp::Reply,
    simulate::api::{FakeApi, Faults},
};

use crate::support::{
    TestServer,
    api::{accounts, announce_with},
    server::{ACCOUNTS, COMPAT, PLAIN, text_message},
};

/// Bounds every wait for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

const MIB: f64 = 1_048_576.0;

/// An observer of one account that fails until it is told to work, as often as it takes.
#[derive(Clone, Default)]
struct Audit {
    works: Arc<AtomicBool>,
    seen: Arc<AtomicU32>,
}

impl Audit {
    fn hooks(&self) -> Hooks {
        let audit = self.clone();
        let observed = Hooks::default().observe_any("audit", "*", move |_: RawEvent, _: Context| {
            let audit = audit.clone();
            async move {
                if !audit.works.load(Ordering::SeqCst) {
                    return Err("not now".into());
                }
                audit.seen.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        });
        Hooks::default()
            .on(async |message: mp::TextMessage, _: Context| {
                Ok(Reply::text(format!("{} bytes", message.content.len())))
            })
            .account("mp/plain", observed)
    }
}

const FAST: &str = "[observers]\nbackoff = \"20ms..100ms\"\nmax_attempts = 1000";

async fn start(limit: &str, audit: &Audit) -> TestServer {
    TestServer::start_on("memory:", &format!("memory_limit = \"{limit}\"\n{FAST}"), ACCOUNTS, audit.hooks()).await
}

async fn text(server: &TestServer, id: u64, bytes: usize) -> u16 {
    let payload = text_message(id, &"x".repeat(bytes));
    server.post("/mp/plain", &PLAIN.plain(&payload, &format!("nonce{id}"))).await.status
}

async fn held(server: &TestServer) -> f64 {
    server.metric("echostr_journal_bytes").await
}

async fn readiness(server: &TestServer, status: u16) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = server.admin.get("/readyz").await;
        if answer.status == status {
            return answer.body;
        }
        assert!(Instant::now() < until, "/readyz is {answer:?} and not {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_of_waiting_events_is_refused_at_the_limit() {
    let audit = Audit::default();
    let server = start("4MiB", &audit).await;
    let mut taken = Vec::new();
    for id in 1..=40 {
        match text(&server, id, 900 << 10).await {
            200 => taken.push(id),
            503 => {}
            other => panic!("{other}"),
        }
        assert!(held(&server).await <= 4.0 * MIB, "after {id}: {}", held(&server).await);
    }
    assert!((2..=4).contains(&taken.len()), "{taken:?}");
    assert!(held(&server).await > 2.0 * MIB, "what waits is counted");
    assert_eq!(readiness(&server, 503).await, "the journal is full\n");
    // An event that nobody observes takes no room worth the name, and a repeat takes none.
    let other = server.post("/mp/compat", &COMPAT.plain(&text_message(1, "hello"), "compat1")).await;
    assert_eq!(other.status, 200, "{other:?}");
    assert_eq!(text(&server, taken[0], 900 << 10).await, 200);
    audit.works.store(true, Ordering::SeqCst);
    readiness(&server, 200).await;
    let until = Instant::now() + PATIENCE;
    while audit.seen.load(Ordering::SeqCst) < u32::try_from(taken.len()).unwrap() || held(&server).await > MIB {
        assert!(Instant::now() < until, "{} is held when observers are done", held(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(text(&server, 100, 900 << 10).await, 200);
    // What was refused was not claimed.
    let refused = (1..=40).find(|id| !taken.contains(id)).unwrap();
    assert_eq!(text(&server, refused, 900 << 10).await, 200);
}

#[tokio::test]
async fn a_flood_of_notices_whose_pull_hangs_is_refused_at_the_limit() {
    let api = FakeApi::start(1).await.unwrap();
    api.set_faults(Faults { silent: 1.0, ..Faults::default() });
    let accounts = accounts(&api, "max_attempts = 1000").replace("timeout = \"2s\"", "timeout = \"200ms\"");
    let server = TestServer::start_on("memory:", "memory_limit = \"4MiB\"", &accounts, Hooks::default()).await;
    let mut taken = 0;
    for number in 0..30 {
        // Equal notices would be one event, and the latest of a desk stands for those before it.
        let token = format!("{number}{}", "t".repeat(600 << 10));
        let answer = announce_with(&server, &token, &format!("wkDesk{number}"), &format!("n{number}")).await;
        taken += u32::from(answer.status == 200);
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        assert!(held(&server).await <= 4.0 * MIB, "{}", held(&server).await);
    }
    assert!((3..=6).contains(&taken), "{taken}");
    readiness(&server, 503).await;
    api.set_faults(Faults::default());
    readiness(&server, 200).await;
}
