//! The JSON form of an event: as the platform names it, with the values of its type, whatever form it came in.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use super::Decoded;
use crate::payload::{Number, Object, Value};

impl Decoded {
    /// The payload that was decoded, with the values of the type: numbers are numbers, and lists are lists. What is empty and
    /// may not be is left out. What the type does not carry, or could not read, stays as it came.
    pub fn view<'v>(&self, payload: &Value<'v>) -> Value<'v> {
        merged(payload, &self.to_value()).unwrap_or_else(|| payload.clone())
    }

    /// What the type carries of the payload that was decoded: a field that is absent or could not be read is absent, where
    /// [`Decoded::to_value`] has the empty value of its type.
    pub fn present(&self, payload: &Value<'_>) -> Value<'static> {
        present(self.to_value(), payload)
    }
}

/// One value, and what the type has made of it; `None` when the type takes it for absent.
fn merged<'v>(payload: &Value<'v>, typed: &Value<'static>) -> Option<Value<'v>> {
    match (payload, typed) {
        (Value::Object(payload), Value::Object(typed)) => Some(Value::Object(members(payload, typed))),
        (Value::List(items), Value::List(typed)) => Some(list(&items.iter().collect::<Vec<_>>(), typed)),
        // A list of one where one is expected, and the other way round.
        (Value::List(items), Value::Object(_)) if items.len() == 1 => merged(items.first()?, typed),
        (payload, _) if is_empty(payload) && !matches!((payload, typed), (Value::Text(_), Value::Text(_))) => None,
        (Value::Object(_), Value::List(typed)) => Some(list(&[payload], typed)),
        (Value::Object(_) | Value::List(_), _) => Some(payload.clone()),
        (_, Value::List(typed)) => Some(list(&[payload], typed)),
        (_, Value::Object(_)) => Some(payload.clone()),
        (Value::Text(text), Value::Number(_) | Value::Bool(_)) if !is_scalar(text) => Some(payload.clone()),
        (_, typed) => Some(typed.clone()),
    }
}

fn present(typed: Value<'static>, payload: &Value<'_>) -> Value<'static> {
    match (typed, payload) {
        (Value::Object(typed), Value::Object(payload)) => {
            let mut out = Object::with_capacity(typed.len());
            for (name, value) in typed.into_members() {
                match payload.get(&name) {
                    Some(from) if is_invented(&value, from) => {}
                    Some(from) => out.push(name, present(value, from)),
                    // What only XML has around some members, or another name of a member.
                    None => match value {
                        Value::Object(inside) => {
                            let inside = inside.into_members().filter(|(name, _)| payload.get(name).is_some());
                            let mut found = Object::default();
                            inside.for_each(|(name, value)| found.push(name, value));
                            if !found.is_empty() {
                                out.push(name, Value::Object(found));
                            }
                        }
                        value if is_zero(&value) => {}
                        value => out.push(name, value),
                    },
                }
            }
            Value::Object(out)
        }
        (Value::List(typed), Value::List(payload)) if typed.len() == payload.len() => {
            Value::List(typed.into_iter().zip(payload).map(|(typed, payload)| present(typed, payload)).collect())
        }
        (Value::List(typed), one @ Value::Object(_)) if typed.len() == 1 => {
            Value::List(typed.into_iter().map(|typed| present(typed, one)).collect())
        }
        (typed, _) => typed,
    }
}

/// Whether a value stands for one that is there, and empty or not to be read.
fn is_invented(typed: &Value<'_>, payload: &Value<'_>) -> bool {
    match payload {
        Value::Text(text) if matches!(typed, Value::Number(_) | Value::Bool(_)) => !is_scalar(text),
        Value::Object(_) | Value::List(_) | Value::Null => is_zero(typed),
        _ => false,
    }
}

/// Whether a value is the one that an absent field has.
fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Number(number) => matches!(number, Number::Int(0) | Number::UInt(0)) || *number == Number::Float(0.0),
        Value::Bool(flag) => !flag,
        value => is_empty(value),
    }
}

/// Whether a text is what numbers and flags are read from.
fn is_scalar(text: &str) -> bool {
    let text = text.trim();
    let is_flag = || ["true", "false"].iter().any(|flag| text.eq_ignore_ascii_case(flag));
    text.parse::<f64>().is_ok_and(f64::is_finite) || is_flag()
}

