//! The JSON form of an event: CloudEvents 1.0, structured mode.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{EventRecord, Millis, Stored};
use crate::{
    envelope,
    event::EventSpec,
    payload::{self, Form, Value},
    platform,
};

impl EventRecord {
    /// A parameter of the query that is data of the event.
    pub fn query(&self, name: &str) -> Option<String> {
        envelope::Query::parse(self.query.as_deref()?).ok()?.get(name).map(str::to_owned)
    }

    /// The payload as JSON: the platform's own names, wrappers kept, numbers as numbers where the type is known. It is the same
    /// whatever form the event came in.
    pub fn data(&self) -> Json {
        let text = self.payload.text();
        let Ok(tree) = payload::parse(self.form, text) else { return Json::String(text.to_owned()) };
        let (_, spec) = platform::classify(self.platform, &tree, self.form, self.query("CallbackCommand").as_deref());
        view(&tree, spec, self.form)
    }

    /// The event as CloudEvents JSON. It is derived from the payload, so a later version may have more fields.
    pub(crate) fn cloud_event(&self, id: Uuid) -> Json {
        let record = self;
        let mut event = json!({
            "specversion": "1.0",
            "id": id.to_string(),
            "source": format!("/{}", record.account),
            "type": record.event_type,
            "time": timestamp(record.received),
            "datacontenttype": "application/json",
            "receivedat": timestamp(record.received),
            "data": record.data(),
        });
        let Ok(tree) = payload::parse(record.form, record.payload.text()) else { return event };
        let (event_type, spec) =
            platform::classify(record.platform, &tree, record.form, record.query("CallbackCommand").as_deref());
        event["type"] = event_type.into();
        if let Some(subject) = &record.subject {
            event["subject"] = (**subject).into();
        }
        if let Some(time) = platform::time(&tree) {
            event["time"] = timestamp(time.saturating_mul(1000));
        }
        let query = |name: &str| record.query(name);
        let text = record.payload.text();
        if let Some(key) = platform::dedupe_key(record.platform, &record.account, spec, &tree, text, &query) {
            let mut hex = String::with_capacity(2 * key.bytes.len());
            for byte in key.bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            event["dedupekey"] = hex.into();
        }
        event
    }
}

impl Stored {
    /// The event as CloudEvents JSON, with how often the platform has delivered it.
    pub fn cloud_event(&self) -> Json {
        let mut event = self.record.cloud_event(self.id);
        event["deliveries"] = self.deliveries.into();
        event
    }
}

/// The JSON form of a payload, whose values are those of the event's type where that is known.
pub(crate) fn view(tree: &Value<'_>, spec: Option<&EventSpec>, form: Form) -> Json {
    match spec.and_then(|spec| spec.decode(tree, form).ok()) {
        Some(typed) => to_json(&typed.view(tree)),
        None => to_json(tree),
    }
}

/// RFC 3339, as CloudEvents has it.
fn timestamp(millis: Millis) -> Json {
    Timestamp::from_millisecond(millis).map_or(Json::Null, |time| time.to_string().into())
}

fn to_json(value: &Value<'_>) -> Json {
    serde_json::from_str(&payload::to_json(value)).unwrap_or_default()
}
