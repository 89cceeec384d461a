//! The samples of an entry against its fields.

use std::collections::BTreeSet;

use echostr_catalog::{Entry, Field, Form};
use quick_xml::{Reader, events::Event};
use serde_json::Value;

use super::bare;

/// What the samples have and the fields lack, and the other way round. `common` are the paths of the envelope.
pub(super) fn check(entry: &Entry, common: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (form, name) in [(Form::Xml, "sample_xml"), (Form::Json, "sample_json")] {
        let Some(sample) = entry.sample(form) else { continue };
        match paths(form, sample) {
            Ok(paths) => compare(entry, form, &paths, common)
                .into_iter()
                .for_each(|problem| problems.push(format!("{name}: {problem}"))),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    problems
}

fn compare(entry: &Entry, form: Form, sample: &BTreeSet<String>, common: &BTreeSet<String>) -> Vec<String> {
    let path = |field: &Field| match form {
        Form::Xml => bare(field.path()),
        Form::Json => bare(field.json_path()),
    };
    let mut known = BTreeSet::new();
    let mut unions = Vec::new();
    for field in &entry.fields {
        let path = path(field);
        let parent = path.rsplit_once('.').map(|(parent, _)| format!("{parent}.")).unwrap_or_default();
        known.extend(field.aliases.iter().map(|alias| format!("{parent}{alias}")));
        unions.extend(field.of.iter().map(|_| format!("{path}.")));
        known.insert(path);
    }
    let is_known = |path: &&String| {
        known.contains(*path) || common.contains(*path) || unions.iter().any(|union| path.starts_with(union))
    };
    let unknown = sample.iter().filter(|path| !is_known(path)).map(|path| format!("`{path}` is no field"));
    let mut problems: Vec<String> = unknown.collect();
    // Further samples may have what the first one lacks.
    if entry.samples_more.is_empty() {
        let other_form = |field: &&Field| match form {
            Form::Xml => field.json_only,
            Form::Json => field.xml_only,
        };
        let expected = entry.fields.iter().filter(|field| !other_form(field)).map(path);
        problems.extend(expected.filter(|path| !sample.contains(path)).map(|path| format!("has no `{path}`")));
    }
    problems
}

/// Every element or key below the root.
fn paths(form: Form, sample: &str) -> Result<BTreeSet<String>, String> {
    match form {
        Form::Xml => xml_paths(sample.trim()),
        Form::Json => {
            let value = serde_json::from_str(sample).map_err(|error| error.to_string())?;
            let mut paths = BTreeSet::new();
            json_paths(&value, "", &mut paths);
            Ok(paths)
        }
    }
}

fn json_paths(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                json_paths(value, &path, paths);
                paths.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| json_paths(item, path, paths)),
        _ => {}
    }
}

fn xml_paths(sample: &str) -> Result<BTreeSet<String>, String> {
    let mut reader = Reader::from_str(sample);
    let mut open: Vec<String> = Vec::new();
    let mut paths = BTreeSet::new();
    let mut roots = 0;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        if let Event::Start(element) | Event::Empty(element) = &event {
            roots += usize::from(open.is_empty());
            open.push(element.name().as_ref().to_owned());
            // The root has no name of its own.
            if open.len() > 1 {
                paths.insert(open[1..].join("."));
            }
        }
        match event {
            Event::End(_) | Event::Empty(_) => drop(open.pop()),
            Event::Eof if open.is_empty() && roots == 1 => return Ok(paths),
            Event::Eof => return Err("is not one whole element".to_owned()),
            _ => {}
        }
    }
}
