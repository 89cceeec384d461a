//! A server that is fed as the platforms would: every platform, the API with its faults, observers, repeats.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use echostr::{
    config::Config,
    events::{im, miniprogram, mp, openplatform, wecom, wecom_bot, wecom_kf, wecom_suite},
    hooks::{Context, HandlerError, Hooks, RawEvent},
    replies::{self, RawReply, im::BeforePrivateMessageSendResp},
};
use echostr_testing::{FakeApi, Faults, NOW, TestServer, push, sample};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

fn hooks() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, context: Context| {
            Ok(replies::mp::Reply::text(format!("{} {}", context.account(), message.content)))
        })
        .on(async |_: wecom::TextMessage, context: Context| Ok(replies::wecom::Reply::text(context.account())))
        .on(async |_: wecom_bot::TextMessage, _: Context| {
            // The last chunk comes after the first answer.
            let late = stream::once(async {
                tokio::task::yield_now().await;
                "late".to_owned()
            });
            Ok(replies::wecom_bot::Reply::stream(stream::iter(["not ".to_owned()]).chain(late)))
        })
        .on(async |message: wecom_kf::TextMessage, _: Context| {
            Ok(replies::wecom_kf::Reply::text(message.text.content.to_uppercase()))
        })
        .on(async |_: wecom_kf::EnterSession, _: Context| Ok(replies::wecom_kf::EventReply::text("welcome")))
        .on(async |_: im::BeforePrivateMessageSend, _: Context| Ok(BeforePrivateMessageSendResp::deny(120_001, "no")?))
}

#[tokio::test]
async fn every_platform_is_answered_and_opened() {
    let server = TestServer::start(hooks()).await;
    let mut message: mp::TextMessage = sample();
    message.content = "<hello> ]]> 你好".to_owned();
    let reply = server.send(&message).await;
    assert_eq!((reply.text().as_deref(), reply.is_sealed()), (Some("mp/test <hello> ]]> 你好"), true));
    assert_eq!((reply.field("MsgType").as_deref(), &reply.json()["MsgType"]), (Some("text"), &json!("text")));

    let reply = server.account("openplatform/test").send(&message).await;
    assert_eq!(reply.text().as_deref(), Some("openplatform/test <hello> ]]> 你好"));
    assert!(server.send(&sample::<openplatform::Authorized>()).await.is_empty());

    assert!(server.send(&sample::<miniprogram::UserEnterTempSession>()).await.is_empty());
    assert_eq!(server.send(&sample::<wecom::TextMessage>()).await.text().as_deref(), Some("wecom/test"));
    assert!(server.send(&sample::<wecom_suite::CreateAuth>()).await.is_empty());
    assert_eq!(server.send(&sample::<wecom_bot::TextMessage>()).await.text().as_deref(), Some("not late"));

    let reply = server.send(&sample::<im::BeforePrivateMessageSend>()).await;
    assert_eq!((&reply.json()["ErrorCode"], reply.is_empty()), (&json!(120_001), false));
}

#[tokio::test]
async fn customer_service_is_pulled_and_answered_whatever_its_api_does() {
    let server = TestServer::start(hooks()).await;
    let mut message: wecom_kf::TextMessage = sample();
    message.text.content = "hello".to_owned();
    let faults = Faults { limited: 0.3, duplicates: 0.5, shuffled: 0.5, revoked: 0.2, ..Faults::default() };
    server.api().set_faults(faults);
    for _ in 0..3 {
        assert_eq!(server.send(&message).await.text().as_deref(), Some("HELLO"));
    }
    server.api().set_faults(Faults::default());
    assert_eq!(server.send(&sample::<wecom_kf::EnterSession>()).await.text().as_deref(), Some("welcome"));
    assert!(server.send(&sample::<wecom_kf::ImageMessage>()).await.is_empty());
    assert_eq!(server.api().sent().len(), 4);
}

#[tokio::test]
async fn observers_are_driven_to_their_end() {
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    let hooks = Hooks::default().observe("fails", async |_: mp::Subscribe, _: Context| Err("always".into())).observe(
        "flaky",
        move |_: mp::Subscribe, context: Context| {
            let count = Arc::clone(&count);
            async move {
                if context.attempt() < 3 {
                    return Err("not yet".into());
                }
                assert_eq!(context.clock().now(), NOW + 3600);
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        },
    );
    let server = TestServer::builder().config("[observers]\nmax_attempts = 5").start(hooks).await;
    server.clock().set(NOW + 3600);
    for _ in 0..10 {
        assert!(server.send(&sample::<mp::Subscribe>()).await.is_empty());
    }
    assert_eq!(server.observed().await, 10, "dead letters");
    assert_eq!(seen.load(Ordering::Relaxed), 10);
    assert!(server.stop().await);
}

#[tokio::test]
async fn the_same_event_again_is_a_repeat() {
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let server = TestServer::start(Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let run = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(replies::mp::Reply::text(format!("run {run}"))) }
    }))
    .await;
    let message: mp::TextMessage = sample();
    for _ in 0..2 {
        assert_eq!(server.send(&message).await.text().as_deref(), Some("run 0"));
    }
    assert_eq!(server.send(&sample::<mp::TextMessage>()).await.text().as_deref(), Some("run 1"));
}

