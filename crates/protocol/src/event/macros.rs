//! The macros that generated code is made of.

/// The table of a platform: one row writes the `Event` implementation and the list that finds it.
macro_rules! events {
    ($platform:ident, $([$($key:literal),*])|+; $($rows:tt)*) => {
        $crate::event::events! { @specs $platform, const OWN; $($rows)* }

        /// The events of this platform, those of a fork last.
        pub(crate) static TABLE: $crate::event::Table = $crate::event::Table {
            keys: &[$(&[$($key),*]),+],
            events: {
                const ALL: [&$crate::event::EventSpec; OWN.len() + fork::EVENTS.len()] =
                    $crate::event::joined(OWN, fork::EVENTS);
                &ALL
            },
            exact: ::std::sync::LazyLock::new(|| $crate::event::exact_selectors(TABLE.events)),
            prefixes: ::std::sync::LazyLock::new(|| $crate::event::prefix_selectors(TABLE.events)),
        };
    };
    (@fork $platform:ident; $($rows:tt)*) => {
        $crate::event::events! { @specs $platform, pub(super) const EVENTS; $($rows)* }
    };
    (
        @specs $platform:ident, $visibility:vis const $list:ident;
        $(
            $type:ident = $id:literal $family:literal $([$($select:literal),*])|+
                $(timeout_ms $timeout:literal)? $(fan_out $fan_out:literal)? $(body_keys [$($body_key:literal),*])? => $kind:ident($reply:ty),
        )*
    ) => {
        $(
            impl $crate::event::Event for $type {
                const SPEC: &'static $crate::event::EventSpec = &$crate::event::EventSpec {
                    id: $id,
                    platform: $crate::event::Platform::$platform,
                    family: $family,
                    rust_type: stringify!($type),
                    select: &[$(&[$($select),*]),+],
                    reply: $crate::event::ReplyKind::$kind,
                    timeout: $crate::event::first_of!($(Some(::std::time::Duration::from_millis($timeout)),)? None),
                    fan_out: $crate::event::first_of!($(Some($fan_out),)? None),
                    body_keys: $crate::event::first_of!($(&[$($body_key),*],)? &[]),
                    decode: $crate::event::decode_as::<$type>,
                };
                type Reply = $reply;
            }
        )*

        $visibility const $list: &[&$crate::event::EventSpec] = &[$(<$type as $crate::event::Event>::SPEC),*];
    };
}

/// The fields of an envelope that every event gives by a method: `kind` says how.
macro_rules! envelope_getters {
    (@event $event:ident { $($(#[$meta:meta])* $name:ident: $kind:ident = $($field:ident).+,)* }) => {
        impl $event {
            $( $crate::event::envelope_getters!(@$kind [$(#[$meta])*] $name $($field).+); )*
        }
    };
    (@text [$($meta:tt)*] $name:ident $($field:ident).+) => {
        $($meta)*
        pub fn $name(&self) -> &str {
            &self.envelope.$($field).+
        }
    };
    (@optional_text [$($meta:tt)*] $name:ident $($field:ident).+) => {
        $($meta)*
        pub fn $name(&self) -> Option<&str> {
            self.envelope.$($field).+.as_deref()
        }
    };
    (@number [$($meta:tt)*] $name:ident $($field:ident).+) => {
        $($meta)*
        pub fn $name(&self) -> i64 {
            self.envelope.$($field).+
        }
    };
    (@optional_number [$($meta:tt)*] $name:ident $($field:ident).+) => {
        $($meta)*
        pub fn $name(&self) -> Option<i64> {
            self.envelope.$($field).+
        }
    };
    ($getters:tt $($event:ident),* $(,)?) => {
        $( $crate::event::envelope_getters!(@event $event $getters); )*
    };
}

macro_rules! first_of {
    ($first:expr $(, $rest:expr)* $(,)?) => {
        $first
    };
}

/// Structs that are whole answers.
macro_rules! body_replies {
    ($($type:ident),* $(,)?) => { $(
        impl $crate::event::Reply for $type {
            fn into_answer(self) -> Result<$crate::event::Answer, $crate::event::ReplyError> {
                let mut body = $crate::payload::Object::default();
                $crate::wire::Fields::write_fields(&self, &mut body);
                Ok($crate::event::Answer::Body(body))
            }
        }
    )* };
}

pub(crate) use {body_replies, envelope_getters, events, first_of};
