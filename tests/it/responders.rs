//! Handlers: who is asked, and what becomes of failure, panic, lateness and clients that hang up.

use std::{
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use echostr::{
    events::{im, mp},
    hooks::{Context, Handler, HandlerError, Hooks, RawEvent},
    replies::{RawReply, mp::Reply},
};
use tokio::sync::{Notify, mpsc};

use crate::support::{
    TestServer,
    http::request,
    server::{ACCOUNTS, COMPAT, IM, MP, PLAIN, event, text_message},
};

const QUICK: &str = "[mp.plain]\napp_id = \"wx1\"\ntoken = \"plainToken\"\nmode = \"plain\"\ndeadline = \"50ms\"\nlate_reply = \"drop\"\n";

async fn text(server: &TestServer, id: u64) -> String {
    server.post("/mp/plain", &PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"))).await.body
}

#[tokio::test]
async fn failure_panic_and_a_bad_reply_give_the_default_answer() {
    let hooks = Hooks::default().on(async |message: mp::TextMessage, _: Context| match message.content.as_str() {
        "fail" => Err("no database".into()),
        "panic" => panic!("a bug"),
        "empty" => Ok(Reply::text("")),
        _ => Ok(Reply::text("fine")),
    });
    let server = TestServer::start(hooks).await;
    for (id, (content, reason)) in (1..).zip([("fail", "error"), ("panic", "panic"), ("empty", "bad_reply")]) {
        let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(id, content), content)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{content}");
        let line = format!(
            "echostr_deliveries_total{{platform=\"mp\",account=\"plain\",outcome=\"defaulted\",reason=\"{reason}\"}}"
        );
        assert_eq!(server.metric(&line).await, 1.0, "{content}");
    }
    assert!(text(&server, 9).await.contains("fine"));
}

#[tokio::test]
async fn a_late_responder_gives_the_default_answer_and_runs_on() {
    let (go, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, done) = (Arc::clone(&go), Arc::clone(&finished));
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let (wait, done) = (Arc::clone(&wait), Arc::clone(&done));
        async move {
            wait.notified().await;
            done.notify_one();
            Ok(Reply::text("late"))
        }
    });
    let server = TestServer::start_with("", QUICK, hooks).await;
    assert_eq!(text(&server, 1).await, "success");
    go.notify_one();
    finished.notified().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_no_responder() {
    let (started, go, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let all = (Arc::clone(&started), Arc::clone(&go), Arc::clone(&finished));
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let (started, go, finished) = (Arc::clone(&all.0), Arc::clone(&all.1), Arc::clone(&all.2));
        async move {
            started.notify_one();
            go.notified().await;
            finished.notify_one();
            Ok(Reply::none())
        }
    });
    let server = TestServer::start(hooks).await;
    let signed = PLAIN.plain(&text_message(1, "hi"), "n");
    let stream = server.http.open(&request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes())).await;
    started.notified().await;
    drop(stream);
    go.notify_one();
    finished.notified().await;
}

#[tokio::test]
async fn a_responder_ends_before_the_server_does() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let all = (Arc::clone(&started), Arc::clone(&go));
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let (started, go) = (Arc::clone(&all.0), Arc::clone(&all.1));
        async move {
            started.notify_one();
            go.notified().await;
            Ok(Reply::text("at last"))
        }
    });
    let server = TestServer::start(hooks).await;
    let (http, admin) = (server.http, server.admin);
    assert_eq!(admin.get("/readyz").await.status, 200);
    let signed = PLAIN.plain(&text_message(1, "hi"), "n");
    let delivery = tokio::spawn(async move { http.post(&format!("/mp/plain?{}", signed.query), signed.body).await });
    started.notified().await;
    let stopping = server.stop();
    // Not ready, still alive.
    while admin.get("/readyz").await.status == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(admin.get("/healthz").await.status, 200);
    go.notify_one();
    assert!(delivery.await.unwrap().body.contains("at last"));
    assert!(stopping.await.unwrap(), "everything finished");
}

#[tokio::test]
async fn a_responder_that_never_ends_is_cut_off_after_the_grace_period() {
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        signal.notify_one();
        std::future::pending::<Result<Reply, HandlerError>>()
    });
    let server = TestServer::start_with("shutdown_grace = \"100ms\"", QUICK, hooks).await;
    let signed = PLAIN.plain(&text_message(1, "hi"), "n");
    let _stream = server.http.open(&request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes())).await;
    started.notified().await;
    assert!(!server.stop().await.unwrap());
}

#[test]
fn a_second_responder_is_refused_and_both_places_are_named() {
    let twice = catch_unwind(|| {
        Hooks::default()
            .on(async |_: mp::TextMessage, _: Context| Ok(Reply::none()))
            .on(async |_: mp::TextMessage, _: Context| Ok(Reply::none()))
    });
    let message = *twice.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("`mp.message.text` has two responders"), "{message}");
    assert_eq!(message.matches("responders.rs:").count(), 2, "{message}");
    let raw = async |_: RawEvent, _: Context| Ok(RawReply::none());
    let unknown = catch_unwind(|| Hooks::default().on_any("mp.event.nothing*", raw));
    let message = *unknown.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("matches no event"), "{message}");
    let observer = async |_: mp::TextMessage, _: Context| Ok(());
    let taken = catch_unwind(AssertUnwindSafe(|| Hooks::default().observe("a", observer).observe("a", observer)));
    assert!(taken.unwrap_err().downcast::<String>().unwrap().contains("`a`"));
}

