//! Observers see every event at least once, whatever happens in between.

use std::{
    collections::{BTreeMap, HashMap},
    future::{pending, ready},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks, Observe},
    internals::journal::{Archive as _, Filter, sqlite::SqliteArchive},
    replies::mp::Reply,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time};

use crate::support::{
    TestServer,
    server::{MP, text_message},
};

/// Pauses that a test can wait for.
const FAST: &str = "\n[observers]\nbackoff = \"10ms..50ms\"\nmax_attempts = 3\ntimeout = \"300ms\"\n";

/// What an observer has seen: content, attempt, event.
type Seen = mpsc::UnboundedReceiver<(String, u32, String)>;

/// Hooks with an observer that tells what it sees, and does with it what `act` says.
fn observing(
    how: impl Into<Observe>,
    act: impl Fn(&str, u32) -> Result<(), &'static str> + Send + Sync + 'static,
) -> (Hooks, Seen) {
    let (tell, seen) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe(how, move |message: mp::TextMessage, context: Context| {
        let _ = tell.send((message.content.clone(), context.attempt(), context.event_id().to_string()));
        ready(act(&message.content, context.attempt()).map_err(Into::into))
    });
    (hooks, seen)
}

async fn next(seen: &mut Seen) -> (String, u32, String) {
    time::timeout(Duration::from_secs(20), seen.recv()).await.expect("an event").unwrap()
}

async fn send(server: &TestServer, id: u64, content: &str) {
    let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), &id.to_string())).await;
    assert_eq!(answer.status, 200);
}

fn archive(folder: &Path) -> SqliteArchive {
    SqliteArchive::open(&folder.join("journal.db")).unwrap()
}

