//! Checks the catalogue: what the model cannot say of a file, and its samples against its fields.

mod sample;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use echostr_catalog::{
    Catalog, CatalogError, Element, Entry, Envelope, Field, Fork, PASSIVE_REPLIES, PassiveReplies, Reply,
};

use crate::Texts;

/// What is wrong with an entry.
#[derive(Debug, PartialEq)]
struct Finding {
    /// Name of the file.
    file: String,
    /// Where the entry is named, from 1; 0 when it is not found.
    line: usize,
    /// The entry, and the field where it is one.
    place: String,
    problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog/{}.toml:{}: {}: {}", self.file, self.line, self.place, self.problem)
    }
}

/// Types of fields.
const TYPES: [&str; 11] =
    ["string", "i64", "u64", "f64", "bool", "bool01", "timestamp_s", "timestamp_ms", "object", "csv", "list"];

/// What belongs into `note`: readers do not care how we know.
const RESEARCH: [&str; 14] = [
    "not confirmed",
    "inferred",
    "peer",
    "one sdk",
    "assumed",
    "sources disagree",
    "official page",
    "official sample",
    "official table",
    "official doc",
    "documented sample",
    "wxjava",
    "skit",
    "not re-read",
];

/// Checks every file; the number of entries.
///
/// # Errors
/// The findings, one a line.
pub fn check() -> Result<usize, String> {
    check_texts(&Texts::compiled()?)
}

/// The same of other texts.
///
/// # Errors
/// As [`check`].
pub fn check_texts(texts: &Texts) -> Result<usize, String> {
    let mut entries = 0;
    let mut findings = Vec::new();
    let mut all_ids = BTreeSet::new();
    let upstream = texts.platforms.iter().map(|(name, text, _)| check_file(name, text));
    let forks = texts.platforms.iter().map(|(name, text, fork)| check_fork(name, text, fork));
    let (name, text) = PASSIVE_REPLIES;
    for checked in upstream.chain([check_file(name, text)]).chain(forks) {
        match checked {
            Ok((ids, found)) => {
                entries += ids.len();
                all_ids.extend(ids);
                findings.extend(found.iter().map(ToString::to_string));
            }
            Err(error) => findings.push(error.to_string()),
        }
    }
    if findings.is_empty() && all_ids.len() != entries {
        findings.push("two files have an entry of the same id".to_owned());
    }
    if findings.is_empty() { Ok(entries) } else { Err(format!("{} findings\n{}", findings.len(), findings.join("\n"))) }
}

/// Checks the text of a file: the ids of its entries, and what is wrong with them.
fn check_file(file: &str, text: &str) -> Result<(Vec<String>, Vec<Finding>), CatalogError> {
    let mut check = Check { file, text, findings: Vec::new() };
    let entries = if file == PASSIVE_REPLIES.0 {
        let replies = PassiveReplies::parse(file, text)?;
        check.envelope(&replies.envelope);
        check.entries(&replies.event, &replies.envelope);
        replies.event
    } else {
        let catalog = Catalog::parse(file, text)?;
        check.catalog(&catalog);
        catalog.event
    };
    Ok((entries.into_iter().map(|entry| entry.id).collect(), check.findings))
}

/// The same of the file with a fork's events of a platform.
fn check_fork(platform: &str, upstream: &str, text: &str) -> Result<(Vec<String>, Vec<Finding>), CatalogError> {
    let file = format!("fork/{platform}");
    let mut check = Check { file: &file, text, findings: Vec::new() };
    let (upstream, fork) = (Catalog::parse(platform, upstream)?, Fork::parse(platform, text)?);
    check.entries(&fork.event, &upstream.envelope);
    for entry in &fork.event {
        if let Some(other) =
            upstream.event.iter().find(|other| other.selectors().any(|it| entry.selectors().any(|own| own == it)))
        {
            check.say(&entry.id, format!("upstream has this event now, `{}`: remove the entry of the fork", other.id));
        }
    }
    Ok((fork.event.into_iter().map(|entry| entry.id).collect(), check.findings))
}

