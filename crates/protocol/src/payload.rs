//! The opened payload as one tree, whether it came as XML or as JSON.
//!
//! An element with child elements is an object, any other element is text; attributes are ignored. What JSON writes as
//! a list, XML writes as repeated siblings: the tree keeps them as they came, and `wire` reads both the same way.
//! There is no document type and no entity beyond the five built-in ones: a payload that has one is refused.

pub(crate) mod index;
mod object;
mod simple;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt, sync::Arc};

use quick_xml::{events::Event, reader::Reader};
use serde::{
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{Serialize, SerializeSeq, Serializer},
};

pub use self::object::Object;

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

/// As how many nodes a JSON number counts that is not whole: to read one exactly can take as long as so many others.
const FLOAT_NODES: usize = 10;

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

    /// Marks every field below as read: the value is taken as it is, whatever it has. Gives the number of its values.
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

/// Why a payload could not be read. The sender is at fault; the platform sees 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Not well-formed, or cut off.
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
    parse_within(form, text, MAX_NODES)
}

/// Reads the document that a cipher text comes in, which anybody can write: it has few members, so no more than
/// [`MAX_ENVELOPE_NODES`] are read.
///
/// # Errors
/// [`PayloadError`] when the text is not well-formed or exceeds a limit.
pub fn parse_envelope(form: Form, text: &str) -> Result<Value<'_>, PayloadError> {
    /// Characters at which the reader of XML stops, also where they end nothing.
    const MAX_STOPS: usize = 10 * MAX_ENVELOPE_NODES;
    let stops = |text: &str| text.bytes().filter(|byte| matches!(byte, b'>' | b'"' | b'\'')).count();
    if form == Form::Xml && stops(text) > MAX_STOPS {
        return Err(PayloadError::TooMany(MAX_ENVELOPE_NODES));
    }
    parse_within(form, text, MAX_ENVELOPE_NODES)
}

fn parse_within(form: Form, text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    match form {
        Form::Xml => parse_xml(text, most),
        Form::Json => parse_json(text, most),
    }
}

/// An element that is still open.
struct Open<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    /// Text between CDATA sections and children is layout, unless it is all there is.
    has_cdata: bool,
    children: Object<'a>,
}

impl<'a> Open<'a> {
    fn push_text(&mut self, piece: Cow<'a, str>) {
        if self.text.is_empty() {
            self.text = piece;
        } else {
            self.text.to_mut().push_str(&piece);
        }
    }

    fn close(self) -> Value<'a> {
        if self.children.is_empty() { Value::Text(self.text) } else { Value::Object(self.children) }
    }
}

fn parse_xml(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    if has_byte(text, |byte| byte == 0) {
        return Err(malformed("a NUL character"));
    }
    simple::parse(text, most).map_or_else(|| parse_any_xml(text, most), Ok)
}

fn malformed(detail: &str) -> PayloadError {
    PayloadError::Malformed { form: Form::Xml, detail: detail.to_owned() }
}

