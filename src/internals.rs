//! What this project's own tests, benches and tools see of the inside. It is for nobody else, and may change with any version.

#![allow(missing_docs, reason = "each of these is documented where it is defined")]

macro_rules! seen {
    ($($module:ident)*) => {
        $(pub mod $module {
            pub use crate::$module::*;
        })*
    };
}

seen! { delivery journal log metrics supervisor testing }
