//! What may be absent, lists, and what no type describes.

use std::borrow::Cow;

use super::{Reading, Unreadable, Wire, find};
use crate::payload::{MAX_OPAQUE_NODES, Number, Object, Value};

/// A value that may be absent. An empty one is absent too, unless it is text.
impl<T: Wire + Optional> Wire for Option<T> {
    const IS_NESTED: bool = T::IS_NESTED;

    fn absent() -> Self {
        None
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        let object_counts = T::IS_OBJECT && value.as_object().is_some();
        if T::EMPTY_IS_ABSENT && is_empty(value) && !object_counts {
            return Ok(None);
        }
        T::read(value, reading).map(Some)
    }

    fn write(&self) -> Option<Value<'static>> {
        self.as_ref().and_then(T::write)
    }

    fn read_field(object: &Object<'_>, names: &[&'static str], hint: &mut usize, reading: &mut Reading) -> Self {
        let value = find(object, names, hint).filter(|value| !matches!(value, Value::Null));
        value.and_then(|value| reading.field(value, names)).flatten()
    }
}

/// A type that can stand in an `Option`.
pub trait Optional {
    /// Whether an empty element means that there is no value. Only text can be empty and there.
    const EMPTY_IS_ABSENT: bool = true;

    /// Whether an object without members is a value, too.
    const IS_OBJECT: bool = false;
}

impl Optional for String {
    const EMPTY_IS_ABSENT: bool = false;
}
impl Optional for i64 {}
impl Optional for u64 {}
impl Optional for f64 {}
impl Optional for bool {}
impl Optional for serde_json::Value {
    const EMPTY_IS_ABSENT: bool = false;
}

pub(super) fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// A list: repeated elements, a JSON list, or the one item itself. An empty element is an empty list. An item that cannot
/// be read is recorded, and left out.
impl<T: Wire> Wire for Vec<T> {
    const IS_NESTED: bool = true;

    fn absent() -> Self {
        Self::new()
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        match value {
            Value::List(items) => {
                // Collecting would grow the list step by step.
                let mut read = Self::with_capacity(items.len());
                items.iter().for_each(|item| read.extend(reading.item(item)));
                Ok(read)
            }
            empty if is_empty(empty) => Ok(Self::new()),
            one => Ok(vec![T::read(one, reading)?]),
        }
    }

    fn write(&self) -> Option<Value<'static>> {
        (!self.is_empty()).then(|| Value::List(self.iter().filter_map(T::write).collect()))
    }

    fn read_field(object: &Object<'_>, names: &[&'static str], _: &mut usize, reading: &mut Reading) -> Self {
        let mut all = Self::new();
        for name in names {
            for value in object.read_all(name) {
                let Some(mut read) = reading.field::<Self>(value, names) else { continue };
                if all.is_empty() {
                    all = read; // As a rule there is one list.
                } else {
                    all.append(&mut read);
                }
            }
        }
        all
    }
}

/// An object that the catalogue does not describe: kept as it is.
impl Wire for serde_json::Value {
    fn absent() -> Self {
        Self::Null
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        reading.opaque += value.read_whole();
        if reading.opaque > MAX_OPAQUE_NODES {
            return Err(Unreadable::expected("a smaller value"));
        }
        serde_json::to_value(value).map_err(|_| Unreadable::expected("a JSON value"))
    }

    fn write(&self) -> Option<Value<'static>> {
        (!self.is_null()).then(|| json(self))
    }
}

fn json(value: &serde_json::Value) -> Value<'static> {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Number(match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Number::Int(number),
            (None, Some(number)) => Number::UInt(number),
            (None, None) => Number::Float(number.as_f64().unwrap_or_default()),
        }),
        serde_json::Value::String(text) => Value::Text(Cow::Owned(text.clone())),
        serde_json::Value::Array(items) => Value::List(items.iter().map(json).collect()),
        serde_json::Value::Object(members) => {
            let mut object = Object::with_capacity(members.len());
            members.iter().for_each(|(name, value)| object.push(name.clone(), json(value)));
            Value::Object(object)
        }
    }
}
