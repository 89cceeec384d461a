//! A reply written as JSON, by somebody who writes no Rust: a service that answers over HTTP, a rule in the configuration.
//!
//! [`reply`] takes a short form, one member that says what kind of reply it is, or the document of the platform itself. What
//! the platform rejects is rejected, as it is of the builders: the short forms end in these.
//!
//! | platform | short forms |
//! |---|---|
//! | `mp`, `miniprogram`, `wecom` | `text`, `image`, `voice`, `video`, `news`; also `music`, `transfer` or `update_button`, `update_taskcard` |
//! | `wecom_bot` | `text` (Markdown), `card`, `userids` |
//! | `wecom_kf` | `text`, `menu`; of messages also `image`, `voice`, `video`, `file`, `link`, `miniprogram`, `location`, `business_card`, `acquisition_link`; `transfer` beside them or alone |
//! | `im` | `allow`, `deny` with `info`, `drop`, `text`, `msg_body`, `cloud_custom_data`, `refused`, `accounts`, `rsp_data` |
//!
//! ```
//! # use echostr_protocol::{event::{Answer, Event as _, Platform}, events::mp, payload::Object, replies::json};
//! let asked = json::Asked { platform: Platform::Mp, spec: Some(mp::TextMessage::SPEC), event: &Object::new() };
//! let hi = serde_json::json!({ "text": "hi" });
//! assert!(matches!(json::reply(&asked, hi), Ok(Answer::Passive(_))));
//! ```

mod im;
mod passive;
#[cfg(test)]
mod tests;
mod wecom_bot;
mod wecom_kf;

use serde_json::{Map, Value as Json};

pub(crate) use self::{
    im::reply as im,
    passive::{mp, wecom},
    wecom_bot::reply as wecom_bot,
    wecom_kf::reply as wecom_kf,
};
use super::rules::broken;
use crate::{
    event::{Answer, EventSpec, Platform, ReplyError, ReplyKind},
    payload::{Object, Value},
    wire::Wire as _,
};

/// The members of the short forms of every platform, but for `accounts`, which names who is in an event.
pub const MEMBERS: &[&str] = &[
    "text",
    "image",
    "voice",
    "video",
    "music",
    "news",
    "transfer",
    "update_button",
    "update_taskcard",
    "markdown",
    "card",
    "userids",
    "menu",
    "file",
    "link",
    "miniprogram",
    "location",
    "business_card",
    "acquisition_link",
    "allow",
    "deny",
    "info",
    "drop",
    "msg_body",
    "cloud_custom_data",
    "refused",
    "rsp_data",
];

/// What a reply answers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'e> {
    /// The platform of the account.
    pub platform: Platform,
    /// What the event is, if the catalogue knows it.
    pub spec: Option<&'static EventSpec>,
    /// The event's payload.
    pub event: &'e Object<'e>,
}

/// The answer that a reply written as JSON is. `null` and an object without members say nothing: the plain success.
///
/// # Errors
/// When it is no reply, is none to this event, or breaks a rule of the platform. The message names what, and holds nothing of
/// what the reply says.
pub fn reply(asked: &Asked<'_>, reply: Json) -> Result<Answer, ReplyError> {
    let members = match reply {
        Json::Null => return Ok(Answer::Default),
        Json::Object(members) if members.is_empty() => return Ok(Answer::Default),
        Json::Object(members) => members,
        Json::String(text) => Map::from_iter([("text".to_owned(), Json::String(text))]),
        _ => return Err(broken("the reply is neither a JSON object nor a text")),
    };
    match asked.spec.map(|spec| (spec, spec.reply)) {
        Some((spec, ReplyKind::Success | ReplyKind::Nothing | ReplyKind::Ack)) => {
            return Err(broken(format!("{} is only acknowledged; a reply reaches nobody", spec.id)));
        }
        Some((_, ReplyKind::Body)) if !asked.protocol().has_short_bodies() => {
            return document(members).map(Answer::Body);
        }
        _ => {}
    }
    asked.protocol().reply_from_json(asked, Members::new(members))
}

/// The answer that a document of the platform is: a passive reply without what follows from the event.
///
/// # Errors
/// As [`reply`].
pub fn reply_document(asked: &Asked<'_>, document: &Object<'_>) -> Result<Answer, ReplyError> {
    let document = serde_json::to_value(document).map_err(|_| broken("the document cannot be read"))?;
    reply(asked, document)
}

