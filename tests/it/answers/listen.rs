//! `echostr listen`: a developer's machine answers what nobody else answers.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::{content, group, plain};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, PLAIN, event},
    service::{Asked, Service, response},
    wait_for,
};

/// The command, until it is dropped.
struct Listen {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Listen {
    fn start(server: &TestServer, service: &Service, pattern: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echostr"))
            .args(["listen", &service.url(), "--url", &format!("http://{}", server.admin.0), "--match", pattern])
            .env_remove("ECHOSTR_ADMIN_TOKEN")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        thread::spawn(move || out.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// The next line that has this in it.
    async fn says(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.recv().await.unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends texts until the answer is this: before somebody listens, nobody answers.
async fn until_answered(server: &TestServer, first: u64, expected: &str) {
    let mut id = first;
    wait_for("the listener answers", async || {
        id += 1;
        content(&plain(server, id, "hi").await) == expected
    })
    .await;
}

fn echo(asked: &Asked) -> String {
    let event = asked.json();
    match event["source"].as_str().unwrap() {
        "/im/chat" => json!({"deny": 10101, "info": "no"}).to_string(),
        _ => json!({"text": format!("local: {}", event["data"]["Content"].as_str().unwrap_or_default())}).to_string(),
    }
}

#[tokio::test]
async fn who_listens_answers_what_nobody_else_does() {
    let service = Service::start(async |asked: Asked| response(200, "application/json", echo(&asked))).await;
    let hooks = Hooks::default()
        .on(async |image: mp::ImageMessage, _: Context| Ok(Reply::text(format!("rust: {}", image.media_id))));
    let server = TestServer::start_with("", ACCOUNTS, hooks).await;
    assert_eq!(content(&plain(&server, 1, "hi").await), "success", "nobody listens yet");
    let mut listen = Listen::start(&server, &service, "*");
    until_answered(&server, 100, "local: hi").await;
    wait_for("a question is answered in time", async || group(&server).await["ErrorCode"] == 10101).await;
    listen.says("im/chat im.command.group.before_send_msg").await;
    // What has a responder, and what takes no reply, comes all the same.
    server.post("/mp/plain", &PLAIN.plain(&event("unsubscribe", ""), "u")).await;
    listen.says("mp.event.unsubscribe").await;
    drop(listen);
    wait_for("nobody listens any more", async || group(&server).await["ErrorCode"] == 0).await;
}

#[tokio::test]
async fn it_answers_only_what_it_asked_for_and_goes_on_after_a_failure() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let service = Service::start(move |asked: Asked| {
        let status = if broken.load(Ordering::SeqCst) { 500 } else { 200 };
        async move { response(status, "application/json", echo(&asked)) }
    })
    .await;
    let server = TestServer::start_with("", ACCOUNTS, Hooks::default()).await;
    let mut listen = Listen::start(&server, &service, "mp/plain:mp.message.*");
    until_answered(&server, 100, "local: hi").await;
    assert_eq!(group(&server).await["ErrorCode"], 0, "IM was not asked for");
    is_broken.store(true, Ordering::SeqCst);
    let failing = tokio::spawn({
        let signed = PLAIN.plain(&crate::support::server::text_message(500, "hi"), "gone");
        let http = server.http;
        async move { http.post(&format!("/mp/plain?{}", signed.query), signed.body).await }
    });
    listen.says("no answer: status 500").await;
    is_broken.store(false, Ordering::SeqCst);
    until_answered(&server, 600, "local: hi").await;
    drop(failing);
}
