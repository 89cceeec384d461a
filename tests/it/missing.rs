//! What an observer has still to see, or has failed on, outlives a server that does not have that observer.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    internals::journal::{Archive, Filter, Observation, postgres::PostgresArchive, sqlite::SqliteArchive},
    simulate::api::{FakeApi, Faults},
};
use tempfile::TempDir;

use crate::support::{
    TestServer,
    api::{accounts, announce},
    postgres::{database, execute},
    program::Program,
    server::{ACCOUNTS, PLAIN, text_message},
    wait_for,
};

/// One attempt only: what fails is a dead letter.
const ONCE: &str = "[observers]\nmax_attempts = 1";

/// What fails waits for an hour.
const PATIENT: &str = "[observers]\nbackoff = \"1h..1h\"";

/// An observer that fails, or counts what it sees.
fn observing(name: &str, works: bool, seen: &Arc<AtomicU32>) -> Hooks {
    let seen = Arc::clone(seen);
    Hooks::default().observe(name, move |_: mp::TextMessage, _: Context| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { if works { Ok(()) } else { Err("no luck".into()) } }
    })
}

async fn send(server: &TestServer, ids: std::ops::Range<u64>) {
    for id in ids {
        let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(id, "hello"), &format!("nonce{id}"))).await;
        assert_eq!(answer.status, 200);
    }
}

/// A journal that several servers have one after the other.
enum Place {
    Sqlite(TempDir),
    Postgres(String),
}

impl Place {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}", folder.path().join("journal.db").display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    async fn start(&self, more: &str, hooks: Hooks) -> TestServer {
        TestServer::start_on(&self.url(), more, ACCOUNTS, hooks).await
    }

    fn archive(&self) -> Box<dyn Archive> {
        match self {
            Self::Sqlite(folder) => Box::new(SqliteArchive::open(&folder.path().join("journal.db")).unwrap()),
            Self::Postgres(url) => Box::new(PostgresArchive::open(url).unwrap()),
        }
    }

    async fn dead(&self) -> usize {
        self.archive().dead(&Filter::default(), None, 1000).await.unwrap().len()
    }
}

async fn places() -> Vec<Place> {
    let mut places = vec![Place::Sqlite(TempDir::new().unwrap())];
    places.extend(database().await.map(Place::Postgres));
    places
}

