//! WeCom AI bots: answers at once, and answers that come in pieces while the platform asks for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    replies::wecom_bot::{CardReply, Reply, WelcomeReply},
};
use futures_util::stream;
use proxy::Fault;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{Mutex, mpsc},
    time,
};

use crate::{
    partition::{behind_proxy, ready},
    support::{
        Answer, TestServer,
        platform::WeChat,
        postgres::database,
        server::{ACCOUNTS, BOT},
        wait_for,
    },
};

fn push(id: &str, msgtype: &str, rest: &Json) -> String {
    let mut push = json!({
        "msgid": id,
        "create_time": crate::support::NOW,
        "aibotid": "AIBOT",
        "chattype": "single",
        "from": { "userid": "zhangsan" },
        "msgtype": msgtype,
    });
    push[if msgtype == "event" { "event" } else { msgtype }] = rest.clone();
    push.to_string()
}

pub fn text(id: &str, content: &str) -> String {
    push(id, "text", &json!({ "content": content }))
}

pub async fn deliver(server: &TestServer, payload: &str, nonce: &str) -> Answer {
    server.post("/wecom_bot/helper", &BOT.safe_bot(payload, nonce)).await
}

/// The opened answer, with the names of a bot's envelope.
pub fn opened(answer: &Answer) -> Json {
    opened_by(&BOT, answer)
}

fn opened_by(bot: &WeChat, answer: &Answer) -> Json {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let envelope: Json = serde_json::from_str(&answer.body).unwrap();
    assert!(envelope["msgsignature"].is_string() && envelope["timestamp"].is_u64(), "{envelope}");
    let as_others = json!({
        "Encrypt": envelope["encrypt"],
        "MsgSignature": envelope["msgsignature"],
        "TimeStamp": envelope["timestamp"],
        "Nonce": envelope["nonce"],
    });
    serde_json::from_str(&bot.open_reply(&as_others.to_string())).unwrap()
}

pub async fn poll(server: &TestServer, stream: &str, number: u32) -> Json {
    let payload = push(&format!("poll{number}"), "stream", &json!({ "id": stream }));
    opened(&deliver(server, &payload, &format!("p{number}")).await)["stream"].clone()
}

