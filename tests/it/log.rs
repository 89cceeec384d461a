//! What comes from outside begins no line of the log, and tells no terminal what to do.

use std::{
    fs,
    process::{Command, Stdio},
};

use echostr::{
    events::mp,
    hooks::{Context, Hooks, Permanent},
    replies::mp::Reply,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task,
};

use crate::support::{
    Http, Log, NOW, TestServer,
    server::{KF, MP, event, text_message},
    until,
};

/// What an error says that came from outside: lines, the commands of a terminal in one byte and in two, and text from
/// right to left.
const FORGED: &str = "no stock\nERROR forged line\r\x0bERROR forged\u{85}ERROR\u{2028}ERROR forged\x1b[2J\x1b]0;title\x07\u{9b}31m\u{202e}txet";

/// Whether a text of lines has one that nobody of us wrote, or anything that acts.
fn forged(text: &str) -> Option<String> {
    let turns = |character| matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let acts = |character: char| character.is_control() || turns(character);
    text.lines().find(|line| line.contains(acts) || line.trim_start().starts_with("ERROR")).map(str::to_owned)
}

/// Waits for something to be true.

#[tokio::test]
async fn errors_of_handlers_stay_in_their_line() {
    let (log, _guard) = Log::begin();
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| match message.msg_id.as_str() {
            "1" => Err(FORGED.into()),
            "2" => Err(std::io::Error::other(FORGED).into()),
            _ => Ok(Reply::text("fine")),
        })
        .observe("fails", async |message: mp::TextMessage, _: Context| {
            Err(format!("{FORGED}{}", message.content).into())
        })
        .observe("says", async |_: mp::TextMessage, _: Context| {
            tracing::warn!(field = FORGED, display = %FORGED, debug = ?FORGED, "handler: {FORGED}");
            tracing::error!(error = &std::io::Error::other(FORGED) as &dyn std::error::Error, "{}", FORGED);
            Ok(())
        });
    let server = TestServer::start_with(
        "",
        &format!("{}\n[observers]\nmax_attempts = 1\n", crate::support::server::ACCOUNTS),
        hooks,
    )
    .await;
    for id in 1..=3 {
        let answer = server.post("/mp/shop", &MP.safe(&text_message(id, FORGED), &id.to_string())).await;
        assert_eq!(answer.status, 200);
    }
    server.post("/mp/shop", &MP.safe(&event(FORGED, ""), "4")).await;
    until(async || {
        log.text().matches("permanently failed").count() == 3 && log.text().matches("handler: ").count() == 3
    })
    .await;
    assert!(server.stop().await.unwrap());
    let text = log.text();
    assert_eq!(forged(&text), None, "{text}");
    // It is all there, in its line.
    let line = text.lines().find(|line| line.contains("responder of mp.message.text failed")).unwrap();
    assert!(line.contains(r"no stock\nERROR forged line\r\u{b}ERROR forged\u{85}ERROR"), "{line}");
    assert!(line.contains(r"\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}txet"), "{line}");
    // What the message has is not written again; what it has not is there.
    assert!(line.contains("mp/shop: responder") && line.contains(" event="), "{line}");
    assert!(!line.contains("account=") && !line.contains("kind="), "{line}");
}

#[tokio::test]
async fn json_is_one_object_a_line() {
    let (log, _guard) = Log::begin_json();
    let hooks = Hooks::default().on(async |_: mp::TextMessage, _: Context| Err(FORGED.into()));
    let server = TestServer::start(hooks).await;
    server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "1")).await;
    assert!(server.stop().await.unwrap());
    assert_eq!(forged(&log.text()), None, "{}", log.text());
    let lines: Vec<serde_json::Value> = log
        .text()
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |line: &serde_json::Value| line["message"].as_str().is_some_and(|message| message.contains(FORGED));
    assert_eq!(lines.iter().filter(|line| said(line)).count(), 1);
}

