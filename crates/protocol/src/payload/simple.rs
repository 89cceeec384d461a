//! What the platforms send, read without an event for each piece of it: elements without attributes, and in each of
//! them text, one CDATA section, or elements. Anything else is left to the reader of everything, which decides alone what
//! is refused; what is read here is what it would have read.

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::{
    MAX_DEPTH, Object, Value,
    section::{BEGIN, END},
};

/// Elements that are read this way at most. A longer document is left to the other reader at once: if something in it was
/// unusual after all, it would be read twice.
pub(super) const MAX_ELEMENTS: usize = 1_000;

/// Reads a document; `None` when there is anything unusual about it, also in its size.
pub(super) fn parse(text: &str, most: usize) -> Option<Value<'_>> {
    let mut reader = Reader { rest: text.trim_ascii_start(), left: most.min(MAX_ELEMENTS) };
    let name = reader.start_tag()?;
    let root = match reader.content(name, 1)? {
        Value::Object(object) => object,
        // The root is an object also when it has no fields.
        _ => Object::default(),
    };
    reader.rest.trim_ascii_start().is_empty().then_some(Value::Object(root))
}

struct Reader<'a> {
    rest: &'a str,
    /// So many elements more there may be.
    left: usize,
}

impl<'a> Reader<'a> {
    /// `<name>`
    fn start_tag(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let rest = self.rest.strip_prefix('<')?;
        let length = rest.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_'))?;
        let (name, rest) = rest.split_at_checked(length)?;
        self.rest = rest.strip_prefix('>')?;
        (!name.is_empty()).then_some(name)
    }

    /// `</name>`
    fn end_tag(&mut self, name: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix("</")?.strip_prefix(name)?.strip_prefix('>')?;
        Some(())
    }

    /// What is in an element, and its end; `depth` is the number of elements that are open.
    fn content(&mut self, name: &str, depth: usize) -> Option<Value<'a>> {
        // Mostly there is a section and no text: that is not searched for.
        let length = if self.rest.starts_with('<') { 0 } else { memchr(b'<', self.rest.as_bytes())? };
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if self.rest.starts_with("</") {
            self.end_tag(name)?;
            return (!text.contains('&')).then_some(Value::Text(Cow::Borrowed(text)));
        }
        if !text.trim_ascii().is_empty() {
            return None;
        }
        if let Some(section) = self.rest.strip_prefix(BEGIN) {
            let text = until_section_end(section)?;
            self.rest = section.get(text.len() + END.len()..)?.trim_ascii_start();
            self.end_tag(name)?;
            return Some(Value::Text(Cow::Borrowed(text)));
        }
        if depth == MAX_DEPTH {
            return None;
        }
        let mut children = Object::with_capacity(if depth == 1 { 8 } else { 0 });
        while !self.rest.starts_with("</") {
            let name = self.start_tag()?;
            // A text that is there twice right below the root may be one that a user has broken up.
            if depth == 1 && self.rest.trim_ascii_start().starts_with(BEGIN) && children.get(name).is_some() {
                return None;
            }
            let child = self.content(name, depth + 1)?;
            children.push(name, child);
            self.rest = self.rest.trim_ascii_start();
        }
        self.end_tag(name)?;
        Some(Value::Object(children))
    }
}

/// What is before the first `]]>`. Mostly that is the first bracket. After some that are not, the end is searched for as a
/// whole: a text of nothing but brackets would stop the search for one at each.
fn until_section_end(section: &str) -> Option<&str> {
    const SOME: usize = 8;
    let mut from = 0;
    for _ in 0..SOME {
        let at = from + memchr(b']', section.as_bytes().get(from..)?)?;
        if section.get(at..)?.starts_with(END) {
            return section.get(..at);
        }
        from = at + 1;
    }
    let at = from + memmem::find(section.as_bytes().get(from..)?, END.as_bytes())?;
    section.get(..at)
}
