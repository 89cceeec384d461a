#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, env::VarError, fs, io::Write, time::Duration};

use proptest::prelude::*;

use super::*;

mod forward;
mod mistakes;
mod needs;
#[cfg(all(feature = "nats", feature = "redis", feature = "rabbitmq", feature = "kafka"))]
mod queue;
mod source;

const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const FILE: &str = include_str!("../../config/echostr.toml");

fn no_env(_: &str) -> Result<String, VarError> {
    Err(VarError::NotPresent)
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "c.toml", no_env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn warnings(text: &str) -> Vec<String> {
    good(text).warnings().iter().map(ToString::to_string).collect()
}

/// Every problem of `text`, exactly; `KEY43` stands for a good EncodingAESKey.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let error = parse(&text.replace("KEY43", KEY)).expect_err(text);
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines, expected, "\n{text}");
}

#[test]
fn names_unknown_tables_and_keys() {
    let tables = "tables are server, log, admin, journal, observers, api, handlers, forward, answer, mp, miniprogram, \
                  openplatform, wecom, wecom_suite, wecom_kf, wecom_bot, im";
    check("[sever]\n", &[&format!("c.toml:1: unknown table `sever`; did you mean `server`?; {tables}")]);
    check("\n[wechat.shop]\n", &[&format!("c.toml:2: unknown table `wechat`; did you mean `mp`?; {tables}")]);
    check("[zzzzzzzz]\n", &[&format!("c.toml:1: unknown table `zzzzzzzz`; {tables}")]);
    check("listen = 1\n", &["c.toml:1: unknown key `listen`; it is an integer outside of any table"]);
    check("server = 1\n", &["c.toml:1: `server` must be a table, not an integer"]);
    check("mp = []\n", &["c.toml:1: `mp` must be a table of accounts, not an array"]);
    check("[server]\n\nport = 80\n", &["c.toml:3: [server] unknown key `port`; did you mean `listen`?"]);
    check("[server]\nbody-limit = 80\n", &["c.toml:2: [server] unknown key `body-limit`; did you mean `body_limit`?"]);
    check("[log]\n\"a\\nb\" = 80\n", &["c.toml:2: [log] unknown key `a\\nb`"]);
    check(
        "[mp.shop]\napp_id = \"wx1\"\ntoekn = \"x\"\ntoken = \"x\"\n",
        &["c.toml:3: [mp.shop] unknown key `toekn`; did you mean `token`?"],
    );
    check(
        "[im.chat]\napp_id = 3\nsdk_app_id = 3\n",
        &["c.toml:2: [im.chat] `app_id` does not apply to [im]; did you mean `sdk_app_id`?"],
    );
    check(
        "[im.chat]\nsdk_app_id = 3\nmode = \"safe\"\n",
        &["c.toml:3: [im.chat] `mode` does not apply to [im]: never encrypted"],
    );
    check("answer = 1\n", &["c.toml:1: `answer` must be an array of tables, [[answer]], not an integer"]);
}

#[test]
fn says_what_is_not_toml() {
    check("[server\n", &["c.toml:1: not TOML: unclosed table, expected `]`"]);
    check(
        "[server]\nlisten = 0.0.0.0:80\n[log]\nlevel = info\nformat = text\n",
        &[
            "c.toml:2: not TOML: invalid float; a string has quotes",
            "c.toml:4: not TOML: invalid float; a string has quotes",
            "c.toml:5: not TOML: invalid boolean; a string has quotes",
        ],
    );
    check("[mp.a]\n[mp.a]\n", &["c.toml:2: table `mp.a` is defined twice, in lines 1 and 2; put its keys together"]);
}

