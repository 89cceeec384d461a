//! A handler that blocks its thread is named, and not the journal.

use std::{thread, time::Duration};

use echostr::{
    events::{im, mp},
    hooks::{Context, Hooks},
    replies::{im::BeforeFriendAddResp, mp::Reply},
};
use tempfile::TempDir;

use crate::support::{
    Log, TestServer,
    server::{IM, MP, text_message},
    until,
};

/// Longer than a poll may take, and than the deadline.
const BLOCKED: Duration = Duration::from_millis(700);

const ACCOUNTS: &str = "[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"mpToken\"\n\
    aes_key = \"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ\"\ndeadline = \"200ms\"\nlate_reply = \"drop\"\n";

fn hooks() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| {
            if message.content == "later" {
                tokio::task::yield_now().await;
            }
            if message.content != "quick" {
                thread::sleep(BLOCKED);
            }
            Ok(Reply::text("done"))
        })
        .observe("audit", async |message: mp::TextMessage, _: Context| {
            if message.content == "quick" {
                thread::sleep(BLOCKED);
            }
            Ok(())
        })
}

/// One thread does everything, so that whoever blocks it blocks all.
#[tokio::test]
async fn a_handler_that_blocks_its_thread_is_named() {
    for journal in ["memory:", "sqlite"] {
        let (log, _guard) = Log::begin();
        let folder = TempDir::new().unwrap();
        let url = match journal {
            "sqlite" => format!("sqlite://{}", folder.path().join("journal.db").display()),
            memory => memory.to_owned(),
        };
        let server = TestServer::start_on(&url, "", ACCOUNTS, hooks()).await;
        for (id, content) in [(1, "at once"), (2, "later"), (3, "at once"), (4, "quick")] {
            let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), &id.to_string())).await;
            match answer.status {
                // The journal may be as late as the thread.
                503 => assert_eq!(answer.body, "blocked", "{content}"),
                status => assert_eq!(status, 200, "{content}: {}", answer.body),
            }
        }
        let line = "observer audit blocked its thread for 0.7 s: use async I/O or tokio::task::spawn_blocking";
        until(async || log.text().contains(line)).await;
        let text = log.text();
        let line = "mp/shop: responder of mp.message.text blocked its thread for 0.7 s: use async I/O or tokio::task::spawn_blocking";
        assert_eq!(text.matches(line).count(), 1, "it is named once in a while: {text}");
        assert!(!text.contains("the journal takes too long") && !text.contains("not_stored"), "{text}");
        let count =
            async |handler: &str| server.metric(&format!("echostr_blocked_polls_total{{handler=\"{handler}\"}}")).await;
        assert_eq!((count("responder").await, count("observer").await), (3.0, 1.0), "{journal}");
        assert!(server.stop().await.unwrap());
    }
}

/// A question gets its verdict all the same.
#[tokio::test]
async fn a_question_whose_responder_blocks_gets_a_verdict() {
    let (log, _guard) = Log::begin();
    let accounts = "[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\ndeadline = \"200ms\"\n";
    let hooks = Hooks::default().on(async |_: im::BeforeFriendAdd, _: Context| {
        thread::sleep(BLOCKED);
        Ok(BeforeFriendAddResp::default())
    });
    let server = TestServer::start_on("memory:", "", accounts, hooks).await;
    let asked = r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"id"}"#;
    let answer = server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", asked)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        log.text().contains("im/chat: responder of im.command.sns.prev_friend_add blocked its thread for 0.7 s"),
        "{}",
        log.text()
    );
    assert!(server.stop().await.unwrap());
}
