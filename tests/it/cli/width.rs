//! Tables fit the terminal, help wraps at words, and colours are for terminals only.

use std::process::{Command, Stdio};

use echostr::{
    events::mp,
    hooks::{Context, Hooks},
};
use tempfile::TempDir;

use super::{command, ended, run, write};
use crate::support::{
    TestServer,
    server::{ACCOUNTS, MP, text_message},
    until,
};

/// Columns that a text takes, as a terminal counts them.
fn columns(line: &str) -> usize {
    let wide = |character: char| matches!(character, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{1f300}'..='\u{1faff}');
    line.chars().map(|character| if wide(character) { 2 } else { 1 }).sum()
}

const TABLES: [&[&str]; 6] = [
    &["events", "ls"],
    &["dead", "ls"],
    &["observers", "ls"],
    &["forwards"],
    &["catalog"],
    &["catalog", "wecom_suite"],
];

/// A journal with long names of every kind.
async fn journal(folder: &TempDir) -> TestServer {
    let url = format!("sqlite://{}", folder.path().join("journal.db").display());
    let long = "a-name-of-an-account-that-is-as-long-as-a-name-may-be-in-this-file";
    let accounts = ACCOUNTS.replace("[mp.shop]", &format!("[mp.{}]\npath = \"/mp/shop\"", &long[..64]));
    let forward = format!(
        "[[forward]]\nname = \"{}\"\nmatch = \"im/chat\"\nto = \"http://127.0.0.1:1/{long}/{long}\"\n",
        &long[..64]
    );
    let settings = format!("{accounts}{forward}\n[observers]\nmax_attempts = 1\n");
    write(folder.path(), &format!("[journal]\nurl = \"{url}\"\n{settings}"));
    let hooks = Hooks::default().observe(
        "一个名字很长的观察者用来把消息写入订单系统",
        async |_: mp::TextMessage, _: Context| {
            Err("库存不足：仓库说没有这个商品了 and a long text behind it, with\na line".into())
        },
    );
    let server = TestServer::start_on(&url, "", &settings, hooks).await;
    let message = text_message(1, "hi").replace("user_openid", "用户的名字也可以很长很长很长很长很长");
    assert_eq!(server.post("/mp/shop", &MP.safe(&message, "1")).await.status, 200);
    until(async || run(folder.path(), &["dead", "ls", "--json"]).await.out.lines().count() == 1).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_fits_and_json_has_all() {
    let folder = TempDir::new().unwrap();
    let server = journal(&folder).await;
    for (width, of) in [(80, None), (40, Some("40")), (80, Some("80")), (200, Some("200"))] {
        for arguments in TABLES {
            let mut command = command(folder.path(), arguments);
            command.envs(of.map(|of| ("COLUMNS", of)));
            let said = ended(command).await.with(0, &[]);
            assert!(said.out.lines().count() >= 2, "{arguments:?}: {}", said.out);
            for line in said.out.lines() {
                assert!(columns(line) <= width, "{arguments:?} at {width}: {} {line}", columns(line));
            }
            assert!(!said.out.contains('\x1b'), "{}", said.out);
        }
    }
    let cut = run(folder.path(), &["dead", "ls"]).await.out;
    assert!(cut.contains('…'), "{cut}");
    let json = run(folder.path(), &["dead", "ls", "--json"]).await.out;
    assert!(
        json.contains("一个名字很长的观察者用来把消息写入订单系统") && json.contains("a line") && !json.contains('…'),
        "{json}"
    );
    for arguments in
        [&["--help"][..], &["events", "ls", "--help"], &["simulate", "--help"], &["dead", "drop", "--help"]]
    {
        let help = run(folder.path(), arguments).await.with(0, &[]).out;
        let long = help.lines().find(|line| columns(line) > 80);
        assert_eq!(long, None, "{arguments:?}");
        // Broken at spaces, so that every word of an explanation is whole.
        assert!(help.split_whitespace().any(|word| word == "platform" || word == "events"), "{help}");
    }
    assert!(server.stop().await.unwrap());
}

/// The program in a terminal of 80 columns.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_terminal_of_80_columns_shows_whole_lines_and_colours() {
    if Command::new("tmux").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        let is_required = ["CI", "ECHOSTR_TEST_TMUX"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!is_required, "tmux is missing");
        eprintln!("skipped: tmux is missing");
        return;
    }
    let folder = TempDir::new().unwrap();
    let server = journal(&folder).await;
    // Each has a server of its own: one that ends may still be there for a moment.
    let tmux = |server: usize, arguments: &[&str]| {
        let socket = folder.path().join(format!("tmux{server}"));
        let output = Command::new("tmux").arg("-S").arg(&socket).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let program = env!("CARGO_BIN_EXE_echostr");
    let config = folder.path().join("echostr.toml");
    let runs = [
        ("events ls", "", None),
        ("dead ls", "", None),
        ("observers ls", "", None),
        ("catalog im", "", None),
        ("events ls --help", "", None),
        ("explain mp/plain --url 'signature=1&timestamp=1&nonce=1'", "", Some("\x1b[31m✗")),
        ("explain mp/plain --url 'signature=1&timestamp=1&nonce=1'", "NO_COLOR=1", Some("✗")),
    ];
    for (server_number, (arguments, variables, expected)) in runs.into_iter().enumerate() {
        let done = folder.path().join("done");
        let _ = std::fs::remove_file(&done);
        let line = format!(
            "ECHOSTR_CONFIG={} {variables} {program} {arguments}; touch {}; exec sleep 100",
            config.display(),
            done.display()
        );
        tmux(server_number, &["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "500", "-s", "t", &line]);
        until(async || done.exists()).await;
        // Lines that the terminal has wrapped are not joined: each is one that was printed.
        let coloured = tmux(server_number, &["capture-pane", "-p", "-e", "-t", "t"]);
        let (shown, joined) = (
            tmux(server_number, &["capture-pane", "-p", "-t", "t"]),
            tmux(server_number, &["capture-pane", "-p", "-J", "-t", "t"]),
        );
        tmux(server_number, &["kill-server"]);
        if let Some(mark) = expected {
            assert!(coloured.contains(mark), "{arguments}: {coloured:?}");
            assert!(variables.is_empty() || !coloured.contains("\x1b[31m"), "{coloured:?}");
            continue;
        }
        let lines = |text: &str| text.trim_end().lines().count();
        assert!(lines(&shown) >= 2, "{arguments}: {shown}");
        assert_eq!(lines(&shown), lines(&joined), "{arguments} has a line that does not fit:\n{shown}");
    }
    assert!(server.stop().await.unwrap());
}