#[tokio::test]
async fn a_payload_that_nobody_knows_can_be_delivered() {
    let hooks = Hooks::default().on_any("*", async |event: RawEvent, _: Context| {
        Ok(RawReply::passive(replies::mp::Reply::text(event.event_type)))
    });
    let server = TestServer::start(hooks).await;
    let mut unknown = push(&sample::<mp::Subscribe>());
    unknown.payload = unknown.payload.replace("subscribe", "brand_new");
    let answer = server.account("mp/test").deliver(&unknown).await;
    assert!(answer.fault.is_none() && answer.body.contains("mp.event.unknown"), "{answer:?}");
}

#[tokio::test]
#[should_panic(expected = "mp.message.text: the reply does not go back to who wrote")]
async fn what_the_platform_would_not_take_fails_the_test() {
    let hooks = Hooks::default().on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::json(json!({ "a": 1 }))));
    TestServer::start(hooks).await.send(&sample::<mp::TextMessage>()).await;
}

#[tokio::test]
async fn a_context_has_what_the_server_gives_it() {
    let request: im::BeforeFriendAdd = sample();
    let context = echostr_testing::context(&request).query("ClientIP", "203.0.113.9").build();
    assert_eq!((context.account(), context.raw().event_type), ("im/test", "im.command.sns.prev_friend_add"));
    assert_eq!(context.raw().query("ClientIP").as_deref(), Some("203.0.113.9"));
    assert_eq!((context.clock().now(), context.attempt()), (NOW, 1));
    assert!(context.api().is_err());

    let message: mp::TextMessage = sample();
    let of_other = echostr_testing::context(&message).query("authorizer_appid", "wx01").account("openplatform/agency");
    assert_eq!(of_other.clone().build().raw().authorizer().as_deref(), Some("wx01"));
    let (first, second) = (of_other.clone().build(), of_other.attempt(2).build());
    assert_eq!((first.event_id(), first.attempt() + 1), (second.event_id(), second.attempt()));

    let api = FakeApi::start(1).await.unwrap();
    api.set_answer("cgi-bin/user/info", json!({ "errcode": 40003, "errmsg": "invalid openid" }));
    let context = echostr_testing::context(&message).account("mp/shop").api(&api).build();
    let refused = context.api().unwrap().call("cgi-bin/user/info", &json!({})).await.unwrap_err();
    assert_eq!((refused.code(), context.api().unwrap().account()), (Some(40003), "mp/shop"));
}

/// What handlers share.
struct Shop {
    name: &'static str,
    seen: AtomicU32,
}

impl Shop {
    async fn next(&self) -> Result<u32, HandlerError> {
        Ok(self.seen.fetch_add(1, Ordering::Relaxed))
    }
}

async fn follow(shop: Arc<Shop>, _: mp::Subscribe, context: Context) -> Result<replies::mp::Reply, HandlerError> {
    Ok(replies::mp::Reply::text(format!("{}: {} of {}", context.account(), shop.next().await?, shop.name)))
}

/// A module of handlers that others share the state with.
fn menu(shop: &Arc<Shop>) -> Hooks {
    Hooks::with_shared(Arc::clone(shop))
        .on_any("mp/menu", async |shop, event, context| {
            let text = format!("{}: {} {}", context.account(), event.event_type, shop.name);
            Ok(RawReply::passive(replies::mp::Reply::text(text)))
        })
        .observe_any("menus", "mp/menu", async |shop, _, _| {
            shop.next().await?;
            Ok(())
        })
        .into()
}

#[tokio::test]
async fn handlers_share_a_state_without_a_clone_in_each() {
    let shop = Arc::new(Shop { name: "books", seen: AtomicU32::new(7) });
    let server = TestServer::builder()
        .start_with(async |config: &Config| {
            // What set-up waits for, spawns and makes, as it would connect to a database.
            tokio::spawn(async {}).await?;
            drop(reqwest::Client::new());
            let own = Hooks::with(config.accounts.len())
                .on(async |accounts, _: wecom::TextMessage, _| Ok(replies::wecom::Reply::text(format!("{accounts}"))));
            Ok(Hooks::with_shared(Arc::clone(&shop))
                .on(async |shop, message: mp::TextMessage, context| {
                    let number = shop.next().await?;
                    Ok(replies::mp::Reply::text(format!("{}: {number} {}", context.account(), message.content)))
                })
                .on(follow)
                .observe("follows", async |shop, event: mp::Subscribe, context| {
                    assert_eq!((shop.name, event.from_user().is_empty(), context.attempt()), ("books", false, 1));
                    Ok(())
                })
                .account("wecom/test", own)
                .merge(menu(&shop))
                .into())
        })
        .await;
    let mut message: mp::TextMessage = sample();
    message.content = "hi".to_owned();
    assert_eq!(server.send(&message).await.text().as_deref(), Some("mp/test: 7 hi"));
    assert_eq!(server.send(&sample::<mp::Subscribe>()).await.text().as_deref(), Some("mp/test: 8 of books"));
    assert_eq!(server.send(&sample::<mp::MenuClick>()).await.text().as_deref(), Some("mp/test: mp.event.click books"));
    let accounts = server.config().accounts.len().to_string();
    assert_eq!(server.send(&sample::<wecom::TextMessage>()).await.text(), Some(accounts));
    assert_eq!(server.observed().await, 0, "dead letters");
    assert_eq!(shop.seen.load(Ordering::Relaxed), 10);
}
