//! A server reads its configuration again: what is new is used as a whole or not at all, and nothing that came is lost.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use echostr::{config::Config, hooks::Hooks, server::Reload};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::support::{
    Answer, Http,
    platform::{Signed, WeChat},
    program::Program,
    server::{MP, MP_OLD, PLAIN, text_message},
    target::{Act, Target},
    wait_for,
};

const TOKEN: &str = "adminTokenOfTheTests";

/// A program with a configuration that changes.
struct Reloading {
    program: Program,
    folder: TempDir,
    journal: String,
    callbacks: Http,
    admin: SocketAddr,
}

impl Reloading {
    async fn start(rest: &str) -> Self {
        Self::start_on("memory:", rest).await
    }

    /// `sqlite`: a file in the folder.
    async fn start_on(journal: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = match journal {
            "sqlite" => format!("sqlite://{}", folder.path().join("journal.db").display()),
            other => other.to_owned(),
        };
        fs::write(folder.path().join("admin-token"), TOKEN).unwrap();
        let file = folder.path().join("echostr.toml");
        fs::write(&file, Self::text(&folder, &journal, rest)).unwrap();
        let program = Program::serve(&file);
        let [callbacks, admin] = program.addresses().await;
        Self { program, folder, journal, callbacks: Http(callbacks), admin }
    }

