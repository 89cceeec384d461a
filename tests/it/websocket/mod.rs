//! AI bots over WebSocket: what is answered, and how often, whatever happens to connections and nodes.

mod answers;
mod faults;
mod media;
mod nodes;
pub mod tls;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use echostr::{
    events::wecom_bot,
    hooks::{Context, Hooks},
    replies::wecom_bot::Reply,
    simulate::api::{BotFrame, FakeBots},
};
use serde_json::{Value as Json, json};
use tokio::time;

use crate::support::{NOW, TestServer};

pub const BOT_ID: &str = "aibDemo01";
pub const SECRET: &str = "botSecretOfTheTest";

pub fn accounts(platform: &FakeBots, more: &str) -> String {
    account_at(&platform.url(), more)
}

pub fn account_at(url: &str, more: &str) -> String {
    format!(
        "[wecom_bot.helper]\nmode = \"websocket\"\nbot_id = \"{BOT_ID}\"\nsecret = \"{SECRET}\"\n\
         websocket_url = \"{url}\"\n{more}\n"
    )
}

/// A configuration for a process of its own.
pub fn write_config(folder: &Path, journal: &str, url: &str) -> PathBuf {
    let file = folder.join("echostr.toml");
    let listen = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    let account = account_at(url, "");
    std::fs::write(&file, format!("{listen}\n[journal]\nurl = \"{journal}\"\n[handlers.demo]\n{account}")).unwrap();
    file
}

pub async fn platform() -> FakeBots {
    let platform = FakeBots::start().await.unwrap();
    platform.add_bot(BOT_ID, SECRET);
    platform
}

pub async fn start(platform: &FakeBots, journal: &str, hooks: Hooks) -> TestServer {
    TestServer::start_on(journal, "", &accounts(platform, ""), hooks).await
}

/// A message in a single chat, or an event.
pub fn message(id: &str, msgtype: &str, rest: Json) -> Json {
    let mut message = json!({
        "msgid": id, "create_time": NOW, "aibotid": BOT_ID, "chattype": "single",
        "from": { "userid": "zhangsan" }, "msgtype": msgtype,
    });
    message[msgtype] = rest;
    message
}

pub fn text(id: &str, content: &str) -> Json {
    message(id, "text", json!({ "content": content }))
}

/// The frames that ended the answer to a message.
pub fn ends(platform: &FakeBots, id: &str) -> Vec<BotFrame> {
    let is_end = |frame: &BotFrame| frame.body["msgtype"] != "stream" || frame.body["stream"]["finish"] == true;
    platform.answers(id).into_iter().filter(is_end).collect()
}

pub async fn answered(platform: &FakeBots, id: &str) -> BotFrame {
    within(platform.until(|platform| !ends(platform, id).is_empty())).await;
    ends(platform, id).remove(0)
}

/// Bounds every wait.
pub async fn within<T>(wait: impl Future<Output = T>) -> T {
    time::timeout(Duration::from_secs(60), wait).await.expect("it never happened")
}

/// Echoes texts; counts its runs.
pub fn echo(runs: &Arc<AtomicU32>) -> Hooks {
    let runs = Arc::clone(runs);
    Hooks::default().on(move |message: wecom_bot::TextMessage, _: Context| {
        runs.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Reply::markdown(message.text.content)) }
    })
}
