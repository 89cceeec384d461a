//! What outlives the process, and what the command line does about it.

use std::{collections::HashSet, path::Path, process::Command};

use echostr::{
    hooks::Hooks,
    internals::journal::{Archive as _, postgres::PostgresArchive},
};
use tempfile::TempDir;

use super::{Act, Target, contents, crm, forward, send, shows, start_in, takes_all};
use crate::support::{
    TestServer,
    postgres::database,
    server::ACCOUNTS,
    target::{Away, Request},
    until,
};

#[tokio::test]
async fn what_waits_is_sent_after_a_restart_once_the_target_is_up() {
    let folder = TempDir::new().unwrap();
    let away = Away::new();
    let forwards = forward("crm", &away.url(), &format!("retry = [{}]", vec!["\"20ms\""; 100].join(", ")));
    let server = start_in(folder.path(), &forwards).await;
    for id in 1..=5 {
        send(&server, id, &id.to_string()).await;
    }
    // They go on failing meanwhile.
    let failed = "echostr_forward_attempts_total{forward=\"crm\",result=\"failed\"}";
    until(async || server.metric(failed).await >= 5.0).await;
    server.stop().await.unwrap();
    let server = start_in(folder.path(), &forwards).await;
    send(&server, 6, "6").await;
    let target = away.start(takes_all);
    target.received(6).await;
    shows(&server, "attempts_total", "result=\"delivered\"", 6.0).await;
    let requests = target.requests();
    assert_eq!(contents(&requests).into_iter().collect::<HashSet<_>>().len(), 6);
    assert_eq!(requests.iter().map(Request::id).collect::<HashSet<_>>().len(), 6);
    assert!(server.stop().await.unwrap());
}

/// The configuration as a file, for the command line.
fn write(folder: &Path, forwards: &str) -> String {
    let text = format!("[journal]\nurl = \"sqlite://{}\"\n{ACCOUNTS}{forwards}", folder.join("journal.db").display());
    let path = folder.join("echostr.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs `echostr forwards …`; returns whether it succeeded, and what it printed.
async fn run(config: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
    command.arg("forwards").args(arguments).args(["--config", config]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_target_that_is_gone_pauses_the_forward_until_somebody_resumes_it() {
    let folder = TempDir::new().unwrap();
    let (target, other) =
        (Target::start(|_, _| Act::Answer(410, "", "moved away")).await, Target::start(takes_all).await);
    let forwards = |to: &Target| format!("{}{}", crm(to, ""), forward("other", &other.url(), ""));
    let config = write(folder.path(), &forwards(&target));
    let server = start_in(folder.path(), &forwards(&target)).await;
    send(&server, 1, "1").await;
    shows(&server, "state", "state=\"paused\"", 1.0).await;
    send(&server, 2, "2").await;
    other.received(2).await;
    until(async || run(&config, &[]).await.1.contains("paused")).await;
    let (_, listed) = run(&config, &["--json"]).await;
    assert!(listed.contains("status 410: moved away"), "{listed}");
    assert!(server.stop().await.unwrap());
    assert_eq!(target.requests().len(), 1);

    target.behave(takes_all);
    let server = start_in(folder.path(), &forwards(&target)).await;
    shows(&server, "state", "state=\"paused\"", 1.0).await;
    send(&server, 3, "3").await;
    other.received(3).await;
    assert_eq!(target.requests().len(), 1, "the pause has outlived the restart");
    assert_eq!(
        run(&config, &["resume", "crn"]).await.1.trim(),
        "error: no [[forward]] is called `crn`; did you mean `crm`?"
    );
    assert!(run(&config, &["resume", "crm"]).await.1.contains("resumed"));
    let requests = target.received(4).await;
    assert_eq!(contents(&requests[1..]).into_iter().collect::<HashSet<_>>().len(), 3);
    shows(&server, "state", "state=\"ok\"", 1.0).await;
    assert!(run(&config, &["resume", "crm"]).await.1.contains("is not paused"));

    // Another address ends it, too.
    target.behave(|_, _| Act::Status(410));
    send(&server, 4, "4").await;
    until(async || run(&config, &[]).await.1.contains("paused")).await;
    assert!(server.stop().await.unwrap());
    let moved = Target::start(takes_all).await;
    let server = start_in(folder.path(), &forwards(&moved)).await;
    assert_eq!(contents(&moved.received(1).await), ["4"]);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_sample_is_sent_once_to_try_a_target() {
    let folder = TempDir::new().unwrap();
    let target = Target::start(|_, before| match before {
        0 => Act::Answer(200, "", "thanks"),
        _ => Act::Answer(422, "", "what is this"),
    })
    .await;
    let text = crm(&target, "enabled = false").replace("\"*\"", "\"mp/shop:mp.message.*\"");
    let config = write(folder.path(), &text);
    let (succeeded, printed) = run(&config, &["test", "crm", "text"]).await;
    assert!(succeeded && printed.contains("← 200") && printed.contains("thanks"), "{printed}");
    assert_eq!(target.requests()[0].json()["type"], "mp.message.text");
    let (succeeded, printed) = run(&config, &["test", "crm"]).await;
    assert!(!succeeded && printed.contains("status 422: what is this"), "{printed}");
    let (succeeded, printed) = run(&config, &["test", "crm", "subscribe"]).await;
    assert!(!succeeded && printed.contains("leaves out"), "{printed}");
    assert_eq!(target.requests().len(), 2);

    let mut check = Command::new(env!("CARGO_BIN_EXE_echostr"));
    check.args(["check", "--config", &config]);
    let output = tokio::task::spawn_blocking(move || check.output().unwrap()).await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(&format!("forward crm sends to {}, but it is not enabled", target.url())), "{printed}");
    // One that is not enabled gets nothing.
    let server = TestServer::start_in(folder.path(), &text, Hooks::default()).await;
    send(&server, 1, "hello").await;
    assert_eq!(server.metric("echostr_observations_waiting").await, 0.0);
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_pause_holds_on_every_node_until_it_is_ended() {
    let Some(url) = database().await else { return };
    let target = Target::start(|_, _| Act::Status(410)).await;
    let accounts = format!("{ACCOUNTS}{}", crm(&target, ""));
    let start = async || TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    let first = start().await;
    send(&first, 1, "1").await;
    shows(&first, "state", "state=\"paused\"", 1.0).await;
    let archive = PostgresArchive::open(&url).unwrap();
    until(async || archive.lease_value("forward/crm").await.unwrap().is_some()).await;
    let second = start().await;
    shows(&second, "state", "state=\"paused\"", 1.0).await;
    send(&second, 2, "2").await;
    target.behave(takes_all);
    assert!(archive.clear_lease("forward/crm").await.unwrap());
    assert!(!archive.clear_lease("forward/crm").await.unwrap());
    let requests = target.received(3).await;
    assert_eq!(contents(&requests[1..]).into_iter().collect::<HashSet<_>>().len(), 2);
    for node in [first, second] {
        shows(&node, "state", "state=\"ok\"", 1.0).await;
        assert!(node.stop().await.unwrap());
    }
}
