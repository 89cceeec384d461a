//! Connections that break, hang, are taken over, and what the platform sends that is no frame.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    replies::wecom_bot::Reply,
    simulate::api::{BotFaults, FakeBots},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{net::TcpStream, time};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{BOT_ID, SECRET, accounts, answered, echo, ends, message, platform, start, text, within, write_config};
use crate::support::{Log, TestServer, program::Program, until};

fn echoing() -> Hooks {
    echo(&Arc::new(AtomicU32::new(0)))
}

async fn connections(platform: &FakeBots, count: usize) {
    within(platform.until(|platform| platform.subscriptions().len() >= count)).await;
}

/// A client of somebody else, which subscribes for the bot.
async fn foreign_client(platform: &FakeBots) -> WebSocketStream<TcpStream> {
    let url = platform.url();
    let stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).await.unwrap();
    let (mut socket, _) = client_async(url.as_str(), stream).await.unwrap();
    let body = json!({ "bot_id": BOT_ID, "secret": SECRET });
    let subscribe = json!({ "cmd": "aibot_subscribe", "headers": { "req_id": "s" }, "body": body });
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("\"errcode\":0"));
    socket
}

#[tokio::test]
async fn a_zombie_is_noticed_and_what_it_swallowed_is_answered() {
    let platform = platform().await;
    let accounts = accounts(&platform, "ping_interval = \"1s\"");
    let server = TestServer::start_on("memory:", "", &accounts, echoing()).await;
    connections(&platform, 1).await;
    within(platform.until(|platform| platform.pings() >= 2)).await;
    assert_eq!(platform.subscriptions().len(), 1, "it answers");
    platform.set_faults(BotFaults { silent: true, ..BotFaults::default() });
    platform.push(BOT_ID, text("m1", "hello?"));
    within(platform.until(|platform| platform.subscriptions()[0].until.is_some())).await;
    platform.set_faults(BotFaults::default());
    assert_eq!(answered(&platform, "m1").await.body["stream"]["content"], "hello?");
    assert!(platform.subscriptions().len() >= 2);
    let broken = "echostr_websocket_connections_total{platform=\"wecom_bot\",account=\"helper\",result=\"broken\"}";
    assert!(server.metric(broken).await >= 1.0);
}

