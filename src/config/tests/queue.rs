//! Queues as `to` of `[[forward]]`.

use std::time::Duration;

use super::check;
use crate::{
    config::{Config, Credentials, Destination, Place, Queue, Sasl, System},
    webhook::Fields,
};

const ACCOUNTS: &str = "[mp.shop]\napp_id = \"wx1\"\ntoken = \"t\"\nmode = \"plain\"\n";

/// A forward with these keys behind line 3.
fn text(keys: &str) -> String {
    format!("[[forward]]\nname = \"crm\"\nmatch = \"mp/*\"\n{keys}\n{ACCOUNTS}")
}

fn queue(keys: &str) -> Queue {
    let config = Config::parse(&text(keys), "c.toml", |name| Ok(format!("value-of-{name}"))).unwrap();
    let Destination::Queue(queue) = config.forwards[0].to.clone() else { panic!("no queue: {keys}") };
    assert!(!format!("{queue:?}").contains("value-of"));
    queue
}

fn wrong(keys: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|text| format!("c.toml:{text}")).collect();
    check(&text(keys), &expected.iter().map(|text| &**text).collect::<Vec<_>>());
}

fn fields() -> Fields<'static> {
    Fields {
        platform: "mp",
        account: "mp/shop",
        event_type: "mp.message.text",
        subject: Some("user".into()),
        id: "e1",
        data: None,
    }
}

#[test]
fn each_system_has_its_defaults() {
    let nats = queue("to = \"nats://a,b:4223,[::1]\"");
    assert_eq!((nats.system, nats.shown()), (System::Nats, "nats://a:4222,b:4223,[::1]:4222"));
    assert_eq!(nats.timeout, Duration::from_secs(15));
    assert!(nats.tls.is_none() && matches!(nats.credentials, Credentials::None));
    let Place::Nats { subject } = &nats.place else { panic!() };
    assert_eq!(subject.fill(&fields()).unwrap(), "echostr.mp.shop.mp.message.text");

    let redis = queue("to = \"rediss://a/3\"\npassword = { env = \"P\" }\nmax_length = 1000\ntimeout = \"1s\"");
    assert_eq!(
        (redis.system, redis.shown(), redis.timeout),
        (System::Redis, "rediss://a:6379/3", Duration::from_secs(1))
    );
    let Place::Redis { stream, max_length: Some(1000), database: 3 } = &redis.place else { panic!() };
    assert_eq!(stream.fill(&fields()).unwrap(), "echostr");
    assert!(redis.tls.is_some());

    let rabbit = queue("to = \"amqps://a/my%2Fhost\"\nexchange = \"events\"");
    assert_eq!((rabbit.system, rabbit.shown()), (System::RabbitMq, "amqps://a:5671/my%2Fhost"));
    let Place::RabbitMq { vhost, exchange: Some(exchange), routing_key } = &rabbit.place else { panic!() };
    assert_eq!((vhost.as_str(), exchange.fill(&fields()).unwrap().as_str()), ("my/host", "events"));
    assert_eq!(routing_key.fill(&fields()).unwrap(), "mp.shop.mp.message.text");
    let rabbit = queue("to = \"amqp://a\"\nexchange = \"\"\nrouting_key = \"queue\"");
    assert!(matches!(&rabbit.place, Place::RabbitMq { vhost, exchange: None, .. } if vhost == "/"));

    let kafka = queue(
        "to = \"kafka://a:1,b:2\"\ntls = true\nusername = \"u\"\npassword = { env = \"P\" }\nsasl = \"scram-sha-512\"",
    );
    assert_eq!((kafka.system, kafka.shown()), (System::Kafka, "kafka://a:1,b:2"));
    let Place::Kafka { topic, key, sasl: Sasl::ScramSha512 } = &kafka.place else { panic!() };
    assert_eq!((topic.fill(&fields()), key.fill(&fields())), (Some("echostr".into()), Some("user".into())));
}

#[test]
fn addresses_are_checked_and_have_no_password() {
    let to = |to: &str, expected: &str| wrong(&format!("to = \"{to}\""), &[&format!("4: [[forward]] `to` {expected}")]);
    let url = "must be a URL such as \"nats://queue.example.com:4222\", several hosts with commas between them";
    for bad in ["nats://", "nats://a,", "nats://a:0", "nats://a:x", "nats://a:70000", "nats://[::1", "nats://a b"] {
        to(bad, url);
    }
    for system in ["nats", "redis", "rediss", "kafka"] {
        to(
            &format!("{system}://me:s3cret@a"),
            "must not have a user or a password in it: use `username` and `password`",
        );
    }
    to("nats://a?x=1", "must have no query and no fragment");
    to("nats://a/b", "must have no path");
    to("kafka://a/b", "must have no path");
    to("redis://a/b", "must have the number of a database as its path, or none");
    to("redis://a,b", "must have one host: Redis Cluster is not supported");
    to("nats://b,169.254.169.254", "must not be an address where clouds serve metadata");
    to("kafka://[::ffff:169.254.169.254]:9092", "must not be an address where clouds serve metadata");
    to("redis://127.0.0.1:8080", "must not be an address where echostr itself listens");
}

