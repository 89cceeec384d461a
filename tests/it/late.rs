//! Replies that come too late for the response, and access tokens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    api::ApiError,
    events::{mp, wecom},
    hooks::{Context, Hooks},
    replies,
    simulate::api::{FakeApi, Faults},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::Notify, time};

use crate::support::{
    TestServer,
    api::{accounts, sent},
    postgres::{count, database, execute},
    server::{MP, PLAIN, WECOM, text_message},
    wait_for,
};

/// Responders that answer when `go` says so, and count their runs.
struct Slow {
    go: Arc<Notify>,
    runs: Arc<AtomicU32>,
}

impl Slow {
    fn new() -> Self {
        Self { go: Arc::default(), runs: Arc::default() }
    }

    fn hooks(&self) -> Hooks {
        let (go, runs) = (Arc::clone(&self.go), Arc::clone(&self.runs));
        let (other_go, other_runs) = (Arc::clone(&self.go), Arc::clone(&self.runs));
        Hooks::default()
            .on(move |message: mp::TextMessage, _: Context| {
                runs.fetch_add(1, Ordering::SeqCst);
                let go = Arc::clone(&go);
                async move {
                    go.notified().await;
                    Ok(match message.content.as_str() {
                        "human" => replies::mp::Reply::transfer_customer_service(),
                        text => replies::mp::Reply::text(format!("late: {text}")),
                    })
                }
            })
            .on(move |_: wecom::TextMessage, _: Context| {
                other_runs.fetch_add(1, Ordering::SeqCst);
                let go = Arc::clone(&other_go);
                async move {
                    go.notified().await;
                    Ok(replies::wecom::Reply::text("late"))
                }
            })
    }
}

async fn until(server: &TestServer, line: &str, value: f64) {
    wait_for(line, async || server.metric(line).await == value).await;
}

const DEAD: &str = "echostr_observations_total{result=\"dead\"}";
const DONE: &str = "echostr_observations_total{result=\"done\"}";

#[tokio::test]
async fn with_send_the_reply_goes_out_by_the_api_once() {
    let api = FakeApi::start(1).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    let deliver =
        |nonce: &'static str| async { server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), nonce)).await };
    assert_eq!(deliver("a").await.body, "success");
    // The platform asks again although it was answered.
    assert_eq!(deliver("b").await.body, "success");
    assert!(api.sent().is_empty());
    slow.go.notify_one();
    let messages = sent(&api, 1).await;
    assert_eq!(messages[0].path, "/cgi-bin/message/custom/send");
    let expected = json!({"touser": "user_openid", "msgtype": "text", "text": {"content": "late: hi"}});
    assert_eq!(messages[0].body, expected);
    until(&server, DONE, 1.0).await;
    assert_eq!(deliver("c").await.body, "success");
    assert_eq!((api.sent().len(), slow.runs.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn an_application_message_names_its_application() {
    let api = FakeApi::start(2).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    let message = text_message(1, "hi").replace("</xml>", "<AgentID>1000002</AgentID></xml>");
    assert_eq!(server.post("/wecom/sales", &WECOM.safe(&message, "a")).await.body, "");
    slow.go.notify_one();
    let messages = sent(&api, 1).await;
    assert_eq!((messages[0].path.as_str(), &messages[0].body["agentid"]), ("/cgi-bin/message/send", &json!(1_000_002)));
}

#[tokio::test]
async fn what_only_a_response_can_say_is_a_dead_letter() {
    let api = FakeApi::start(3).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(1, "human"), "a")).await.body, "success");
    slow.go.notify_one();
    until(&server, DEAD, 1.0).await;
    assert!(api.sent().is_empty());
}

#[tokio::test]
async fn what_was_surely_not_sent_is_sent_again_and_what_may_have_been_is_not() {
    let api = FakeApi::start(4).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    // The token is had first, so that the fault meets the message.
    api.set_faults(Faults { busy: 0.7, limited: 0.2, revoked: 0.1, ..Faults::default() });
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(1, "one"), "a")).await.body, "success");
    slow.go.notify_one();
    assert_eq!(sent(&api, 1).await.len(), 1);
    until(&server, DONE, 1.0).await;
    api.set_faults(Faults { cut: 1.0, ..Faults::default() });
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(2, "two"), "b")).await.body, "success");
    slow.go.notify_one();
    until(&server, DEAD, 1.0).await;
    api.set_faults(Faults::default());
    // It was sent, and the end of it was not heard.
    assert_eq!(api.sent().len(), 2);
}

