//! Panics of handlers: wherever one happens, the delivery is answered, it is counted, and the log says what it said.

use std::{
    error::Error,
    fmt,
    future::{Future, pending, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::{Context as TaskContext, Poll},
    thread,
    time::{Duration, Instant},
};

use echostr::{
    events::{mp, wecom_bot},
    hooks::{Context, Handler, HandlerError, Hooks, RawEvent},
    replies::{RawReply, mp::Reply, wecom_bot::Reply as BotReply},
};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime, sync::Notify, time};

use crate::{
    bot::{deliver, opened, poll, text, until},
    support::{
        Log, TestServer,
        server::{ACCOUNTS, MP, text_message},
    },
};

fn defaulted(account: &str, reason: &str) -> String {
    let (platform, name) = account.split_once('/').unwrap();
    format!(
        "echostr_deliveries_total{{platform=\"{platform}\",account=\"{name}\",outcome=\"defaulted\",reason=\"{reason}\"}}"
    )
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("dropped");
        }
    }
}

/// A future that is ready at once or later, and panics when it is dropped.
struct Trapped {
    polls: u32,
    _bomb: Bomb,
}

impl Future for Trapped {
    type Output = Result<Reply, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(Ok(Reply::text("fine")));
        }
        self.polls -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An error that panics when somebody asks what it is.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("unspeakable")
    }
}

impl Error for Unspeakable {}

/// What is thrown panics, too.
fn throw_a_bomb() -> Reply {
    std::panic::panic_any(Bomb)
}

/// Panics before there is a future.
struct Eager;

impl Handler<mp::TextMessage, Reply> for Eager {
    #[allow(clippy::manual_async_fn, reason = "it panics before there is a future")]
    fn handle(&self, message: mp::TextMessage, _: Context) -> impl Future<Output = Result<Reply, HandlerError>> + Send {
        assert!(message.content != "eager", "before the first poll");
        let content = message.content;
        async move {
            match content.as_str() {
                "now" => panic!("now\nERROR forged"),
                "later" => {
                    tokio::task::yield_now().await;
                    panic!("later")
                }
                "error" => Err(Box::new(Unspeakable).into()),
                "bomb" => Ok(throw_a_bomb()),
                "trapped" => Trapped { polls: 0, _bomb: Bomb }.await,
                "trapped later" => Trapped { polls: 2, _bomb: Bomb }.await,
                _ => Ok(Reply::text("fine")),
            }
        }
    }
}

#[tokio::test]
async fn a_responder_may_panic_wherever_it_likes() {
    let (log, _guard) = Log::begin();
    let raw = |_: RawEvent, _: Context| -> std::future::Ready<Result<RawReply, HandlerError>> { panic!("raw") };
    let trapped = |_: mp::ImageMessage, _: Context| Trapped { polls: 1, _bomb: Bomb };
    let server = TestServer::start(Hooks::default().on(Eager).on(trapped).on_any("*", raw)).await;
    let contents = ["eager", "now", "later", "error", "bomb", "trapped", "trapped later"];
    let mut payloads: Vec<String> = (1..).zip(contents).map(|(id, content)| text_message(id, content)).collect();
    payloads.push(text_message(90, "x").replace("[text]", "[image]"));
    payloads.push(text_message(91, "x").replace("[text]", "[voice]"));
    payloads.push(text_message(92, "x").replace("[text]", "[hologram]"));
    for (at, payload) in payloads.iter().enumerate() {
        let answer = server.post("/mp/shop", &MP.safe(payload, &at.to_string())).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{payload}");
        assert_eq!(server.metric(&defaulted("mp/shop", "panic")).await, at as f64 + 1.0, "{payload}");
        // A repeat gets the same, and nobody is asked again.
        assert_eq!(server.post("/mp/shop", &MP.safe(payload, &format!("again{at}"))).await.body, "success");
    }
    assert_eq!(server.metric("echostr_in_flight").await, 0.0);
    let answer = server.post("/mp/shop", &MP.safe(&text_message(99, "hi"), "good")).await;
    assert!(MP.open_reply(&answer.body).contains("fine"));
    assert!(server.stop().await.unwrap());
    let text = log.text();
    for said in ["before the first poll", "now\\nERROR forged", "later", "unspeakable", "dropped", "raw"] {
        let line = format!("panicked, user got the default answer: {said}");
        assert!(text.contains(&line), "no `{line}` in\n{text}");
    }
    assert!(
        text.contains("mp/shop: responder of mp.message.text panicked, user got the default answer: now"),
        "{text}"
    );
}

