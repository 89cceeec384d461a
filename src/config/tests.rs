#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, env::VarError, fs, io::Write, time::Duration};

use proptest::prelude::*;

use super::*;

mod accounts;
mod file;
mod forward;
mod mistakes;
mod needs;
#[cfg(all(feature = "nats", feature = "redis", feature = "rabbitmq", feature = "kafka"))]
mod queue;
mod secrets;
mod source;

const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const FILE: &str = include_str!("../../config/echostr.toml");

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
fn matches_addresses() {
    let contains = |range: &str, ip: &str| IpRange::parse(range).unwrap().contains(ip.parse().unwrap());
    assert!(contains("10.1.2.3/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("10.0.0.1", "::ffff:10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
    assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1") && contains("::/0", "::1"));
    assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe00::1"));
    assert_eq!([IpRange::parse("10.0.0.0/"), IpRange::parse("10.0.0.0/+8"), IpRange::parse("::/129")], [None; 3]);
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