#[test]
fn checks_the_sections() {
    check(
        "[server]\nlisten = \":8080\"\n",
        &["c.toml:2: [server] `listen` must be an address and a port such as \"0.0.0.0:8080\""],
    );
    check(
        "[server]\nlisten = 8080\n",
        &["c.toml:2: [server] `listen` must be an address and a port such as \"0.0.0.0:8080\", not an integer"],
    );
    let size = "a size such as \"1MiB\", a whole number and a unit (B, KiB, MiB, GiB)";
    check("[server]\nbody_limit = \"1MB\"\n", &[&format!("c.toml:2: [server] `body_limit` must be {size}")]);
    check("[server]\nbody_limit = \"99999999999GiB\"\n", &[&format!("c.toml:2: [server] `body_limit` must be {size}")]);
    check("[server]\nbody_limit = \"1B\"\n", &["c.toml:2: [server] `body_limit` must be from 1KiB to 64MiB"]);
    let duration = "a duration such as \"10s\", a whole number and a unit (ms, s, m, h, d)";
    check(
        "[server]\nmax_age = 600\n",
        &[&format!("c.toml:2: [server] `max_age` must be {duration}, or \"off\", not an integer")],
    );
    for wrong in ["10", "s", "", "1.5s", "-1s", "1 s", "99999999999999999999d", "9999999999999999d", "off"] {
        check(
            &format!("[server]\nkeep_alive = \"{wrong}\"\n"),
            &[&format!("c.toml:2: [server] `keep_alive` must be {duration}")],
        );
    }
    check("[server]\nshutdown_grace = \"1d\"\n", &["c.toml:2: [server] `shutdown_grace` must be from 0ms to 10m"]);
    check(
        "[server]\ntrusted_proxies = [\n  \"10.0.0.0/8\",\n  \"10.0.0.0/33\",\n  7,\n]\n",
        &[
            "c.toml:4: [server] `trusted_proxies` must be a list of addresses such as \"10.0.0.0/8\"",
            "c.toml:5: [server] `trusted_proxies` must be a list of addresses such as \"10.0.0.0/8\"",
        ],
    );
    check(
        "[server]\ntrusted_proxies = \"10.0.0.1\"\n",
        &["c.toml:2: [server] `trusted_proxies` must be a list of addresses such as \"10.0.0.0/8\", not a string"],
    );
    check(
        "[server]\nmax_connections = 0\nmax_in_flight = \"4\"\n",
        &[
            "c.toml:2: [server] `max_connections` must be a whole number from 1 to 1000000",
            "c.toml:3: [server] `max_in_flight` must be a whole number from 1 to 1000000, not a string",
        ],
    );
    check(
        "[server]\nbody_limit = \"4MiB\"\nbody_memory = \"7MiB\"\n",
        &["c.toml:3: [server] `body_memory` must be at least twice `body_limit`, or large bodies could not be read"],
    );
    for (lines, memory) in [
        ("", 64 << 20),
        ("body_limit = \"64MiB\"", 256 << 20),
        ("body_limit = \"4MiB\"\nbody_memory = \"8MiB\"", 8 << 20),
    ] {
        let config = good(&format!("[server]\n{lines}\n"));
        assert_eq!(config.server.body_memory, memory, "{lines}");
    }
    check(
        "[log]\nformat = \"jsno\"\n",
        &["c.toml:2: [log] `format` must be \"text\" or \"json\"; did you mean `json`?"],
    );
    let level = "a level (off, error, warn, info, debug, trace) or a filter such as \"info,echostr=debug\"";
    check("[log]\nlevel = \"inof\"\n", &[&format!("c.toml:2: [log] `level` must be {level}; did you mean `info`?")]);
    check("[log]\nlevel = \"echostr=loud\"\n", &[&format!("c.toml:2: [log] `level` must be {level}")]);
    check(
        "\n[admin]\nlisten = \"0.0.0.0:9180\"\n",
        &["c.toml:2: [admin] missing `token`: `listen` is not a loopback address, so anybody could read what came in"],
    );
    check(
        "[admin]\nlisten = \"127.0.0.1:8080\"\n",
        &["c.toml:2: [admin] `listen` must not be the address of `[server]`"],
    );
    let url = "\"sqlite://PATH\", \"postgres://USER@HOST/DATABASE\" or \"memory:\"";
    check("[journal]\nurl = \"mysql://x\"\n", &[&format!("c.toml:2: [journal] `url` must be {url}")]);
    check(
        "[journal]\nurl = \"sqlite::memory:\"\n",
        &[&format!("c.toml:2: [journal] `url` must be {url}; a journal in memory is \"memory:\"")],
    );
    check(
        "[observers]\nmax_attempts = 0\n",
        &["c.toml:2: [observers] `max_attempts` must be a whole number from 1 to 1000"],
    );
    check(
        "[log]\n[delivery]\nmax_attempts = 3\n",
        &["c.toml:2: [delivery] is now called [observers]; rename the table, its keys are the same"],
    );
    let backoff = "two durations such as \"1s..10m\", the shorter one first, more than 0 and at most 1d";
    for wrong in ["1s", "10m..1s", "0s..1s", "1s..2d", ".."] {
        check(
            &format!("[observers]\nbackoff = \"{wrong}\"\n"),
            &[&format!("c.toml:2: [observers] `backoff` must be {backoff}")],
        );
    }
    check("observers = 1\n", &["c.toml:1: `observers` must be a table, not an integer"]);
    check("[observers]\nbackof = 1\n", &["c.toml:2: [observers] unknown key `backof`; did you mean `backoff`?"]);
    check(
        "[observers.crm]\nmax_attempts = 0\ntimout = \"1s\"\n[observers]\nconcurrency = \"4\"\n",
        &[
            "c.toml:2: [observers.crm] `max_attempts` must be a whole number from 1 to 1000",
            "c.toml:3: [observers.crm] unknown key `timout`; did you mean `timeout`?",
            "c.toml:5: [observers] `concurrency` must be a whole number from 1 to 10000, not a string",
        ],
    );
    check(
        "[observers.echostr.kf-pull]\nmax_attempts = 3\n",
        &["c.toml:1: [observers.echostr] a name with a dot in it needs quotes: [observers.\"echostr.kf-pull\"]"],
    );
    check(
        "[observers.\"echostr.kf-pull\"]\ntimeout = \"1s\"\n",
        &["c.toml:2: [observers.\"echostr.kf-pull\"] `timeout` of an internal observer cannot be changed"],
    );
    check(
        "[observers.\"a\\nb\"]\ntimeout = \"1us\"\n",
        &[&format!("c.toml:2: [observers.\"a\\nb\"] `timeout` must be {duration}")],
    );
    check("handlers = 1\n", &["c.toml:1: `handlers` must be a table, not an integer"]);
    check("[handlers]\ndemo = true\n", &["c.toml:2: [handlers] `demo` must be a table: [handlers.NAME]"]);
}

