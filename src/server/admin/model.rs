//! What the event API answers with: the same types write it, describe it, and read it again at the command line.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// A name in both languages.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Title {
    /// English.
    pub(crate) en: String,
    /// Chinese.
    pub(crate) zh: String,
}

/// An event in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Summary {
    /// Identity: a UUID of version 7.
    #[schema(format = "uuid")]
    pub(crate) id: String,
    /// When its first delivery came, RFC 3339 in UTC with milliseconds.
    #[schema(format = "date-time")]
    pub(crate) time: String,
    /// The account, as in `mp/shop`.
    pub(crate) account: String,
    /// The platform of the account, as in `mp`.
    pub(crate) platform: String,
    /// The event type, as in `mp.message.text`.
    pub(crate) r#type: String,
    /// The name of the event type.
    pub(crate) title: Title,
    /// Whom the event is about.
    pub(crate) subject: Option<String>,
    /// `responding`, `answered`, `defaulted` or `late`.
    pub(crate) state: String,
    /// How often the platform has delivered it.
    pub(crate) deliveries: u32,
    /// How long its first delivery took until it was answered, in milliseconds. Null where that is not known: it was delivered
    /// to another node or process, was pulled, or is not among the latest 4096 deliveries.
    #[serde(default)]
    pub(crate) duration_ms: Option<f64>,
    /// Whether the reply is more than the plain success.
    pub(crate) has_reply: bool,
    /// Why it has the default answer; of an event with a reply, where that went or came from.
    pub(crate) failure: Option<String>,
}

/// A page of events, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventPage {
    /// The events.
    pub(crate) events: Vec<Listed>,
    /// `before` of the next page; null when there is none. A page may be short, or empty, and still have one.
    pub(crate) next: Option<String>,
}

/// An event in a list; with `view=full` with what it is made of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Listed {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// With `view=full`: syntax of the payload, `xml` or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<String>,
    /// With `view=full`: the payload as it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
    /// With `view=full`: the parameters of the query that are data of the event, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<String>,
    /// With `view=full`: the recorded reply, if it is more than the plain success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply: Option<String>,
}

impl Listed {
    /// An event with what it is made of, or without.
    pub(crate) fn new(summary: Summary, content: Option<Content>) -> Self {
        let Some(Content { form, payload, query, reply }) = content else {
            return Self { summary, form: None, payload: None, query: None, reply: None };
        };
        Self { summary, form: Some(form), payload: Some(payload), query, reply }
    }
}

/// What an event is made of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Content {
    /// Syntax of the payload: `xml` or `json`.
    pub(crate) form: String,
    /// The payload as it was opened.
    pub(crate) payload: String,
    /// The parameters of the query that are data of the event; only IM and accounts that act for others have some.
    pub(crate) query: Option<String>,
    /// The recorded reply; null for the plain success.
    pub(crate) reply: Option<String>,
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventDetail {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    #[serde(flatten)]
    pub(crate) content: Content,
    /// The payload as JSON, with the platform's own names and numbers as numbers.
    pub(crate) data: Json,
    /// The event as CloudEvents 1.0, structured mode.
    pub(crate) cloudevent: Json,
    /// The deliveries of it that this process has answered, of the latest 4096 of all events.
    #[serde(default)]
    pub(crate) attempts: Vec<AttemptDetail>,
    /// What each observer still has to do with it, or has done.
    pub(crate) observations: Vec<ObservationDetail>,
}

/// One delivery of an event by the platform.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AttemptDetail {
    /// When it came.
    #[schema(format = "date-time")]
    pub(crate) time: String,
    /// How long it took until it was answered, in milliseconds.
    pub(crate) duration_ms: f64,
}

/// One observer's state with one event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ObservationDetail {
    /// The observer.
    pub(crate) observer: String,
    /// `waiting`, `leased`, `done` or `dead`.
    pub(crate) state: String,
    /// When it is due, when its lease expires, or since when it is dead; null when it is done.
    #[schema(format = "date-time")]
    pub(crate) due: Option<String>,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// The error of the last one.
    pub(crate) error: Option<String>,
}

/// A page of dead letters, the newest event first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadPage {
    /// The dead letters.
    pub(crate) letters: Vec<DeadLetterDetail>,
    /// `before` of the next page; null when there is none.
    pub(crate) next: Option<String>,
}

/// An event that an observer permanently failed on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetterDetail {
    /// The event.
    pub(crate) event: Listed,
    /// The observer.
    pub(crate) observer: String,
    /// Attempts it took.
    pub(crate) attempts: u32,
    /// The error of the last one.
    pub(crate) error: String,
    /// When.
    #[schema(format = "date-time")]
    pub(crate) died: String,
}

/// The observers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ObserverList {
    /// Sorted by name.
    pub(crate) observers: Vec<ObserverDetail>,
}

/// An observer, and what is left of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ObserverDetail {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is one of the server's own.
    pub(crate) internal: bool,
    /// Since when it is absent; null when it is registered.
    #[schema(format = "date-time")]
    pub(crate) absent_since: Option<String>,
    /// Events that it has still to see.
    pub(crate) pending: u64,
    /// When the oldest of them was received.
    #[schema(format = "date-time")]
    pub(crate) oldest: Option<String>,
    /// Its dead letters.
    pub(crate) dead: u64,
}
