//! `where`: what the fields of an event have to be.

use serde_json::Value;

/// Tests of fields, all of which have to hold. Without any, every event is meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Condition(Vec<(Vec<String>, Test)>);

/// What one field has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// One of these values.
    OneOf(Vec<Scalar>),
    /// A text that begins with this.
    Prefix(String),
    /// There, or not there; `null` is not there.
    Exists(bool),
}

/// A value that fields are compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A flag.
    Bool(bool),
}

impl Condition {
    /// Adds a test of a field, by its dotted path; in lists every item is looked at.
    pub(crate) fn add(&mut self, path: &str, test: Test) {
        self.0.push((path.split('.').map(str::to_owned).collect(), test));
    }

    /// Whether there is nothing to test.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an event is meant, by its JSON form.
    pub(crate) fn holds(&self, data: &Value) -> bool {
        self.0.iter().all(|(path, test)| match test {
            Test::Exists(expected) => any(data, path, &|value| !value.is_null()) == *expected,
            Test::OneOf(values) => any(data, path, &|value| values.iter().any(|other| other.equals(value))),
            Test::Prefix(prefix) => any(data, path, &|value| match value {
                Value::String(text) => text.starts_with(&**prefix),
                Value::Number(number) => number.to_string().starts_with(&**prefix),
                _ => false,
            }),
        })
    }
}

/// Whether any value at a path is such.
fn any(value: &Value, path: &[String], is_such: &dyn Fn(&Value) -> bool) -> bool {
    match (value, path.split_first()) {
        // A list as a whole is there even if nothing is in it.
        (Value::Array(items), None) => is_such(value) || items.iter().any(|item| any(item, path, is_such)),
        (Value::Array(items), Some(_)) => items.iter().any(|item| any(item, path, is_such)),
        (value, None) => is_such(value),
        (Value::Object(members), Some((name, rest))) => {
            members.get(name).is_some_and(|value| any(value, rest, is_such))
        }
        _ => false,
    }
}

impl Scalar {
    /// A number may come as text, and the other way round: XML has only text.
    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::String(other)) => text == other,
            (Self::Text(text), Value::Number(other)) => {
                let (text, other) = (text.trim(), other.to_string());
                text == other || same_number(text, &other)
            }
            (Self::Text(text), Value::Bool(other)) => text.eq_ignore_ascii_case(if *other { "true" } else { "false" }),
            (Self::Int(number), Value::Number(other)) => {
                other.as_i64() == Some(*number) || same_number(&number.to_string(), &other.to_string())
            }
            (Self::Float(number), Value::Number(other)) => same_number(&number.to_string(), &other.to_string()),
            (Self::Int(number), Value::String(other)) => same_number(&number.to_string(), other.trim()),
            (Self::Float(number), Value::String(other)) => same_number(&number.to_string(), other.trim()),
            (Self::Bool(flag), Value::Bool(other)) => flag == other,
            (Self::Bool(flag), Value::String(other)) => {
                other.eq_ignore_ascii_case(if *flag { "true" } else { "false" })
            }
            _ => false,
        }
    }
}

/// Whether two texts are the same number. Whole ones are compared digit by digit: ids are larger than what a float tells apart.
fn same_number(a: &str, b: &str) -> bool {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(path: &str, test: Test, data: &Value) -> bool {
        let mut condition = Condition::default();
        condition.add(path, test);
        condition.holds(data)
    }

    #[test]
    fn texts_and_numbers_are_compared_by_what_they_say() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        for (scalar, value, expected) in [
            (text("a"), json!("a"), true),
            (text("a"), json!("A"), false),
            (text("5"), json!(5), true),
            (text("5.0"), json!(5), true),
            (text("x"), json!(5), false),
            (Scalar::Int(5), json!("5"), true),
            (Scalar::Int(5), json!(5), true),
            (Scalar::Int(5), json!(5.0), true),
            (Scalar::Int(5), json!("5a"), false),
            (Scalar::Int(9_007_199_254_740_993), json!("9007199254740992"), false),
            (Scalar::Int(9_007_199_254_740_993), json!(9_007_199_254_740_992_i64), false),
            (text("18446744073709551615"), json!(u64::MAX), true),
            (text("18446744073709551614"), json!(u64::MAX), false),
            (Scalar::Float(1.5), json!("1.50"), true),
            (Scalar::Bool(true), json!(true), true),
            (Scalar::Bool(true), json!("true"), true),
            (Scalar::Bool(true), json!(1), false),
            (text(""), json!(""), true),
            (text("a"), json!(null), false),
            (text("a"), json!({"a": 1}), false),
        ] {
            let shown = format!("{scalar:?} {value}");
            assert_eq!(holds("F", Test::OneOf(vec![scalar]), &json!({ "F": value })), expected, "{shown}");
        }
    }

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let data = json!({ "Body": [{ "Type": "a", "N": [1, 2] }, { "Type": "b" }], "Empty": [], "Nil": null });
        let one = |text: &str| Test::OneOf(vec![Scalar::Text(text.to_owned())]);
        for (path, test, expected) in [
            ("Body.Type", one("b"), true),
            ("Body.Type", one("c"), false),
            ("Body.N", one("2"), true),
            ("Body.N.X", one("2"), false),
            ("Body.Type", Test::Prefix("b".to_owned()), true),
            ("Body.N", Test::Prefix("3".to_owned()), false),
            ("Body.Type", Test::Exists(true), true),
            ("Body.Gone", Test::Exists(false), true),
            ("Empty", Test::Exists(true), true),
            ("Empty.X", Test::Exists(true), false),
            ("Nil", Test::Exists(true), false),
            ("Nil", Test::Exists(false), true),
        ] {
            assert_eq!(holds(path, test.clone(), &data), expected, "{path} {test:?}");
        }
    }

    #[test]
    fn all_have_to_hold() {
        let mut condition = Condition::default();
        assert!(condition.is_empty() && condition.holds(&Value::Null));
        condition.add("A", Test::Exists(true));
        condition.add("A", Test::Prefix("/".to_owned()));
        condition.add("B", Test::OneOf(vec![Scalar::Int(1), Scalar::Int(2)]));
        assert!(condition.holds(&json!({ "A": "/x", "B": 2 })));
        assert!(!condition.holds(&json!({ "A": "x", "B": 2 })));
        assert!(!condition.holds(&json!({ "A": "/x" })));
    }
}