/// Asks until the content is so, as the platform does.
pub async fn until(server: &TestServer, stream: &str, content: &str, finished: bool) {
    let mut told = Json::Null;
    for number in 0..600 {
        told = poll(server, stream, number).await;
        if told["content"] == content && told["finish"] == finished {
            return;
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    panic!("`{content}` is not told, but {told}");
}

/// A second bot of the server.
const OTHER_BOT: WeChat =
    WeChat { token: "otherBotToken", aes_key: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", receive_id: "" };

/// Streams whatever is sent, the first run from the first channel, and so on.
struct Model {
    runs: Arc<AtomicU32>,
    pieces: Arc<Mutex<Vec<mpsc::UnboundedReceiver<String>>>>,
}

impl Model {
    fn new(runs: usize) -> (Self, Vec<mpsc::UnboundedSender<String>>) {
        let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (0..runs).map(|_| mpsc::unbounded_channel()).unzip();
        receivers.reverse();
        senders.shrink_to_fit();
        (Self { runs: Arc::default(), pieces: Arc::new(Mutex::new(receivers)) }, senders)
    }

    fn hooks(&self) -> Hooks {
        let (runs, pieces) = (Arc::clone(&self.runs), Arc::clone(&self.pieces));
        Hooks::default().on(move |_: wecom_bot::TextMessage, _: Context| {
            let (runs, pieces) = (Arc::clone(&runs), Arc::clone(&pieces));
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                let mut receiver = pieces.lock().await.pop().unwrap();
                Ok(Reply::stream(stream::poll_fn(move |context| receiver.poll_recv(context))))
            }
        })
    }
}

async fn start(journal: &str, hooks: Hooks) -> TestServer {
    let other =
        "[wecom_bot.other]\ntoken = \"otherBotToken\"\naes_key = \"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\"\n";
    TestServer::start_on(journal, "", &format!("{ACCOUNTS}{other}"), hooks).await
}

fn say(model: &mpsc::UnboundedSender<String>, piece: &str) {
    model.send(piece.to_owned()).unwrap();
}

pub fn card() -> Json {
    json!({"card_type": "text_notice", "main_title": {"title": "Job 7"}, "task_id": "t1"})
}

/// Every kind of answer of a bot.
pub fn answering() -> Hooks {
    Hooks::default()
        .on(async |message: wecom_bot::TextMessage, _: Context| Ok(Reply::markdown(message.text.content)))
        .on(async |_: wecom_bot::ImageMessage, _: Context| Ok(Reply::template_card(card())))
        .on(async |_: wecom_bot::EnterChat, _: Context| Ok(WelcomeReply::text("hello")))
        .on(async |_: wecom_bot::TemplateCardAction, _: Context| Ok(CardReply::update(card())))
}

#[tokio::test]
async fn what_is_ready_is_answered_at_once() {
    let server = start("memory:", answering()).await;
    let first = opened(&deliver(&server, &text("m1", "**42**"), "a").await);
    assert_eq!((&first["stream"]["content"], &first["stream"]["finish"]), (&json!("**42**"), &json!(true)));
    // The platform asks again: the same answer, and the responder does not run.
    assert_eq!(opened(&deliver(&server, &text("m1", "**42**"), "b").await), first);
    let image = push("m2", "image", &json!({ "url": "https://dl.example.com/1" }));
    assert_eq!(opened(&deliver(&server, &image, "c").await)["template_card"], card());
    let enter = push("m3", "event", &json!({ "eventtype": "enter_chat" }));
    assert_eq!(opened(&deliver(&server, &enter, "d").await)["text"]["content"], "hello");
    let click = json!({ "eventtype": "template_card_event", "template_card_event": {"card_type": "vote_interaction", "event_key": "k", "task_id": "t1"} });
    let click = push("m4", "event", &click);
    assert_eq!(opened(&deliver(&server, &click, "e").await)["response_type"], "update_template_card");
}

/// There is nothing more to come, and still the platform may ask: at this node or another, before or after a restart.
#[tokio::test]
async fn a_poll_of_what_was_complete_at_once_gets_it_again() {
    let hooks = || {
        Hooks::default()
            .on(async |message: wecom_bot::TextMessage, _: Context| Ok(Reply::markdown(message.text.content)))
            .on(async |_: wecom_bot::EnterChat, _: Context| Ok(WelcomeReply::text("hello")))
    };
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    for url in ["memory:".to_owned(), sqlite].into_iter().chain(database().await) {
        let server = start(&url, hooks()).await;
        let first = opened(&deliver(&server, &text("m1", "**42**"), "a").await)["stream"].clone();
        let stream = first["id"].as_str().unwrap();
        assert_eq!((&first["content"], &first["finish"]), (&json!("**42**"), &json!(true)));
        assert_eq!(poll(&server, stream, 1).await, first);
        assert_eq!(poll(&server, stream, 2).await, first, "{url}");
        // Nothing else is a streamed answer.
        let other = stream.replace(&stream[20..], "000000000000");
        assert_eq!(poll(&server, &other, 3).await["content"], "");
        if url != "memory:" {
            server.stop().await.unwrap();
            let server = start(&url, hooks()).await;
            assert_eq!(poll(&server, stream, 4).await, first);
            // Another bot of the server does not see it.
            let payload = push("poll5", "stream", &json!({ "id": stream }));
            let answer = server.post("/wecom_bot/other", &OTHER_BOT.safe_bot(&payload, "p5")).await;
            assert_eq!(opened_by(&OTHER_BOT, &answer)["stream"]["content"], "");
        }
    }
}

#[tokio::test]
async fn an_answer_is_told_word_by_word() {
    let (model, said) = Model::new(1);
    let server = start("memory:", model.hooks()).await;
    say(&said[0], "The ");
    let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
    assert_eq!(first["finish"], false);
    let stream = first["id"].as_str().unwrap().to_owned();
    until(&server, &stream, "The ", false).await;
    say(&said[0], "answer ");
    until(&server, &stream, "The answer ", false).await;
    // A repeat of the message belongs to the same answer.
    let repeat = opened(&deliver(&server, &text("m1", "?"), "b").await)["stream"].clone();
    assert_eq!(repeat["id"], first["id"]);
    say(&said[0], "is **42**.");
    drop(said);
    until(&server, &stream, "The answer is **42**.", true).await;
    assert_eq!(model.runs.load(Ordering::SeqCst), 1);
    let unknown = poll(&server, "01a1fdc8bc04700091c042f7a0b2eb94", 1000).await;
    assert_eq!((&unknown["finish"], &unknown["content"]), (&json!(true), &json!("")));
    assert_eq!(poll(&server, "no id of ours", 1001).await["finish"], true);
}

#[tokio::test]
async fn an_answer_goes_on_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let url = format!("sqlite://{}", file.display());
    let (model, said) = Model::new(2);
    // A process that is gone does not say good-bye.
    let doomed = Runtime::new().unwrap();
    let (hooks, at) = (model.hooks(), url.clone());
    say(&said[0], "The answer ");
    let (tell, told) = tokio::sync::oneshot::channel();
    doomed.spawn(async move {
        let server = start(&at, hooks).await;
        let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
        let stream = first["id"].as_str().unwrap().to_owned();
        until(&server, &stream, "The answer ", false).await;
        tell.send(stream).unwrap();
        std::future::pending::<()>().await;
    });
    let stream = told.await.unwrap();
    wait_for("the text is in the file", async || {
        let db = rusqlite::Connection::open(&file).unwrap();
        let kept = db.query_row("SELECT value FROM slot WHERE name LIKE 'stream/%'", [], |row| row.get::<_, String>(0));
        kept.is_ok_and(|kept| kept.contains("The answer "))
    })
    .await;
    tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    let server = start(&url, model.hooks()).await;
    // What was seen does not go away while the handler begins anew.
    let seen = poll(&server, &stream, 0).await;
    assert_eq!((&seen["content"], &seen["finish"]), (&json!("The answer "), &json!(false)));
    say(&said[1], "The answer ");
    say(&said[1], "is **42**.");
    until(&server, &stream, "The answer is **42**.", false).await;
    drop(said);
    until(&server, &stream, "The answer is **42**.", true).await;
    assert_eq!(model.runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn another_node_tells_what_there_is_and_goes_on_when_the_first_is_gone() {
    let Some(url) = database().await else { return };
    let (model, said) = Model::new(2);
    let doomed = Runtime::new().unwrap();
    let (hooks, at) = (model.hooks(), url.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    say(&said[0], "one ");
    doomed.spawn(async move {
        let server = start(&at, hooks).await;
        let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
        tell.send(first["id"].as_str().unwrap().to_owned()).unwrap();
        std::future::pending::<()>().await;
    });
    let stream = told.await.unwrap();
    let b = start(&url, model.hooks()).await;
    until(&b, &stream, "one ", false).await;
    say(&said[0], "two ");
    until(&b, &stream, "one two ", false).await;
    assert_eq!(model.runs.load(Ordering::SeqCst), 1);
    doomed.shutdown_background();
    say(&said[1], "one two three");
    until(&b, &stream, "one two three", false).await;
    drop(said);
    until(&b, &stream, "one two three", true).await;
    assert_eq!(model.runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_yet_is_not_given_up() {
    let Some(url) = database().await else { return };
    let (proxy, proxied) = behind_proxy(&url).await;
    let (proxy, runs) = (Arc::new(proxy), Arc::new(AtomicU32::new(0)));
    let (tell, told) = mpsc::unbounded_channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let (breaking, counted) = (Arc::clone(&proxy), Arc::clone(&runs));
    let hooks = Hooks::default().on(move |_: wecom_bot::TextMessage, _: Context| {
        // The event is in the database, and its answer cannot be.
        breaking.begin(Fault::Cut);
        counted.fetch_add(1, Ordering::SeqCst);
        let told = Arc::clone(&told);
        async move {
            let mut receiver = told.lock().await.take().unwrap();
            Ok(Reply::stream(stream::poll_fn(move |context| receiver.poll_recv(context))))
        }
    });
    let server = start(&proxied, hooks).await;
    ready(&server).await;
    assert_eq!(deliver(&server, &text("m1", "?"), "a").await.status, 503);
    proxy.end();
    ready(&server).await;
    let (mut repeat, mut attempt) = (None, 0);
    wait_for("the repeat is answered", async || {
        attempt += 1;
        let answer = deliver(&server, &text("m1", "?"), &format!("b{attempt}")).await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        repeat = Some(answer).filter(|answer| answer.status == 200);
        repeat.is_some()
    })
    .await;
    say(&tell, "here ");
    say(&tell, "it is");
    drop(tell);
    let stream = opened(&repeat.unwrap())["stream"].clone();
    until(&server, stream["id"].as_str().unwrap(), "here it is", true).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_told_of_an_answer_is_in_the_journal() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("journal.db");
    let (model, said) = Model::new(1);
    let server = start(&format!("sqlite://{}", file.display()), model.hooks()).await;
    let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
    let stream = first["id"].as_str().unwrap();
    let db = rusqlite::Connection::open(&file).unwrap();
    let mut seen = String::new();
    for number in 0..40 {
        say(&said[0], &format!("{number} "));
        // Whatever a poll tells is in the journal by then: the process may end at any time.
        seen = poll(&server, stream, number).await["content"].as_str().unwrap().to_owned();
        let kept = db.query_row("SELECT value FROM slot WHERE name LIKE 'stream/%'", [], |row| row.get::<_, String>(0));
        let kept: Json = serde_json::from_str(&kept.unwrap()).unwrap();
        let kept = kept["content"].as_str().unwrap();
        assert!(kept.starts_with(&seen), "told `{seen}`, kept `{kept}`");
        time::sleep(Duration::from_millis(15)).await;
    }
    assert!(!seen.is_empty(), "nothing was told");
}