#[tokio::test]
async fn with_hold_the_last_attempt_is_answered_and_the_reply_follows() {
    let api = FakeApi::start(5).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    let attempt =
        |nonce: &'static str| async { server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), nonce)).await };
    // The platform has cut the first two by the time they are refused.
    let (one, two) = tokio::join!(attempt("a"), attempt("b"));
    assert_eq!((one.status, two.status), (503, 503));
    assert_eq!(attempt("c").await.body, "success");
    slow.go.notify_one();
    let messages = sent(&api, 1).await;
    assert_eq!(messages[0].body["text"]["content"], "late: hi");
    assert_eq!(attempt("d").await.body, "success");
    assert_eq!((api.sent().len(), slow.runs.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn with_hold_a_reply_that_an_attempt_carries_is_not_sent() {
    let api = FakeApi::start(6).await.unwrap();
    let slow = Slow::new();
    let server = TestServer::start_with("", &accounts(&api, ""), slow.hooks()).await;
    let attempt =
        |nonce: &'static str| async { server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), nonce)).await };
    let first = async {
        let answer = attempt("a").await;
        slow.go.notify_one();
        answer
    };
    assert_eq!(first.await.status, 503);
    assert!(MP.open_reply(&attempt("b").await.body).contains("late: hi"));
    assert_eq!((api.sent().len(), slow.runs.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
async fn a_late_reply_outlives_the_process() {
    let api = FakeApi::start(7).await.unwrap();
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let slow = Slow::new();
    // The platform is away as long as the first process lives.
    api.set_faults(Faults { busy: 1.0, ..Faults::default() });
    let server = TestServer::start_on(&url, "", &accounts(&api, "max_attempts = 1000"), slow.hooks()).await;
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "a")).await.body, "success");
    slow.go.notify_one();
    until(&server, "echostr_observations_total{result=\"failed\"}", 1.0).await;
    server.stop().await.unwrap();
    api.set_faults(Faults::default());
    let server = TestServer::start_on(&url, "", &accounts(&api, ""), Slow::new().hooks()).await;
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "late: hi");
    assert_eq!(server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "b")).await.body, "success");
    assert_eq!(api.sent().len(), 1);
}

#[tokio::test]
async fn the_node_that_gave_up_need_not_be_the_one_that_answers() {
    let Some(url) = database().await else { return };
    let api = FakeApi::start(8).await.unwrap();
    let slow = Slow::new();
    let text = accounts(&api, "");
    // The platform's connection to the first node breaks before anything is said.
    let patient = text.replace("deadline = \"50ms\"", "deadline = \"4900ms\"");
    let a = TestServer::start_on(&url, "", &patient, slow.hooks()).await;
    let b = TestServer::start_on(&url, "", &text, Slow::new().hooks()).await;
    let signed = PLAIN.plain(&text_message(1, "hi"), "a");
    let request = crate::support::http::request(&format!("/mp/soon?{}", signed.query), signed.body.as_bytes());
    let cut = a.http.open(&request).await;
    wait_for("the responder runs", async || slow.runs.load(Ordering::SeqCst) > 0).await;
    drop(cut);
    assert_eq!(b.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "b")).await.body, "success");
    slow.go.notify_one();
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "late: hi");
    assert_eq!(b.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "c")).await.body, "success");
    assert_eq!((api.sent().len(), slow.runs.load(Ordering::SeqCst)), (1, 1));
}

/// Handlers that call the API themselves.
fn calling() -> Hooks {
    Hooks::default().on(async |message: mp::TextMessage, context: Context| {
        let body = json!({ "touser": message.envelope.from_user_name, "msgtype": "text", "text": {"content": "x"} });
        match context.api()?.call("cgi-bin/message/custom/send", &body).await {
            Ok(_) => Ok(replies::mp::Reply::text("sent")),
            Err(failure @ ApiError::Refused { .. }) => Ok(replies::mp::Reply::text(failure.to_string())),
            Err(failure) => Err(failure.into()),
        }
    })
}

