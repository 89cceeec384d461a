//! `[[forward]]`, and the keys that it shares with `[[answer]]`.

use std::time::Duration;

use super::check;
use crate::config::{Config, Destination, Format, Forward};

const ACCOUNTS: &str =
    "[mp.shop]\napp_id = \"wx1\"\ntoken = \"t\"\nmode = \"plain\"\n[im.chat]\nsdk_app_id = 1\ntoken = \"t\"\n";

/// The problems of a `[[forward]]` with these keys, its first line being line 1 of them.
fn problems(keys: &str, expected: &[&str]) {
    check(&format!("[[forward]]\n{keys}\n{ACCOUNTS}"), expected);
}

/// A forward with these keys beside the required ones.
fn forward(keys: &str) -> Forward {
    let text =
        format!("[[forward]]\nname = \"crm\"\nmatch = \"mp/*\"\nto = \"https://crm.test/in\"\n{keys}\n{ACCOUNTS}");
    let mut config = Config::parse(&text, "c.toml", |name| Ok(format!("value-of-{name}"))).unwrap();
    assert_eq!(config.forwards.len(), 1);
    config.forwards.remove(0)
}

/// What is wrong with a forward that has these keys beside the required ones, in line 5 on.
fn wrong(keys: &str, expected: &[&str]) {
    problems(&format!("name = \"crm\"\nmatch = \"mp/*\"\nto = \"https://crm.test/in\"\n{keys}"), expected);
}

#[test]
fn a_forward_needs_a_name_a_target_and_what_it_matches() {
    problems(
        "",
        &[
            "c.toml:1: [[forward]] missing `name`: it is how this one is called in commands, logs and metrics",
            "c.toml:1: [[forward]] missing `match`: which events are meant, such as \"mp/*\"",
            "c.toml:1: [[forward]] missing `to`: where the events are sent",
        ],
    );
    check("forward = 1\n", &["c.toml:1: `forward` must be an array of tables, [[forward]], not an integer"]);
    check("[forward]\n", &["c.toml:1: `forward` must be an array of tables, [[forward]], not a table"]);
    check("forward = [1]\n", &["c.toml:1: `forward` must be an array of tables, [[forward]], not of integers"]);
    problems(
        "name = \"CRM\"\nmatch = \"*\"\nto = \"http://a\"",
        &["c.toml:2: [[forward]] `name` must be a name of 1 to 64 of a-z, 0-9, `_` and `-`"],
    );
    let two = "name = \"crm\"\nmatch = \"*\"\nto = \"http://a\"\n";
    problems(
        &format!("{two}[[forward]]\n{two}"),
        &["c.toml:6: [[forward]] `name` is the one of line 2, too; each has its own"],
    );
    wrong("format = \"raw\"\nretries = 3", &["c.toml:6: [[forward]] unknown key `retries`; did you mean `retry`?"]);
}

#[test]
fn without_more_said_it_has_the_documented_settings() {
    let forward = forward("");
    assert_eq!((forward.name.as_str(), forward.observer().as_str()), ("crm", "forward.crm"));
    assert!(forward.enabled && !forward.in_order && forward.rate.is_none() && forward.redact.is_empty());
    assert!(matches!(forward.format, Format::Structured));
    assert_eq!((forward.concurrency, forward.to.timeout()), (16, Duration::from_secs(15)));
    let pauses: Vec<u64> = forward.retry.iter().map(Duration::as_secs).collect();
    assert_eq!(pauses, [5, 30, 300, 1800, 7200, 18_000, 36_000]);
    assert!(super::forward::forward("retry = []").retry.is_empty());
}

#[test]
fn patterns_are_checked_against_accounts_and_types() {
    let of = |pattern: &str, expected: &str| {
        problems(
            &format!("name = \"crm\"\nto = \"http://a\"\nmatch = [\n  \"mp/*\",\n  {pattern}\n]"),
            &[&format!("c.toml:6: [[forward]] `match` {expected}")],
        );
    };
    of("\"mp/shpo\"", "matches no configured account; did you mean `mp/shop`?");
    of("\"wecom/*\"", "matches no configured account");
    of(
        "\"mp/shop:mp.mesage.text\"",
        "matches no event type of its accounts; `echostr catalog` lists them; did you mean `mp.message.text`?",
    );
    of(
        "\"mp/shop:mp.evnt.*\"",
        "matches no event type of its accounts; `echostr catalog` lists them; did you mean `mp.event.*`?",
    );
    of("\"\"", "must be an account and an event type such as \"mp/shop:mp.event.*\"");
    of("1", "must be a list of an account and an event type such as \"mp/shop:mp.event.*\"");
    problems(
        "name = \"crm\"\nto = \"http://a\"\nmatch = []",
        &["c.toml:4: [[forward]] `match` must have an account and an event type such as \"mp/shop:mp.event.*\""],
    );
}

