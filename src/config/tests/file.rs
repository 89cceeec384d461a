//! The file, and the one of the repository.

use super::*;

#[test]
fn finds_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    fs::write(&second, "").unwrap();
    let places = [first.as_path(), second.as_path()];
    assert_eq!(find_among(Some(Path::new("x")), Some("y".into()), &places).unwrap(), Path::new("x"));
    assert_eq!(find_among(None, Some("y".into()), &places).unwrap(), Path::new("y"));
    assert_eq!(find_among(None, Some("".into()), &places).unwrap(), second);
    let error = find_among(None, None, &[&first]).unwrap_err().to_string();
    let expected = "echostr: no configuration: ECHOSTR_CONFIG is not set, and there is no ";
    assert_eq!(error, format!("{expected}`{}`", first.display()));
    assert!(Config::load(&second).is_ok());
    let error = Config::load(&first).unwrap_err().to_string();
    assert_eq!(error, format!("{}: cannot be read: no such file", first.display()));
}

/// The file with every example in use, its secrets in `aes_key`.
fn uncommented(aes_key: &Path) -> String {
    let used = FILE.lines().map(|line| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
        _ => line,
    });
    used.collect::<Vec<_>>()
        .join("\n")
        .replace("/run/secrets/shop_aes_key", aes_key.to_str().unwrap())
        .replace("/etc/ssl/queue-ca.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/ca.pem"))
}

#[test]
fn the_file_of_the_repository_is_the_defaults() {
    let (file, empty) = (good(FILE), good(""));
    assert_eq!(format!("{:?}", file.server), format!("{:?}", empty.server));
    assert_eq!(format!("{:?}", file.log), format!("{:?}", empty.log));
    assert_eq!(format!("{:?}", file.admin), format!("{:?}", empty.admin));
    assert_eq!(format!("{:?}", file.observers), format!("{:?}", empty.observers));
    assert_eq!(format!("{:?}", file.api), format!("{:?}", empty.api));
    assert_eq!(format!("{:?}", file.journal), format!("{:?}", empty.journal));
    assert!(file.accounts.is_empty() && file.handlers.is_empty());
}

#[test]
fn the_file_of_the_repository_has_every_key() {
    // Where a queue is not built in, its example is refused.
    if !cfg!(feature = "queues") {
        return;
    }
    let mut key = tempfile::NamedTempFile::new().unwrap();
    writeln!(key, "{KEY}").unwrap();
    let text = uncommented(key.path());
    let env = |name: &str| {
        let value = match name {
            name if name.ends_with("AES_KEY") => KEY,
            name if name.contains("WEBHOOK") => "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
            _ => "fakeFromEnvironment",
        };
        Ok(value.to_owned())
    };
    let config = Config::parse(&text, "config/echostr.toml", env).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.warnings(), []);
    assert_eq!(config.unread_handlers(), ["demo"]);

    let root: toml::Table = text.parse().unwrap();
    let has = |section: &str, table: &toml::Table, keys: &[&str]| {
        for key in keys {
            assert!(table.contains_key(*key), "config/echostr.toml: no `{key}` in [{section}]");
        }
    };
    let sections = [
        ("server", server::KEYS),
        ("log", log::KEYS),
        ("admin", admin::KEYS),
        ("journal", journal::KEYS),
        ("observers", observers::KEYS),
        ("api", api::KEYS),
    ];
    for (section, keys) in sections {
        has(section, root[section].as_table().unwrap(), keys);
    }
    let forwards = root["forward"].as_array().unwrap().iter().flat_map(|forward| forward.as_table().unwrap());
    let forward: toml::Table = forwards.map(|(key, value)| (key.clone(), value.clone())).collect();
    has("[forward]", &forward, &crate::config::forward::keys().collect::<Vec<_>>());
    let answers = root["answer"].as_array().unwrap().iter().flat_map(|answer| answer.as_table().unwrap());
    let answer: toml::Table = answers.map(|(key, value)| (key.clone(), value.clone())).collect();
    has("[answer]", &answer, &super::answer::keys().collect::<Vec<_>>());
    for platform in Platform::ALL {
        // Some keys exclude others: then the examples have them together.
        let accounts = root[platform.as_str()].as_table().unwrap().values().map(|account| account.as_table().unwrap());
        let account: toml::Table = accounts.flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        has(platform.as_str(), &account, &platform.protocol().account().all_keys().collect::<Vec<_>>());
        // What the examples say is the default is the default.
        let account = config.accounts.iter().find(|account| account.platform == platform).unwrap();
        let id = match platform {
            Platform::Im => "sdk_app_id = 1400000000",
            Platform::WeCom | Platform::WeComKf => "corp_id = \"ww0123456789abcdef\"",
            Platform::OpenPlatform => "component_app_id = \"wx0123456789abcdef\"",
            Platform::WeComSuite => "suite_id = \"ww0123456789abcdef\"",
            Platform::WeComBot => "",
            _ => "app_id = \"wx0123456789abcdef\"",
        };
        let key = if platform == Platform::Im { String::new() } else { format!("aes_key = \"{KEY}\"") };
        let bare = good(&format!("[{platform}.x]\n{id}\ntoken = \"abc\"\n{key}\n"));
        let defaults = |account: &Account| {
            let Account { deadline, mode, max_age, late_reply, on_error, on_timeout, .. } = *account;
            (deadline, mode, max_age, late_reply, on_error, on_timeout)
        };
        assert_eq!(defaults(account), defaults(&bare.accounts[0]), "{platform}");
    }
}
