//! Late replies that answer the next message of the user (`late_reply = "next"`).

mod nodes;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use echostr::{
    events::{mp, wecom},
    hooks::{Context, HandlerError, Hooks},
    replies,
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::{
    archive::echostr,
    support::{
        Log, NOW, TestServer,
        platform::WeChat,
        server::{MP, OPEN, PLAIN, SUITE, WECOM},
        wait_for,
    },
};

const LATE: &str = "late_reply = \"next\"\nlate_text = \"thinking\"\ndeadline = \"400ms\"\n";

/// An account of each kind, with these lines.
fn accounts(lines: &str) -> String {
    format!(
        "[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"mpToken\"\n\
         aes_key = \"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ\"\n{lines}\
         [mp.plain]\napp_id = \"wx0000000000000009\"\ntoken = \"plainToken\"\nmode = \"plain\"\n{lines}\
         [wecom.sales]\ncorp_id = \"ww0000000000000004\"\ntoken = \"wecomToken\"\n\
         aes_key = \"wecomwecomwecomwecomwecomwecomwecomwecomwec\"\n{lines}\
         [openplatform.agency]\ncomponent_app_id = \"wxcomponent0000001\"\ntoken = \"openToken\"\n\
         aes_key = \"openopenopenopenopenopenopenopenopenopenope\"\n{lines}\
         [wecom_suite.crm]\nsuite_id = \"wwsuite00000000001\"\nreceive_ids = [\"any\"]\ntoken = \"suiteToken\"\n\
         aes_key = \"suitesuitesuitesuitesuitesuitesuitesuitesui\"\n{lines}"
    )
}

/// Responders that take as long as the test wants, and what they and the observer have seen.
#[derive(Clone)]
struct Slow {
    /// A permit for each late reply.
    go: Arc<Semaphore>,
    runs: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Slow {
    fn new() -> Self {
        Self { go: Arc::new(Semaphore::new(0)), runs: Arc::default(), seen: Arc::default() }
    }

    /// What is said to a text: at once, or when the test wants.
    async fn say(self, content: String) -> Result<Option<String>, HandlerError> {
        self.runs.lock().unwrap().push(content.clone());
        if !content.starts_with("slow") {
            return Ok(Some(format!("own: {content}")));
        }
        self.go.acquire().await?.forget();
        match content.as_str() {
            "slow fail" => Err("no database".into()),
            "slow none" => Ok(None),
            "slow long" => Ok(Some("x".repeat(3_000))),
            _ => Ok(Some(format!("finished: {content}"))),
        }
    }

    fn hooks(&self) -> Hooks {
        let (texts, clicks, places, members, seen) =
            (self.clone(), self.clone(), self.clone(), self.clone(), Arc::clone(&self.seen));
        let say = |said: Option<String>| said.map_or_else(replies::mp::Reply::none, replies::mp::Reply::text);
        Hooks::default()
            .on(move |message: mp::TextMessage, _: Context| {
                let slow = texts.clone();
                async move { Ok(say(slow.say(message.content).await?)) }
            })
            .on(move |event: mp::MenuClick, _: Context| {
                let slow = clicks.clone();
                async move { Ok(say(slow.say(event.event_key).await?)) }
            })
            .on(move |_: mp::LocationReport, _: Context| {
                let slow = places.clone();
                async move { Ok(say(slow.say("slow place".to_owned()).await?)) }
            })
            .on(move |message: wecom::TextMessage, _: Context| {
                let slow = members.clone();
                async move {
                    let said = slow.say(message.content).await?;
                    Ok(said.map_or_else(replies::wecom::Reply::none, replies::wecom::Reply::text))
                }
            })
            .observe("audit", move |message: mp::TextMessage, _: Context| {
                seen.lock().unwrap().push(message.content);
                async { Ok(()) }
            })
    }

    fn runs(&self) -> Vec<String> {
        self.runs.lock().unwrap().clone()
    }

    fn finish(&self, replies: usize) {
        self.go.add_permits(replies);
    }
}

/// How the platform delivers to an account.
#[derive(Clone, Copy)]
struct Route {
    account: &'static str,
    path: &'static str,
    platform: WeChat,
    is_sealed: bool,
}

const PLAIN_MP: Route = Route { account: "mp/plain", path: "/mp/plain", platform: PLAIN, is_sealed: false };
const SAFE_MP: Route = Route { account: "mp/shop", path: "/mp/shop", platform: MP, is_sealed: true };
const SALES: Route = Route { account: "wecom/sales", path: "/wecom/sales", platform: WECOM, is_sealed: true };
const AGENCY: Route = Route {
    account: "openplatform/agency",
    path: "/openplatform/agency/wx00000000000000aa",
    platform: OPEN,
    is_sealed: true,
};
const CRM: Route = Route { account: "wecom_suite/crm", path: "/wecom_suite/crm", platform: SUITE, is_sealed: true };

impl Route {
    /// Delivers a payload, and opens what comes back.
    async fn deliver(self, server: &TestServer, payload: &str) -> String {
        let nonce = rand::random::<u32>().to_string();
        let signed = match self.is_sealed {
            true => self.platform.safe(payload, &nonce),
            false => self.platform.plain(payload, &nonce),
        };
        let answer = server.post(self.path, &signed).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        match answer.body.contains("Encrypt") {
            true => self.platform.open_reply(&answer.body),
            false => answer.body,
        }
    }

