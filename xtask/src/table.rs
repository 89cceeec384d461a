//! The table of a platform: which wire values select which type, and what answers it.

use std::{collections::BTreeMap, collections::BTreeSet, fmt::Write as _};

use echostr_catalog::{Catalog, Entry};

use crate::{FORK, HEADER, envelope, replies, rust};

/// The text of `mod.rs`. Each of `shared` is a type of another platform, and its name here.
///
/// # Errors
/// When an entry has a reply that the platform does not know.
pub(crate) fn text<'f>(
    catalog: &Catalog,
    files: impl Iterator<Item = &'f String>,
    shared: &BTreeSet<(&str, &str)>,
) -> Result<String, String> {
    let platform = &catalog.platform;
    let files: BTreeSet<&str> = files.map(String::as_str).chain([FORK]).collect();
    let mut out = format!("//! {}\n{HEADER}\n", platform.doc);
    for file in &files {
        let _ = writeln!(out, "mod {file};");
    }
    out.push('\n');
    for file in &files {
        // It may have no events.
        let may_be_empty = if *file == FORK { "#[allow(unreachable_pub, unused_imports)]\n" } else { "" };
        let _ = writeln!(out, "{may_be_empty}pub use {file}::*;");
    }
    if let Some(other) = catalog.platform.types_of.as_ref().filter(|_| !shared.is_empty()) {
        let name =
            |(there, here): &(&str, &str)| if there == here { here.to_string() } else { format!("{there} as {here}") };
        let names: Vec<_> = shared.iter().map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let _ = write!(out, "\n// Alike on both platforms.\npub {}", rust::import(&format!("super::{other}"), &names));
    }
    let Rows { uses, rows, getters } = rows(catalog)?;
    let keys: Vec<_> = platform.keys.iter().map(|keys| format!("{keys:?}")).collect();
    let (variant, keys) = (&platform.variant, keys.join(" | "));
    let _ = write!(out, "\n{uses}\nevents! {{\n    {variant}, {keys};\n\n{rows}}}\n{getters}");
    Ok(out)
}

/// What is written of the entries of a file.
pub(crate) struct Rows {
    /// What they name.
    pub(crate) uses: String,
    /// Rows of `events!`.
    pub(crate) rows: String,
    /// Blocks of `envelope_getters!`.
    pub(crate) getters: String,
}

/// The rows of the entries of a catalogue.
///
/// # Errors
/// When an entry has a reply that the platform does not know.
pub(crate) fn rows(catalog: &Catalog) -> Result<Rows, String> {
    let mut by_module: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut rows = String::new();
    let mut family = "";
    for entry in &catalog.event {
        let answer = replies::answer(&catalog.platform, entry)?;
        if entry.family != family {
            family = &entry.family;
            let _ = writeln!(rows, "    // {family}");
        }
        row(&mut rows, catalog, entry, &answer);
        if let Some(module) = answer.module {
            by_module.entry(module).or_default().insert(answer.type_name);
        }
    }
    let getters = envelope::getters(catalog)?;
    let macros: &[&str] = if getters.is_empty() { &["events"] } else { &["envelope_getters", "events"] };
    let mut uses = rust::import("crate::event", macros);
    for (module, names) in &by_module {
        uses.push_str(&rust::import(module, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    Ok(Rows { uses, rows, getters })
}

fn row(out: &mut String, catalog: &Catalog, entry: &Entry, answer: &replies::Answer) {
    let selects: Vec<_> = entry
        .selectors()
        .map(|select| {
            let keys = catalog.platform.keys_of(select).iter();
            let values: Vec<_> = keys.map_while(|key| select.get(key)).collect();
            format!("{values:?}")
        })
        .collect();
    let mut extra = String::new();
    if let Some(timeout) = entry.timeout_ms {
        let _ = write!(extra, " timeout_ms {timeout}");
    }
    if let Some(path) = &entry.fan_out {
        let _ = write!(extra, " fan_out {:?}", path.trim_end_matches("[]"));
    }
    if let Some(keys) = &entry.body_keys {
        let keys: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        let _ = write!(extra, " body_keys [{}]", keys.join(", "));
    }
    let identity = format!("    {} = {:?} {:?}", entry.type_name, entry.id, entry.family);
    let rest = format!("{}{extra} => {}({}),", selects.join(" | "), answer.kind, answer.type_name);
    let gap = if identity.len() + 1 + rest.len() > 120 { "\n        " } else { " " };
    let _ = writeln!(out, "{identity}{gap}{rest}");
}