#[tokio::test]
async fn a_revoked_token_is_renewed_once_by_all_nodes_under_load() {
    let Some(url) = database().await else { return };
    let api = FakeApi::start(9).await.unwrap();
    let text = accounts(&api, "");
    let a = TestServer::start_on(&url, "", &text, calling()).await;
    let b = TestServer::start_on(&url, "", &text, calling()).await;
    let mut id = 0;
    for round in 0_u64..5 {
        let mut all = Vec::new();
        for _ in 0..20 {
            for server in [&a, &b] {
                id += 1;
                let signed = PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"));
                all.push(async move { server.post("/mp/soon", &signed).await });
            }
        }
        let (_, ()) = tokio::join!(futures_util::future::join_all(all), async {
            if round > 0 {
                api.revoke_tokens();
            }
        });
        let tokens = api.counts().tokens;
        assert!(tokens <= round + 1, "{tokens} tokens after {round} revocations");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_explained_and_not_tried_again_and_again() {
    let api = FakeApi::start(10).await.unwrap();
    let text =
        accounts(&api, "").replace("mpSecret", "wrongSecret").replace("deadline = \"50ms\"", "deadline = \"4s\"");
    let server = TestServer::start_with("", &text, calling()).await;
    for id in 1..=20 {
        let answer = server.post("/mp/soon", &PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"))).await;
        assert!(answer.body.contains("40001") && answer.body.contains("secret is wrong"), "{}", answer.body);
        assert!(!answer.body.contains("wrongSecret"));
    }
    assert_eq!(api.counts().calls["/cgi-bin/stable_token"], 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let api = FakeApi::start(11).await.unwrap();
    api.set_lifetime(Duration::from_secs(7200));
    let text = accounts(&api, "").replace("deadline = \"50ms\"", "deadline = \"4s\"");
    let server = TestServer::start_with("", &text, calling()).await;
    let call = async |id: u64| {
        let answer = server.post("/mp/soon", &PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"))).await;
        assert!(answer.body.contains("[sent]"), "{}", answer.body);
        api.counts().calls["/cgi-bin/stable_token"]
    };
    assert_eq!(call(1).await, 1);
    server.clock.advance(Duration::from_secs(6000));
    assert_eq!(call(2).await, 1, "it lasts longer");
    // It is still valid, and is renewed beside the call.
    server.clock.advance(Duration::from_secs(1100));
    call(3).await;
    wait_for("another one", async || api.counts().calls["/cgi-bin/stable_token"] == 2).await;
    // Nobody has called for so long that it has ended: the call waits for another.
    server.clock.advance(Duration::from_secs(7300));
    assert_eq!(call(4).await, 3);
}

#[tokio::test]
async fn without_a_secret_there_is_no_api() {
    let server = TestServer::start(calling()).await;
    let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(1, "hi"), "a")).await;
    assert_eq!(answer.body, "success");
}

#[tokio::test]
async fn the_journal_has_tokens_only_sealed() {
    let api = FakeApi::start(12).await.unwrap();
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let text = accounts(&api, "").replace("deadline = \"50ms\"", "deadline = \"4s\"");
    let server = TestServer::start_on(&url, "", &text, calling()).await;
    let answer = server.post("/mp/soon", &PLAIN.plain(&text_message(1, "hi"), "a")).await;
    assert!(answer.body.contains("[sent]"), "{}", answer.body);
    server.stop().await.unwrap();
    let contains = |needle: &str| {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(needle.len()).any(|part| part == needle.as_bytes()))
    };
    assert!(contains("token/mp/soon"));
    assert!(!contains("ACCESS_") && !contains("mpSecret"));
    // The next process goes on with it.
    let server = TestServer::start_on(&url, "", &text, calling()).await;
    server.post("/mp/soon", &PLAIN.plain(&text_message(2, "hi"), "b")).await;
    assert_eq!(api.counts().tokens, 1);
}

/// Responders that hang up to the run of this number, and then reply at once.
fn dying(runs: &Arc<AtomicU32>, hangs: u32) -> Hooks {
    let runs = Arc::clone(runs);
    Hooks::default().on(move |message: mp::TextMessage, context: Context| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if run <= hangs {
                std::future::pending::<()>().await;
            }
            Ok(replies::mp::Reply::text(format!("run {run}, attempt {}: {}", context.attempt(), message.content)))
        }
    })
}

/// A process that gives the default answer, and ends as `kill -9` ends it, while its responder runs.
async fn end_in_responder(url: &str, config: &str, hooks: Hooks) {
    let doomed = Runtime::new().unwrap();
    let (at, config) = (url.to_owned(), config.to_owned());
    let (tell, told) = tokio::sync::oneshot::channel();
    doomed.spawn(async move {
        let server = TestServer::start_on(&at, "", &config, hooks).await;
        tell.send(answered(&server, 1, "hi").await).unwrap();
        std::future::pending::<()>().await;
    });
    assert_eq!(told.await.unwrap(), "success");
    tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
}

