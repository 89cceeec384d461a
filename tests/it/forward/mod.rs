//! Forwards: real servers on both sides, and targets that fail in every way.

mod failures;
mod formats;
mod guard;
mod restarts;

use std::path::Path;

use echostr::hooks::Hooks;

use crate::support::{
    TestServer,
    server::{ACCOUNTS, MP, text_message},
    target::{Act, Request, Target},
};

/// A forward of everything, called so.
fn forward(name: &str, to: &str, more: &str) -> String {
    format!("\n[[forward]]\nname = \"{name}\"\nmatch = \"*\"\nto = \"{to}\"\n{more}\n")
}

/// A forward called `crm` whose attempts follow each other at once.
fn crm(target: &Target, more: &str) -> String {
    let retry = if more.contains("retry") { "" } else { "retry = [\"1ms\", \"1ms\", \"1ms\", \"1ms\", \"1ms\"]\n" };
    forward("crm", &target.url(), &format!("{retry}{more}"))
}

async fn start(forwards: &str) -> TestServer {
    TestServer::start_with("", &format!("{ACCOUNTS}{forwards}"), Hooks::default()).await
}

async fn start_in(folder: &Path, forwards: &str) -> TestServer {
    TestServer::start_in(folder, forwards, Hooks::default()).await
}

async fn send(server: &TestServer, id: u64, content: &str) {
    let answer = server.post("/mp/shop", &MP.safe(&text_message(id, content), &id.to_string())).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "success"));
}

/// The texts of the messages in CloudEvents.
fn contents(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| request.json()["data"]["Content"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a metric of the forward `crm` has this value.
async fn shows(server: &TestServer, metric: &str, label: &str, expected: f64) {
    let line = format!("echostr_forward_{metric}{{forward=\"crm\",{label}}}");
    let what = format!("{line} is {expected}");
    crate::support::wait_for(&what, async || (server.metric(&line).await - expected).abs() < 0.5).await;
}

fn takes_all(_: &Request, _: usize) -> Act {
    Act::Status(200)
}