    fn text(folder: &TempDir, journal: &str, rest: &str) -> String {
        let token = folder.path().join("admin-token");
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nmax_age = \"off\"\nshutdown_grace = \"5s\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"{}\" }}\n\
             [journal]\nurl = \"{journal}\"\n{rest}",
            token.display()
        )
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("echostr.toml")
    }

    fn write(&self, rest: &str) {
        fs::write(self.file(), Self::text(&self.folder, &self.journal, rest)).unwrap();
    }

    /// A request to the admin listener, with these lines of the head.
    async fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let (host, length) = (self.admin, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        Http(host).send(request.as_bytes()).await
    }

    async fn api(&self, method: &str, path: &str) -> (u16, Json) {
        let answer = self.ask(method, path, &format!("Authorization: Bearer {TOKEN}"), "").await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
    }

    /// Changes the configuration, and has it read.
    async fn reload(&self, rest: &str) -> (u16, Json) {
        self.write(rest);
        self.api("POST", "/v1/reload").await
    }

    async fn takes(&self, rest: &str) {
        let (status, answer) = self.reload(rest).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn post(&self, path: &str, signed: &Signed) -> (u16, String) {
        let answer = self.callbacks.post(&format!("{path}?{}", signed.query), &signed.body).await;
        (answer.status, answer.body)
    }

    /// What a text to `/mp/plain` is answered.
    async fn says(&self, id: u64, text: &str) -> String {
        let (status, body) = self.post("/mp/plain", &PLAIN.plain(&text_message(id, text), &format!("n{id}"))).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

const ONE: &str = "[mp.plain]\napp_id = \"wx0000000000000009\"\ntoken = \"plainToken\"\nmode = \"plain\"\n";

fn safe(name: &str, keys: &WeChat) -> String {
    format!(
        "[mp.{name}]\napp_id = \"{}\"\ntoken = \"{}\"\naes_key = \"{}\"\n",
        keys.receive_id, keys.token, keys.aes_key
    )
}

fn forward(name: &str, to: &str, more: &str) -> String {
    format!(
        "[[forward]]\nname = \"{name}\"\nmatch = \"*\"\nto = \"{to}\"\nretry = [\"10ms\", \"50ms\", \"50ms\"]\n{more}"
    )
}

fn answer(text: &str) -> String {
    format!("[[answer]]\nname = \"{text}\"\nmatch = \"mp/*:mp.message.text\"\ntext = \"{text}\"\n")
}

#[tokio::test]
async fn accounts_keys_answers_and_forwards_change_while_the_server_runs() {
    let server = Reloading::start(&format!("{ONE}{}", answer("first"))).await;
    assert!(server.says(1, "hi").await.contains("first"));
    let hidden = MP.safe(&text_message(2, "hi"), "n2");
    assert_eq!(server.post("/mp/shop", &hidden).await.0, 404);

    // An account, another answer, and a forward of both.
    let target = Target::start(|_, _| Act::Status(200)).await;
    let shop = safe("shop", &MP);
    let all = format!("{ONE}{shop}{}{}", answer("second"), forward("crm", &target.url(), ""));
    let (status, answered) = server.reload(&all).await;
    assert_eq!(status, 200, "{answered}");
    assert_eq!(answered, json!({"added": ["mp/shop"], "removed": [], "needs_restart": []}));
    assert!(server.says(3, "hi").await.contains("second"));
    let (status, sealed) = server.post("/mp/shop", &hidden).await;
    assert_eq!(status, 200);
    assert!(MP.open_reply(&sealed).contains("second"));
    let mut forwarded: Vec<_> =
        target.received(2).await.iter().map(|it| it.json()["data"]["MsgId"].to_string()).collect();
    forwarded.sort();
    assert_eq!(forwarded, ["\"2\"", "\"3\""]);

    // Other keys of the account; the other account is gone.
    let turned = safe("shop", &MP_OLD);
    server.takes(&turned).await;
    server.program.says(&["accounts removed: mp/plain"]).await;
    let (status, _) = server.post("/mp/shop", &MP.safe(&text_message(4, "hi"), "n4")).await;
    assert_eq!(status, 403, "the old token");
    assert_eq!(server.post("/mp/shop", &MP_OLD.safe(&text_message(5, "hi"), "n5")).await, (200, "success".to_owned()));
    let gone = PLAIN.plain(&text_message(6, "hi"), "n6");
    assert_eq!(server.post("/mp/plain", &gone).await.0, 404);
    let (_, accounts) = server.api("GET", "/v1/accounts").await;
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(target.requests().len(), 2, "there is no forward any more");
    assert!(server.program.stop().await);
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_a_whole_and_the_old_configuration_goes_on() {
    let kept = format!("{ONE}{}", answer("kept"));
    let server = Reloading::start(&kept).await;
    let double = format!("{ONE}{}{}", answer("one"), answer("two"));
    let missing = format!("{ONE}[mp.shop]\ntoken = {{ file = \"{}/none\" }}\n", server.folder.path().display());
    let wrong: [(&str, &[&str]); 6] = [
        ("[mp.plain\n", &["echostr.toml:10", "not TOML"]),
        (
            "[mp.plain]\nmode = \"plain\"\ntokn = \"a\"\n[wecom.b]\n",
            &["echostr.toml:12", "unknown key", "echostr.toml:13"],
        ),
        (&missing, &["echostr.toml", "none"]),
        (&double, &["[[answer]]", "only one can"]),
        (&format!("{ONE}[observers.nobody]\ntimeout = \"1s\"\n"), &["nobody"]),
        (&format!("{ONE}{}", forward("crm", "http://169.254.169.254/in", "")), &["[[forward]]", "metadata"]),
    ];
    for (text, parts) in wrong {
        let (status, answer) = server.reload(text).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!((status, answer["error"]["code"].as_str()), (422, Some("wrong_configuration")), "{text}: {answer}");
        assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        let id = 100 + text.len() as u64;
        assert!(server.says(id, "hi").await.contains("kept"), "{text}");
    }
    server.program.says(&["ERROR", "the new configuration is wrong, and the old one goes on"]).await;

    // A file that is gone is wrong, too; and it can be put back.
    fs::remove_file(server.file()).unwrap();
    assert_eq!(server.api("POST", "/v1/reload").await.0, 422);
    assert!(server.says(9, "hi").await.contains("kept"));
    server.takes(&format!("{ONE}{}", answer("back"))).await;
    assert!(server.says(10, "hi").await.contains("back"));
}

#[tokio::test]
async fn a_signal_and_the_command_line_do_the_same_and_files_of_secrets_are_read_again() {
    let server = Reloading::start("").await;
    let secret = server.folder.path().join("token");
    fs::write(&secret, "plainToken\n").unwrap();
    let account = format!(
        "[mp.plain]\napp_id = \"wx0000000000000009\"\nmode = \"plain\"\ntoken = {{ file = \"{}\" }}\n",
        secret.display()
    );
    server.write(&account);
    server.program.signal("-HUP");
    server.program.says(&["accounts added: mp/plain"]).await;
    server.says(1, "hi").await;

    // The file alone has changed.
    fs::write(&secret, "anotherToken\n").unwrap();
    let reload = |url: &str, token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        command.args(["reload", "--url", url]).env("ECHOSTR_ADMIN_TOKEN", token);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let url = format!("http://{}", server.admin);
    let done = reload(&url, TOKEN).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("the configuration was read again"));
    let old = PLAIN.plain(&text_message(2, "hi"), "n2");
    assert_eq!(server.post("/mp/plain", &old).await.0, 403);
    let new = WeChat { token: "anotherToken", ..PLAIN }.plain(&text_message(2, "hi"), "n2");
    assert_eq!(server.post("/mp/plain", &new).await.0, 200);

    let refused = reload(&url, "wrong").await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    server.write("[mp.plain]\n");
    let wrong = reload(&url, TOKEN).await.unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("token"), "{wrong:?}");
}

#[tokio::test]
async fn the_token_of_the_page_changes_and_ends_its_sessions() {
    let server = Reloading::start(ONE).await;
    let head = format!("Content-Type: application/json\r\nOrigin: http://{}", server.admin);
    let login = server.ask("POST", "/session", &head, &json!({ "token": TOKEN }).to_string()).await;
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let seen = async || server.ask("GET", "/v1/accounts", &format!("Cookie: {cookie}"), "").await.status;
    assert_eq!(seen().await, 200);
    server.takes(ONE).await;
    assert_eq!(seen().await, 200, "the same token");
    fs::write(server.folder.path().join("admin-token"), "anotherAdminToken").unwrap();
    server.takes(ONE).await;
    assert_eq!(seen().await, 401);
    assert_eq!(server.api("GET", "/v1/accounts").await.0, 401, "the old token");
}

#[tokio::test]
async fn what_cannot_change_says_so_and_the_rest_is_applied() {
    let server = Reloading::start(&format!("{ONE}{}", answer("before"))).await;
    let text = fs::read_to_string(server.file()).unwrap();
    let text = text.replace("max_age = \"off\"", "max_age = \"off\"\nmax_connections = 77\nbody_limit = \"2KiB\"");
    let text = text.replace("url = \"memory:\"", "url = \"sqlite://elsewhere.db\"\nretention = \"1d\"");
    let text = text.replace("before", "after") + "[log]\nlevel = \"debug\"\nformat = \"json\"\n";
    fs::write(server.file(), text).unwrap();
    let (status, answered) = server.api("POST", "/v1/reload").await;
    assert_eq!(status, 200, "{answered}");
    let kept = ["[server] max_connections", "[log] format", "[journal] url", "[journal] retention"];
    assert_eq!(answered["needs_restart"], json!(kept));
    server.program.says(&["needs a restart: [server] max_connections"]).await;
    assert!(server.says(1, "hi").await.contains("after"));
    let large = PLAIN.plain(&text_message(2, &"x".repeat(3000)), "n2");
    assert_eq!(server.post("/mp/plain", &large).await.0, 413);
    // The level is another one.
    server.callbacks.get("/nobody").await;
    server.program.says(&["DEBUG", "no account has its path"]).await;
}

/// Every delivery is answered, and every event is forwarded once, while the configuration is read again and again.
async fn nothing_is_lost_under_load(journal: &str) {
    const DELIVERIES: u64 = 240;
    let target = Arc::new(Target::start(|_, _| Act::Status(200)).await);
    let rest = |round: usize| {
        let more = if round.is_multiple_of(2) { safe("shop", &MP) } else { String::new() };
        let order = if round.is_multiple_of(3) { "order = \"subject\"\n" } else { "" };
        format!("{ONE}{more}{}{}", answer(&format!("round-{round}")), forward("crm", &target.url(), order))
    };
    let server = Arc::new(Reloading::start_on(journal, &rest(0)).await);
    let deliveries: Vec<_> = (0..4)
        .map(|part| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                for id in (part..DELIVERIES).step_by(4) {
                    assert!(server.says(1000 + id, "hi").await.contains("round-"));
                }
            })
        })
        .collect();
    let mut round = 0;
    while !deliveries.iter().all(tokio::task::JoinHandle::is_finished) {
        round += 1;
        server.takes(&rest(round)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert!(round > 3, "{round} reloads only");
    let ids = || {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for request in target.requests() {
            *seen.entry(request.json()["data"]["MsgId"].to_string()).or_default() += 1;
        }
        seen
    };
    wait_for("every event", async || ids().len() as u64 == DELIVERIES).await;
    let twice: Vec<_> = ids().into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    wait_for("nothing is pending", async || {
        let (_, observers) = server.api("GET", "/v1/observers").await;
        observers["observers"][0]["pending"] == 0
    })
    .await;
    let server = Arc::into_inner(server).unwrap();
    assert!(server.program.stop().await);
}

#[tokio::test]
async fn nothing_is_lost_under_load_in_memory() {
    nothing_is_lost_under_load("memory:").await;
}

#[tokio::test]
async fn nothing_is_lost_under_load_in_a_file() {
    nothing_is_lost_under_load("sqlite").await;
}

#[tokio::test]
async fn nothing_is_lost_under_load_in_a_database() {
    let Some(database) = crate::support::postgres::database().await else { return };
    nothing_is_lost_under_load(&database).await;
}

/// What waits for a forward goes to its new target; what waits for one that is gone is kept until it is back.
async fn pending_events_follow(journal: &str) {
    let down = Target::start(|_, _| Act::Status(500)).await;
    let patient = "retry = [\"1h\"]\n";
    let to =
        |target: &Target| format!("[[forward]]\nname = \"crm\"\nmatch = \"*\"\nto = \"{}\"\n{patient}", target.url());
    let server = Reloading::start_on(journal, &format!("{ONE}{}", to(&down))).await;
    server.says(1, "hi").await;
    down.received(1).await;
    server.takes(ONE).await;
    server.program.says(&["observer forward.crm is no longer registered", "1 pending events"]).await;
    server.says(2, "not forwarded").await;
    let up = Target::start(|_, _| Act::Status(200)).await;
    server.takes(&format!("{ONE}{}", to(&up))).await;
    server.says(3, "hi").await;
    up.received(1).await;
    assert_eq!(up.requests()[0].json()["data"]["MsgId"], "3");
    let (_, observers) = server.api("GET", "/v1/observers").await;
    wait_for("what waited from before", async || {
        let (_, observers) = server.api("GET", "/v1/observers").await;
        observers["observers"][0]["pending"] == 1
    })
    .await;
    assert_eq!(observers["observers"][0]["name"], "forward.crm");
}

#[tokio::test]
async fn pending_events_follow_in_a_file() {
    pending_events_follow("sqlite").await;
}

#[tokio::test]
async fn a_delivery_that_is_being_answered_ends_as_it_began() {
    let go = Arc::new(Notify::new());
    let service = {
        let go = Arc::clone(&go);
        Target::start(move |_, _| Act::Wait(Arc::clone(&go))).await
    };
    let asks =
        format!("{ONE}[[answer]]\nname = \"service\"\nmatch = \"mp/*:mp.message.text\"\nto = \"{}\"\n", service.url());
    let server = Arc::new(Reloading::start(&asks).await);
    let waiting = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.post("/mp/plain", &PLAIN.plain(&text_message(1, "hi"), "n1")).await })
    };
    service.received(1).await;
    // The account is gone, and its answer is still to come.
    server.takes(&format!("{}{}", safe("shop", &MP), answer("new"))).await;
    let (status, sealed) = server.post("/mp/shop", &MP.safe(&text_message(2, "hi"), "n2")).await;
    assert_eq!(status, 200);
    assert!(MP.open_reply(&sealed).contains("new"));
    go.notify_one();
    assert_eq!(waiting.await.unwrap().0, 200);
    assert!(Arc::into_inner(server).unwrap().program.stop().await);
}

