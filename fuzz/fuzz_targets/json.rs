//! JSON is read without a panic, and what is written of it reads as the same tree.

#![no_main]

use echostr::payload::{self, Form, PayloadError, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(tree) = payload::parse(Form::Json, text) else { return };
    let written = payload::to_json(&tree);
    match payload::parse(Form::Json, &written) {
        Ok(again) if repeats(&tree) => assert_eq!(payload::to_json(&again), written),
        Ok(again) => assert_eq!(again, tree, "{written}"),
        // Members of one name become a list, which is a level more.
        Err(PayloadError::TooDeep | PayloadError::TooMany(_)) if repeats(&tree) => {}
        Err(error) => panic!("{error}: {written}"),
    }
    let Value::Object(object) = &tree else { panic!("the root is an object") };
    let _ = payload::write_xml(object);
});

/// Whether an object has two members of one name.
fn repeats(value: &Value<'_>) -> bool {
    match value {
        Value::List(items) => items.iter().any(repeats),
        Value::Object(object) => {
            let mut names: Vec<_> = object.iter().map(|(name, _)| name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            names.len() < all || object.iter().any(|(_, value)| repeats(value))
        }
        _ => false,
    }
}
