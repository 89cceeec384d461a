//! Questions of Tencent IM whose body is not read: the platform takes any answer but a verdict for a permission.

use std::{future::pending, sync::Arc};

use echostr::{
    events::im,
    hooks::{Context, HandlerError, Hooks},
    replies::im::BeforeGroupCreateResp,
};
use tokio::{net::TcpStream, sync::Notify};

use crate::{
    gates::{is_denied, questions},
    support::{
        Answer, Log, NOW, TestServer,
        http::{read_answer, request},
        platform::Im,
        server::IM,
        until,
    },
};

/// An account with a token and one without.
const IMS: [(&str, Im); 2] = [("chat", IM), ("open", Im { token: "none", sdk_app_id: 1_400_000_002 })];

const UNKNOWN: [&str; 3] =
    ["Group.CallbackBeforeNobodyKnows", "Live.CallbackBeforeCreateRoom", "Sns.CallbackPrevNobodyKnows"];

fn accounts(on_error: &str) -> String {
    format!(
        "[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\non_error = \"{on_error}\"\n\
         [im.open]\nsdk_app_id = 1400000002\non_error = \"{on_error}\"\n\
         [wecom_bot.helper]\ntoken = \"botToken\"\naes_key = \"botbotbotbotbotbotbotbotbotbotbotbotbotbotb\"\n"
    )
}

/// A body that is not whole, behind its framing.
#[derive(Clone, Copy)]
struct Body {
    framing: &'static str,
    status: u16,
    code: &'static str,
    reason: &'static str,
}

const fn body(framing: &'static str, status: u16, code: &'static str, reason: &'static str) -> Body {
    Body { framing, status, code, reason }
}

const LIMITS: &str = "body_limit = \"32KiB\"\nbody_memory = \"64KiB\"\nbody_timeout = \"100ms\"\nmax_in_flight = 2\nshutdown_grace = \"0s\"";

const BODIES: [Body; 5] = [
    body("Content-Length: 9000000\r\n\r\n{", 413, "too_large", "too_large"),
    body("Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n{", 408, "slow_body", "incomplete"),
    body("Content-Length: 900\r\n\r\n{\"a\":", 408, "slow_body", "incomplete"),
    body("Content-Length: 900\r\nExpect: 100-continue\r\n\r\n", 408, "slow_body", "incomplete"),
    body("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n", 400, "broken_body", "incomplete"),
];

/// Sends a query with a body of this framing; the answer behind `100 Continue`.
async fn ask(server: &TestServer, target: &str, framing: &str) -> Answer {
    let mut stream = server.http.open(format!("POST {target} HTTP/1.1\r\nHost: test\r\n{framing}").as_bytes()).await;
    loop {
        let answer = read_answer(&mut stream).await.unwrap();
        if answer.status != 100 {
            return answer;
        }
    }
}

fn target(account: &str, im: &Im, command: &str) -> String {
    format!("/im/{account}?{}", im.query(command, &NOW.to_string()))
}

fn counted(account: &str, outcome: &str, reason: &str) -> String {
    format!(
        "echostr_deliveries_total{{platform=\"im\",account=\"{account}\",outcome=\"{outcome}\",reason=\"{reason}\"}}"
    )
}

fn assert_verdict(answer: &Answer, denies: bool, what: &str) {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json; charset=utf-8")),
        "{what}"
    );
    assert_eq!(is_denied(answer), denies, "{what}: {}", answer.body);
}

#[tokio::test]
async fn a_question_whose_body_does_not_come_gets_the_configured_verdict() {
    for (on_error, denies) in [("deny", true), ("allow", false)] {
        let (log, _guard) = Log::begin();
        let server = TestServer::start_with(LIMITS, &accounts(on_error), Hooks::default()).await;
        for Body { framing, reason, .. } in BODIES {
            for (account, im) in &IMS {
                let before = server.metric(&counted(account, "defaulted", reason)).await;
                for command in UNKNOWN {
                    let answer = ask(&server, &target(account, im, command), framing).await;
                    assert_verdict(&answer, denies, &format!("{command} {framing}"));
                    assert_eq!(answer.header("connection"), Some("close"));
                }
                assert_eq!(server.metric(&counted(account, "defaulted", reason)).await, before + 3.0, "{framing}");
                assert_eq!(server.metric(&counted(account, "refused", reason)).await, 0.0, "{framing}");
            }
        }
        for (_, command, _) in questions() {
            for Body { framing, .. } in [BODIES[0], BODIES[4]] {
                let answer = ask(&server, &target("chat", &IM, command), framing).await;
                assert_verdict(&answer, denies, &format!("{command} {framing}"));
            }
        }
        // However many: one line for each reason.
        let lines = log.text();
        assert_eq!(lines.matches("could not read a request of").count(), 4, "{lines}");
        assert!(lines.contains(&format!("(too_large); answered `on_error`: {on_error}")), "{lines}");
    }
}

