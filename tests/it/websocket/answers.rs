//! What a message is answered, and what handlers do over the connection.

use std::sync::{Arc, Mutex};

use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    replies::wecom_bot::Reply,
    simulate::api::BotFrame,
    websocket::{Chat, MediaKind},
};
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;

use super::{BOT_ID, answered, ends, message, platform, start, text, within};
use crate::bot::{answering, card};

#[tokio::test]
async fn every_kind_of_answer_goes_out_by_its_own_command() {
    let platform = platform().await;
    let server = start(&platform, "memory:", answering()).await;
    platform.push(BOT_ID, text("m1", "**42**"));
    platform.push(BOT_ID, message("m2", "image", json!({ "url": "https://dl.example.com/1", "aeskey": "k" })));
    platform.push(BOT_ID, message("m3", "event", json!({ "eventtype": "enter_chat" })));
    let click = json!({"card_type": "vote_interaction", "event_key": "k", "task_id": "t1"});
    let click = json!({ "eventtype": "template_card_event", "template_card_event": click });
    platform.push(BOT_ID, message("m4", "event", click));
    let expected = [
        ("m1", "aibot_respond_msg", "/stream/content", json!("**42**")),
        ("m2", "aibot_respond_msg", "/template_card", card()),
        ("m3", "aibot_respond_welcome_msg", "/text/content", json!("hello")),
        ("m4", "aibot_respond_update_msg", "/template_card", card()),
    ];
    for (id, command, at, content) in expected {
        let frame = answered(&platform, id).await;
        assert_eq!((&*frame.command, frame.body.pointer(at)), (command, Some(&content)), "{frame:?}");
    }
    // A message that is repeated has its answer.
    platform.push_again("m1");
    platform.push(BOT_ID, text("m5", "last"));
    answered(&platform, "m5").await;
    assert_eq!(ends(&platform, "m1").len(), 1);
    assert!(server.admin.get("/readyz").await.body.contains("wecom_bot/helper: connected"));
    assert_eq!(server.metric("echostr_websocket_connected{platform=\"wecom_bot\",account=\"helper\"}").await, 1.0);
    assert!(server.stop().await.unwrap());
    assert_eq!(platform.subscriptions().len(), 1);
    within(platform.until(|platform| platform.subscriptions()[0].until.is_some())).await;
}

#[tokio::test]
async fn a_streamed_answer_is_pushed_as_it_grows() {
    let (model, said) = mpsc::unbounded_channel::<String>();
    let said = Arc::new(Mutex::new(Some(said)));
    let hooks = Hooks::default().on(move |_: wecom_bot::TextMessage, _: Context| {
        let mut said = said.lock().unwrap().take().unwrap();
        async move { Ok(Reply::stream(stream::poll_fn(move |context| said.poll_recv(context)))) }
    });
    let platform = platform().await;
    let _server = start(&platform, "memory:", hooks).await;
    platform.push(BOT_ID, text("m1", "?"));
    for (piece, so_far) in [("The ", "The "), ("answer ", "The answer "), ("is **42**.", "The answer is **42**.")] {
        model.send(piece.to_owned()).unwrap();
        let shows = |frame: &BotFrame| frame.body["stream"]["content"] == so_far;
        within(platform.until(|platform| platform.answers("m1").iter().any(shows))).await;
    }
    drop(model);
    let last = answered(&platform, "m1").await;
    assert_eq!(last.body["stream"]["content"], "The answer is **42**.");
    let frames = platform.answers("m1");
    assert!(frames.iter().all(|frame| frame.body["stream"]["id"] == last.body["stream"]["id"]));
    assert!(frames.iter().all(|frame| frame.request_id == last.request_id && frame.command == "aibot_respond_msg"));
    assert_eq!(frames.iter().filter(|frame| frame.body["stream"]["finish"] == true).count(), 1);
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_the_text_so_far_and_one_without_text_is_not_answered() {
    let hooks = Hooks::default().on(async |message: wecom_bot::TextMessage, _: Context| {
        let pieces = match message.text.content.as_str() {
            "late" => vec![Ok("so far".to_owned()), Err("broken".into())],
            _ => vec![Err("broken".into())],
        };
        Ok(Reply::try_stream(stream::iter(pieces)))
    });
    let platform = platform().await;
    let server = start(&platform, "memory:", hooks).await;
    platform.push(BOT_ID, text("m1", "at once"));
    platform.push(BOT_ID, text("m2", "late"));
    assert_eq!(answered(&platform, "m2").await.body["stream"]["content"], "so far");
    let failed =
        "echostr_deliveries_total{platform=\"wecom_bot\",account=\"helper\",outcome=\"defaulted\",reason=\"error\"}";
    crate::support::until(async || server.metric(failed).await == 1.0).await;
    assert_eq!(platform.answers("m1"), []);
    // Nothing is left to be answered.
    crate::support::until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
}

#[tokio::test]
async fn a_responder_may_take_longer_than_a_request_would_wait() {
    let hooks = Hooks::default().on(async |_: wecom_bot::TextMessage, context: Context| {
        assert!(context.remaining().as_secs() > 200);
        tokio::time::sleep(std::time::Duration::from_millis(5500)).await;
        Ok(Reply::markdown("at last"))
    });
    let platform = platform().await;
    let _server = start(&platform, "memory:", hooks).await;
    platform.push(BOT_ID, text("m1", "?"));
    assert_eq!(answered(&platform, "m1").await.body["stream"]["content"], "at last");
}

#[tokio::test]
async fn handlers_send_messages_and_files_that_nobody_asked_for() {
    let file: Vec<u8> = (0..1_300_000_u32).map(|at| at as u8).collect();
    let sent = file.clone();
    let hooks = Hooks::default().observe("sends", move |message: wecom_bot::TextMessage, context: Context| {
        let file = sent.clone();
        async move {
            let bot = context.bot()?;
            let media = bot.upload(MediaKind::File, "report.bin", &file).await?;
            bot.send(Chat::Group("wr1"), "file", json!({ "media_id": media })).await?;
            bot.send_markdown(Chat::User(message.from_user()), "**sent**").await?;
            assert!(bot.upload(MediaKind::File, "none", &[]).await.is_err());
            Ok(())
        }
    });
    let platform = platform().await;
    let server = start(&platform, "memory:", hooks).await;
    platform.push(BOT_ID, text("m1", "the report"));
    within(platform.until(|platform| platform.sent().len() == 2)).await;
    let [group, user] = &platform.sent()[..] else { panic!("{:?}", platform.sent()) };
    assert_eq!((&group.body["chatid"], &group.body["chat_type"]), (&json!("wr1"), &json!(2)));
    let uploaded = platform.media(group.body["file"]["media_id"].as_str().unwrap());
    assert!(uploaded.as_ref() == Some(&file), "{:?} bytes", uploaded.map(|bytes| bytes.len()));
    let expected =
        json!({"chatid": "zhangsan", "chat_type": 1, "msgtype": "markdown", "markdown": {"content": "**sent**"}});
    assert_eq!(user.body, expected);
    let pieces: Vec<_> = platform.frames().into_iter().filter(|it| it.command == "aibot_upload_media_chunk").collect();
    assert_eq!(pieces.iter().map(|piece| piece.body["chunk_index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    drop(server);
}
