//! One account does not stop another: not by an API that limits it or says nothing, and not by handlers that hang.

use std::{
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use echostr::{
    events::{mp, wecom_kf},
    hooks::{Context, HandlerError, Hooks},
    replies::{
        self,
        wecom_kf::{EventReply, Menu, Reply},
    },
    simulate::api::{FakeApi, Faults},
};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, Semaphore},
    time,
};

use crate::support::{
    NOW, TestServer,
    api::sent,
    postgres::database,
    server::{KF, OPEN, PLAIN, SUITE, text_message},
    wait_for,
};

/// More than what an observer is given of one account at one time.
const MANY: usize = 40;

const DESK: &str = "wkDesk1";

/// Two of customer service, with an API each, and quick with everything but what is tested.
fn accounts(apis: [&FakeApi; 2], settings: &str) -> String {
    let mut text = format!("[observers]\nbackoff = \"20ms..200ms\"\n{settings}\n");
    for (name, api) in ["a", "b"].into_iter().zip(apis) {
        api.add_account("ww0000000000000004", "kfSecret");
        let base = api.url();
        text += &format!(
            "[wecom_kf.{name}]\ncorp_id = \"ww0000000000000004\"\ntoken = \"kfToken\"\n\
             aes_key = \"kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk\"\nsecret = \"kfSecret\"\napi_base = \"{base}\"\n"
        );
    }
    text
}

async fn announce(server: &TestServer, api: &FakeApi, account: &str, desk: &str, nonce: &str) {
    let token = api.callback_token(desk);
    let callback = format!(
        "<xml><ToUserName>ww0000000000000004</ToUserName><CreateTime>{NOW}</CreateTime><MsgType>event</MsgType>\
         <Event>kf_msg_or_event</Event><Token>{token}</Token><OpenKfId>{desk}</OpenKfId></xml>"
    );
    let answer = server.post(&format!("/wecom_kf/{account}"), &KF.safe(&callback, nonce)).await;
    assert_eq!(answer.status, 200);
}

async fn until(server: &TestServer, line: &str, value: f64) {
    wait_for(line, async || server.metric(line).await >= value).await;
}

/// Until the API was asked so often.
async fn asked(api: &FakeApi, path: &str, times: u64) {
    for _ in 0..3000 {
        if api.counts().calls.get(path).copied().unwrap_or_default() >= times {
            return;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} was asked {:?}", api.counts());
}

const SYNC: &str = "/cgi-bin/kf/sync_msg";
const DONE: &str = "echostr_observations_total{result=\"done\"}";
const FAILED: &str = "echostr_observations_total{result=\"failed\"}";
const DEAD: &str = "echostr_observations_total{result=\"dead\"}";

fn greeting() -> Hooks {
    Hooks::default()
        .on(async |_: wecom_kf::EnterSession, _: Context| Ok(EventReply::from(Menu::new("Welcome!").click("a", "A"))))
        .on(async |message: wecom_kf::TextMessage, _: Context| Ok(Reply::text(message.text.content)))
}

/// Each journal, as far as there is one.
async fn journals(folder: &TempDir) -> Vec<String> {
    let sqlite = format!("sqlite://{}", folder.path().join("journal.db").display());
    ["memory:".to_owned(), sqlite].into_iter().chain(database().await).collect()
}

#[tokio::test]
async fn a_pull_begins_whatever_the_api_of_another_account_does() {
    for faults in [Faults { limited: 1.0, ..Faults::default() }, Faults { silent: 1.0, ..Faults::default() }] {
        let folder = TempDir::new().unwrap();
        for journal in journals(&folder).await {
            let (of_a, of_b) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
            // Neither a rest nor a call is over before the test is.
            let accounts = accounts([&of_a, &of_b], "[api]\ntimeout = \"5m\"\nlimit_pause = \"5m\"");
            let server = TestServer::start_on(&journal, "", &accounts, greeting()).await;
            // Both have their access tokens.
            for (account, api) in [("a", &of_a), ("b", &of_b)] {
                api.customer_enters(DESK, "wmFirst");
                announce(&server, api, account, DESK, "first").await;
                sent(api, 1).await;
            }
            of_a.set_faults(faults.clone());
            for desk in 0..MANY {
                of_a.customer_enters(&format!("wk{desk}"), "wmAnn");
                announce(&server, &of_a, "a", &format!("wk{desk}"), &format!("a{desk}")).await;
            }
            for number in 0..MANY {
                announce(&server, &of_a, "a", DESK, &format!("more{number}")).await;
            }
            asked(&of_a, SYNC, 2).await;
            of_b.customer_enters(DESK, "wmBob");
            announce(&server, &of_b, "b", DESK, "b").await;
            assert_eq!(sent(&of_b, 2).await[1].to, "wmBob", "{journal}");
            assert_eq!(of_a.sent().len(), 1, "{journal}");
            assert_eq!(server.metric(DEAD).await, 0.0);
            drop(server);
        }
    }
}

#[tokio::test]
async fn callbacks_that_come_during_a_pull_wait_for_nothing() {
    let (of_a, of_b) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
    let server = TestServer::start_with("", &accounts([&of_a, &of_b], "[api]\ntimeout = \"3s\""), greeting()).await;
    of_a.set_faults(Faults { silent: 1.0, ..Faults::default() });
    of_a.customer_writes(DESK, "wmAnn", "one");
    announce(&server, &of_a, "a", DESK, "first").await;
    asked(&of_a, "/cgi-bin/gettoken", 1).await;
    for number in 0..100 {
        announce(&server, &of_a, "a", DESK, &format!("n{number}")).await;
    }
    // One pulls, the latest waits for the next pull.
    until(&server, DONE, 99.0).await;
    of_a.customer_writes(DESK, "wmAnn", "two");
    announce(&server, &of_a, "a", DESK, "last").await;
    of_a.set_faults(Faults::default());
    assert_eq!(sent(&of_a, 2).await[1].body["text"]["content"], "two");
}

#[tokio::test]
async fn a_rest_is_no_failure() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let (api, other) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
    let settings = "max_attempts = 1\n[api]\nlimit_pause = \"1100ms\"";
    let server = TestServer::start_on(&url, "", &accounts([&api, &other], settings), greeting()).await;
    api.customer_enters(DESK, "wmFirst");
    announce(&server, &api, "a", DESK, "first").await;
    sent(&api, 1).await;
    api.set_faults(Faults { limited: 1.0, ..Faults::default() });
    let before = api.counts().calls[SYNC];
    api.customer_writes(DESK, "wmAnn", "hello");
    announce(&server, &api, "a", DESK, "a").await;
    // Asked once for each rest, and as often as there are rests.
    asked(&api, SYNC, before + 5).await;
    api.set_faults(Faults::default());
    assert_eq!(sent(&api, 2).await[1].to, "wmAnn");
    assert_eq!((server.metric(DEAD).await, server.metric(FAILED).await), (0.0, 0.0));
}

