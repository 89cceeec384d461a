//! Tencent IM: verdicts, acknowledgements, lists of events.

use echostr::{
    events::im,
    hooks::{Context, Hooks, RawEvent},
    replies::im::{BeforeFriendAddResp, BeforeGroupMessageSendResp, BeforePrivateMessageSendResp},
};
use tokio::sync::mpsc;

use crate::support::{
    TestServer,
    server::{ACCOUNTS, IM},
};

const FRIENDS: &str = r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"a","From_Account":"a","FriendItem":[{"To_Account":"good"},{"To_Account":"bad"}],"AddType":"Add_Type_Both","ForceAddFlags":0}"#;
const OK: &str = r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#;

#[tokio::test]
async fn each_friend_is_allowed_or_refused() {
    let hooks = Hooks::default().on(async |event: im::BeforeFriendAdd, _: Context| {
        Ok(BeforeFriendAddResp::for_event(&event).deny("bad", 38000, "blocked")?)
    });
    let server = TestServer::start(hooks).await;
    let answer = server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", FRIENDS)).await;
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(
        answer.body,
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ResultItem":[{"To_Account":"good","ResultCode":0,"ResultInfo":""},{"To_Account":"bad","ResultCode":38000,"ResultInfo":"blocked"}]}"#
    );
}

