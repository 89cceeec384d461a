//! Each observer has attempts, pauses, time and room of its own, and says of a failure whether and when it is tried again.

use std::{
    collections::HashMap,
    future::{pending, ready},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, HandlerError, Hooks, Observe, Permanent, RetryAfter},
    internals::journal::{Archive, DeadLetter, Filter, postgres::PostgresArchive, sqlite::SqliteArchive},
    server::Server,
};
use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, mpsc},
    time,
};

use crate::support::{
    TestServer,
    postgres::database,
    server::{ACCOUNTS, MP, text_message},
};

/// Bounds every wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// What fails as usual waits for longer than a test.
const PATIENT: &str = "\n[observers]\nbackoff = \"1h..1h\"\nmax_attempts = 3\n";

async fn send(server: &TestServer, id: u64, content: &str) {
    let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), &id.to_string())).await;
    assert_eq!(answer.status, 200);
}

/// The URLs of journals with dead letters that the command line can read.
async fn journals(folder: &Path) -> Vec<String> {
    let file = folder.join("journal.db");
    let mut urls = vec![format!("sqlite://{}", file.display())];
    urls.extend(database().await);
    urls
}

fn archive(url: &str) -> Box<dyn Archive> {
    match url.strip_prefix("sqlite://") {
        Some(path) => Box::new(SqliteArchive::open(Path::new(path)).unwrap()),
        None => Box::new(PostgresArchive::open(url).unwrap()),
    }
}

