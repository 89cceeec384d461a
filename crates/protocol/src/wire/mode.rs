//! Each way of reading a field is a module with `read` and `write`; `wire!` picks it by name.

use std::borrow::Cow;

use super::{Fields, Optional, Reading, Unreadable, Wire, find};
use crate::payload::{MAX_NODES, Number, Object, Value};

/// The field as its type reads it.
pub(crate) mod plain {
    use super::{Object, Reading, Wire};

    pub(crate) fn read<T: Wire>(
        object: &Object<'_>,
        names: &[&'static str],
        hint: &mut usize,
        reading: &mut Reading,
    ) -> T {
        T::read_field(object, names, hint, reading)
    }

    pub(crate) fn write<T: Wire>(field: &T, object: &mut Object<'static>, names: &[&'static str]) {
        if let Some(name) = names.first() {
            field.write_field(object, name);
        }
    }
}

/// A field read through another type that says how: `T` becomes `Via` and back.
macro_rules! via {
    ($(#[$doc:meta])* $mode:ident, $via:ident) => {
        $(#[$doc])*
        pub(crate) mod $mode {
            use super::{$via, Object, Reading, Through, plain};

            pub(crate) fn read<T: Through<$via>>(
                object: &Object<'_>,
                names: &[&'static str],
                hint: &mut usize,
                reading: &mut Reading,
            ) -> T {
                T::from_wire(plain::read(object, names, hint, reading))
            }

            pub(crate) fn write<T: Through<$via>>(field: &T, object: &mut Object<'static>, names: &[&'static str]) {
                plain::write(&field.to_wire(), object, names);
            }
        }
    };
}

via!(
    /// A `bool` written 0 or 1.
    flag, Flag
);
via!(
    /// A list written as comma-separated text.
    csv, Csv
);
via!(
    /// Text with the spaces around it.
    verbatim, Verbatim
);

/// An object that only XML has.
pub(crate) mod wrapper {
    use super::{Fields, Object, Reading, Value, Wire, find, plain};

    pub(crate) fn read<T: Wire + Fields>(
        object: &Object<'_>,
        names: &[&'static str],
        hint: &mut usize,
        reading: &mut Reading,
    ) -> T {
        match find(object, names, hint) {
            None | Some(Value::Null) => T::read_fields(object, reading),
            Some(value) => reading.field(value, names).unwrap_or_else(T::absent),
        }
    }

    pub(crate) use plain::write;
}

/// An object whose fields stand in the parent.
pub(crate) mod flatten {
    use super::{Fields, Object, Reading};

    pub(crate) fn read<T: Fields>(object: &Object<'_>, _: &[&'static str], _: &mut usize, reading: &mut Reading) -> T {
        T::read_fields(object, reading)
    }

    pub(crate) fn write<T: Fields>(field: &T, object: &mut Object<'static>, _: &[&'static str]) {
        field.write_fields(object);
    }
}

/// A field type that is read through `Via`, itself or in an `Option`.
pub(crate) trait Through<Via>: Sized {
    type Wire: Wire;
    fn from_wire(wire: Self::Wire) -> Self;
    fn to_wire(&self) -> Self::Wire;
}

/// `bool` written 0 or 1.
pub(crate) struct Flag(bool);
/// `Vec<String>` written as comma-separated text.
pub(crate) struct Csv(Vec<String>);
/// Text with the spaces around it.
pub(crate) struct Verbatim(String);

macro_rules! through {
    ($via:ident, $inner:ty) => {
        impl Optional for $via {}

        impl Through<$via> for $inner {
            type Wire = $via;
            fn from_wire(wire: $via) -> Self {
                wire.0
            }
            fn to_wire(&self) -> $via {
                $via(self.clone())
            }
        }

        impl Through<$via> for Option<$inner> {
            type Wire = Option<$via>;
            fn from_wire(wire: Option<$via>) -> Self {
                wire.map(|wire| wire.0)
            }
            fn to_wire(&self) -> Option<$via> {
                self.clone().map($via)
            }
        }
    };
}

through!(Flag, bool);
through!(Csv, Vec<String>);
through!(Verbatim, String);

impl Wire for Flag {
    fn absent() -> Self {
        Self(false)
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        bool::read(value, reading).map(Self).map_err(|_| Unreadable::expected("a flag"))
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Number(Number::Int(self.0.into())))
    }
}

impl Wire for Csv {
    const IS_NESTED: bool = true;

    fn absent() -> Self {
        Self(Vec::new())
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        let texts = match value {
            Value::List(_) => Vec::read(value, reading)?,
            one => vec![String::read(one, reading)?],
        };
        let items = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty());
        let items: Vec<_> = items.take(MAX_NODES + 1).map(str::to_owned).collect();
        // As a list of elements it would have been refused.
        if items.len() > MAX_NODES { Err(Unreadable::expected("a shorter list")) } else { Ok(Self(items)) }
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Text(Cow::Owned(self.0.join(","))))
    }
}

impl Wire for Verbatim {
    fn absent() -> Self {
        Self(String::new())
    }

    fn read(value: &Value<'_>, reading: &mut Reading) -> Result<Self, Unreadable> {
        match value {
            Value::Text(text) => Ok(Self(text.clone().into_owned())),
            other => String::read(other, reading).map(Self),
        }
    }

    fn write(&self) -> Option<Value<'static>> {
        Some(Value::Text(Cow::Owned(self.0.clone())))
    }
}
