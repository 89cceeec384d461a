//! A shop's bot. `echostr.toml` needs accounts, `late_reply = "send"` for answers that take long, and `[handlers.shop]`.

#[cfg(test)]
mod tests;

use std::{process::ExitCode, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use echostr::{
    config::{self, Config},
    events::{im, mp, wecom_kf},
    hooks::{Background, Context, HandlerError, Hooks, Observe, Permanent, ServerHandle},
    replies::{im::BeforePrivateMessageSendResp as Verdict, mp::Reply, wecom_kf as kf},
    secret::Secret,
};
use rusqlite::Connection;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `[handlers.shop]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    database: String,
    /// Where the language model is asked.
    model_url: String,
    #[serde(deserialize_with = "config::secret")]
    model_key: Secret,
}

/// What the handlers share.
struct Shop {
    settings: Settings,
    database: Mutex<Connection>,
    http: reqwest::Client,
}

fn main() -> ExitCode {
    echostr::run(set_up)
}

async fn set_up(config: &Config) -> Result<Hooks, HandlerError> {
    let settings: Settings = config.handler("shop")?.ok_or("[handlers.shop] is missing")?;
    let database = Connection::open(&settings.database)?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS blocked (account TEXT PRIMARY KEY); CREATE TABLE IF NOT EXISTS said (openid TEXT, text TEXT)",
    )?;
    let shop = Shop { settings, database: Mutex::new(database), http: reqwest::Client::new() };
    Ok(Hooks::with(shop)
        .on(async |shop, message: mp::TextMessage, _| Ok(Reply::text(shop.ask(&message.content).await?)))
        .on(async |_, scan: mp::SubscribeScan, _| {
            Ok(Reply::text(format!("Welcome to table {}.", scan.event_key.trim_start_matches("qrscene_"))))
        })
        .on(async |_, click: mp::MenuClick, _| match &*click.event_key {
            "hours" => Ok(Reply::text("We are open from 9 to 18.")),
            other => Err(format!("the menu has no `{other}`").into()),
        })
        .on(async |_, _: wecom_kf::EnterSession, _| {
            Ok(kf::Menu::new("Welcome!").click("human", "Talk to a person").into())
        })
        .on(async |shop, message: wecom_kf::TextMessage, _| match message.text.menu_id.as_deref() {
            Some("human") => Ok(kf::Reply::text("A colleague takes over.").transfer(kf::Transfer::queue())),
            _ => Ok(kf::Reply::text(shop.ask(&message.text.content).await?)),
        })
        .on(gate)
        .observe(Observe::named("said").in_order(), async |shop, message: mp::TextMessage, _| {
            shop.execute("INSERT INTO said VALUES (?1, ?2)", [message.from_user(), &message.content])
        })
        .observe("crm", async |_, event: mp::Unsubscribe, _| match event.from_user() {
            "" => Err(Permanent::new("the CRM takes no user without an id").into()),
            openid => {
                tracing::info!("the CRM removes {openid}");
                Ok(())
            }
        })
        .background(Background::named("followers").on_one_node(), count_followers)
        .into())
}

/// Whoever is blocked writes to nobody.
async fn gate(shop: Arc<Shop>, message: im::BeforePrivateMessageSend, _: Context) -> Result<Verdict, HandlerError> {
    let sender = message.from_account;
    let is_blocked = shop.has("SELECT 1 FROM blocked WHERE account = ?1", &sender)?;
    Ok(if is_blocked { Verdict::deny(120_001, "you are blocked")? } else { Verdict::allow() })
}

async fn count_followers(_: Arc<Shop>, server: ServerHandle) -> Result<(), HandlerError> {
    loop {
        let users = server.api("mp/test")?.get("cgi-bin/user/get", &[]).await?;
        tracing::info!("{} followers", users["total"]);
        if !server.sleep(Duration::from_secs(3600)).await {
            return Ok(());
        }
    }
}

impl Shop {
    async fn ask(&self, question: &str) -> Result<String, HandlerError> {
        let Settings { model_url, model_key, .. } = &self.settings;
        let request =
            self.http.post(model_url).bearer_auth(model_key.expose()).body(json!({ "input": question }).to_string());
        let answer: Value = serde_json::from_str(&request.send().await?.error_for_status()?.text().await?)?;
        Ok(answer["output"].as_str().ok_or("the model gave no text")?.to_owned())
    }

    /// Statements take microseconds here; longer ones belong into `spawn_blocking`.
    fn execute(&self, statement: &str, values: [&str; 2]) -> Result<(), HandlerError> {
        Ok(self.database.lock().unwrap_or_else(PoisonError::into_inner).execute(statement, values).map(drop)?)
    }

    fn has(&self, query: &str, value: &str) -> Result<bool, HandlerError> {
        Ok(self.database.lock().unwrap_or_else(PoisonError::into_inner).prepare_cached(query)?.exists([value])?)
    }
}
