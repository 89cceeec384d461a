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

const APP_ID: &str = "wx0123456789abcdef";
const TOKEN: &str = "echostrCrashToken";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

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

/// Both accounts, as the platform knows them.
#[derive(Clone, Debug)]
pub struct Accounts {
    plain: Keys,
    safe: Keys,
}

impl Default for Accounts {
    fn default() -> Self {
        let keys = |mode| Keys {
            platform: Platform::Mp,
            tokens: vec![Secret::new(TOKEN)],
            aes_keys: EncodingKey::parse(AES_KEY).into_iter().filter(|_| mode != Mode::Plain).collect(),
            receive_ids: ReceiveIds::OneOf(vec![APP_ID.to_owned()]),
            mode,
            max_age: None,
            sdk_app_id: None,
        };
        Self { plain: keys(Mode::Plain), safe: keys(Mode::Safe) }
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

    /// Messages have a `MsgId`, and the responder answers them; the others are events.
    pub const fn is_message(&self) -> bool {
        self.serial % 8 < 6
    }

    const fn is_safe(&self) -> bool {
        self.serial % 2 == 1
    }

    pub fn name(&self) -> String {
        name(self.serial)
    }

    fn payload(&self) -> String {
        let Self { subject, created, .. } = self;
        let head = format!(
            "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName><FromUserName><![CDATA[{subject}]]>\
             </FromUserName><CreateTime>{created}</CreateTime>"
        );
        let name = self.name();
        if self.is_message() {
            format!(
                "{head}<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{}]]></Content><MsgId>{name}</MsgId></xml>",
                self.content()
            )
        } else {
            format!(
                "{head}<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[CLICK]]></Event>\
                 <EventKey><![CDATA[{name}]]></EventKey></xml>"
            )
        }
    }

    fn content(&self) -> String {
        format!("When do you open on day {}?", self.serial)
    }

    /// The request, signed now and with a nonce of its own.
    pub fn request(&self, accounts: &Accounts, random: u128) -> Vec<u8> {
        let keys = if self.is_safe() { &accounts.safe } else { &accounts.plain };
        let path = if self.is_safe() { "/mp/safe" } else { "/mp/plain" };
        let now = i64::try_from(unix_nanos() / 1_000_000_000).unwrap_or_default();
        let nonce = format!("{:016x}", random >> 64);
        let sender = Sender::new(keys);
        let request = sender
            .deliver(&self.payload(), Form::Xml, None, now, &nonce, random.to_le_bytes())
            .expect("a payload of less than 4 GiB");
        let head = format!(
            "POST {path}?{} HTTP/1.1\r\nHost: callback.example.com\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
            request.query,
            request.body.len()
        );
        [head.as_bytes(), request.body.as_bytes()].concat()
    }

    /// The reply in clear text, if it is one that this delivery may get.
    pub fn open_reply(&self, accounts: &Accounts, body: &str) -> Option<String> {
        let sealed = self.is_safe() && body != "success";
        let reply = if sealed { Sender::new(&accounts.safe).open_reply(body).ok()? } else { body.to_owned() };
        let right = match self.is_message() {
            true => reply.contains(&format!("echo: {}", self.content())),
            false => reply == "success",
        };
        right.then_some(reply)
    }
}

fn name(serial: u64) -> String {
    if serial % 8 < 6 { (FIRST_ID + serial).to_string() } else { format!("K{serial:09}") }
}

/// The name of the delivery with this payload.
pub fn name_of(payload: &str) -> Option<&str> {
    let between = |start: &str, end| Some(payload.split_once(start)?.1.split_once(end)?.0);
    between("<MsgId>", "</MsgId>").or_else(|| between("<EventKey><![CDATA[", "]]>"))
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
