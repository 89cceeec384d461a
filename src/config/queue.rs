//! Queues that events are sent to: what `to` of a `[[forward]]` may be beside http and https, and the keys that go with it.

use std::{fmt, net::Ipv6Addr, time::Duration};

use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{reader::Section, target};
use crate::{
    secret::Secret,
    webhook::{Guard, Syntax, Template},
};

/// The keys that only queues have.
pub(super) const KEYS: [&str; 15] = [
    "subject",
    "stream",
    "max_length",
    "exchange",
    "routing_key",
    "topic",
    "key",
    "tls",
    "ca_file",
    "username",
    "password",
    "nats_token",
    "nats_nkey",
    "nats_creds",
    "sasl",
];
/// Those that every system has.
const OF_ALL: [&str; 4] = ["tls", "ca_file", "username", "password"];
/// What belongs to requests over HTTP.
const OF_HTTP: [&str; 8] =
    ["secret", "secret_previous", "headers", "proxy", "answers", "token", "aes_key", "receive_id"];

/// The largest number of events that a stream is trimmed to.
const MAX_LENGTH: u64 = 1_000_000_000_000;

/// A system of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum System {
    /// NATS JetStream.
    Nats,
    /// Redis Streams.
    Redis,
    /// RabbitMQ.
    RabbitMq,
    /// Kafka.
    Kafka,
}

/// A queue that events are sent to. `Debug` shows no secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct Queue {
    /// Which system.
    pub system: System,
    pub(crate) hosts: Vec<Host>,
    pub(crate) tls: Option<Tls>,
    pub(crate) credentials: Credentials,
    pub(crate) place: Place,
    /// How long a message may take until it is confirmed.
    pub(crate) timeout: Duration,
    shown: String,
}

/// One server of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A name or an address, the latter without brackets.
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// What is trusted instead of the system's certificates.
    pub(crate) roots: Option<Vec<CertificateDer<'static>>>,
}

/// Who connects.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    None,
    Password(Option<String>, Secret),
    Token(Secret),
    Nkey(Secret),
    Creds(Secret),
}

/// Where in the system messages are published.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Nats { subject: Template },
    Redis { stream: Template, max_length: Option<u64>, database: u16 },
    RabbitMq { vhost: String, exchange: Option<Template>, routing_key: Template },
    Kafka { topic: Template, key: Template, sasl: Sasl },
}

/// How Kafka is given user and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sasl {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("to", &self.shown).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Host {
    /// As it is written in URLs.
    pub(crate) fn authority(&self) -> String {
        let Self { name, port } = self;
        if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
    }
}

impl Place {
    /// Whether a template of it names fields of the payload.
    pub(crate) fn needs_data(&self) -> bool {
        let templates: [Option<&Template>; 2] = match self {
            Self::Nats { subject } => [Some(subject), None],
            Self::Redis { stream, .. } => [Some(stream), None],
            Self::RabbitMq { exchange, routing_key, .. } => [exchange.as_ref(), Some(routing_key)],
            Self::Kafka { topic, key, .. } => [Some(topic), Some(key)],
        };
        templates.into_iter().flatten().any(Template::needs_data)
    }
}

impl Queue {
    /// Where it is, as it may be shown.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }
}

impl System {
    /// The system of a URL, and whether its scheme asks for encryption.
    pub(super) fn of(url: &str) -> Option<(Self, bool)> {
        let (scheme, _) = url.split_once("://")?;
        Some(match scheme.to_ascii_lowercase().as_str() {
            "nats" => (Self::Nats, false),
            "redis" => (Self::Redis, false),
            "rediss" => (Self::Redis, true),
            "amqp" => (Self::RabbitMq, false),
            "amqps" => (Self::RabbitMq, true),
            "kafka" => (Self::Kafka, false),
            _ => return None,
        })
    }

    /// The feature of Cargo that it needs.
    const fn feature(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Redis => "redis",
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }

    const fn is_built(self) -> bool {
        match self {
            Self::Nats => cfg!(feature = "nats"),
            Self::Redis => cfg!(feature = "redis"),
            Self::RabbitMq => cfg!(feature = "rabbitmq"),
            Self::Kafka => cfg!(feature = "kafka"),
        }
    }

    const fn schemes(self) -> (&'static str, &'static str) {
        match self {
            Self::Nats => ("nats", "nats"),
            Self::Redis => ("redis", "rediss"),
            Self::RabbitMq => ("amqp", "amqps"),
            Self::Kafka => ("kafka", "kafka"),
        }
    }