#[test]
fn checks_accounts() {
    check(
        "[mp.shop]\n",
        &[
            "c.toml:1: [mp.shop] missing `token`: without it nothing can be verified",
            "c.toml:1: [mp.shop] missing `app_id`",
        ],
    );
    check("[mp]\napp_id = \"wx1\"\n", &["c.toml:2: [mp] `app_id` must be in the table of an account: [mp.NAME]"]);
    let shop = "[mp.shop]\napp_id = \"wx1\"\ntoken = \"abc\"\n";
    let sales = "[wecom.sales]\ncorp_id = \"ww1\"\ntoken = \"abc\"\naes_key = \"KEY43\"\n";
    let chat = "[im.chat]\nsdk_app_id = 14\ntoken = \"abc\"\n";
    let with = |account: &str, line: &str| format!("{account}{line}\n");
    for name in ["\"Shop\"", "\"a b\"", "\"\"", &"a".repeat(65)] {
        let error = parse(&format!("[mp.{name}]\napp_id = \"wx1\"\ntoken = \"abc\"\n")).unwrap_err().to_string();
        let rule = "the name of an account must be 1 to 64 of a-z, 0-9, `_` and `-`: it is in the route";
        assert!(error.starts_with("c.toml:1: [mp.") && error.ends_with(rule) && error.lines().count() == 1, "{error}");
    }
    check(
        "[mp.shop]\napp_id = \"gh_0123\"\ntoken = \"abc\"\n",
        &["c.toml:2: [mp.shop] `app_id` must be an id such as \"wx0123456789abcdef\"; \
           one that begins with `gh_` is the original id, not the AppID"],
    );
    check(
        "[mp.shop]\napp_id = \"\"\ntoken = \"a b\"\n",
        &[
            "c.toml:2: [mp.shop] `app_id` must be an id such as \"wx0123456789abcdef\"",
            "c.toml:3: [mp.shop] `token` contains a space, control or non-ASCII character",
        ],
    );
    check(
        &with(shop, "aes_key = \"short\""),
        &["c.toml:4: [mp.shop] `aes_key` must be the EncodingAESKey of the console, 43 characters; it has 5"],
    );
    check(
        &with(shop, "aes_key = \"KEY43=\""),
        &["c.toml:4: [mp.shop] `aes_key` must be the EncodingAESKey of the console, 43 letters and digits; \
           leave off the `=` at its end"],
    );
    check(
        &with(shop, "aes_key_previous = \"KEY43\""),
        &["c.toml:4: [mp.shop] `aes_key_previous` needs `aes_key`; a single one is written there"],
    );
    check(
        "[mp.shop]\napp_id = \"wx1\"\ntoken_previous = \"abc\"\n",
        &[
            "c.toml:1: [mp.shop] missing `token`: without it nothing can be verified",
            "c.toml:3: [mp.shop] `token_previous` needs `token`; a single one is written there",
        ],
    );
    check(
        &with(shop, "mode = \"safe\""),
        &["c.toml:4: [mp.shop] `mode` needs `aes_key` when it is \"safe\" or \"compat\""],
    );
    check(
        &with(shop, "mode = \"Safe\""),
        &["c.toml:4: [mp.shop] `mode` must be \"plain\", \"compat\" or \"safe\"; did you mean `safe`?"],
    );
    check(&with(shop, "deadline = \"5s\""), &["c.toml:4: [mp.shop] `deadline` must be from 1ms to 4999ms"]);
    check(&with(shop, "deadline = \"0ms\""), &["c.toml:4: [mp.shop] `deadline` must be from 1ms to 4999ms"]);
    check(&with(chat, "deadline = \"2s\""), &["c.toml:4: [im.chat] `deadline` must be from 1ms to 1999ms"]);
    check(
        &with(shop, "late_reply = \"send\""),
        &["c.toml:4: [mp.shop] `late_reply` \"send\" needs `secret`, the reply is sent through the API"],
    );
    check(
        &with(shop, "late_reply = \"next\"\nlate_text = \" \"\nlate_keep = \"2d\"\nlate_next_runs = \"yes\""),
        &[
            "c.toml:5: [mp.shop] `late_text` must be a text of up to 2048 bytes, with something to see",
            "c.toml:6: [mp.shop] `late_keep` must be from 1s to 1d",
            "c.toml:7: [mp.shop] `late_next_runs` must be true or false, not a string",
        ],
    );
    check(
        &with(shop, &format!("late_text = \"{}\"", "x".repeat(2_049))),
        &["c.toml:4: [mp.shop] `late_text` must be a text of up to 2048 bytes, with something to see"],
    );
    check(
        &with(shop, "late_reply = \"nxt\""),
        &["c.toml:4: [mp.shop] `late_reply` must be \"hold\", \"send\", \"next\" or \"drop\"; did you mean `next`?"],
    );
    check(&with(shop, "on_error = \"allow\""), &["c.toml:4: [mp.shop] `on_error` must be \"default\""]);
    check(&with(chat, "on_timeout = \"default\""), &["c.toml:4: [im.chat] `on_timeout` must be \"allow\" or \"deny\""]);
    check("[im.chat]\ntoken = \"abc\"\n", &["c.toml:1: [im.chat] missing `sdk_app_id`"]);
    check(
        "[im.chat]\ntoken = \"abc\"\nsdk_app_id = \"14\"\n",
        &["c.toml:3: [im.chat] `sdk_app_id` must be a whole number from 1 to 4294967295, not a string"],
    );
    check(
        "[wecom.sales]\ncorp_id = \"ww1\"\ntoken = \"abc\"\nagent_id = -1\n",
        &[
            "c.toml:1: [wecom.sales] missing `aes_key`: this platform always encrypts",
            "c.toml:4: [wecom.sales] `agent_id` must be a whole number from 0 to 4294967295",
        ],
    );
    let url = "a URL such as \"https://api.example.com\", without user, query and fragment";
    for wrong in ["ftp://x", "https://", "https://u:p@x", "https://x/?a=1", "https://x:99999", "https://x:+1", "x"] {
        check(
            &with(sales, &format!("api_base = \"{wrong}\"")),
            &[&format!("c.toml:5: [wecom.sales] `api_base` must be {url}")],
        );
    }
    let path = "a path such as \"/callback/shop\": it begins with `/`, has letters, digits, `-`, `_`, `.` and `~` \
                between slashes, and no empty, `.` or `..` part; requests may have a slash at the end, and a query, \
                which are not written here";
    for wrong in ["callback", "/", "//", "/a/", "/a/../b", "/{id}", "/a?b", "/a b", "/$APPID$/a"] {
        check(&with(shop, &format!("path = \"{wrong}\"")), &[&format!("c.toml:4: [mp.shop] `path` must be {path}")]);
    }
    check(
        &format!("{shop}path = \"/im/chat\"\n{chat}"),
        &["c.toml:5: [im.chat] `path` is already used by mp/shop (line 4)"],
    );
    for (table, wrong) in [
        (
            "[openplatform.x]\nrelease_test = 1\n",
            "2: [openplatform.x] `release_test` must be true or false, not an integer",
        ),
        ("[openplatform.x]\nagent_id = 1\n", "1: [openplatform.x] missing `component_app_id`"),
        (
            "[wecom_suite.x]\nreceive_ids = \"any\"\n",
            "2: [wecom_suite.x] `receive_ids` must be a list of CorpIDs or \"any\"",
        ),
        ("[wecom_bot.x]\nlate_reply = \"hold\"\n", "2: [wecom_bot.x] `late_reply` does not apply to [wecom_bot]"),
        ("[wecom_kf.x]\nlate_reply = \"next\"\n", "2: [wecom_kf.x] `late_reply` does not apply to [wecom_kf]"),
        ("[im.x]\nlate_reply = \"next\"\n", "2: [im.x] `late_reply` does not apply to [im]"),
        ("[wecom_suite.x]\nlate_reply = \"send\"\n", "2: [wecom_suite.x] `late_reply` must be \"next\" or \"drop\""),
    ] {
        let shown = everything_shown(table);
        assert!(shown.contains(wrong), "{shown}");
    }
    let suite =
        "[wecom_suite.x]\nsuite_id = \"ww1\"\nprovider_corp_id = \"ww3\"\ntoken = \"abc\"\naes_key = \"KEY43\"\n"
            .replace("KEY43", KEY);
    let account = |ids: &str| good(&format!("{suite}receive_ids = {ids}\n")).accounts.remove(0);
    let some = account("[\"ww2\"]");
    assert_eq!((some.receive_ids.join(" ").as_str(), some.receives_for_any), ("ww1 ww3 ww2", false));
    let any = account("[\"ww2\", \"any\"]");
    assert_eq!((any.receive_ids.join(" ").as_str(), any.receives_for_any), ("ww1 ww3 ww2", true));
}

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
fn collects_every_problem_in_the_order_of_the_file() {
    check(
        "[im.b]\nsdk_app_id = 0\n[server]\nlisten = 1\nx = 1\n[mp.a]\ntoken = \"abc\"\n",
        &[
            "c.toml:2: [im.b] `sdk_app_id` must be a whole number from 1 to 4294967295",
            "c.toml:4: [server] `listen` must be an address and a port such as \"0.0.0.0:8080\", not an integer",
            "c.toml:5: [server] unknown key `x`",
            "c.toml:6: [mp.a] missing `app_id`",
        ],
    );
}