#[tokio::test]
async fn a_server_inside_another_program_reads_what_that_gives() {
    let text = |answer_with: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nmax_age = \"off\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [journal]\nurl = \"memory:\"\n{ONE}{}",
            answer(answer_with)
        )
    };
    let parse = move |answer_with: &str| Config::parse(&text(answer_with), "test", |name| std::env::var(name));
    let bind = async || {
        let config = parse("first").unwrap();
        echostr::server::Server::bind(&config, Hooks::default(), echostr::clock::Clock::system()).await.unwrap()
    };
    let server = bind().await;
    let (http, reload) = (Http(server.address().unwrap()), server.reload());
    let says = async |id: u64| {
        let signed = PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"));
        http.post(&format!("/mp/plain?{}", signed.query), &signed.body).await.body
    };
    let running = tokio::spawn(async move {
        let rounds = std::sync::atomic::AtomicU32::new(0);
        let load = async || match rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => panic!("two responders"),
            1 => Err("the shop's database cannot be reached".into()),
            _ => Ok((parse("second")?, Hooks::default())),
        };
        server.run_reloading(std::future::pending(), load).await
    });
    assert!(says(1).await.contains("first"));
    for expected in ["two responders", "the shop's database cannot be reached"] {
        let refused = reload.reload().await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(says(2).await.contains("first"));
    }
    reload.reload().await.unwrap();
    assert!(says(3).await.contains("second"));
    running.abort();
    let _ = running.await;
    let gone = |reload: Reload| async move { reload.reload().await.unwrap_err().to_string() };
    assert_eq!(gone(reload).await, "the server is shutting down");

    let server = bind().await;
    let reload = server.reload();
    let running = tokio::spawn(server.run(std::future::pending()));
    assert!(reload.reload().await.unwrap_err().to_string().contains("does not say where it is"));
    running.abort();
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_while_it_reads_stops() {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n{ONE}"
    );
    let config = Config::parse(&config, "test", |name| std::env::var(name)).unwrap();
    let server =
        echostr::server::Server::bind(&config, Hooks::default(), echostr::clock::Clock::system()).await.unwrap();
    let (reload, stop, begun) = (server.reload(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = {
        let (stop, begun) = (Arc::clone(&stop), Arc::clone(&begun));
        tokio::spawn(async move {
            let load = async || {
                begun.notify_one();
                std::future::pending().await
            };
            server.run_reloading(async move { stop.notified().await }, load).await
        })
    };
    let asked = tokio::spawn(async move { reload.reload().await });
    begun.notified().await;
    let since = Instant::now();
    stop.notify_one();
    running.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(30), "it does not wait for what never comes");
    assert_eq!(asked.await.unwrap().unwrap_err().to_string(), "the server is shutting down");
}