fn parse_any_xml(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    let mut reader = Reader::from_str(text);
    // The names of open elements are kept here anyway.
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut open: Vec<Open<'_>> = Vec::with_capacity(4);
    let mut root = None;
    let mut left = most;
    let mut count = || -> Result<(), PayloadError> {
        left = left.checked_sub(1).ok_or(PayloadError::TooMany(most))?;
        Ok(())
    };
    loop {
        let start = reader.buffer_position();
        let event = reader.read_event().map_err(|error| malformed(xml_error(&error)))?;
        match event {
            Event::Start(tag) => {
                count()?;
                if open.len() == MAX_DEPTH {
                    return Err(PayloadError::TooDeep);
                }
                if root.is_some() {
                    return Err(malformed("more than one root element"));
                }
                let name = name_at(text, start, tag.name().0.len()).ok_or_else(|| malformed("a broken tag"))?;
                let children = Object::with_capacity(if open.is_empty() { 8 } else { 0 });
                open.push(Open { name, text: Cow::Borrowed(""), has_cdata: false, children });
            }
            Event::Empty(tag) => {
                count()?;
                let name = name_at(text, start, tag.name().0.len()).ok_or_else(|| malformed("a broken tag"))?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(name, Value::Text(Cow::Borrowed(""))),
                    None if root.is_none() => root = Some(Value::Object(Object::default())),
                    None => return Err(malformed("more than one root element")),
                }
            }
            Event::End(tag) => {
                let Some(element) = open.pop() else { return Err(malformed("an end tag without its start")) };
                if tag.name().0 != element.name {
                    return Err(malformed("tags that do not match"));
                }
                match open.last_mut() {
                    Some(parent) => {
                        let name = element.name;
                        parent.children.push(name, element.close());
                    }
                    // A root without children is an object all the same: it has no fields.
                    None => root = Some(Value::Object(element.children)),
                }
            }
            Event::Text(piece) => match open.last_mut() {
                Some(element) => {
                    let piece = piece.into_inner();
                    if !element.has_cdata || !piece.trim_ascii_blank().is_empty() {
                        element.push_text(piece);
                    }
                }
                None if piece.trim_ascii_blank().is_empty() => {}
                None => return Err(malformed("text outside the root element")),
            },
            Event::CData(piece) => match open.last_mut() {
                Some(element) => {
                    if element.has_cdata {
                        count()?;
                    } else if element.text.trim_ascii_blank().is_empty() {
                        element.text = Cow::Borrowed("");
                    }
                    element.has_cdata = true;
                    element.push_text(piece.into_inner());
                }
                None => return Err(malformed("text outside the root element")),
            },
            Event::GeneralRef(reference) => {
                count()?;
                let Some(element) = open.last_mut() else { return Err(malformed("text outside the root element")) };
                if reference.is_char_ref() {
                    let character = reference.resolve_char_ref().ok().flatten().filter(|character| *character != '\0');
                    let character = character.ok_or_else(|| malformed("a reference to no character"))?;
                    element.text.to_mut().push(character);
                } else {
                    let name = reference.into_inner();
                    let known = quick_xml::escape::resolve_xml_entity(&name).ok_or(PayloadError::Entity)?;
                    element.push_text(Cow::Borrowed(known));
                }
            }
            Event::DocType(_) => return Err(PayloadError::DocType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => count()?,
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(malformed("cut off inside an element"));
    }
    root.ok_or_else(|| malformed("no element"))
}

/// The tag name as a slice of the whole text, which outlives the event. `start` is where the `<` stands.
fn name_at(text: &str, start: u64, length: usize) -> Option<&str> {
    let from = usize::try_from(start).ok()?.checked_add(1)?;
    let name = text.get(from..from.checked_add(length)?)?;
    // The reader takes quotes, slashes and control characters for a part of the name; written again, they would not be.
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_-.:".contains(&byte);
    (!name.is_empty() && name.bytes().all(in_names)).then_some(name)
}

/// A fixed text per kind of error: the reader's own texts quote the payload.
fn xml_error(error: &quick_xml::Error) -> &'static str {
    match error {
        quick_xml::Error::Syntax(_) => "a syntax error",
        quick_xml::Error::IllFormed(_) => "tags that do not match",
        _ => "an unreadable part",
    }
}

trait Blank {
    fn trim_ascii_blank(&self) -> &str;
}

impl Blank for str {
    fn trim_ascii_blank(&self) -> &str {
        self.trim_matches(|c: char| c.is_ascii_whitespace())
    }
}

fn parse_json(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    let limit = Cell::new(Limits { nodes: 0, most, members: 0, exceeded: None });
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Tree { depth: 0, limits: &limit }.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    match value {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(PayloadError::NotAnObject),
        Err(error) => Err(limit.get().exceeded.map_or_else(
            || PayloadError::Malformed { form: Form::Json, detail: json_error(&error) },
            |too_deep| if too_deep { PayloadError::TooDeep } else { PayloadError::TooMany(most) },
        )),
    }
}

fn json_error(error: &serde_json::Error) -> String {
    let kind = if error.is_eof() { "cut off" } else { "a syntax error" };
    format!("{kind} at line {} column {}", error.line(), error.column())
}

#[derive(Clone, Copy)]
struct Limits {
    nodes: usize,
    /// So many there may be.
    most: usize,
    /// Of the object that ended last.
    members: usize,
    /// `Some(true)`: too deep, `Some(false)`: too many.
    exceeded: Option<bool>,
}

#[derive(Clone, Copy)]
struct Tree<'l> {
    depth: usize,
    limits: &'l Cell<Limits>,
}

