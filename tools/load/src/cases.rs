//! What is sent, and what must come back.

use std::{
    net::SocketAddr,
    rc::Rc,
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
const CORP_ID: &str = "ww0123456789abcdef";
const SDK_APP_ID: u64 = 1_400_000_000;
/// Each account has its own: a token that an encrypted account shares with one that takes clear text costs it a look-up for
/// each delivery.
const PLAIN_TOKEN: &str = "echostrLoadPlain";
const SAFE_TOKEN: &str = "echostrLoadSafe";
const WECOM_TOKEN: &str = "echostrLoadWeCom";
const IM_TOKEN: &str = "echostrLoadIm";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const FRIEND_ADD: &str = "Sns.CallbackPrevFriendAdd";

/// Length of a text message, as they mostly are.
const TEXT_LENGTH: usize = 370;

/// Where events are kept by default: in memory.
pub(crate) const NO_JOURNAL: &str = "memory:";

/// The configuration that the cases need: the default one, but for `memory_limit` where it is given.
pub(crate) fn config(listen: SocketAddr, admin: SocketAddr, journal: &str, memory_limit: Option<&str>) -> String {
    let memory_limit = memory_limit.map(|limit| format!("memory_limit = \"{limit}\"\n")).unwrap_or_default();
    format!(
        r#"[server]
listen = "{listen}"
[admin]
listen = "{admin}"
[journal]
url = "{journal}"
{memory_limit}[mp.plain]
app_id = "{APP_ID}"
token = "{PLAIN_TOKEN}"
[mp.safe]
app_id = "{APP_ID}"
token = "{SAFE_TOKEN}"
aes_key = "{AES_KEY}"
[wecom.sales]
corp_id = "{CORP_ID}"
token = "{WECOM_TOKEN}"
aes_key = "{AES_KEY}"
[im.chat]
sdk_app_id = {SDK_APP_ID}
token = "{IM_TOKEN}"
[handlers.demo]
"#
    )
}

/// One kind of delivery.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    name: &'static str,
    path: &'static str,
    /// CPU time as a multiple of the bare server's, at most: without a journal that keeps, and with one.
    aims: [f64; 2],
    kind: Kind,
    keys: Rc<Keys>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Subscribe,
    FriendAdd,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let case = |name, path, aims, kind, keys| Self { name, path, aims, kind, keys: Rc::new(keys) };
        let plain = || keys(Platform::Mp, Mode::Plain);
        vec![
            case("mp plain text -> text", "/mp/plain", [1.6, 2.4], Kind::Text, plain()),
            case("mp subscribe -> success", "/mp/plain", [1.6, 2.4], Kind::Subscribe, plain()),
            case("im friend-add -> verdict", "/im/chat", [1.6, 2.4], Kind::FriendAdd, keys(Platform::Im, Mode::Plain)),
            case("mp safe text -> sealed text", "/mp/safe", [2.0, 2.8], Kind::Text, keys(Platform::Mp, Mode::Safe)),
            case(
                "wecom safe text -> sealed text",
                "/wecom/sales",
                [2.0, 2.8],
                Kind::Text,
                keys(Platform::WeCom, Mode::Safe),
            ),
        ]
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn path(&self) -> &'static str {
        self.path
    }

    pub(crate) const fn aim(&self, kept: bool) -> f64 {
        self.aims[kept as usize]
    }

    /// Appends a request of its own: no other serial gives the same event, nonce or signature.
    fn write(&self, serial: u64, now: i64, requests: &mut Vec<u8>) {
        self.write_payload(serial, now, &self.payload(serial, now), requests);
    }

    fn write_payload(&self, serial: u64, now: i64, payload: &str, requests: &mut Vec<u8>) {
        let (form, command) = match self.kind {
            Kind::FriendAdd => (Form::Json, Some(FRIEND_ADD)),
            Kind::Text | Kind::Subscribe => (Form::Xml, None),
        };
        let random = u128::from(serial).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_le_bytes();
        let nonce = (1_000_000_000 + serial).to_string();
        let request = Sender::new(&self.keys)
            .deliver(payload, form, command, now, &nonce, random)
            .expect("a payload of less than 4 GiB");
        let content = if form == Form::Json { "application/json" } else { "text/xml" };
        let head = format!(
            "POST {}?{} HTTP/1.1\r\nHost: callback.example.com\r\nUser-Agent: Mozilla/4.0\r\nAccept: */*\r\n\
             Content-Type: {content}\r\nContent-Length: {}\r\n\r\n",
            self.path,
            request.query,
            request.body.len()
        );
        requests.extend_from_slice(head.as_bytes());
        requests.extend_from_slice(request.body.as_bytes());
    }

    fn payload(&self, serial: u64, now: i64) -> String {
        match (self.kind, self.keys.platform) {
            (Kind::Text, Platform::WeCom) => padded(
                &format!(
                    "<xml><ToUserName><![CDATA[{CORP_ID}]]></ToUserName><FromUserName><![CDATA[zhangsan]]>\
                     </FromUserName><CreateTime>{now}</CreateTime><MsgType><![CDATA[text]]></MsgType><MsgId>{}</MsgId>\
                     <AgentID>1000002</AgentID><Content><![CDATA[",
                    message_id(serial)
                ),
                &content(serial),
            ),
            (Kind::Text, _) => padded(
                &format!(
                    "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName><FromUserName>\
                     <![CDATA[oHx9k6Q2bTnV4yZcR8wLmJ1sPe5A]]></FromUserName><CreateTime>{now}</CreateTime><MsgType>\
                     <![CDATA[text]]></MsgType><MsgId>{}</MsgId><Content><![CDATA[",
                    message_id(serial)
                ),
                &content(serial),
            ),
            (Kind::Subscribe, _) => format!(
                "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName><FromUserName>\
                 <![CDATA[oHx9k6Q2bTnV4yZc{serial:012}]]></FromUserName><CreateTime>{now}</CreateTime><MsgType>\
                 <![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey></xml>"
            ),
            (Kind::FriendAdd, _) => format!(
                r#"{{"CallbackCommand":"{FRIEND_ADD}","Requester_Account":"u_2041","From_Account":"u_2041","FriendItem":[{{"To_Account":"{}","Remark":"night shift","GroupName":"depot","AddSource":"AddSource_Type_Web","AddWording":"Hi, shift lead here"}}],"AddType":"Add_Type_Both","ForceAddFlags":0,"EventTime":{}}}"#,
                friend(serial),
                now * 1000
            ),
        }
    }

    /// Whether a body is the answer to the request with this serial, as the platform would read it.
    pub(crate) fn is_right(&self, serial: u64, body: &[u8]) -> bool {
        let Ok(body) = std::str::from_utf8(body) else { return false };
        let opened = match self.keys.mode {
            Mode::Plain => body.to_owned(),
            _ => Sender::new(&self.keys).open_reply(body).unwrap_or_default(),
        };
        match self.kind {
            Kind::Text => opened.contains(&format!("echo: {}", content(serial))),
            Kind::Subscribe => opened == "success",
            Kind::FriendAdd => opened.contains(r#""ActionStatus":"OK""#) && opened.contains(&friend(serial)),
        }
    }
}

