//! WeChat and WeCom: `MsgType`, then `Event`, then one key more.

use std::{borrow::Cow, fmt};

use super::{
    AccountRules, Address, ApiRules, Control, EnvelopeRules, Kind, Platform, Protocol,
    message::{Message, NoMessage},
    scalar,
};
use crate::{
    event::{Answer, ReplyError, Table},
    payload::{Number, Object, Value},
    replies::json::{self, Asked},
};

/// A platform whose accounts get messages of users and events, and nothing else.
pub(super) struct Messaging {
    pub(super) account: AccountRules,
    pub(super) api: ApiRules,
    pub(super) envelope: EnvelopeRules,
    pub(super) table: &'static Table,
    pub(super) receives_of: &'static [Platform],
    pub(super) unknown: Unknown,
    pub(super) success: &'static str,
    /// The message of the API that says what a passive reply says, for an application with this id.
    pub(super) message: fn(Option<u64>, &Object<'_>) -> Result<Message, NoMessage>,
    /// The passive reply that is written as JSON.
    pub(super) reply_from_json: fn(&Asked<'_>, json::Members) -> Result<Answer, ReplyError>,
}

/// The event types of what the catalogue does not know.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) message: &'static str,
    pub(super) event: &'static str,
}

impl fmt::Debug for Messaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messaging").field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

impl Protocol for Messaging {
    fn account(&self) -> &AccountRules {
        &self.account
    }

    fn envelope(&self) -> &EnvelopeRules {
        &self.envelope
    }

    fn api(&self) -> Option<&ApiRules> {
        Some(&self.api)
    }

    fn table(&self) -> &'static Table {
        self.table
    }

    fn receives_of(&self) -> &'static [Platform] {
        self.receives_of
    }

    fn key<'p>(&self, payload: &'p Object<'_>, _: Option<&'p str>) -> Vec<Cow<'p, str>> {
        key(payload, self.table.keys)
    }

    fn unknown(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Message => self.unknown.message,
            Kind::Event | Kind::Notice => self.unknown.event,
        }
    }

    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
        subject(payload)
    }

    fn success(&self) -> &'static str {
        self.success
    }

    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        text_of(payload)
    }

    fn choice_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        choice_of(payload)
    }

    fn scene_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        scene_of(payload)
    }

    fn message(&self, agent_id: Option<u64>, reply: &Object<'_>) -> Result<Message, NoMessage> {
        (self.message)(agent_id, reply)
    }

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        (self.reply_from_json)(asked, members)
    }
}

/// Names a notice to who serves other accounts.
pub(super) const NOTICE: &str = "InfoType";

/// The plain success of WeChat.
pub(super) const SUCCESS: &str = "success";

/// The values of the keys that are there, up to the first that is not. `keys` are lists; the first counts whose first key
/// is there, else that of messages and events.
pub(super) fn key<'p>(object: &'p Object<'_>, keys: &[&[&str]]) -> Vec<Cow<'p, str>> {
    let is_there = |keys: &&&[&str]| keys.first().is_some_and(|key| object.get(key).is_some());
    let is_usual = |keys: &&&[&str]| keys.first() == Some(&"MsgType");
    let keys = keys.iter().find(is_there).or_else(|| keys.iter().find(is_usual)).copied().unwrap_or_default();
    let mut values: Vec<_> = keys.iter().map_while(|key| scalar(object, key)).collect();
    // Refund questions of iOS may come as events without their type.
    if values.is_empty() && object.get("Event").is_some() {
        values.push(Cow::Borrowed("event"));
        values.extend(keys.iter().skip(1).map_while(|key| scalar(object, key)));
    }
    values
}

/// Sender and id of a message.
pub(super) fn message_id<'p>(object: &'p Object<'_>) -> Option<(Cow<'p, str>, Cow<'p, str>)> {
    Some((scalar(object, "FromUserName")?, scalar(object, "MsgId")?))
}

/// System events name the user, if any, in a field of their own.
pub(super) fn subject<'p>(object: &'p Object<'_>) -> Option<&'p str> {
    const SYSTEM: &str = "sys";
    let named = |name: &str| object.text(name).map(str::trim).filter(|value| !value.is_empty());
    match named("FromUserName") {
        Some(sender) if sender != SYSTEM => named("ExternalUserID").or(Some(sender)),
        _ => ["ExternalUserID", "UserID", "OpenID", "openid"].into_iter().find_map(named),
    }
}

/// The text of a message, and what a voice message was recognised as.
pub(super) fn text_of<'p>(object: &'p Object<'_>) -> Option<Cow<'p, str>> {
    let is_message = |kind: &Cow<'_, str>| !kind.eq_ignore_ascii_case("event");
    scalar(object, "MsgType").filter(is_message)?;
    scalar(object, "Content").or_else(|| scalar(object, "Recognition"))
}

/// The key of an event that a menu or a card sent.
pub(super) fn choice_of<'p>(object: &'p Object<'_>) -> Option<Cow<'p, str>> {
    scalar(object, "EventKey").filter(|key| !key.is_empty())
}

/// The scene of an event that a QR code sent: followers come with a prefix.
pub(super) fn scene_of<'p>(object: &'p Object<'_>) -> Option<Cow<'p, str>> {
    const PREFIX: &str = "qrscene_";
    let event = scalar(object, "Event")?;
    let key = choice_of(object)?;
    match key.strip_prefix(PREFIX) {
        Some(scene) if event.eq_ignore_ascii_case("subscribe") => Some(scene.to_owned().into()),
        None if event.eq_ignore_ascii_case("SCAN") => Some(key),
        _ => None,
    }
}

/// The first of these members that says something.
pub(super) fn first_of<'p>(object: &'p Object<'_>, names: &[&str]) -> Option<&'p str> {
    names.iter().find_map(|name| object.text(name)).map(str::trim).filter(|value| !value.is_empty())
}

/// The ticket of a notice called `info`, in its member `name`.
pub(super) fn ticket<'p>(object: &'p Object<'_>, info: &str, name: &str) -> Option<Control<'p>> {
    let is_ticket = scalar(object, NOTICE).is_some_and(|kind| kind.eq_ignore_ascii_case(info));
    object.text(name).filter(|_| is_ticket).map(Control::Ticket)
}

/// Puts sender, receiver and time before the body of a passive reply: who wrote is answered.
pub(super) fn address(body: Object<'static>, address: Address, now: i64) -> Object<'static> {
    let mut document = Object::with_capacity(8);
    document.push("ToUserName", Value::Text(address.sender.into()));
    document.push("FromUserName", Value::Text(address.receiver.into()));
    document.push("CreateTime", Value::Number(Number::Int(now)));
    document.append(body);
    document
}