#[test]
fn conditions_are_read_with_and_without_quotes() {
    let holds = |written: &str, data: serde_json::Value| forward(&format!("where = {written}")).condition.holds(&data);
    let data = || serde_json::json!({ "MsgType": "text", "Body": { "Text": "/help", "N": 3 } });
    for (written, expected) in [
        ("{ MsgType = \"text\" }", true),
        ("{ MsgType = [\"image\", \"text\"] }", true),
        ("{ \"Body.Text\" = { prefix = \"/\" } }", true),
        ("{ Body.Text = { prefix = \"/\" } }", true),
        ("{ Body.Text.prefix = \"x\" }", false),
        ("{ Body = { Text = \"/help\", N = 3 } }", true),
        ("{ \"Body.N\" = \"3\", MsgType = { exists = true } }", true),
        ("{ \"Body.Gone\" = { exists = false } }", true),
        ("{ MsgType = \"text\", \"Body.N\" = 4 }", false),
    ] {
        assert_eq!(holds(written, data()), expected, "{written}");
    }
    let expected =
        "must be a text, a number, true or false, a list of these, { prefix = \"text\" } or { exists = true }";
    wrong("where = { A = [] }", &[&format!("c.toml:5: [[forward]] `where`: `A` {expected}")]);
    wrong("where = { A = {} }", &[&format!("c.toml:5: [[forward]] `where`: `A` {expected}")]);
    wrong(
        "where = { A = { prefix = \"x\", prefx = 1 } }",
        &["c.toml:5: [[forward]] `where`: `A`: unknown key `prefx`; did you mean `prefix`?"],
    );
    wrong(
        "where = { \"A..B\" = 1 }",
        &["c.toml:5: [[forward]] `where`: `A..B` is no path: names with dots between them"],
    );
    wrong(
        "where = 1",
        &["c.toml:5: [[forward]] `where` must be a table such as { \"MsgType\" = \"text\" }, not an integer"],
    );
}

#[test]
fn targets_are_addresses_that_may_be_sent_to() {
    let to = |to: &str, expected: &str| {
        problems(
            &format!("name = \"crm\"\nmatch = \"mp/*\"\nto = {to}"),
            &[&format!("c.toml:4: [[forward]] `to` {expected}")],
        );
    };
    let url = "must be a URL such as \"https://crm.example.com/events\", http or https, without fragment";
    for wrong in ["\"crm.test\"", "\"ftp://crm.test\"", "\"http://\"", "\"http://a/#b\""] {
        to(wrong, url);
    }
    to("\"http://169.254.169.254/\"", "must not be an address where clouds serve metadata");
    to("\"http://[::ffff:169.254.169.254]/\"", "must not be an address where clouds serve metadata");
    to("\"http://127.0.0.1:8080/mp/shop\"", "must not be an address where echostr itself listens");
    wrong(
        "proxy = \"socks5://a\"",
        &["c.toml:5: [[forward]] `proxy` must be the URL of a proxy such as \"http://proxy.example.com:3128\""],
    );
    wrong(
        "proxy = \"http://169.254.169.254\"",
        &["c.toml:5: [[forward]] `proxy` must not be an address where clouds serve metadata"],
    );
}

#[cfg(not(feature = "nats"))]
#[test]
fn a_queue_that_the_program_was_built_without_names_its_feature() {
    problems(
        "name = \"crm\"\nmatch = \"mp/*\"\nto = \"nats://a\"",
        &[
            "c.toml:4: [[forward]] `to` is of a queue that this program was built without: build it with `--features nats`, or \
           take the container, which has all of them",
        ],
    );
}