/// Waits until there are so many dead letters.
async fn dead(url: &str, count: usize) -> Vec<DeadLetter> {
    let until = Instant::now() + PATIENCE;
    loop {
        let letters = archive(url).dead(&Filter::default(), None, 100).await.unwrap();
        if letters.len() == count {
            return letters;
        }
        assert!(Instant::now() < until, "{} dead letters, not {count}", letters.len());
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// How many events each observer has still to see, in the order of their names.
async fn pending_events(url: &str) -> Vec<u64> {
    archive(url).observer_states().await.unwrap().into_iter().map(|it| it.pending).collect()
}

async fn next<T>(seen: &mut mpsc::UnboundedReceiver<T>) -> T {
    time::timeout(PATIENCE, seen.recv()).await.expect("in time").unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("the import failed")]
struct Import(#[source] HandlerError);

/// What an observer does with a message: its own words.
fn outcome(content: &str) -> Result<(), HandlerError> {
    match content {
        "permanent" => Err(Permanent::new("no such user").into()),
        "number" => content.parse::<u32>().map(drop).map_err(|error| Permanent::new(error).into()),
        "behind" => Err(Import(Permanent::new("no such user").into()).into()),
        "soon" => Err(RetryAfter::new(Duration::from_millis(50), "busy").into()),
        _ => {
            let _: u32 = content.parse()?;
            Ok(())
        }
    }
}

#[tokio::test]
async fn an_observer_says_whether_and_when_it_is_tried_again() {
    let folder = TempDir::new().unwrap();
    for url in journals(folder.path()).await {
        let (tell, mut seen) = mpsc::unbounded_channel();
        let hooks = Hooks::default().observe("crm", move |message: mp::TextMessage, context: Context| {
            let _ = tell.send((message.content.clone(), context.attempt(), Instant::now()));
            ready(outcome(&message.content))
        });
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{PATIENT}"), hooks).await;
        for (id, content) in [(1, "permanent"), (2, "number"), (3, "behind"), (4, "soon"), (5, "usual")] {
            send(&server, id, content).await;
        }
        let mut times: HashMap<String, Vec<Instant>> = HashMap::new();
        for _ in 0..7 {
            let (content, attempt, at) = next(&mut seen).await;
            let times = times.entry(content).or_default();
            times.push(at);
            assert_eq!(times.len(), attempt as usize);
        }
        assert!(times.iter().all(|(content, times)| times.len() == if content == "soon" { 3 } else { 1 }), "{times:?}");
        let soon = &times["soon"];
        assert!(soon.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(50)), "{soon:?}");
        let letters = dead(&url, 4).await;
        let letters: Vec<_> = letters.iter().map(|it| (it.attempts, it.error.as_str())).collect();
        let number = "invalid digit found in string";
        assert_eq!(letters, [(1, "no such user"), (1, number), (1, "the import failed"), (3, "busy")]);
        // What fails as usual waits.
        assert_eq!(pending_events(&url).await, [1]);
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn each_observer_has_a_policy_from_its_code_and_from_the_configuration() {
    const POLICIES: &str = "[observers.configured]\nmax_attempts = 2\nbackoff = \"1ms..2ms\"\n\
                            [observers.hangs]\ntimeout = \"20ms\"\n[observers.overridden]\nmax_attempts = 4\n";
    let folder = TempDir::new().unwrap();
    for url in journals(folder.path()).await {
        let fails = |_: mp::TextMessage, _: Context| ready(Err("no luck".into()));
        let quick = |name: &str| Observe::named(name).backoff(Duration::from_millis(1), Duration::from_millis(2));
        let hooks = Hooks::default()
            .observe(Observe::named("once").max_attempts(1), fails)
            .observe(quick("coded").max_attempts(5), fails)
            .observe("configured", fails)
            .observe(quick("overridden").max_attempts(7), fails)
            .observe("usual", fails)
            .observe(Observe::named("hangs").max_attempts(1), async |_: mp::TextMessage, _: Context| {
                pending::<Result<(), HandlerError>>().await
            })
            .observe(
                Observe::named("slow").max_attempts(1).timeout(Duration::from_millis(30)),
                async |_: mp::TextMessage, _: Context| pending::<Result<(), HandlerError>>().await,
            );
        let server = TestServer::start_on(&url, "", &format!("{ACCOUNTS}{PATIENT}{POLICIES}"), hooks).await;
        send(&server, 1, "hello").await;
        let letters = dead(&url, 6).await;
        let letters: Vec<_> = letters.iter().map(|it| (it.observer.as_str(), it.attempts, it.error.as_str())).collect();
        assert_eq!(
            letters,
            [
                ("coded", 5, "no luck"),
                ("configured", 2, "no luck"),
                ("hangs", 1, "the handler took longer than 0.02 s"),
                ("once", 1, "no luck"),
                ("overridden", 4, "no luck"),
                ("slow", 1, "the handler took longer than 0.03 s"),
            ]
        );
        assert_eq!(pending_events(&url).await, [0, 0, 0, 0, 0, 0, 1], "the usual pause is of an hour");
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn each_observer_has_room_of_its_own() {
    const ONE_AT_A_TIME: &str = "[observers.configured]\nconcurrency = 2\n";
    let folder = TempDir::new().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let most: Arc<Mutex<HashMap<&str, u32>>> = Arc::default();
    let done = Arc::new(AtomicU32::new(0));
    let waiting = |name: &'static str| {
        let (gate, most, running) = (Arc::clone(&gate), Arc::clone(&most), Arc::new(AtomicU32::new(0)));
        let done = Arc::clone(&done);
        move |_: mp::TextMessage, _: Context| {
            let (gate, most, running, done) =
                (Arc::clone(&gate), Arc::clone(&most), Arc::clone(&running), Arc::clone(&done));
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.lock().unwrap().entry(name).and_modify(|most| *most = now.max(*most)).or_insert(now);
                drop(gate.acquire().await?);
                running.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        }
    };
    let hooks = Hooks::default().account(
        "mp/shop",
        Hooks::default()
            .observe(Observe::named("coded").concurrency(3), waiting("coded"))
            .observe(Observe::named("configured").concurrency(7), waiting("configured"))
            .observe("usual", waiting("usual")),
    );
    let server = TestServer::start_in(folder.path(), &format!("{PATIENT}{ONE_AT_A_TIME}"), hooks).await;
    for id in 1..=10 {
        send(&server, id, "hello").await;
    }
    let expected = HashMap::from([("coded", 3), ("configured", 2), ("usual", 10)]);
    let until = Instant::now() + PATIENCE;
    while *most.lock().unwrap() != expected {
        assert!(Instant::now() < until, "{:?}", most.lock().unwrap());
        time::sleep(Duration::from_millis(10)).await;
    }
    gate.add_permits(1);
    while done.load(Ordering::SeqCst) < 30 {
        assert!(Instant::now() < until, "{done:?} are done");
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*most.lock().unwrap(), expected);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_policy_of_nobody_is_an_error_with_its_line() {
    let folder = TempDir::new().unwrap();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"sqlite://{}\"\n\
         [observers.\"echostr.kf-pull\"]\nmax_attempts = 3\n[observers.adit]\ntimeout = \"1s\"\n",
        folder.path().join("journal.db").display()
    );
    let config = Config::parse(&text, "c.toml", |name| std::env::var(name)).unwrap();
    let hooks = Hooks::default().observe("audit", async |_: mp::TextMessage, _: Context| Ok(()));
    let failure = Server::bind(&config, hooks, Clock::system()).await.unwrap_err().to_string();
    assert_eq!(failure, "c.toml:9: [observers.adit] no observer has this name; did you mean `audit`?");
    let file = folder.path().join("echostr.toml");
    std::fs::write(&file, text.replace("adit", "\"echostr.kf-reply-at-onse\"").replace("timeout = \"1s\"", ""))
        .unwrap();
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        let output = command.arg("check").args(arguments).env("ECHOSTR_CONFIG", &file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check(&[]);
    let expected = "echostr.toml:9: [observers.\"echostr.kf-reply-at-onse\"] no observer has this name; did you mean \
                    `echostr.kf-reply-at-once`?";
    assert!(code == Some(1) && said.contains(expected), "{said}");
    // Whether a handler has a name is known once handlers are set up.
    std::fs::write(&file, &text).unwrap();
    let (code, said) = check(&[]);
    assert_eq!((code, said.contains("adit")), (Some(0), false), "{said}");
    let (code, said) = check(&["--handlers"]);
    assert!(code == Some(1) && said.contains("echostr.toml:9: [observers.adit] no observer has this name"), "{said}");
}
