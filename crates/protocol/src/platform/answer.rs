//! How an answer is written, before it is sealed.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Platform, scalar, wechat};
use crate::{
    event::Answer,
    payload::{self, Form, Value},
};

/// The body of an answer before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The platform's plain success, which is never sealed.
    Plain(&'static str),
    /// A document: sealed when the delivery was.
    Document(String),
}

/// Who sent a delivery and who received it: a passive reply goes the other way.
#[derive(Clone, Debug, Default)]
pub struct Address {
    pub(super) sender: String,
    pub(super) receiver: String,
}

impl Address {
    /// Reads it from a payload; empty where the platform has none.
    pub fn of(payload: &Value<'_>) -> Self {
        let value = |name| payload.as_object().and_then(|object| scalar(object, name)).unwrap_or_default().into_owned();
        Self { sender: value("FromUserName"), receiver: value("ToUserName") }
    }
}

/// Who writes to whom in a payload, as a name that tells users apart: those of different receivers may have the same id.
pub fn correspondents(payload: &Value<'_>) -> Option<Box<str>> {
    /// An index of a database takes no longer ones.
    const LONGEST: usize = 256;
    let Address { sender, receiver } = Address::of(payload);
    if sender.is_empty() {
        return None;
    }
    let name = format!("{receiver} {sender}");
    if name.len() <= LONGEST {
        return Some(name.into());
    }
    let hash = Sha256::digest(&name).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Some(hash.into())
}

/// Writes an answer in the form the delivery came in; `now` is the time of a passive reply, Unix seconds.
pub fn write_answer(platform: Platform, form: Form, answer: Answer, address: Address, now: i64) -> Body {
    let document = match answer {
        // Chunks are taken elsewhere; where they are not expected there is nothing to say.
        Answer::Default | Answer::Stream(_) => return Body::Plain(plain_success(platform)),
        Answer::Passive(body) => wechat::address(body, address, now),
        Answer::Body(body) => body,
        Answer::Written(document) => return Body::Document(document),
    };
    Body::Document(match form {
        Form::Xml => payload::write_xml(&document),
        Form::Json => payload::write_json(&document),
    })
}

/// The plain success of a platform: the answer when there is nothing to say.
pub fn plain_success(platform: Platform) -> &'static str {
    platform.protocol().success()
}
