//! Replies that are ready too late, and that nobody sends: the log and the event say so.

use std::sync::Arc;

use echostr::{
    events::{im, mp, wecom},
    hooks::{Context, Hooks},
    replies::{self, im::BeforeGroupCreateResp},
};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::{
    archive::echostr,
    support::{
        Log, TestServer,
        server::{IM, PLAIN, WECOM, text_message},
        until,
    },
};

/// Responders that answer when `go` says so; nothing, if they are asked for that.
fn slow(go: &Arc<Notify>) -> Hooks {
    let (mp_go, wecom_go, im_go) = (Arc::clone(go), Arc::clone(go), Arc::clone(go));
    Hooks::default()
        .on(move |message: mp::TextMessage, _: Context| {
            let go = Arc::clone(&mp_go);
            async move {
                go.notified().await;
                match message.content.as_str() {
                    "none" => Ok(replies::mp::Reply::none()),
                    "fail" => Err("no database".into()),
                    _ => Ok(replies::mp::Reply::text("finished")),
                }
            }
        })
        .on(move |_: wecom::TextMessage, _: Context| {
            let go = Arc::clone(&wecom_go);
            async move {
                go.notified().await;
                Ok(replies::wecom::Reply::text("finished"))
            }
        })
        .on(move |_: im::BeforeGroupCreate, _: Context| {
            let go = Arc::clone(&im_go);
            async move {
                go.notified().await;
                Ok(BeforeGroupCreateResp::refuse())
            }
        })
}

const MP: &str = "[mp.plain]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\ndeadline = \"50ms\"\n";
const WECOM_ACCOUNT: &str = "[wecom.sales]\ncorp_id = \"ww0000000000000004\"\ntoken = \"wecomToken\"\n\
    aes_key = \"wecomwecomwecomwecomwecomwecomwecomwecomwec\"\ndeadline = \"50ms\"\n";
const IM_ACCOUNT: &str = "[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\ndeadline = \"50ms\"\n";

/// What needs no API.
const NEXT: &str = "`late_reply = \"next\"` to answer the user's next message with it";

/// A server on a journal of its own, with its log.
struct Slow {
    folder: TempDir,
    go: Arc<Notify>,
    log: Log,
    _guard: tracing::subscriber::DefaultGuard,
    server: TestServer,
}

impl Slow {
    async fn start(accounts: &str) -> Self {
        let (folder, go) = (TempDir::new().unwrap(), Arc::new(Notify::new()));
        let (log, guard) = Log::begin();
        let url = format!("sqlite://{}", folder.path().join("journal.db").display());
        let server = TestServer::start_on(&url, "", accounts, slow(&go)).await;
        std::fs::write(folder.path().join("echostr.toml"), format!("[journal]\nurl = \"{url}\"\n{accounts}")).unwrap();
        Self { folder, go, log, _guard: guard, server }
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = echostr(self.folder.path(), arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The only event, once it has its reply.
    async fn event(&self) -> Json {
        let id: Json = serde_json::from_str(&self.run(&["events", "ls", "--json"]).await).unwrap();
        let id = id["id"].as_str().unwrap();
        let mut shown = Json::Null;
        until(async || {
            shown = serde_json::from_str(&self.run(&["events", "show", "--json", id]).await).unwrap();
            shown["state"] != "responding"
        })
        .await;
        shown
    }
}

#[tokio::test]
async fn a_late_reply_that_nobody_sends_is_logged_and_visible_on_its_event() {
    let secret = "secret = \"mpSecret\"\n";
    let late = "late_reply = \"drop\"\n";
    let agent = "agent_id = 7\n";
    for (accounts, advice) in [
        (format!("{MP}{late}"), "set `secret` and `late_reply = \"send\"` to send it through the API"),
        (format!("{MP}{late}{secret}"), "set `late_reply = \"send\"` to send it through the API"),
        (
            WECOM_ACCOUNT.to_owned(),
            "set `secret` and `agent_id` and `late_reply = \"send\"` to send it through the API",
        ),
        (format!("{WECOM_ACCOUNT}{agent}{secret}"), "set `late_reply = \"send\"` to send it through the API"),
    ] {
        let advice = &format!("{advice}, or {NEXT}");
        let slow = Slow::start(&accounts).await;
        let message = text_message(1, "hi");
        let answer = match accounts.starts_with("[mp") {
            true => slow.server.post("/mp/plain", &PLAIN.plain(&message, "n")).await,
            false => slow.server.post("/wecom/sales", &WECOM.safe(&message, "n")).await,
        };
        assert!(answer.status == 200 && !answer.body.contains("finished"));
        assert!(slow.log.text().contains(&format!("the reply will be DROPPED ({advice})")), "{}", slow.log.text());
        slow.go.notify_one();
        let event = slow.event().await;
        assert_eq!(event["state"], "defaulted");
        let failure = event["failure"].as_str().unwrap();
        assert!(failure.starts_with("the reply was ready after 0.") && failure.ends_with(&**advice), "{failure}");
        assert!(event["reply"].as_str().unwrap().contains("finished"), "what was dropped can be read");
        let lines = slow.log.text();
        assert_eq!(lines.matches(failure).count(), 1, "{lines}");
        assert!(!lines.contains("finished"), "no text of a reply is logged");
        let list = slow.run(&["events", "ls", "--state", "defaulted"]).await;
        assert_eq!(list.lines().count(), 2, "{list}");
    }
}

#[tokio::test]
async fn a_late_verdict_is_visible_too() {
    let observed = "on_timeout = \"deny\"\n";
    let (go, (log, _guard)) = (Arc::new(Notify::new()), Log::begin());
    let server = TestServer::start_with("", &format!("{IM_ACCOUNT}{observed}"), slow(&go)).await;
    let answer = server.post("/im/chat", &IM.command("Group.CallbackBeforeCreateGroup", "{\"GroupId\":\"g\"}")).await;
    assert_eq!(answer.status, 200);
    go.notify_one();
    until(async || log.text().contains("which was too late, and was DROPPED: only the response can carry it")).await;
}

/// There is nothing to lose where nothing was said.
#[tokio::test]
async fn who_says_nothing_late_has_nothing_dropped() {
    for (content, state, failure) in
        [("none", "answered", None), ("fail", "defaulted", Some("the handler failed: no database"))]
    {
        let slow = Slow::start(&format!("{MP}late_reply = \"drop\"\n")).await;
        slow.server.post("/mp/plain", &PLAIN.plain(&text_message(1, content), "n")).await;
        slow.go.notify_one();
        let event = slow.event().await;
        assert_eq!((event["state"].as_str(), event["failure"].as_str()), (Some(state), failure));
        assert!(!slow.log.text().contains("was DROPPED"));
    }
}
