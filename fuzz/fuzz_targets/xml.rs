//! XML is read without a panic, and what is written of it reads as the same tree.

#![no_main]

use echostr::payload::{self, Form, Object, PayloadError, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(tree) = payload::parse(Form::Xml, text) else { return };
    let tree = carried(&tree);
    let _ = payload::to_json(&tree);
    if tree.as_object().is_none_or(Object::is_empty) {
        return;
    }
    // Right below the root texts do not repeat.
    let mut root = Object::default();
    root.push("tree", tree);
    let written = payload::write_xml(&root);
    match payload::parse(Form::Xml, &written) {
        Err(PayloadError::TooDeep | PayloadError::TooMany(_)) => {}
        again => assert_eq!(again, Ok(Value::Object(root)), "{written}"),
    }
});

/// The tree without the characters that XML cannot carry and the writer so leaves out.
fn carried(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Object(members) => {
            let mut object = Object::default();
            members.iter().for_each(|(name, value)| object.push(name.to_owned(), carried(value)));
            Value::Object(object)
        }
        Value::Text(text) => {
            let odd = |c: char| (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{FFFE}' | '\u{FFFF}');
            Value::Text(text.replace(odd, "").into())
        }
        _ => panic!("XML has only text and elements"),
    }
}
