//! `echostr events` and `echostr dead`, on the journal of a server that runs, and of one that has stopped.

use std::{
    collections::HashSet,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use echostr::{
    events::{im, mp},
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{sync::mpsc, task, time};

use crate::support::{
    TestServer,
    server::{IM, MP, event, text_message},
};

/// A journal with a server on it, and a configuration that names it.
struct Journal {
    folder: TempDir,
    works: Arc<AtomicBool>,
    seen: mpsc::UnboundedReceiver<String>,
    hooks: Option<Hooks>,
}

impl Journal {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let works = Arc::new(AtomicBool::new(true));
        let (tell, seen) = mpsc::unbounded_channel();
        let works_now = Arc::clone(&works);
        let hooks = Hooks::default()
            .on(async |_: mp::TextMessage, _: Context| Ok(Reply::text("hello")))
            .observe("audit", move |message: mp::TextMessage, _: Context| {
                let (tell, works) = (tell.clone(), works_now.load(Ordering::SeqCst));
                async move {
                    let _ = tell.send(message.content.clone());
                    if works { Ok(()) } else { Err("no\nluck".into()) }
                }
            })
            .observe("friends", async |_: im::AfterFriendAdd, _: Context| Ok(()));
        let config = format!(
            "[journal]\nurl = \"sqlite://{}\"\n[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"abc\"\nmode = \"plain\"\n",
            folder.path().join("journal.db").display()
        );
        std::fs::write(folder.path().join("echostr.toml"), config).unwrap();
        Self { folder, works, seen, hooks: Some(hooks) }
    }

    async fn serve(&mut self) -> TestServer {
        TestServer::start_in(self.folder.path(), "\n[observers]\nmax_attempts = 1\n", self.hooks.take().unwrap()).await
    }

    async fn next(&mut self) -> String {
        time::timeout(Duration::from_secs(20), self.seen.recv()).await.expect("an event").unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        echostr(self.folder.path(), arguments).await
    }

    /// Runs a command that must succeed.
    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn lines(&self, arguments: &[&str]) -> Vec<Json> {
        self.ok(arguments).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until `dead ls` has so many letters.
    async fn dead(&self, count: usize) -> Vec<Json> {
        for _ in 0..500 {
            let letters = self.lines(&["dead", "ls", "--json"]).await;
            if letters.len() == count {
                return letters;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        panic!("there never are {count} dead letters");
    }
}

pub async fn echostr(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
    command.args(arguments).env("ECHOSTR_CONFIG", folder.join("echostr.toml"));
    task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn post(server: &TestServer, id: u64, payload: &str) {
    let answer = server.post("/mp/shop", &MP.safe(payload, &id.to_string())).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn events_are_listed_filtered_and_shown_while_the_server_runs_and_after() {
    let mut journal = Journal::new();
    let server = journal.serve().await;
    for id in 1..=3 {
        post(&server, id, &text_message(id, &format!("message {id}"))).await;
        journal.next().await;
    }
    post(&server, 3, &text_message(3, "message 3")).await;
    post(
        &server,
        4,
        &event("LOCATION", "<Latitude>23.5</Latitude><Longitude>113.25</Longitude><Precision>120</Precision>"),
    )
    .await;
    let friend = r#"{"CallbackCommand":"Sns.CallbackFriendAdd","PairList":[{"From_Account":"id","To_Account":"id1","Initiator_Account":"id"}],"EventTime":1791284400123}"#;
    assert_eq!(server.post("/im/chat", &IM.command("Sns.CallbackFriendAdd", friend)).await.status, 200);

    let mut server = Some(server);
    for running in [true, false] {
        let all = journal.lines(&["events", "ls", "--json"]).await;
        assert_eq!(all.len(), 5, "{running}");
        for event in &all {
            assert_eq!((&event["specversion"], &event["datacontenttype"]), (&"1.0".into(), &"application/json".into()));
            assert!(event["id"].as_str().unwrap().len() == 36 && event["time"].as_str().unwrap().ends_with('Z'));
            assert!(event["dedupekey"].is_string() && event["receivedat"].is_string());
        }
        let message = &all[2];
        assert_eq!(message["type"], "mp.message.text");
        assert_eq!((&message["source"], &message["subject"]), (&"/mp/shop".into(), &"user_openid".into()));
        assert_eq!(message["deliveries"], 2);
        assert_eq!(
            (&message["data"]["Content"], &message["data"]["CreateTime"]),
            (&"message 3".into(), &crate::support::NOW.into())
        );
        assert_eq!(all[3]["data"]["Latitude"], 23.5);
        assert_eq!((&all[4]["type"], &all[4]["source"]), (&"im.command.sns.friend_add".into(), &"/im/chat".into()));
        for (filter, count) in [
            (&["--platform", "im"][..], 1),
            (&["--account", "mp/shop"], 4),
            (&["--type", "mp.message.*"], 3),
            (&["--type", "mp.event.location"], 1),
            (&["--subject", "user_openid"], 4),
            (&["--since", "1h"], 5),
            (&["--until", "2026-01-01"], 0),
            (&["--state", "answered", "--platform", "mp"], 4),
            (&["--state", "responding"], 0),
            (&["--limit", "2"], 2),
            (&["--limit", "0"], 5),
        ] {
            let found = journal.lines(&[&["events", "ls", "--json"], filter].concat()).await;
            assert_eq!(found.len(), count, "{filter:?}");
        }
        let table = journal.ok(&["events", "ls"]).await;
        assert_eq!(table.lines().count(), 6);
        assert!(table.contains("mp.event.location"), "{table}");

        let id = message["id"].as_str().unwrap();
        let shown = journal.lines(&["events", "show", id, "--json"]).await.remove(0);
        assert_eq!((&shown["event"], &shown["state"]), (message, &"answered".into()));
        assert!(shown["reply"].as_str().unwrap().contains("hello"));
        assert_eq!(shown["observers"][0]["observer"], "audit");
        let text = journal.ok(&["events", "show", id]).await;
        assert!(text.contains("observer audit: ") && text.contains("message 3"), "{text}");
        // While it runs, the success of the observer may not be in the journal yet.
        assert!(running || text.contains("observer audit: done"), "{text}");
        if let Some(server) = server.take() {
            assert!(server.stop().await.unwrap());
        }
    }
}

#[tokio::test]
async fn what_was_replayed_is_seen_again() {
    let mut journal = Journal::new();
    let server = journal.serve().await;
    for id in 1..=3 {
        post(&server, id, &text_message(id, &format!("message {id}"))).await;
        journal.next().await;
    }
    let all = journal.lines(&["events", "ls", "--json"]).await;
    let id = all[1]["id"].as_str().unwrap();
    // The observer's success may not be in the journal yet, and what waits is not offered twice.
    for _ in 0..200 {
        if journal.ok(&["events", "replay", id, "--observer", "audit"]).await.starts_with("queued 1 event again") {
            break;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(journal.next().await, "message 2");
    // To all that they were for, each once.
    let mut offered = 0;
    for _ in 0..500 {
        let said = journal.ok(&["events", "replay", "--all", "--all-observers"]).await;
        offered += said.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
        if offered >= 3 {
            break;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    let mut again = HashSet::new();
    while again.len() < 3 {
        again.insert(journal.next().await);
    }
    assert!(server.stop().await.unwrap());
    // A stopped server sees it after the next start.
    let replayed = journal.ok(&["events", "replay", "--type", "mp.message.text", "--observer", "audit"]).await;
    assert_eq!(replayed, "queued 3 events again; those still pending were skipped\n");
    let shown = journal.lines(&["events", "show", id, "--json"]).await.remove(0);
    assert_eq!(shown["observers"][0]["state"], "waiting");
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_dropped() {
    let mut journal = Journal::new();
    journal.works.store(false, Ordering::SeqCst);
    let server = journal.serve().await;
    for id in 1..=3 {
        post(&server, id, &text_message(id, &format!("message {id}"))).await;
        journal.next().await;
    }
    let letters = journal.dead(3).await;
    let text = |letter: &Json| letter["event"]["data"]["Content"].as_str().unwrap().to_owned();
    assert_eq!(
        letters.iter().map(text).collect::<Vec<_>>(),
        ["message 3", "message 2", "message 1"],
        "the newest first"
    );
    let newest = journal.lines(&["dead", "ls", "--json", "--limit", "1"]).await;
    assert_eq!(newest.iter().map(text).collect::<Vec<_>>(), ["message 3"]);
    let id = |at: usize| letters[2 - at]["event"]["id"].as_str().unwrap().to_owned();
    assert!(letters.iter().all(|it| it["observer"] == "audit" && it["attempts"] == 1 && it["error"] == "no\nluck"));
    let table = journal.ok(&["dead", "ls", "--observer", "audit"]).await;
    assert_eq!(table.lines().count(), 4, "an error has one line: {table}");
    assert!(journal.ok(&["dead", "drop", &format!("{}/audit", id(0))]).await.contains("removed 1 dead letter"));
    let shown = journal.lines(&["events", "show", &id(0), "--json"]).await.remove(0);
    assert_eq!(shown["observers"], Json::Array(Vec::new()), "it has not seen the event, and never will");
    // Of another observer there is none, and nothing else is dropped in its place.
    let other = journal.run(&["dead", "drop", "--observer", "friends", &id(1)]).await;
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("no dead letter"));
    assert_eq!(journal.dead(2).await.len(), 2);
    journal.works.store(true, Ordering::SeqCst);
    assert!(journal.ok(&["dead", "replay", "--all"]).await.contains("queued 2 dead letters again"));
    let mut again = [journal.next().await, journal.next().await];
    again.sort();
    assert_eq!(again, ["message 2", "message 3"]);
    assert!(journal.dead(0).await.is_empty());
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let mut journal = Journal::new();
    // Looking does not make a journal.
    let missing = journal.run(&["events", "ls"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("journal.db"));
    assert!(!journal.folder.path().join("journal.db").exists());
    assert!(journal.ok(&["check"]).await.contains("no problem"));
    assert!(!journal.folder.path().join("journal.db").exists());
    let server = journal.serve().await;
    assert!(journal.ok(&["check"]).await.contains("no problem"));
    for (arguments, code, says) in [
        (&["events", "show", "0198c7d2-0000-7000-8000-000000000000"][..], 1, "no event"),
        (&["events", "show", "7"], 2, "invalid value"),
        (&["events", "ls", "--since", "soon"], 2, "an age such as 2h"),
        (&["events", "ls", "--platform", "qq"], 2, "invalid value"),
        (&["events", "replay", "--observer", "audit"], 2, "--all"),
        (&["events", "replay", "--all"], 2, "--observer"),
        (&["events", "replay", "--all-observers"], 2, "--all"),
        (&["events", "replay", "--all", "--all-observers", "--observer", "audit"], 2, "cannot be used with"),
        (&["observers", "rm"], 2, "NAME"),
        (&["observers", "rm", "nobody", "--yes"], 1, "expected one of audit, friends"),
        (&["observers", "rm", "audit", "--yes"], 1, "is registered"),
        (&["events", "replay", "--all", "--observer", "nobody"], 1, "expected one of audit, friends"),
        (&["dead", "drop"], 2, "--all"),
        (&["dead", "drop", "--type", "mp.*", "0198c7d2-0000-7000-8000-000000000000"], 2, "not both"),
        (&["dead", "replay", "0198c7d2-0000-7000-8000-000000000000"], 1, "nothing was done"),
    ] {
        let output = journal.run(arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    assert!(server.stop().await.unwrap());
    std::fs::write(journal.folder.path().join("journal.db"), "no journal, and longer than a header would be").unwrap();
    let damaged = journal.run(&["check"]).await;
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&damaged.stderr).contains("[journal]"));
}
