//! Reads JSON.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::{Form, MAX_DEPTH, Number, Object, PayloadError, Value};

/// As how many nodes a JSON number counts that is not whole: to read one exactly can take as long as so many others.
pub(super) const FLOAT_NODES: usize = 10;

pub(super) fn parse(text: &str, most: usize) -> Result<Value<'_>, PayloadError> {
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
