//! A running server on a free port.

use std::{
    fs::{File, TryLockError},
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use echostr::{
    clock::Clock,
    config::{Config, JournalUrl},
    hooks::Hooks,
    internals::supervisor::Supervisor,
    server::{RunError, Server},
};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time,
};

use super::{
    Answer, Http, NOW,
    platform::{Im, Signed, WeChat},
};

/// The accounts of [`ACCOUNTS`], as the platforms know them.
pub const MP: WeChat = WeChat {
    token: "mpToken",
    aes_key: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
    receive_id: "wx0000000000000001",
};
pub const MP_OLD: WeChat = WeChat {
    token: "mpTokenOld",
    aes_key: "QPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba",
    receive_id: "wx0000000000000001",
};
pub const PLAIN: WeChat = WeChat { token: "plainToken", aes_key: "", receive_id: "" };
pub const COMPAT: WeChat = WeChat {
    token: "compatToken",
    aes_key: "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
    receive_id: "wx0000000000000002",
};
pub const MINI: WeChat = WeChat {
    token: "miniToken",
    aes_key: "miniminiminiminiminiminiminiminiminiminimin",
    receive_id: "wx0000000000000003",
};
pub const WECOM: WeChat = WeChat {
    token: "wecomToken",
    aes_key: "wecomwecomwecomwecomwecomwecomwecomwecomwec",
    receive_id: "ww0000000000000004",
};
pub const KF: WeChat = WeChat {
    token: "kfToken",
    aes_key: "kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk",
    receive_id: "ww0000000000000004",
};
pub const OPEN: WeChat = WeChat {
    token: "openToken",
    aes_key: "openopenopenopenopenopenopenopenopenopenope",
    receive_id: "wxcomponent0000001",
};
pub const SUITE: WeChat = WeChat {
    token: "suiteToken",
    aes_key: "suitesuitesuitesuitesuitesuitesuitesuitesui",
    receive_id: "wwsuite00000000001",
};
pub const BOT: WeChat =
    WeChat { token: "botToken", aes_key: "botbotbotbotbotbotbotbotbotbotbotbotbotbotb", receive_id: "" };
pub const IM: Im = Im { token: "imToken", sdk_app_id: 1_400_000_001 };

/// An account of every kind.
pub const ACCOUNTS: &str = r#"
[mp.shop]
app_id = "wx0000000000000001"
token = "mpToken"
token_previous = "mpTokenOld"
aes_key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
aes_key_previous = "QPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba"
[mp.plain]
app_id = "wx0000000000000009"
token = "plainToken"
mode = "plain"
[mp.compat]
app_id = "wx0000000000000002"
token = "compatToken"
aes_key = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
mode = "compat"
[miniprogram.game]
app_id = "wx0000000000000003"
token = "miniToken"
aes_key = "miniminiminiminiminiminiminiminiminiminimin"
[wecom.sales]
corp_id = "ww0000000000000004"
agent_id = 1000002
token = "wecomToken"
aes_key = "wecomwecomwecomwecomwecomwecomwecomwecomwec"
[wecom_kf.support]
corp_id = "ww0000000000000004"
token = "kfToken"
aes_key = "kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk"
[openplatform.agency]
component_app_id = "wxcomponent0000001"
token = "openToken"
aes_key = "openopenopenopenopenopenopenopenopenopenope"
[wecom_suite.crm]
suite_id = "wwsuite00000000001"
receive_ids = ["any"]
token = "suiteToken"
aes_key = "suitesuitesuitesuitesuitesuitesuitesuitesui"
[wecom_bot.helper]
token = "botToken"
aes_key = "botbotbotbotbotbotbotbotbotbotbotbotbotbotb"
[im.chat]
sdk_app_id = 1400000001
token = "imToken"
[im.open]
sdk_app_id = 1400000002
"#;

/// Every secret of [`ACCOUNTS`]: none may ever be seen.
pub const SECRETS: [&str; 19] = [
    // `mpTokenOld`, too.
    "mpToken",
    "plainToken",
    "compatToken",
    "miniToken",
    "wecomToken",
    "kfToken",
    "imToken",
    "openToken",
    "suiteToken",
    "botToken",
    "openopenopenopenopenopenopenopenopenopenope",
    "suitesuitesuitesuitesuitesuitesuitesuitesui",
    "botbotbotbotbotbotbotbotbotbotbotbotbotbotb",
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
    "kfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfkfk",
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
    "QPONMLKJIHGFEDCBAzyxwvutsrqponmlkjihgfedcba",
    "wecomwecomwecomwecomwecomwecomwecomwecomwec",
    "miniminiminiminiminiminiminiminiminiminimin",
];

