//! What is sent, and what must come back.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use echostr::{
    crypto::EncodingKey,
    envelope::{Keys, Mode, ReceiveIds, Sender},
    event::Platform,
    payload::Form,
    secret::Secret,
};

pub(crate) const APP_ID: &str = "wx0123456789abcdef";
const TOKEN: &str = "echostrCrashToken";
pub(crate) const SECRET: &str = "echostrCrashSecret";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// The first serial of the messages that an AI bot answers with a stream.
pub const FIRST_STREAM: u64 = 1_000_000_000;

/// The first serial of the messages whose reply is not ready at the deadline.
pub const FIRST_LATE: u64 = 2_000_000_000;

/// Added to the serial, for ids as long as real ones.
const FIRST_ID: u64 = 24_762_917_300_000_000;

/// The configuration of a node.
pub fn config(listen: SocketAddr, admin: SocketAddr, journal: &str) -> String {
    format!(
        r#"[server]
listen = "{listen}"
[admin]
listen = "{admin}"
[journal]
url = "{journal}"
[observers]
# A kill ends the attempts of all that is leased, and these are many kills.
max_attempts = 1000
backoff = "50ms..500ms"
[log]
level = "warn"
[mp.plain]
app_id = "{APP_ID}"
token = "{TOKEN}"
mode = "plain"
[mp.safe]
app_id = "{APP_ID}"
token = "{TOKEN}"
aes_key = "{AES_KEY}"
"#
    )
}

/// What is added to the configuration for answers that take longer than a response; the API is at `api_url`.
pub fn slow_accounts(api_url: &str) -> String {
    format!(
        r#"[wecom_bot.helper]
token = "{TOKEN}"
aes_key = "{AES_KEY}"
[mp.late]
app_id = "{APP_ID}"
token = "{TOKEN}"
mode = "plain"
secret = "{SECRET}"
api_base = "{api_url}"
late_reply = "send"
deadline = "200ms"
"#
    )
}

/// All accounts, as the platform knows them.
#[derive(Clone, Debug)]
pub struct Accounts {
    plain: Keys,
    safe: Keys,
    bot: Keys,
}

impl Default for Accounts {
    fn default() -> Self {
        let keys = |platform, mode, receive_id: &str| Keys {
            platform,
            tokens: vec![Secret::new(TOKEN)],
            aes_keys: EncodingKey::parse(AES_KEY).into_iter().filter(|_| mode != Mode::Plain).collect(),
            receive_ids: ReceiveIds::OneOf(vec![receive_id.to_owned()]),
            mode,
            max_age: None,
            sdk_app_id: None,
        };
        Self {
            plain: keys(Platform::Mp, Mode::Plain, APP_ID),
            safe: keys(Platform::Mp, Mode::Safe, APP_ID),
            bot: keys(Platform::WeComBot, Mode::Safe, ""),
        }
    }
}

/// How a delivery is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message, with the reply of a responder that is ready in time.
    Message,
    /// An event that no responder answers.
    Event,
    /// A message to an AI bot, with the beginning of a stream.
    Stream,
    /// A message whose reply is sent through the API, for it is ready after the deadline.
    Late,
}

impl Kind {
    /// Whether its responder may run again after the response: the answer is not in it, or not all of it.
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Stream | Self::Late)
    }
}

/// One thing that happened on the platform; it may be sent many times.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub serial: u64,
    pub subject: String,
    created: u64,
}

impl Delivery {
    pub fn new(serial: u64, subject: String) -> Self {
        Self { serial, subject, created: unix_nanos() / 1_000_000_000 }
    }

    pub const fn kind(&self) -> Kind {
        match self.serial {
            FIRST_LATE.. => Kind::Late,
            FIRST_STREAM.. => Kind::Stream,
            serial if serial % 8 < 6 => Kind::Message,
            _ => Kind::Event,
        }
    }

    pub fn name(&self) -> String {
        name(self.serial)
    }

