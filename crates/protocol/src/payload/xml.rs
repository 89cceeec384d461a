//! Reads XML, of any kind that is allowed; `simple` reads most of it faster.

use std::borrow::Cow;

use quick_xml::{events::Event, reader::Reader};

use super::{Form, MAX_DEPTH, Object, PayloadError, Value, simple, write::has_byte};

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

pub(super) fn parse(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    if has_byte(text, |byte| byte == 0) {
        return Err(malformed("a NUL character"));
    }
    simple::parse(text, most).map_or_else(|| parse_any(text, most), Ok)
}

fn malformed(detail: &str) -> PayloadError {
    PayloadError::Malformed { form: Form::Xml, detail: detail.to_owned() }
}

pub(super) fn parse_any(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
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