#[tokio::test]
async fn another_client_keeps_the_bot_that_it_has_taken() {
    let (log, _guard) = Log::begin();
    let platform = platform().await;
    let server = start(&platform, "memory:", echoing()).await;
    connections(&platform, 1).await;
    let mut foreign = foreign_client(&platform).await;
    let kicks = "echostr_websocket_kicks_total{platform=\"wecom_bot\",account=\"helper\"}";
    until(async || server.metric(kicks).await == 1.0).await;
    let ready = server.admin.get("/readyz").await;
    assert_eq!(ready.status, 200, "other accounts are served");
    assert!(ready.body.contains("wecom_bot/helper: NOT connected: another client uses this bot"), "{}", ready.body);
    assert_eq!(server.metric("echostr_websocket_connected{platform=\"wecom_bot\",account=\"helper\"}").await, 0.0);
    assert!(log.text().contains("ANOTHER CLIENT uses this bot"));
    // Nobody fights for it: the other one is not ended.
    let ended = time::timeout(Duration::from_secs(5), foreign.next()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(platform.subscriptions().len(), 2);
    let stopping = time::Instant::now();
    assert!(server.stop().await.unwrap());
    assert!(stopping.elapsed() < Duration::from_secs(5), "the pause does not delay a shutdown");
}

#[tokio::test]
async fn what_is_no_frame_is_ignored_and_a_broken_connection_is_made_again() {
    let (log, _guard) = Log::begin();
    let platform = platform().await;
    let _server = start(&platform, "memory:", echoing()).await;
    connections(&platform, 1).await;
    let nested = format!("{{\"cmd\":\"aibot_msg_callback\",\"body\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for odd in [
        "",
        "no JSON",
        "[]",
        "null",
        "{\"cmd\":7}",
        "{\"cmd\":\"aibot_msg_callback\"}",
        "{\"cmd\":\"aibot_msg_callback\",\"headers\":{},\"body\":null}",
        "{\"cmd\":\"aibot_msg_callback\",\"headers\":{\"req_id\":\"x\"},\"body\":\"text\"}",
        "{\"cmd\":\"aibot_event_callback\",\"headers\":{\"req_id\":\"x\"},\"body\":{\"msgtype\":\"event\",\"event\":[]}}",
        "{\"headers\":{\"req_id\":\"nobody asked\"},\"errcode\":0}",
        &nested,
    ] {
        platform.send_raw(BOT_ID, odd);
    }
    platform.push(BOT_ID, text("m1", "still there"));
    answered(&platform, "m1").await;
    assert_eq!(platform.subscriptions().len(), 1);
    platform.cut(BOT_ID);
    connections(&platform, 2).await;
    platform.push(BOT_ID, text("m2", "after a cut frame"));
    answered(&platform, "m2").await;
    platform.send_raw(BOT_ID, &format!("{{\"cmd\":\"{}\"}}", "x".repeat(1 << 20)));
    connections(&platform, 3).await;
    assert!(log.text().contains("a frame was larger than 1 MiB"));
    platform.push(BOT_ID, text("m3", "after a giant frame"));
    answered(&platform, "m3").await;
    assert!(["m1", "m2", "m3"].into_iter().all(|id| ends(&platform, id).len() == 1));
}

#[tokio::test]
async fn a_wrong_secret_is_said_and_never_shown() {
    let (log, _guard) = Log::begin();
    let platform = FakeBots::start().await.unwrap();
    platform.add_bot(BOT_ID, "another secret");
    let server = start(&platform, "memory:", echoing()).await;
    until(async || log.text().contains("the platform refused to subscribe: 40001")).await;
    let ready = server.admin.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("wecom_bot/helper: NOT connected: the platform refuses bot_id or secret"));
    // It is tried again: a console may be slow.
    platform.add_bot(BOT_ID, SECRET);
    connections(&platform, 1).await;
    let metrics = server.admin.get("/metrics").await.body;
    assert!(metrics.contains("result=\"refused\"") && !metrics.contains(SECRET));
    drop(server);
    assert!(!log.text().contains(SECRET), "{}", log.text());
}

#[tokio::test]
async fn no_level_of_the_log_shows_a_secret_or_what_users_write() {
    let platform = platform().await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = write_config(folder.path(), "memory:", &platform.url());
    let program = Program::serve_with(&file, &[("RUST_LOG", "trace")]);
    platform.push(BOT_ID, text("m1", "hush-hush"));
    assert_eq!(answered(&platform, "m1").await.body["stream"]["content"], "echo: hush-hush");
    program.says(&["connected to"]).await;
    let log = program.log();
    assert!(log.contains("TRACE"), "it logs all that it can");
    assert!(!log.contains(SECRET) && !log.contains("hush-hush"), "{log}");
    assert!(program.stop().await);
}

#[tokio::test]
async fn a_late_acknowledgement_shows_no_answer_twice() {
    let card = || json!({"card_type": "text_notice", "main_title": {"title": "Job 7"}});
    let hooks =
        echoing().on(move |_: wecom_bot::ImageMessage, _: Context| async move { Ok(Reply::template_card(card())) });
    let platform = platform().await;
    let server = start(&platform, "memory:", hooks).await;
    connections(&platform, 1).await;
    platform.set_faults(BotFaults { acknowledge_after: Duration::from_millis(5500), ..BotFaults::default() });
    platform.push(BOT_ID, text("m1", "hello"));
    platform.push(BOT_ID, message("m2", "image", json!({ "url": "https://dl.example.com/1" })));
    // A stream is sent again under its id, and so shows once.
    until(async || ends(&platform, "m1").len() >= 2).await;
    let streams = ends(&platform, "m1");
    assert!(streams.iter().all(|frame| frame.body == streams[0].body), "{streams:?}");
    // A card has none: it is not sent again, and that is said.
    until(async || server.metric("echostr_dead_letters").await == 1.0).await;
    assert_eq!(ends(&platform, "m2").len(), 1);
    platform.set_faults(BotFaults::default());
    until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
    assert_eq!(platform.sent(), []);
}

