//! The commands of a bot of one's own: it checks its configuration, serves, answers, and ends with SIGTERM.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[log]
format = "json"
[journal]
url = "memory:"
[mp.shop]
app_id = "wx0123456789abcdef"
token = "fakeToken"
aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
"#;

fn bot(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bot"));
    command.args(arguments).arg("--config").arg(config);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn it_serves_and_answers_with_its_own_handler() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("echostr.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let checked = bot(&config, &["check"]).output().unwrap();
    assert!(checked.status.success() && text(&checked).contains("no problem"), "{}", text(&checked));

    let mut server = bot(&config, &["serve"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    // {"…","address":"127.0.0.1:40000","admin":…}
    let address = log.by_ref().map(Result::unwrap).find_map(|line| {
        let (_, rest) = line.split_once("\"address\":\"")?;
        rest.split_once('"').map(|(address, _)| address.to_owned())
    });
    let url = format!("http://{}", address.unwrap());
    let simulate = ["simulate", "mp/shop", "mp.message.text", "--set", "Content=hello", "--url", &url];
    let answered = bot(&config, &simulate).output().unwrap();
    assert!(answered.status.success() && text(&answered).contains("You wrote: hello"), "{}", text(&answered));

    let ended = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
    assert!(ended.success());
    log.for_each(drop);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_table_of_settings_that_no_handler_reads_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("echostr.toml");
    std::fs::write(&config, format!("{CONFIG}[handlers.nobody]\n")).unwrap();
    let warning = "[handlers.nobody]: no handler reads this table";
    let checked = bot(&config, &["check"]).output().unwrap();
    assert!(text(&checked).contains("`check --handlers`") && !text(&checked).contains(warning), "{}", text(&checked));
    let checked = bot(&config, &["check", "--handlers"]).output().unwrap();
    assert!(text(&checked).contains(warning), "{}", text(&checked));
}
