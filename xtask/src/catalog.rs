//! The catalogue as it stands in `catalog/*.toml`; `catalog/README.md` explains the keys.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

/// One platform's file.
#[derive(Deserialize)]
pub struct Catalog {
    pub envelope: Envelope,
    /// Names of nested types, where the one made of wire names reads badly: `"Entry.path.to.field" = "Name"`.
    #[serde(default)]
    pub type_names: BTreeMap<String, String>,
    #[serde(default)]
    pub event: Vec<Entry>,
    /// Elements of an IM message body.
    #[serde(default)]
    pub element: Vec<Entry>,
}

/// Fields that every push carries.
#[derive(Deserialize)]
pub struct Envelope {
    #[serde(default)]
    pub fields: Vec<Field>,
    /// What entries of kind "event" carry instead, where they differ.
    pub event: Option<Variant>,
    /// What the entries carry that name one of these.
    #[serde(default)]
    pub variants: BTreeMap<String, Variant>,
}

/// Another envelope of the same platform.
#[derive(Deserialize)]
pub struct Variant {
    pub doc: Option<String>,
    pub fields: Vec<Field>,
}

/// A message, an event, or an element.
#[derive(Deserialize)]
pub struct Entry {
    pub id: String,
    pub kind: String,
    pub select: BTreeMap<String, String>,
    #[serde(default)]
    pub also: Vec<BTreeMap<String, String>>,
    #[serde(rename = "type")]
    pub type_name: String,
    pub summary: String,
    #[serde(default)]
    pub family: String,
    #[serde(default)]
    pub reply: String,
    pub fields: Vec<Field>,
    pub quirks: Option<String>,
    pub deprecated: Option<toml::Value>,
    pub trigger: Option<String>,
    #[serde(default)]
    pub sources: Vec<String>,
    pub envelope_variant: Option<String>,
    pub fan_out: Option<String>,
    pub body_keys: Option<Vec<String>>,
    pub response: Option<Response>,
}

/// The structured answer, where the platform reads one.
#[derive(Deserialize)]
pub struct Response {
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub note: Option<String>,
    #[serde(default)]
    pub fields: Vec<Field>,
}

/// A field of an entry, an envelope or an answer.
#[derive(Clone, Deserialize)]
pub struct Field {
    pub name: String,
    path: Option<String>,
    /// Where the JSON form has it, when that is elsewhere.
    json_path: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `[wire value, VariantName, meaning]`
    #[serde(default)]
    pub values: Vec<[String; 3]>,
    #[serde(default)]
    pub xml_only: bool,
    #[serde(default)]
    pub verbatim: bool,
    pub of: Option<String>,
    #[serde(default)]
    pub doc: String,
}

impl Field {
    /// Full path, `[]` marking repeated elements.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }

    /// Full path in the JSON form.
    pub fn json_path(&self) -> &str {
        self.json_path.as_deref().unwrap_or(self.path())
    }
}

/// Reads `catalog/<platform>.toml` below `root`.
///
/// # Errors
/// When the file cannot be read or does not have the keys of the catalogue.
pub fn read(root: &Path, platform: &str) -> Result<Catalog, String> {
    let path = root.join("catalog").join(format!("{platform}.toml"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}
