//! Queues as targets of forwards, against the real brokers: one behaviour for all of them.
//!
//! Without their programs the tests are skipped, unless `ECHOSTR_TEST_QUEUES=required`.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    process::Command,
};

use echostr::{
    hooks::Hooks,
    internals::journal::{Archive as _, Filter, sqlite::SqliteArchive},
};
use tempfile::TempDir;

use crate::support::{
    TestServer,
    certificates::{Ca, named},
    process::{self, Process},
    server::{ACCOUNTS, MP, text_message},
    until, wait_for,
};

/// The password of the user that everything is allowed to, and one that is wrong.
const PASSWORD: &str = "right-pa55word";
const WRONG: &str = "wrong-pa55word";

/// A broker of the test's own.
trait Broker: Sized {
    /// Whether what it has confirmed is there after `kill -9`.
    const SURVIVES: bool = true;
    /// Whether it drops a message with an id that it has.
    const DEDUPLICATES: bool = false;

    /// One that is not running yet; `None` where it is not installed.
    fn prepare(folder: &Path) -> Option<Self>;

    fn process(&mut self) -> &mut Process;

    /// Waits until it answers.
    async fn until_ready(&self);

    /// Makes the place where the forward of this name publishes, unless it is there.
    async fn create(&self, name: &str);

    /// The keys of a forward of this name; `user` is a template of the user's part in the place.
    fn keys(&self, name: &str) -> String;

    /// The same over TLS.
    fn keys_with_tls(&self, name: &str) -> String;

    /// Everything that is in the place of this name, in its order.
    async fn read(&self, name: &str) -> Vec<Received>;

