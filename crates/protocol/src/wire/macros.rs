//! The macros that declare types of the wire.

/// A struct and how each of its fields stands on the wire; the table in this module's documentation lists the ways.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty = $($mode:ident)? $($wire:literal)|*, )*
        }
    )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::wire::Fields for $name {
            #[allow(unused_mut, unused_variables, reason = "a type may have no field")]
            fn read_fields(
                object: &$crate::payload::Object<'_>,
                reading: &mut $crate::wire::Reading,
            ) -> Self {
                let mut hint = 0;
                Self {
                    $( $field: $crate::wire::wire_mode!([$($mode)?] read(object, &[$($wire),*], &mut hint, reading)), )*
                }
            }

            #[allow(unused_variables, reason = "a type may have no field")]
            fn write_fields(&self, object: &mut $crate::payload::Object<'static>) {
                $( $crate::wire::wire_mode!([$($mode)?] write(&self.$field, object, &[$($wire),*])); )*
            }
        }

        impl $crate::wire::Wire for $name {
            const IS_NESTED: bool = true;

            fn absent() -> Self {
                Self::default()
            }

            fn read(
                value: &$crate::payload::Value<'_>,
                reading: &mut $crate::wire::Reading,
            ) -> Result<Self, $crate::wire::Unreadable> {
                let object = $crate::wire::fields(value)?;
                Ok(object.map_or_else(Self::default, |object| {
                    <Self as $crate::wire::Fields>::read_fields(object, reading)
                }))
            }

            fn write(&self) -> Option<$crate::payload::Value<'static>> {
                let mut object = $crate::payload::Object::default();
                $crate::wire::Fields::write_fields(self, &mut object);
                Some($crate::payload::Value::Object(object))
            }
        }

        impl $crate::wire::Optional for $name {
            const IS_OBJECT: bool = true;
        }

        /// The JSON form, with the platform's own names.
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::wire::Wire::write(self).serialize(serializer)
            }
        }
    )+ };
}

macro_rules! wire_mode {
    ([] $step:ident $arguments:tt) => { $crate::wire::mode::plain::$step $arguments };
    ([$mode:ident] $step:ident $arguments:tt) => { $crate::wire::mode::$mode::$step $arguments };
}

/// An enumeration that is open to values nobody knows yet: they are kept and written back as they came.
macro_rules! open_enum {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident: $kind:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $($wire:literal)|+, )*
        }
    )+) => { $( $crate::wire::open_enum!(@$kind [$(#[$meta])*] $name { $( [$(#[$variant_meta])*] $variant = $($wire)|+, )* }); )+ };

    (@str [$($meta:tt)*] $name:ident { $( [$($variant_meta:tt)*] $variant:ident = $first:literal $(| $wire:literal)*, )* }) => {
        $($meta)*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $($variant_meta)* $variant, )*
            /// A value that is not listed.
            Unknown(String),
        }

        impl $name {
            /// The value as it stands on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $first, )*
                    Self::Unknown(value) => value,
                }
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                match value {
                    $( $first $(| $wire)* => Self::$variant, )*
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::from("")
            }
        }

        impl $crate::wire::Wire for $name {
            fn absent() -> Self {
                Self::default()
            }

            fn read(
                value: &$crate::payload::Value<'_>,
                reading: &mut $crate::wire::Reading,
            ) -> Result<Self, $crate::wire::Unreadable> {
                <String as $crate::wire::Wire>::read(value, reading).map(|text| Self::from(text.trim()))
            }

            fn write(&self) -> Option<$crate::payload::Value<'static>> {
                Some($crate::payload::Value::Text(self.as_str().to_owned().into()))
            }
        }

        $crate::wire::open_enum!(@common $name);
    };

    (@i64 [$($meta:tt)*] $name:ident { $( [$($variant_meta:tt)*] $variant:ident = $first:literal $(| $wire:literal)*, )* }) => {
        $($meta)*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $($variant_meta)* $variant, )*
            /// A value that is not listed.
            Unknown(i64),
        }

        impl $name {
            /// The value as it stands on the wire.
            pub fn code(self) -> i64 {
                match self {
                    $( Self::$variant => $first, )*
                    Self::Unknown(value) => value,
                }
            }
        }

        impl From<i64> for $name {
            fn from(value: i64) -> Self {
                match value {
                    $( $first $(| $wire)* => Self::$variant, )*
                    other => Self::Unknown(other),
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::from(0)
            }
        }

        impl $crate::wire::Wire for $name {
            fn absent() -> Self {
                Self::default()
            }

            fn read(
                value: &$crate::payload::Value<'_>,
                reading: &mut $crate::wire::Reading,
            ) -> Result<Self, $crate::wire::Unreadable> {
                <i64 as $crate::wire::Wire>::read(value, reading).map(Self::from)
            }

            fn write(&self) -> Option<$crate::payload::Value<'static>> {
                <i64 as $crate::wire::Wire>::write(&self.code())
            }
        }

        $crate::wire::open_enum!(@common $name);
    };

    (@common $name:ident) => {
        impl $crate::wire::Optional for $name {}

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::wire::Wire::write(self).serialize(serializer)
            }
        }
    };
}

/// A union whose items name their type beside their content: `{ "MsgType": …, "MsgContent": { … } }`. An item of a type
/// nobody knows yet, and one that cannot be read as its type, is kept and written back as it came.
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $tag:literal / $content:literal {
            $( $(#[$variant_meta:meta])* $variant:ident($type:ty) = $wire:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$variant_meta])* $variant($type), )*
            /// An item of a type that is not listed, or without the shape of its type.
            Unknown {
                /// What the item says it is; empty when it does not say that, or has no content.
                tag: String,
                /// Its content as it came; without a tag, the whole item.
                content: ::serde_json::Value,
            },
        }

        impl $crate::wire::Wire for $name {
            const IS_NESTED: bool = true;

            fn absent() -> Self {
                Self::Unknown { tag: String::new(), content: ::serde_json::Value::Null }
            }

            fn read(
                value: &$crate::payload::Value<'_>,
                reading: &mut $crate::wire::Reading,
            ) -> Result<Self, $crate::wire::Unreadable> {
                if let Some((tag, content)) = $crate::wire::tagged(value, $tag, $content) {
                    let known = match tag {
                        $( $wire => reading.whole(content, $content).map(Self::$variant), )*
                        _ => None,
                    };
                    return match known {
                        Some(known) => Ok(known),
                        None => Ok(Self::Unknown { tag: tag.to_owned(), content: $crate::wire::Wire::read(content, reading)? }),
                    };
                }
                Ok(Self::Unknown { tag: String::new(), content: $crate::wire::Wire::read(value, reading)? })
            }

            fn write(&self) -> Option<$crate::payload::Value<'static>> {
                let (tag, content) = match self {
                    $( Self::$variant(content) => ($wire, $crate::wire::Wire::write(content)), )*
                    Self::Unknown { tag, content } if tag.is_empty() => {
                        return Some($crate::wire::Wire::write(content).unwrap_or($crate::payload::Value::Null));
                    }
                    Self::Unknown { tag, content } => (tag.as_str(), $crate::wire::Wire::write(content)),
                };
                let mut object = $crate::payload::Object::with_capacity(2);
                object.push($tag, $crate::payload::Value::Text(tag.to_owned().into()));
                object.push($content, content.unwrap_or($crate::payload::Value::Null));
                Some($crate::payload::Value::Object(object))
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::wire::Wire::write(self).serialize(serializer)
            }
        }
    };
}

pub(crate) use {open_enum, tagged, wire, wire_mode};
