//! The catalogue itself: what is said of each event, and its samples. Read on demand; the types do not need it.

pub mod schema;

pub use echostr_catalog::{Catalog, CatalogError, Entry, Field};

use crate::{event::Platform, payload::Form};

/// The events of one platform, in the order of its file.
///
/// # Errors
/// Never, unless the build is broken; a test reads every file.
pub fn entries(platform: Platform) -> Result<Vec<Entry>, CatalogError> {
    Ok(echostr_catalog::platform(platform.as_str())?.event)
}

/// The sample of an event in one form.
pub fn sample(entry: &Entry, form: Form) -> Option<&str> {
    entry.sample(match form {
        Form::Xml => echostr_catalog::Form::Xml,
        Form::Json => echostr_catalog::Form::Json,
    })
}
