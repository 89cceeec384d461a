//! What a panic says is in the log, in lines of its format, and on its event.

use std::process::Command;

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
};
use tempfile::TempDir;

use super::{run, write};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, MP, text_message},
    until,
};

/// A value that panics while it is logged.
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("while a line\nis written");
    }
}

/// The test starts itself again, for the hook is of a whole process.
#[test]
fn a_log_of_json_stays_json_whatever_panics() {
    const SELF: &str = "cli::panics::a_log_of_json_stays_json_whatever_panics";
    if std::env::var_os("ECHOSTR_TEST_PANIC").is_some() {
        let log = tracing_subscriber::fmt().json().flatten_event(true);
        log.with_writer(|| echostr::internals::log::EscapedJson(std::io::stderr())).init();
        echostr::internals::log::take_panics_as_json();
        let panics: [fn(); 5] = [
            || panic!("two\nlines \u{1b}[2J \u{9b}31m \"quoted\" \u{202e}"),
            || std::panic::panic_any(7),
            || std::panic::panic_any(String::from("owned")),
            || panic!("{}", "long".repeat(100_000)),
            || tracing::warn!("{}", Unspeakable),
        ];
        for panic in panics {
            assert!(std::panic::catch_unwind(panic).is_err());
            // Another thread has the same hook.
            assert!(std::thread::Builder::new().name("its\nname".into()).spawn(panic).unwrap().join().is_err());
        }
        return;
    }
    for backtrace in ["0", "1"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", SELF, "--nocapture"]).env("ECHOSTR_TEST_PANIC", "1").env("RUST_BACKTRACE", backtrace);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
        let said = |text: &str| lines.iter().filter(|line| line["message"].as_str().unwrap().contains(text)).count();
        assert_eq!((lines.len(), said("panic at ")), (10, 10), "{text}");
        for text in ["two\nlines", "no message", "owned", "longlong", "while a line\nis written"] {
            assert_eq!(said(text), 2, "{text}");
        }
        let longest = lines.iter().map(|line| line["message"].as_str().unwrap().len()).max().unwrap();
        assert!(longest < 5000, "{longest}");
        assert!(!text.contains(|sign: char| sign != '\n' && sign.is_control()) && !text.contains('\u{202e}'), "{text}");
        assert!(
            lines.iter().all(|line| line["level"] == "ERROR" && line["backtrace"].is_string() == (backtrace == "1"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_panic_is_on_its_event() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    write(folder.path(), &format!("[journal]\nurl = \"{url}\"\n{ACCOUNTS}"));
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| -> Result<Reply, echostr::hooks::HandlerError> {
            match message.content.as_str() {
                "any" => std::panic::panic_any(7),
                "long" => panic!("{}", "long".repeat(1000)),
                _ => panic!("out of\nstock \u{1b}[2J"),
            }
        })
        .observe("audit", async |_: mp::TextMessage, _: Context| panic!("no\nledger"));
    let settings = format!("{ACCOUNTS}\n[observers]\nmax_attempts = 1\n");
    let server = TestServer::start_on(&url, "", &settings, hooks).await;
    for (id, content) in [(1, "text"), (2, "any"), (3, "long")] {
        assert_eq!(server.post("/mp/shop", &MP.safe(&text_message(id, content), &id.to_string())).await.status, 200);
    }
    until(async || run(folder.path(), &["dead", "ls", "--json"]).await.out.lines().count() == 3).await;
    let listed = run(folder.path(), &["events", "ls", "--json"]).await.out;
    let expected = [
        r"failure: the responder panicked: out of\nstock \u{1b}[2J",
        "panicked: without a message",
        "panicked: longlong",
    ];
    for (line, expected) in listed.lines().zip(expected) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let shown = run(folder.path(), &["events", "show", event["id"].as_str().unwrap()]).await;
        let shown =
            shown.with(0, &[expected, r"observer audit: failed once, dead letter since ", r"panicked: no\nledger"]);
        assert!(shown.out.lines().all(|line| line.len() < 1000), "{}", shown.out);
    }
    assert!(server.stop().await.unwrap());
}
