//! What of an event is shown: without the values that `[admin] mask` names.
//!
//! A value that is masked in the payload is masked wherever else it turns up: in the typed form, the subject, the reply,
//! errors.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::{
    journal::Stored,
    payload::{self, Form, Object, Value},
};

/// What is shown in place of a value.
const MASKED: &str = "***";

/// A shorter value may be a part of any text.
const SHORTEST: usize = 2;

/// The parameter of a query that names the event, and is never masked.
const COMMAND: &str = "CallbackCommand";

/// The values that are not shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask {
    /// Every text.
    all: bool,
    paths: Vec<Vec<String>>,
}

/// An event as it is shown.
pub(super) struct Shown<'s> {
    stored: &'s Stored,
    /// `None`: all of it is.
    mask: Option<(&'s Mask, Vec<String>)>,
    payload: Cow<'s, str>,
}

/// What is masked below a value.
#[derive(Clone)]
enum Below<'m> {
    /// Every value, also those that are no text.
    Everything,
    /// Texts, if so, and what these paths lead to.
    Some(bool, Vec<&'m [String]>),
}

impl<'m> Below<'m> {
    fn member(&self, name: &str) -> Self {
        let Self::Some(texts, paths) = self else { return Self::Everything };
        let mut rest = Vec::new();
        for path in paths {
            match path {
                [first] if first == name => return Self::Everything,
                [first, more @ ..] if first == name => rest.push(more),
                _ => {}
            }
        }
        Self::Some(*texts, rest)
    }

    const fn masks(&self, is_text: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Some(texts, _) => *texts && is_text,
        }
    }
}

impl Mask {
    pub(super) fn new(written: &[String]) -> Self {
        let paths = written.iter().filter(|path| *path != "*");
        let paths = paths.map(|path| path.split('.').map(str::to_owned).collect());
        Self { all: written.iter().any(|path| path == "*"), paths: paths.collect() }
    }

    /// Whether nothing is masked.
    pub(super) const fn is_empty(&self) -> bool {
        !self.all && self.paths.is_empty()
    }

    fn root(&self) -> Below<'_> {
        Below::Some(self.all, self.paths.iter().map(Vec::as_slice).collect())
    }

    /// An event, with its masked values revealed or not.
    pub(super) fn show<'s>(&'s self, stored: &'s Stored, reveal: bool) -> Shown<'s> {
        let text = stored.record.payload.text();
        if reveal || self.is_empty() {
            return Shown { stored, mask: None, payload: text.into() };
        }
        let mut hidden = Vec::new();
        let payload = match payload::parse(stored.record.form, text) {
            Ok(tree) => written(stored.record.form, &masked(&tree, &self.root(), &mut hidden)),
            // Nobody knows what is where in it.
            Err(_) => MASKED.to_owned(),
        };
        hidden.retain(|value| value.chars().count() >= SHORTEST);
        // The longest first, so that none is taken for a part of another.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.dedup();
        Shown { stored, mask: Some((self, hidden)), payload: payload.into() }
    }
}

fn written(form: Form, tree: &Value<'_>) -> String {
    match tree {
        Value::Object(object) if form == Form::Xml => payload::write_xml(object),
        other => payload::to_json(other),
    }
}

/// A tree without the values that are masked, which are added to those that are hidden.
fn masked<'a>(value: &Value<'a>, below: &Below<'_>, hidden: &mut Vec<String>) -> Value<'a> {
    match value {
        Value::Null => Value::Null,
        Value::Object(object) => {
            let mut shown = Object::with_capacity(object.iter().count());
            object.iter().for_each(|(name, value)| {
                shown.push(name.to_owned(), masked(value, &below.member(name), hidden));
            });
            Value::Object(shown)
        }
        Value::List(items) => Value::List(items.iter().map(|item| masked(item, below, hidden)).collect()),
        Value::Text(text) if below.masks(true) => {
            hidden.push(text.to_string());
            Value::Text(MASKED.into())
        }
        Value::Number(number) if below.masks(false) => {
            hidden.push(number.to_string());
            Value::Text(MASKED.into())
        }
        Value::Bool(_) if below.masks(false) => Value::Text(MASKED.into()),
        other => other.clone(),
    }
}

/// The same for JSON.
fn mask_json(value: &mut Json, below: &Below<'_>) {
    match value {
        Json::Object(members) => members.iter_mut().for_each(|(name, value)| mask_json(value, &below.member(name))),
        Json::Array(items) => items.iter_mut().for_each(|item| mask_json(item, below)),
        Json::Null => {}
        other if below.masks(other.is_string()) => *other = MASKED.into(),
        _ => {}
    }
}

/// A text without what is hidden.
fn without(text: &str, hidden: &[String]) -> String {
    hidden
        .iter()
        .fold(text.to_owned(), |text, value| if text.contains(value) { text.replace(value, MASKED) } else { text })
}

/// A tree without what is hidden in its texts.
fn tree_without<'a>(value: Value<'a>, hidden: &[String]) -> Value<'a> {
    match value {
        Value::Text(text) => Value::Text(without(&text, hidden).into()),
        Value::List(items) => Value::List(items.into_iter().map(|item| tree_without(item, hidden)).collect()),
        Value::Object(object) => {
            let mut shown = Object::with_capacity(object.iter().count());
            object.iter().for_each(|(name, value)| shown.push(name.to_owned(), tree_without(value.clone(), hidden)));
            Value::Object(shown)
        }
        other => other,
    }
}