#[tokio::test]
async fn answers_are_sent_whatever_the_handlers_and_the_api_of_another_account_do() {
    for is_stuck in [true, false] {
        let (of_a, of_b) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
        let go = Arc::new(Notify::new());
        let waits = move |context: &Context| {
            let (account, go) = (context.account().to_owned(), Arc::clone(&go));
            async move {
                if account != "wecom_kf/a" {
                    return;
                }
                match is_stuck {
                    true => pending().await,
                    false => go.notified().await,
                }
            }
        };
        let (text, enter) = (waits.clone(), waits);
        let hooks = Hooks::default()
            .on(move |message: wecom_kf::TextMessage, context: Context| {
                let waits = text(&context);
                async move {
                    waits.await;
                    Ok(Reply::text(message.text.content))
                }
            })
            .on(move |_: wecom_kf::EnterSession, context: Context| {
                let waits = enter(&context);
                async move {
                    waits.await;
                    Ok(EventReply::from(Menu::new("Welcome!").click("a", "A")))
                }
            });
        let server = TestServer::start_with(
            "shutdown_grace = \"0s\"",
            &accounts([&of_a, &of_b], "[api]\ntimeout = \"5m\""),
            hooks,
        )
        .await;
        for number in 0..MANY {
            of_a.customer_writes(DESK, &format!("wm{number}"), "hi");
            of_a.customer_enters(DESK, &format!("wm{number}"));
        }
        announce(&server, &of_a, "a", DESK, "a").await;
        // It is pulled, which is the only thing that is done.
        until(&server, DONE, 1.0).await;
        of_a.set_faults(Faults { silent: 1.0, ..Faults::default() });
        of_b.customer_writes(DESK, "wmBob", "hello");
        of_b.customer_enters(DESK, "wmEve");
        announce(&server, &of_b, "b", DESK, "b").await;
        let to: Vec<_> = sent(&of_b, 2).await.into_iter().map(|one| one.to).collect();
        assert!(to.contains(&"wmBob".to_owned()) && to.contains(&"wmEve".to_owned()), "{to:?}");
        assert!(of_a.sent().is_empty());
        server.stop().await.unwrap();
    }
}

/// Two Official Accounts whose replies are late at once.
fn late(apis: [&FakeApi; 2]) -> String {
    let mut text = "[api]\ntimeout = \"5m\"\n[observers]\nbackoff = \"20ms..200ms\"\n".to_owned();
    for (name, api) in ["a", "b"].into_iter().zip(apis) {
        api.add_account("wx0000000000000001", "mpSecret");
        let base = api.url();
        text += &format!(
            "[mp.{name}]\napp_id = \"wx0000000000000001\"\ntoken = \"plainToken\"\nmode = \"plain\"\nsecret = \"mpSecret\"\n\
             api_base = \"{base}\"\ndeadline = \"1ms\"\nlate_reply = \"send\"\n"
        );
    }
    text
}