    const fn port(self, is_encrypted: bool) -> u16 {
        match self {
            Self::Nats => 4222,
            Self::Redis => 6379,
            Self::RabbitMq if is_encrypted => 5671,
            Self::RabbitMq => 5672,
            Self::Kafka => 9092,
        }
    }

    /// The keys that only this system has.
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Nats => &["subject", "nats_token", "nats_nkey", "nats_creds"],
            Self::Redis => &["stream", "max_length"],
            Self::RabbitMq => &["exchange", "routing_key"],
            Self::Kafka => &["topic", "key", "sasl"],
        }
    }
}

/// Reports the keys of queues where `to` is none.
pub(super) fn refuse_keys(section: &Section<'_>) {
    for key in KEYS.into_iter().filter(|key| section.has(key)) {
        section.problem(key, "needs a queue as `to`: nats://, redis://, amqp:// or kafka://");
    }
}

/// Reads a queue; `to` is its address. `guard` knows where the server itself will listen.
pub(super) fn read(section: &Section<'_>, guard: &Guard, to: &Secret, timeout: Duration) -> Option<Queue> {
    let (system, by_scheme) = System::of(to.expose())?;
    let (plain, _) = system.schemes();
    if !system.is_built() {
        let feature = system.feature();
        section.problem(
            "to",
            format!("is of a queue that this program was built without: build it with `--features {feature}`, or take the container, which has all of them"),
        );
    }
    for key in OF_HTTP.into_iter().filter(|key| section.has(key)) {
        section.problem(key, "is for http and https; a queue has no requests");
    }
    for key in KEYS.into_iter().filter(|key| section.has(key)) {
        if !OF_ALL.contains(&key) && !system.keys().contains(&key) {
            section.problem(key, format!("is not a key of {plain}:// targets"));
        }
    }
    let address = Address::parse(to.expose()).map_err(|wrong| section.problem("to", wrong)).ok();
    let tls = tls(section, system, by_scheme);
    let credentials = credentials(section, system);
    let timeout = section.duration("timeout", target::TIMEOUT).unwrap_or(timeout);
    let Address { hosts, path } = address?;
    let is_encrypted = by_scheme || tls.as_ref().is_some_and(Option::is_some);
    let hosts: Vec<Host> = hosts
        .into_iter()
        .map(|(name, port)| Host { name, port: port.unwrap_or_else(|| system.port(is_encrypted)) })
        .collect();
    for host in &hosts {
        if let Ok(ip) = host.name.parse()
            && let Err(refused) = guard.check(ip, host.port)
        {
            section.problem("to", target::refusal(refused));
        }
    }
    if hosts.len() > 1 && system == System::Redis {
        section.problem("to", "must have one host: Redis Cluster is not supported");
    }
    let place = place(section, system, &path)?;
    let servers: Vec<String> = hosts.iter().map(Host::authority).collect();
    let scheme = if is_encrypted { system.schemes().1 } else { plain };
    let slash = if path.is_empty() { "" } else { "/" };
    let shown = format!("{scheme}://{}{slash}{path}", servers.join(","));
    Some(Queue { system, hosts, tls: tls?, credentials: credentials?, place, timeout, shown })
}

/// `None` where something is wrong with it.
fn tls(section: &Section<'_>, system: System, by_scheme: bool) -> Option<Option<Tls>> {
    let wanted = section.flag("tls");
    if by_scheme && wanted == Some(false) {
        section.problem("tls", format!("must be true with {}://", system.schemes().1));
    }
    let is_encrypted = by_scheme || wanted == Some(true);
    if !is_encrypted && section.has("ca_file") {
        section.problem("ca_file", "needs `tls = true`");
        return None;
    }
    let roots = match section.has("ca_file") {
        true => Some(section.parsed("ca_file", "the path of a file with certificates in PEM", certificates)?),
        false => None,
    };
    Some(is_encrypted.then_some(Tls { roots }))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("the path of a file with certificates in PEM: {why}");
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is none in it".to_owned())) } else { Ok(found) }
}

