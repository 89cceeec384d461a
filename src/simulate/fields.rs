//! Fields of a sample that are replaced: a name that the event does not have is refused.

use std::borrow::Cow;

use super::SimulateError;
use crate::{
    catalog::{self, Entry},
    config::nearest,
    payload::{Number, Object, Value},
};

/// Names that are listed where none is near.
const MAX_LISTED: usize = 12;

/// Sets a field by its dotted path. A number stays a number where it was one.
///
/// # Errors
/// [`SimulateError::Field`] when the sample has no such field, and the catalogue neither.
pub(super) fn set(entry: &Entry, tree: &mut Object<'_>, path: &str, value: &str) -> Result<(), SimulateError> {
    let mut known = Vec::new();
    collect(tree, "", &mut known);
    known.extend(catalog::paths(entry)?);
    let is_within = |other: &String| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    if let Some(inner) = known.iter().find(|other| is_within(other)) {
        return Err(wrong(path, format!("has fields of its own: set one of them, such as {inner}"), true));
    }
    if !known.iter().any(|other| other == path) {
        return Err(unknown(path, &known));
    }
    let mut object = tree;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let was_number = matches!(object.get(part), Some(Value::Number(_)));
            let number = value.parse().ok().filter(|_| was_number).map(|number| Value::Number(Number::Int(number)));
            object.set(part, number.unwrap_or_else(|| Value::Text(Cow::Owned(value.to_owned()))));
            return Ok(());
        }
        if object.get(part).is_none() {
            object.set(part, Value::Object(Object::new()));
        }
        object = object.object_mut(part).ok_or_else(|| wrong(path, format!("`{part}` is no object"), true))?;
    }
    Ok(())
}

/// The paths of a tree; of a list those of its first item.
fn collect(object: &Object<'_>, above: &str, paths: &mut Vec<String>) {
    for (name, value) in object.iter() {
        let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        let inner = match value {
            Value::Object(object) => Some(object),
            Value::List(items) => items.first().and_then(Value::as_object),
            _ => None,
        };
        paths.push(path.clone());
        if let Some(object) = inner {
            collect(object, &path, paths);
        }
    }
}

fn unknown(path: &str, known: &[String]) -> SimulateError {
    let is_index = |part: &&str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
    let plain: String = path.split('.').map(without_index).filter(|part| !is_index(part)).collect::<Vec<_>>().join(".");
    let near = nearest_of(&plain, known);
    if plain != path {
        let indexed = path.split('.').find(|part| without_index(part) != *part || is_index(part)).unwrap_or(path);
        let instead = near.map_or_else(String::new, |near| format!(": {near}"));
        return wrong(indexed, format!("lists need no index{instead}"), false);
    }
    let hint = near.map(|near| format!("did you mean {near}?"));
    let listed = || {
        let names: Vec<&str> =
            known.iter().map(String::as_str).filter(|name| !name.contains('.')).take(MAX_LISTED).collect();
        format!("fields are {}", names.join(", "))
    };
    wrong(path, hint.unwrap_or_else(listed), false)
}

/// The field that is written most alike; its last part alone will do.
fn nearest_of<'k>(path: &str, known: &'k [String]) -> Option<&'k str> {
    let paths = || known.iter().map(String::as_str);
    let by_name = || paths().find(|other| other.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(path)));
    let last = |path: &'k str| path.rsplit('.').next().unwrap_or(path);
    let by_last = || {
        let name = nearest(path, paths().map(last))?;
        paths().find(|other| last(other) == name)
    };
    let exact = || paths().find(|other| *other == path);
    exact().or_else(by_name).or_else(|| nearest(path, paths())).or_else(by_last)
}

fn without_index(part: &str) -> &str {
    part.split_once('[').map_or(part, |(name, _)| name)
}

fn wrong(field: &str, hint: String, is_known: bool) -> SimulateError {
    let field = field.to_owned();
    if is_known { SimulateError::Unsettable { field, hint } } else { SimulateError::Field { field, hint } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Platform, simulate::Push};

    fn sample(id: &str, field: &str) -> Result<String, String> {
        let platform: Platform = id.split('.').next().unwrap().parse().unwrap();
        let entry = catalog::entries(platform).unwrap().into_iter().find(|entry| entry.id == id).unwrap();
        let push = Push::sample(&entry, None, &[(field.to_owned(), "VALUE".to_owned())], 1);
        push.map(|push| push.payload).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_field_that_the_event_has_is_set_also_where_the_sample_lacks_it() {
        let im = "im.command.c2c.before_send_msg";
        for (id, field) in [
            ("mp.message.text", "Content"),
            (im, "MsgBody.MsgContent.Text"),
            (im, "From_Account"),
            (im, "CloudCustomData"),
            (im, "MsgBody.MsgContent.Desc"),
        ] {
            let set = sample(id, field);
            assert!(set.as_ref().is_ok_and(|payload| payload.contains("VALUE")), "{id} {field}: {set:?}");
        }
    }

    #[test]
    fn a_field_that_it_does_not_have_is_refused_with_the_nearest() {
        for (field, expected) in [
            ("Contnet", "no field `Contnet`; did you mean Content?"),
            ("content", "no field `content`; did you mean Content?"),
            ("Zzzzzzzzzzzz", "no field `Zzzzzzzzzzzz`; fields are ToUserName, FromUserName,"),
            ("Content[0]", "no field `Content[0]`; lists need no index: Content"),
            ("", "no field ``; fields are ToUserName,"),
            ("Content.Text", "no field `Content.Text`; "),
        ] {
            let wrong = sample("mp.message.text", field).expect_err(field);
            assert!(wrong.starts_with(expected), "{field}: {wrong}");
        }
        for (field, expected) in [
            ("MsgBody[0].MsgContent.Text", "no field `MsgBody[0]`; lists need no index: MsgBody.MsgContent.Text"),
            ("MsgBody.0.MsgContent.Text", "no field `0`; lists need no index: MsgBody.MsgContent.Text"),
            ("Text", "no field `Text`; did you mean MsgBody.MsgContent.Text?"),
            ("MsgBody.MsgContent.Txt", "no field `MsgBody.MsgContent.Txt`; did you mean MsgBody.MsgContent.Text?"),
            ("MsgBody", "`MsgBody` has fields of its own: set one of them, such as MsgBody.MsgType"),
        ] {
            let wrong = sample("im.command.c2c.before_send_msg", field).expect_err(field);
            assert_eq!(wrong, expected, "{field}");
        }
    }
}
