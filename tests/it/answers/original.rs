//! Applications that were written for the platform, behind echostr: they get its callbacks, and their replies are the replies.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use echostr::{
    events::{im, mp, wecom},
    hooks::{Context, Hooks},
    replies::{self, im::BeforeGroupMessageSendResp, mp::Reply},
};
use serde_json::json;

use super::{GROUP, content, group, plain};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, MP, PLAIN, WECOM, event, text_message},
    service::{Asked, Service, response},
    wait_for,
};

/// What an application behind is configured with; its account has other keys than the one in front.
const BEHIND: &str = r#"
[mp.app]
app_id = "wx0000000000000001"
token = "appToken"
aes_key = "appappappappappappappappappappappappappappa"
[mp.clear]
app_id = "wx0000000000000001"
token = "appToken"
mode = "plain"
[wecom.app]
corp_id = "ww0000000000000004"
token = "appToken"
aes_key = "appappappappappappappappappappappappappappa"
[im.app]
sdk_app_id = 1400000001
token = "appToken"
"#;

/// The application: another server, with the accounts of the one in front.
async fn application() -> TestServer {
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("app: {}", message.content))))
        .on(async |_: mp::MenuClick, _: Context| Ok(Reply::none()))
        .on(async |message: wecom::TextMessage, _: Context| {
            Ok(replies::wecom::Reply::text(format!("app: {}", message.content)))
        })
        .on(async |_: im::BeforeGroupMessageSend, _: Context| Ok(BeforeGroupMessageSendResp::deny(10101, "app")?));
    TestServer::start_with("", BEHIND, hooks).await
}

const SEALED: &str = "token = \"appToken\"\naes_key = \"appappappappappappappappappappappappappappa\"";

fn table(kind: &str, name: &str, pattern: &str, to: &str, keys: &str) -> String {
    format!("\n[[{kind}]]\nname = \"{name}\"\nmatch = \"{pattern}\"\nto = \"{to}\"\nformat = \"original\"\n{keys}\n")
}

#[tokio::test]
async fn an_application_behind_answers_as_it_would_the_platform() {
    let app = application().await;
    let url = |path: &str| format!("http://{}{path}", app.http.0);
    let answers = [
        table("answer", "sealed", "mp/shop", &url("/mp/app"), SEALED),
        table("answer", "clear", "mp/plain", &url("/mp/clear?tenant=1"), "token = \"appToken\""),
        table("answer", "wecom", "wecom/sales", &url("/wecom/app"), SEALED),
        table("answer", "im", "im/chat", &url("/im/app"), "token = \"appToken\""),
        table("answer", "wrong", "mp/compat", &url("/mp/app"), &SEALED.replace("appToken", "wrongToken")),
    ];
    let server = TestServer::start_with("", &format!("{ACCOUNTS}{}", answers.concat()), Hooks::default()).await;
    let sealed = server.post("/mp/shop", &MP.safe(&text_message(1, "您好"), "a")).await;
    assert!(MP.open_reply(&sealed.body).contains("<Content><![CDATA[app: 您好]]></Content>"));
    assert_eq!(content(&plain(&server, 2, "hi").await), "app: hi");
    let wecom = server.post("/wecom/sales", &WECOM.safe(&text_message(3, "hi"), "b")).await;
    assert!(WECOM.open_reply(&wecom.body).contains("<Content><![CDATA[app: hi]]></Content>"));
    assert_eq!(group(&server).await, json!({"ActionStatus": "OK", "ErrorCode": 10101, "ErrorInfo": "app"}), "{GROUP}");
    // It answers `success` to what it has nothing to say to.
    let click = server.post("/mp/plain", &PLAIN.plain(&event("CLICK", "<EventKey>k</EventKey>"), "c")).await;
    assert_eq!((click.status, click.body.as_str()), (200, "success"));
    // An application that refuses is a failure.
    let compat = crate::support::server::COMPAT.plain(&text_message(5, "hi"), "d");
    assert_eq!(server.post("/mp/compat", &compat).await.body, "success");
    let failed = "echostr_deliveries_total{platform=\"mp\",account=\"compat\",outcome=\"defaulted\",reason=\"error\"}";
    assert_eq!(server.metric(failed).await, 1.0);
}

#[tokio::test]
async fn a_forward_that_answers_gives_every_event_once() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let app = Service::start(move |asked: Asked| {
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let text = body.split_once("<Content><![CDATA[").and_then(|(_, rest)| rest.split_once("]]>"));
        let reply = text.map_or_else(
            || "success".to_owned(),
            |(text, _)| {
                format!("<xml><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[app: {text}]]></Content></xml>")
            },
        );
        let status = if away.load(Ordering::SeqCst) { 500 } else { 200 };
        async move { response(status, "text/html", reply) }
    })
    .await;
    let keys = format!("token = \"appToken\"\nanswers = true\nretry = [{}]", vec!["\"50ms\""; 100].join(", "));
    let forward = table("forward", "app", "mp/plain", &app.url(), &keys);
    let server = TestServer::start_with("", &format!("{ACCOUNTS}{forward}"), Hooks::default()).await;
    for id in 1..=5 {
        assert_eq!(content(&plain(&server, id, "hi").await), "app: hi");
    }
    // What takes no reply is forwarded as by any forward.
    server.post("/mp/plain", &PLAIN.plain(&event("unsubscribe", ""), "u")).await;
    let done = "echostr_observations_total{result=\"done\"}";
    wait_for("all are observed", async || server.metric(done).await >= 6.0).await;
    assert_eq!(app.asked().len(), 6, "no event came twice");
    // What an application could not answer because it was away, it gets later.
    is_away.store(true, Ordering::SeqCst);
    assert_eq!(plain(&server, 9, "later").await.body, "success");
    is_away.store(false, Ordering::SeqCst);
    wait_for("it is forwarded", async || server.metric(done).await >= 7.0).await;
    assert!(String::from_utf8_lossy(&app.asked().last().unwrap().body).contains("<![CDATA[later]]>"));
}
