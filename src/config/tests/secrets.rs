//! Secrets.

use super::*;

#[test]
fn checks_secrets() {
    let token = |token: &str| format!("[mp.shop]\napp_id = \"wx1\"\ntoken = {token}\n");
    let shape = "c.toml:3: [mp.shop] `token` must be a string, { env = \"NAME\" } or { file = \"path\" }";
    for wrong in ["12", "[\"x\"]", "{ evn = \"X\" }", "{ env = 1 }", "{ env = \"A\", file = \"b\" }", "{}"] {
        check(&token(wrong), &[shape]);
    }
    check(&token("\"\""), &["c.toml:3: [mp.shop] `token` is empty"]);
    check(
        &token("{ env = \"SHOP_TOKEN\" }"),
        &["c.toml:3: [mp.shop] `token` cannot be read: environment variable `SHOP_TOKEN` is not set"],
    );
    // It may be the secret itself.
    check(
        &token("{ env = \"QDG6eK\" }"),
        &["c.toml:3: [mp.shop] `token` cannot be read: environment variable is not set"],
    );
    check(
        &token("{ file = \"/nowhere/token\" }"),
        &["c.toml:3: [mp.shop] `token` cannot be read: file `/nowhere/token`: no such file"],
    );
    check(&token("{ file = \"QDG6eK\" }"), &["c.toml:3: [mp.shop] `token` cannot be read: file: no such file"]);
    check(&token("{ file = \"/\" }"), &["c.toml:3: [mp.shop] `token` cannot be read: file `/`: is a directory"]);
    check(
        &token("{ file = \"/dev/zero\" }"),
        &["c.toml:3: [mp.shop] `token` cannot be read: file `/dev/zero`: file too large"],
    );

    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = token(&format!("{{ file = {:?} }}", file.path()));
    let empty = parse(&text).unwrap_err().to_string();
    assert_eq!(empty, "c.toml:3: [mp.shop] `token` is empty: so is the file");
    file.write_all(b"fromfile\r\n\n").unwrap();
    assert_eq!(good(&text).accounts[0].tokens, [Secret::new("fromfile")]);

    let set = |text: &'static str| {
        Config::parse(&token("{ env = \"SHOP_TOKEN\" }"), "c.toml", move |name: &str| {
            assert_eq!(name, "SHOP_TOKEN");
            Ok(text.to_owned())
        })
    };
    assert_eq!(set("fromenv\n").unwrap().accounts[0].tokens, [Secret::new("fromenv")]);
    assert_eq!(
        set("\n").unwrap_err().to_string(),
        "c.toml:3: [mp.shop] `token` is empty: so is the environment variable"
    );
    #[cfg(unix)]
    {
        use std::{ffi::OsString, os::unix::ffi::OsStringExt};
        let wrong = |_: &str| Err(VarError::NotUnicode(OsString::from_vec(vec![0xff])));
        let error = Config::parse(&token("{ env = \"SHOP_TOKEN\" }"), "c.toml", wrong).unwrap_err().to_string();
        let expected = "`token` cannot be read: environment variable `SHOP_TOKEN` is not UTF-8";
        assert_eq!(error, format!("c.toml:3: [mp.shop] {expected}"));
    }
}

#[test]
fn shows_no_secret() {
    assert!(!everything_shown(&secretive()).contains("CANARY"), "{}", everything_shown(&secretive()));
    // In the wrong place, of the wrong type, broken: each line of the file in turn has its value replaced.
    let wrong = [
        CANARY.to_owned(),
        format!("\"{CANARY}"),
        format!("\"{CANARY}\""),
        format!("\"{CANARY}\" x"),
        format!("[\"{CANARY}\"]"),
        format!("{{ env = \"{CANARY}\" }}"),
        format!("{{ file = \"{CANARY}\" }}"),
        format!("{{ file = \"{CANARY}\", env = \"{CANARY}\" }}"),
        format!("{{ {CANARY} = \"\" }}"),
        format!("{{ {CANARY} }}"),
        format!("\"{CANARY}\\q\""),
        format!("\"{CANARY} {CANARY}\""),
        format!("\"postgres:{CANARY}\""),
        format!("\"https://{CANARY}@host/\""),
        format!("\"/{CANARY}//\""),
        format!("\"{CANARY}=\""),
    ];
    let (text, extra) =
        (secretive(), "api_base = \"\"\npath = \"\"\nmode = \"\"\nlate_reply = \"\"\ndeadline = \"\"\n");
    let text = text.replace("app_id = \"wx1\"\n", &format!("app_id = \"wx1\"\n{extra}"));
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        // Ids are no secrets: `Debug` shows the good ones.
        for value in wrong.iter().filter(|_| !["app_id"].contains(&key)) {
            let changed = format!("{key} = {value}");
            let mut lines = lines.clone();
            lines[at] = &changed;
            let shown = everything_shown(&lines.join("\n"));
            assert!(!shown.contains("CANARY"), "{changed}\n{shown}");
        }
    }
}
