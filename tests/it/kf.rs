//! WeCom customer service, from the callback over the pull to the answer.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use echostr::{
    events::wecom_kf,
    hooks::{Context, Hooks, RawEvent},
    replies::wecom_kf::{EventReply, Menu, Reply, Transfer},
    simulate::api::{FakeApi, Faults},
};
use serde_json::json;

use crate::support::{
    TestServer,
    api::{accounts, announce, announce_with, sent},
    postgres::database,
    until, wait_for,
};

const DESK: &str = "wkDesk1";

fn echoing() -> Hooks {
    Hooks::default()
        .on(async |message: wecom_kf::TextMessage, _: Context| {
            Ok(Reply::text(format!("echo: {}", message.text.content)))
        })
        .on(async |_: wecom_kf::EnterSession, _: Context| Ok(EventReply::from(Menu::new("Welcome!").click("a", "A"))))
}

async fn start(api: &FakeApi, hooks: Hooks) -> TestServer {
    TestServer::start_with("", &accounts(api, ""), hooks).await
}

/// The texts that were sent to customers.
fn texts(sent: &[echostr::simulate::api::Sent]) -> Vec<(String, String)> {
    sent.iter()
        .map(|one| (one.to.clone(), one.body["text"]["content"].as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test]
async fn a_callback_brings_the_messages_and_they_are_answered() {
    let api = FakeApi::start(1).await.unwrap();
    let server = start(&api, echoing()).await;
    api.customer_writes(DESK, "wmAnn", "hello");
    api.customer_enters(DESK, "wmBob");
    let answer = announce(&server, &api, DESK, "a").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let sent = sent(&api, 2).await;
    let by_path = |path: &str| sent.iter().find(|one| one.path == path).unwrap();
    let message = by_path("/cgi-bin/kf/send_msg");
    assert_eq!((message.to.as_str(), &message.body["text"]["content"]), ("wmAnn", &json!("echo: hello")));
    assert_eq!(message.body["open_kfid"], DESK);
    let greeting = by_path("/cgi-bin/kf/send_msg_on_event");
    assert_eq!((greeting.to.as_str(), &greeting.body["msgmenu"]["head_content"]), ("wmBob", &json!("Welcome!")));
    // The same callback again, and one that announces nothing new.
    announce(&server, &api, DESK, "b").await;
    api.customer_writes(DESK, "wmAnn", "again");
    announce(&server, &api, DESK, "c").await;
    let sent = crate::support::api::sent(&api, 3).await;
    assert_eq!(texts(&sent[2..]), [("wmAnn".to_owned(), "echo: again".to_owned())]);
    assert_eq!(api.counts().tokens, 1);
}

#[tokio::test]
async fn observers_see_every_entry_and_servicers_are_not_answered() {
    let api = FakeApi::start(2).await.unwrap();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let all = Arc::clone(&seen);
    let hooks = echoing().observe_any("all", "wecom_kf.*", move |event: RawEvent, _: Context| {
        all.lock().unwrap().insert(event.event_type);
        async { Ok(()) }
    });
    let server = start(&api, hooks).await;
    let entry = |kind: &str, origin: u8| {
        let mut entry = json!({ "external_userid": "wmAnn", "origin": origin, "msgtype": kind });
        entry[kind] = json!({ "content": "x", "media_id": "m" });
        entry
    };
    api.add_entry(DESK, entry("text", 5));
    api.add_entry(DESK, entry("image", 3));
    api.add_entry(DESK, entry("hologram", 3));
    api.add_entry(DESK, json!({ "origin": 4, "msgtype": "event", "event": {"event_type": "moon_landing"} }));
    api.customer_writes(DESK, "wmAnn", "hello");
    announce(&server, &api, DESK, "a").await;
    let sent = sent(&api, 1).await;
    assert_eq!(texts(&sent), [("wmAnn".to_owned(), "echo: hello".to_owned())]);
    let expected =
        ["wecom_kf.message.text", "wecom_kf.message.image", "wecom_kf.message.unknown", "wecom_kf.event.unknown"];
    wait_for("all are seen", async || seen.lock().unwrap().len() == expected.len()).await;
    assert_eq!(*seen.lock().unwrap(), HashSet::from(expected));
}

#[tokio::test]
async fn pages_are_read_to_the_end_whatever_they_hold() {
    let api = FakeApi::start(3).await.unwrap();
    api.set_page(7);
    api.set_faults(Faults { empty_page: 0.4, duplicates: 0.4, shuffled: 0.4, ..Faults::default() });
    let server = start(&api, echoing()).await;
    for number in 0..100 {
        api.customer_writes(DESK, &format!("wm{number}"), &number.to_string());
    }
    announce(&server, &api, DESK, "a").await;
    let sent = sent(&api, 100).await;
    let expected: HashSet<_> = (0..100).map(|number| (format!("wm{number}"), format!("echo: {number}"))).collect();
    assert_eq!(texts(&sent).into_iter().collect::<HashSet<_>>(), expected);
    assert_eq!((sent.len(), api.counts().repeats), (100, 0));
}

#[tokio::test]
async fn a_burst_of_callbacks_shares_pulls() {
    let api = FakeApi::start(4).await.unwrap();
    let server = start(&api, echoing()).await;
    let mut callbacks = Vec::new();
    for number in 0..50 {
        api.customer_writes(DESK, &format!("wm{number}"), "hi");
        let token = api.callback_token(DESK);
        callbacks.push((token, format!("n{number}")));
    }
    let all = callbacks.iter().map(|(token, nonce)| announce_with(&server, token, DESK, nonce));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(sent(&api, 50).await.len(), 50);
    let pulls = api.counts().calls["/cgi-bin/kf/sync_msg"];
    assert!(pulls < 25, "{pulls} pulls for 50 callbacks");
}

#[tokio::test]
async fn a_token_of_the_callback_that_is_not_taken_is_left_out() {
    let api = FakeApi::start(5).await.unwrap();
    let server = start(&api, echoing()).await;
    api.customer_writes(DESK, "wmAnn", "hello");
    announce_with(&server, "FORGED", DESK, "a").await;
    assert_eq!(texts(&sent(&api, 1).await), [("wmAnn".to_owned(), "echo: hello".to_owned())]);
    assert_eq!(api.counts().calls["/cgi-bin/kf/sync_msg"], 2);
}

#[tokio::test]
async fn what_was_there_before_the_first_callback_is_left_unless_it_is_asked_for() {
    for (backlog, expected) in [("none", 1), ("3d", 2)] {
        let api = FakeApi::start(6).await.unwrap();
        let accounts = accounts(&api, "") + &format!("backlog = \"{backlog}\"\n");
        let server = TestServer::start_with("", &accounts, echoing()).await;
        api.add_old_entry(DESK, Duration::from_secs(3600), "wmOld");
        api.customer_writes(DESK, "wmNew", "hello");
        announce(&server, &api, DESK, "a").await;
        let answered = sent(&api, expected).await;
        assert!(answered.iter().any(|one| one.to == "wmNew"), "{backlog}");
        assert_eq!(answered.iter().any(|one| one.to == "wmOld"), backlog == "3d");
    }
}

#[tokio::test]
async fn every_fault_is_survived_and_nothing_is_sent_twice() {
    let api = FakeApi::start(7).await.unwrap();
    api.set_page(20);
    api.set_faults(Faults {
        bad_gateway: 0.03,
        busy: 0.03,
        limited: 0.02,
        garbage: 0.03,
        cut: 0.05,
        silent: 0.005,
        empty_page: 0.1,
        duplicates: 0.1,
        shuffled: 0.1,
        revoked: 0.02,
    });
    let accounts = accounts(&api, "max_attempts = 100").replace("timeout = \"2s\"", "timeout = \"200ms\"");
    let server = TestServer::start_with("", &accounts, echoing()).await;
    for number in 0..200 {
        api.customer_writes(DESK, &format!("wm{number}"), &number.to_string());
        if number % 20 == 0 {
            announce(&server, &api, DESK, &format!("n{number}")).await;
        }
    }
    announce(&server, &api, DESK, "last").await;
    let sent = sent(&api, 200).await;
    let expected: HashSet<_> = (0..200).map(|number| (format!("wm{number}"), format!("echo: {number}"))).collect();
    assert_eq!(texts(&sent).into_iter().collect::<HashSet<_>>(), expected);
    assert_eq!(sent.len(), 200);
    let counts = api.counts();
    assert!(counts.tokens <= counts.revocations + 1, "{counts:?}");
}

#[tokio::test]
async fn a_limit_of_access_tokens_is_over_after_its_pause() {
    let api = FakeApi::start(9).await.unwrap();
    api.set_faults(Faults { limited: 1.0, ..Faults::default() });
    let server = TestServer::start_with("", &accounts(&api, ""), echoing()).await;
    api.customer_writes(DESK, "wm1", "hi");
    announce(&server, &api, DESK, "a").await;
    wait_for("a token was asked for", async || api.counts().calls.contains_key("/cgi-bin/gettoken")).await;
    api.set_faults(Faults::default());
    // The pause is 50 ms; it was always a minute.
    let sent = tokio::time::timeout(Duration::from_secs(20), api.sent_at_least(1)).await;
    assert_eq!(texts(&sent.expect("nothing was sent")), [("wm1".to_owned(), "echo: hi".to_owned())]);
}

#[tokio::test]
async fn a_responder_that_fails_is_asked_again_and_a_final_refusal_is_a_dead_letter() {
    let api = FakeApi::start(8).await.unwrap();
    let hooks = Hooks::default().on(async |message: wecom_kf::TextMessage, context: Context| {
        match (message.text.content.as_str(), context.attempt()) {
            ("fails once", 1) => Err("not yet".into()),
            ("panics once", 1) => panic!("a bug"),
            (text, _) => Ok(Reply::text(text)),
        }
    });
    let server = start(&api, hooks).await;
    api.customer_writes(DESK, "wmAnn", "fails once");
    api.customer_writes(DESK, "wmBob", "panics once");
    // The customer has never written, as far as the platform knows.
    let text = json!({ "content": "barred" });
    api.add_entry(DESK, json!({ "external_userid": "wmEve", "origin": 4, "msgtype": "text", "text": text }));
    announce(&server, &api, DESK, "a").await;
    assert_eq!(sent(&api, 2).await.len(), 2);
    let dead = "echostr_observations_total{result=\"dead\"}";
    wait_for(dead, async || server.metric(dead).await == 1.0).await;
}

#[tokio::test]
async fn two_nodes_pull_and_answer_once_with_one_token() {
    let Some(url) = database().await else { return };
    let api = FakeApi::start(9).await.unwrap();
    api.set_page(5);
    let accounts = accounts(&api, "");
    let a = TestServer::start_on(&url, "", &accounts, echoing()).await;
    let b = TestServer::start_on(&url, "", &accounts, echoing()).await;
    for round in 0..10 {
        for number in 0..10 {
            api.customer_writes(DESK, &format!("wm{round}.{number}"), "hi");
        }
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        let (one, two) = tokio::join!(announce(&a, &api, DESK, &one), announce(&b, &api, DESK, &two));
        assert_eq!((one.status, two.status), (200, 200));
        if round == 5 {
            api.revoke_tokens();
        }
    }
    let sent = sent(&api, 100).await;
    assert_eq!(texts(&sent).into_iter().collect::<HashSet<_>>().len(), 100);
    let counts = api.counts();
    assert_eq!((sent.len(), counts.repeats), (100, 0));
    assert_eq!(counts.tokens, 2, "one at first, one for the revocation");
}

#[tokio::test]
async fn a_reply_and_a_transfer_are_each_done_once_whatever_the_platform_does() {
    const CUSTOMERS: usize = 6;
    let hooks = Hooks::default()
        .on(async |message: wecom_kf::TextMessage, _: Context| {
            Ok(match &*message.text.content {
                "human" => Reply::text("A colleague takes over.").transfer(Transfer::queue()),
                "silent" => Reply::none().transfer(Transfer::servicer("zhang")),
                other => Reply::text(other),
            })
        })
        .on(async |_: wecom_kf::EnterSession, _: Context| Ok(EventReply::text("Hi").transfer(Transfer::queue())));
    let api = FakeApi::start(11).await.unwrap();
    let server = start(&api, hooks).await;
    api.set_faults(Faults { cut: 0.4, bad_gateway: 0.1, ..Faults::default() });
    for customer in 0..CUSTOMERS {
        api.customer_writes(DESK, &format!("wm{customer}"), "human");
    }
    api.customer_writes(DESK, "wmSilent", "silent");
    api.customer_enters(DESK, "wmEnters");
    announce(&server, &api, DESK, "a").await;
    let sent = sent(&api, 2 * CUSTOMERS + 3).await;
    until(async || server.metric("echostr_observations_waiting").await == 0.0).await;
    assert_eq!((api.sent().len(), server.metric("echostr_dead_letters").await), (2 * CUSTOMERS + 3, 0.0));
    let of = |customer: &str| sent.iter().filter(|one| one.to == customer).collect::<Vec<_>>();
    for customer in (0..CUSTOMERS).map(|customer| format!("wm{customer}")) {
        let [message, transfer] = of(&customer)[..] else { panic!("{sent:?}") };
        let expected = json!({ "content": "A colleague takes over." });
        assert_eq!((&*message.path, &message.body["text"]), ("/cgi-bin/kf/send_msg", &expected));
        assert!(message.body.get("transfer").is_none(), "{message:?}");
        let expected = json!({ "open_kfid": DESK, "external_userid": customer, "service_state": 2 });
        assert_eq!((&*transfer.path, &transfer.body), ("/cgi-bin/kf/service_state/trans", &expected));
    }
    let [transfer] = of("wmSilent")[..] else { panic!("{sent:?}") };
    assert_eq!((&transfer.body["service_state"], &transfer.body["servicer_userid"]), (&json!(3), &json!("zhang")));
    assert_eq!(of("wmEnters").len(), 2);
}
