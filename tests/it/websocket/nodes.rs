//! Several nodes and several processes, one connection.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    replies::wecom_bot::Reply,
    simulate::api::{BotFaults, FakeBots},
};
use futures_util::{StreamExt as _, stream};
use proxy::{Fault, Proxy};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::Notify, time};

use super::{BOT_ID, account_at, accounts, answered, echo, ends, platform, start, text, within, write_config};
use crate::support::{Http, TestServer, postgres::database, program::Program, until};

/// Bounds the wait for the last answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// The lease of a connection.
const LEASE: Duration = Duration::from_secs(10);

/// What each message was answered: streams by their id, of which users see one each, and messages of their own.
fn shown(platform: &FakeBots) -> HashMap<String, Vec<Json>> {
    let mut shown: HashMap<String, Vec<Json>> = HashMap::new();
    let mut streams = HashSet::new();
    for frame in platform.frames().into_iter().filter(|frame| frame.is_done) {
        let stream = &frame.body["stream"];
        let content = match frame.command.as_str() {
            "aibot_send_msg" => frame.body["markdown"]["content"].clone(),
            _ if stream["finish"] == true && streams.insert(stream["id"].to_string()) => stream["content"].clone(),
            _ => continue,
        };
        shown.entry(content.as_str().unwrap().to_owned()).or_default().push(frame.body);
    }
    shown
}

async fn is_connected(program: &Program) -> bool {
    let [_, admin] = program.addresses().await;
    Http(admin).get("/readyz").await.body.contains("helper: connected")
}

/// Observations that are pending, and dead letters.
async fn left(program: &Program) -> (f64, f64) {
    let [_, admin] = program.addresses().await;
    let metrics = Http(admin).get("/metrics").await.body;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse::<f64>().unwrap())
    };
    (value("echostr_observations_waiting "), value("echostr_dead_letters "))
}

