//! An event in the format of a forward.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    config::{Account, Format, Original},
    crypto::EncodingKey,
    envelope::{Keys, Mode, Query, ReceiveIds, Sender},
    journal::EventRecord,
    payload::{self, Form, MASK, Payload},
};

/// What CloudEvents escapes in headers: all but printable ASCII, without `"` and `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What is sent of an event.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) content_type: &'static str,
    pub(crate) headers: HeaderMap,
    /// Parameters that are added to the query of the target.
    pub(crate) query: Option<String>,
    pub(crate) body: Bytes,
}

/// Writes events in one format, without what is masked.
#[derive(Clone, Debug)]
pub(crate) struct Formatter {
    form: Written,
    redact: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Written {
    Structured,
    Binary,
    Raw,
    /// The keys that stand for each account.
    Original(HashMap<String, Keys>),
}

impl Formatter {
    /// One for the events of these accounts.
    pub(crate) fn new(format: &Format, redact: &[Vec<String>], accounts: &[Account]) -> Self {
        let form = match format {
            Format::Structured => Written::Structured,
            Format::Binary => Written::Binary,
            Format::Raw => Written::Raw,
            Format::Original(original) => {
                Written::Original(accounts.iter().map(|account| (account.id(), keys(account, original))).collect())
            }
        };
        Self { form, redact: redact.to_vec() }
    }

    /// The keys that callbacks of an account are sent with.
    pub(crate) fn keys(&self, account: &str) -> Option<&Keys> {
        match &self.form {
            Written::Original(keys) => keys.get(account),
            _ => None,
        }
    }

    /// An event as it is sent at this time, Unix seconds.
    ///
    /// # Errors
    /// Why it cannot be written: at another time it could not be, either.
    pub(crate) fn content(&self, record: &EventRecord, id: Uuid, now: i64) -> Result<Content, String> {
        match &self.form {
            Written::Structured => {
                let event = self.cloud_event(record, id).to_string();
                Ok(content("application/cloudevents+json; charset=utf-8", HeaderMap::new(), event))
            }
            Written::Binary => {
                let mut event = self.cloud_event(record, id);
                let data = event.get_mut("data").map(Json::take).unwrap_or_default();
                Ok(content("application/json", attributes(&event)?, data.to_string()))
            }
            Written::Raw => {
                let record = self.redacted(record)?;
                let media_type = match record.form {
                    Form::Xml => "application/xml; charset=utf-8",
                    Form::Json => "application/json; charset=utf-8",
                };
                Ok(content(media_type, names(&record)?, record.payload.text().to_owned()))
            }
            Written::Original(keys) => {
                let record = self.redacted(record)?;
                original(keys.get(&*record.account).ok_or("the account is not configured any more")?, &record, now)
            }
        }
    }

    fn cloud_event(&self, record: &EventRecord, id: Uuid) -> Json {
        let mut event = record.cloud_event(id);
        if self.redact.is_empty() {
            return event;
        }
        let data = event["data"].to_string();
        let Ok(mut tree) = payload::parse(Form::Json, &data) else {
            // It could not be read when it came: nobody knows what is in it.
            (event["data"], event["subject"]) = (MASK.into(), MASK.into());
            return event;
        };
        let masked: Vec<String> = self.redact.iter().flat_map(|path| tree.mask(path)).collect();
        event["data"] = serde_json::from_str(&payload::to_json(&tree)).unwrap_or_else(|_| MASK.into());
        if event["subject"].as_str().is_some_and(|subject| masked.iter().any(|text| text == subject)) {
            event["subject"] = MASK.into();
        }
        event
    }

    /// The event with its payload written again, without what is masked.
    fn redacted<'r>(&self, record: &'r EventRecord) -> Result<Cow<'r, EventRecord>, String> {
        if self.redact.is_empty() {
            return Ok(Cow::Borrowed(record));
        }
        let mut tree = payload::parse(record.form, record.payload.text())
            .map_err(|error| format!("`redact` cannot be applied: the payload is {error}"))?;
        let masked: Vec<String> = self.redact.iter().flat_map(|path| tree.mask(path)).collect();
        let object = tree.as_object().ok_or("`redact` cannot be applied: the payload is no object")?;
        let text = match record.form {
            Form::Xml => payload::write_xml(object),
            Form::Json => payload::write_json(object),
        };
        let hidden = |subject: &Box<str>| masked.iter().any(|text| **text == **subject);
        let subject = record.subject.clone().map(|subject| if hidden(&subject) { MASK.into() } else { subject });
        Ok(Cow::Owned(EventRecord { payload: Payload::new(text), subject, ..record.clone() }))
    }
}

fn content(content_type: &'static str, headers: HeaderMap, body: String) -> Content {
    Content { content_type, headers, query: None, body: body.into() }
}

/// The attributes of a CloudEvent as headers: the HTTP binding's binary mode.
fn attributes(event: &Json) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "data" | "datacontenttype") || value.is_null() {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        insert(&mut headers, &format!("ce-{name}"), &text)?;
    }
    Ok(headers)
}

/// What a raw payload does not say of itself.
fn names(record: &EventRecord) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    insert(&mut headers, "echostr-account", &record.account)?;
    insert(&mut headers, "echostr-type", &record.event_type)?;
    if let Some(subject) = &record.subject {
        insert(&mut headers, "echostr-subject", subject)?;
    }
    if let Some(query) = &record.query {
        insert(&mut headers, "echostr-query", query)?;
    }
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let cannot = |_| format!("`{name}` cannot be sent as a header");
    let header: HeaderName = name.parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
    let value = HeaderValue::from_str(&utf8_percent_encode(value, ESCAPED).to_string()).map_err(cannot)?;
    headers.insert(header, value);
    Ok(())
}

/// What stands for an account towards an application behind.
fn keys(account: &Account, original: &Original) -> Keys {
    // The configuration has checked the key.
    let aes_keys: Vec<EncodingKey> =
        original.aes_key.iter().filter_map(|key| EncodingKey::parse(key.expose()).ok()).collect();
    let id = original.receive_id.clone().or_else(|| account.receive_ids.first().cloned());
    Keys {
        platform: account.platform,
        tokens: vec![original.token.clone()],
        mode: if aes_keys.is_empty() { Mode::Plain } else { Mode::Safe },
        aes_keys,
        receive_ids: ReceiveIds::OneOf(id.into_iter().collect()),
        max_age: None,
        sdk_app_id: account.sdk_app_id,
    }
}

/// The callback as the platform would send it.
fn original(keys: &Keys, record: &EventRecord, now: i64) -> Result<Content, String> {
    let (mut random, mut nonce) = ([0; 16], [0; 4]);
    let filled = getrandom::fill(&mut random).and_then(|()| getrandom::fill(&mut nonce));
    filled.map_err(|_| "the system gives no random bytes")?;
    let nonce = u32::from_be_bytes(nonce).to_string();
    let data = Query::parse(record.query.as_deref().unwrap_or_default()).map_err(|refusal| refusal.to_string())?;
    let request = Sender::new(keys).deliver_stored(record.payload.text(), record.form, &data, now, &nonce, random);
    let request = request.map_err(|error| error.to_string())?;
    let content_type = if request.body.starts_with('{') { "application/json" } else { "text/xml" };
    Ok(Content { content_type, headers: HeaderMap::new(), query: Some(request.query), body: request.body.into() })
}