    async fn say(self, server: &TestServer, id: u64, content: &str) -> String {
        self.deliver(server, &message("anna", "to", id, content)).await
    }

    /// Delivers a message whose responder is late.
    async fn say_slowly(self, server: &TestServer, id: u64, content: &str) {
        let answer = self.say(server, id, content).await;
        assert!(answer.contains("<Content><![CDATA[thinking]]></Content>"), "{answer}");
        assert!(answer.contains("<ToUserName><![CDATA[anna]]>") && answer.contains("<FromUserName><![CDATA[to]]>"));
    }
}

fn message(from: &str, to: &str, id: u64, content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{to}]]></ToUserName><FromUserName><![CDATA[{from}]]></FromUserName>\
         <CreateTime>{NOW}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>\
         <MsgId>{id}</MsgId><AgentID>7</AgentID></xml>"
    )
}

fn event(name: &str, more: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[to]]></ToUserName><FromUserName><![CDATA[anna]]></FromUserName>\
         <CreateTime>{NOW}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>{more}</xml>"
    )
}

/// Waits until so many responders of an account are done.
async fn done(server: &TestServer, account: &str, count: f64) {
    let (platform, name) = account.split_once('/').unwrap();
    let line = format!("echostr_responder_seconds_count{{platform=\"{platform}\",account=\"{name}\"}}");
    wait_for(&line, async || server.metric(&line).await == count).await;
}

/// A SQLite journal, with a configuration for the command line.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.0.path().join("journal.db").display())
    }

    fn configure(&self, accounts: &str) {
        let text = format!("[journal]\nurl = \"{}\"\n{accounts}", self.url());
        std::fs::write(self.0.path().join("echostr.toml"), text).unwrap();
    }

    async fn start(&self, accounts: &str, slow: &Slow) -> TestServer {
        self.configure(accounts);
        TestServer::start_on(&self.url(), "", accounts, slow.hooks()).await
    }

    /// The files as they are now are what the next process finds when this one is killed.
    fn killed(&self) -> Self {
        let copy = Self::new();
        for file in ["journal.db", "journal.db-wal"] {
            std::fs::copy(self.0.path().join(file), copy.0.path().join(file)).unwrap();
        }
        copy
    }

    /// The events, the oldest first, as `events show` has them.
    async fn events(&self) -> Vec<Json> {
        let mut events = Vec::new();
        for line in run(self.0.path(), &["events", "ls", "--json"]).await.lines() {
            let id: Json = serde_json::from_str(line).unwrap();
            let shown = run(self.0.path(), &["events", "show", "--json", id["id"].as_str().unwrap()]).await;
            events.push(serde_json::from_str(&shown).unwrap());
        }
        events
    }
}

async fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = echostr(folder, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_late_reply_answers_the_next_message_once() {
    for route in [PLAIN_MP, SAFE_MP, SALES, AGENCY, CRM] {
        let (slow, disk, (log, _guard)) = (Slow::new(), Disk::new(), Log::begin());
        let server = disk.start(&accounts(LATE), &slow).await;
        route.say_slowly(&server, 1, "slow question").await;
        slow.finish(1);
        done(&server, route.account, 1.0).await;
        wait_for("the reply waits", async || disk.events().await[0]["state"] == "late").await;
        // The platform asks again: its connection broke.
        route.say_slowly(&server, 1, "slow question").await;
        let fetched = route.say(&server, 2, "anything").await;
        assert!(fetched.contains("<Content><![CDATA[finished: slow question]]></Content>"), "{fetched}");
        // A repeat is answered the same; the message after it has an answer of its own.
        assert_eq!(route.say(&server, 2, "anything").await, fetched);
        assert!(route.say(&server, 3, "more").await.contains("own: more"));
        assert_eq!(route.say(&server, 2, "anything").await, fetched);
        assert!(!route.say(&server, 1, "slow question").await.contains("finished"));
        assert_eq!(slow.runs(), ["slow question", "more"]);
        if !route.account.starts_with("wecom") {
            wait_for("the observer has seen all", async || slow.seen.lock().unwrap().len() == 3).await;
            assert_eq!(*slow.seen.lock().unwrap(), ["slow question", "anything", "more"]);
        }
        let events = disk.events().await;
        let (late, taker) = (&events[0], &events[1]);
        assert_eq!((late["state"].as_str(), taker["state"].as_str()), (Some("late"), Some("answered")));
        let id = |event: &Json| event["event"]["id"].as_str().unwrap().to_owned();
        let note = format!("the reply answered the next message of the user, event {}", id(taker));
        assert_eq!((&late["note"], &late["failure"]), (&Json::from(note), &Json::Null));
        let note = format!("answered with the late reply of event {}", id(late));
        assert_eq!(taker["note"], *note);
        assert_eq!(taker["reply"], late["reply"]);
        let shown = run(disk.0.path(), &["events", "show", &id(taker)]).await;
        assert!(shown.contains(&format!("note: {note}")) && !shown.contains("failure"), "{shown}");
        let lines = log.text();
        for part in [
            "answered `late_text`; the reply answers the next message of the user when it is ready",
            "; it answers the next message of the user, if that comes within 600.0 s",
            &note,
        ] {
            assert_eq!(lines.matches(part).count(), 1, "{part} in {lines}");
        }
        assert!(!lines.contains("finished:"), "no text of a reply is logged");
    }
}

#[tokio::test]
async fn while_the_reply_is_still_to_come_it_is_said_again() {
    let disk = Disk::new();
    for url in ["memory:", &disk.url()] {
        let slow = Slow::new();
        let server = TestServer::start_on(url, "", &accounts(LATE), slow.hooks()).await;
        PLAIN_MP.say_slowly(&server, 1, "slow question").await;
        PLAIN_MP.say_slowly(&server, 2, "well?").await;
        // Neither a repeat of it nor one of the question changes that.
        PLAIN_MP.say_slowly(&server, 2, "well?").await;
        PLAIN_MP.say_slowly(&server, 1, "slow question").await;
        assert_eq!(slow.runs(), ["slow question"]);
        // One that comes while the next message waits answers that.
        let (fetched, ()) = tokio::join!(PLAIN_MP.say(&server, 3, "and now?"), async { slow.finish(1) });
        assert!(fetched.contains("finished: slow question"), "{fetched}");
        assert!(PLAIN_MP.say(&server, 4, "more").await.contains("own: more"));
        assert!(PLAIN_MP.say(&server, 2, "well?").await.contains("thinking"));
        assert_eq!(slow.runs(), ["slow question", "more"], "{url}");
    }
}

#[tokio::test]
async fn several_late_replies_answer_one_message_each_the_oldest_first() {
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(LATE), slow.hooks()).await;
    let ask = async |id: u64| PLAIN_MP.say_slowly(&server, id, &format!("slow {id}")).await;
    tokio::join!(ask(1), ask(2), ask(3));
    slow.finish(3);
    done(&server, "mp/plain", 3.0).await;
    let order = slow.runs();
    for (id, asked) in (4..).zip(order) {
        let fetched = PLAIN_MP.say(&server, id, "next").await;
        assert!(fetched.contains(&format!("finished: {asked}")), "{asked}: {fetched}");
    }
    assert!(PLAIN_MP.say(&server, 9, "more").await.contains("own: more"));
}