impl Shown<'_> {
    /// The payload as it was opened.
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }

    /// Whom the event is about.
    pub(super) fn subject(&self) -> Option<String> {
        let subject = self.stored.record.subject.as_deref()?;
        let is_hidden = |(mask, hidden): &(&Mask, Vec<String>)| mask.all || hidden.iter().any(|value| value == subject);
        Some(if self.mask.as_ref().is_some_and(is_hidden) { MASKED.to_owned() } else { subject.to_owned() })
    }

    /// What is said of the event or of an attempt.
    pub(super) fn text(&self, text: &str) -> String {
        match &self.mask {
            None => text.to_owned(),
            Some((_, hidden)) => without(text, hidden),
        }
    }

    /// The recorded reply.
    pub(super) fn reply(&self) -> Option<String> {
        let reply = self.stored.reply.as_deref()?;
        let Some((mask, hidden)) = &self.mask else { return Some(reply.to_owned()) };
        let form = if reply.starts_with('<') { Form::Xml } else { Form::Json };
        let Ok(tree) = payload::parse(form, reply) else {
            return Some(if mask.all { MASKED.to_owned() } else { without(reply, hidden) });
        };
        Some(written(form, &tree_without(masked(&tree, &mask.root(), &mut Vec::new()), hidden)))
    }

    /// The parameters of the query that are data of the event.
    pub(super) fn query(&self) -> Option<String> {
        let query = self.stored.record.query.as_deref()?;
        let Some((mask, hidden)) = &self.mask else { return Some(query.to_owned()) };
        let parameter = |parameter: &str| match parameter.split_once('=') {
            Some((COMMAND, _)) | None => parameter.to_owned(),
            Some((name, _)) if mask.all => format!("{name}={MASKED}"),
            Some((name, value)) => format!("{name}={}", without(value, hidden)),
        };
        Some(query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
    }

    /// The event as CloudEvents JSON.
    pub(super) fn cloud_event(&self) -> Json {
        let mut event = self.stored.cloud_event();
        let Some((mask, _)) = &self.mask else { return event };
        // Where the payload cannot be parsed it is one text.
        let is_text = event["data"].is_string();
        mask_json(&mut event["data"], &if is_text { Below::Everything } else { mask.root() });
        if let Some(subject) = self.subject() {
            event["subject"] = subject.into();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        event::Platform,
        journal::{EventRecord, State},
        payload::Payload,
    };
    use uuid::Uuid;

    fn stored(form: Form, payload: &str, reply: &str) -> Stored {
        let record = EventRecord {
            platform: "mp".parse::<Platform>().unwrap(),
            account: "mp/shop".into(),
            event_type: "mp.message.text".into(),
            subject: Some("openid".into()),
            form,
            payload: Payload::new(payload),
            query: Some("CallbackCommand=C2C.x&ClientIP=10.0.0.7".into()),
            received: 0,
        };
        let (state, reply, failure) = (State::Answered, Some(reply.to_owned()), Some("no luck with secret".to_owned()));
        Stored { id: Uuid::nil(), record, deliveries: 1, state, reply, failure }
    }

    #[test]
    fn what_a_path_leads_to_is_hidden_wherever_it_turns_up() {
        let mask = Mask::new(&["FromUserName".to_owned(), "List.Text".to_owned(), "Content".to_owned()]);
        let payload = "<xml><FromUserName>openid</FromUserName><MsgType>text</MsgType><Content>secret</Content>\
                       <List><Text>one</Text><Other>two</Other></List><List><Text>three</Text></List></xml>";
        let reply = "<xml><ToUserName>openid</ToUserName><Answer>echo: secret, one</Answer><Content>x</Content></xml>";
        let stored = stored(Form::Xml, payload, reply);
        let shown = mask.show(&stored, false);
        let all = format!(
            "{} {:?} {:?} {} {}",
            shown.payload(),
            shown.subject(),
            shown.reply(),
            shown.cloud_event(),
            shown.text("no luck with secret")
        );
        for hidden in ["openid", "secret", ">one<", "\"one\"", "three"] {
            assert!(!all.contains(hidden), "{hidden}: {all}");
        }
        assert!(shown.payload().contains("two") && shown.payload().contains("text"), "{all}");
        assert!(shown.reply().unwrap().contains("echo: ***, ***"), "{all}");
        let revealed = mask.show(&stored, true);
        assert_eq!((revealed.payload(), revealed.reply().as_deref()), (payload, Some(reply)));
    }

    #[test]
    fn a_star_hides_every_text_and_what_cannot_be_parsed() {
        let mask = Mask::new(&["*".to_owned()]);
        let payload = r#"{"FromUserName":"openid","CreateTime":7,"List":[{"Text":"one"}],"MsgType":"text"}"#;
        let stored = stored(Form::Json, payload, "plain words");
        let shown = mask.show(&stored, false);
        assert_eq!(shown.payload(), r#"{"FromUserName":"***","CreateTime":7,"List":[{"Text":"***"}],"MsgType":"***"}"#);
        assert_eq!((shown.reply().as_deref(), shown.subject().as_deref()), (Some("***"), Some("***")));
        assert_eq!(shown.query().as_deref(), Some("CallbackCommand=C2C.x&ClientIP=***"));
        let broken = super::tests::stored(Form::Json, "{\"secret", "");
        let shown = mask.show(&broken, false);
        assert!(!format!("{} {}", shown.payload(), shown.cloud_event()).contains("secret"));
    }
}
