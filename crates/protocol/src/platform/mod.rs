//! What differs between the platforms, a file for each behind one trait: [`Protocol`].
//!
//! Everything else asks `platform.protocol()` and names no platform, which a test holds. To support a new one: a file here, its
//! lines in [`Platform`], and a file of the catalogue.

mod account;
mod answer;
mod envelope;
mod im;
pub mod message;
mod miniprogram;
mod mp;
mod openplatform;
mod repeat;
#[cfg(test)]
mod tests;
mod wechat;
mod wecom;
mod wecom_bot;
mod wecom_kf;
mod wecom_suite;

use std::{borrow::Cow, fmt, str::FromStr};

use self::message::{Message, NoMessage};
pub use self::{
    account::{AccountRules, ApiRules, Credential, Probe},
    answer::{Address, Body, correspondents, plain_success, write_answer},
    envelope::{EnvelopeRules, Members, Scheme, UrlCheck},
    openplatform::AUTHORIZER,
    repeat::{DedupeKey, KEY, Key, Keyed, Order, Repeat, dedupe_key, time},
};
use crate::{
    event::{Answer, EventSpec, ReplyError, Table},
    payload::{Form, Object, Value},
    replies::json::{self, Asked},
};

/// A platform whose callbacks echostr receives.
///
/// The name ([`Platform::as_str`]) is the same everywhere: configuration table, route, module, event type prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Platform {
    /// WeChat Official Account (公众号).
    Mp,
    /// WeChat Mini Program, mini game and Weixin Store (小程序).
    MiniProgram,
    /// WeChat Open Platform, third-party platform (第三方平台).
    OpenPlatform,
    /// WeCom self-built application (企业微信自建应用).
    WeCom,
    /// WeCom third-party application (企业微信第三方应用).
    WeComSuite,
    /// WeCom customer service (微信客服).
    WeComKf,
    /// WeCom AI bot (智能机器人).
    WeComBot,
    /// Tencent Cloud Chat (即时通信 IM).
    Im,
}

impl Platform {
    /// Every platform, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Mp,
        Self::MiniProgram,
        Self::OpenPlatform,
        Self::WeCom,
        Self::WeComSuite,
        Self::WeComKf,
        Self::WeComBot,
        Self::Im,
    ];

    /// The name used in configuration, routes and event types.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mp => "mp",
            Self::MiniProgram => "miniprogram",
            Self::OpenPlatform => "openplatform",
            Self::WeCom => "wecom",
            Self::WeComSuite => "wecom_suite",
            Self::WeComKf => "wecom_kf",
            Self::WeComBot => "wecom_bot",
            Self::Im => "im",
        }
    }

    /// The platform of an account, `mp/shop`.
    pub fn of_account(account: &str) -> Option<Self> {
        account.split('/').next()?.parse().ok()
    }

    /// What is particular to it.
    pub fn protocol(self) -> &'static dyn Protocol {
        match self {
            Self::Mp => &mp::MP,
            Self::MiniProgram => &miniprogram::MINI_PROGRAM,
            Self::OpenPlatform => &openplatform::OpenPlatform,
            Self::WeCom => &wecom::WECOM,
            Self::WeComSuite => &wecom_suite::WeComSuite,
            Self::WeComKf => &wecom_kf::WeComKf,
            Self::WeComBot => &wecom_bot::WeComBot,
            Self::Im => &im::Im,
        }
    }
}

impl serde::Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown platform `{0}`; expected one of {known}", known = Platform::ALL.map(Platform::as_str).join(", "))]
pub struct UnknownPlatform(pub String);

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == name).ok_or_else(|| UnknownPlatform(name.to_owned()))
    }
}