fn is_empty(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.trim().is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Items side by side, unless the type has left some out.
fn list<'v>(items: &[&Value<'v>], typed: &[Value<'static>]) -> Value<'v> {
    let as_it_came = |item: &&Value<'v>| (*item).clone();
    Value::List(if items.len() == typed.len() {
        items.iter().zip(typed).map(|(item, typed)| merged(item, typed).unwrap_or(Value::Null)).collect()
    } else {
        items.iter().map(as_it_came).collect()
    })
}

fn members<'v>(payload: &Object<'v>, typed: &Object<'static>) -> Object<'v> {
    let mut out = Object::with_capacity(payload.len());
    let mut wrapped: Vec<(&str, Object<'v>)> = Vec::new();
    for (name, values, is_read) in grouped(payload) {
        let (wrapper, known) = match typed.get(&name) {
            Some(typed) => (None, Some(typed)),
            None if is_read => wrapper_of(&name, payload, typed).unzip(),
            None => (None, None),
        };
        let value = match (known, values.as_slice()) {
            (Some(typed), [one]) => merged(one, typed),
            (Some(Value::List(typed)), several) => Some(list(&flattened(several), typed)),
            (Some(typed), [first, ..]) => merged(first, typed),
            // The type knows it, and it is not there.
            (None, [one]) if is_read && is_empty(one) => None,
            (None, several) => {
                several.iter().for_each(|value| out.push(name.clone(), (*value).clone()));
                continue;
            }
            (Some(_), []) => None,
        };
        match (value, wrapper) {
            (Some(value), None) => out.push(name, value),
            (Some(value), Some(wrapper)) => match wrapped.iter_mut().find(|(known, _)| *known == wrapper) {
                Some((_, object)) => object.push(name, value),
                None => {
                    let mut object = Object::default();
                    object.push(name, value);
                    wrapped.push((wrapper, object));
                }
            },
            (None, _) => {}
        }
    }
    wrapped.into_iter().for_each(|(name, object)| out.push(name.to_owned(), Value::Object(object)));
    out
}

/// An object around a member that some pushes leave out, and the member in there.
fn wrapper_of<'t>(
    name: &str,
    payload: &Object<'_>,
    typed: &'t Object<'static>,
) -> Option<(&'t str, &'t Value<'static>)> {
    typed.iter().find_map(|(wrapper, inside)| {
        let inside = inside.as_object()?.get(name)?;
        payload.get(wrapper).is_none().then_some((wrapper, inside))
    })
}

/// Items of repeated members, and of lists among them, in one list.
fn flattened<'g, 'v>(values: &[&'g Value<'v>]) -> Vec<&'g Value<'v>> {
    let mut items = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::List(several) => items.extend(several),
            one => items.push(one),
        }
    }
    items
}

/// The values of each name, in the order of the first ones, and whether the type has read them.
fn grouped<'g, 'v>(payload: &'g Object<'v>) -> Vec<(Cow<'v, str>, Vec<&'g Value<'v>>, bool)> {
    let mut groups: Vec<(Cow<'v, str>, Vec<&'g Value<'v>>, bool)> = Vec::with_capacity(payload.len());
    let mut known: HashMap<&str, usize> = HashMap::with_capacity(payload.len());
    for (name, value, is_read) in payload.marks() {
        match known.entry(name) {
            Entry::Occupied(at) => {
                if let Some((_, values, _)) = groups.get_mut(*at.get()) {
                    values.push(value);
                }
            }
            Entry::Vacant(new) => {
                new.insert(groups.len());
                groups.push((Cow::Owned(name.to_owned()), vec![value], is_read));
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use crate::{
        event,
        payload::{self, Form},
    };

    fn view(id: &str, form: Form, text: &str) -> serde_json::Value {
        let tree = payload::parse(form, text).unwrap();
        let decoded = event::by_id(id).unwrap().decode(&tree, form).unwrap();
        serde_json::from_str(&payload::to_json(&decoded.view(&tree))).unwrap()
    }

    #[test]
    fn each_sibling_is_there_once() {
        let record = "<SpRecord><SpStatus>1</SpStatus><New>x</New></SpRecord>";
        for count in [1, 2, 3, 200, 2_000] {
            let text = format!("<xml><ApprovalInfo><SpNo>1</SpNo>{}</ApprovalInfo></xml>", record.repeat(count));
            let view = view("wecom.event.sys_approval_change", Form::Xml, &text);
            let records = view["ApprovalInfo"]["SpRecord"].as_array().unwrap();
            assert_eq!(records.len(), count);
            assert!(records.iter().all(|record| record["SpStatus"] == 1 && record["New"] == "x"), "{view}");
        }
    }

    #[test]
    fn a_value_has_its_type_whatever_it_came_as() {
        let expected = serde_json::json!({ "MsgType": "text", "CreateTime": 1_620_963_428, "Content": "", "New": "1" });
        for (form, text) in [
            (Form::Json, r#"{"MsgType":"text","CreateTime":"1620963428","Content":"","New":"1","AgentID":""}"#),
            (Form::Json, r#"{"MsgType":"text","CreateTime":1620963428,"Content":"","New":"1","AgentID":null}"#),
            (
                Form::Xml,
                "<xml><MsgType>text</MsgType><CreateTime>1620963428</CreateTime><Content></Content><New>1</New><AgentID/></xml>",
            ),
        ] {
            assert_eq!(view("wecom.message.text", form, text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_invented() {
        let present = |id: &str, form, text: &str| {
            let tree = payload::parse(form, text).unwrap();
            payload::to_json(&event::by_id(id).unwrap().decode(&tree, form).unwrap().present(&tree))
        };
        for (form, text, expected) in [
            (Form::Json, r#"{"MsgType":"text"}"#, r#"{"MsgType":"text"}"#),
            (Form::Json, r#"{"MsgType":"text","CreateTime":"noon","Content":["a"]}"#, r#"{"MsgType":"text"}"#),
            (
                Form::Json,
                r#"{"MsgType":"text","CreateTime":0,"Content":""}"#,
                r#"{"CreateTime":0,"MsgType":"text","Content":""}"#,
            ),
            (
                Form::Xml,
                "<xml><MsgType>text</MsgType><CreateTime>0</CreateTime><MsgId/><AgentID></AgentID></xml>",
                r#"{"CreateTime":0,"MsgType":"text","MsgId":""}"#,
            ),
        ] {
            assert_eq!(present("wecom.message.text", form, text), expected, "{text}");
        }
    }

    #[test]
    fn what_could_not_be_read_stays_as_it_came() {
        let text = r#"{"MsgType":"text","CreateTime":"noon","Content":["a"],"MsgId":{"x":1}}"#;
        let expected: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(view("wecom.message.text", Form::Json, text), expected);
    }
}