#[test]
fn keys_and_headers_are_checked() {
    let hint = "`echostr keygen --webhook` makes one";
    wrong(
        "secret = \"abc\"",
        &[&format!("c.toml:5: [[forward]] `secret` must begin with `whsec_`: a key of Standard Webhooks; {hint}")],
    );
    wrong(
        "secret = \"whsec_YWJj\"",
        &[&format!("c.toml:5: [[forward]] `secret` must be 24 to 64 bytes in Base64 behind `whsec_`; {hint}")],
    );
    wrong(
        "secret_previous = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\"",
        &["c.toml:5: [[forward]] `secret_previous` needs `secret`: it is signed with both while the key is replaced"],
    );
    wrong(
        "headers = { \"Webhook-Id\" = \"1\" }",
        &["c.toml:5: [[forward]] `headers`: `Webhook-Id` is set by echostr itself"],
    );
    wrong("headers = { \"a b\" = \"1\" }", &["c.toml:5: [[forward]] `headers`: `a b` is not the name of a header"]);
    wrong(
        "headers = { X = \"a\\nb\" }",
        &["c.toml:5: [[forward]] `headers`: `X` has characters that a header cannot have"],
    );
    let forward = forward(
        "secret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\"\nheaders = { Authorization = { env = \"CRM_TOKEN\" } }",
    );
    let Destination::Http(target) = &forward.to else { panic!("no queue") };
    assert!(target.headers[0].1.is_sensitive());
    assert!(!format!("{forward:?}").contains("value-of"));
}

#[test]
fn formats_have_keys_of_their_own() {
    wrong("token = \"t\"", &["c.toml:5: [[forward]] `token` needs `format = \"original\"`"]);
    wrong("format = \"raw\"\nmode = \"binary\"", &["c.toml:6: [[forward]] `mode` needs `format = \"cloudevents\"`"]);
    wrong(
        "format = \"original\"",
        &["c.toml:1: [[forward]] missing `token`: callbacks are signed with it; the application behind has the same"],
    );
    wrong(
        "rate = \"0/s\"",
        &[
            "c.toml:5: [[forward]] `rate` must be how many in a time such as \"100/s\" or \"600/m\", from 1/h to 100000/s",
        ],
    );
    wrong(
        "retry = [\"0s\"]",
        &["c.toml:5: [[forward]] `retry` must be a list of pauses such as \"5s\", from 1ms to 7d"],
    );
    let rate =
        |text: &str| forward(&format!("rate = \"{text}\"")).rate.map(|rate| (rate.events.get(), rate.per.as_secs()));
    assert_eq!((rate("100/s"), rate("6/m"), rate("1/h")), (Some((100, 1)), Some((6, 60)), Some((1, 3600))));
    assert!(matches!(forward("mode = \"binary\"").format, Format::Binary));
    assert!(matches!(forward("format = \"raw\"").format, Format::Raw));
    let Format::Original(original) = forward("format = \"original\"\ntoken = \"t\"").format else { panic!() };
    assert!(original.aes_key.is_none() && original.receive_id.is_none());
}

#[test]
fn settings_of_observers_are_not_for_forwards() {
    let text = "does not apply to a forward: its [[forward]] has `retry`, `timeout` and `concurrency`";
    check(
        "[observers.\"forward.crm\"]\ntimeout = \"1s\"\n",
        &[&format!("c.toml:1: [observers.\"forward.crm\"] {text}")],
    );
    check("[observers.forward.crm]\ntimeout = \"1s\"\n", &[&format!("c.toml:1: [observers.forward] {text}")]);
}

#[test]
fn the_examples_of_the_documents_are_valid() {
    // Where a queue is not built in, its example is refused.
    if !cfg!(feature = "queues") {
        return;
    }
    let env = |name: &str| {
        Ok(match name {
            name if name.ends_with("AES_KEY") => "k".repeat(43),
            name if name.contains("WEBHOOK") => "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz".to_owned(),
            _ => "token".to_owned(),
        })
    };
    for page in [include_str!("../../../docs/forward.md"), include_str!("../../../docs/forward.zh-CN.md")] {
        let blocks: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let (tables, keys): (Vec<&str>, Vec<&str>) = blocks.iter().partition(|block| block.starts_with("[[forward]]"));
        let tables = tables.concat().replace("file = \"/run/secrets/nats.creds\"", "env = \"NATS_CREDS\"");
        let config = Config::parse(&format!("{tables}{ACCOUNTS}"), "document", env).unwrap();
        let is_queue = |forward: &&Forward| matches!(forward.to, Destination::Queue(_));
        let queues = config.forwards.iter().filter(is_queue).count();
        assert_eq!((config.forwards.len(), queues, keys.len()), (6, 4, 1));
        assert!(!forward(keys[0]).condition.is_empty());
    }
}