    fn payload(&self) -> String {
        let Self { subject, created, .. } = self;
        let (name, content) = (self.name(), self.content());
        let head = format!(
            "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName><FromUserName><![CDATA[{subject}]]>\
             </FromUserName><CreateTime>{created}</CreateTime>"
        );
        match self.kind() {
            Kind::Message | Kind::Late => format!(
                "{head}<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content><MsgId>{name}</MsgId></xml>"
            ),
            Kind::Event => format!(
                "{head}<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[CLICK]]></Event>\
                 <EventKey><![CDATA[{name}]]></EventKey></xml>"
            ),
            Kind::Stream => self.bot_payload(&name, &format!(r#""msgtype":"text","text":{{"content":"{content}"}}"#)),
        }
    }

    fn bot_payload(&self, msgid: &str, body: &str) -> String {
        let subject = &self.subject;
        format!(r#"{{"msgid":"{msgid}","aibotid":"AIBOT","chattype":"single","from":{{"userid":"{subject}"}},{body}}}"#)
    }

    fn content(&self) -> String {
        format!("When do you open on day {}?", self.serial)
    }

    /// The reply in whole.
    pub fn full_reply(&self) -> String {
        format!("echo: {}", self.content())
    }

    /// The keys and the path of its account, and the syntax of its requests.
    fn account<'a>(&self, accounts: &'a Accounts) -> (&'a Keys, &'static str, Form) {
        match self.kind() {
            Kind::Stream => (&accounts.bot, "/wecom_bot/helper", Form::Json),
            Kind::Late => (&accounts.plain, "/mp/late", Form::Xml),
            Kind::Message | Kind::Event if self.serial % 2 == 1 => (&accounts.safe, "/mp/safe", Form::Xml),
            Kind::Message | Kind::Event => (&accounts.plain, "/mp/plain", Form::Xml),
        }
    }

    /// The request, signed now and with a nonce of its own.
    pub fn request(&self, accounts: &Accounts, random: u128) -> Vec<u8> {
        self.sealed(accounts, &self.payload(), random)
    }

    /// The request that asks for more of a stream.
    pub fn poll(&self, accounts: &Accounts, stream: &str, random: u128) -> Vec<u8> {
        let body = format!(r#""msgtype":"stream","stream":{{"id":"{stream}"}}"#);
        self.sealed(accounts, &self.bot_payload(&format!("poll-{random:032x}"), &body), random)
    }

    fn sealed(&self, accounts: &Accounts, payload: &str, random: u128) -> Vec<u8> {
        let (keys, path, form) = self.account(accounts);
        let now = i64::try_from(unix_nanos() / 1_000_000_000).unwrap_or_default();
        let nonce = format!("{:016x}", random >> 64);
        let request = Sender::new(keys)
            .deliver(payload, form, None, now, &nonce, random.to_le_bytes())
            .expect("a payload of less than 4 GiB");
        let media = if form == Form::Json { "application/json" } else { "text/xml" };
        let head = format!(
            "POST {path}?{} HTTP/1.1\r\nHost: callback.example.com\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            request.query,
            request.body.len()
        );
        [head.as_bytes(), request.body.as_bytes()].concat()
    }

    /// The reply in clear text, if it is one that this delivery may get.
    pub fn open_reply(&self, accounts: &Accounts, body: &str) -> Option<String> {
        let (keys, ..) = self.account(accounts);
        let sealed = keys.mode == Mode::Safe && body != "success";
        let reply = if sealed { Sender::new(keys).open_reply(body).ok()? } else { body.to_owned() };
        let right = match self.kind() {
            Kind::Message => reply.contains(&self.full_reply()),
            Kind::Event => reply == "success",
            Kind::Late => reply == "success" || reply.contains(&self.full_reply()),
            Kind::Stream => Streamed::read(&reply).is_some_and(|so_far| self.full_reply().starts_with(&so_far.content)),
        };
        right.then_some(reply)
    }
}

/// A streamed answer so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    pub id: String,
    pub content: String,
    pub finished: bool,
}

impl Streamed {
    /// What the platform reads of a reply.
    pub fn read(reply: &str) -> Option<Self> {
        let reply: serde_json::Value = serde_json::from_str(reply).ok()?;
        let stream = &reply["stream"];
        let text = |name: &str| stream[name].as_str().map(str::to_owned);
        Some(Self { id: text("id")?, content: text("content")?, finished: stream["finish"].as_bool()? })
    }
}

fn name(serial: u64) -> String {
    match serial {
        0..FIRST_STREAM if serial % 8 >= 6 => format!("K{serial:09}"),
        _ => (FIRST_ID + serial).to_string(),
    }
}

/// The name of the delivery with this payload.
pub fn name_of(payload: &str) -> Option<&str> {
    let between = |start: &str, end| Some(payload.split_once(start)?.1.split_once(end)?.0);
    between("<MsgId>", "</MsgId>")
        .or_else(|| between("<EventKey><![CDATA[", "]]>"))
        .or_else(|| between(r#""msgid":""#, "\""))
}

/// The serial in the name of a delivery.
pub fn serial_of(name: &str) -> Option<u64> {
    match name.strip_prefix('K') {
        Some(digits) => digits.parse().ok(),
        None => name.parse::<u64>().ok()?.checked_sub(FIRST_ID),
    }
}

/// Nanoseconds since 1970, for comparing what happens in several processes of one machine.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