struct Check<'t> {
    file: &'t str,
    text: &'t str,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn say(&mut self, place: &str, problem: impl Into<String>) {
        // A field is said with the entry that has it.
        let id = place.split(' ').next().unwrap_or(place);
        let named = format!("\"{id}\"");
        let is_it = |(_, line): &(usize, &str)| line.starts_with("id = ") && line.contains(&named);
        // Of two with one id the second is too many.
        let line = self.text.lines().enumerate().filter(is_it).last().map_or(0, |(at, _)| at + 1);
        let (file, place) = (self.file.to_owned(), place.to_owned());
        self.findings.push(Finding { file, line, place, problem: problem.into() });
    }

    fn catalog(&mut self, catalog: &Catalog) {
        let platform = &catalog.platform;
        if platform.name != self.file {
            self.say("platform", format!("is called `{}`", platform.name));
        }
        self.envelope(&catalog.envelope);
        self.entries(&catalog.event, &catalog.envelope);
        let mut types = BTreeSet::new();
        for entry in &catalog.event {
            if !entry.id.starts_with(&format!("{}.", platform.name)) {
                self.say(&entry.id, "does not begin with the name of its platform");
            }
            if platform.keys_of(&entry.select).is_empty() {
                self.say(&entry.id, "no list of the platform's keys selects it");
            }
            if !types.insert(&entry.type_name) {
                self.say(&entry.id, format!("another entry has the type `{}`", entry.type_name));
            }
            let is_reply = |name: &str| catalog.reply.iter().any(|reply| reply.id.ends_with(&format!(".{name}")));
            if let Some(reply) = entry.replies.iter().find(|name| !is_reply(name)) {
                self.say(&entry.id, format!("there is no reply `{reply}`"));
            }
        }
        for Element { id, type_name, fields, summary, quirks, .. } in &catalog.element {
            self.type_name(id, type_name);
            self.fields(id, fields);
            self.words(id, [Some(summary), quirks.as_ref()]);
        }
        for Reply { id, type_name, fields, quirks, allowed_for, .. } in &catalog.reply {
            self.type_name(id, type_name);
            self.fields(id, fields);
            self.words(id, [quirks.as_ref()]);
            let is_entry = |name: &str| catalog.event.iter().any(|entry| entry.id.ends_with(&format!(".{name}")));
            if let Some(answered) = allowed_for.iter().find(|name| *name != "any" && !is_entry(name)) {
                self.say(id, format!("answers `{answered}`, which is no entry"));
            }
        }
    }

    fn envelope(&mut self, envelope: &Envelope) {
        for fields in envelope_fields(envelope) {
            self.fields("envelope", fields);
        }
    }

    fn entries(&mut self, entries: &[Entry], envelope: &Envelope) {
        let mut common = BTreeSet::new();
        for field in envelope_fields(envelope).flatten() {
            common.extend([field.name.clone(), bare(field.path())]);
            common.extend(field.aliases.iter().cloned());
        }
        let mut ids = BTreeSet::new();
        for entry in entries {
            let id = entry.id.as_str();
            if !ids.insert(id) {
                self.say(id, "another entry has this id");
            }
            self.type_name(id, &entry.type_name);
            if entry.also.iter().any(|other| other.keys().any(|key| !entry.select.contains_key(key))) {
                self.say(id, "`also` has other keys than `select`");
            }
            if entry.sample_xml.is_none() && entry.sample_json.is_none() {
                self.say(id, "has no sample");
            }
            self.words(
                id,
                [Some(&entry.summary), entry.quirks.as_ref(), entry.trigger.as_ref(), entry.deprecated.as_ref()],
            );
            self.fields(id, &entry.fields);
            if let Some(response) = &entry.response {
                self.words(id, [response.doc.as_ref(), response.on_timeout.as_ref()]);
                self.fields(&format!("{id} response"), &response.fields);
            }
            for problem in sample::check(entry, &common) {
                self.say(id, problem);
            }
        }
    }

    fn type_name(&mut self, id: &str, name: &str) {
        if !is_camel(name) {
            self.say(id, format!("`{name}` is no name of a type"));
        }
    }

    fn fields(&mut self, id: &str, fields: &[Field]) {
        for field in fields {
            let place = format!("{id} {}", field.path());
            let item = field.item_kind();
            if !TYPES.contains(&item) || item == "list" {
                self.say(&place, format!("`{}` is no type", field.kind));
            }
            if field.path().rsplit('.').next().is_some_and(|last| last.trim_end_matches("[]") != field.name) {
                self.say(&place, format!("the path does not end in the name `{}`", field.name));
            }
            if field.doc.is_empty() {
                self.say(&place, "has no doc");
            }
            let tops = fields.iter().filter(|field| !field.path().contains('.')).count();
            if field.wrapper && (tops != 1 || field.kind != "object" || !field.required || field.path() != field.name) {
                self.say(&place, "is a wrapper, but not the one required object at the top");
            }
            self.words(&place, [Some(&field.doc), field.since.as_ref()]);
            let mut wires = BTreeMap::new();
            for [wire, name, meaning] in &field.values {
                if !is_camel(name) {
                    self.say(&place, format!("`{name}` is no name of a value"));
                }
                if wires.insert(wire, name).is_some() {
                    self.say(&place, format!("the value `{wire}` is listed twice"));
                }
                self.words(&place, [Some(meaning)]);
            }
        }
    }

    /// What readers see says nothing of how it is known.
    fn words<const N: usize>(&mut self, place: &str, texts: [Option<&String>; N]) {
        for text in texts.into_iter().flatten() {
            let lower = text.to_lowercase();
            if let Some(words) = RESEARCH.iter().find(|words| lower.contains(**words)) {
                self.say(place, format!("`{words}` belongs into `note`"));
            }
        }
    }
}

fn envelope_fields(envelope: &Envelope) -> impl Iterator<Item = &[Field]> {
    let others = envelope.event.iter().chain(envelope.variants.values()).map(|variant| variant.fields.as_slice());
    [&envelope.query, &envelope.outer_fields, &envelope.fields].into_iter().map(Vec::as_slice).chain(others)
}

/// The path without the marks of repeated elements.
fn bare(path: &str) -> String {
    path.replace("[]", "")
}

fn is_camel(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|letter| letter.is_ascii_alphanumeric())
}