/// Everything was answered once, and nothing is left.
async fn check(platform: &FakeBots, program: &Program, messages: usize, most_dead: f64) {
    let complete = time::timeout(PATIENCE, platform.until(|platform| shown(platform).len() == messages)).await;
    if complete.is_err() {
        let shown = shown(platform);
        for at in (0..messages).filter(|at| !shown.contains_key(&format!("echo: {at}"))) {
            println!("not answered: m{at}: {:#?}", platform.answers(&format!("m{at}")));
        }
        panic!("{} of {messages} were answered; {}", shown.len(), program.log());
    }
    until(async || left(program).await.0 == 0.0).await;
    // An answer that a killed process has sent, without knowing whether it arrived, is sent again where that shows once. Where
    // the platform has forgotten the message it is not, and that is said.
    let (_, dead) = left(program).await;
    assert!(dead <= most_dead, "{dead} dead letters");
    let shown = shown(platform);
    let wrong: Vec<_> = shown.iter().filter(|(_, answers)| answers.len() != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Has messages sent while the process that has the connection is killed or asked to stop, again and again.
async fn kill_under_load(platform: &FakeBots, nodes: usize, most_dead: f64, start: impl Fn() -> Program) {
    const MESSAGES: usize = 150;
    let mut programs: Vec<_> = (0..nodes).map(|_| start()).collect();
    for at in 0..MESSAGES {
        platform.push(BOT_ID, text(&format!("m{at}"), &at.to_string()));
        time::sleep(Duration::from_millis(20)).await;
        if at % 40 == 20 {
            // The one that has the connection, which the others learn of no word.
            let mut holder = None;
            until(async || {
                for (at, program) in programs.iter().enumerate() {
                    if is_connected(program).await {
                        holder = Some(at);
                    }
                }
                holder.is_some()
            })
            .await;
            let program = programs.remove(holder.unwrap());
            match at % 80 {
                20 => drop(program),
                _ => assert!(program.stop().await),
            }
            programs.push(start());
        }
    }
    check(platform, &programs[0], MESSAGES, most_dead).await;
    let subscribed = platform.subscriptions();
    assert!(subscribed.len() >= 4, "{subscribed:?}");
    assert!(subscribed.windows(2).all(|two| two[0].overlap(&two[1]) < LEASE), "{subscribed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_answer_every_message_once_although_the_one_that_is_connected_is_killed() {
    let Some(url) = database().await else { return };
    let platform = platform().await;
    let folder = TempDir::new().unwrap();
    let config = write_config(folder.path(), &url, &platform.url());
    kill_under_load(&platform, 2, 0.0, || Program::serve(&config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_no_message_unanswered_behind_and_none_twice() {
    for (forgets_requests, most_dead) in [(false, 0.0), (true, 8.0)] {
        let platform = platform().await;
        platform.set_faults(BotFaults { forgets_requests, ..BotFaults::default() });
        let folder = TempDir::new().unwrap();
        let journal = format!("sqlite://{}", folder.path().join("journal.db").display());
        let config = write_config(folder.path(), &journal, &platform.url());
        kill_under_load(&platform, 1, most_dead, || Program::serve(&config)).await;
    }
}

/// Waits for `go` in its first run, in which it says that it began.
fn held(runs: &Arc<AtomicU32>, began: &Arc<Notify>, go: &Arc<Notify>) -> Hooks {
    let (runs, began, go) = (Arc::clone(runs), Arc::clone(began), Arc::clone(go));
    Hooks::default().on(move |message: wecom_bot::TextMessage, _: Context| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        let (began, go) = (Arc::clone(&began), Arc::clone(&go));
        async move {
            if run == 0 {
                began.notify_one();
                go.notified().await;
            }
            Ok(Reply::markdown(message.text.content))
        }
    })
}

#[tokio::test]
async fn a_message_whose_process_is_gone_is_answered_by_the_next_one() {
    let folder = TempDir::new().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    let Some(postgres) = database().await else { return };
    for url in [sqlite, postgres] {
        let platform = platform().await;
        platform.set_faults(BotFaults { never_repeats: true, forgets_requests: true, ..BotFaults::default() });
        let (runs, began, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let doomed = Runtime::new().unwrap();
        let (hooks, at, accounts) = (held(&runs, &began, &go), url.clone(), accounts(&platform, ""));
        doomed.spawn(async move {
            let _server = TestServer::start_on(&at, "", &accounts, hooks).await;
            std::future::pending::<()>().await;
        });
        platform.push(BOT_ID, text("m1", "hello"));
        within(began.notified()).await;
        // Nobody says good-bye.
        tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
        let server = start(&platform, &url, held(&runs, &began, &go)).await;
        within(platform.until(|platform| !platform.sent().is_empty())).await;
        until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
        let sent = platform.sent();
        assert_eq!((sent.len(), &sent[0].body["markdown"]["content"]), (1, &Json::from("hello")));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_the_process_before_was_killed() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    // The first run gets stuck after some words.
    let runs = Arc::new(AtomicU32::new(0));
    let hooks = || {
        let runs = Arc::clone(&runs);
        Hooks::default().on(move |_: wecom_bot::TextMessage, _: Context| {
            let is_first = runs.fetch_add(1, Ordering::SeqCst) == 0;
            let words = stream::iter(["The ", "answer ", "is 42."].map(str::to_owned).into_iter().take(if is_first {
                2
            } else {
                3
            }));
            let rest = if is_first { stream::pending().left_stream() } else { stream::empty().right_stream() };
            async move { Ok(Reply::stream(words.chain(rest))) }
        })
    };
    let platform = platform().await;
    let doomed = Runtime::new().unwrap();
    let (own, at, accounts) = (hooks(), url.clone(), accounts(&platform, ""));
    doomed.spawn(async move {
        let _server = TestServer::start_on(&at, "", &accounts, own).await;
        std::future::pending::<()>().await;
    });
    platform.push(BOT_ID, text("m1", "?"));
    let begun =
        |platform: &FakeBots| platform.answers("m1").iter().any(|it| it.body["stream"]["content"] == "The answer ");
    within(platform.until(begun)).await;
    tokio::task::spawn_blocking(move || doomed.shutdown_timeout(Duration::from_secs(10))).await.unwrap();
    let server = start(&platform, &url, hooks()).await;
    assert_eq!(answered(&platform, "m1").await.body["stream"]["content"], "The answer is 42.");
    until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
    let frames = platform.answers("m1");
    assert!(frames.iter().all(|it| it.body["stream"]["id"] == frames[0].body["stream"]["id"]), "{frames:?}");
    let lengths: Vec<_> = frames.iter().map(|it| it.body["stream"]["content"].as_str().unwrap().len()).collect();
    assert!(lengths.is_sorted(), "what users have seen gets no shorter: {lengths:?}");
    assert_eq!((ends(&platform, "m1").len(), runs.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_finishes_and_hands_over_at_once() {
    let Some(url) = database().await else { return };
    let platform = platform().await;
    let (runs, began, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let a = start(&platform, &url, held(&runs, &began, &go)).await;
    within(platform.until(|platform| platform.subscriptions().len() == 1)).await;
    let b_runs = Arc::new(AtomicU32::new(0));
    let b = start(&platform, &url, echo(&b_runs)).await;
    until(async || b.admin.get("/readyz").await.body.contains("helper: another node has the connection")).await;
    platform.push(BOT_ID, text("m1", "one"));
    within(began.notified()).await;
    let stopping = a.stop();
    until(async || {
        go.notify_one();
        ends(&platform, "m1").len() == 1
    })
    .await;
    assert!(stopping.await.unwrap());
    let handed = Instant::now();
    within(platform.until(|platform| platform.subscriptions().len() == 2)).await;
    assert!(handed.elapsed() < Duration::from_secs(3), "{:?}", handed.elapsed());
    let subscribed = platform.subscriptions();
    assert_eq!(subscribed[0].overlap(&subscribed[1]), Duration::ZERO, "never two");
    platform.push_again("m1");
    platform.push(BOT_ID, text("m2", "two"));
    answered(&platform, "m2").await;
    until(async || b.metric("echostr_observations_waiting").await == 0.0).await;
    assert_eq!((ends(&platform, "m1").len(), b_runs.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_node_that_loses_the_journal_closes_its_connection_within_the_lease() {
    let Some(url) = database().await else { return };
    let platform = platform().await;
    platform.set_faults(BotFaults { keeps_older: true, ..BotFaults::default() });
    let (user, rest) = url.split_once('@').unwrap();
    let (address, name) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(address.parse().unwrap()).await.unwrap();
    let proxied = format!("{user}@{}/{name}", proxy.address());
    let runs = Arc::new(AtomicU32::new(0));
    let _a = start(&platform, &proxied, echo(&runs)).await;
    within(platform.until(|platform| platform.subscriptions().len() == 1)).await;
    let _b = start(&platform, &url, echo(&runs)).await;
    proxy.begin(Fault::Stall);
    within(platform.until(|platform| platform.subscriptions().len() == 2)).await;
    within(platform.until(|platform| platform.subscriptions()[0].closed.is_some())).await;
    let subscribed = platform.subscriptions();
    assert!(subscribed[0].overlap(&subscribed[1]) < LEASE, "{subscribed:?}");
    platform.push(BOT_ID, text("m1", "hello"));
    answered(&platform, "m1").await;
}

#[tokio::test]
async fn a_node_that_cannot_reach_the_platform_leaves_the_bot_to_one_that_can() {
    let Some(url) = database().await else { return };
    let platform = platform().await;
    let nowhere = account_at("ws://127.0.0.1:1", "");
    let a = TestServer::start_on(&url, "", &nowhere, Hooks::default()).await;
    until(async || a.admin.get("/readyz").await.body.contains("NOT connected: the platform cannot be reached")).await;
    let _b = start(&platform, &url, echo(&Arc::new(AtomicU32::new(0)))).await;
    platform.push(BOT_ID, text("m1", "hello"));
    answered(&platform, "m1").await;
    assert_eq!(a.admin.get("/readyz").await.status, 200);
}
