//! Reads XML, of any kind that is allowed; `simple` reads most of it faster.

use std::{borrow::Cow, ops::Range};

use quick_xml::{events::Event, reader::Reader};

use super::{
    Form, MAX_DEPTH, Object, PayloadError, Value,
    section::{BEGIN, END, Ends, Sections},
    simple,
    write::has_byte,
};

/// An element that is still open.
struct Open<'a> {
    name: &'a str,
    text: Cow<'a, str>,
    /// Text between CDATA sections and children is layout, unless it is all there is.
    has_cdata: bool,
    /// Where its text is, if that is one section.
    section: Option<Range<usize>>,
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

    fn section(&self) -> Option<Range<usize>> {
        self.section.clone().filter(|_| self.children.is_empty())
    }

    fn close(self) -> Value<'a> {
        if self.children.is_empty() { Value::Text(self.text) } else { Value::Object(self.children) }
    }
}

/// A payload, whose texts may contain anything.
pub(super) fn parse(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    let parse_odd = || match parse_any(text, most, Ends::OfElement) {
        Err(error @ (PayloadError::Malformed { .. } | PayloadError::DocType | PayloadError::Entity)) => {
            parse_any(text, most, Ends::Last).map_err(|_| error)
        }
        read => read,
    };
    parse_with(text, most, parse_odd)
}

/// The document around a cipher text, in which nobody writes anything.
pub(super) fn parse_envelope(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
    parse_with(text, most, || parse_any(text, most, Ends::First))
}

fn parse_with<'a>(
    text: &'a str,
    most: usize,
    parse_odd: impl FnOnce() -> Result<Value<'a>, PayloadError>,
) -> Result<Value<'a>, PayloadError> {
    if has_byte(text, |byte| byte == 0) {
        return Err(malformed("a NUL character"));
    }
    simple::parse(text, most).map_or_else(parse_odd, Ok)
}

/// A reader of what is left of a text.
fn reader(text: &str) -> Reader<&[u8]> {
    let mut reader = Reader::from_str(text);
    // The names of open elements are kept here anyway.
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    reader
}

fn malformed(detail: &str) -> PayloadError {
    PayloadError::Malformed { form: Form::Xml, detail: detail.to_owned() }
}

pub(super) fn parse_any(text: &str, most: usize, ends: Ends) -> Result<Value<'_>, PayloadError> {
    let mut sections = Sections::new(text, ends);
    // Of the elements right below the root; and whether one of them occurs again.
    let (mut tops, mut is_repeated) = (Vec::new(), false);
    let mut reader_of_rest = reader(text);
    let mut base = 0;
    let mut open: Vec<Open<'_>> = Vec::with_capacity(4);
    let mut root = None;
    let mut left = most;
    let mut count = || -> Result<(), PayloadError> {
        left = left.checked_sub(1).ok_or(PayloadError::TooMany(most))?;
        Ok(())
    };
    loop {
        let start = base + offset(reader_of_rest.buffer_position())?;
        let event = reader_of_rest.read_event().map_err(|error| malformed(xml_error(&error)))?;
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
                open.push(Open { name, text: Cow::Borrowed(""), has_cdata: false, section: None, children });
            }
            Event::Empty(tag) => {
                count()?;
                let name = name_at(text, start, tag.name().0.len()).ok_or_else(|| malformed("a broken tag"))?;
                match open.last_mut() {
                    Some(parent) => {
                        parent.children.push(name, Value::Text(Cow::Borrowed("")));
                        if open.len() == 1 {
                            tops.push(None);
                        }
                    }
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
                        let (name, section) = (element.name, element.section());
                        let is_known = || parent.children.position(name).is_some();
                        is_repeated |= ends != Ends::First && section.is_some() && is_known();
                        parent.children.push(name, element.close());
                        if open.len() == 1 {
                            tops.push(section);
                        }
                    }
                    // A root without children is an object all the same: it has no fields.
                    None if is_repeated => root = Some(Value::Object(sections.rejoin(element.children, &tops))),
                    None => root = Some(Value::Object(element.children)),
                }
            }
            Event::Text(piece) => match open.last_mut() {
                Some(element) => {
                    let piece = piece.into_inner();
                    if !element.has_cdata || !piece.trim_ascii_blank().is_empty() {
                        element.section = None;
                        element.push_text(piece);
                    }
                }
                None if piece.trim_ascii_blank().is_empty() => {}
                None => return Err(malformed("text outside the root element")),
            },
            Event::CData(_) => {
                let is_top = open.len() == 2;
                let Some(element) = open.last_mut() else { return Err(malformed("text outside the root element")) };
                if element.has_cdata {
                    count()?;
                } else if element.text.trim_ascii_blank().is_empty() {
                    element.text = Cow::Borrowed("");
                }
                let end = base + offset(reader_of_rest.buffer_position())?;
                let section = sections.find(start + BEGIN.len(), end - END.len(), element.name, is_top);
                if section.end + END.len() != end {
                    base = section.end + END.len();
                    reader_of_rest = reader(text.get(base..).unwrap_or_default());
                }
                let (piece, split) = sections.text(section.clone());
                (0..split).try_for_each(|_| count())?;
                // Where there is more than the section, the text is no piece of the payload.
                element.section = (!element.has_cdata && element.text.is_empty()).then_some(section);
                element.has_cdata = true;
                element.push_text(piece);
            }
            Event::GeneralRef(reference) => {
                count()?;
                let Some(element) = open.last_mut() else { return Err(malformed("text outside the root element")) };
                element.section = None;
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
        return Err(malformed("truncated inside an element"));
    }
    root.ok_or_else(|| malformed("no element"))
}

fn offset(position: u64) -> Result<usize, PayloadError> {
    usize::try_from(position).map_err(|_| malformed("too long"))
}

/// The tag name as a slice of the whole text, which outlives the event. `start` is where the `<` stands.
fn name_at(text: &str, start: usize, length: usize) -> Option<&str> {
    let from = start.checked_add(1)?;
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