/// Waits until the observers have nothing more to do.
async fn settled(folder: &Path) {
    let archive = archive(folder);
    for _ in 0..2000 {
        let mut open = 0;
        for event in archive.events(&Filter::default(), None, 1000).await.unwrap() {
            let deliveries = archive.observations(event.id).await.unwrap();
            open += deliveries.iter().filter(|it| !matches!(it.state.as_str(), "done" | "dead")).count();
        }
        if open == 0 {
            return;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("observers are never done");
}

#[tokio::test]
async fn one_that_fails_or_panics_is_asked_again() {
    let folder = TempDir::new().unwrap();
    let (hooks, mut seen) = observing("audit", |content, attempt| match (content, attempt) {
        ("fails", 1) => Err("not yet"),
        ("panics", 1) => panic!("a bug"),
        _ => Ok(()),
    });
    let server = TestServer::start_in(folder.path(), FAST, hooks).await;
    for (id, content) in [(1, "fails"), (2, "panics"), (3, "works")] {
        send(&server, id, content).await;
    }
    let mut attempts: HashMap<String, Vec<u32>> = HashMap::new();
    let mut events: HashMap<String, Vec<String>> = HashMap::new();
    for _ in 0..5 {
        let (content, attempt, event) = next(&mut seen).await;
        attempts.entry(content.clone()).or_default().push(attempt);
        events.entry(content).or_default().push(event);
    }
    assert_eq!((&attempts["fails"], &attempts["panics"], &attempts["works"]), (&vec![1, 2], &vec![1, 2], &vec![1]));
    assert!(events.values().all(|ids| ids.iter().all(|id| *id == ids[0])));
    settled(folder.path()).await;
    assert!(server.metric("echostr_observations_total{result=\"failed\"}").await >= 2.0);
    assert!(server.stop().await.unwrap());
    assert!(seen.recv().await.is_none());
}

#[tokio::test]
async fn one_that_always_fails_leaves_a_dead_letter_with_the_last_error() {
    let folder = TempDir::new().unwrap();
    let works = Arc::new(AtomicBool::new(false));
    let (hooks, mut seen) = observing("audit", {
        let works = Arc::clone(&works);
        move |_, _| if works.load(Ordering::SeqCst) { Ok(()) } else { Err("no luck") }
    });
    let server = TestServer::start_in(folder.path(), FAST, hooks).await;
    send(&server, 1, "hello").await;
    for attempt in 1..=3 {
        assert_eq!(next(&mut seen).await.1, attempt);
    }
    settled(folder.path()).await;
    let archive = archive(folder.path());
    let dead = archive.dead(&Filter::default(), None, 10).await.unwrap();
    let letters: Vec<_> = dead.iter().map(|it| (it.observer.as_str(), it.attempts, it.error.as_str())).collect();
    assert_eq!(letters, [("audit", 3, "no luck")]);
    // What caused it is mended: once more, from the first attempt on, by the server that runs.
    works.store(true, Ordering::SeqCst);
    assert_eq!(archive.revive(vec![(dead[0].event.id, "audit".to_owned())]).await.unwrap(), 1);
    assert_eq!(next(&mut seen).await.1, 1);
    settled(folder.path()).await;
    assert!(archive.dead(&Filter::default(), None, 10).await.unwrap().is_empty());
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn one_that_hangs_is_cut_off_and_asked_again() {
    let folder = TempDir::new().unwrap();
    let (tell, mut seen) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe("audit", move |_: mp::TextMessage, context: Context| {
        let _ = tell.send(context.attempt());
        async move {
            if context.attempt() == 1 {
                pending::<()>().await;
            }
            Ok(())
        }
    });
    let server = TestServer::start_in(folder.path(), FAST, hooks).await;
    send(&server, 1, "hello").await;
    for attempt in 1..=2 {
        assert_eq!(time::timeout(Duration::from_secs(20), seen.recv()).await.unwrap(), Some(attempt));
    }
    settled(folder.path()).await;
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn what_a_shutdown_cuts_off_comes_again_after_the_next_start() {
    let folder = TempDir::new().unwrap();
    let (tell, mut seen) = mpsc::unbounded_channel();
    let hooks = |hangs: bool| {
        let tell = tell.clone();
        Hooks::default().observe("audit", move |_: mp::TextMessage, context: Context| {
            let _ = tell.send(context.attempt());
            async move {
                if hangs {
                    pending::<()>().await;
                }
                Ok(())
            }
        })
    };
    let patient = "\n[observers]\ntimeout = \"1h\"\n";
    let server = TestServer::start_in(folder.path(), patient, hooks(true)).await;
    send(&server, 1, "hello").await;
    assert_eq!(seen.recv().await, Some(1));
    // The grace period is over before the handler is: it is cut off, and the attempt does not count.
    assert!(!server.stop().await.unwrap());
    let server = TestServer::start_in(folder.path(), patient, hooks(false)).await;
    assert_eq!(time::timeout(Duration::from_secs(20), seen.recv()).await.unwrap(), Some(1));
    settled(folder.path()).await;
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn in_order_the_events_of_a_user_come_one_after_the_other() {
    const USERS: u64 = 5;
    const EACH: u64 = 12;
    let folder = TempDir::new().unwrap();
    let seen: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
    let (running, at_once) = (Arc::new(Mutex::new(BTreeMap::<String, u32>::new())), Arc::new(AtomicU32::new(0)));
    let hooks = Hooks::default().observe(Observe::named("crm").in_order(), {
        let (seen, running, at_once) = (Arc::clone(&seen), Arc::clone(&running), Arc::clone(&at_once));
        move |message: mp::TextMessage, context: Context| {
            let (seen, running, at_once) = (Arc::clone(&seen), Arc::clone(&running), Arc::clone(&at_once));
            async move {
                let user = message.envelope.from_user_name.clone();
                {
                    let mut running = running.lock().unwrap();
                    let now = running.entry(user.clone()).or_default();
                    *now += 1;
                    at_once.fetch_max(*now, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
                let number: u64 = message.content.parse()?;
                *running.lock().unwrap().get_mut(&user).unwrap() -= 1;
                // Every third one fails at first.
                if number.is_multiple_of(3) && context.attempt() == 1 {
                    return Err("later".into());
                }
                seen.lock().unwrap().entry(user).or_default().push(number);
                Ok(())
            }
        }
    });
    let server = TestServer::start_in(folder.path(), FAST, hooks).await;
    for number in 1..=EACH {
        for user in 0..USERS {
            let id = number * 100 + user;
            let payload = text_message(id, &number.to_string()).replace("user_openid", &format!("user_{user}"));
            assert_eq!(server.post("/mp/shop", &MP.safe(&payload, &id.to_string())).await.status, 200);
        }
    }
    settled(folder.path()).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len() as u64, USERS);
    assert!(seen.values().all(|numbers| numbers.iter().copied().eq(1..=EACH)), "{seen:?}");
    assert_eq!(at_once.load(Ordering::SeqCst), 1);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn repeats_are_recognised_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let hooks = || {
        let runs = Arc::clone(&runs);
        Hooks::default().on(move |_: mp::TextMessage, _: Context| {
            let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
            ready(Ok(Reply::text(format!("run {run}"))))
        })
    };
    let payload = text_message(1, "hi");
    let mut replies = Vec::new();
    for nonce in ["a", "b"] {
        let server = TestServer::start_in(folder.path(), "", hooks()).await;
        for more in ["x", "y"] {
            let answer = server.post("/mp/shop", &MP.safe(&payload, &format!("{nonce}{more}"))).await;
            replies.push(MP.open_reply(&answer.body));
        }
        assert!(server.stop().await.unwrap());
    }
    assert!(replies.iter().all(|reply| *reply == replies[0] && reply.contains("run 1")), "{replies:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