fn keys(platform: Platform, mode: Mode) -> Keys {
    let aes_keys = EncodingKey::parse(AES_KEY).into_iter().filter(|_| mode != Mode::Plain).collect();
    let (token, receive_id) = match (platform, mode) {
        (Platform::WeCom, _) => (WECOM_TOKEN, CORP_ID),
        (Platform::Im, _) => (IM_TOKEN, APP_ID),
        (_, Mode::Plain) => (PLAIN_TOKEN, APP_ID),
        _ => (SAFE_TOKEN, APP_ID),
    };
    Keys {
        platform,
        tokens: vec![Secret::new(token)],
        aes_keys,
        receive_ids: ReceiveIds::OneOf(vec![receive_id.to_owned()]),
        mode,
        max_age: None,
        sdk_app_id: Some(SDK_APP_ID).filter(|_| platform == Platform::Im),
    }
}

/// A text message of this many bytes: one long text, or short elements that the catalogue does not know.
pub(crate) fn large_text(serial: u64, length: usize, elements: usize) -> String {
    let start = format!(
        "<xml><ToUserName>gh_3c884a361561</ToUserName><FromUserName>oHx9k6Q2bTnV4yZcR8wLmJ1sPe5A</FromUserName>\
         <CreateTime>{}</CreateTime><MsgType>text</MsgType><MsgId>{}</MsgId><Content>{}",
        unix_seconds(),
        message_id(serial),
        content(serial)
    );
    let end = format!("</Content>{}</xml>", "<a>1</a>".repeat(elements));
    let missing = length.saturating_sub(start.len() + end.len());
    format!("{start}{}{end}", ".".repeat(missing))
}

/// A request that anybody can make: the signature covers the body, which is never whole.
pub(crate) fn unsigned_head(length: usize) -> String {
    format!(
        "POST /wecom/sales?msg_signature={}&timestamp={}&nonce=1 HTTP/1.1\r\nHost: callback.example.com\r\n\
         Content-Length: {length}\r\n\r\n",
        "0".repeat(40),
        unix_seconds()
    )
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

fn message_id(serial: u64) -> u64 {
    24_762_917_300_000_000 + serial
}

fn content(serial: u64) -> String {
    format!("When do you open on day {serial}?")
}

fn friend(serial: u64) -> String {
    format!("u_{serial:012}")
}

/// Ends a text message, filled up to the usual length.
fn padded(start: &str, content: &str) -> String {
    const END: &str = "]]></Content></xml>";
    let missing = TEXT_LENGTH.saturating_sub(start.len() + content.len() + END.len());
    format!("{start}{content}{}{END}", ".".repeat(missing))
}

/// Requests ready to be sent.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each request ends.
    ends: Vec<usize>,
    first_serial: u64,
}

impl Batch {
    /// Makes `count` requests, timed now, numbered from `first_serial`.
    pub(crate) fn new(case: &Case, first_serial: u64, count: usize) -> Rc<Self> {
        let now = unix_seconds();
        let (mut bytes, mut ends) = (Vec::with_capacity(count * 1024), Vec::with_capacity(count));
        for serial in (first_serial..).take(count) {
            case.write(serial, now, &mut bytes);
            ends.push(bytes.len());
        }
        Rc::new(Self { bytes, ends, first_serial })
    }

    /// Makes requests of this account with such payloads, numbered from 0.
    pub(crate) fn of(case: &Case, payloads: impl Iterator<Item = String>) -> Rc<Self> {
        let now = unix_seconds();
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (serial, payload) in (0..).zip(payloads) {
            case.write_payload(serial, now, &payload, &mut bytes);
            ends.push(bytes.len());
        }
        Rc::new(Self { bytes, ends, first_serial: 0 })
    }

    /// A request; after the last one comes the first one again.
    pub(crate) fn request(&self, number: usize) -> &[u8] {
        let at = number % self.ends.len();
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[at]]
    }

    pub(crate) fn serial(&self, number: usize) -> u64 {
        self.first_serial + (number % self.ends.len()) as u64
    }

    /// The serial that the next batch starts with.
    pub(crate) fn next_serial(&self) -> u64 {
        self.first_serial + self.ends.len() as u64
    }
}
