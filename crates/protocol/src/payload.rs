//! The opened payload as one tree, whether it came as XML or as JSON.
//!
//! An element with child elements is an object, any other element is text; attributes are ignored. What JSON writes as
//! a list, XML writes as repeated siblings: the tree keeps them as they came, and `wire` reads both the same way.
//! There is no document type and no entity beyond the five built-in ones: a payload that has one is refused.

pub(crate) mod index;
mod json;
mod mask;
mod object;
mod repair;
mod section;
mod simple;
#[cfg(test)]
mod tests;
mod write;
mod xml;

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use serde::ser::{Serialize, SerializeSeq, Serializer};

pub use self::{
    mask::MASK,
    object::Object,
    repair::repair,
    write::{to_json, write_json, write_xml},
};

/// An opened payload. `Debug` shows its length only: it is what users wrote.
#[derive(Clone)]
pub struct Payload(Arc<str>);

impl Payload {
    /// A text that was verified and decrypted.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text as the platform wrote it.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// How deep elements, objects and lists may nest. The deepest payload known nests 8 levels.
pub const MAX_DEPTH: usize = 32;

/// How many elements, members and list items a payload may have; CDATA sections beyond the first of an element,
/// references, comments and instructions count as much. Keeps a body of the largest size from taking much more memory and
/// time than a plain text does.
pub const MAX_NODES: usize = 50_000;

/// How many the document may have that a cipher text comes in; the largest known has 4.
pub const MAX_ENVELOPE_NODES: usize = 100;

/// How many values of a payload may be in parts that no type describes, and that are kept as they are: as trees of their own
/// they take several times the memory and the time.
pub(crate) const MAX_OPAQUE_NODES: usize = 10_000;

/// The syntax a payload came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `<xml>…</xml>`
    Xml,
    /// `{…}`
    Json,
}

/// One value of the tree; borrows from the payload text where nothing had to be unescaped.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// JSON `null`.
    Null,
    /// JSON `true` and `false`; XML has only text.
    Bool(bool),
    /// A JSON number; XML has only text.
    Number(Number),
    /// JSON string, or element without child elements.
    Text(Cow<'a, str>),
    /// JSON array; XML repeats the element instead.
    List(Vec<Value<'a>>),
    /// JSON object, or element with child elements.
    Object(Object<'a>),
}

/// A JSON number, as exact as it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Any whole number that fits.
    Int(i64),
    /// A whole number above `i64::MAX`.
    UInt(u64),
    /// Everything else.
    Float(f64),
}

/// The magnitudes that are written without an exponent.
const PLAIN_FLOATS: std::ops::Range<f64> = 1e-7..1e21;

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::UInt(number) => number.fmt(f),
            // Without an exponent it could be 300 digits long.
            Self::Float(number) if *number != 0.0 && !PLAIN_FLOATS.contains(&number.abs()) => write!(f, "{number:e}"),
            Self::Float(number) => number.fmt(f),
        }
    }
}

impl<'a> Value<'a> {
    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Dotted paths of the fields that no type has read, `[]` marking list items, each path once.
    pub fn unread(&self) -> Vec<String> {
        let mut paths = Vec::new();
        collect_unread(self, "", &mut paths);
        let mut seen = HashSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        paths
    }

    /// Marks every field below as read: the value is taken as it is, whatever it has. Returns the number of its values.
    pub(crate) fn read_whole(&self) -> usize {
        1 + match self {
            Self::Object(object) => object.read_whole(),
            Self::List(items) => items.iter().map(Value::read_whole).sum(),
            _ => 0,
        }
    }
}

/// An unread field stands for everything below it.
fn collect_unread(value: &Value<'_>, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value, is_read) in object.marks() {
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                if is_read {
                    collect_unread(value, &path, paths);
                } else {
                    paths.push(path);
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| collect_unread(item, &format!("{path}[]"), paths)),
        _ => {}
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(Number::Int(number)) => serializer.serialize_i64(*number),
            Self::Number(Number::UInt(number)) => serializer.serialize_u64(*number),
            Self::Number(Number::Float(number)) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

/// Why a payload could not be read. The sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Not well-formed, or truncated.
    #[error("not well-formed {form}: {detail}", form = match form { Form::Xml => "XML", Form::Json => "JSON" })]
    Malformed {
        /// The syntax it should have.
        form: Form,
        /// What is wrong; never quotes the payload.
        detail: String,
    },
    /// A document type declaration.
    #[error("a document type declaration is not allowed")]
    DocType,
    /// A reference to an entity other than the five built-in ones.
    #[error("a reference to an entity that XML does not define")]
    Entity,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than so many: [`MAX_NODES`], in an envelope [`MAX_ENVELOPE_NODES`].
    #[error("more than {0} values")]
    TooMany(usize),
    /// The outermost value is a list or a scalar.
    #[error("the outermost JSON value is not an object")]
    NotAnObject,
}

/// Reads `text` into a tree.
///
/// # Errors
/// [`PayloadError`] when the text is not well-formed or exceeds a limit.
pub fn parse(form: Form, text: &str) -> Result<Value<'_>, PayloadError> {
    match form {
        Form::Xml => xml::parse(text, MAX_NODES),
        Form::Json => json::parse(text, MAX_NODES),
    }
}

/// Reads the document that a cipher text comes in, which anybody can write: it has few members, so no more than
/// [`MAX_ENVELOPE_NODES`] are read.
///
/// # Errors
/// [`PayloadError`] when the text is not well-formed or exceeds a limit.
pub fn parse_envelope(form: Form, text: &str) -> Result<Value<'_>, PayloadError> {
    /// Characters at which the reader of XML stops, even where nothing ends.
    const MAX_STOPS: usize = 10 * MAX_ENVELOPE_NODES;
    let is_stop = |byte| matches!(byte, b'>' | b'"' | b'\'');
    if form == Form::Xml && write::count_bytes(text, is_stop) > MAX_STOPS {
        return Err(PayloadError::TooMany(MAX_ENVELOPE_NODES));
    }
    match form {
        Form::Xml => xml::parse_envelope(text, MAX_ENVELOPE_NODES),
        Form::Json => json::parse(text, MAX_ENVELOPE_NODES),
    }
}
