//! `[[answer]]`: services that answer over HTTP, and rules.

mod deferred;
mod listen;
mod original;
mod rules;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, Hooks, RawEvent},
    replies::{RawReply, mp::Reply},
    server::Server,
};
use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, Semaphore};

use crate::{
    bot,
    support::{
        NOW, TestServer,
        http::Answer,
        log::Log,
        server::{ACCOUNTS, IM, MINI, MP, PLAIN, WECOM, event, text_message},
        service::{Asked, Service, response},
    },
};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";

/// A server with one answer, for these events, from this service.
async fn ask(pattern: &str, service: &Service, more: &str) -> TestServer {
    let answer = format!(
        "{ACCOUNTS}\n[[answer]]\nname = \"bot\"\nmatch = \"{pattern}\"\nto = \"{}\"\nsecret = \"{SECRET}\"\n{more}\n",
        service.url()
    );
    TestServer::start_with("", &answer, Hooks::default()).await
}

async fn plain(server: &TestServer, id: u64, content: &str) -> Answer {
    server.post("/mp/plain", &PLAIN.plain(&text_message(id, content), &format!("n{id}"))).await
}

/// The text of a passive reply.
fn content(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let start = answer.body.split_once("<Content><![CDATA[").map_or("", |(_, rest)| rest);
    start.split_once("]]></Content>").map_or(answer.body.as_str(), |(text, _)| text)
}

const GROUP: &str = r#"{"CallbackCommand":"Group.CallbackBeforeSendMsg","GroupId":"g","Type":"Public","From_Account":"u",
    "MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]}"#;

