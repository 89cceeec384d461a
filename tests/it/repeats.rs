//! The platform asks again: an event has one run of its responder and one reply, however often it is delivered.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use echostr::{
    events::{mp, wecom},
    hooks::{Context, Hooks},
    replies::{self, mp::Reply},
};
use tokio::sync::Notify;

use crate::support::{
    Log, NOW, TestServer, postgres,
    server::{ACCOUNTS, MP, WECOM, event, text_message},
};

/// A responder that counts its runs, and waits for `go` where there is one.
fn counting(runs: &Arc<AtomicU32>, go: Option<&Arc<Notify>>) -> Hooks {
    let (runs, go) = (Arc::clone(runs), go.map(Arc::clone));
    Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        let go = go.clone();
        async move {
            if let Some(go) = go {
                go.notified().await;
            }
            Ok(Reply::text(format!("run {run}")))
        }
    })
}

#[tokio::test]
async fn one_after_the_other_they_get_the_same_reply_sealed_anew() {
    let runs = Arc::new(AtomicU32::new(0));
    let server = TestServer::start(counting(&runs, None)).await;
    let payload = text_message(1, "hi");
    let mut sealed = Vec::new();
    for nonce in ["a", "b", "c"] {
        sealed.push(server.post("/mp/shop", &MP.safe(&payload, nonce)).await.body);
    }
    let opened: Vec<_> = sealed.iter().map(|body| MP.open_reply(body)).collect();
    assert!(opened.iter().all(|reply| *reply == opened[0]) && opened[0].contains("run 1"), "{opened:?}");
    assert_ne!(sealed[0], sealed[1]);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// What a delivery says of an event is said once, however often it is repeated: nobody decodes a repeat.
#[tokio::test]
async fn what_cannot_be_read_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("journal.db").display());
    let urls = ["memory:".to_owned(), file].into_iter().chain(postgres::database().await);
    for url in urls {
        let (log, _guard) = Log::begin();
        let hooks =
            || Hooks::default().on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(message.content)));
        let server = TestServer::start_at(&url, hooks()).await;
        let odd = text_message(1, "hi").replace(&NOW.to_string(), "noon");
        let (misshapen, unhandled) = (
            event("MASSSENDJOBFINISH", "<TotalCount>many</TotalCount>"),
            event("VIEW", "<EventKey>k</EventKey>").replace(&NOW.to_string(), "noon"),
        );
        for nonce in ["a", "b", "c"] {
            assert!(MP.open_reply(&server.post("/mp/shop", &MP.safe(&odd, nonce)).await.body).contains("hi"), "{url}");
            for payload in [&misshapen, &unhandled] {
                assert_eq!(server.post("/mp/shop", &MP.safe(payload, nonce)).await.body, "success", "{url}");
            }
        }
        assert!(server.stop().await.unwrap());
        let text = log.text();
        for line in [
            "mp.message.text: read without a field: `CreateTime` is not a whole number",
            "mp.event.view: read without a field: `CreateTime` is not a whole number",
            "mp.event.masssendjobfinish: read without a field: `TotalCount` is not a whole number",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{url}: {line}: {text}");
        }
    }
}

#[tokio::test]
async fn in_parallel_they_join_the_one_that_runs() {
    let (runs, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let server = TestServer::start(counting(&runs, Some(&go))).await;
    let payload = text_message(1, "hi");
    let deliveries: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|nonce| {
            let (http, signed) = (server.http, MP.safe(&payload, nonce));
            tokio::spawn(async move { http.post(&format!("/mp/shop?{}", signed.query), signed.body).await })
        })
        .collect();
    while server.metric("echostr_in_flight").await < 3.0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for delivery in deliveries {
        assert!(MP.open_reply(&delivery.await.unwrap().body).contains("run 1"));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_held_reply_reaches_the_user_through_a_later_attempt() {
    let (runs, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let server = TestServer::start(counting(&runs, Some(&go))).await;
    let payload = text_message(1, "hi");
    // The platform gives up on the first attempt and hangs up.
    for nonce in ["a", "b"] {
        let signed = MP.safe(&payload, nonce);
        let bytes = crate::support::http::request(&format!("/mp/shop?{}", signed.query), signed.body.as_bytes());
        let stream = server.http.open(&bytes).await;
        while server.metric("echostr_in_flight").await < 1.0 {
            tokio::task::yield_now().await;
        }
        drop(stream);
        // The responder is in flight still; its client is not.
        while server.metric("echostr_connections").await > 0.0 {
            tokio::task::yield_now().await;
        }
    }
    let (http, signed) = (server.http, MP.safe(&payload, "c"));
    let third = tokio::spawn(async move { http.post(&format!("/mp/shop?{}", signed.query), signed.body).await });
    while server.metric("echostr_in_flight").await < 2.0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert!(MP.open_reply(&third.await.unwrap().body).contains("run 1"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn two_events_of_one_second_are_two() {
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let hooks = Hooks::default().on(move |_: mp::MenuClick, _: Context| {
        count.fetch_add(1, Ordering::SeqCst);
        ready(Ok(Reply::none()))
    });
    let server = TestServer::start(hooks).await;
    for key in ["A", "B", "A"] {
        server.post("/mp/shop", &MP.safe(&event("CLICK", &format!("<EventKey>{key}</EventKey>")), "n")).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_id_of_two_senders_or_two_accounts_is_two_messages() {
    let runs = Arc::new(AtomicU32::new(0));
    let server = TestServer::start(counting(&runs, None)).await;
    server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "a")).await;
    server.post("/mp/shop", &MP.safe(&text_message(1, "hi").replace("user_openid", "another"), "b")).await;
    let compat = crate::support::server::COMPAT;
    server.post("/mp/compat", &compat.safe(&text_message(1, "hi"), "c")).await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

/// The default answer was given and the platform asks again: by now there is a reply.
#[tokio::test]
async fn a_reply_that_was_late_for_one_attempt_is_there_for_the_next() {
    let (runs, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let accounts = ACCOUNTS.replace("token = \"wecomToken\"", "token = \"wecomToken\"\ndeadline = \"50ms\"");
    let (count, wait) = (Arc::clone(&runs), Arc::clone(&go));
    let hooks = Hooks::default().on(move |_: wecom::TextMessage, _: Context| {
        let (run, wait) = (count.fetch_add(1, Ordering::SeqCst) + 1, Arc::clone(&wait));
        async move {
            wait.notified().await;
            Ok(replies::wecom::Reply::text(format!("run {run}")))
        }
    });
    let server = TestServer::start_with("", &accounts, hooks).await;
    let payload = text_message(1, "hi");
    for nonce in ["a", "b"] {
        let answer = server.post("/wecom/sales", &WECOM.safe(&payload, nonce)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "no reply yet");
    }
    go.notify_one();
    let answered = "echostr_deliveries_total{platform=\"wecom\",account=\"sales\",outcome=\"answered\",reason=\"\"}";
    while server.metric(answered).await < 1.0 {
        tokio::task::yield_now().await;
    }
    let answer = server.post("/wecom/sales", &WECOM.safe(&payload, "c")).await;
    assert!(WECOM.open_reply(&answer.body).contains("run 1"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
