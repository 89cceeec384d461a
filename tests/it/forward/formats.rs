//! What is sent: CloudEvents in both modes, raw payloads, callbacks as the platform sends them; signed, and masked.

use std::time::{SystemTime, UNIX_EPOCH};

use cloudevents::{AttributesReader as _, Event};
use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;

use super::{Act, Request, Target, contents, crm, forward, send, start, takes_all};
use crate::support::{
    NOW, TestServer,
    platform::{Im, Signed, WeChat},
    server::{ACCOUNTS, IM, MP, WECOM, text_message},
};

const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OLD_KEY: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

fn verifies(request: &Request, key: &str) -> bool {
    let headers: HeaderMap = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .filter_map(|name| Some((HeaderName::from_static(name), HeaderValue::from_str(request.header(name)?).unwrap())))
        .collect();
    Webhook::new(key).unwrap().verify(request.body.as_bytes(), &headers).is_ok()
}

#[tokio::test]
async fn a_cloudevent_is_signed_with_both_keys_and_parses() {
    let target = Target::start(takes_all).await;
    let more = format!("secret = \"{KEY}\"\nsecret_previous = \"{OLD_KEY}\"\nheaders = {{ \"X-Team\" = \"crm\" }}");
    let server = start(&crm(&target, &more)).await;
    // The library wants a signature of now.
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    server.clock.set(now);
    let sealed = MP.safe(&text_message(7, "你好"), "1");
    let cipher_text = sealed.body.split_once("<Encrypt><![CDATA[").unwrap().1.split_once("]]>").unwrap().0;
    let query = MP.sealed_query(cipher_text, &now.to_string(), "1");
    assert_eq!(server.post("/mp/shop", &Signed { query, ..sealed.clone() }).await.status, 200);
    let request = target.received(1).await.remove(0);
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    assert_eq!(request.header("x-team"), Some("crm"));
    assert!(verifies(&request, KEY) && verifies(&request, OLD_KEY));
    assert!(!verifies(&Request { body: request.body.replace("你好", "再见"), ..request.clone() }, KEY));
    let event: Event = serde_json::from_str(&request.body).unwrap();
    assert_eq!((event.ty(), event.id()), ("mp.message.text", request.header("webhook-id").unwrap()));
    assert_eq!((event.source().as_str(), event.subject()), ("/mp/shop", Some("user_openid")));
    assert_eq!(event.time().unwrap().timestamp(), NOW);
    let data = &request.json()["data"];
    assert_eq!((&data["Content"], &data["MsgId"]), (&"你好".into(), &serde_json::json!("7")), "{data}");
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn match_and_where_decide_what_is_sent() {
    let target = Target::start(takes_all).await;
    let more = "where = { MsgType = \"text\", Content = { prefix = \"/\" } }\norder = \"subject\"\n";
    let server = start(&crm(&target, more).replace("\"*\"", "[\"mp/shop:mp.message.*\", \"wecom/*\"]")).await;
    for (id, content) in [(1, "/help"), (2, "hello"), (3, "/x")] {
        send(&server, id, content).await;
    }
    assert_eq!(contents(&target.received(2).await), ["/help", "/x"]);
    assert!(server.stop().await.unwrap());
}

/// A server with a forward in each format, all of which mask the same.
async fn every_format(target: &Target, redact: &str) -> TestServer {
    let to = |path: &str| format!("http://{}/{path}", target.address);
    let original = "format = \"original\"\ntoken = \"behind\"\n";
    let forwards = [
        forward("structured", &to("structured"), redact),
        forward("binary", &to("binary"), &format!("mode = \"binary\"\n{redact}")),
        forward("raw", &to("raw"), &format!("format = \"raw\"\n{redact}")),
        forward("original", &to("original?app=1"), &format!("{original}aes_key = \"{}\"\n{redact}", BEHIND.aes_key)),
    ];
    start(&forwards.concat()).await
}

/// An application behind, with keys of its own and the id of the account.
const BEHIND: WeChat =
    WeChat { token: "behind", aes_key: "behindbehindbehindbehindbehindbehindbehindb", receive_id: MP.receive_id };

fn at<'r>(requests: &'r [Request], path: &str) -> &'r Request {
    requests.iter().find(|request| request.path.trim_start_matches('/').split('?').next() == Some(path)).unwrap()
}

/// Verifies and opens a callback that an application behind got.
fn open(behind: WeChat, request: &Request) -> String {
    let query: std::collections::HashMap<&str, String> = request
        .query()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()))
        .collect();
    let sealed = request.body.split_once("<Encrypt><![CDATA[").unwrap().1.split_once("]]>").unwrap().0;
    behind.open_reply(&format!(
        "<xml><Encrypt>{sealed}</Encrypt><MsgSignature>{}</MsgSignature><TimeStamp>{}</TimeStamp><Nonce>{}</Nonce></xml>",
        query["msg_signature"], query["timestamp"], query["nonce"]
    ))
}