/// What is particular to a platform.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// What its accounts need in the configuration.
    fn account(&self) -> &AccountRules;

    /// How its requests are signed and encrypted.
    fn envelope(&self) -> &EnvelopeRules {
        &envelope::ENCRYPTED
    }

    /// Its API; `None` for one that is not called.
    fn api(&self) -> Option<&ApiRules> {
        None
    }

    /// The events of its catalogue.
    fn table(&self) -> &'static Table;

    /// Other platforms whose events its accounts receive, too.
    fn receives_of(&self) -> &'static [Platform] {
        &[]
    }

    /// The wire values that name an event, in the order of the keys of its table. `command` is `CallbackCommand` of the query.
    fn key<'p>(&self, payload: &'p Object<'_>, command: Option<&'p str>) -> Vec<Cow<'p, str>>;

    /// Whether a payload is a notice (`InfoType`) rather than a message or an event (`MsgType`).
    fn is_notice(&self, payload: &Object<'_>) -> bool {
        let _ = payload;
        false
    }

    /// The event type of what the catalogue does not know.
    fn unknown(&self, kind: Kind) -> &'static str;

    /// What stands for an event that the catalogue does not know, and whose answer decides all the same.
    fn question(&self, key: &[Cow<'_, str>]) -> Option<&'static EventSpec> {
        let _ = key;
        None
    }

    /// A push that is no event.
    fn control<'p>(&self, payload: &'p Object<'_>) -> Option<Control<'p>> {
        let _ = payload;
        None
    }

    /// Whom an event is about.
    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str>;

    /// The account or company that an event is for, of those that the receiving account acts for. `authorizer` is the one
    /// that the route names.
    fn acts_for<'p>(&self, payload: &'p Object<'_>, authorizer: Option<&'p str>) -> Option<&'p str> {
        let _ = (payload, authorizer);
        None
    }

    /// Whether its accounts act for others that have authorised them, which notices announce.
    fn serves_others(&self) -> bool {
        self.api().is_some_and(|api| matches!(api.credential, Credential::Component | Credential::Suite))
    }

    /// Whether its routes say whose message it is.
    fn routes_authorizers(&self) -> bool {
        false
    }

    /// What stands in the addresses of its console for the id of whom a message is for.
    fn placeholder(&self) -> Option<&'static str> {
        None
    }

    /// Whether the query of a request has data of the event.
    fn has_data_in_query(&self) -> bool {
        false
    }

    /// Whether names of commands are exact to the letter; elsewhere the platforms mix cases.
    fn is_exact(&self, spec: &EventSpec) -> bool {
        let _ = spec;
        false
    }

    /// Adds what identifies an event to the key; `None` where every delivery is an event of its own.
    fn repeat(&self, key: &mut Vec<u8>, event: &Keyed<'_>) -> Option<Repeat> {
        Some(Repeat::by_message(key, event))
    }

    /// Hosts that links to media in its messages lead to; one `*` stands for any characters.
    fn media_hosts(&self) -> &'static [&'static str] {
        &[]
    }

    /// The plain success: the answer when there is nothing to say.
    fn success(&self) -> &'static str;

    /// Members that every JSON answer has, where the platform wants some.
    fn answer_members(&self) -> &'static [&'static str] {
        &[]
    }

    /// The message of the API that says what a passive reply says.
    ///
    /// # Errors
    /// [`NoMessage`] for what only the response can carry.
    fn message(&self, agent_id: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
        let _ = agent_id;
        Err(NoMessage::of(reply))
    }

    /// The answer that a reply written as JSON is, in a short form or as the platform's own document.
    ///
    /// # Errors
    /// When it is none, or breaks a rule of the platform.
    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError>;

    /// Whether its events with a structured answer have short forms of it.
    fn has_short_bodies(&self) -> bool {
        false
    }

    /// Whether the answer to an event may come in chunks.
    fn is_streamed(&self, spec: Option<&EventSpec>) -> bool {
        let _ = spec;
        false
    }

    /// What a user wrote: of a message that is a text, or has some.
    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        let _ = payload;
        None
    }

    /// The key of the menu item or button that a user chose.
    fn choice_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        let _ = payload;
        None
    }

    /// The scene of the QR code by which a user came, without the prefix that it has for new followers.
    fn scene_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        let _ = payload;
        None
    }

    /// The event that announces what has to be pulled, where callbacks only do that.
    fn announced_by(&self) -> Option<&'static str> {
        None
    }
}

/// What the keys of an unknown payload show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// An event.
    Event,
    /// A notice, on platforms that have such.
    Notice,
}

/// A push that is no event: it is answered, and nothing is stored of it as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'p> {
    /// A ticket, which is a secret.
    Ticket(&'p str),
    /// A question for the rest of a streamed answer.
    Poll,
}

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

    /// The row by which the platform is answered, whether or not the payload can be read as its event; also for events that
    /// the catalogue does not know and whose answer decides.
    pub fn answered_as(&self, platform: Platform) -> Option<&'static EventSpec> {
        self.spec.or_else(|| platform.protocol().question(&self.key))
    }
}

/// The event type of what the catalogue does not know, or what does not have the shape it should have.
pub fn unknown_type(platform: Platform, key: &[Cow<'_, str>]) -> &'static str {
    let says_event = key.first().is_some_and(|kind| kind.eq_ignore_ascii_case("event"));
    let protocol = platform.protocol();
    protocol.unknown(match says_event {
        // A notice may have a second key, too.
        false if protocol.serves_others() => Kind::Notice,
        false if key.len() <= 1 => Kind::Message,
        _ => Kind::Event,
    })
}

/// Says which event a payload is. `command` is `CallbackCommand` of the query, for IM: what cannot be read at all is
/// what the command says.
pub fn identify<'p>(platform: Platform, payload: &'p Value<'_>, command: Option<&'p str>) -> Identity<'p> {
    static NOTHING: Object<'_> = Object::new();
    let object = payload.as_object().unwrap_or(&NOTHING);
    let protocol = platform.protocol();
    let key = protocol.key(object, command);
    let values: Vec<&str> = key.iter().map(AsRef::as_ref).collect();
    let others = protocol.receives_of().iter().map(|other| other.protocol().table());
    let found = std::iter::once(protocol.table()).chain(others).find_map(|table| table.find(&values));
    let is_notice = protocol.is_notice(object);
    Identity { key, spec: found.filter(|spec| spec.is_notice() == is_notice) }
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

/// Whom an event is about: openid, userid, external_userid or account id, if it names one; else the account or company that
/// authorised.
pub fn subject<'p>(platform: Platform, payload: &'p Value<'_>) -> Option<&'p str> {
    platform.protocol().subject(payload.as_object()?)
}

/// For whom an event of a third-party platform or application is: the AppID of the account that has authorised it, the
/// CorpID of the company that has installed it.
pub fn acts_for<'p>(platform: Platform, payload: &'p Value<'_>, authorizer: Option<&'p str>) -> Option<&'p str> {
    platform.protocol().acts_for(payload.as_object()?, authorizer)
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

/// The text of a scalar member.
pub fn scalar<'o>(object: &'o Object<'_>, name: &str) -> Option<Cow<'o, str>> {
    match object.get(name)? {
        Value::Text(text) => Some(Cow::Borrowed(text.trim())).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// The object that is a member.
fn object<'o, 'p>(object: &'o Object<'p>, name: &str) -> Option<&'o Object<'p>> {
    object.get(name)?.as_object()
}