#[test]
fn has_defaults() {
    let config = good("");
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.server.max_age, Some(Duration::from_secs(600)));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9180");
    assert_eq!(config.journal.url, JournalUrl::Sqlite("data/echostr.db".into()));
    assert_eq!(config.observers.backoff.longest, Duration::from_secs(600));
    assert!(config.accounts.is_empty());
    assert_eq!(warnings(""), ["c.toml: no account is configured: every callback is answered with 404"]);

    let config = good(&format!(
        "[mp.shop]\napp_id = \"wx1\"\ntoken = \"abc\"\ntoken_previous = \"old\"\naes_key = \"{KEY}\"\n\
         [miniprogram.g-1]\napp_id = \"wx2\"\ntoken = \"abc\"\n\
         [wecom_kf.k]\ncorp_id = \"ww1\"\ntoken = \"abc\"\naes_key = \"{KEY}\"\napi_base = \"http://127.0.0.1:9/x/\"\n\
         [im.c]\nsdk_app_id = 14\n[server]\nmax_age = \"off\"\n"
    ));
    let [shop, game, kf, chat] = &config.accounts[..] else { panic!("{:?}", config.accounts) };
    assert_eq!((shop.id().as_str(), shop.path.as_str()), ("mp/shop", "/mp/shop"));
    assert_eq!((shop.mode, shop.late_reply, shop.max_age), (Mode::Safe, LateReply::Hold, None));
    assert_eq!(shop.tokens, [Secret::new("abc"), Secret::new("old")]);
    assert_eq!((shop.deadline, shop.on_error), (Duration::from_millis(4500), Verdict::Default));
    assert_eq!((game.mode, game.late_reply, game.path.as_str()), (Mode::Plain, LateReply::Drop, "/miniprogram/g-1"));
    assert_eq!((kf.mode, kf.receive_ids.as_slice()), (Mode::Safe, ["ww1".to_owned()].as_slice()));
    assert_eq!(kf.api_base.as_deref(), Some("http://127.0.0.1:9/x"));
    assert_eq!((chat.max_age, chat.deadline), (None, Duration::from_millis(1500)));
    assert_eq!((chat.on_timeout, chat.sdk_app_id, chat.receive_ids.len()), (Verdict::Allow, Some(14), 0));
    assert_eq!(config.account("im/c").map(|account| account.name.as_str()), Some("c"));
    assert!(config.account("im/d").is_none() && config.account("c").is_none());
}

