//! WeCom customer service: the entries that `kf/sync_msg` returns.

use std::borrow::Cow;

use super::scalar;
use crate::payload::Object;

/// `msgtype`, then the event's own type.
pub(super) fn key<'p>(object: &'p Object<'_>) -> Vec<Cow<'p, str>> {
    let event = object.get("event").and_then(|event| event.as_object());
    let event_type = event.and_then(|event| scalar(event, "event_type"));
    scalar(object, "msgtype").into_iter().chain(event_type).collect()
}

/// The customer.
pub(super) fn subject<'p>(object: &'p Object<'_>) -> Option<&'p str> {
    let event = object.get("event").and_then(|event| event.as_object());
    object.text("external_userid").or_else(|| event.and_then(|event| event.text("external_userid")))
}
