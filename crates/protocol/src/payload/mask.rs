//! Takes values out of a payload that are not for everybody.

use std::borrow::Cow;

use super::Value;

/// What stands for a value that is not shown.
pub const MASK: &str = "***";

impl Value<'_> {
    /// Replaces what is at a path of names; in lists, of every item. Returns the texts that were there.
    pub fn mask(&mut self, path: &[String]) -> Vec<String> {
        let mut masked = Vec::new();
        mask(self, path, &mut masked);
        masked
    }
}

fn mask(value: &mut Value<'_>, path: &[String], masked: &mut Vec<String>) {
    match (value, path.split_first()) {
        (Value::List(items), Some(_)) => items.iter_mut().for_each(|item| mask(item, path, masked)),
        (Value::Object(object), Some((name, rest))) => {
            object.all_mut(name).for_each(|value| mask(value, rest, masked));
        }
        (_, Some(_)) | (Value::Null, None) => {}
        (value, None) => {
            texts(value, masked);
            *value = Value::Text(Cow::Borrowed(MASK));
        }
    }
}

fn texts(value: &Value<'_>, found: &mut Vec<String>) {
    match value {
        Value::Text(text) => found.push(text.trim().to_owned()),
        Value::Number(number) => found.push(number.to_string()),
        Value::List(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(object) => object.iter().for_each(|(_, value)| texts(value, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::payload::{Form, parse, to_json};

    #[test]
    fn what_is_at_a_path_is_masked_in_lists_too() {
        let text = r#"{"a":"x","b":[{"c":"1","d":2},{"c":["3",{"e":"4"}]}],"n":null,"c":5}"#;
        for (path, expected, masked) in [
            ("a", r#"{"a":"***","b":[{"c":"1","d":2},{"c":["3",{"e":"4"}]}],"n":null,"c":5}"#, vec!["x"]),
            ("b.c", r#"{"a":"x","b":[{"c":"***","d":2},{"c":"***"}],"n":null,"c":5}"#, vec!["1", "3", "4"]),
            ("b.d", r#"{"a":"x","b":[{"c":"1","d":"***"},{"c":["3",{"e":"4"}]}],"n":null,"c":5}"#, vec!["2"]),
            ("n", text, vec![]),
            ("a.b", text, vec![]),
            ("x", text, vec![]),
        ] {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            let mut tree = parse(Form::Json, text).unwrap();
            assert_eq!(tree.mask(&path), masked);
            assert_eq!(to_json(&tree), expected, "{path:?}");
        }
        let mut tree = parse(Form::Xml, "<xml><a><b>1</b></a><a><b>2</b></a></xml>").unwrap();
        assert_eq!(tree.mask(&["a".to_owned(), "b".to_owned()]), ["1", "2"]);
        assert_eq!(to_json(&tree), r#"{"a":[{"b":"***"},{"b":"***"}]}"#);
    }
}