/// `None` where something is wrong with them.
fn credentials(section: &Section<'_>, system: System) -> Option<Credentials> {
    let username = section.matching("username", "a name", |text| {
        (!text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    let ways = ["password", "nats_token", "nats_nkey", "nats_creds"];
    let mut written = ways.into_iter().filter(|key| section.has(key));
    let (first, second) = (written.next(), written.next());
    if let (Some(first), Some(second)) = (first, second) {
        section.problem(second, format!("is one way to sign in too many, beside `{first}`"));
        return None;
    }
    if section.has("username") && first != Some("password") {
        section.problem("username", "needs `password`");
    }
    let Some(key) = first else { return Some(Credentials::None) };
    let secret = section.secret(key)?;
    Some(match key {
        "nats_token" => Credentials::Token(secret),
        "nats_nkey" => Credentials::Nkey(secret),
        "nats_creds" => Credentials::Creds(secret),
        _ => {
            if !section.has("username") && system != System::Redis {
                section.problem("password", "needs `username`");
            }
            Credentials::Password(username, secret)
        }
    })
}

/// `None` where something is wrong with it.
fn place(section: &Section<'_>, system: System, path: &str) -> Option<Place> {
    let template = |key: &str, default: &str, syntax: Syntax, limit: usize| {
        let parse = |text: &str| Template::parse(text, syntax, limit);
        if section.has(key) { section.parsed(key, "a text", parse) } else { parse(default).ok() }
    };
    if !path.is_empty() && matches!(system, System::Nats | System::Kafka) {
        section.problem("to", "must have no path");
    }
    match system {
        System::Nats => {
            Some(Place::Nats { subject: template("subject", "echostr.{platform}.{name}.{type}", Syntax::Words, 255)? })
        }
        System::Redis => {
            let Some(database) = (if path.is_empty() { Some(0) } else { path.parse().ok() }) else {
                section.problem("to", "must have the number of a database as its path, or none");
                return None;
            };
            Some(Place::Redis {
                stream: template("stream", "echostr", Syntax::Name, 512)?,
                max_length: section.integer("max_length", 1..=MAX_LENGTH),
                database,
            })
        }
        System::RabbitMq => {
            section.require(
                "exchange",
                "where messages are published; \"\" is the exchange that knows queues by their names",
            );
            let is_default = section.matching("exchange", "a text", |text| Some(text.is_empty())).unwrap_or(false);
            if is_default {
                section.require("routing_key", "with `exchange = \"\"` it is the name of a queue");
            }
            let Some(vhost) = percent_decode_str(path).decode_utf8().ok().filter(|vhost| vhost.len() <= 255) else {
                section.problem("to", "must have a virtual host as its path, or none");
                return None;
            };
            let exchange = if is_default { None } else { Some(template("exchange", "x", Syntax::Name, 127)?) };
            let routing_key = template("routing_key", "{platform}.{name}.{type}", Syntax::Words, 255)?;
            let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost.into_owned() };
            Some(Place::RabbitMq { vhost, exchange, routing_key })
        }
        System::Kafka => {
            let words =
                [("plain", Sasl::Plain), ("scram-sha-256", Sasl::ScramSha256), ("scram-sha-512", Sasl::ScramSha512)];
            if section.has("sasl") && !section.has("password") {
                section.problem("sasl", "needs `username` and `password`");
            }
            let sasl = if section.has("sasl") { section.choice("sasl", &words)? } else { Sasl::Plain };
            let topic = template("topic", "echostr", Syntax::Topic, 249)?;
            Some(Place::Kafka { topic, key: template("key", "{subject}", Syntax::Any, 1024)?, sasl })
        }
    }
}

/// The parts of a URL of a queue: one or more hosts with commas between them.
struct Address {
    hosts: Vec<(String, Option<u16>)>,
    path: String,
}

impl Address {
    /// Reads one; the error goes on after the name of the key, and shows nothing of the text.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "must be a URL such as \"nats://queue.example.com:4222\", several hosts with commas between them";
        let (_, rest) = text.split_once("://").ok_or(WRONG)?;
        if rest.contains('@') {
            return Err("must not have a user or a password in it: use `username` and `password`");
        }
        if rest.contains(['?', '#']) {
            return Err("must have no query and no fragment");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WRONG);
        }
        let hosts: Option<Vec<_>> = authority.split(',').map(host).collect();
        let hosts = hosts.filter(|hosts| hosts.len() <= 32).ok_or(WRONG)?;
        Ok(Self { hosts, path: path.to_owned() })
    }
}

fn host(text: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (literal, behind) = rest.split_once(']')?;
            literal.parse::<Ipv6Addr>().ok()?;
            (literal, behind.strip_prefix(':').or_else(|| behind.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        return None;
    }
    let port = match port {
        "" => None,
        port => Some(port.parse().ok().filter(|number| *number != 0 && port.bytes().all(|it| it.is_ascii_digit()))?),
    };
    Some((name.to_owned(), port))
}