#[tokio::test]
async fn each_format_has_the_event_as_it_is() {
    let target = Target::start(takes_all).await;
    let server = every_format(&target, "").await;
    let payload = text_message(7, "a b \"%\" é");
    server.post("/mp/shop", &MP.safe(&payload, "1")).await;
    let requests = target.received(4).await;

    let binary = at(&requests, "binary");
    assert_eq!(
        (binary.header("content-type"), binary.header("ce-specversion")),
        (Some("application/json"), Some("1.0"))
    );
    assert_eq!(
        (binary.header("ce-id"), binary.header("ce-type")),
        (binary.header("webhook-id"), Some("mp.message.text"))
    );
    assert_eq!((binary.header("ce-source"), binary.header("ce-subject")), (Some("/mp/shop"), Some("user_openid")));
    assert_eq!(binary.json(), at(&requests, "structured").json()["data"]);

    let raw = at(&requests, "raw");
    assert_eq!(
        (raw.body.as_str(), raw.header("content-type")),
        (payload.as_str(), Some("application/xml; charset=utf-8"))
    );
    assert_eq!((raw.header("echostr-account"), raw.header("echostr-type")), (Some("mp/shop"), Some("mp.message.text")));

    let original = at(&requests, "original");
    assert!(original.query().starts_with("app=1&"), "{}", original.path);
    assert_eq!(open(BEHIND, original), payload);

    // Of a company, whose id differs; and of IM, which is never sealed.
    let wecom = text_message(8, "hi").replace("</xml>", "<AgentID>1</AgentID></xml>");
    server.post("/wecom/sales", &WECOM.safe(&wecom, "2")).await;
    let requests = target.received(8).await;
    assert_eq!(open(WeChat { receive_id: WECOM.receive_id, ..BEHIND }, at(&requests[4..], "original")), wecom);
    let body = r#"{"CallbackCommand":"State.StateChange","EventTime":1,"Info":{"Action":"Login","To_Account":"é 用户","Reason":"Register"}}"#;
    server.post("/im/chat", &IM.command("State.StateChange", body)).await;
    let requests = target.received(12).await;
    let (raw, original) = (at(&requests[8..], "raw"), at(&requests[8..], "original"));
    assert_eq!((raw.body.as_str(), original.body.as_str()), (body, body));
    assert_eq!(
        raw.header("echostr-query").map(|query| query.contains("CallbackCommand=State.StateChange")),
        Some(true)
    );
    let expected = Im { token: "behind", ..IM }.query("State.StateChange", &NOW.to_string());
    for parameter in expected.split('&') {
        assert!(original.query().contains(parameter), "{parameter} in {}", original.query());
    }
    let subject = at(&requests[8..], "binary").header("ce-subject");
    assert_eq!(subject, Some("%C3%A9%20%E7%94%A8%E6%88%B7"));
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn what_is_masked_leaves_in_no_format() {
    let target = Target::start(takes_all).await;
    let redact = "redact = [\"FromUserName\", \"Content\", \"MsgBody.MsgContent.Text\", \"From_Account\"]";
    let server = every_format(&target, redact).await;
    send(&server, 7, "hush").await;
    let body = r#"{"CallbackCommand":"C2C.CallbackAfterSendMsg","From_Account":"user_openid","To_Account":"b","MsgSeq":1,"MsgRandom":1,"MsgTime":1,"MsgKey":"k","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hush"}},{"MsgType":"TIMTextElem","MsgContent":{"Text":"hush"}}]}"#;
    server.post("/im/chat", &IM.command("C2C.CallbackAfterSendMsg", body)).await;
    let requests = target.received(8).await;
    assert_eq!(requests.len(), 8);
    for request in &requests {
        let opened = if request.body.contains("<Encrypt>") { open(BEHIND, request) } else { request.body.clone() };
        let all = format!("{}\n{opened}", request.head);
        assert!(!all.contains("hush") && !all.contains("user_openid"), "{all}");
        assert!(opened.contains("***"), "{opened}");
    }
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn another_echostr_behind_takes_what_is_forwarded_as_original() {
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("echo: {}", message.content))));
    let behind = TestServer::start_with("", ACCOUNTS, hooks).await;
    let to = format!("http://{}/mp/shop", behind.http.0);
    let keys = format!("format = \"original\"\ntoken = \"{}\"\naes_key = \"{}\"", MP.token, MP.aes_key);
    let server = start(&forward("app", &to, &keys).replace("\"*\"", "\"mp/shop\"")).await;
    send(&server, 1, "hello").await;
    let answered = "echostr_deliveries_total{platform=\"mp\",account=\"shop\",outcome=\"answered\",reason=\"\"}";
    crate::support::until(async || behind.metric(answered).await >= 1.0).await;
    assert!(server.stop().await.unwrap() && behind.stop().await.unwrap());
}

#[tokio::test]
async fn an_event_that_nobody_knows_is_sent_as_what_it_is() {
    let target = Target::start(|_, _| Act::Status(200)).await;
    let server = start(&crm(&target, "")).await;
    let payload = text_message(1, "x").replace("[CDATA[text]", "[CDATA[hologram]");
    server.post("/mp/shop", &MP.safe(&payload, "1")).await;
    server.post("/mp/shop", &MP.safe("<xml><Oops", "2")).await;
    let types: Vec<_> =
        target.received(2).await.iter().map(|it| it.json()["type"].as_str().unwrap().to_owned()).collect();
    assert!(types.iter().all(|name| name.starts_with("mp.") && name.ends_with("unknown")), "{types:?}");
    assert!(server.stop().await.unwrap());
}