#[test]
fn warns() {
    assert_eq!(
        warnings(&format!(
            "[im.chat]\nsdk_app_id = 14\n\
             [mp.a]\napp_id = \"wx1\"\ntoken = \"a-b\"\nmax_age = \"off\"\n\
             [mp.b]\napp_id = \"wx1\"\ntoken = \"abc\"\naes_key = \"{KEY}\"\nmode = \"compat\"\ndeadline = \"4950ms\"\n\
             [wecom_kf.k]\ncorp_id = \"ww1\"\ntoken = \"abc\"\naes_key = \"{KEY}\"\n\
             [journal]\nurl = \"memory:\"\n\
             [server]\ntrusted_proxies = [\"::/0\"]\n\
             [admin]\nlisten = \"0.0.0.0:1\"\ntoken = \"short\"\n\
             [wecom_suite.s]\nsuite_id = \"ww1\"\ntoken = \"abc\"\naes_key = \"{KEY}\"\nlong_text = \"split\"\n\
             [miniprogram.g]\napp_id = \"wx3\"\ntoken = \"abc\"\naes_key = \"{KEY}\"\nlate_reply = \"next\"\n"
        )),
        [
            "c.toml:1: [im.chat] no `token`: anybody who knows the address can post callbacks",
            "c.toml:3: [mp.a] plain mode: whoever holds a request back can send another body with its signature",
            "c.toml:5: [mp.a] `token` is not of the platform's form: 3 to 32 letters and digits",
            "c.toml:6: [mp.a] `max_age` is off: a recorded request is accepted again at any time",
            "c.toml:11: [mp.b] compat mode accepts clear text: whoever holds a request back can send another body with \
             its signature",
            "c.toml:12: [mp.b] `deadline` leaves no time for the way back: the platform waits 5s",
            "c.toml:13: [wecom_kf.k] no `secret`: messages cannot be pulled, only their notices are received",
            "c.toml:18: [journal] `url` is \"memory:\": what was acknowledged is lost when the process ends",
            "c.toml:20: [server] `trusted_proxies` has everybody: anybody can claim any address",
            "c.toml:23: [admin] `token` is shorter than 16 characters and can be reached from other machines",
            "c.toml:28: [wecom_suite.s] `long_text = \"split\"`: on this platform only the response can carry a reply: \
             long texts are cut",
            "c.toml:33: [miniprogram.g] `late_reply = \"next\"`: users of this platform do not see texts in the response",
        ]
    );
}