/// Delivers until it is answered: a journal that is slow has the platform retry.
async fn answered(server: &TestServer, id: u64, content: &str) -> String {
    for attempt in 0..100 {
        let answer =
            server.post("/mp/soon", &PLAIN.plain(&text_message(id, content), &format!("r{id}x{attempt}"))).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it was never answered");
}

/// Lets time pass in the file, which nobody has open: the platform retries no more.
fn wait_in_file(file: &std::path::Path) {
    let db = rusqlite::Connection::open(file).unwrap();
    db.execute("UPDATE event SET received = received - 120000", []).unwrap();
}

#[tokio::test]
async fn a_responder_whose_process_ended_runs_again_and_its_reply_is_sent_once() {
    let api = FakeApi::start(11).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let (config, runs) = (accounts(&api, ""), Arc::new(AtomicU32::new(0)));
    end_in_responder(&url, &config, dying(&runs, 1)).await;
    wait_in_file(&file);
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 1)).await;
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "run 2, attempt 2: hi");
    until(&server, DONE, 1.0).await;
    assert_eq!(answered(&server, 1, "hi").await, "success");
    server.stop().await.unwrap();
    // The next process has nothing left to do.
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 1)).await;
    assert_eq!(answered(&server, 1, "hi").await, "success");
    assert_eq!((api.sent().len(), runs.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn a_responder_that_ends_its_process_each_time_is_given_up() {
    let api = FakeApi::start(12).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let (config, runs) = (accounts(&api, ""), Arc::new(AtomicU32::new(0)));
    end_in_responder(&url, &config, dying(&runs, 9)).await;
    wait_in_file(&file);
    for run in 2..=3 {
        let doomed = Runtime::new().unwrap();
        let (at, config, hooks) = (url.clone(), config.clone(), dying(&runs, 9));
        doomed.spawn(async move {
            let _server = TestServer::start_on(&at, "", &config, hooks).await;
            std::future::pending::<()>().await;
        });
        wait_for("it runs again", async || runs.load(Ordering::SeqCst) == run).await;
        tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    }
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 9)).await;
    until(&server, DEAD, 1.0).await;
    server.stop().await.unwrap();
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 9)).await;
    assert_eq!(answered(&server, 2, "ho").await, "success");
    wait_for("only the new one runs", async || runs.load(Ordering::SeqCst) == 4).await;
    assert!(api.sent().is_empty());
}

#[tokio::test]
async fn a_retry_that_comes_first_answers_and_nothing_is_sent() {
    let api = FakeApi::start(13).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let (config, runs) = (accounts(&api, ""), Arc::new(AtomicU32::new(0)));
    end_in_responder(&url, &config, dying(&runs, 1)).await;
    // It is not due yet.
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 1)).await;
    let answer = answered(&server, 1, "hi").await;
    assert!(answer.contains("run 2, attempt 1: hi"), "{answer:?}");
    server.stop().await.unwrap();
    let db = rusqlite::Connection::open(&file).unwrap();
    assert_eq!(db.execute("UPDATE delivery SET due = 0", []).unwrap(), 1);
    drop(db);
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 1)).await;
    until(&server, DONE, 1.0).await;
    assert_eq!((api.sent().len(), runs.load(Ordering::SeqCst)), (0, 2));
}

#[tokio::test]
async fn what_a_dead_node_has_not_answered_another_does() {
    let Some(url) = database().await else { return };
    let api = FakeApi::start(14).await.unwrap();
    let (config, runs) = (accounts(&api, ""), Arc::new(AtomicU32::new(0)));
    end_in_responder(&url, &config, dying(&runs, 1)).await;
    // It died a while ago.
    assert!(execute(&url, "UPDATE node SET alive_until = alive_until - 120000").await);
    let [_a, _b] = [
        TestServer::start_on(&url, "", &config, dying(&runs, 1)).await,
        TestServer::start_on(&url, "", &config, dying(&runs, 1)).await,
    ];
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "run 2, attempt 2: hi");
    wait_for("it is done", async || count(&url, "SELECT count(*) FROM delivery").await == 0).await;
    assert_eq!((api.sent().len(), runs.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn what_would_not_be_sent_is_not_run_again() {
    let api = FakeApi::start(15).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let config = accounts(&api, "").replace("late_reply = \"send\"", "late_reply = \"drop\"");
    let runs = Arc::new(AtomicU32::new(0));
    end_in_responder(&url, &config, dying(&runs, 1)).await;
    wait_in_file(&file);
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 1)).await;
    // What comes later is through, and nothing else was to be done.
    answered(&server, 2, "ho").await;
    let db = rusqlite::Connection::open(&file).unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM delivery", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_retry_that_is_late_too_is_sent_once() {
    let api = FakeApi::start(16).await.unwrap();
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let (config, runs) = (accounts(&api, ""), Arc::new(AtomicU32::new(0)));
    end_in_responder(&url, &config, dying(&runs, 1)).await;
    let slow = Slow::new();
    let server = TestServer::start_on(&url, "", &config, slow.hooks()).await;
    assert_eq!(answered(&server, 1, "hi").await, "success");
    slow.go.notify_one();
    assert_eq!(sent(&api, 1).await[0].body["text"]["content"], "late: hi");
    until(&server, DONE, 1.0).await;
    server.stop().await.unwrap();
    let server = TestServer::start_on(&url, "", &config, dying(&runs, 0)).await;
    answered(&server, 2, "ho").await;
    assert_eq!((api.sent().len(), slow.runs.load(Ordering::SeqCst)), (1, 1));
}
