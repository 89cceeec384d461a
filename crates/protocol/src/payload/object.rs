//! Named values: a JSON object, or an element with child elements.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{
    Value,
    index::{FEW, Index},
};

/// Named values in the order of the wire; a name may occur more than once.
#[derive(Clone, Default)]
pub struct Object<'a> {
    fields: Vec<Field<'a>>,
    /// Where the names are, once there are more than a [`FEW`]: types look up many fields, and whoever sends the payload
    /// chooses how many members it has.
    index: Option<Box<Index>>,
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

/// One member of an [`Object`].
#[derive(Clone, Debug)]
struct Field<'a> {
    name: Cow<'a, str>,
    value: Value<'a>,
    /// Whether a type has read the field: what stays unread is unknown to the type.
    read: Mark,
}

/// Set through a shared reference, since readers only borrow the tree; of any thread, since a task may move.
#[derive(Debug, Default)]
struct Mark(AtomicBool);

impl Mark {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, read: bool) {
        self.0.store(read, Ordering::Relaxed);
    }
}

impl Clone for Mark {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.get()))
    }
}

impl PartialEq for Field<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

impl<'a> Object<'a> {
    /// An empty object.
    pub const fn new() -> Self {
        Self { fields: Vec::new(), index: None }
    }

    /// An empty object with room for `fields`.
    pub fn with_capacity(fields: usize) -> Self {
        Self { fields: Vec::with_capacity(fields), index: None }
    }

    /// Makes room for exactly so many members. Where most objects have one or two, what a list takes by itself is four times
    /// as much.
    pub(super) fn reserve_exact(&mut self, fields: usize) {
        self.fields.reserve_exact(fields);
    }

    /// Appends a member.
    pub fn push(&mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) {
        self.fields.push(Field { name: name.into(), value, read: Mark::default() });
        if self.fields.len() > FEW {
            self.enter_last();
        }
    }

    /// Enters the last member into the index, or all of them when there was none.
    #[cold]
    fn enter_last(&mut self) {
        let fields = &self.fields;
        let from = if self.index.is_some() { fields.len() - 1 } else { 0 };
        let index = self.index.get_or_insert_default();
        (from..fields.len()).for_each(|at| index.enter(at, |at| &fields[at].name));
    }

    /// Where the first member called `name` is.
    fn find(&self, name: &str) -> Option<usize> {
        match &self.index {
            None => self.fields.iter().position(|field| field.name == name),
            Some(index) => index.find(name, |at| &self.fields[at].name),
        }
    }

    /// The first value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.find(name).map(|at| &self.fields[at].value)
    }

    /// The text of the first value called `name`; `None` when absent or not text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Members in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.fields.iter().map(|field| (field.name.as_ref(), &field.value))
    }

    /// The name of the member at a place.
    pub(super) fn name(&self, at: usize) -> Option<&str> {
        self.fields.get(at).map(|field| field.name.as_ref())
    }

    /// Where the first member called `name` is.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.find(name)
    }

    /// The members themselves, in the order of the wire.
    pub(crate) fn into_members(self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
        self.fields.into_iter().map(|field| (field.name, field.value))
    }

    /// Few members are compared each with each, which is faster than a set.
    fn has_repeated_names(&self) -> bool {
        if let Some(index) = &self.index {
            return index.len() < self.fields.len();
        }
        let repeats = |(at, field): (usize, &Field<'_>)| self.fields[..at].iter().any(|other| other.name == field.name);
        self.fields.iter().enumerate().any(repeats)
    }

    /// Appends every member of `other`.
    pub fn append(&mut self, other: Self) {
        self.fields.reserve(other.fields.len());
        other.fields.into_iter().for_each(|field| self.push(field.name, field.value));
    }

    /// Replaces the value of the first member called `name`, or appends one.
    pub fn set(&mut self, name: &str, value: Value<'a>) {
        match self.find(name) {
            Some(at) => self.fields[at].value = value,
            None => self.push(name.to_owned(), value),
        }
    }

    /// The object that is the first member called `name`; of a list, its first item.
    pub fn object_mut(&mut self, name: &str) -> Option<&mut Self> {
        let at = self.find(name)?;
        match &mut self.fields[at].value {
            Value::Object(object) => Some(object),
            Value::List(items) => match items.first_mut()? {
                Value::Object(object) => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    /// Every value called `name`.
    pub(super) fn all_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Value<'a>> {
        self.fields.iter_mut().filter(move |field| field.name == name).map(|field| &mut field.value)
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value called `name`, which counts as read from now on. `hint` is where the search starts: fields
    /// mostly come in the order in which the type lists them.
    pub(crate) fn read(&self, name: &str, hint: &mut usize) -> Option<&Value<'a>> {
        let found = match &self.index {
            None => self.find_near(name, *hint)?,
            Some(_) => self.find(name)?,
        };
        *hint = found + 1;
        let field = self.fields.get(found)?;
        field.read.set(true);
        Some(&field.value)
    }

    fn find_near(&self, name: &str, hint: usize) -> Option<usize> {
        let start = hint.min(self.fields.len());
        let (before, after) = self.fields.split_at(start);
        let at = |field: &Field<'_>| field.name == name;
        // A repeated name must give the same value to every reader, so one that was already passed wins.
        match after.iter().position(at) {
            Some(offset) if !before.iter().any(at) => Some(start + offset),
            _ => before.iter().position(at),
        }
    }

    /// Every value called `name`; all of them count as read from now on.
    pub(crate) fn read_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Value<'a>> {
        // What is not there is not looked for.
        let from = if self.index.is_some() { self.find(name).unwrap_or(self.fields.len()) } else { 0 };
        self.fields[from..].iter().filter(move |field| field.name == name).map(|field| {
            field.read.set(true);
            &field.value
        })
    }

    /// Marks every member as read, and everything below. Gives the number of values.
    pub(super) fn read_whole(&self) -> usize {
        let read = |field: &Field<'_>| {
            field.read.set(true);
            field.value.read_whole()
        };
        self.fields.iter().map(read).sum()
    }

    /// Members with whether a type has read them.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (&str, &Value<'a>, bool)> {
        self.fields.iter().map(|field| (field.name.as_ref(), &field.value, field.read.get()))
    }
}

/// Repeated members become one list, as JSON would have it.
impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        if !self.has_repeated_names() {
            for field in &self.fields {
                map.serialize_entry(field.name.as_ref(), &field.value)?;
            }
            return map.end();
        }
        let mut at = HashMap::with_capacity(self.fields.len());
        let mut members: Vec<(&str, Vec<&Value<'_>>)> = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            match at.entry(field.name.as_ref()) {
                Entry::Vacant(entry) => {
                    entry.insert(members.len());
                    members.push((field.name.as_ref(), vec![&field.value]));
                }
                Entry::Occupied(entry) => members[*entry.get()].1.push(&field.value),
            }
        }
        for (name, values) in members {
            match values.as_slice() {
                [one] => map.serialize_entry(name, one)?,
                many => map.serialize_entry(name, many)?,
            }
        }
        map.end()
    }
}