#[test]
fn says_where_the_journal_is() {
    let url = |text: &str| good(&format!("[journal]\nurl = \"{text}\"\n")).journal.url;
    assert_eq!(url("memory:"), JournalUrl::Memory);
    assert_eq!(url("sqlite:///a/b.db"), JournalUrl::Sqlite("/a/b.db".into()));
    assert!(matches!(url("postgres://u:hunter2@h/d"), JournalUrl::Postgres(_)));
    assert_eq!(good("").journal.url, JournalUrl::Sqlite("data/echostr.db".into()));
}

#[test]
fn hands_settings_to_handlers() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        greeting: String,
        #[serde(deserialize_with = "secret")]
        key: Secret,
    }
    let config = good("[handlers.a]\ngreeting = \"hi\"\nkey = \"hunter2\"\n[handlers.b]\n");
    assert_eq!(config.unread_handlers(), ["a", "b"]);
    let settings: Settings = config.handler("a").unwrap().unwrap();
    assert_eq!((settings.greeting.as_str(), settings.key), ("hi", Secret::new("hunter2")));
    assert!(config.handler::<Settings>("c").unwrap().is_none());
    assert_eq!(config.unread_handlers(), ["b"]);
    assert_eq!(config.handler::<toml::Table>("b").unwrap(), Some(toml::Table::new()));

    let check = |text: &str, expected: &str| {
        let error = good(text).handler::<Settings>("a").unwrap_err().to_string();
        assert_eq!(error, format!("c.toml:{expected}"));
    };
    check("[handlers.a]\ngreeting = \"hi\"\n", "1: [handlers.a] missing field `key`");
    check("\n[handlers.a]\n\nx = 1\n", "4: [handlers.a] unknown field `x`, expected `greeting` or `key`");
    check("[handlers.a]\ngreeting = 77\n", "2: [handlers.a] invalid type, expected a string");
    let shape = "[handlers.a] must be a string, { env = \"NAME\" } or { file = \"path\" }";
    for wrong in ["{ hunter2 = \"x\" }", "{ env = \"x\", file = \"y\" }", "{}", "{ env = 7 }"] {
        check(&format!("[handlers.a]\nkey = {wrong}\n"), &format!("2: {shape}"));
    }
    check("[handlers.a]\nkey = \"\"\n", "2: [handlers.a] the secret is empty");
    let unset = "[handlers.a] the secret cannot be read: environment variable `ECHOSTR_UNSET` is not set";
    check("[handlers.a]\nkey = { env = \"ECHOSTR_UNSET\" }\n", &format!("2: {unset}"));
}

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

