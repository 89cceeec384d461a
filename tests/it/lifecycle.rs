//! Starting, stopping, and the admin listener.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, HandlerError, Hooks},
    replies::mp::Reply,
    server::Server,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, oneshot},
};

use crate::support::{
    Http, TestServer,
    http::{read_answer, request},
    server::{ACCOUNTS, MP, PLAIN, text_message},
};

/// Nothing that waits for one of these would end within the time of a test.
const PATIENT: &str =
    "shutdown_grace = \"60s\"\nheader_timeout = \"60s\"\nbody_timeout = \"60s\"\nkeep_alive = \"60s\"";

#[tokio::test]
async fn connections_without_a_request_do_not_hold_up_the_end() {
    let server = TestServer::start_with(PATIENT, ACCOUNTS, Hooks::default()).await;
    let signed = MP.safe(&text_message(1, "hi"), "n");
    let whole = request(&format!("/mp/shop?{}", signed.query), signed.body.as_bytes());
    let whole = String::from_utf8(whole).unwrap().replace("Connection: close\r\n", "");
    // Nothing yet; one request and its answer; a part of a head; the same behind an answer.
    let silent = server.http.open(b"").await;
    let mut used = server.http.open(whole.as_bytes()).await;
    assert_eq!(read_answer(&mut used).await.unwrap().body, "success");
    let partial = server.http.open(&whole.as_bytes()[..30]).await;
    let mut again = server.http.open(whole.as_bytes()).await;
    assert_eq!(read_answer(&mut again).await.unwrap().body, "success");
    again.write_all(&whole.as_bytes()[..30]).await.unwrap();
    while server.metric("echostr_connections").await < 4.0 {
        tokio::task::yield_now().await;
    }
    assert!(server.stop().await.unwrap(), "everything finished");
    for mut stream in [silent, used, partial, again] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn a_request_that_is_on_its_way_is_answered_before_the_end() {
    let server = TestServer::start_with(PATIENT, ACCOUNTS, Hooks::default()).await;
    let signed = MP.safe(&text_message(1, "hi"), "n");
    let whole = request(&format!("/mp/shop?{}", signed.query), signed.body.as_bytes());
    let (first, rest) = whole.split_at(whole.len() - 10);
    let mut stream = server.http.open(first).await;
    while server.metric("echostr_connections").await < 1.0 {
        tokio::task::yield_now().await;
    }
    let (http, admin) = (server.http, server.admin);
    // The head has been read once the server has answered somebody who came later.
    assert_eq!(http.get("/nobody").await.status, 404);
    let stopping = server.stop();
    while admin.get("/readyz").await.status == 200 {
        tokio::task::yield_now().await;
    }
    stream.write_all(rest).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().body, "success");
    assert!(stopping.await.unwrap());
    assert!(tokio::net::TcpStream::connect(http.0).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn observers_finish_before_the_end_and_one_that_never_does_is_cut_off() {
    let (go, done) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (wait, finished) = (Arc::clone(&go), Arc::clone(&done));
    let hooks = Hooks::default().observe("slow", move |_: mp::TextMessage, _: Context| {
        let (wait, finished) = (Arc::clone(&wait), Arc::clone(&finished));
        async move {
            wait.notified().await;
            finished.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let server = TestServer::start_with(PATIENT, ACCOUNTS, hooks).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "n")).await.body, "success");
    let admin = server.admin;
    let stopping = server.stop();
    while admin.get("/readyz").await.status == 200 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert!(stopping.await.unwrap());
    assert_eq!(done.load(Ordering::SeqCst), 1);

    let hooks = Hooks::default()
        .observe("stuck", async |_: mp::TextMessage, _: Context| pending::<Result<(), HandlerError>>().await);
    let server = TestServer::start_with("shutdown_grace = \"100ms\"", ACCOUNTS, hooks).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "n")).await.body, "success");
    assert!(!server.stop().await.unwrap());
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_place_back() {
    let hooks = Hooks::default().on(async |message: mp::TextMessage, _: Context| {
        if message.content == "later" {
            tokio::task::yield_now().await;
        }
        assert!(message.content == "good", "a bug");
        Ok(Reply::text("good"))
    });
    let server = TestServer::start_with("max_in_flight = 1", ACCOUNTS, hooks).await;
    for (id, content) in (1..).zip(["now", "later", "now", "later"]) {
        let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), "n")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{content}");
    }
    let answer = server.post("/mp/shop", &MP.safe(&text_message(9, "good"), "n")).await;
    assert!(MP.open_reply(&answer.body).contains("good"));
    assert_eq!(server.metric("echostr_in_flight").await, 0.0);
}

