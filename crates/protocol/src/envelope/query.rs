//! The query string of a callback.

use std::{borrow::Cow, iter};

use memchr::memchr;
use percent_encoding::percent_decode_str;

use super::Refusal;

/// More parameters than any platform sends.
pub(super) const MAX_PARAMETERS: usize = 64;

/// What is signed, or decides how the body is read, must not be there twice: two readers could read two requests.
const ONCE: [&str; 10] = [
    "signature",
    "msg_signature",
    "timestamp",
    "nonce",
    "echostr",
    "encrypt_type",
    "Sign",
    "RequestTime",
    "SdkAppid",
    "CallbackCommand",
];

/// What is data of the event rather than its envelope; only IM has some.
const DATA: [&str; 5] = ["CallbackCommand", "ClientIP", "OptPlatform", "RequestTime", "RequestID"];

/// The decoded parameters of a query, borrowed where nothing was escaped.
///
/// A `+` stays a `+`: the platforms escape spaces as `%20`, and a Base64 value may arrive either way.
#[derive(Clone, Debug, Default)]
pub struct Query<'q> {
    parameters: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

impl<'q> Query<'q> {
    /// Decodes the part of the URL behind `?`.
    ///
    /// # Errors
    /// [`Refusal`] when it is not UTF-8, too long, or repeats what must be there once.
    pub fn parse(query: &'q str) -> Result<Self, Refusal> {
        let mut parameters: Vec<(Cow<'q, str>, Cow<'q, str>)> = Vec::with_capacity(8);
        for pair in pairs(query).filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(Refusal::BadQuery);
            }
            let (name, value) = split(pair, b'=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if parameters.iter().any(|(other, _)| *other == name)
                && let Some(name) = ONCE.into_iter().find(|once| *once == name)
            {
                return Err(Refusal::RepeatedParameter(name));
            }
            parameters.push((name, value));
        }
        Ok(Self { parameters })
    }

    /// The value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    /// The parameters of a query that are data of the event, as a query: nothing secret is among them.
    pub fn data(query: &str) -> String {
        let mut data = String::with_capacity(query.len());
        for pair in pairs(query) {
            let name = split(pair, b'=').map_or(pair, |(name, _)| name);
            // A name is what it decodes to, here as in `get`.
            if decode(name).is_ok_and(|name| DATA.contains(&name.as_ref())) {
                data.extend([if data.is_empty() { "" } else { "&" }, pair]);
            }
        }
        data
    }

    /// What has been done to a query, where its parameters show it.
    pub(super) fn cause(&self) -> Option<String> {
        let mut names = self.parameters.iter().map(|(name, _)| name.as_ref());
        if names.clone().any(|name| name.starts_with("amp;")) {
            return Some(
                "the query has `&amp;` for `&`: it was copied from HTML, or something in front escapes it".into(),
            );
        }
        let is_escaped = |name: &str| ["=", "%3D", "%3d"].iter().any(|sign| name.contains(sign));
        if names.any(is_escaped) {
            return Some("the query is encoded as a whole: something in front encodes it twice".into());
        }
        // No value of a platform has such signs once it is decoded.
        let twice = self.parameters.iter().find(|(name, value)| ONCE.contains(&name.as_ref()) && is_encoded(value));
        twice.map(|(name, _)| {
            format!(
                "`{name}` is encoded twice (`%25…` is `%…` encoded again): something in front encodes the query again"
            )
        })
    }

    /// The same query with its values decoded once more, if that makes a difference.
    pub(super) fn decoded_again(&self) -> Option<Query<'static>> {
        let decoded = |(name, value): &(Cow<'q, str>, Cow<'q, str>)| {
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            (Cow::Owned(name.clone().into_owned()), Cow::Owned(value))
        };
        let is_encoded = self.parameters.iter().any(|(_, value)| is_encoded(value));
        is_encoded.then(|| Query { parameters: self.parameters.iter().map(decoded).collect() })
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// [`Refusal::MissingParameter`] when it is absent or empty.
    pub fn require(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::MissingParameter(name))
    }
}

/// Whether a decoded value still has signs that are encoded.
fn is_encoded(value: &str) -> bool {
    let is_sign = |three: &[u8]| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit);
    value.as_bytes().windows(3).any(is_sign)
}

/// The parameters of a query as they are written.
fn pairs(query: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(query);
    iter::from_fn(move || {
        let text = rest?;
        let (pair, after) = split(text, b'&').map_or((text, None), |(pair, after)| (pair, Some(after)));
        rest = after;
        Some(pair)
    })
}

/// Splits a text at the first such byte, which is ASCII.
fn split(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = memchr(byte, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if memchr(b'%', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Refusal::BadQuery)
}
