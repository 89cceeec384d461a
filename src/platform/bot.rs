//! WeCom AI bots: JSON with the names of its own.

use std::borrow::Cow;

use super::scalar;
use crate::payload::Object;

/// `msgtype`, then the event's own type.
pub(super) fn key<'p>(object: &'p Object<'_>) -> Vec<Cow<'p, str>> {
    let event = object.get("event").and_then(|event| event.as_object());
    let event_type = event.and_then(|event| scalar(event, "eventtype"));
    scalar(object, "msgtype").into_iter().chain(event_type).collect()
}

/// Whether the platform asks for the rest of a reply. It does so again and again, and each time wants what there is by
/// now.
pub(super) fn is_poll(object: &Object<'_>) -> bool {
    scalar(object, "msgtype").is_some_and(|kind| kind.eq_ignore_ascii_case("stream"))
}

/// Who wrote or clicked.
pub(super) fn subject<'p>(object: &'p Object<'_>) -> Option<&'p str> {
    object.get("from")?.as_object()?.text("userid")
}