#[tokio::test]
async fn an_answer_that_is_refused_for_now_is_sent_again() {
    let platform = platform().await;
    let _server = start(&platform, "memory:", echoing()).await;
    connections(&platform, 1).await;
    platform.set_faults(BotFaults { busy: 2, ..BotFaults::default() });
    platform.push(BOT_ID, text("m1", "hello"));
    within(platform.until(|platform| ends(platform, "m1").iter().any(|frame| frame.is_done))).await;
    assert_eq!(ends(&platform, "m1").iter().filter(|frame| frame.is_done).count(), 1);
}

#[tokio::test]
async fn an_answer_outlives_the_connection_that_asked_for_it() {
    let (go, gone) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (wait, began) = (Arc::clone(&go), Arc::clone(&gone));
    let hooks = Hooks::default().on(move |message: wecom_bot::TextMessage, _: Context| {
        let (wait, began) = (Arc::clone(&wait), Arc::clone(&began));
        async move {
            began.notify_one();
            wait.notified().await;
            Ok(Reply::markdown(message.text.content))
        }
    });
    let platform = platform().await;
    let server = start(&platform, "memory:", hooks).await;
    // By the id of the old connection; as a message of its own; and by a new id.
    for (id, forgets_requests, never_repeats, sent) in
        [("m1", false, true, 0), ("m2", true, true, 1), ("m3", true, false, 1)]
    {
        platform.set_faults(BotFaults { forgets_requests, never_repeats, ..BotFaults::default() });
        let before = platform.subscriptions().len().max(1);
        platform.push(BOT_ID, text(id, "hello"));
        within(gone.notified()).await;
        platform.cut(BOT_ID);
        connections(&platform, before + 1).await;
        go.notify_one();
        until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
        let done = ends(&platform, id).iter().filter(|frame| frame.is_done).count();
        assert_eq!((done, platform.sent().len()), (usize::from(id != "m2"), sent), "{id}");
    }
    let sent = &platform.sent()[0].body;
    let expected =
        json!({"chatid": "zhangsan", "chat_type": 1, "msgtype": "markdown", "markdown": {"content": "hello"}});
    assert_eq!(*sent, expected);
}

#[tokio::test]
async fn an_answer_whose_acknowledgement_is_lost_shows_once() {
    let platform = platform().await;
    let server = start(&platform, "memory:", echoing()).await;
    connections(&platform, 1).await;
    platform.set_faults(BotFaults { cut_on_answer: 1, ..BotFaults::default() });
    platform.push(BOT_ID, text("m1", "hello"));
    connections(&platform, 2).await;
    until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
    let ends = ends(&platform, "m1");
    assert!(!ends.is_empty() && ends.iter().all(|frame| frame.body == ends[0].body), "{ends:?}");
    assert_eq!((platform.sent().len(), server.metric("echostr_dead_letters").await), (0, 0.0));
}

#[tokio::test]
async fn more_messages_than_may_be_in_flight_wait_and_are_all_answered() {
    let hooks = Hooks::default().on(async |message: wecom_bot::TextMessage, _: Context| {
        time::sleep(Duration::from_millis(10)).await;
        Ok(Reply::markdown(message.text.content))
    });
    let platform = platform().await;
    let accounts = accounts(&platform, "max_in_flight = 1");
    let server = TestServer::start_on("memory:", "", &accounts, hooks).await;
    for at in 0..40 {
        platform.push(BOT_ID, text(&format!("m{at}"), "hello"));
    }
    for at in 0..40 {
        answered(&platform, &format!("m{at}")).await;
    }
    until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
    assert!((0..40).all(|at| ends(&platform, &format!("m{at}")).len() == 1));
}

#[tokio::test]
async fn a_task_that_panics_is_started_again_and_connects_at_once() {
    let platform = platform().await;
    let server = start(&platform, "memory:", echoing()).await;
    connections(&platform, 1).await;
    assert!(server.supervisor.inject_panic("websocket wecom_bot/helper"));
    let again = time::Instant::now();
    connections(&platform, 2).await;
    assert!(again.elapsed() < Duration::from_secs(5), "the lease is not waited for");
    platform.push(BOT_ID, text("m1", "hello"));
    answered(&platform, "m1").await;
    until(async || server.admin.get("/readyz").await.status == 200).await;
}
