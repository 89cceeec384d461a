//! What the pushes of an entry have in common with others.

use std::fmt::Write as _;

use echostr_catalog::{Catalog, Entry, Field, Kind};

use crate::{
    alias,
    names::{camel, snake},
    rust,
};

/// The envelope of an entry.
pub(crate) struct Common<'c> {
    /// Name of the type.
    pub(crate) name: String,
    /// What the type is.
    pub(crate) doc: String,
    /// What the field of that type is.
    pub(crate) member_doc: &'static str,
    /// Every field, also those inside of an object that the entry describes.
    pub(crate) fields: &'c [Field],
}

impl<'c> Common<'c> {
    /// The envelope of an entry.
    ///
    /// # Errors
    /// When the entry names one that there is not.
    pub(crate) fn of(catalog: &'c Catalog, entry: &Entry) -> Result<Self, String> {
        let envelope = &catalog.envelope;
        let member_doc = "Fields of every push of this kind.";
        if let Some(name) = &entry.envelope_variant {
            let variant = envelope.variants.get(name).ok_or_else(|| format!("{}: no envelope `{name}`", entry.id))?;
            let doc = variant.doc.clone().unwrap_or_else(|| member_doc.to_owned());
            return Ok(Self { name: format!("{}Envelope", camel(name)), doc, member_doc, fields: &variant.fields });
        }
        if let Some(variant) = envelope.event.as_ref().filter(|_| entry.kind == Kind::Event) {
            let doc = variant.doc.clone().unwrap_or_else(|| "Fields of every event.".to_owned());
            return Ok(Self { name: "EventEnvelope".to_owned(), doc, member_doc, fields: &variant.fields });
        }
        let member_doc = "Fields of every push.";
        Ok(Self { name: "Envelope".to_owned(), doc: member_doc.to_owned(), member_doc, fields: &envelope.fields })
    }

    /// The fields that the type has: an object called `event` is the entry's own.
    pub(crate) fn top(&self) -> Vec<Field> {
        let own = |field: &&Field| field.path().split('.').next() != Some("event");
        self.fields.iter().filter(own).cloned().collect()
    }

    /// The methods by which every event gives the fields that are wanted most, as rows of `envelope_getters!`.
    fn getters(&self) -> Result<String, String> {
        let mut rows = String::new();
        for field in self.fields {
            let Some(name) = &field.getter else { continue };
            let kind = match (field.kind.as_str(), field.required) {
                ("string", true) => "text",
                ("string", false) => "optional_text",
                ("timestamp_s" | "timestamp_ms", true) => "number",
                ("i64", _) | ("timestamp_s" | "timestamp_ms", false) => "optional_number",
                (kind, _) => return Err(format!("`{}`: a getter gives no {kind}", field.path())),
            };
            let path: Vec<_> = field.path().split('.').map(snake).collect();
            rows.push_str(&rust::doc(8, "///", &rust::escape(&rust::sentence(&field.doc))));
            rows.push_str(&rust::aliases(8, &alias::of_field(field, name)));
            let _ = writeln!(rows, "        {name}: {kind} = {},", path.join("."));
        }
        Ok(rows)
    }
}

/// The blocks of `envelope_getters!`: one per envelope, in the order of the entries.
pub(crate) fn getters(catalog: &Catalog) -> Result<String, String> {
    let mut blocks: Vec<(String, String, Vec<&str>)> = Vec::new();
    for entry in &catalog.event {
        let common = Common::of(catalog, entry)?;
        match blocks.iter_mut().find(|(name, ..)| *name == common.name) {
            Some((.., types)) => types.push(&entry.type_name),
            None => blocks.push((common.name.clone(), common.getters()?, vec![&entry.type_name])),
        }
    }
    let mut out = String::new();
    for (_, rows, types) in blocks.iter().filter(|(_, rows, _)| !rows.is_empty()) {
        let _ = write!(out, "\nenvelope_getters! {{\n    {{\n{rows}    }}\n");
        let types: Vec<String> = types.iter().map(|name| format!("{name},")).collect();
        out.push_str(&rust::filled(4, types.iter().map(String::as_str)));
        out.push_str("}\n");
    }
    Ok(out)
}