/// A type with state, as a handler.
struct Greeter {
    greeting: &'static str,
}

impl Handler<mp::TextMessage, Reply> for Greeter {
    async fn handle(&self, message: mp::TextMessage, context: Context) -> Result<Reply, HandlerError> {
        Ok(Reply::text(format!("{} {} of {}", self.greeting, message.from_user(), context.account())))
    }
}

async fn by_function(_: mp::ImageMessage, _: Context) -> Result<Reply, HandlerError> {
    Ok(Reply::text("a picture"))
}

#[tokio::test]
async fn types_functions_patterns_and_accounts_are_asked_in_their_order() {
    let named = |name: &'static str| move |_: RawEvent, _: Context| ready(Ok(RawReply::passive(Reply::text(name))));
    let hooks = Hooks::default()
        .on(Greeter { greeting: "hello" })
        .on(by_function)
        .on(async |_: mp::Subscribe, _: Context| Ok(Reply::text("welcome")))
        .on_any("mp/menu", named("menu family"))
        .on_any("mp.event.*", named("any event"))
        .on_any("*", named("anything"))
        .account("mp/shop", Hooks::default().on(Greeter { greeting: "shop" }));
    let server = TestServer::start(hooks).await;
    let image = text_message(2, "x").replace("[text]", "[image]");
    let rows = [
        (text_message(1, "hi"), "hello user_openid of mp/compat"),
        (image, "a picture"),
        (event("subscribe", "<EventKey></EventKey>"), "welcome"),
        // A follow through a QR code is a follow.
        (event("subscribe", "<EventKey>qrscene_7</EventKey>"), "welcome"),
        (event("CLICK", "<EventKey>V1</EventKey>"), "menu family"),
        (event("card_pass_check", ""), "any event"),
        (event("no_such_event", ""), "any event"),
        (
            "<xml><ToUserName>a</ToUserName><FromUserName>b</FromUserName><MsgType>hologram</MsgType></xml>".to_owned(),
            "anything",
        ),
    ];
    for (payload, expected) in rows {
        let answer = server.post("/mp/compat", &COMPAT.safe(&payload, "n")).await;
        let reply = COMPAT.open_reply(&answer.body);
        assert!(reply.contains(&format!("<![CDATA[{expected}]]>")), "{payload}: {reply}");
    }
    let answer = server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "n")).await;
    assert!(MP.open_reply(&answer.body).contains("shop user_openid of mp/shop"));
}

#[tokio::test]
async fn hooks_of_an_account_that_is_not_configured_are_refused() {
    use echostr::{clock::Clock, config::Config, server::Server};
    let text = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n";
    let config = Config::parse(text, "test", |name| std::env::var(name)).unwrap();
    let hooks = Hooks::default().account("mp/typo", Hooks::default());
    let error = Server::bind(&config, hooks, Clock::system()).await.unwrap_err();
    assert_eq!(error.to_string(), "hooks are registered for account `mp/typo`, which is not configured");
}

#[tokio::test]
async fn observers_see_every_event_whatever_the_others_do() {
    let (seen, mut events) = mpsc::unbounded_channel();
    let hooks = Hooks::default()
        .observe("fails", async |_: mp::TextMessage, _: Context| Err("no".into()))
        .observe("panics", async |_: mp::TextMessage, _: Context| panic!("a bug"))
        .observe_any("sees", "*", move |event: RawEvent, context: Context| {
            seen.send((event.event_type, event.key(), context.event_id())).unwrap();
            ready(Ok(()))
        });
    let server = TestServer::start_with("", ACCOUNTS, hooks).await;
    text(&server, 1).await;
    let (event_type, _, first) = events.recv().await.unwrap();
    assert_eq!(event_type, "mp.message.text");
    server.post("/mp/plain", &PLAIN.plain("<xml><MsgType>event</MsgType>", "m")).await;
    let (event_type, key, second) = events.recv().await.unwrap();
    assert_eq!((event_type, key), ("mp.message.unknown", Vec::new()));
    assert_ne!(first, second);
    server.post("/im/chat", &IM.command("Group.CallbackAfterGroupFull", r#"{"GroupId":"g"}"#)).await;
    assert_eq!(events.recv().await.unwrap().0, <im::AfterGroupFull as echostr::event::Event>::SPEC.id);
    // Failures are counted once they have happened.
    while server.metric("echostr_observations_total{result=\"failed\"}").await < 2.0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn too_many_deliveries_in_work_are_asked_to_come_again() {
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        signal.notify_one();
        std::future::pending::<Result<Reply, HandlerError>>()
    });
    let server = TestServer::start_with("max_in_flight = 1\nshutdown_grace = \"100ms\"", ACCOUNTS, hooks).await;
    let signed = PLAIN.plain(&text_message(1, "hi"), "n");
    let _held = server.http.open(&request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes())).await;
    started.notified().await;
    let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(2, "hi"), "m")).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("retry-after")), (503, "overloaded", Some("1")));
}

#[tokio::test]
async fn the_admin_listener_serves_health_and_metrics() {
    let server = TestServer::start_with("", "", Hooks::default()).await;
    assert_eq!(server.admin.get("/metrics").await.status, 200);
    assert_eq!(server.admin.get("/nothing").await.status, 404);
    assert_eq!(server.admin.get("/healthz").await.body, "ok\n");
}
