//! Pushes of stores come wrapped and flat: what the catalogue calls a wrapper may be left out, and its fields then stand in
//! its place. Both are one event.

use echostr::{
    catalog::Entry,
    event,
    payload::{self, Form, Object, Value},
};

use crate::catalogue::{PLATFORMS, leaves};

/// A copy in which what is in the wrapper stands where the wrapper was.
fn flat<'p>(tree: &Value<'p>, wrapper: &str) -> Value<'p> {
    let mut lifted = Object::default();
    for (name, value) in tree.as_object().unwrap().iter() {
        match value {
            Value::Object(inside) if name == wrapper => {
                inside.iter().for_each(|(name, value)| lifted.push(name.to_owned(), value.clone()));
            }
            value => lifted.push(name.to_owned(), value.clone()),
        }
    }
    Value::Object(lifted)
}

/// The wrapped sample and the flat one, and their wrapper.
fn check(entry: &Entry, form: Form, text: &str, wrapper: &str) {
    let id = &entry.id;
    let wrapped = payload::parse(form, text.trim()).unwrap();
    let object = flat(&wrapped, wrapper);
    let written = match (form, &object) {
        (Form::Xml, Value::Object(object)) => payload::write_xml(object),
        (_, object) => payload::to_json(object),
    };
    let flat = payload::parse(form, &written).unwrap();
    assert!(flat.as_object().unwrap().get(wrapper).is_none(), "{id}: {written}");
    let spec = event::by_id(id).unwrap();
    let [one, other] = [&wrapped, &flat].map(|tree| spec.decode(tree, form).unwrap());
    assert_eq!(one.to_value(), other.to_value(), "{id}: {written}");
    assert!(other.unreadable.is_empty(), "{id}: {:?}", other.unreadable);
    assert!(flat.unread().is_empty(), "{id}: {:?}", flat.unread());
    assert_eq!(leaves(&one.view(&wrapped)), leaves(&other.view(&flat)), "{id}: {written}");
    let inside = other.view(&flat);
    let inside =
        inside.as_object().and_then(|view| view.get(wrapper)?.as_object()).map_or(0, |inside| inside.iter().count());
    assert!(inside > 0, "{id}: the view of {written} has no {wrapper}");
}

#[test]
fn a_flat_push_is_the_wrapped_one() {
    let mut seen = 0;
    for (platform, _) in PLATFORMS {
        for entry in echostr::catalog::entries(platform).unwrap() {
            let Some(wrapper) = entry.fields.iter().find(|field| field.wrapper) else { continue };
            for form in [Form::Xml, Form::Json] {
                let sample = match form {
                    Form::Xml => entry.sample_xml.as_deref(),
                    Form::Json => entry.sample_json.as_deref(),
                };
                let Some(text) = sample else { continue };
                check(&entry, form, text, &wrapper.name);
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen}");
}
