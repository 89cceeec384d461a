//! How long the platform waits depends on the event, too.

use std::future::pending;

use echostr::{
    events::miniprogram,
    hooks::{Context, Hooks},
    simulate::Push,
};
use tokio::pin;

use crate::support::{
    NOW, TestServer,
    platform::Signed,
    server::{ACCOUNTS, MINI},
};

fn sample(id: &str, nonce: &str) -> Signed {
    let entries = echostr::catalog::entries(echostr::event::Platform::MiniProgram).unwrap();
    let entry = entries.iter().find(|entry| entry.id == id).unwrap();
    MINI.safe_json(&Push::sample(entry, None, &[], NOW).unwrap().payload, nonce)
}

#[tokio::test]
async fn an_event_for_which_the_platform_waits_less_is_answered_earlier() {
    let hooks = Hooks::default()
        .on(async |_: miniprogram::StoreSupplyOrderNew, _: Context| pending().await)
        .on(async |_: miniprogram::StoreOrderSettle, _: Context| pending().await);
    let server = TestServer::start_with("", ACCOUNTS, hooks).await;
    let brief = sample("miniprogram.event.supply_order_new", "a");
    let usual = sample("miniprogram.event.channels_ec_order_settle", "b");
    let (brief, usual) = (server.post("/miniprogram/game", &brief), server.post("/miniprogram/game", &usual));
    pin!(brief, usual);
    tokio::select! {
        answer = &mut brief => assert_eq!((answer.status, answer.body.as_str()), (200, "success")),
        answer = &mut usual => panic!("the platform waits longer for the other: {} {}", answer.status, answer.body),
    }
    assert_eq!(usual.await.body, "success");
}

#[tokio::test]
async fn a_shorter_deadline_of_the_account_counts() {
    let hooks = Hooks::default().on(async |_: miniprogram::StoreSupplyOrderNew, context: Context| {
        assert!(context.remaining() < std::time::Duration::from_millis(101));
        pending().await
    });
    let accounts = ACCOUNTS.replacen("[miniprogram.game]", "[miniprogram.game]\ndeadline = \"100ms\"", 1);
    let server = TestServer::start_with("", &accounts, hooks).await;
    let answer = server.post("/miniprogram/game", &sample("miniprogram.event.supply_order_new", "a")).await;
    assert_eq!(answer.body, "success");
    let line =
        "echostr_deliveries_total{platform=\"miniprogram\",account=\"game\",outcome=\"defaulted\",reason=\"timeout\"}";
    assert_eq!(server.metric(line).await, 1.0);
}
