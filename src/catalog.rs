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

/// Every path of a field that is documented of an event, as it would be set: names with dots between them.
///
/// # Errors
/// Never, unless the build is broken.
pub(crate) fn paths(entry: &Entry) -> Result<Vec<String>, CatalogError> {
    let plain = |path: &str| path.replace("[]", "");
    let mut paths: Vec<String> =
        entry.fields.iter().flat_map(|field| [plain(field.path()), plain(field.json_path())]).collect();
    let lists = entry.fields.iter().filter(|field| field.of.as_deref() == Some("element"));
    let lists: Vec<String> = lists.map(|field| plain(field.path())).collect();
    let platform = entry.id.split('.').next().unwrap_or_default();
    let elements = if lists.is_empty() { Vec::new() } else { echostr_catalog::platform(platform)?.element };
    // The content of a message is that of one of several kinds.
    for list in lists {
        let of_list = |path: &&String| path.strip_prefix(&*list).is_some_and(|rest| rest.starts_with('.'));
        let contents: Vec<String> = paths.iter().filter(of_list).cloned().collect();
        let inner = |content: &String| {
            let names = elements.iter().flat_map(|element| &element.fields).map(|field| plain(field.path()));
            names.map(|name| format!("{content}.{name}")).collect::<Vec<_>>()
        };
        let is_object =
            |path: &&String| entry.fields.iter().any(|it| plain(it.path()) == **path && it.kind == "object");
        let more: Vec<String> = contents.iter().filter(is_object).flat_map(inner).collect();
        paths.extend(more);
    }
    Ok(paths)
}