#[tokio::test]
async fn dead_letters_survive_a_server_without_their_observer() {
    for place in places().await {
        let seen = Arc::new(AtomicU32::new(0));
        let server = place.start(ONCE, observing("audit", false, &seen)).await;
        send(&server, 1..41).await;
        wait_for("40 dead letters", async || place.dead().await == 40).await;
        assert!(server.stop().await.unwrap());
        let other = place.start(ONCE, Hooks::default()).await;
        send(&other, 41..43).await;
        wait_for("they are counted", async || other.metric("echostr_dead_letters").await == 40.0).await;
        assert!(other.stop().await.unwrap());
        assert_eq!(place.dead().await, 40);
        let server = place.start(ONCE, observing("audit", true, &seen)).await;
        seen.store(0, Ordering::SeqCst);
        let letters = place.archive().dead(&Filter::default(), None, 1000).await.unwrap();
        let letters = letters.into_iter().map(|letter| (letter.event.id, letter.observer)).collect();
        assert_eq!(place.archive().revive(letters).await.unwrap(), 40);
        wait_for("they are seen", async || seen.load(Ordering::SeqCst) == 40).await;
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn what_waits_survives_a_server_without_its_observer() {
    for place in places().await {
        let seen = Arc::new(AtomicU32::new(0));
        let server = place.start(PATIENT, observing("audit", false, &seen)).await;
        send(&server, 1..31).await;
        wait_for("each has failed once", async || seen.load(Ordering::SeqCst) == 30).await;
        assert!(server.stop().await.unwrap());
        // Servers with other observers, and with none.
        for hooks in [observing("other", true, &Arc::default()), Hooks::default()] {
            let other = place.start(PATIENT, hooks).await;
            wait_for("they are counted", async || other.metric("echostr_observations_waiting").await == 30.0).await;
            assert!(other.stop().await.unwrap());
        }
        // They have waited long enough.
        let done = match &place {
            Place::Sqlite(folder) => {
                let db = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
                db.execute("UPDATE delivery SET due = 0", []).is_ok()
            }
            Place::Postgres(url) => execute(url, "UPDATE delivery SET due = 0").await,
        };
        assert!(done);
        seen.store(0, Ordering::SeqCst);
        let server = place.start(PATIENT, observing("audit", true, &seen)).await;
        wait_for("they are seen", async || seen.load(Ordering::SeqCst) == 30).await;
        assert!(server.stop().await.unwrap());
    }
}

/// A configuration with the journal of a place and these accounts, as a file.
fn config_of(folder: &TempDir, place: &Place, accounts: &str) -> PathBuf {
    let config = folder.path().join("echostr.toml");
    let listen = "listen = \"127.0.0.1:0\"";
    let url = place.url();
    std::fs::write(&config, format!("[server]\n{listen}\n[admin]\n{listen}\n[journal]\nurl = \"{url}\"\n{accounts}"))
        .unwrap();
    config
}

/// How many notices of customer service there are, and of how many of them the messages were pulled.
async fn pulled(place: &Place) -> [usize; 2] {
    let archive = place.archive();
    let events = archive.newest(&Filter::default(), 1000).await.unwrap();
    let (mut notices, mut done) = (0, 0);
    for notice in events.iter().filter(|event| event.record.event_type.starts_with("wecom.")) {
        let observations = archive.observations(notice.id).await.unwrap();
        let is_done = |it: &Observation| it.observer == "echostr.kf-pull" && it.state.as_str() == "done";
        notices += 1;
        done += usize::from(observations.iter().any(is_done));
    }
    [notices, done]
}

#[tokio::test]
async fn an_account_that_has_lost_its_secret_keeps_its_notices_and_the_log_says_so() {
    for place in places().await {
        let api = FakeApi::start(1).await.unwrap();
        api.set_faults(Faults { bad_gateway: 1.0, ..Faults::default() });
        let accounts = accounts(&api, "");
        let with_secret = accounts.replace("backoff = \"20ms..200ms\"", "backoff = \"1s..2s\"\nmax_attempts = 1000");
        // Only customer service, so that nobody else has the observer.
        let kf = with_secret.split_once("[mp.shop]").unwrap().0.to_owned()
            + &format!("[wecom_kf.support]{}", with_secret.split_once("[wecom_kf.support]").unwrap().1);
        let server = TestServer::start_on(&place.url(), "", &kf, Hooks::default()).await;
        for number in 0..30 {
            // The latest notice of a desk stands for those before it.
            let desk = format!("wkDesk{number}");
            api.customer_writes(&desk, &format!("wm{number}"), "hello");
            let answer = announce(&server, &api, &desk, &format!("n{number}")).await;
            assert_eq!(answer.status, 200);
        }
        wait_for("they are counted", async || server.metric("echostr_observations_waiting").await == 30.0).await;
        assert!(server.stop().await.unwrap());

        let without = kf.replace("secret = \"kfSecret\"\n", "");
        assert_ne!(kf, without);
        let folder = TempDir::new().unwrap();
        let program = Program::serve(&config_of(&folder, &place, &without));
        let line = program.says(&["echostr.kf-pull", "30 pending events", "kept until", "secret"]).await;
        assert!(line.contains("WARN"), "{line}");
        drop(program);

        api.set_faults(Faults::default());
        let server = TestServer::start_on(&place.url(), "", &kf, Hooks::default()).await;
        wait_for("they are pulled", async || pulled(&place).await == [30, 30]).await;
        assert!(api.counts().calls["/cgi-bin/kf/sync_msg"] > 0);
        assert_eq!(place.dead().await, 0);
        assert!(server.stop().await.unwrap());
    }
}

/// Runs `echostr` with a configuration; gives its exit code and what it prints, on either of its outputs.
async fn echostr(config: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
    command
        .args(arguments)
        .env("ECHOSTR_CONFIG", config)
        .env("COLUMNS", "200")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn an_absent_observer_is_reported_and_removed_by_name_only() {
    for place in places().await {
        let seen = Arc::new(AtomicU32::new(0));
        // Of ten events two are dead letters.
        let server = place.start(ONCE, observing("audit", false, &seen)).await;
        send(&server, 1..3).await;
        wait_for("dead letters", async || place.dead().await == 2).await;
        assert!(server.stop().await.unwrap());
        let server = place.start(PATIENT, observing("audit", false, &seen)).await;
        send(&server, 3..11).await;
        wait_for("each has failed once", async || seen.load(Ordering::SeqCst) == 10).await;
        let folder = TempDir::new().unwrap();
        let config = config_of(&folder, &place, ACCOUNTS);
        // Before the server is replaced `check` warns, and nothing can be removed.
        let (code, said) = echostr(&config, &["check"]).await;
        assert!(code == Some(0) && said.contains("`check --handlers`") && !said.contains("audit"), "{said}");
        let (code, said) = echostr(&config, &["check", "--handlers"]).await;
        assert!(code == Some(0) && said.contains("warning: [journal] observer audit"), "{said}");
        assert!(said.contains("8 pending events and 2 dead letters") && said.contains("observers rm audit"), "{said}");
        let (code, said) = echostr(&config, &["observers", "rm", "audit", "--yes"]).await;
        assert!(code == Some(1) && said.contains("audit is registered"), "{said}");
        assert_eq!(server.metric("echostr_absent_observers").await, 0.0);
        assert!(server.stop().await.unwrap());

        let program = Program::serve(&config);
        let line =
            program.says(&["observer audit is no longer registered", "8 pending events", "2 dead letters"]).await;
        assert!(line.contains("WARN") && line.contains("echostr observers rm audit"), "{line}");
        drop(program);
        let server = place.start(PATIENT, observing("other", true, &Arc::default())).await;
        for (metric, count) in [("observers", 1.0), ("observations_waiting", 8.0), ("dead_letters", 2.0)] {
            let metric = format!("echostr_absent_{metric}");
            wait_for(&metric, async || server.metric(&metric).await == count).await;
        }
        let mut listed = String::new();
        wait_for("it is absent", async || {
            listed = echostr(&config, &["observers", "ls", "--json"]).await.1;
            listed.contains("absent_since\":\"")
        })
        .await;
        let lines: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |line: &serde_json::Value| {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (text("observer"), text("state"), line["pending"].as_u64().unwrap(), line["dead"].as_u64().unwrap())
        };
        let expected = [("audit", "absent", 8, 2), ("other", "registered", 0, 0)];
        assert_eq!(
            lines.iter().map(of).collect::<Vec<_>>(),
            expected.map(|(name, state, pending, dead)| (name.to_owned(), state.to_owned(), pending, dead))
        );
        assert!(lines[0]["oldest"].is_string() && lines[1]["oldest"].is_null());
        let (_, table) = echostr(&config, &["observers", "ls"]).await;
        assert!(table.lines().count() == 3 && table.contains("absent since 20"), "{table}");
        // Beside the server; an absent one alone, and neither when one of them is registered.
        let (code, said) = echostr(&config, &["observers", "rm", "audit", "other", "--yes"]).await;
        assert!(code == Some(1) && said.contains("other is registered"), "{said}");
        assert_eq!(place.dead().await, 2);
        let (code, said) = echostr(&config, &["observers", "rm", "audit"]).await;
        assert!(code == Some(0) && said.contains("removed audit: 8 pending events, 2 dead letters"), "{said}");
        assert_eq!(place.dead().await, 0);
        wait_for("nothing is absent", async || server.metric("echostr_absent_observers").await == 0.0).await;
        wait_for("nothing waits", async || server.metric("echostr_observations_waiting").await == 0.0).await;
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn one_of_two_accounts_that_has_lost_its_secret_keeps_its_notices() {
    for place in places().await {
        let api = FakeApi::start(1).await.unwrap();
        api.set_faults(Faults { bad_gateway: 1.0, ..Faults::default() });
        let accounts = accounts(&api, "");
        let (settings, support) = accounts.split_once("[wecom_kf.support]").unwrap();
        let settings = settings.split_once("[mp.shop]").unwrap().0;
        let patient = settings.replace("backoff = \"20ms..200ms\"", "backoff = \"1s..2s\"\nmax_attempts = 1000");
        let other = format!("[wecom_kf.other]{support}");
        let both = format!("{patient}[wecom_kf.support]{support}{other}");
        let server = TestServer::start_on(&place.url(), "", &both, Hooks::default()).await;
        for number in 0..5 {
            let desk = format!("wkDesk{number}");
            api.customer_writes(&desk, &format!("wm{number}"), "hello");
            assert_eq!(announce(&server, &api, &desk, &format!("n{number}")).await.status, 200);
        }
        wait_for("they are counted", async || server.metric("echostr_observations_waiting").await == 5.0).await;
        assert!(server.stop().await.unwrap());

        // The observer is there, for the other account, and has no patience.
        let hasty = settings.replace("backoff = \"20ms..200ms\"", "backoff = \"1ms..2ms\"\nmax_attempts = 20");
        let support = support.replace("secret = \"kfSecret\"\n", "");
        let folder = TempDir::new().unwrap();
        let accounts = format!("{hasty}[wecom_kf.support]{support}{other}");
        let program = Program::serve(&config_of(&folder, &place, &accounts));
        let line = program.says(&["wecom_kf/support", "echostr.kf-pull", "are kept", "no `secret`"]).await;
        assert!(line.contains("WARN"), "{line}");
        drop(program);
        assert_eq!(place.dead().await, 0);

        api.set_faults(Faults::default());
        let server = TestServer::start_on(&place.url(), "", &both, Hooks::default()).await;
        wait_for("they are pulled", async || pulled(&place).await == [5, 5]).await;
        assert_eq!(place.dead().await, 0);
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_may_have_different_observers() {
    let Some(url) = database().await else { return };
    let place = Place::Postgres(url);
    let seen = Arc::new(AtomicU32::new(0));
    let old = place.start(PATIENT, observing("audit", false, &seen)).await;
    send(&old, 1..11).await;
    wait_for("each has failed once", async || seen.load(Ordering::SeqCst) == 10).await;
    // A node of the next version, which does not have it, and one that has something else.
    let new = place.start(PATIENT, observing("other", true, &Arc::default())).await;
    send(&new, 11..13).await;
    wait_for("they are counted", async || new.metric("echostr_observations_waiting").await == 10.0).await;
    assert!(old.stop().await.unwrap());
    assert_eq!(new.metric("echostr_observations_waiting").await, 10.0);
    let again = place.start(PATIENT, observing("audit", true, &seen)).await;
    assert_eq!(new.metric("echostr_observations_waiting").await, 10.0);
    assert!(again.stop().await.unwrap() && new.stop().await.unwrap());
}
