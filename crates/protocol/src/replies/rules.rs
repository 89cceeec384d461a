//! The checks that replies share, and how their members are written.

use std::borrow::Cow;

use crate::{
    event::ReplyError,
    payload::{Number, Object, Value},
};

pub(super) fn broken(rule: impl Into<Cow<'static, str>>) -> ReplyError {
    ReplyError(rule.into())
}

/// Refuses a text that is empty where the platform needs one. Control characters do not count: XML cannot carry them.
pub(super) fn required(what: &str, text: &str) -> Result<(), ReplyError> {
    if text.chars().all(|character| character.is_whitespace() || character.is_control()) {
        Err(broken(format!("{what} is empty")))
    } else {
        Ok(())
    }
}

/// Refuses a list that is longer than the platform takes.
pub(super) fn at_most(limit: usize, what: &str, count: usize) -> Result<(), ReplyError> {
    if count > limit { Err(broken(format!("{count} {what}, at most {limit} are allowed"))) } else { Ok(()) }
}

/// Refuses an empty list, and one that is longer than the platform takes.
pub(super) fn some_up_to(limit: usize, what: &str, count: usize) -> Result<(), ReplyError> {
    if count == 0 { Err(broken(format!("no {what}, at least one is needed"))) } else { at_most(limit, what, count) }
}

pub(super) fn text(text: impl Into<String>) -> Value<'static> {
    Value::Text(Cow::Owned(text.into()))
}

pub(super) fn int(number: i64) -> Value<'static> {
    Value::Number(Number::Int(number))
}

/// An object with one text member: the wrapper that media replies have.
pub(super) fn wrapped(name: &'static str, content: impl Into<String>) -> Value<'static> {
    let mut wrapper = Object::with_capacity(1);
    wrapper.push(name, text(content));
    Value::Object(wrapper)
}

/// Appends a text member if there is one to write.
pub(super) fn push_text(object: &mut Object<'static>, name: &'static str, content: Option<String>) {
    if let Some(content) = content {
        object.push(name, text(content));
    }
}