#[tokio::test]
async fn late_replies_are_sent_whatever_the_api_of_another_account_does() {
    let (of_a, of_b) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
    of_a.set_faults(Faults { silent: 1.0, ..Faults::default() });
    // A reply is ready once its delivery has been answered.
    let answered = Arc::new(Semaphore::new(0));
    let replies = Arc::clone(&answered);
    let hooks = Hooks::default().on(move |message: mp::TextMessage, _: Context| {
        let replies = Arc::clone(&replies);
        async move {
            replies.acquire().await?.forget();
            Ok(replies::mp::Reply::text(message.content))
        }
    });
    let server = TestServer::start_with("shutdown_grace = \"0s\"", &late([&of_a, &of_b]), hooks).await;
    for (account, count) in [("a", MANY as u64), ("b", 1)] {
        for id in 1..=count {
            let signed = PLAIN.plain(&text_message(id, "hi"), &format!("{account}{id}"));
            assert_eq!(server.post(&format!("/mp/{account}"), &signed).await.body, "success");
            answered.add_permits(1);
        }
        if account == "a" {
            asked(&of_a, "/cgi-bin/stable_token", 1).await;
        }
    }
    assert_eq!(sent(&of_b, 1).await[0].body["text"]["content"], "hi");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn authorisations_are_redeemed_whatever_the_api_of_another_account_does() {
    let (of_a, of_b) = (FakeApi::start(1).await.unwrap(), FakeApi::start(2).await.unwrap());
    of_a.set_faults(Faults { silent: 1.0, ..Faults::default() });
    of_b.add_third_party("wwsuite00000000001", "suiteSecret", "suite@@@1");
    let accounts = format!(
        r#"
[api]
timeout = "5m"
[openplatform.agency]
component_app_id = "wxcomponent0000001"
token = "openToken"
aes_key = "openopenopenopenopenopenopenopenopenopenope"
secret = "openSecret"
api_base = "{}"
[wecom_suite.crm]
suite_id = "wwsuite00000000001"
receive_ids = ["any"]
token = "suiteToken"
aes_key = "suitesuitesuitesuitesuitesuitesuitesuitesui"
secret = "suiteSecret"
api_base = "{}"
"#,
        of_a.url(),
        of_b.url()
    );
    let server = TestServer::start_with("shutdown_grace = \"0s\"", &accounts, Hooks::default()).await;
    let notice = |name: &str, more: &str| {
        format!(
            "<xml><AppId>wxcomponent0000001</AppId><CreateTime>{NOW}</CreateTime><InfoType>{name}</InfoType>{more}</xml>"
        )
    };
    let ticket = notice("component_verify_ticket", "<ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket>");
    server.post("/openplatform/agency", &OPEN.safe(&ticket, "t")).await;
    for number in 0..MANY {
        let more = format!(
            "<AuthorizerAppid>wxauthorizer{number}</AuthorizerAppid><AuthorizationCode>code{number}</AuthorizationCode>"
        );
        let answer =
            server.post("/openplatform/agency", &OPEN.safe(&notice("authorized", &more), &format!("a{number}"))).await;
        assert_eq!(answer.body, "success");
    }
    asked(&of_a, "/cgi-bin/component/api_component_token", 1).await;
    let code = of_b.authorise("wwcustomer00000001");
    for (at, (name, more)) in [
        ("suite_ticket", "<SuiteTicket>suite@@@1</SuiteTicket>".to_owned()),
        ("create_auth", format!("<AuthCode>{code}</AuthCode>")),
    ]
    .into_iter()
    .enumerate()
    {
        let notice = format!(
            "<xml><SuiteId>wwsuite00000000001</SuiteId><InfoType>{name}</InfoType><TimeStamp>{NOW}</TimeStamp>{more}</xml>"
        );
        let answer = server.post("/wecom_suite/crm", &SUITE.safe(&notice, &format!("s{at}"))).await;
        assert_eq!(answer.body, "success");
    }
    until(&server, DONE, 1.0).await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_observer_that_hangs_on_one_account_sees_the_events_of_others() {
    let accounts = r#"
[observers]
concurrency = 4
[mp.a]
app_id = "wx0000000000000001"
token = "plainToken"
mode = "plain"
[mp.b]
app_id = "wx0000000000000002"
token = "plainToken"
mode = "plain"
"#;
    let seen = Arc::new(Notify::new());
    let tell = Arc::clone(&seen);
    let hooks = Hooks::default()
        .observe("hangs", move |_: mp::TextMessage, context: Context| {
            let of_a = context.account() == "mp/a";
            if !of_a {
                tell.notify_one();
            }
            async move { if of_a { pending::<Result<(), HandlerError>>().await } else { Ok(()) } }
        })
        .on(|_: mp::TextMessage, _: Context| ready(Ok(replies::mp::Reply::none())));
    let server = TestServer::start_with("shutdown_grace = \"0s\"", accounts, hooks).await;
    for (account, count) in [("a", 10), ("b", 1)] {
        for id in 1..=count {
            let signed = PLAIN.plain(&text_message(id, "hi"), &format!("{account}{id}"));
            assert_eq!(server.post(&format!("/mp/{account}"), &signed).await.body, "success");
        }
    }
    time::timeout(Duration::from_secs(30), seen.notified()).await.expect("the event of the other account");
    server.stop().await.unwrap();
}
