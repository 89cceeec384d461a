//! `check` opens no database; `check --handlers` sets the handlers up, and says what keeps it from that.

#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Command};

use tempfile::TempDir;

fn check(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    let output =
        command.arg("check").args(arguments).env("ECHOSTR_CONFIG", folder.join("echostr.toml")).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn handlers_are_set_up_only_when_asked_for() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("shop.db");
    let text = format!(
        "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n[journal]\nurl = 'memory:'\n[mp.test]\napp_id = 'wx0123456789abcdef'\ntoken = 'token'\nmode = 'plain'\n\
         [handlers.shop]\ndatabase = '{}'\nmodel_url = 'http://127.0.0.1:9/'\nmodel_key = 'key'\n",
        database.display()
    );
    std::fs::write(folder.path().join("echostr.toml"), &text).unwrap();
    let (is_good, said) = check(folder.path(), &[]);
    assert!(is_good && said.contains("`check --handlers`") && !database.exists(), "{said}");
    let (is_good, said) = check(folder.path(), &["--handlers"]);
    assert!(is_good && said.contains("no problem") && database.exists(), "{said}");

    let wrong = text.replace("shop.db", "missing/shop.db");
    std::fs::write(folder.path().join("echostr.toml"), wrong).unwrap();
    let (is_good, said) = check(folder.path(), &["--handlers"]);
    assert!(!is_good && said.contains("unable to open database file"), "{said}");
}