#[test]
fn matches_addresses() {
    let contains = |range: &str, ip: &str| IpRange::parse(range).unwrap().contains(ip.parse().unwrap());
    assert!(contains("10.1.2.3/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("10.0.0.1", "::ffff:10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
    assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1") && contains("::/0", "::1"));
    assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe00::1"));
    assert_eq!([IpRange::parse("10.0.0.0/"), IpRange::parse("10.0.0.0/+8"), IpRange::parse("::/129")], [None; 3]);
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

/// Accounts of IM, with these lines each.
fn im_accounts(lines: &[&str]) -> String {
    let account =
        |(at, more): (usize, &&str)| format!("[im.a{at}]\nsdk_app_id = {}\ntoken = \"abc\"\n{more}\n", at + 1);
    lines.iter().enumerate().map(account).collect()
}

#[test]
fn an_account_has_a_share_of_what_is_in_flight() {
    let shares = |server: &str, accounts: &[&str]| {
        let config = good(&format!("[server]\n{server}\n{}", im_accounts(accounts)));
        let shares: Vec<_> = config.accounts.iter().map(|it| (it.share.most, it.share.reserved)).collect();
        assert!(config.accounts.iter().all(|it| it.share.of == config.server.max_in_flight));
        (shares, config.shared_in_flight())
    };
    assert_eq!(shares("", &[""]), (vec![(4096, 2048)], 2048));
    assert_eq!(shares("", &["", ""]), (vec![(2048, 1024), (2048, 1024)], 2048));
    assert_eq!(shares("max_in_flight = 1", &["", "", ""]), (vec![(1, 0); 3], 1));
    assert_eq!(shares("max_in_flight_per_account = 4096", &["", ""]), (vec![(4096, 1024); 2], 2048));
    let own = shares(
        "max_in_flight = 100\nmax_in_flight_per_account = 30",
        &["max_in_flight = 7", "max_in_flight = 100", ""],
    );
    assert_eq!(own, (vec![(7, 7), (100, 16), (30, 16)], 61));

    check(
        "[server]\nmax_in_flight = 10\nmax_in_flight_per_account = 11\n",
        &["c.toml:3: [server] `max_in_flight_per_account` must not be more than `max_in_flight` of [server], 10"],
    );
    check(
        "[im.chat]\nsdk_app_id = 3\ntoken = \"abc\"\nmax_in_flight = 5000\n",
        &["c.toml:4: [im.chat] `max_in_flight` must not be more than `max_in_flight` of [server], 4096"],
    );
    check(
        "[im.chat]\nsdk_app_id = 3\ntoken = \"abc\"\nmax_in_flight = 0\n",
        &["c.toml:4: [im.chat] `max_in_flight` must be a whole number from 1 to 1000000"],
    );
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
    has("[forward]", &forward, &super::forward::keys().collect::<Vec<_>>());
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

const CANARY: &str = "hunter2CANARYhunter2CANARYhunter2CANARYhunt";

/// Everything a log could have of `text`: its problems, its warnings, its `Debug`.
fn everything_shown(text: &str) -> String {
    let env = |name: &str| if name == "CANARY_VARIABLE" { Ok(CANARY.to_owned()) } else { Err(VarError::NotPresent) };
    match Config::parse(text, "c.toml", env) {
        Err(error) => format!("{error}\n{error:?}"),
        Ok(config) => {
            let handlers: Vec<_> =
                config.unread_handlers().into_iter().map(|name| config.handler::<HashMap<String, u8>>(name)).collect();
            let errors: Vec<String> =
                handlers.into_iter().filter_map(Result::err).map(|e| format!("{e} {e:?}")).collect();
            format!("{config:?}\n{config:#?}\n{:?}\n{errors:?}", config.warnings())
        }
    }
}

/// A configuration with a secret in every place that has one.
fn secretive() -> String {
    assert_eq!(CANARY.len(), 43);
    format!(
        "[server]\nlisten = \"0.0.0.0:8080\"\nmax_age = \"off\"\n\
         [admin]\nlisten = \"0.0.0.0:9180\"\ntoken = \"{CANARY}\"\n\
         [journal]\nurl = \"postgres://user:{CANARY}@host/db\"\n\
         [mp.shop]\napp_id = \"wx1\"\ntoken = {{ env = \"CANARY_VARIABLE\" }}\ntoken_previous = \"{CANARY}\"\n\
         aes_key = '{CANARY}'\naes_key_previous = \"\"\"{CANARY}\"\"\"\nsecret = \"{CANARY}\"\n\
         [im.chat]\nsdk_app_id = 14\ntoken = \"{CANARY}\"\n\
         [handlers.demo]\nkey = \"{CANARY}\"\n"
    )
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

proptest! {
    /// However the file is cut and spliced, no message has a whole secret, and nothing panics.
    #[test]
    fn shows_no_secret_of_a_broken_file(from in 0..900usize, length in 0..60usize, put in "[\"'\\[\\]{}=\\n# .a-c]{0,4}") {
        let text = secretive();
        let (from, to) = (from.min(text.len()), (from + length).min(text.len()));
        let broken = format!("{}{put}{}", &text[..from], &text[to.max(from)..]);
        if let Err(error) = Config::parse(&broken, "c.toml", |_| Ok(CANARY.to_owned())) {
            prop_assert!(!format!("{error} {error:?}").contains(CANARY), "{broken}\n{error}");
        }
    }

    #[test]
    fn never_panics(text in "(\\[[a-z.\"]{0,8}\\]\n)?([a-z_]{0,8} ?= ?[\"'\\[{0-9a-z}\\].:/é]{0,12}\n){0,4}") {
        let _ = parse(&text);
    }
}

#[test]
fn an_address_that_the_console_refuses_is_a_warning() {
    let refused =
        |lines: &str| warnings(lines).iter().any(|warning| warning.contains("the console refuses `_` in addresses"));
    assert!(refused("[im.my_chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\n"));
    assert!(!refused("[im.my_chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\npath = \"/im/chat\"\n"));
}