/// What asks nothing, and what is not authentic, is refused as before.
#[tokio::test]
async fn only_authentic_questions_get_a_verdict() {
    let server = TestServer::start_with(LIMITS, &accounts("deny"), Hooks::default()).await;
    let forged = Im { token: "wrong", ..IM };
    for Body { framing, status, code, .. } in BODIES {
        for command in
            ["Group.CallbackAfterSendMsg", "Group.CallbackAfterNobodyKnows", "", "Live.CallbackMemberStateChanged"]
        {
            let answer = ask(&server, &target("chat", &IM, command), framing).await;
            assert_eq!((answer.status, &*answer.body), (status, code), "{command} {framing}");
        }
        for im in [forged, Im { sdk_app_id: 7, ..IM }] {
            let answer = ask(&server, &target("chat", &im, "Group.CallbackBeforeSendMsg"), framing).await;
            assert!(answer.status >= 400, "{framing}: {answer:?}");
        }
        let stale = format!("/im/chat?{}", IM.query("Group.CallbackBeforeSendMsg", "1735680000"));
        assert!(ask(&server, &stale, framing).await.status >= 400, "{framing}");
        let twice = format!("{}&CallbackCommand=a", target("chat", &IM, "Group.CallbackBeforeSendMsg"));
        assert!(ask(&server, &twice, framing).await.status >= 400, "{framing}");
    }
}

#[tokio::test]
async fn a_question_for_which_there_is_no_memory_gets_the_configured_verdict() {
    for (on_error, denies) in [("deny", true), ("allow", false)] {
        let limits = LIMITS.replace("100ms", "300s");
        let server = TestServer::start_with(&limits, &accounts(on_error), Hooks::default()).await;
        // Three of 16 KiB leave no room for one more; the first 16 KiB of each are free.
        let unsigned = format!("/wecom_bot/helper?msg_signature={}&timestamp={NOW}&nonce=n", "0".repeat(40));
        let framing = format!("Content-Length: 32768\r\n\r\n{}", "a".repeat(20_000));
        let mut slow: Vec<TcpStream> = Vec::new();
        for at in 1..=3 {
            let head = format!("POST {unsigned} HTTP/1.1\r\nHost: test\r\n{framing}");
            slow.push(server.http.open(head.as_bytes()).await);
            until(async || server.metric("echostr_body_memory_bytes").await == f64::from(at * 16 * 1024)).await;
        }
        for (account, im) in &IMS {
            for command in ["Group.CallbackBeforeSendMsg", "Live.CallbackBeforeCreateRoom"] {
                assert_verdict(&ask(&server, &target(account, im, command), &framing).await, denies, command);
            }
            assert_eq!(server.metric(&counted(account, "defaulted", "body_memory")).await, 2.0);
            let answer = ask(&server, &target(account, im, "Group.CallbackAfterSendMsg"), &framing).await;
            assert_eq!((answer.status, &*answer.body), (503, "body_memory"));
            assert_eq!(server.metric(&counted(account, "unavailable", "body_memory")).await, 1.0);
        }
        drop(slow);
    }
}

#[tokio::test]
async fn a_question_for_which_there_is_no_room_gets_the_configured_verdict() {
    for (on_error, denies) in [("deny", true), ("allow", false)] {
        let began = Arc::new(Notify::new());
        let signal = Arc::clone(&began);
        let hooks = Hooks::default().on(move |_: im::BeforeGroupCreate, _: Context| {
            signal.notify_one();
            pending::<Result<BeforeGroupCreateResp, HandlerError>>()
        });
        let server = TestServer::start_with(LIMITS, &accounts(on_error), hooks).await;
        let (_, create, sample) =
            questions().find(|(_, command, _)| *command == "Group.CallbackBeforeCreateGroup").unwrap();
        let mut stuck = Vec::new();
        // One permit is the account's half.
        for (account, im) in [IMS[0]] {
            stuck.push(server.http.open(&request(&target(account, &im, create), sample.as_bytes())).await);
            began.notified().await;
        }
        for command in [create, "Group.CallbackBeforeSendMsg", "Live.CallbackBeforeCreateRoom"] {
            let answer = server.http.post(&target("chat", &IM, command), "{}").await;
            assert_verdict(&answer, denies, command);
        }
        assert_eq!(server.metric(&counted("chat", "defaulted", "overloaded")).await, 3.0);
        for target in [
            target("chat", &IM, "Group.CallbackAfterSendMsg"),
            target("chat", &Im { token: "wrong", ..IM }, "Group.CallbackBeforeSendMsg"),
        ] {
            let answer = server.http.post(&target, "{}").await;
            assert_eq!((answer.status, &*answer.body), (503, "overloaded"));
        }
        assert_eq!(server.metric(&counted("chat", "unavailable", "overloaded")).await, 2.0);
        drop(stuck);
    }
}
