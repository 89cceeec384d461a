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
    webhook::Fields,
};

/// What CloudEvents escapes in headers: all but printable ASCII, without `"` and `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What is sent of an event.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) content_type: &'static str,
    pub(crate) attributes: Attributes,
    /// Parameters that are added to the query of the target.
    pub(crate) query: Option<String>,
    pub(crate) body: Bytes,
}

/// What is sent beside the body, as it is: each protocol has its own way to write it.
#[derive(Clone, Debug)]
pub(crate) enum Attributes {
    None,
    /// The attributes of a CloudEvent, in binary mode.
    CloudEvent(Vec<(String, String)>),
    /// What a raw payload does not say of itself.
    Raw(Vec<(&'static str, String)>),
}

impl Content {
    /// The attributes as headers of HTTP.
    ///
    /// # Errors
    /// When one of them cannot be a header.
    pub(crate) fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        match &self.attributes {
            Attributes::None => {}
            Attributes::CloudEvent(attributes) => {
                attributes.iter().try_for_each(|(name, value)| insert(&mut headers, &format!("ce-{name}"), value))?;
            }
            Attributes::Raw(names) => names.iter().try_for_each(|(name, value)| insert(&mut headers, name, value))?,
        }
        Ok(headers)
    }
}

/// A value as headers have it: what is not printable ASCII is percent-encoded.
pub(crate) fn in_header(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
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
                Ok(content("application/cloudevents+json; charset=utf-8", Attributes::None, event))
            }
            Written::Binary => {
                let mut event = self.cloud_event(record, id);
                let data = event.get_mut("data").map(Json::take).unwrap_or_default();
                Ok(content("application/json", Attributes::CloudEvent(attributes(&event)), data.to_string()))
            }
            Written::Raw => {
                let record = self.redacted(record)?;
                let media_type = match record.form {
                    Form::Xml => "application/xml; charset=utf-8",
                    Form::Json => "application/json; charset=utf-8",
                };
                Ok(content(media_type, Attributes::Raw(names(&record)), record.payload.text().to_owned()))
            }
            Written::Original(keys) => {
                let record = self.redacted(record)?;
                original(keys.get(&*record.account).ok_or("the account is not configured any more")?, &record, now)
            }
        }
    }

    /// What the names in a queue are made of; `data` only where it is needed.
    pub(crate) fn fields<'e>(&self, record: &'e EventRecord, id: Uuid, text: &'e str, needs_data: bool) -> Fields<'e> {
        let mut event = (needs_data || !self.redact.is_empty()).then(|| self.cloud_event(record, id));
        let is_masked = event.as_ref().is_some_and(|event| event["subject"] == MASK);
        Fields {
            platform: record.platform.as_str(),
            account: &record.account,
            event_type: &record.event_type,
            subject: record.subject.as_deref().filter(|_| !is_masked).map(Cow::Borrowed),
            id: text,
            data: event.as_mut().and_then(|event| event.get_mut("data")).map(Json::take),
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
        let is_masked = |subject: &str| masked.iter().any(|text| text == subject);
        let subject = record.subject.clone().map(|subject| if is_masked(&subject) { MASK.into() } else { subject });
        Ok(Cow::Owned(EventRecord { payload: Payload::new(text), subject, ..record.clone() }))
    }
}

fn content(content_type: &'static str, attributes: Attributes, body: String) -> Content {
    Content { content_type, attributes, query: None, body: body.into() }
}

/// The attributes of a CloudEvent that are not its data.
fn attributes(event: &Json) -> Vec<(String, String)> {
    let attributes = event.as_object().into_iter().flatten();
    let attributes = attributes
        .filter(|(name, value)| !matches!(name.as_str(), "data" | "datacontenttype") && !value.is_null())
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    attributes.collect()
}

fn names(record: &EventRecord) -> Vec<(&'static str, String)> {
    let mut names =
        vec![("echostr-account", record.account.to_string()), ("echostr-type", record.event_type.to_string())];
    names.extend(record.subject.as_deref().map(|subject| ("echostr-subject", subject.to_owned())));
    names.extend(record.query.as_deref().map(|query| ("echostr-query", query.to_owned())));
    names
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let cannot = |_| format!("`{name}` cannot be sent as a header");
    let header: HeaderName = name.parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
    let value = HeaderValue::from_str(&in_header(value)).map_err(cannot)?;
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
    Ok(Content { content_type, attributes: Attributes::None, query: Some(request.query), body: request.body.into() })
}