/// An API whose every answer is an error with this text.
async fn failing_api(message: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let body = serde_json::json!({ "errcode": 40013, "errmsg": message }).to_string();
    task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = body.clone();
            task::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

/// The program itself: what an API says, in its log and at its commands.
#[tokio::test]
async fn an_error_of_a_platform_writes_no_line_of_the_servers_log() {
    for format in ["text", "json"] {
        an_error_of_a_platform_writes_no_line(format).await;
    }
}

async fn an_error_of_a_platform_writes_no_line(format: &str) {
    let (folder, api) = (TempDir::new().unwrap(), failing_api(FORGED).await);
    let file = |name: &str| folder.path().join(name);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[server]\nlisten = \"{address}\"\nmax_age = \"off\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nformat = \"{format}\"\n[journal]\nurl = \"sqlite://{}\"\n[observers]\nmax_attempts = 1\n[wecom_kf.support]\n\
         corp_id = \"ww0000000000000004\"\ntoken = \"kfToken\"\naes_key = \"{}\"\nsecret = \"kfSecret\"\napi_base = \"{api}\"\n",
        file("journal.db").display(),
        KF.aes_key,
    );
    fs::write(file("echostr.toml"), config).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        command
            .args(arguments)
            .env("ECHOSTR_CONFIG", file("echostr.toml"))
            .env("COLUMNS", "1000")
            .env_remove("RUST_LOG");
        command
    };
    let mut serve = command(&["serve"]);
    let mut serving = serve.stdin(Stdio::null()).stderr(fs::File::create(file("log")).unwrap()).spawn().unwrap();
    let log = || fs::read_to_string(file("log")).unwrap();
    until(async || log().contains("listening on")).await;
    let callback = format!(
        "<xml><ToUserName>ww0000000000000004</ToUserName><CreateTime>{NOW}</CreateTime><MsgType>event</MsgType>\
         <Event>kf_msg_or_event</Event><Token>t</Token><OpenKfId>wk1</OpenKfId></xml>"
    );
    let signed = KF.safe(&callback, "n");
    assert_eq!(Http(address).post(&format!("/wecom_kf/support?{}", signed.query), &signed.body).await.status, 200);
    until(async || log().contains("echostr.kf-pull permanently failed")).await;
    let printed = |arguments: &[&str]| {
        let mut command = command(arguments);
        async move {
            let output = task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        }
    };
    // The dead letter is written after the line of the log.
    let mut dead = String::new();
    for _ in 0..200 {
        dead = printed(&["dead", "ls"]).await;
        if dead.contains("40013") {
            break;
        }
    }
    let id = dead.lines().last().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let shown = [
        ("the log", log()),
        ("dead ls", dead),
        ("dead ls --json", printed(&["dead", "ls", "--json"]).await),
        ("events show", printed(&["events", "show", &id]).await),
        ("events show --json", printed(&["events", "show", &id, "--json"]).await),
        ("check --online", printed(&["check", "--online"]).await),
    ];
    serving.kill().unwrap();
    serving.wait().unwrap();
    for (what, text) in shown {
        assert!(text.contains("ERROR forged line") && text.contains("40013"), "{what}: {text}");
        assert_eq!(forged(&text), None, "{what}: {text}");
    }
}

/// What users wrote is shown as text: also what JSON may hold as it is, and a terminal takes for a command.
#[tokio::test]
async fn what_is_shown_of_a_payload_does_nothing_to_a_terminal() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal.db");
    let config = format!(
        "[journal]\nurl = \"sqlite://{}\"\n[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"mpToken\"\naes_key = \"{}\"\n",
        journal.display(),
        MP.aes_key
    );
    fs::write(folder.path().join("echostr.toml"), config).unwrap();
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(message.content)))
        .observe("audit", async |_: mp::TextMessage, _: Context| Ok(()));
    let server = TestServer::start_in(folder.path(), "", hooks).await;
    let acts = "\u{7f}\u{9b}2J\u{85}ERROR forged\u{2028}\u{202e}\u{2066}";
    let message = text_message(1, acts).replace("user_openid", &format!("user{acts}"));
    let signed = MP.safe(&message, "1");
    assert_eq!(server.post("/mp/shop", &signed).await.status, 200);
    assert!(server.stop().await.unwrap());
    let payload = folder.path().join("payload.xml");
    fs::write(&payload, &message).unwrap();
    // A receive id is what the sender says.
    let stranger = crate::support::platform::WeChat { receive_id: "wx1\u{9b}2J\nERROR forged", ..MP };
    let captured = stranger.safe(&message, "n");
    fs::write(folder.path().join("body.xml"), &captured.body).unwrap();
    let body = folder.path().join("body.xml");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        command.args(arguments).env("ECHOSTR_CONFIG", folder.path().join("echostr.toml")).env("COLUMNS", "1000");
        let output = command.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let listed = run(&["events", "ls", "--json"]);
    let stored: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!(stored["data"]["Content"], acts, "it is the same text all the same");
    let id = stored["id"].as_str().unwrap();
    for arguments in [
        &["events", "ls"][..],
        &["events", "ls", "--json"],
        &["events", "show", id],
        &["events", "show", id, "--json"],
        &["catalog", "--match", payload.to_str().unwrap()],
        &["catalog", "--json", "--match", payload.to_str().unwrap()],
        &["explain", "mp/shop", "--url", &captured.query, "--body", body.to_str().unwrap()],
    ] {
        let text = run(arguments);
        assert!(text.len() > 40, "{arguments:?}: {text}");
        assert_eq!(forged(&text), None, "{arguments:?}: {text}");
    }
}

