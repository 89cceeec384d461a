//! What differs between the platforms once a delivery is opened: which event a payload is, who it is about, when two
//! deliveries are the same event, and how an answer is written.

mod bot;
mod im;
mod kf;
#[cfg(test)]
mod tests;
mod wechat;

use std::{borrow::Cow, time::Duration};

use sha2::{Digest, Sha256};

use crate::{
    event::{Answer, EventSpec, Platform, table},
    payload::{self, Form, Object, Value},
};

/// What a payload says it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity<'p> {
    /// The wire values that name it, in the order of the platform's keys: `["event", "subscribe"]`.
    pub key: Vec<Cow<'p, str>>,
    /// The row of the table; `None` when the catalogue does not know it.
    pub spec: Option<&'static EventSpec>,
}

impl Identity<'_> {
    /// The event type of the JSON form; unknown events have one per platform and kind.
    pub fn event_type(&self, platform: Platform) -> &'static str {
        self.spec.map_or_else(|| unknown_type(platform, &self.key), |spec| spec.id)
    }
}

/// The event type of what the catalogue does not know, or what does not have the shape it should have.
pub fn unknown_type(platform: Platform, key: &[Cow<'_, str>]) -> &'static str {
    let says_event = key.first().is_some_and(|kind| kind.eq_ignore_ascii_case("event"));
    let is_event = key.len() > 1 || says_event;
    // A notice may have a second key, too.
    let is_notice = !says_event;
    match (platform, is_event) {
        (Platform::Mp, true) => "mp.event.unknown",
        (Platform::Mp, false) => "mp.message.unknown",
        (Platform::MiniProgram, true) => "miniprogram.event.unknown",
        (Platform::MiniProgram, false) => "miniprogram.message.unknown",
        (Platform::OpenPlatform, _) if is_notice => "openplatform.info.unknown",
        (Platform::OpenPlatform, _) => "openplatform.event.unknown",
        (Platform::WeCom, true) => "wecom.event.unknown",
        (Platform::WeCom, false) => "wecom.message.unknown",
        (Platform::WeComSuite, _) if is_notice => "wecom_suite.info.unknown",
        (Platform::WeComSuite, _) => "wecom_suite.event.unknown",
        (Platform::WeComKf, true) => "wecom_kf.event.unknown",
        (Platform::WeComKf, false) => "wecom_kf.message.unknown",
        (Platform::WeComBot, true) => "wecom_bot.event.unknown",
        (Platform::WeComBot, false) => "wecom_bot.message.unknown",
        (Platform::Im, _) => "im.command.unknown",
    }
}

/// Says which event a payload is. `command` is `CallbackCommand` of the query, for IM.
pub fn identify<'p>(platform: Platform, payload: &'p Value<'_>, command: Option<&'p str>) -> Identity<'p> {
    let Some(object) = payload.as_object() else { return Identity { key: Vec::new(), spec: None } };
    let is_notice = is_notice(platform, object);
    let key = match platform {
        Platform::Im => im::key(object, command),
        Platform::WeComBot => bot::key(object),
        Platform::WeComKf if object.get("msgtype").is_some() => kf::key(object),
        Platform::WeComKf => wechat::key(object, table(Platform::WeCom).keys),
        _ => wechat::key(object, table(platform).keys),
    };
    let values: Vec<&str> = key.iter().map(AsRef::as_ref).collect();
    let found = tables(platform).iter().find_map(|platform| table(*platform).find(&values));
    Identity { key, spec: found.filter(|spec| spec.is_notice() == is_notice) }
}

/// Whether a payload is a notice (`InfoType`) rather than a message or an event (`MsgType`).
fn is_notice(platform: Platform, object: &Object<'_>) -> bool {
    platform.serves_others() && object.get(wechat::NOTICE).is_some()
}

/// The tables that know what an account of this platform may receive. A customer-service account gets its callback as
/// a WeCom event; some Mini Program events reach Official Accounts and the other way round; an Open Platform and a suite
/// get the messages and events of those they serve.
const fn tables(platform: Platform) -> &'static [Platform] {
    match platform {
        Platform::Mp => &[Platform::Mp, Platform::MiniProgram],
        Platform::MiniProgram => &[Platform::MiniProgram, Platform::Mp],
        Platform::OpenPlatform => &[Platform::OpenPlatform, Platform::Mp, Platform::MiniProgram],
        Platform::WeCom => &[Platform::WeCom],
        Platform::WeComSuite => &[Platform::WeComSuite, Platform::WeCom],
        Platform::WeComKf => &[Platform::WeComKf, Platform::WeCom],
        Platform::WeComBot => &[Platform::WeComBot],
        Platform::Im => &[Platform::Im],
    }
}

