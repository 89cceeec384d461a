//! What is to be written: files with structs and enumerations.

/// A struct to be written.
#[derive(Default)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// Paragraphs.
    pub(crate) docs: Vec<String>,
    /// Other names by which it is found.
    pub(crate) aliases: Vec<String>,
    /// The last paragraph, which is Markdown.
    pub(crate) pages: Option<String>,
    pub(crate) members: Vec<Member>,
}

/// A field of a struct.
pub(crate) struct Member {
    pub(crate) doc: String,
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) mode: &'static str,
    /// Other names by which it is found.
    pub(crate) aliases: Vec<String>,
    /// The wire name, then its other spellings.
    pub(crate) wire: Vec<String>,
}

/// An open enumeration to be written.
pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) kind: &'static str,
    pub(crate) variants: Vec<Variant>,
}

/// One listed value.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) doc: String,
    /// Every spelling.
    pub(crate) wire: Vec<String>,
}

/// Everything that goes into one file.
#[derive(Default)]
pub(crate) struct Module {
    pub(crate) structs: Vec<Struct>,
    pub(crate) enums: Vec<Enum>,
}