/// Names of observers and whatever a journal holds: each row is a line.
#[tokio::test]
async fn whatever_a_journal_holds_is_a_line_of_its_own() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal.db");
    let config = format!(
        "[journal]\nurl = \"sqlite://{}\"\n[mp.shop]\napp_id = \"wx0000000000000001\"\ntoken = \"mpToken\"\naes_key = \"{}\"\n",
        journal.display(),
        MP.aes_key
    );
    fs::write(folder.path().join("echostr.toml"), config).unwrap();
    let hooks = Hooks::default()
        .observe(FORGED, async |_: mp::TextMessage, _: Context| Ok(()))
        .observe("fails", async |_: mp::TextMessage, _: Context| Err(Permanent::new(FORGED).into()));
    let server = TestServer::start_in(folder.path(), "", hooks).await;
    assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "1")).await.status, 200);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        command
            .args(arguments)
            .env("ECHOSTR_CONFIG", folder.path().join("echostr.toml"))
            .env("COLUMNS", "1000")
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    until(async || run(&["dead", "ls", "--json"]).contains("forged")).await;
    assert!(server.stop().await.unwrap());
    let db = rusqlite::Connection::open(&journal).unwrap();
    let forge = "UPDATE event SET type = ?1, account = 'mp/' || ?1, subject = ?1, failure = ?1, reply = ?1, state = 2";
    db.execute(forge, [FORGED]).unwrap();
    drop(db);
    let listed = run(&["events", "ls", "--json"]);
    let stored: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!(stored["subject"], FORGED);
    let id = stored["id"].as_str().unwrap();
    for (arguments, lines) in [
        (&["events", "ls"][..], Some(2)),
        (&["events", "ls", "--json"], Some(1)),
        (&["events", "show", id], None),
        (&["events", "show", id, "--json"], Some(1)),
        (&["dead", "ls"], Some(2)),
        (&["dead", "ls", "--json"], Some(1)),
        (&["observers", "ls"], Some(3)),
        (&["observers", "ls", "--json"], Some(2)),
        (&["observers", "rm", FORGED, "--yes"], Some(1)),
        (&["observers", "rm", &FORGED[1..], "--yes"], Some(1)),
        (&["dead", "drop", "--observer", &FORGED[1..]], Some(1)),
        (&["dead", "drop", &format!("{id}/{FORGED}")], Some(1)),
        (&["events", "replay", "--all", "--observer", &FORGED[1..]], Some(1)),
        (&["check", "--handlers"], None),
    ] {
        let text = run(arguments);
        assert!(text.contains("forged"), "{arguments:?}: {text}");
        assert_eq!(forged(&text), None, "{arguments:?}: {text}");
        assert!(lines.is_none_or(|lines| text.lines().count() == lines), "{arguments:?}: {text}");
        if arguments.contains(&"--json") {
            text.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
        }
    }
}

/// A panic is a line like the others. The test starts itself again, for the hook is of a whole process.
#[test]
fn what_a_panic_says_stays_in_its_line() {
    const SELF: &str = "log::what_a_panic_says_stays_in_its_line";
    if std::env::var_os("ECHOSTR_TEST_PANIC").is_some() {
        tracing_subscriber::fmt()
            .fmt_fields(echostr::internals::log::fields())
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        echostr::internals::log::take_panics();
        for panic in [|| panic!("{FORGED}"), || panic!("plain"), || std::panic::panic_any(7)] {
            assert!(std::panic::catch_unwind(panic).is_err());
        }
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", SELF, "--nocapture"]).env("ECHOSTR_TEST_PANIC", "1").env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let panics: Vec<_> = text.lines().filter(|line| line.contains("panic at ")).collect();
    assert_eq!(panics.len(), 3, "{text}");
    assert!(panics[0].contains("tests/it/log.rs:") && panics[0].contains(r"no stock\nERROR forged line"), "{text}");
    assert!(panics[1].ends_with(": plain") && panics[2].ends_with(": no message"), "{text}");
    assert_eq!(forged(&text), None, "{text}");
}