/// A server whose admin listener has a token.
async fn guarded(token: &str) -> (Http, oneshot::Sender<()>) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{token}\"\n\
         [journal]\nurl = \"memory:\"\n{ACCOUNTS}"
    );
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let server = Server::bind(&config, Hooks::default(), Clock::system()).await.unwrap();
    let admin = Http(server.admin_address().unwrap());
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    (admin, stop)
}

#[tokio::test]
async fn the_admin_listener_wants_its_token_for_all_but_probes() {
    let (admin, _stop) = guarded("adminTokenOfSomeLength").await;
    for (authorization, status) in [
        ("", 401),
        ("Authorization: Bearer adminTokenOfSomeLength\r\n", 200),
        ("authorization: Bearer adminTokenOfSomeLength\r\n", 200),
        ("Authorization: Bearer adminTokenOfSomeLengt\r\n", 401),
        ("Authorization: Bearer adminTokenOfSomeLengths\r\n", 401),
        ("Authorization: Bearer \r\n", 401),
        ("Authorization: adminTokenOfSomeLength\r\n", 401),
        ("Authorization: Basic adminTokenOfSomeLength\r\n", 401),
        ("Authorization: Bearer \u{e9}\r\n", 401),
        ("Cookie: token=adminTokenOfSomeLength\r\n", 401),
    ] {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n{authorization}Connection: close\r\n\r\n");
        let answer = admin.send(get("/metrics").as_bytes()).await;
        assert_eq!(answer.status, status, "{authorization}");
        assert!(!answer.body.contains("adminToken"), "{}", answer.body);
        for probe in ["/healthz", "/readyz"] {
            assert_eq!(admin.send(get(probe).as_bytes()).await.status, 200, "{probe} {authorization}");
        }
    }
    // The token is not taken from the query, nor for a callback.
    assert_eq!(admin.get("/metrics?token=adminTokenOfSomeLength").await.status, 401);
    assert_eq!(admin.get("/mp/shop").await.status, 404);
}

#[tokio::test]
async fn metrics_are_labelled_from_tables_alone() {
    let server = TestServer::start(Hooks::default()).await;
    let names = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    // Histograms get their buckets with their first value.
    server.post("/mp/plain", &PLAIN.plain(&text_message(1, "hi"), "first")).await;
    let mut before = names(&server.admin.get("/metrics").await.body);
    for at in 0..20 {
        server.http.get(&format!("/mp/nobody{at}?x={at}")).await;
        server.http.get(&format!("/mp/shop?signature={at}")).await;
        let event = crate::support::server::event(&format!("event{at}"), "");
        server.post("/mp/plain", &PLAIN.plain(&event, &format!("n{at}"))).await;
    }
    let mut after = names(&server.admin.get("/metrics").await.body);
    before.sort();
    after.sort();
    assert_eq!(before, after, "a request made a metric of its own");
    assert!(!before.is_empty());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = TestServer::start(Hooks::default()).await;
    let taken = server.http.0;
    let text =
        format!("[server]\nlisten = \"{taken}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n");
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let error = Server::bind(&config, Hooks::default(), Clock::system()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {taken} ([server] listen): ")), "{error}");
}
