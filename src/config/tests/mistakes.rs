//! What is allowed and surely not what was meant.

use super::*;

#[test]
fn what_is_defined_twice_is_named_with_both_lines() {
    check(
        "[server]\n[mp.a]\n# [mp.a]\n\n[ mp . \"a\" ]\n",
        &["c.toml:5: table `mp.a` is defined twice, in lines 2 and 5; put its keys together"],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"info\"\nformat = \"text\"\nlevel = \"warn\"\n",
        &["c.toml:6: `level` is set twice in its table, in lines 4 and 6; remove one"],
    );
    let value = "[log]\nlevel = \"s3cret-one\"\nlevel = \"s3cret-two\"\n";
    assert!(!parse(value).unwrap_err().to_string().contains("s3cret"));
}

#[test]
fn values_that_are_surely_a_mistake_are_warned_of() {
    let mp = "[mp.shop]\napp_id = \"wx1\"\nmode = \"plain\"\n";
    let wecom = format!("[wecom.x]\ntoken = \"abc\"\naes_key = \"{KEY}\"\n");
    for (text, expected) in [
        (
            format!("{mp}token = \"ab\"\n"),
            "4: [mp.shop] `token` is not of the platform's form: 3 to 32 letters and digits",
        ),
        (format!("{mp}token = \"$SHOP_TOKEN\"\n"), "4: [mp.shop] `token` looks like a reference to a variable"),
        (format!("{mp}token = \"${{SHOP_TOKEN}}\"\n"), "write { env = \"NAME\" }"),
        (format!("{mp}token = \"changeme\"\n"), "4: [mp.shop] `token` looks like a placeholder"),
        (
            format!("{mp}token = \"abc\"\nsecret = \"<your secret>\"\n"),
            "5: [mp.shop] `secret` looks like a placeholder",
        ),
        (
            mp.replace("wx1", "ww0123456789abcdef") + "token = \"abc\"\n",
            "2: [mp.shop] `app_id` begins with `ww`, as a CorpID does",
        ),
        (format!("{wecom}corp_id = \"1000002\"\n"), "4: [wecom.x] `corp_id` is a number: a CorpID begins with `ww`"),
        (format!("{wecom}corp_id = \"wx0123456789abcdef\"\n"), "4: [wecom.x] `corp_id` begins with `wx`, as an AppID"),
        (
            "[im.my_chat]\nsdk_app_id = 1\ntoken = \"abc\"\n".to_owned(),
            "1: [im.my_chat] the console refuses `_` in addresses, and /im/my_chat has one: set `path`",
        ),
        (
            "[im.chat]\nsdk_app_id = 1\ntoken = \"ab\"\n".to_owned(),
            "3: [im.chat] `token` has fewer than 3 characters: it can be guessed",
        ),
        ("[admin]\ntoken = \"'0123456789abcdefg'\"\n".to_owned(), "2: [admin] `token` begins or ends with a quote"),
    ] {
        let found = warnings(&text);
        assert!(found.iter().any(|warning| warning.contains(expected)), "{expected}\n{found:#?}\n{text}");
    }
}

#[test]
fn a_mistake_is_named_where_it_makes_a_value_wrong() {
    let env = |name: &str| match name {
        "QUOTED_KEY" => Ok(format!("\"{KEY}\"")),
        _ => Err(VarError::NotPresent),
    };
    for (value, hint) in [
        ("{ env = \"QUOTED_KEY\" }", "it begins or ends with a quote"),
        ("\"$SHOP_AES_KEY\"", "write { env = \"NAME\" }"),
        ("\"/run/secrets/aes_key\"", "write { file = \"PATH\" }"),
        ("\"your_aes_key\"", "placeholder"),
    ] {
        let text = format!("[mp.shop]\napp_id = \"wx1\"\ntoken = \"abc\"\naes_key = {value}\n");
        let shown = Config::parse(&text, "c.toml", env).unwrap_err().to_string();
        assert!(
            shown.starts_with("c.toml:4: [mp.shop] `aes_key` must be the EncodingAESKey") && shown.contains(hint),
            "{shown}"
        );
        assert!(!shown.contains(KEY), "{shown}");
    }
    let shown = parse("[journal]\nurl = \"$JOURNAL_URL\"\n").unwrap_err().to_string();
    assert!(shown.contains("write { env = \"NAME\" }"), "{shown}");
}
