//! Names in a queue that are made of an event: subjects, streams, routing keys, topics, keys of partitions.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::crypto::hex;

/// The longest value that is inserted; what is longer ends with a digest of the whole, so that two values stay two.
const MAX_VALUE: usize = 100;
const DIGEST_DIGITS: usize = 16;

/// Stands for a value that the event does not have.
const ABSENT: &str = "_";

/// What `Words` and `Name` encode besides what is not printable ASCII. `%` is among it, so that two values stay two.
const IN_WORDS: &AsciiSet = &CONTROLS.add(b' ').add(b'.').add(b'*').add(b'>').add(b'#').add(b'%');
const IN_NAME: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What the queue does not take in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Words with dots between them, in which `*`, `>` and `#` stand for any: subjects and routing keys.
    Words,
    /// Letters, digits, `.`, `_` and `-`: topics.
    Topic,
    /// Any text without spaces: streams and exchanges.
    Name,
    /// Any text, as it is: keys of partitions.
    Any,
}

/// A text with values of events in it: `echostr.{platform}.{name}.{type}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    syntax: Syntax,
    limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Platform,
    Account,
    Name,
    Type,
    Subject,
    Id,
    /// A path in the typed JSON.
    Data(Vec<String>),
}

/// What templates know of an event.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'e> {
    pub(crate) platform: &'static str,
    /// `mp/shop`.
    pub(crate) account: &'e str,
    pub(crate) event_type: &'e str,
    /// The user, unless that is masked.
    pub(crate) subject: Option<Cow<'e, str>>,
    pub(crate) id: &'e str,
    /// The typed JSON, where [`Template::needs_data`].
    pub(crate) data: Option<Json>,
}

impl Template {
    /// Reads a template; the error goes on after "must be ".
    pub(crate) fn parse(text: &str, syntax: Syntax, limit: usize) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Text(before.to_owned()));
            let (name, behind) = after.split_once('}').ok_or("a text in which each `{` has its `}`")?;
            parts.push(Part::Field(Field::parse(name).ok_or_else(unknown_field)?));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        let template = Self { parts, syntax, limit };
        template.check()?;
        Ok(template)
    }

    /// Whether what is fixed in it may be a name of its sort.
    fn check(&self) -> Result<(), String> {
        let fixed = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Field(_) => None,
        });
        let mut length = 0;
        for text in fixed {
            length += text.len();
            if text.contains('}') {
                return Err("a text in which each `}` has its `{`".to_owned());
            }
            let is_wrong = |c: char| match self.syntax {
                Syntax::Words => c.is_whitespace() || c.is_control() || "*>#".contains(c),
                Syntax::Topic => !c.is_ascii_alphanumeric() && !"._-".contains(c),
                Syntax::Name => c.is_whitespace() || c.is_control(),
                Syntax::Any => c.is_control(),
            };
            if text.contains(is_wrong) {
                let without = match self.syntax {
                    Syntax::Words => "a text without spaces, `*`, `>` and `#`",
                    Syntax::Topic => "a text of letters, digits, `.`, `_` and `-`",
                    Syntax::Name => "a text without spaces",
                    Syntax::Any => "a text without control characters",
                };
                return Err(without.to_owned());
            }
        }
        if self.parts.is_empty() {
            return Err("a text that is not empty".to_owned());
        }
        // Whatever is inserted is no longer than this.
        if length >= self.limit {
            return Err(format!("shorter than {} bytes", self.limit));
        }
        if self.syntax == Syntax::Words && self.shape().split('.').any(str::is_empty) {
            return Err("words with one dot between them".to_owned());
        }
        if self.syntax == Syntax::Topic && matches!(self.shape().as_str(), "." | "..") {
            return Err("another name than `.` and `..`".to_owned());
        }
        Ok(())
    }

    /// The text with a letter for each field.
    fn shape(&self) -> String {
        self.parts.iter().map(|part| if let Part::Text(text) = part { text } else { "x" }).collect()
    }

    /// Whether it names fields of the payload.
    pub(crate) fn needs_data(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(Field::Data(_))))
    }

    /// The text for an event; `None` if only absent values are in it and nothing else. One that would be longer than the queue
    /// takes ends with a digest of the whole.
    pub(crate) fn fill(&self, fields: &Fields<'_>) -> Option<String> {
        let mut text = String::new();
        let mut is_empty = true;
        for part in &self.parts {
            match part {
                Part::Text(fixed) => {
                    is_empty = false;
                    text.push_str(fixed);
                }
                Part::Field(field) => match field.value(fields) {
                    Some(value) => {
                        is_empty = false;
                        text.push_str(&self.safe(&value, matches!(field, Field::Type)));
                    }
                    None if self.syntax == Syntax::Any => {}
                    None => text.push_str(ABSENT),
                },
            }
        }
        (!is_empty || self.syntax != Syntax::Any).then(|| shortened(text, self.limit))
    }

    /// A value from outside as a part of a name. The dots of an event type stay: they are words of ours.
    fn safe(&self, value: &str, is_type: bool) -> String {
        let encode = |text: &str| match self.syntax {
            Syntax::Any => text.to_owned(),
            Syntax::Words => utf8_percent_encode(text, IN_WORDS).to_string(),
            Syntax::Name => utf8_percent_encode(text, IN_NAME).to_string(),
            Syntax::Topic => topic(text),
        };
        match self.syntax {
            Syntax::Any => value.to_owned(),
            Syntax::Words if is_type => value.split('.').map(encode).collect::<Vec<_>>().join("."),
            _ => shortened(encode(value), MAX_VALUE),
        }
    }
}