/// How many events of one push are taken apart, more than any is known to carry: each is an entry of the journal, and may
/// run handlers. A longer list stays in its wrapper, and is handed on raw as a whole.
pub const MAX_EVENTS: usize = 1_000;

/// The events of a push: one, but for the few that carry a list of them.
pub fn events_of<'v, 'p>(payload: &'v Value<'p>, spec: Option<&EventSpec>) -> &'v [Value<'p>] {
    let is_object = |value: &Value<'_>| value.as_object().is_some();
    match wrapped(payload, spec) {
        Some(Value::List(items)) if (1..=MAX_EVENTS).contains(&items.len()) && items.iter().all(is_object) => items,
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => std::slice::from_ref(payload),
    }
}

/// Whether an event is still in its wrapper, because what is in there has not the shape of events.
pub fn is_wrapper(event: &Value<'_>, spec: &EventSpec) -> bool {
    wrapped(event, Some(spec)).is_some()
}

fn wrapped<'v, 'p>(payload: &'v Value<'p>, spec: Option<&EventSpec>) -> Option<&'v Value<'p>> {
    payload.as_object()?.get(spec?.fan_out?)
}

/// Whom an event is about: openid, userid, external_userid or account id, if it says so; else the account or company that
/// authorised.
pub fn subject<'p>(platform: Platform, payload: &'p Value<'_>) -> Option<&'p str> {
    let object = payload.as_object()?;
    match platform {
        Platform::Im => im::subject(object),
        Platform::WeComBot => bot::subject(object),
        Platform::WeComKf => kf::subject(object).or_else(|| wechat::subject(object)),
        Platform::OpenPlatform => wechat::authorizer(object).or_else(|| wechat::subject(object)),
        Platform::WeComSuite => wechat::subject(object).or_else(|| wechat::corporation(object)),
        _ => wechat::subject(object),
    }
}

/// Whether a push of an AI bot asks for the rest of an answer.
pub fn is_poll(payload: &Value<'_>) -> bool {
    payload.as_object().is_some_and(bot::is_poll)
}

/// For whom an event of a third-party platform or application is: the AppID of the account that has authorised it, the
/// CorpID of the company that has installed it.
pub fn granter<'p>(platform: Platform, payload: &'p Value<'_>, authorizer: Option<&'p str>) -> Option<&'p str> {
    let object = payload.as_object()?;
    match platform {
        Platform::OpenPlatform => authorizer.or_else(|| object.text("AuthorizerAppid")),
        // What is not a notice to the application itself is for a company.
        Platform::WeComSuite if object.get("InfoType").is_none() => object.text("ToUserName"),
        Platform::WeComSuite => object.text("AuthCorpId"),
        _ => None,
    }
}

/// What makes two deliveries the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeKey {
    /// The key, as journals order it.
    pub bytes: Key,
    /// How long the key stands for the same event; `None`: for good. Set where two events can look alike.
    pub window: Option<Duration>,
}

/// [`Order`], its value, and a hash of everything that identifies the event. Only the hash tells events apart; what is
/// before it makes keys of one time neighbours, and is itself a part of what identifies the event.
pub type Key = [u8; KEY];

/// Bytes of a [`Key`].
pub const KEY: usize = 1 + 8 + 16;

/// By what the keys of a kind are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing: ids without an order.
    None = 0,
    /// The time in the payload, Unix seconds.
    Time = 1,
    /// The number of the message, which grows.
    MessageId = 2,
}

impl DedupeKey {
    fn new(order: Order, value: u64, identity: &[u8], window: Option<Duration>) -> Self {
        let mut bytes = [0; KEY];
        bytes[0] = order as u8;
        bytes[1..9].copy_from_slice(&value.to_be_bytes());
        bytes[9..].copy_from_slice(&Sha256::digest(identity)[..16]);
        Self { bytes, window }
    }

    /// For tables in memory: a part of the digest, which nobody outside can choose.
    pub(crate) fn hash(&self) -> u64 {
        self.bytes.last_chunk().map_or(0, |last| u64::from_ne_bytes(*last))
    }

    /// Until when the key stands for an event that was admitted then, both in milliseconds; `None`: for good.
    pub fn until(&self, admitted: i64) -> Option<i64> {
        let window = i64::try_from(self.window?.as_millis()).unwrap_or(i64::MAX);
        Some(admitted.saturating_add(window))
    }
}

/// Identifies an entry of customer service, and a callback of a bot.
const MESSAGE_ID: &str = "msgid";