#[test]
fn keys_of_one_system_are_refused_by_the_others() {
    let nats = "to = \"nats://a\"";
    wrong(&format!("{nats}\ntopic = \"x\""), &["5: [[forward]] `topic` is not a key of nats:// targets"]);
    wrong(&format!("{nats}\nmax_length = 1"), &["5: [[forward]] `max_length` is not a key of nats:// targets"]);
    wrong("to = \"kafka://a\"\nsubject = \"x\"", &["5: [[forward]] `subject` is not a key of kafka:// targets"]);
    wrong(
        "to = \"http://a\"\nsubject = \"x\"\ntls = true",
        &[
            "5: [[forward]] `subject` needs a queue as `to`: nats://, redis://, amqp:// or kafka://",
            "6: [[forward]] `tls` needs a queue as `to`: nats://, redis://, amqp:// or kafka://",
        ],
    );
    for (key, value) in
        [("secret", "\"x\""), ("headers", "{}"), ("proxy", "\"http://p\""), ("answers", "true"), ("token", "\"t\"")]
    {
        let expected = format!("5: [[forward]] `{key}` is for http and https; a queue has no requests");
        wrong(&format!("{nats}\n{key} = {value}"), &[&expected]);
    }
    wrong(
        &format!("{nats}\nformat = \"original\""),
        &["5: [[forward]] `format` must be \"cloudevents\" or \"raw\": \"original\" is a request over HTTP"],
    );
    wrong(
        "to = \"amqp://a\"",
        &[
            "1: [[forward]] missing `exchange`: where messages are published; \"\" is the exchange that knows queues by their names",
        ],
    );
    wrong(
        "to = \"amqp://a\"\nexchange = \"\"",
        &["1: [[forward]] missing `routing_key`: with `exchange = \"\"` it is the name of a queue"],
    );
}

#[test]
fn names_are_checked_when_the_file_is_read() {
    let fields = "a text with `{platform}`, `{account}`, `{name}`, `{type}`, `{subject}`, `{id}` or a field such as \
                  `{data.EventKey}` in it";
    wrong("to = \"nats://a\"\nsubject = \"{user}\"", &[&format!("5: [[forward]] `subject` must be {fields}")]);
    wrong(
        "to = \"nats://a\"\nsubject = \"a.*\"",
        &["5: [[forward]] `subject` must be a text without spaces, `*`, `>` and `#`"],
    );
    wrong(
        "to = \"nats://a\"\nsubject = \"a..b\"",
        &["5: [[forward]] `subject` must be words with one dot between them"],
    );
    wrong(
        "to = \"kafka://a\"\ntopic = \"a/b\"",
        &["5: [[forward]] `topic` must be a text of letters, digits, `.`, `_` and `-`"],
    );
    wrong("to = \"redis://a\"\nstream = 1", &["5: [[forward]] `stream` must be a text, not an integer"]);
}

#[test]
fn there_is_one_way_to_sign_in_and_encryption_is_whole() {
    let nats = "to = \"nats://a\"";
    wrong(&format!("{nats}\nusername = \"u\""), &["5: [[forward]] `username` needs `password`"]);
    wrong(&format!("{nats}\npassword = \"p\""), &["5: [[forward]] `password` needs `username`"]);
    wrong(
        &format!("{nats}\nnats_token = \"t\"\nnats_nkey = \"k\""),
        &["6: [[forward]] `nats_nkey` is one way to sign in too many, beside `nats_token`"],
    );
    wrong("to = \"kafka://a\"\nsasl = \"plain\"", &["5: [[forward]] `sasl` needs `username` and `password`"]);
    wrong("to = \"rediss://a\"\ntls = false", &["5: [[forward]] `tls` must be true with rediss://"]);
    wrong(&format!("{nats}\nca_file = \"x\""), &["5: [[forward]] `ca_file` needs `tls = true`"]);
    let folder = tempfile::TempDir::new().unwrap();
    let empty = folder.path().join("ca.pem");
    std::fs::write(&empty, "").unwrap();
    wrong(
        &format!("{nats}\ntls = true\nca_file = \"{}\"", empty.display()),
        &["6: [[forward]] `ca_file` must be the path of a file with certificates in PEM: there is none in it"],
    );
}