async fn group(server: &TestServer) -> Json {
    let answer = server.post("/im/chat", &IM.command("Group.CallbackBeforeSendMsg", GROUP)).await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_service_gets_a_signed_cloudevent() {
    let service = Service::start(async |_: Asked| response(200, "application/json", r#"{"text":"hi"}"#)).await;
    let server = ask("mp/*:mp.message.text", &service, "headers = { \"X-Team\" = \"crm\" }").await;
    assert_eq!(content(&plain(&server, 7, "您好").await), "hi");
    // A repeat has the recorded reply.
    assert_eq!(content(&plain(&server, 7, "您好").await), "hi");
    let [asked] = service.asked().try_into().unwrap();
    assert_eq!(asked.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(asked.header("x-team"), "crm");
    let left: u64 = asked.header("echostr-time-left").parse().unwrap();
    assert!((1..=4200).contains(&left), "{left}");
    let event = asked.json();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!((&event["source"], &event["type"]), (&json!("/mp/plain"), &json!("mp.message.text")));
    assert_eq!(event["data"]["Content"], "您好");
    assert_eq!(event["id"], asked.header("webhook-id"));
    // By another implementation of HMAC.
    let time = asked.header("webhook-timestamp");
    assert_eq!(time, NOW.to_string());
    let key = PKey::hmac(b"0123456789abcdefghijklmnopqrstuv").unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.update(format!("{}.{time}.", asked.header("webhook-id")).as_bytes()).unwrap();
    signer.update(&asked.body).unwrap();
    let expected = openssl::base64::encode_block(&signer.sign_to_vec().unwrap());
    assert_eq!(asked.header("webhook-signature"), format!("v1,{expected}"));
}

#[tokio::test]
async fn what_a_service_responds_decides() {
    const OWN: &str = "<xml><ToUserName><![CDATA[x]]></ToUserName><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[own]]></Content></xml>";
    const EVENTS: &str = "data: {\"text\":\"a \"}\n\ndata: b\n\ndata: [DONE]\n\n";
    const TABLE: &[(u16, &str, &str, &str)] = &[
        (200, "application/json", r#"{"text":"json"}"#, "json"),
        (200, "application/json; charset=utf-8", r#""text""#, "text"),
        (200, "", r#"{"text":"sniffed"}"#, "sniffed"),
        (200, "text/plain; charset=utf-8", "plain text", "plain text"),
        (200, "text/plain", "success", "success"),
        (200, "text/html; charset=utf-8", OWN, "own"),
        (200, "application/xml", OWN, "own"),
        (200, "text/html", "<html>hi</html>", "success"),
        (200, "application/json", "{}", "success"),
        (200, "", "", "success"),
        (204, "", "", "success"),
        (200, "text/event-stream", EVENTS, "a b"),
        (200, "application/x-ndjson", "{\"text\":\"1\"}\n{\"text\":\"2\"}\n", "12"),
        // What is no reply gives the default answer.
        (200, "application/json", r#"{"text":""}"#, "success"),
        (200, "application/json", r#"{"txet":"hi"}"#, "success"),
        (200, "application/json", r#"{"text":"#, "success"),
        (200, "application/x-ndjson", "no json\n", "success"),
        (200, "application/xml", "<xml><MsgType>", "success"),
        (201, "application/json", r#"{"text":"hi"}"#, "success"),
        (302, "", "", "success"),
        (404, "text/plain", "no such page", "success"),
        (500, "application/json", r#"{"text":"hi"}"#, "success"),
    ];
    let next = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&next);
    let service = Service::start(move |_: Asked| {
        let (status, content_type, body, _) = TABLE[counted.fetch_add(1, Ordering::SeqCst)];
        async move { response(status, content_type, body) }
    })
    .await;
    let server = ask("mp/plain", &service, "").await;
    for (id, (status, content_type, body, expected)) in (1..).zip(TABLE) {
        let answer = plain(&server, id, "hi").await;
        assert_eq!(content(&answer), *expected, "{status} {content_type} {body}");
    }
    assert_eq!(service.asked().len(), TABLE.len(), "nothing is asked twice");
    let failed = "echostr_deliveries_total{platform=\"mp\",account=\"plain\",outcome=\"defaulted\",reason=\"error\"}";
    assert_eq!(server.metric(failed).await, 10.0);
}

#[tokio::test]
async fn every_platform_is_answered_in_its_form() {
    let service = Service::start(async |asked: Asked| {
        let event = asked.json();
        let reply = match event["source"].as_str().unwrap() {
            "/im/chat" => json!({"deny": 10101, "info": "no"}),
            _ => json!({"text": "hi"}),
        };
        response(200, "application/json", reply.to_string())
    })
    .await;
    let server = ask("*", &service, "").await;
    let message = text_message(1, "hi");
    let answer = server.post("/mp/shop", &MP.safe(&message, "a")).await;
    assert!(MP.open_reply(&answer.body).contains("<![CDATA[hi]]></Content>"));
    let answer = server.post("/wecom/sales", &WECOM.safe(&message, "b")).await;
    assert!(WECOM.open_reply(&answer.body).contains("<![CDATA[hi]]></Content>"));
    let json =
        r#"{"ToUserName":"gh_1","FromUserName":"oUser","CreateTime":1,"MsgType":"text","Content":"hi","MsgId":2}"#;
    let answer = server.post("/miniprogram/game", &MINI.safe_json(json, "c")).await;
    assert!(MINI.open_reply(&answer.body).contains("\"Content\":\"hi\""));
    assert_eq!(group(&server).await, json!({"ActionStatus": "OK", "ErrorCode": 10101, "ErrorInfo": "no"}));
    let answer = bot::opened(&bot::deliver(&server, &bot::text("m1", "hi"), "d").await);
    assert_eq!(answer["stream"]["content"], "hi");
    // What is only acknowledged is asked nobody.
    let before = service.asked().len();
    let answer = server.post("/mp/shop", &MP.safe(&event("unsubscribe", ""), "e")).await;
    assert_eq!((answer.status, answer.body.as_str(), service.asked().len()), (200, "success", before));
}

#[tokio::test]
async fn a_gate_stays_shut_whatever_the_service_does() {
    const TABLE: &[(u16, &str, &str)] = &[
        (200, "application/json", r#"{"allow":"yes"}"#),
        (200, "application/json", r#"{"text":"x","deny":true}"#),
        (200, "application/json", r#"{"ErrorCode":0}"#),
        (200, "application/json", "[]"),
        (200, "text/plain", "ok"),
        (200, "text/plain", "success"),
        (200, "application/json", ""),
        (200, "", " "),
        (200, "text/html", "ok"),
        (500, "", ""),
        (302, "", ""),
        (403, "", ""),
    ];
    let next = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&next);
    let service = Service::start(move |_: Asked| {
        let (status, content_type, body) = TABLE[counted.fetch_add(1, Ordering::SeqCst)];
        async move { response(status, content_type, body) }
    })
    .await;
    let answer = |to: &str| {
        format!(
            "[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\non_error = \"deny\"\n[[answer]]\nname = \"gate\"\n\
             match = \"im/*\"\nto = \"{to}\"\n"
        )
    };
    let server = TestServer::start_with("", &answer(&service.url()), Hooks::default()).await;
    for row in TABLE {
        assert_eq!(group(&server).await["ErrorCode"], 1, "{row:?}");
    }
    // Nobody listens there.
    let address = service.address;
    drop(service);
    let server = TestServer::start_with("", &answer(&format!("http://{address}/")), Hooks::default()).await;
    assert_eq!(group(&server).await["ErrorCode"], 1);
}

#[tokio::test]
async fn a_slow_service_is_late_as_a_responder_is() {
    let (asked, go) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let both = (Arc::clone(&asked), Arc::clone(&go));
    let service = Service::start(move |_: Asked| {
        let (asked, go) = (Arc::clone(&both.0), Arc::clone(&both.1));
        async move {
            asked.add_permits(1);
            go.notified().await;
            response(200, "application/json", r#"{"text":"at last"}"#)
        }
    })
    .await;
    let accounts = format!(
        "[mp.plain]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\ndeadline = \"400ms\"\nlate_reply = \"hold\"\n\
         [im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\ndeadline = \"400ms\"\non_timeout = \"deny\"\n\
         [[answer]]\nname = \"slow\"\nmatch = \"*\"\nto = \"{}\"\n",
        service.url()
    );
    let server = TestServer::start_with("", &accounts, Hooks::default()).await;
    // The first attempts are held open; the reply goes out with the attempt that is there when it comes.
    assert_eq!(plain(&server, 1, "hi").await.status, 503);
    asked.acquire().await.unwrap().forget();
    let second = tokio::spawn({
        let http = server.http;
        let signed = PLAIN.plain(&text_message(1, "hi"), "again");
        async move { http.post(&format!("/mp/plain?{}", signed.query), signed.body).await }
    });
    go.notify_one();
    assert_eq!(content(&second.await.unwrap()), "at last");
    assert_eq!(service.asked().len(), 1);
    // A verdict is of no use later: the request ends, and `on_timeout` decides.
    assert_eq!(group(&server).await["ErrorCode"], 1);
    let late = "echostr_deliveries_total{platform=\"im\",account=\"chat\",outcome=\"defaulted\",reason=\"timeout\"}";
    assert_eq!(server.metric(late).await, 1.0);
    assert!(server.stop().await.unwrap(), "no request is left");
}

#[tokio::test]
async fn a_bot_streams_what_comes_in_chunks() {
    let (chunks, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<String, std::io::Error>>();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let service = Service::start(move |_: Asked| {
        let receiver = Arc::clone(&receiver);
        async move {
            let chunks = futures_util::stream::unfold(receiver, |receiver| async move {
                let next = receiver.lock().await.recv().await?;
                Some((next, receiver))
            });
            response(200, "text/event-stream", axum::body::Body::from_stream(chunks))
        }
    })
    .await;
    let server = ask("wecom_bot/*", &service, "").await;
    let chunk = |text: &str| Ok(format!("data: {}\n\n", json!({ "text": text })));
    chunks.send(chunk("The answer ")).unwrap();
    let answer = bot::opened(&bot::deliver(&server, &bot::text("m1", "hi"), "a").await);
    let stream = answer["stream"]["id"].as_str().unwrap().to_owned();
    bot::until(&server, &stream, "The answer ", false).await;
    chunks.send(chunk("is 42.")).unwrap();
    bot::until(&server, &stream, "The answer is 42.", false).await;
    drop(chunks);
    bot::until(&server, &stream, "The answer is 42.", true).await;
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn the_log_says_what_was_wrong_and_no_secret() {
    let (log, _guard) = Log::begin();
    let service = Service::start(async |asked: Asked| match asked.json()["data"]["Content"].as_str().unwrap() {
        "status" => response(500, "text/plain", "out of\norder"),
        "unknown" => response(200, "application/json", r#"{"txet":"user text"}"#),
        _ => response(200, "text/html", "<html>user text</html>"),
    })
    .await;
    let to = format!(
        "to = \"http://me:pass@{}/x?key=urlSecret\"\nheaders = {{ \"X-Key\" = \"headerSecret\" }}",
        service.address
    );
    let accounts =
        format!("{ACCOUNTS}\n[[answer]]\nname = \"bot\"\nmatch = \"mp/plain\"\nsecret = \"{SECRET}\"\n{to}\n");
    let server = TestServer::start_with("", &accounts, Hooks::default()).await;
    for (id, text, named) in [
        (1, "status", &["answered 500", "out of"][..]),
        (2, "unknown", &["unknown member `txet`", "`text`"]),
        (3, "other", &["text/html", "{\"text\": \"hi\"}"]),
    ] {
        assert_eq!(plain(&server, id, text).await.body, "success");
        let text = log.text();
        let line = text.lines().rfind(|line| line.contains("responder of mp.message.text failed")).unwrap();
        named.iter().for_each(|named| assert!(line.contains(named), "{line}"));
    }
    let text = log.text();
    for secret in ["pass@", "urlSecret", "headerSecret", SECRET, "user text"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn two_that_would_answer_one_event_stop_the_start() {
    let start = async |answers: &str, hooks: Hooks| {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n{ACCOUNTS}{answers}"
        );
        let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
        Server::bind(&config, hooks, Clock::fixed(NOW)).await.map(drop).map_err(|failure| failure.to_string())
    };
    let answer = |name: &str, pattern: &str| {
        format!("[[answer]]\nname = \"{name}\"\nmatch = \"{pattern}\"\ntext = \"{name}\"\n")
    };
    let both = |one: &str, other: &str| format!("{}{}", answer("one", one), answer("other", other));
    let text = || Hooks::default().on(async |_: mp::TextMessage, _: Context| Ok(Reply::text("rust")));
    for (answers, hooks, named) in [
        (
            both("mp/shop:mp.message.text", "mp/shop:mp.message.text"),
            Hooks::default(),
            &["`one`", "`other`", "mp.message.text"][..],
        ),
        (both("mp/shop:mp.message.*", "mp/shop:mp.message.*"), Hooks::default(), &["`one`", "`other`"]),
        (answer("one", "mp/shop:mp.message.text"), text(), &["`one`", "answers/mod.rs"]),
        (answer("one", "mp/*:mp.message.*"), text(), &["`one`", "answers/mod.rs"]),
        (answer("one", "mp/shop"), Hooks::default().account("mp/shop", text()), &["`one`", "answers/mod.rs"]),
    ] {
        let failure = start(&answers, hooks).await.unwrap_err();
        named.iter().for_each(|named| assert!(failure.contains(named), "{answers}: {failure}"));
    }
    for (answers, hooks) in [
        (both("mp/shop:mp.message.text", "mp/shop:mp.message.*"), Hooks::default()),
        (both("mp/shop:mp.message.text", "mp/*:mp.message.text"), Hooks::default()),
        (both("mp/shop", "mp/plain"), Hooks::default()),
        (answer("one", "mp/shop:mp.message.image"), text()),
        (answer("one", "mp/shop"), Hooks::default().account("mp/plain", text())),
        (
            answer("one", "mp/shop:mp.message.*"),
            Hooks::default().on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::none())),
        ),
    ] {
        start(&answers, hooks).await.unwrap();
    }
}