pub struct TestServer {
    pub http: Http,
    pub admin: Http,
    pub clock: Clock,
    pub supervisor: Supervisor,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), RunError>>,
}

impl TestServer {
    /// Starts with the accounts of [`ACCOUNTS`] at [`NOW`].
    pub async fn start(hooks: Hooks) -> Self {
        Self::start_with("", ACCOUNTS, hooks).await
    }

    /// Starts with a `[server]` section of these lines, and these accounts.
    pub async fn start_with(server: &str, accounts: &str, hooks: Hooks) -> Self {
        Self::start_from(server, "memory:", "", accounts, hooks).await
    }

    /// Starts on this journal, with more lines of the `[journal]` section, and of sections behind it.
    pub async fn start_on(journal: &str, more: &str, accounts: &str, hooks: Hooks) -> Self {
        Self::start_from("", journal, more, accounts, hooks).await
    }

    /// Starts with the accounts of [`ACCOUNTS`] on a SQLite journal in this folder, and more sections.
    pub async fn start_in(folder: &Path, more: &str, hooks: Hooks) -> Self {
        let url = format!("sqlite://{}", folder.join("journal.db").display());
        Self::start_on(&url, "", &format!("{ACCOUNTS}{more}"), hooks).await
    }

    /// Starts with the accounts of [`ACCOUNTS`] on the journal with this URL.
    pub async fn start_at(url: &str, hooks: Hooks) -> Self {
        Self::start_on(url, "", ACCOUNTS, hooks).await
    }

    /// Starts with more lines in the `[admin]` section, and these accounts.
    pub async fn start_with_admin(admin: &str, accounts: &str, hooks: Hooks) -> Self {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n\
             [journal]\nurl = \"memory:\"\n{accounts}"
        );
        Self::start_text(&text, hooks).await
    }

    /// Starts with these lines of the `[server]` section, on this journal, with more lines of its section, and these accounts.
    pub async fn start_from(server: &str, journal: &str, more: &str, accounts: &str, hooks: Hooks) -> Self {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [journal]\nurl = \"{journal}\"\n{more}\n{accounts}"
        );
        Self::start_text(&text, hooks).await
    }

    async fn start_text(text: &str, hooks: Hooks) -> Self {
        let config = Config::parse(text, "test", |name| std::env::var(name)).unwrap();
        let clock = Clock::fixed(NOW);
        let server = bind(&config, hooks, &clock).await;
        let (address, admin): (SocketAddr, SocketAddr) = (server.address().unwrap(), server.admin_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let supervisor = server.supervisor().clone();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { http: Http(address), admin: Http(admin), clock, supervisor, stop: Some(stop), running }
    }

    pub async fn post(&self, path: &str, signed: &Signed) -> Answer {
        self.http.post(&format!("{path}?{}", signed.query), &signed.body).await
    }

    /// Asks the server to stop; the future says whether everything finished in time.
    pub fn stop(mut self) -> impl Future<Output = Result<bool, JoinError>> {
        let _ = self.stop.take().unwrap().send(());
        async move { self.running.await.map(|ended| ended.is_ok()) }
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), RunError> {
        self.running.await.unwrap()
    }

    /// The sum of the series of a metric that have these labels, as in `name{a="b"}`; there may be more labels.
    pub async fn metric(&self, series: &str) -> f64 {
        let series = series.trim().trim_end_matches('}');
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let text = self.admin.get("/metrics").await.body;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (other, given) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let has_all = labels.split(',').all(|label| label.is_empty() || given.split(',').any(|it| it == label));
            (other == name && has_all).then(|| value.parse::<f64>().unwrap())
        });
        values.sum()
    }
}

/// Binds a server. The lock of a journal that was just released may be held for a moment by a program that another test starts: it is
/// inherited until that runs.
async fn bind(config: &Config, hooks: Hooks, clock: &Clock) -> Server {
    if let JournalUrl::Sqlite(path) = &config.journal.url
        && let Ok(lock) = File::open(format!("{}.lock", path.display()))
    {
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) && Instant::now() < until {
            time::sleep(Duration::from_millis(10)).await;
        }
    }
    Server::bind(config, hooks, clock.clone()).await.unwrap()
}

/// A text message to the Official Account.
pub fn text_message(id: u64, content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_account]]></ToUserName><FromUserName><![CDATA[user_openid]]></FromUserName>\
         <CreateTime>{NOW}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content>\
         <MsgId>{id}</MsgId></xml>"
    )
}

/// An event of the Official Account.
pub fn event(name: &str, more: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_account]]></ToUserName><FromUserName><![CDATA[user_openid]]></FromUserName>\
         <CreateTime>{NOW}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{name}]]></Event>{more}</xml>"
    )
}