#[tokio::test]
async fn only_messages_of_the_same_user_to_the_same_receiver_take_a_reply() {
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(LATE), slow.hooks()).await;
    for route in [PLAIN_MP, CRM] {
        route.say_slowly(&server, 1, "slow question").await;
    }
    slow.finish(2);
    done(&server, "mp/plain", 1.0).await;
    done(&server, "wecom_suite/crm", 1.0).await;
    let others = [
        (PLAIN_MP, message("bert", "to", 2, "hi")),
        (SAFE_MP, message("anna", "to", 2, "hi")),
        (CRM, message("anna", "another", 2, "hi")),
        (PLAIN_MP, event("CLICK", "<EventKey>hi</EventKey>")),
    ];
    for (route, payload) in others {
        let answer = route.deliver(&server, &payload).await;
        assert!(answer.contains("own: hi"), "{answer}");
    }
    // What has no responder takes it, too.
    let picture = message("anna", "to", 3, "").replace("[text]", "[image]");
    assert!(PLAIN_MP.deliver(&server, &picture).await.contains("finished: slow question"));
    assert_eq!(PLAIN_MP.deliver(&server, &picture.replace("<MsgId>3", "<MsgId>4")).await, "success");
    assert!(CRM.say(&server, 3, "hi").await.contains("finished: slow question"));
}

#[tokio::test]
async fn what_the_user_does_may_be_late_what_is_reported_may_not() {
    let (slow, (log, _guard)) = (Slow::new(), Log::begin());
    let server = TestServer::start_with("", &accounts(LATE), slow.hooks()).await;
    let click = PLAIN_MP.deliver(&server, &event("CLICK", "<EventKey>slow menu</EventKey>")).await;
    assert!(click.contains("thinking"), "{click}");
    let place = "<Latitude>1</Latitude><Longitude>2</Longitude><Precision>3</Precision>";
    assert_eq!(PLAIN_MP.deliver(&server, &event("LOCATION", place)).await, "success");
    slow.finish(2);
    done(&server, "mp/plain", 2.0).await;
    assert!(PLAIN_MP.say(&server, 1, "a").await.contains("finished: slow menu"));
    assert!(PLAIN_MP.say(&server, 2, "b").await.contains("own: b"));
    assert!(log.text().contains("was DROPPED: only the response can carry it: answer earlier"), "{}", log.text());
}

#[tokio::test]
async fn a_responder_that_fails_late_or_says_nothing_leaves_the_next_message_alone() {
    let disk = Disk::new();
    for url in ["memory:", &disk.url()] {
        for (id, content) in [(1, "slow fail"), (3, "slow none")] {
            let slow = Slow::new();
            let server = TestServer::start_on(url, "", &accounts(LATE), slow.hooks()).await;
            PLAIN_MP.say_slowly(&server, id, content).await;
            slow.finish(1);
            done(&server, "mp/plain", 1.0).await;
            assert!(PLAIN_MP.say(&server, id + 1, "next").await.contains("own: next"));
            assert!(server.stop().await.unwrap());
        }
    }
    disk.configure(&accounts(LATE));
    let states: Vec<_> = disk.events().await.iter().map(|event| event["state"].clone()).collect();
    assert_eq!(states, ["defaulted", "answered", "answered", "answered"]);
}

