//! The shape of a field.

use serde::Deserialize;

/// A field of an entry, an envelope or an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Field {
    /// Name of the element or key.
    pub name: String,
    path: Option<String>,
    /// Where the JSON form has it, when that is elsewhere.
    json_path: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the platform promises it.
    #[serde(default)]
    pub required: bool,
    /// Other spellings of the name.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `[wire value, VariantName, meaning]`
    #[serde(default)]
    pub values: Vec<[String; 3]>,
    /// Whether only the XML form has it.
    #[serde(default)]
    pub xml_only: bool,
    /// Whether some pushes leave out this object: its fields then stand where it would.
    #[serde(default)]
    pub wrapper: bool,
    /// Whether only the JSON form has it.
    #[serde(default)]
    pub json_only: bool,
    /// Whether spaces around it belong to it.
    #[serde(default)]
    pub verbatim: bool,
    /// The union that its items are, or the reply whose fields it has.
    pub of: Option<String>,
    /// The only value it may have.
    pub r#const: Option<String>,
    /// Of a field of an envelope: the method by which every event gives it.
    pub getter: Option<String>,
    /// For readers: meaning, unit, when it is absent.
    #[serde(default)]
    pub doc: String,
    /// For editors of the catalogue: what is doubtful. Shown nowhere.
    pub note: Option<String>,
    /// When it came.
    pub since: Option<String>,
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

    /// Whether the JSON form has it elsewhere.
    pub fn moves_in_json(&self) -> bool {
        self.json_path.is_some()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.kind.starts_with("list<")
    }

    /// The type of one item, or of the field itself.
    pub fn item_kind(&self) -> &str {
        self.kind.strip_prefix("list<").and_then(|kind| kind.strip_suffix('>')).unwrap_or(&self.kind)
    }
}