    /// Keys of forwards that are refused, and what is said; made ready.
    async fn refused(&self) -> Vec<(String, &'static str)>;

    /// Whether the place is as the suite wants it for a user called so.
    fn is_place_of(&self, received: &Received, name: &str, user: &str) -> bool;
}

/// A message as a consumer sees it.
#[derive(Clone, Debug, Default)]
struct Received {
    /// Subject, stream, routing key, topic.
    place: String,
    key: Option<String>,
    /// What to deduplicate by, as the system has it.
    id: String,
    attributes: BTreeMap<String, String>,
    body: String,
}

impl Received {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Number of the event and user.
    fn event(&self) -> (u64, String) {
        let data = &self.json()["data"];
        (data["Content"].as_str().unwrap().parse().unwrap(), data["FromUserName"].as_str().unwrap().to_owned())
    }
}

/// The program of a broker; where it is missing, the test fails or is skipped.
fn program(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let found = process::find(name, folders);
    if found.is_none() {
        let required = std::env::var("ECHOSTR_TEST_QUEUES").is_ok_and(|value| value == "required");
        assert!(!required, "{name} is required, and not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Certificate and key of a broker, and the file of their CA.
struct Certificates {
    certificate: String,
    key: String,
    ca: String,
}

impl Certificates {
    fn new(folder: &Path) -> Self {
        let ca = Ca::new("queues");
        let (certificate, key) = ca.sign(&named("broker", &["localhost"]));
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (certificate, key) = (write("broker.pem", &certificate), write("broker.key", &key));
        Self { certificate, key, ca: ca.file(folder, "ca.pem") }
    }
}

/// Keys that trust the system's certificates alone.
fn without_ca(keys: &str) -> String {
    keys.lines().filter(|line| !line.starts_with("ca_file")).map(|line| format!("{line}\n")).collect()
}

/// A forward of this name. Its pauses are short, and many.
fn forward(name: &str, keys: &str) -> String {
    let retry = if keys.contains("retry = ") {
        String::new()
    } else {
        format!("retry = [{}]\n", vec!["\"100ms\""; 100].join(", "))
    };
    format!("\n[[forward]]\nname = \"{name}\"\nmatch = \"mp/shop:mp.message.text\"\n{keys}\n{retry}")
}

async fn start(forwards: &str) -> TestServer {
    TestServer::start_with("", &format!("{ACCOUNTS}{forwards}"), Hooks::default()).await
}

async fn send(server: &TestServer, id: u64, user: &str) {
    let message = text_message(id, &id.to_string()).replace("user_openid", user);
    let answer = server.post("/mp/shop", &MP.safe(&message, &id.to_string())).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "success"));
}

async fn count(server: &TestServer, name: &str, result: &str) -> f64 {
    server.metric(&format!("echostr_forward_attempts_total{{forward=\"{name}\",result=\"{result}\"}}")).await
}

/// Waits until so many events of a forward are done.
async fn delivered(server: &TestServer, name: &str, events: u64) {
    wait_for(&format!("{events} events of {name} are delivered"), async || {
        count(server, name, "delivered").await as u64 >= events
    })
    .await;
}

/// What a forward does while its broker does not.
async fn fails(server: &TestServer, name: &str) {
    let before = count(server, name, "failed").await;
    wait_for(&format!("{name} fails"), async || count(server, name, "failed").await > before).await;
}

/// Everything that a broker has to be for a forward, from its start to its end.
async fn behaves<B: Broker>() {
    let folder = TempDir::new().unwrap();
    let Some(mut broker) = B::prepare(folder.path()) else { return };
    // Down at start: it comes later, and gets what waits.
    let server =
        start(&forward("late", &format!("{}\nretry = [{}]", broker.keys("late"), vec!["\"1s\""; 60].join(", ")))).await;
    send(&server, 1, "early").await;
    fails(&server, "late").await;
    broker.process().start();
    broker.until_ready().await;
    broker.create("late").await;
    delivered(&server, "late", 1).await;
    let read = broker.read("late").await;
    assert!(read.iter().all(|it| it.event() == (1, "early".to_owned())) && !read.is_empty(), "{read:?}");
    assert!(server.stop().await.unwrap());

    says_everything(&broker).await;
    can_be_tried(&broker).await;
    refuses(&broker).await;
    is_slow(&mut broker).await;
    is_killed(&mut broker).await;
}

/// All fields in each format, and names that are made of what users choose.
async fn says_everything<B: Broker>(broker: &B) {
    const USER: &str = "o.A*> \u{4f60}#1";
    let forwards = [
        ("structured", broker.keys("structured")),
        ("binary", format!("{}mode = \"binary\"", broker.keys("binary"))),
        ("raw", format!("{}format = \"raw\"", broker.keys("raw"))),
        ("secure", broker.keys_with_tls("secure")),
        ("masked", format!("{}redact = [\"FromUserName\"]", broker.keys("masked").replace("{type}", "{data.MsgType}"))),
    ];
    let mut text = String::new();
    for (name, keys) in &forwards {
        broker.create(name).await;
        text.push_str(&forward(name, keys));
    }
    let server = start(&text).await;
    send(&server, 7, USER).await;
    let mut ids = HashSet::new();
    for (name, _) in forwards {
        delivered(&server, name, 1).await;
        let read = broker.read(name).await;
        assert_eq!(read.len(), 1, "{name}");
        let received = &read[0];
        ids.insert(received.id.clone());
        if name == "masked" {
            let is_there = ["A*", "A%2A"].iter().any(|part| format!("{received:?}").contains(part));
            assert!(!is_there && received.key.is_none(), "{received:?}");
            continue;
        }
        assert!(broker.is_place_of(received, name, USER), "{received:?}");
        let attribute = |name: &str| {
            let found = received.attributes.iter().find(|(key, _)| key.ends_with(name));
            found.map(|(_, value)| percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned())
        };
        match name {
            "raw" => {
                assert_eq!(received.body, text_message(7, "7").replace("user_openid", USER));
                assert_eq!(attribute("echostr-subject").as_deref(), Some(USER));
                assert_eq!(attribute("echostr-type").as_deref(), Some("mp.message.text"));
                assert_eq!(attribute("echostr-account").as_deref(), Some("mp/shop"));
                assert_eq!(attribute("content-type").as_deref(), Some("application/xml; charset=utf-8"));
            }
            "binary" => {
                assert_eq!(received.json()["Content"], "7");
                assert_eq!(attribute("subject").as_deref(), Some(USER));
                assert_eq!(attribute("specversion").as_deref(), Some("1.0"));
                assert_eq!(attribute("source").as_deref(), Some("/mp/shop"));
                assert_eq!(attribute("_id").or_else(|| attribute("-id")), Some(received.id.clone()));
                assert!(received.attributes.values().any(|value| value == "application/json"));
            }
            _ => {
                let event = received.json();
                assert_eq!((&event["id"], &event["type"]), (&received.id.clone().into(), &"mp.message.text".into()));
                assert_eq!(received.event(), (7, USER.to_owned()));
                let content_type = attribute("content-type").unwrap();
                assert_eq!(content_type, "application/cloudevents+json; charset=utf-8");
            }
        }
    }
    assert_eq!(ids.len(), 1, "one event has one id");
    assert!(server.stop().await.unwrap());
}

/// What the command line says of it.
async fn can_be_tried<B: Broker>(broker: &B) {
    let folder = TempDir::new().unwrap();
    broker.create("tried").await;
    let (refused, expected) = broker.refused().await.swap_remove(0);
    let forwards = format!("{}{}", forward("tried", &broker.keys("tried")), forward("refused", &refused));
    let config = folder.path().join("echostr.toml");
    std::fs::write(&config, format!("[journal]\nurl = \"memory:\"\n{ACCOUNTS}{forwards}")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        let output = command.args(arguments).arg("--config").arg(&config).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.success(), said)
    };
    let (is_done, said) = run(&["forwards", "test", "tried", "mp.message.text"]);
    assert!(is_done && said.contains("delivered"), "{said}");
    let (is_done, said) = run(&["forwards", "test", "refused", "mp.message.text"]);
    assert!(!is_done && said.contains(expected), "{said}");
    assert_eq!(broker.read("tried").await.len(), 1);
    let (_, said) = run(&["check", "--online"]);
    assert!(said.contains("forward tried: its target can be reached (connected and signed in"), "{said}");
    let (_, said) = run(&["forwards"]);
    assert!(said.contains("tried") && !said.contains(PASSWORD), "{said}");
}

/// What is refused for good is a dead letter with the reason, and never with a password.
async fn refuses<B: Broker>(broker: &B) {
    let folder = TempDir::new().unwrap();
    let refused = broker.refused().await;
    let name = |at: usize| format!("refused{at}");
    let forwards = refused.iter().enumerate().map(|(at, (keys, _))| forward(&name(at), &format!("{keys}\nretry = []")));
    let server = TestServer::start_in(folder.path(), &forwards.collect::<String>(), Hooks::default()).await;
    send(&server, 1, "somebody").await;
    let archive = SqliteArchive::open(&folder.path().join("journal.db")).unwrap();
    let mut dead = Vec::new();
    until(async || {
        dead = archive.dead(&Filter::default(), None, 100).await.unwrap();
        dead.len() == refused.len()
    })
    .await;
    for (at, (keys, expected)) in refused.iter().enumerate() {
        let letter = dead.iter().find(|it| it.observer == format!("forward.{}", name(at))).unwrap();
        let error = &letter.error;
        assert!(error.contains(expected), "{keys}\n{error}");
        assert!([PASSWORD, WRONG, "somebody"].iter().all(|secret| !error.contains(secret)), "{error}");
    }
    assert!(server.stop().await.unwrap());
}

/// A broker that does not answer for a while gets everything, each time under the same id.
async fn is_slow<B: Broker>(broker: &mut B) {
    broker.create("slow").await;
    let server = start(&forward("slow", &format!("{}\ntimeout = \"500ms\"", broker.keys("slow")))).await;
    send(&server, 1, "a").await;
    delivered(&server, "slow", 1).await;
    broker.process().signal("STOP");
    send(&server, 2, "a").await;
    send(&server, 3, "b").await;
    fails(&server, "slow").await;
    broker.process().signal("CONT");
    delivered(&server, "slow", 3).await;
    let read = broker.read("slow").await;
    assert_complete::<B>(&read, 3);
    assert!(server.stop().await.unwrap());
}

/// A broker that is killed while messages are on their way to it, and comes back: nothing is lost, and each user keeps the order.
async fn is_killed<B: Broker>(broker: &mut B) {
    const USERS: [&str; 4] = ["a", "b", "c", "d"];
    const EVENTS: u64 = 20;
    broker.create("killed").await;
    let server =
        start(&forward("killed", &format!("{}\norder = \"subject\"\ntimeout = \"5s\"", broker.keys("killed")))).await;
    let send_all = async |events: std::ops::RangeInclusive<u64>| {
        for id in events {
            send(&server, id, USERS[usize::try_from(id).unwrap() % USERS.len()]).await;
        }
    };
    send_all(1..=EVENTS).await;
    let mut read = Vec::new();
    if B::SURVIVES {
        // In the middle of them, if it is slow enough.
        delivered(&server, "killed", 1).await;
    } else {
        delivered(&server, "killed", EVENTS).await;
        read = broker.read("killed").await;
        broker.process().signal("STOP");
    }
    send_all(EVENTS + 1..=2 * EVENTS).await;
    broker.process().kill();
    send_all(2 * EVENTS + 1..=2 * EVENTS + 4).await;
    fails(&server, "killed").await;
    broker.process().start();
    broker.until_ready().await;
    if !B::SURVIVES {
        broker.create("killed").await;
    }
    send_all(2 * EVENTS + 5..=3 * EVENTS).await;
    delivered(&server, "killed", 3 * EVENTS).await;
    read.extend(broker.read("killed").await);
    assert_complete::<B>(&read, 3 * EVENTS);
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut seen = HashSet::new();
    for received in &read {
        let (number, user) = received.event();
        if seen.insert(number) {
            let before = last.insert(user.clone(), number).unwrap_or_default();
            assert!(before < number, "{user} had {before} before {number}");
        }
    }
    assert!(server.stop().await.unwrap());
}

/// Each of so many events is there, with one id of its own.
fn assert_complete<B: Broker>(read: &[Received], events: u64) {
    let mut ids: HashMap<u64, HashSet<String>> = HashMap::new();
    for received in read {
        ids.entry(received.event().0).or_default().insert(received.id.clone());
    }
    let missing: Vec<u64> = (1..=events).filter(|number| !ids.contains_key(number)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(ids.values().flatten().collect::<HashSet<_>>().len() as u64, events);
    if B::DEDUPLICATES {
        assert_eq!(read.len() as u64, events, "twice in the stream");
    }
}