#[tokio::test]
async fn a_reply_waits_no_longer_than_it_is_kept() {
    let (slow, disk, (log, _guard)) = (Slow::new(), Disk::new(), Log::begin());
    let accounts = accounts(&format!("{LATE}late_keep = \"1s\"\n"));
    let server = disk.start(&accounts, &slow).await;
    PLAIN_MP.say_slowly(&server, 1, "slow question").await;
    slow.finish(1);
    let dropped = "echostr_observations_total{result=\"dropped\"}";
    wait_for("it is dropped", async || server.metric(dropped).await == 1.0).await;
    assert!(PLAIN_MP.say(&server, 2, "next").await.contains("own: next"));
    let reason = "the reply was late and was DROPPED: no next message of the user within 1.0 s (`late_keep`)";
    wait_for("the event says so", async || disk.events().await[0]["failure"] == reason).await;
    let event = &disk.events().await[0];
    assert_eq!(event["state"], "defaulted");
    assert!(event["reply"].as_str().unwrap().contains("finished"), "what was dropped can be read");
    assert_eq!(log.text().matches(reason).count(), 1);
    assert_eq!(server.metric("echostr_observations_waiting").await, 0.0);
}

/// The responder that never ends is waited for as long, and then no more.
#[tokio::test]
async fn a_reply_that_does_not_come_is_not_waited_for_for_ever() {
    let disk = Disk::new();
    for url in ["memory:", &disk.url()] {
        let slow = Slow::new();
        let accounts = accounts(&format!("{LATE}late_keep = \"5s\"\n"));
        let server = TestServer::start_on(url, "", &accounts, slow.hooks()).await;
        PLAIN_MP.say_slowly(&server, 1, "slow question").await;
        let ids = AtomicU64::new(2);
        let answers = async |text: &str| {
            let id = ids.fetch_add(1, Ordering::Relaxed);
            PLAIN_MP.say(&server, id, "next").await.contains(text)
        };
        wait_for("its own responder answers", async || answers("own: next").await).await;
        // When it comes after all, it waits from then on.
        slow.finish(1);
        wait_for("the reply answers", async || answers("finished: slow question").await).await;
    }
}

#[tokio::test]
async fn the_responder_of_the_next_message_runs_if_it_is_wanted() {
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&format!("{LATE}late_next_runs = true\n")), slow.hooks()).await;
    PLAIN_MP.say_slowly(&server, 1, "slow question").await;
    PLAIN_MP.say_slowly(&server, 2, "well?").await;
    slow.finish(1);
    done(&server, "mp/plain", 1.0).await;
    assert!(PLAIN_MP.say(&server, 3, "next").await.contains("finished: slow question"));
    wait_for("both have run", async || slow.runs() == ["slow question", "well?", "next"]).await;
}

#[tokio::test]
async fn a_text_that_is_too_long_is_cut_for_the_next_message() {
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(LATE), slow.hooks()).await;
    PLAIN_MP.say_slowly(&server, 1, "slow long").await;
    slow.finish(1);
    done(&server, "mp/plain", 1.0).await;
    assert!(PLAIN_MP.say(&server, 2, "next").await.contains(&format!("[{}]", "x".repeat(2_048))));
}

#[tokio::test]
async fn check_says_where_it_works() {
    let disk = Disk::new();
    let check = async |accounts: &str| {
        disk.configure(accounts);
        let output = echostr(disk.0.path(), &["check"]).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (is_good, said) = check(&accounts(LATE)).await;
    assert!(is_good && said.contains("no problem") && !said.contains("late_"), "{said}");
    let mini = "[miniprogram.game]\napp_id = \"wx3\"\ntoken = \"abc\"\nmode = \"plain\"\nlate_reply = \"next\"\n";
    let (is_good, said) = check(mini).await;
    assert!(is_good && said.contains("users of this platform do not see texts in the response"), "{said}");
    for platform in ["wecom_kf", "wecom_bot", "im"] {
        let (is_good, said) = check(&format!("[{platform}.x]\nlate_reply = \"next\"\n")).await;
        let line = format!("[{platform}.x] `late_reply` does not apply to [{platform}]");
        assert!(!is_good && said.contains(&line), "{said}");
    }
}