#[tokio::test]
async fn an_observer_may_panic_wherever_it_likes() {
    let runs = Arc::new(AtomicU32::new(0));
    let hooks = Hooks::default()
        .observe("unspeakable", async |_: mp::TextMessage, _: Context| Err(Box::new(Unspeakable).into()))
        .observe("bomb", async |_: mp::TextMessage, _: Context| std::panic::panic_any(Bomb))
        .observe("trapped", |_: mp::TextMessage, _: Context| async {
            let future = Trapped { polls: 1, _bomb: Bomb };
            future.await.map(drop)
        })
        .observe("works", {
            let runs = Arc::clone(&runs);
            move |_: mp::TextMessage, _: Context| {
                runs.fetch_add(1, Ordering::SeqCst);
                ready(Ok(()))
            }
        });
    let more = "[observers]\nmax_attempts = 2\nbackoff = \"1ms..1ms\"\n";
    let server = TestServer::start_with("", &format!("{ACCOUNTS}{more}"), hooks).await;
    for id in 1..=40 {
        server.post("/mp/shop", &MP.safe(&text_message(id, "hi"), &id.to_string())).await;
    }
    for (result, expected) in [("dead", 120.0), ("done", 40.0)] {
        for _ in 0..1000 {
            if server.metric(&format!("echostr_observations_total{{result=\"{result}\"}}")).await == expected {
                break;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        let line = format!("echostr_observations_total{{result=\"{result}\"}}");
        assert_eq!(server.metric(&line).await, expected, "{result}");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 40);
    assert!(server.stop().await.unwrap(), "nobody waits for a task that is gone");
}

/// What a stream of a bot gives.
type Chunks = Pin<Box<dyn Stream<Item = String> + Send>>;

/// Makes a stream, from the number of the run.
type Make = fn(u32) -> Chunks;

/// A bot whose stream is made by this, from the number of the run.
fn streaming<S>(make: impl Fn(u32) -> S + Send + Sync + 'static) -> (Arc<AtomicU32>, Hooks)
where
    S: Stream<Item = String> + Send + 'static,
{
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let hooks = Hooks::default().on(move |_: wecom_bot::TextMessage, _: Context| {
        let run = count.fetch_add(1, Ordering::SeqCst) + 1;
        ready(Ok(BotReply::stream(make(run))))
    });
    (runs, hooks)
}

fn panicking(text: &'static str) -> impl Stream<Item = String> + Send {
    stream::poll_fn(move |_| -> Poll<Option<String>> { panic!("{text}") })
}

/// Chunks that are ready, and then others when `go` says so.
fn then<S: Stream<Item = String> + Send>(
    chunks: &'static [&str],
    go: Arc<Notify>,
    rest: S,
) -> impl Stream<Item = String> + Send {
    let wait = stream::once(async move { go.notified().await }).filter_map(|()| ready(None));
    stream::iter(chunks).map(ToString::to_string).chain(wait).chain(rest)
}

#[tokio::test]
async fn a_stream_that_panics_at_once_gives_the_default_answer() {
    let (log, _guard) = Log::begin();
    let streams: [(&str, Make); 3] = [
        ("first poll", |_| panicking("first poll").boxed()),
        ("made", |_| panic!("made")),
        // It says nothing, and panics when it is dropped.
        ("dropped", |_| {
            let bomb = Bomb;
            stream::poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(None)
            })
            .boxed()
        }),
    ];
    for (said, make) in streams {
        let (runs, hooks) = streaming(make);
        let server = TestServer::start(hooks).await;
        for nonce in ["a", "b"] {
            let answer = deliver(&server, &text("m1", "?"), nonce).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{said}");
        }
        assert_eq!(server.metric(&defaulted("wecom_bot/helper", "panic")).await, 1.0, "{said}");
        assert_eq!(server.metric(&defaulted("wecom_bot/helper", "timeout")).await, 0.0, "{said}");
        assert_eq!(runs.load(Ordering::SeqCst), 1, "{said}");
        assert!(server.stop().await.unwrap());
        let line = format!(
            "wecom_bot/helper: responder of wecom_bot.message.text panicked, user got the default answer: {said}"
        );
        assert!(log.text().contains(&line), "{said}:\n{}", log.text());
    }
}

#[tokio::test]
async fn a_stream_that_panics_later_ends_with_what_there_was() {
    let ends: [fn() -> Chunks; 2] = [
        || panicking("too late").boxed(),
        || {
            let bomb = Bomb;
            stream::poll_fn(move |_| {
                let _ = &bomb;
                Poll::Ready(None)
            })
            .boxed()
        },
    ];
    for end in ends {
        let (log, _guard) = Log::begin();
        let go = Arc::new(Notify::new());
        let wait = Arc::clone(&go);
        let (runs, hooks) = streaming(move |_| then(&["The answer ", "is "], Arc::clone(&wait), end()));
        let server = TestServer::start(hooks).await;
        let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
        assert_eq!((&first["content"], &first["finish"]), (&json!("The answer is "), &json!(false)));
        let id = first["id"].as_str().unwrap();
        go.notify_one();
        until(&server, id, "The answer is ", true).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        // The next question is answered from the journal.
        assert_eq!(poll(&server, id, 1000).await["finish"], true);
        assert!(server.stop().await.unwrap());
        let line = "wecom_bot/helper: streamed answer to wecom_bot.message.text aborted: the stream panicked: ";
        assert!(log.text().contains(line), "{}", log.text());
    }
}

#[tokio::test]
async fn a_stream_that_panics_with_chunks_ready_ends_with_them() {
    let (runs, hooks) = streaming(|_| stream::iter(["a", "b"]).map(ToString::to_string).chain(panicking("third")));
    let server = TestServer::start(hooks).await;
    let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
    assert_eq!((&first["content"], &first["finish"]), (&json!("ab"), &json!(true)));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn another_run_that_panics_ends_the_answer_with_what_users_have_seen() {
    let runs: [Make; 3] = [
        |_| panic!("made"),
        |_| panicking("first poll").boxed(),
        |_| stream::iter(["Th"]).map(ToString::to_string).chain(panicking("second poll")).boxed(),
    ];
    for again in runs {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("journal.db").display());
        // A process that is gone does not say good-bye.
        let doomed = runtime::Runtime::new().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let at = url.clone();
        doomed.spawn(async move {
            let go = Arc::new(Notify::new());
            let (_, hooks) = streaming(move |_| then(&["The answer "], Arc::clone(&go), stream::empty()));
            let server = TestServer::start_on(&at, "", ACCOUNTS, hooks).await;
            let first = opened(&deliver(&server, &text("m1", "?"), "a").await)["stream"].clone();
            tell.send(first["id"].as_str().unwrap().to_owned()).unwrap();
            pending::<()>().await;
        });
        let id = told.await.unwrap();
        tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
        let (runs, hooks) = streaming(again);
        let server = TestServer::start_on(&url, "", ACCOUNTS, hooks).await;
        assert_eq!(poll(&server, &id, 0).await["content"], "The answer ");
        until(&server, &id, "The answer ", true).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(server.stop().await.unwrap());
    }
}

/// Runs a test on a runtime of one thread of its own; a test that keeps the thread busy for ever fails.
fn on_one_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(60)).expect("the thread is kept busy, or the test failed");
}