/// The key of an event; `None` where every delivery is an event of its own.
///
/// Messages are told apart by their sender and id, other events by the whole payload, which holds their time.
pub fn dedupe_key(
    platform: Platform,
    account: &str,
    spec: Option<&EventSpec>,
    payload: &Value<'_>,
    text: &str,
    query: &dyn Fn(&str) -> Option<String>,
) -> Option<DedupeKey> {
    let mut key = Vec::with_capacity(128);
    part(&mut key, platform.as_str());
    part(&mut key, account);
    let in_time = || time(payload).map_or((Order::None, 0), |time| (Order::Time, time.cast_unsigned()));
    let mut window = None;
    let (order, value) = match (platform, payload.as_object()) {
        (Platform::Im, object) => {
            let timed;
            (timed, window) = im::dedupe(&mut key, spec, object, text, query)?;
            if timed { in_time() } else { (Order::None, 0) }
        }
        (Platform::WeComBot, Some(object)) if bot::is_poll(object) => return None,
        (Platform::WeComKf | Platform::WeComBot, Some(object)) if object.text(MESSAGE_ID).is_some() => {
            part(&mut key, object.text(MESSAGE_ID).unwrap_or_default());
            (Order::None, 0)
        }
        (_, object) => match object.and_then(wechat::message_id) {
            Some((sender, id)) => {
                [sender.as_ref(), id.as_ref()].iter().for_each(|value| part(&mut key, value));
                id.parse().map_or((Order::None, 0), |id| (Order::MessageId, id))
            }
            None => {
                part(&mut key, text);
                in_time()
            }
        },
    };
    Some(DedupeKey::new(order, value, &key, window))
}

/// When an event happened, by its payload: Unix seconds.
pub fn time(payload: &Value<'_>) -> Option<i64> {
    /// Numbers above are milliseconds.
    const SECONDS: i64 = 100_000_000_000;
    let object = payload.as_object()?;
    let named = |name| scalar(object, name)?.parse().ok().filter(|time: &i64| *time > 0);
    const NAMES: [&str; 6] = ["CreateTime", "EventTime", "MsgTime", "send_time", "TimeStamp", "create_time"];
    let time = NAMES.into_iter().find_map(named)?;
    Some(if time > SECONDS { time / 1000 } else { time })
}

/// What an event is, beyond its names: its row of the table, if it has the shape of that, else an event type for what
/// nobody knows.
pub fn classify(
    platform: Platform,
    payload: &Value<'_>,
    form: Form,
    command: Option<&str>,
) -> (&'static str, Option<&'static EventSpec>) {
    let identity = identify(platform, payload, command);
    let spec = identity.spec.filter(|spec| !is_wrapper(payload, spec) && spec.decode(payload, form).is_ok());
    spec.map_or_else(|| (unknown_type(platform, &identity.key), None), |spec| (spec.id, Some(spec)))
}

/// Each part with its length, so that two keys cannot run into one another.
fn part(key: &mut Vec<u8>, value: &str) {
    key.extend((value.len() as u64).to_be_bytes());
    key.extend(value.as_bytes());
}

/// The text of a scalar member.
pub(crate) fn scalar<'o>(object: &'o Object<'_>, name: &str) -> Option<Cow<'o, str>> {
    match object.get(name)? {
        Value::Text(text) => Some(Cow::Borrowed(text.trim())).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// The body of an answer before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The platform's plain success, which is never sealed.
    Plain(&'static str),
    /// A document: sealed when the delivery was.
    Document(String),
}

/// The plain success of a platform: what it is told when there is nothing to say.
pub const fn plain_success(platform: Platform) -> &'static str {
    match platform {
        Platform::Mp | Platform::MiniProgram | Platform::OpenPlatform | Platform::WeComSuite => "success",
        Platform::WeCom | Platform::WeComKf | Platform::WeComBot => "",
        Platform::Im => r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#,
    }
}

/// Who sent a delivery and who received it: a passive reply goes the other way.
#[derive(Clone, Debug, Default)]
pub struct Address {
    sender: String,
    receiver: String,
}

impl Address {
    /// Reads it from a payload; empty where the platform has none.
    pub fn of(payload: &Value<'_>) -> Self {
        let value = |name| payload.as_object().and_then(|object| scalar(object, name)).unwrap_or_default().into_owned();
        Self { sender: value("FromUserName"), receiver: value("ToUserName") }
    }
}

/// Writes an answer in the form the delivery came in; `now` is the time of a passive reply, Unix seconds.
pub fn write_answer(platform: Platform, form: Form, answer: Answer, address: Address, now: i64) -> Body {
    let document = match answer {
        // Pieces are taken elsewhere; where they are not expected there is nothing to say.
        Answer::Default | Answer::Stream(_) => return Body::Plain(plain_success(platform)),
        Answer::Passive(body) => wechat::address(body, address, now),
        Answer::Body(body) => body,
    };
    Body::Document(match form {
        Form::Xml => payload::write_xml(&document),
        Form::Json => payload::write_json(&document),
    })
}
