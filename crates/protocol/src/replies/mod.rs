//! What handlers answer: built by hand, so that what a platform refuses cannot be said.
//!
//! | module | answers |
//! |---|---|
//! | [`mp`] | messages and events of Official Accounts and Mini Programs |
//! | [`wecom`] | messages and events of WeCom applications, template cards included |
//! | [`wecom_bot`] | messages and events of AI bots, also piece by piece |
//! | [`wecom_kf`] | messages and events of WeCom customer service, sent through its API |
//! | [`im`] | the "before" commands of Tencent IM |
//! | [`Body`] | events that want a structured answer which the catalogue does not describe |
//! | [`json`] | any event, in a short form written as JSON |
//! | [`RawReply`] | events without a type of their own, families, whole platforms |
//!
//! The default of every reply is "go ahead": the plain success, or the verdict that lets things happen. A reply that
//! breaks a rule of its platform becomes a [`ReplyError`] when it is answered, which names the rule; the account's
//! default answer is given instead.

pub mod im;
pub mod json;
mod long_text;
pub mod mp;
mod passive;
mod rules;
#[cfg(test)]
mod tests;
pub mod wecom;
pub mod wecom_bot;
pub mod wecom_kf;

pub use long_text::{LongText, cut, cut_text, long_text, parts, too_long};
pub use passive::{Article, MAX_ARTICLES, MAX_TEXT_BYTES, Video, text_answer};

use crate::{
    event::{Answer, Reply, ReplyError},
    payload::{Object, Value},
    wire::Wire,
};

/// A structured answer given as it is, for events whose answer the catalogue does not describe.
///
/// Without a member it is the plain success.
///
/// ```
/// # use echostr_protocol::replies::Body;
/// let body = Body::new().field("resultcode", 0).field("resultmsg", "ok");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Body {
    /// A list, for it keeps the order in which the handler names them.
    members: Vec<(String, serde_json::Value)>,
}

impl Body {
    /// A body without members: the plain success.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a member; the last value given to a name counts.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        let (name, value) = (name.into(), value.into());
        match self.members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, earlier)) => *earlier = value,
            None => self.members.push((name, value)),
        }
        self
    }
}

impl From<serde_json::Map<String, serde_json::Value>> for Body {
    fn from(members: serde_json::Map<String, serde_json::Value>) -> Self {
        Self { members: members.into_iter().collect() }
    }
}

impl Reply for Body {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        if self.members.is_empty() {
            return Ok(Answer::Default);
        }
        let mut body = Object::with_capacity(self.members.len());
        for (name, value) in self.members {
            body.push(name, value.write().unwrap_or(Value::Null));
        }
        Ok(Answer::Body(body))
    }
}

/// The reply of a handler that takes events as raw payloads: whatever a typed handler could say.
///
/// Nothing can check here that the event accepts it; see [`crate::event::EventSpec::reply`].
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct RawReply(Result<Answer, ReplyError>);

impl RawReply {
    /// The plain success of the platform.
    pub fn none() -> Self {
        Self(Ok(Answer::Default))
    }

    /// A JSON object, answered as it is.
    pub fn json(value: impl Into<serde_json::Value>) -> Self {
        match value.into().write() {
            Some(Value::Object(body)) => Self(Ok(Answer::Body(body))),
            _ => Self(Err(rules::broken("the answer is not a JSON object"))),
        }
    }

    /// A passive reply of an Official Account or Mini Program.
    pub fn passive(reply: impl Into<mp::Reply>) -> Self {
        Self::from_reply(reply.into())
    }

    /// A passive reply of a WeCom application.
    pub fn wecom(reply: impl Into<wecom::Reply>) -> Self {
        Self::from_reply(reply.into())
    }

    /// A message of WeCom customer service.
    pub fn wecom_kf(reply: impl Into<wecom_kf::Reply>) -> Self {
        Self::from_reply(reply.into())
    }

    /// An answer that is there already, or why there is none: what [`json::reply`] returns.
    pub fn from_answer(answer: Result<Answer, ReplyError>) -> Self {
        Self(answer)
    }

    /// The reply of a typed event, such as a verdict of [`im`].
    pub fn from_reply(reply: impl Reply) -> Self {
        Self(reply.into_answer())
    }
}

impl Default for RawReply {
    fn default() -> Self {
        Self::none()
    }
}

impl Reply for RawReply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0
    }
}
