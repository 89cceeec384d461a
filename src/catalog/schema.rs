//! JSON Schemas of events and answers, from what the catalogue says of their fields.
//!
//! They describe what is known: payloads may have more members, values of enumerations may be new, and what the platform
//! writes against its own documentation stays as it came.

use serde_json::{Value as Json, json};

use super::{Catalog, CatalogError, Entry, Field};
use crate::event::Platform;

/// The schema of an event, or of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Schema {
    /// The event type, or the name of the answer.
    pub name: String,
    /// Whether it is of an answer.
    pub is_answer: bool,
    /// The schema, of draft 2020-12.
    pub schema: Json,
}

/// The schemas of a platform: of the typed JSON of each event, and of each answer that the platform reads as JSON.
///
/// # Errors
/// Never, unless the build is broken; a test reads every file.
pub fn schemas(platform: Platform) -> Result<Vec<Schema>, CatalogError> {
    let catalog = echostr_catalog::platform(platform.as_str())?;
    let mut all = Vec::new();
    for entry in &catalog.event {
        let fields = envelope(&catalog, entry).iter().chain(&entry.fields);
        all.push(schema(&entry.id, &entry.summary, false, fields));
        if let Some(response) = entry.response.as_ref().filter(|response| !response.fields.is_empty()) {
            let doc = response.doc.clone().unwrap_or_else(|| format!("The answer to {}.", entry.id));
            all.push(schema(&entry.id, &doc, true, response.fields.iter()));
        }
    }
    for reply in &catalog.reply {
        let doc = reply.quirks.clone().unwrap_or_else(|| format!("An answer of {platform}."));
        all.push(schema(&reply.id, &doc, true, reply.fields.iter()));
    }
    Ok(all)
}

/// The schemas of the answers that several platforms take in the response itself, as their XML reads in JSON.
///
/// # Errors
/// Never; a test reads the file.
pub fn passive_schemas() -> Result<Vec<Schema>, CatalogError> {
    let replies = echostr_catalog::passive_replies()?;
    let of = |entry: &Entry| {
        let fields = replies.envelope.fields.iter().chain(&entry.fields);
        schema(&entry.id, &entry.summary, true, fields)
    };
    Ok(replies.event.iter().map(of).collect())
}

/// The fields that every push of this kind has.
fn envelope<'c>(catalog: &'c Catalog, entry: &Entry) -> &'c [Field] {
    let envelope = &catalog.envelope;
    let variant = entry.envelope_variant.as_ref().and_then(|name| envelope.variants.get(name));
    let of_events = || envelope.event.as_ref().filter(|_| entry.kind == echostr_catalog::Kind::Event);
    variant.or_else(of_events).map_or(&envelope.fields, |variant| &variant.fields)
}

fn schema<'f>(name: &str, doc: &str, is_answer: bool, fields: impl Iterator<Item = &'f Field>) -> Schema {
    let what = if is_answer { "answer" } else { "event" };
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:echostr:{what}:{name}"),
        "title": name,
        "description": doc,
        "type": "object",
    });
    for field in fields {
        add(&mut schema, field.path(), field);
        if field.moves_in_json() {
            add(&mut schema, field.json_path(), field);
        }
    }
    close(&mut schema);
    Schema { name: name.to_owned(), is_answer, schema }
}

/// An object of which no member is known may be an empty element of XML, which is an empty text.
fn close(schema: &mut Json) {
    if schema["type"] == "object" && schema.get("properties").is_none() {
        schema["type"] = json!(["object", "string"]);
    }
    if let Some(members) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        members.values_mut().for_each(close);
    }
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
}

/// Adds a field at its place.
fn add(schema: &mut Json, path: &str, field: &Field) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parents.split('.').filter(|name| !name.is_empty()).fold(schema, |schema, name| member(schema, name));
    let name = last.trim_end_matches("[]");
    // Only what is always there under this name is required.
    let is_plain = !field.moves_in_json() && !field.xml_only && !field.json_only && field.aliases.is_empty();
    if field.required && is_plain {
        let required = parent.as_object_mut().map(|parent| parent.entry("required").or_insert_with(|| json!([])));
        if let Some(Json::Array(required)) = required
            && !required.iter().any(|known| known == name)
        {
            required.push(name.into());
        }
    }
    let own = member(parent, last);
    let Some(own) = own.as_object_mut() else { return };
    own.insert("type".to_owned(), kind(field.item_kind()));
    if !field.doc.is_empty() {
        own.insert("description".to_owned(), field.doc.clone().into());
    }
    let value = |text: &str| match field.item_kind() {
        "string" | "csv" => Some(Json::from(text)),
        _ => text.parse::<i64>().ok().map(Json::from),
    };
    if let Some(only) = field.r#const.as_deref().and_then(value) {
        own.insert("const".to_owned(), only);
    }
    let known: Vec<_> = field.values.iter().filter_map(|[wire, ..]| value(wire)).collect();
    if !known.is_empty() {
        own.insert("examples".to_owned(), known.into());
    }
}

/// The schema of a member; of a list that of its items.
fn member<'s>(schema: &'s mut Json, name: &str) -> &'s mut Json {
    let plain = name.trim_end_matches("[]");
    let depth = (name.len() - plain.len()) / "[]".len();
    (0..depth).fold(object(&mut schema["properties"][plain]), |schema, _| {
        schema["type"] = "array".into();
        object(&mut schema["items"])
    })
}

/// A schema that says nothing yet.
fn object(schema: &mut Json) -> &mut Json {
    if schema.is_null() {
        *schema = json!({});
    }
    schema
}

/// The type of a value in the typed JSON.
fn kind(name: &str) -> Json {
    match name {
        "object" => "object".into(),
        "i64" | "u64" | "timestamp_s" | "timestamp_ms" => "integer".into(),
        "f64" => "number".into(),
        "bool" => "boolean".into(),
        "bool01" => json!(["boolean", "integer"]),
        _ => "string".into(),
    }
}
