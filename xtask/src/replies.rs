//! What answers an entry: the kind of answer, the Rust type, and words for readers.

use echostr_catalog::{Catalog, Entry, Field, Platform, ReplyRule};

/// The answer to an entry.
pub(crate) struct Answer {
    /// Variant of `ReplyKind`.
    pub(crate) kind: String,
    /// Module of the Rust type, where it is written by hand.
    pub(crate) module: Option<String>,
    /// Name of the Rust type.
    pub(crate) type_name: String,
    /// In words, with places to be filled in.
    pub(crate) words: String,
}

/// What a reply of the catalogue means where the platform does not say otherwise: kind, and words.
const RULES: [(&str, &str, &str); 4] = [
    ("passive", "Passive", "a [passive reply]({replies}), or plain success: {success}"),
    ("success", "Success", "plain success: {success}"),
    ("body", "Body", "a body, see below"),
    ("none", "Nothing", "nothing reaches anybody; plain success: {success}"),
];

/// The answer to an entry of a platform.
///
/// # Errors
/// When neither the platform nor this file knows the reply that the entry names.
pub(crate) fn answer(platform: &Platform, entry: &Entry) -> Result<Answer, String> {
    let own = platform.replies.get(&entry.reply).or_else(|| platform.replies.get("*"));
    let common = RULES.iter().find(|(name, ..)| *name == entry.reply);
    let (kind, words) = match (own, common) {
        (Some(ReplyRule { kind, answer, .. }), _) => (kind.as_str(), answer.as_str()),
        (None, Some((_, kind, words))) => (*kind, *words),
        (None, None) => return Err(format!("{}: the platform has no reply `{}`", entry.id, entry.reply)),
    };
    let by_hand = |path: &str| match path.rsplit_once("::") {
        Some((module, name)) => (Some(format!("crate::{module}")), name.to_owned()),
        None => (None, path.to_owned()),
    };
    let (module, type_name) = if let Some(path) = &entry.reply_type {
        by_hand(path)
    } else if let Some(path) = own.and_then(|rule| rule.type_name.as_ref()) {
        by_hand(path)
    } else if let Some(module) = own.and_then(|rule| rule.module.as_ref()) {
        (Some(format!("crate::{module}")), entry.reply.clone())
    } else if kind == "Body" {
        body(entry).map_or_else(|| by_hand("replies::Body"), |(name, _)| (None, name))
    } else {
        (None, "()".to_owned())
    };
    Ok(Answer { kind: kind.to_owned(), module, type_name, words: words.to_owned() })
}

/// Name and fields of the structured answer, where the entry describes one.
fn body(entry: &Entry) -> Option<(String, &[Field])> {
    let response = entry.response.as_ref().filter(|_| entry.reply == "body")?;
    let name = response.type_name.clone().unwrap_or_else(|| format!("{}Reply", entry.type_name));
    (!response.fields.is_empty()).then_some((name, &response.fields))
}

/// Structured answers that are generated, with the types that they answer: entries that are answered alike share one.
pub(crate) fn bodies(catalog: &Catalog) -> Vec<(String, &[Field], Vec<&str>)> {
    let mut bodies: Vec<(String, &[Field], Vec<&str>)> = Vec::new();
    for entry in &catalog.event {
        let Some((name, fields)) = body(entry) else { continue };
        match bodies.iter_mut().find(|(other, ..)| *other == name) {
            Some((.., answered)) => answered.push(&entry.type_name),
            None => bodies.push((name, fields, vec![&entry.type_name])),
        }
    }
    bodies
}
