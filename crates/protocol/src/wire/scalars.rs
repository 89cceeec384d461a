//! Text, numbers and flags.

use std::borrow::Cow;

use super::{Reading, Unreadable, Wire, trimmed};
use crate::payload::{Number, Value};

/// Text; ids that are numbers today and text tomorrow.
impl Wire for String {
    fn absent() -> Self {
        Self::new()
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        match value {
            Value::Text(text) => Ok(trimmed(text, reading).to_owned()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            // An element that is empty today and has children tomorrow, or `{}` for "nothing".
            Value::Object(object) if object.is_empty() => Ok(Self::new()),
            _ => Err(Unreadable::expected("text")),
        }
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Text(Cow::Owned(self.clone())))
    }
}

/// The text of a scalar that is not empty; `None` when it is empty and so stands for nothing.
fn scalar<'v>(value: &'v Value<'_>, expected: &'static str) -> Result<Option<Cow<'v, str>>, Unreadable> {
    match value {
        Value::Text(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(Cow::Borrowed)),
        Value::Number(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Value::Bool(flag) => Ok(Some(Cow::Borrowed(if *flag { "1" } else { "0" }))),
        Value::Object(object) if object.is_empty() => Ok(None),
        _ => Err(Unreadable::expected(expected)),
    }
}

macro_rules! whole_number {
    ($type:ty, $expected:literal, $number:expr) => {
        /// A whole number, also as text (`"12"`, `"12.0"`).
        impl Wire for $type {
            fn absent() -> Self {
                0
            }

            fn read(value: &Value<'_>, _: &mut Reading) -> Result<Self, Unreadable> {
                match value {
                    Value::Number(Number::Int(number)) => {
                        Self::try_from(*number).map_err(|_| Unreadable::expected($expected))
                    }
                    _ => match scalar(value, $expected)? {
                        None => Ok(0),
                        Some(text) => whole(&text).ok_or(Unreadable::expected($expected)),
                    },
                }
            }

            fn write(&self) -> Option<Value<'static>> {
                Some(Value::Number($number(*self)))
            }
        }
    };
}

fn whole<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    digits.parse().ok()
}

fn unsigned(number: u64) -> Number {
    i64::try_from(number).map_or(Number::UInt(number), Number::Int)
}

whole_number!(i64, "a whole number", Number::Int);
whole_number!(u64, "a whole number from 0", unsigned);

/// A number, also as text.
impl Wire for f64 {
    fn absent() -> Self {
        0.0
    }

    fn read(value: &Value<'_>, _: &mut Reading) -> Result<Self, Unreadable> {
        const EXPECTED: &str = "a number";
        match scalar(value, EXPECTED)? {
            None => Ok(0.0),
            Some(text) => {
                let number = Some(&*text).filter(|text| is_short_number(text)).and_then(|text| text.parse().ok());
                number.filter(|number: &Self| number.is_finite()).ok_or(Unreadable::expected(EXPECTED))
            }
        }
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Number(Number::Float(*self)))
    }
}

/// Whether a number is as short as numbers are. Of one that is longer, and most of all of one with an exponent, it can take
/// a thousand times as long to find the nearest that there is.
fn is_short_number(text: &str) -> bool {
    const LONGEST: usize = "-2.2250738585072014e-308".len();
    const LONGEST_PLAIN: usize = 64;
    text.len() <= LONGEST || (text.len() <= LONGEST_PLAIN && !text.contains(['e', 'E']))
}

/// A JSON boolean; `true` and `false` in any spelling; a whole number, which is true when it is not 0.
impl Wire for bool {
    fn absent() -> Self {
        false
    }

    fn read(value: &Value<'_>, _: &mut Reading) -> Result<Self, Unreadable> {
        const EXPECTED: &str = "true or false";
        if let Value::Bool(flag) = value {
            return Ok(*flag);
        }
        match scalar(value, EXPECTED)?.as_deref() {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => whole::<i64>(text).map(|number| number != 0).ok_or(Unreadable::expected(EXPECTED)),
        }
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Bool(*self))
    }
}