#[tokio::test]
async fn a_code_outside_the_range_of_the_command_gives_the_default() {
    let hooks = Hooks::default()
        .on(async |_: im::BeforePrivateMessageSend, _: Context| {
            Ok(BeforePrivateMessageSendResp::deny(10100, "group's")?)
        })
        .on(async |_: im::BeforeGroupMessageSend, _: Context| {
            Ok(BeforeGroupMessageSendResp::deny(10100, "quiet hours")?)
        });
    let server = TestServer::start(hooks).await;
    let answer = server.post("/im/chat", &IM.command("C2C.CallbackBeforeSendMsg", "{}")).await;
    assert_eq!(answer.body, OK);
    let answer = server.post("/im/chat", &IM.command("Group.CallbackBeforeSendMsg", "{}")).await;
    assert_eq!(answer.body, r#"{"ActionStatus":"OK","ErrorCode":10100,"ErrorInfo":"quiet hours"}"#);
    assert_eq!(
        server
            .metric("echostr_deliveries_total{platform=\"im\",account=\"chat\",outcome=\"defaulted\",reason=\"error\"}")
            .await,
        1.0
    );
}

#[tokio::test]
async fn what_nobody_decides_is_allowed_and_what_is_after_is_acknowledged() {
    let server = TestServer::start(Hooks::default()).await;
    for (command, body, expected) in [
        (
            "Sns.CallbackPrevFriendAdd",
            FRIENDS,
            r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ResultItem":[{"To_Account":"good","ResultCode":0,"ResultInfo":""},{"To_Account":"bad","ResultCode":0,"ResultInfo":""}]}"#,
        ),
        ("Group.CallbackBeforeCreateGroup", "{}", OK),
        ("Sns.CallbackFriendAdd", "{}", OK),
        ("Brand.NewCommand", "{}", OK),
    ] {
        assert_eq!(server.post("/im/chat", &IM.command(command, body)).await.body, expected, "{command}");
    }
}

#[tokio::test]
async fn a_late_or_failed_verdict_is_the_configured_one() {
    let accounts = "[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\ndeadline = \"50ms\"\non_timeout = \"deny\"\non_error = \"deny\"\n";
    let hooks = Hooks::default()
        .on(async |_: im::BeforeGroupCreate, _: Context| std::future::pending().await)
        .on(async |_: im::BeforeFriendAdd, _: Context| Err("no database".into()));
    let server = TestServer::start_with("", accounts, hooks).await;
    let answer = server.post("/im/chat", &IM.command("Group.CallbackBeforeCreateGroup", "{}")).await;
    assert!(answer.body.contains("\"ErrorCode\":1"), "{}", answer.body);
    let answer = server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", FRIENDS)).await;
    assert_eq!(answer.body.matches("\"ResultCode\":38000").count(), 2, "{}", answer.body);
}

#[tokio::test]
async fn the_same_request_is_decided_each_time() {
    let (asked, mut questions) = mpsc::unbounded_channel();
    let hooks = Hooks::default().on(move |event: im::BeforeFriendAdd, _: Context| {
        asked.send(()).unwrap();
        std::future::ready(Ok(BeforeFriendAddResp::for_event(&event)))
    });
    let server = TestServer::start(hooks).await;
    for _ in 0..2 {
        server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", FRIENDS)).await;
    }
    questions.recv().await.unwrap();
    questions.recv().await.unwrap();
}

#[tokio::test]
async fn each_event_of_a_list_is_an_event() {
    let (seen, mut events) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe("pushes", move |event: im::OfflinePushResult, _: Context| {
        seen.send(event.to_account).unwrap();
        std::future::ready(Ok(()))
    });
    let server = TestServer::start(hooks).await;
    let body = r#"{"Events":[{"CallbackCommand":"Push.OfflinePush","To_Account":"a","PushID":"1"},{"CallbackCommand":"Push.OfflinePush","To_Account":"b","PushID":"2"}]}"#;
    assert_eq!(server.post("/im/chat", &IM.command("Push.OfflinePush", body)).await.body, OK);
    let mut accounts = [events.recv().await.unwrap(), events.recv().await.unwrap()];
    accounts.sort();
    assert_eq!(accounts, ["a", "b"]);
}

/// However many events a push has, a handler of raw events is given each of them, and never their wrapper.
#[tokio::test]
async fn each_event_of_a_list_is_its_own_payload() {
    let (seen, mut events) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe_any("pushes", "*", move |event: RawEvent, _: Context| {
        seen.send((event.event_type, event.payload.text().to_owned(), event.key())).unwrap();
        std::future::ready(Ok(()))
    });
    let server = TestServer::start(hooks).await;
    let item = |account: &str| format!(r#"{{"CallbackCommand":"Push.OfflinePush","To_Account":"{account}"}}"#);
    let push = |items: &[String]| format!(r#"{{"Events":[{}]}}"#, items.join(","));
    // One request has one id, however many events are in it.
    let query = format!("{}&RequestID=7", IM.query("Push.OfflinePush", "1735689600"));
    let one = format!(r#"{{"Events":{}}}"#, item("one"));
    let misshapen = push(&[item("d"), "7".to_owned()]);
    let mixed = push(&[item("b"), r#"{"To_Account":{"a":1}}"#.to_owned(), item("c")]);
    let bodies = [push(&[item("a")]), mixed, one, misshapen.clone(), push(&[])];
    for body in bodies {
        let answer = server.http.post(&format!("/im/chat?{query}"), &body).await;
        assert_eq!(answer.body, OK);
    }
    let mut found = Vec::new();
    for _ in 0..7 {
        let event = events.recv().await.unwrap();
        assert!(event.2 == ["Push.OfflinePush"], "{event:?}");
        found.push((event.0, event.1));
    }
    let (offline, unknown) = ("im.command.push.offline_push", "im.command.unknown");
    let mut expected = vec![
        (offline, item("a")),
        (offline, item("b")),
        (offline, item("c")),
        (offline, item("one")),
        (offline, r#"{"To_Account":{"a":1}}"#.to_owned()),
        // What is no list of events is one event that nobody knows.
        (unknown, misshapen),
        (unknown, push(&[])),
    ];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_account_without_a_token_checks_only_the_application() {
    let server = TestServer::start_with("", ACCOUNTS, Hooks::default()).await;
    let post = |id: u64| {
        server
            .http
            .post(Box::leak(format!("/im/open?SdkAppid={id}&CallbackCommand=State.StateChange").into_boxed_str()), "{}")
    };
    assert_eq!(post(1_400_000_002).await.status, 200);
    assert_eq!(post(1_400_000_001).await.body, "wrong_sdk_app_id");
}

#[tokio::test]
async fn handlers_see_the_data_of_the_query_and_not_its_signature() {
    let (seen, mut events) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe_any("all", "*", move |event: RawEvent, _: Context| {
        seen.send(event).unwrap();
        std::future::ready(Ok(()))
    });
    let server = TestServer::start(hooks).await;
    server.post("/im/chat", &IM.command("State.StateChange", "{}")).await;
    let event = events.recv().await.unwrap();
    assert_eq!(event.event_type, "im.command.state.state_change");
    assert_eq!((event.query("ClientIP").as_deref(), event.query("Sign")), (Some("203.0.113.7"), None));
    assert!(!format!("{event:?}").contains("Sign="), "{event:?}");
}