/// A topic has no `%`: its escape is `_`, which is escaped, too, where it could be taken for one.
fn topic(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' | b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02X}")),
        }
    }
    name
}

/// A text of so many bytes at most: a longer one has a digest in place of its end.
fn shortened(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let digest = hex(&Sha256::digest(&text));
        let keep = text.floor_char_boundary(limit.saturating_sub(DIGEST_DIGITS + 1));
        text.truncate(keep);
        text.push('-');
        text.push_str(&digest[..DIGEST_DIGITS]);
    }
    text
}

fn unknown_field() -> String {
    "a text with `{platform}`, `{account}`, `{name}`, `{type}`, `{subject}`, `{id}` or a field such as `{data.EventKey}` in it"
        .to_owned()
}

impl Field {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "platform" => Self::Platform,
            "account" => Self::Account,
            "name" => Self::Name,
            "type" => Self::Type,
            "subject" => Self::Subject,
            "id" => Self::Id,
            _ => {
                let path: Vec<String> = name.strip_prefix("data.")?.split('.').map(str::to_owned).collect();
                Self::Data(path.iter().all(|name| !name.is_empty()).then_some(path)?)
            }
        })
    }

    /// Its value, if the event has one that is not empty.
    fn value<'f>(&self, fields: &'f Fields<'_>) -> Option<Cow<'f, str>> {
        let value = match self {
            Self::Platform => Some(fields.platform.into()),
            Self::Account => Some(fields.account.into()),
            Self::Name => Some(fields.account.split_once('/').map_or(fields.account, |(_, name)| name).into()),
            Self::Type => Some(fields.event_type.into()),
            Self::Subject => fields.subject.as_deref().map(Cow::Borrowed),
            Self::Id => Some(fields.id.into()),
            Self::Data(path) => {
                let found = path.iter().try_fold(fields.data.as_ref()?, |value, name| value.get(name))?;
                match found {
                    Json::String(text) => Some(text.as_str().into()),
                    Json::Number(_) | Json::Bool(_) => Some(found.to_string().into()),
                    _ => None,
                }
            }
        };
        value.filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(subject: Option<&str>) -> Fields<'_> {
        Fields {
            platform: "mp",
            account: "mp/shop",
            event_type: "mp.message.text",
            subject: subject.map(Cow::Borrowed),
            id: "e1",
            data: Some(json!({ "Content": "a b", "N": 7, "Deep": { "Flag": true }, "List": [1], "Empty": "" })),
        }
    }

    fn filled(text: &str, syntax: Syntax, subject: Option<&str>) -> Option<String> {
        Template::parse(text, syntax, 255).unwrap().fill(&fields(subject))
    }

    #[test]
    fn values_are_inserted_and_safe_for_the_queue() {
        for (text, syntax, subject, expected) in [
            ("echostr.{platform}.{name}.{type}", Syntax::Words, None, "echostr.mp.shop.mp.message.text"),
            ("a.{subject}", Syntax::Words, Some("o.A*>#b %\r\n"), "a.o%2EA%2A%3E%23b%20%25%0D%0A"),
            ("a.{subject}", Syntax::Words, Some("\u{4f60}"), "a.%E4%BD%A0"),
            ("a.{subject}", Syntax::Words, None, "a._"),
            ("a.{subject}", Syntax::Words, Some(""), "a._"),
            ("{account}", Syntax::Words, None, "mp/shop"),
            ("{account}", Syntax::Topic, None, "mp_2Fshop"),
            ("{subject}", Syntax::Topic, Some("o_2F \u{4f60}"), "o_5F2F_20_E4_BD_A0"),
            ("{account}:{data.Content}", Syntax::Name, None, "mp/shop:a%20b"),
            ("{data.N}.{data.Deep.Flag}.{data.List}.{data.Gone}.{data.Empty}", Syntax::Words, None, "7.true._._._"),
            ("{subject}", Syntax::Any, Some("o.A*> \u{4f60}"), "o.A*> \u{4f60}"),
            ("{id}", Syntax::Any, None, "e1"),
        ] {
            assert_eq!(filled(text, syntax, subject).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(filled("{subject}{data.Gone}", Syntax::Any, None), None);
        assert_eq!(filled("x{subject}", Syntax::Any, None).as_deref(), Some("x"));
    }

    #[test]
    fn nothing_is_longer_than_the_queue_takes_and_different_values_stay_different() {
        let (a, b) = ("x".repeat(5000), format!("{}y", "x".repeat(4999)));
        for syntax in [Syntax::Words, Syntax::Topic, Syntax::Name, Syntax::Any] {
            let fill = |subject: &str| filled("a.{subject}{subject}{subject}", syntax, Some(subject)).unwrap();
            assert!(fill(&a).len() <= 255 && fill(&b).len() <= 255, "{syntax:?}");
            assert_ne!(fill(&a), fill(&b), "{syntax:?}");
            assert_eq!(fill(&a), fill(&a), "{syntax:?}");
        }
        let wide = "\u{4f60}".repeat(3000);
        assert!(filled("{subject}", Syntax::Any, Some(&wide)).unwrap().len() <= 255);
    }

    #[test]
    fn what_no_queue_takes_is_refused() {
        for (text, syntax) in [
            ("", Syntax::Name),
            ("a b", Syntax::Words),
            ("a.*", Syntax::Words),
            ("a.>", Syntax::Words),
            ("a..b", Syntax::Words),
            (".a", Syntax::Words),
            ("a.", Syntax::Words),
            ("{type}.", Syntax::Words),
            ("a/b", Syntax::Topic),
            ("..", Syntax::Topic),
            ("a b", Syntax::Name),
            ("a\n", Syntax::Any),
            ("{", Syntax::Any),
            ("a}", Syntax::Any),
            ("{user}", Syntax::Any),
            ("{data}", Syntax::Any),
            ("{data.}", Syntax::Any),
            ("{data.a..b}", Syntax::Any),
        ] {
            assert!(Template::parse(text, syntax, 255).is_err(), "{text:?}");
        }
        assert!(Template::parse(&"x".repeat(255), Syntax::Words, 255).is_err());
        assert!(Template::parse("{data.Content}", Syntax::Any, 255).unwrap().needs_data());
        assert!(!Template::parse("{subject}", Syntax::Any, 255).unwrap().needs_data());
    }
}