impl Asked<'_> {
    /// The platform whose event it is: accounts of some receive those of others.
    fn protocol(&self) -> &'static dyn crate::platform::Protocol {
        self.spec.map_or(self.platform, |spec| spec.platform).protocol()
    }
}

/// The document of a platform, as it is.
fn document(members: Map<String, Json>) -> Result<Object<'static>, ReplyError> {
    match Json::Object(members).write() {
        Some(Value::Object(document)) => Ok(document),
        _ => Err(broken("the reply is not a JSON object")),
    }
}

/// The members of a reply, each taken once.
#[derive(Debug)]
pub struct Members {
    members: Map<String, Json>,
    /// What is called so in messages: `video.`.
    place: &'static str,
}

impl Members {
    fn new(members: Map<String, Json>) -> Self {
        let members = members.into_iter().filter(|(_, value)| !value.is_null());
        Self { members: members.collect(), place: "" }
    }

    /// The members of a member.
    fn of(value: Json, name: &'static str) -> Result<Self, ReplyError> {
        match value {
            Json::Object(members) => Ok(Self { place: name, ..Self::new(members) }),
            _ => Err(broken(format!("`{name}` is not an object"))),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        self.members.remove(name)
    }

    /// All of them, as the platform's own document.
    fn into_document(self) -> Result<Object<'static>, ReplyError> {
        document(self.members)
    }

    /// A member that is a text; a number is one, too.
    fn text(&mut self, name: &'static str) -> Result<Option<String>, ReplyError> {
        let place = self.place;
        self.take(name).map(|value| as_text(value, place, name)).transpose()
    }

    /// A text that has to be there.
    fn needed(&mut self, name: &'static str) -> Result<String, ReplyError> {
        self.text(name)?.ok_or_else(|| broken(format!("{} is missing", named(self.place, name))))
    }

    fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ReplyError> {
        self.take(name)
            .map(|value| value.as_bool().ok_or_else(|| broken(format!("`{name}` is neither true nor false"))))
            .transpose()
    }

    fn list(&mut self, name: &'static str) -> Result<Option<Vec<Json>>, ReplyError> {
        self.take(name)
            .map(|value| match value {
                Json::Array(items) => Ok(items),
                _ => Err(broken(format!("`{name}` is not a list"))),
            })
            .transpose()
    }

    /// A list of texts.
    fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, ReplyError> {
        let place = self.place;
        let items = self.list(name)?;
        items.map(|items| items.into_iter().map(|item| as_text(item, place, name)).collect()).transpose()
    }

    /// Which of the kinds of a reply this is. There is one, and beside it nothing but `others`.
    fn kind(&self, kinds: &[&'static str], others: &[&'static str]) -> Result<&'static str, ReplyError> {
        let mut there = kinds.iter().filter(|kind| self.has(kind));
        match (there.next(), there.next()) {
            (Some(kind), None) => self.only(kinds, others).map(|()| *kind),
            (Some(one), Some(other)) => Err(broken(format!("a reply is one thing: `{one}` or `{other}`"))),
            (None, _) => {
                self.only(kinds, others)?;
                Err(broken(format!("the reply says nothing: it needs one of {}", listed(kinds))))
            }
        }
    }

    /// Rejects what nobody reads.
    fn only(&self, known: &[&str], others: &[&str]) -> Result<(), ReplyError> {
        let is_known = |name: &&String| !known.contains(&name.as_str()) && !others.contains(&name.as_str());
        match self.members.keys().find(is_known) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<_> = known.iter().chain(others).copied().collect();
                let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                Err(broken(format!("unknown member {}; expected one of {}", named(self.place, &name), listed(&known))))
            }
        }
    }
}

fn named(place: &str, name: &str) -> String {
    if place.is_empty() { format!("`{name}`") } else { format!("`{place}.{name}`") }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn as_text(value: Json, place: &str, name: &str) -> Result<String, ReplyError> {
    match value {
        Json::String(text) => Ok(text),
        Json::Number(number) => Ok(number.to_string()),
        _ => Err(broken(format!("{} is not a text", named(place, name)))),
    }
}