#[test]
fn a_stream_of_nothing_leaves_the_thread_to_others() {
    on_one_thread(async || {
        let polls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&polls);
        let (_, hooks) = streaming(move |_| {
            let count = Arc::clone(&count);
            stream::poll_fn(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(Some(String::new()))
            })
        });
        let hooks = hooks.on(async |_: mp::TextMessage, _: Context| Ok(Reply::text("fine")));
        let server = TestServer::start(hooks).await;
        let began = Instant::now();
        let first = opened(&deliver(&server, &text("m1", "?"), "a").await);
        assert_eq!(first["stream"]["finish"], false);
        for id in 1..=100 {
            let answer = server.post("/mp/shop", &MP.safe(&text_message(id, "hi"), &id.to_string())).await;
            assert!(MP.open_reply(&answer.body).contains("fine"));
        }
        // 64 at first, and then 64 at a time with a pause of 10 ms at least.
        let most = 64 * (began.elapsed().as_millis() / 10 + 3);
        let polls = polls.load(Ordering::SeqCst);
        assert!(u128::from(polls) <= most, "polled {polls} times, more than {most}");
    });
}

#[tokio::test]
async fn the_number_of_streams_is_bounded() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (_, hooks) = streaming(move |_| then(&["so far"], Arc::clone(&wait), stream::empty()));
    let bot = "[wecom_bot.helper]\ntoken = \"botToken\"\naes_key = \"botbotbotbotbotbotbotbotbotbotbotbotbotbotb\"\n";
    let server = TestServer::start_with("max_in_flight = 2", bot, hooks).await;
    let mut ids = Vec::new();
    for at in ["1", "2"] {
        let first = opened(&deliver(&server, &text(at, "?"), at).await)["stream"].clone();
        ids.push(first["id"].as_str().unwrap().to_owned());
    }
    let answer = deliver(&server, &text("3", "?"), "3").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "overloaded"));
    go.notify_one();
    while server.metric("echostr_in_flight").await > 1.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(deliver(&server, &text("3", "?"), "4").await.status, 200);
    go.notify_waiters();
}