impl Tree<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.exceeded(true));
        }
        Ok(Self { depth: self.depth + 1, limits: self.limits })
    }

    fn count<E: serde::de::Error>(self, nodes: usize) -> Result<(), E> {
        let mut limits = self.limits.get();
        limits.nodes += nodes;
        self.limits.set(limits);
        if limits.nodes > limits.most { Err(self.exceeded(false)) } else { Ok(()) }
    }

    fn exceeded<E: serde::de::Error>(self, too_deep: bool) -> E {
        self.limits.set(Limits { exceeded: Some(too_deep), ..self.limits.get() });
        E::custom("limit exceeded")
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        self.count(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(Number::Int(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(i64::try_from(number).map_or(Number::UInt(number), Number::Int)))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value<'de>, E> {
        self.count(FLOAT_NODES - 1)?;
        Ok(Value::Number(Number::Float(number)))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut object = Object::default();
        // The objects of a list are mostly alike, and many of them are small.
        let last = self.limits.get().members;
        while let Some(name) = access.next_key_seed(Name)? {
            let value = access.next_value_seed(inner)?;
            if object.is_empty() && last < 4 {
                object.reserve_exact(last);
            }
            object.push(name, value);
        }
        self.limits.set(Limits { members: object.len(), ..self.limits.get() });
        Ok(Value::Object(object))
    }
}

/// A member name, borrowed when it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Writes an object as `<xml>…</xml>`, the way the platforms write theirs: text in CDATA, numbers plain, lists as
/// repeated elements. Characters that XML cannot carry are left out.
pub fn write_xml(object: &Object<'_>) -> String {
    let mut out = String::with_capacity(xml_length("xml", object));
    write_members(&mut out, "xml", object);
    out
}

/// How long an object gets in XML, roughly: mostly a little less.
fn xml_length(name: &str, object: &Object<'_>) -> usize {
    const TAGS: usize = "<></>".len();
    const SECTION: usize = "<![CDATA[]]>".len();
    let length_of = |name: &str, value: &Value<'_>| match value {
        Value::Text(text) => 2 * name.len() + TAGS + SECTION + text.len(),
        Value::Object(object) => xml_length(name, object),
        _ => 2 * name.len() + TAGS + SECTION,
    };
    2 * name.len() + TAGS + object.iter().map(|(name, value)| length_of(name, value)).sum::<usize>()
}

/// Writes an object as JSON.
pub fn write_json(object: &Object<'_>) -> String {
    json_of(object, json_length(object))
}

/// Writes any value as JSON.
pub fn to_json(value: &Value<'_>) -> String {
    json_of(value, json_length_of(value))
}

/// `length` is what it takes, roughly.
fn json_of(value: &impl Serialize, length: usize) -> String {
    let mut out = Vec::with_capacity(length);
    let written = serde_json::to_writer(&mut out, value).is_ok();
    String::from_utf8(out).ok().filter(|_| written).unwrap_or_default()
}

/// How long an object gets in JSON, roughly: a long one would be moved again and again while it grows.
fn json_length(object: &Object<'_>) -> usize {
    const MEMBER: usize = r#""":,"#.len();
    object.iter().map(|(name, value)| name.len() + MEMBER + json_length_of(value)).sum::<usize>() + 2
}

fn json_length_of(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len() + 2,
        Value::Object(object) => json_length(object),
        Value::List(items) => items.iter().map(|item| json_length_of(item) + 1).sum::<usize>() + 2,
        _ => 8,
    }
}

fn write_element(out: &mut String, name: &str, value: &Value<'_>) {
    if let Value::List(items) = value {
        items.iter().for_each(|item| write_element(out, name, item));
        return;
    }
    if let Value::Object(object) = value {
        return write_members(out, name, object);
    }
    out.extend(["<", name, ">"]);
    match value {
        Value::Null | Value::List(_) | Value::Object(_) => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(Number::Int(number)) => out.push_str(itoa::Buffer::new().format(*number)),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Text(text) => write_cdata(out, text),
    }
    out.extend(["</", name, ">"]);
}

fn write_members(out: &mut String, name: &str, object: &Object<'_>) {
    out.extend(["<", name, ">"]);
    object.iter().for_each(|(name, value)| write_element(out, name, value));
    out.extend(["</", name, ">"]);
}

/// `]]>` would end the section, so it is split over two.
fn write_cdata(out: &mut String, text: &str) {
    out.push_str("<![CDATA[");
    if is_plain(text) {
        out.extend([text, "]]>"]);
        return;
    }
    let mut after_brackets = 0;
    for character in text.chars().filter(|character| is_xml_character(*character)) {
        if character == '>' && after_brackets >= 2 {
            out.push_str("]]><![CDATA[");
        }
        after_brackets = if character == ']' { after_brackets + 1 } else { 0 };
        out.push(character);
    }
    out.push_str("]]>");
}

/// Whether a text can be copied whole: no `]`, and nothing that XML excludes. Most are told by their bytes alone, which is
/// much faster; 0xEF begins the characters that XML excludes, among others.
fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || matches!(byte, b']' | 0xEF);
    !has_byte(text, odd) || text.chars().all(|character| character != ']' && is_xml_character(character))
}

/// Whether a text has such a byte. Looking at all of them, and never stopping early, is what the compiler turns into
/// vector instructions.
fn has_byte(text: &str, is_such: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, byte| any | is_such(byte))
}

const fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
