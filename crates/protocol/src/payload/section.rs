//! Where the CDATA sections of a payload end.
//!
//! The platforms put what users wrote into sections without escaping it, so it may contain the end of a section, and even the
//! tags behind it. A section therefore ends where the end tag of its element follows.

use std::ops::Range;

use memchr::memmem;

use super::{Object, Value};

pub(super) const BEGIN: &str = "<![CDATA[";
pub(super) const END: &str = "]]>";

/// How writers that know of it split the end of a section over two.
const SPLIT_END: &str = "]]]]><![CDATA[>";

/// Which end of a section counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The first, as XML has it.
    First,
    /// The first before the end tag of its element.
    OfElement,
    /// The same, but the last one for the elements right below the root: what is between has unmatched tags.
    Last,
}

/// Looks for the ends of sections in a text.
pub(super) struct Sections<'a> {
    text: &'a str,
    ends: Ends,
    /// Bytes that may be looked through for the ends of sections that turn out to have none.
    left: usize,
}

impl<'a> Sections<'a> {
    pub(super) const fn new(text: &'a str, ends: Ends) -> Self {
        /// How often the whole text may be looked through.
        const TIMES: usize = 4;
        Self { text, ends, left: TIMES * text.len() }
    }

    /// Where the text of a section is that begins here, in an element of this name; `first` is its first end.
    pub(super) fn find(&mut self, begin: usize, first: usize, name: &str, is_top: bool) -> Range<usize> {
        if self.ends == Ends::First || (closes(self.text, first, name) && !(is_top && self.ends == Ends::Last)) {
            return begin..first;
        }
        let rest = self.text.get(begin..).unwrap_or_default().as_bytes();
        if self.left < rest.len() {
            return begin..first;
        }
        let is_end = |at: &usize| closes(self.text, *at, name);
        let (found, looked_through) = if is_top && self.ends == Ends::Last {
            let found = memmem::rfind_iter(rest, END).map(|at| begin + at).find(is_end);
            (found, found.map_or(rest.len(), |at| self.text.len() - at))
        } else {
            let found = memmem::find_iter(rest, END).map(|at| begin + at).find(is_end);
            (found, found.map_or(rest.len(), |at| at - begin))
        };
        self.left -= looked_through;
        begin..found.unwrap_or(first)
    }

    /// The text of a section, and how many ends were split in it.
    pub(super) fn text(&self, section: Range<usize>) -> (std::borrow::Cow<'a, str>, usize) {
        let text = self.text.get(section).unwrap_or_default();
        match memmem::find_iter(text.as_bytes(), SPLIT_END).count() {
            0 => (text.into(), 0),
            split => (text.replace(SPLIT_END, END).into(), split),
        }
    }

    /// Puts texts together again that a user has broken up. Elements with text do not repeat right below the root, but for ids: in
    /// the text of the first one of several stands all up to the last one's end.
    pub(super) fn rejoin(&self, root: Object<'a>, sections: &[Option<Range<usize>>]) -> Object<'a> {
        let mut joined = Vec::new();
        let mut behind = sections.len();
        while let Some(last) = behind.checked_sub(1) {
            behind = last;
            let name = root.name(last).filter(|name| !is_id(name));
            let Some(first) = name.and_then(|name| root.position(name)).filter(|first| *first < last) else { continue };
            let (Some(Some(from)), Some(Some(to))) = (sections.get(first), sections.get(last)) else { continue };
            joined.push((first..=last, from.start..to.end));
            behind = first;
        }
        let mut whole = Object::with_capacity(sections.len());
        for (at, (name, value)) in root.into_members().enumerate() {
            match joined.last().filter(|(members, _)| members.contains(&at)) {
                Some((members, section)) if at == *members.start() => {
                    whole.push(name, Value::Text(self.text(section.clone()).0));
                }
                None => whole.push(name, value),
                Some(_) => {}
            }
            joined.pop_if(|(members, _)| *members.end() == at);
        }
        whole
    }
}

/// Whether the end tag of the element follows this end of a section.
fn closes(text: &str, end: usize, name: &str) -> bool {
    let behind = text.get(end + END.len()..).unwrap_or_default().trim_ascii_start();
    let behind = behind.strip_prefix("</").and_then(|behind| behind.strip_prefix(name));
    behind.is_some_and(|behind| behind.trim_ascii_start().starts_with('>'))
}

/// Whether a name is that of ids, of which there may be a list.
fn is_id(name: &str) -> bool {
    name.len().checked_sub(2).and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case("id"))
}
