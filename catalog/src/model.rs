//! The shape of the files; `README.md` beside them explains the keys.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{CatalogError, field::Field};

/// The file of one platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Catalog {
    /// Names, keys, answers of the platform.
    pub platform: Platform,
    /// Fields that every push carries.
    pub envelope: Envelope,
    /// Names of nested types, where the one made of wire names reads badly: `"Entry.path.to.field" = "Name"`.
    #[serde(default)]
    pub type_names: BTreeMap<String, String>,
    /// What nested types are, where the doc of their field does not say it: `Name = "One thing."`.
    #[serde(default)]
    pub type_docs: BTreeMap<String, String>,
    /// Messages and events.
    #[serde(default)]
    pub event: Vec<Entry>,
    /// Elements of a message body.
    #[serde(default)]
    pub element: Vec<Element>,
    /// Bodies that answer, where the entries name them.
    #[serde(default)]
    pub reply: Vec<Reply>,
    /// What is known and nothing is made from.
    #[serde(default)]
    pub notes: toml::Table,
}

impl Catalog {
    /// Reads the text of a file called `file`.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] with the line, when it is no TOML or has a key that the catalogue does not have.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogError> {
        toml::from_str(text).map_err(|source| CatalogError::Invalid { file: file.to_owned(), source })
    }
}

/// The file with a fork's events of a platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fork {
    /// As [`Catalog::type_names`].
    #[serde(default)]
    pub type_names: BTreeMap<String, String>,
    /// As [`Catalog::type_docs`].
    #[serde(default)]
    pub type_docs: BTreeMap<String, String>,
    /// Messages and events.
    #[serde(default)]
    pub event: Vec<Entry>,
}

impl Fork {
    /// Reads the text of the file of a platform.
    ///
    /// # Errors
    /// As [`Catalog::parse`].
    pub fn parse(platform: &str, text: &str) -> Result<Self, CatalogError> {
        let invalid = |source| CatalogError::Invalid { file: format!("fork/{platform}"), source };
        let mut fork: Self = toml::from_str(text).map_err(invalid)?;
        fork.event.iter_mut().for_each(|entry| entry.is_of_fork = true);
        Ok(fork)
    }

    /// A catalogue of these events alone, of the platform of `upstream`.
    pub fn catalog(&self, upstream: &Catalog) -> Catalog {
        let Self { type_names, type_docs, event } = self.clone();
        Catalog { type_names, type_docs, event, element: Vec::new(), reply: Vec::new(), ..upstream.clone() }
    }
}

/// The file of the passive replies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PassiveReplies {
    /// Heading of its page.
    pub title: String,
    /// Name and heading of each family.
    pub families: Vec<[String; 2]>,
    /// Fields that every reply carries.
    pub envelope: Envelope,
    /// The replies.
    pub event: Vec<Entry>,
    /// What is known and nothing is made from.
    #[serde(default)]
    pub notes: toml::Table,
}

impl PassiveReplies {
    /// Reads the text of a file called `file`.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] with the line, when it is no TOML or has a key that the catalogue does not have.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogError> {
        toml::from_str(text).map_err(|source| CatalogError::Invalid { file: file.to_owned(), source })
    }
}

/// A platform: what is the same for all of its pushes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Platform {
    /// Its name in event types, routes, modules.
    pub name: String,
    /// Its variant of the Rust enumeration of platforms.
    pub variant: String,
    /// Heading of its pages.
    pub title: String,
    /// What the module of its types is.
    pub doc: String,
    /// The answer that says no more than "received".
    pub success: String,
    /// The keys that select an entry; of several lists the first counts whose first key a payload has.
    pub keys: Vec<Vec<String>>,
    /// Its reference is a page per family, as it is too large for one. By name and not by size, so that links last.
    #[serde(default)]
    pub page_per_family: bool,
    /// The platform, earlier in the list, whose nested types are this one's, too, where they are alike.
    pub types_of: Option<String>,
    /// What [`Entry::reply`] stands for, where it differs from other platforms; `*` for any other value.
    #[serde(default)]
    pub replies: BTreeMap<String, ReplyRule>,
}

impl Platform {
    /// The list of keys whose first one the selector has.
    pub fn keys_of(&self, select: &BTreeMap<String, String>) -> &[String] {
        let has_first = |keys: &&Vec<String>| keys.first().is_some_and(|key| select.contains_key(key));
        self.keys.iter().find(has_first).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What a value of [`Entry::reply`] stands for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplyRule {
    /// Variant of the Rust enumeration of answers.
    pub kind: String,
    /// Path of the Rust type that a handler returns, in the crate of the types; none: `()`.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// Path of the Rust module that has a type called as the value.
    pub module: Option<String>,
    /// The answer in words. `{success}`, `{replies}`, `{bodies}` and `{code}` are filled in.
    pub answer: String,
}

/// Fields that every push carries.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Envelope {
    /// In the query of the URL.
    #[serde(default)]
    pub query: Vec<Field>,
    /// Around the encrypted body.
    #[serde(default)]
    pub outer_fields: Vec<Field>,
    /// In the body.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// Where the body repeats the command.
    pub command_path: Option<String>,
    /// What entries of kind "event" carry instead, where they differ.
    pub event: Option<Variant>,
    /// What the entries carry that name one of these.
    #[serde(default)]
    pub variants: BTreeMap<String, Variant>,
}

/// Another envelope of the same platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Variant {
    /// What has it.
    pub doc: Option<String>,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A message or an event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Entry {
    /// Whether it is of the file of a fork.
    #[serde(skip)]
    pub is_of_fork: bool,
    /// The event type: `mp.event.subscribe`.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it comes before the operation or after.
    pub phase: Option<Phase>,
    /// Source file of the type.
    pub family: String,
    /// Wire values that select it.
    pub select: BTreeMap<String, String>,
    /// Other selectors of the same entry.
    #[serde(default)]
    pub also: Vec<BTreeMap<String, String>>,
    /// Name of the Rust type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// One line, with the Chinese term.
    pub summary: String,
    /// The forms that the platform can send.
    pub formats: Vec<Form>,
    /// What may be answered.
    pub reply: String,
    /// Path of the Rust type that a handler returns, where the entry has its own.
    pub reply_type: Option<String>,
    /// The bodies that answer it.
    #[serde(default)]
    pub replies: Vec<String>,
    /// Path of the one-time code with which it can be answered.
    pub reply_code: Option<String>,
    /// Its fields, in wire order.
    pub fields: Vec<Field>,
    /// For readers: when it is sent, what is odd about it.
    pub quirks: Option<String>,
    /// For editors of the catalogue: what is doubtful. Shown nowhere.
    pub note: Option<String>,
    /// What causes it.
    pub trigger: Option<String>,
    /// Who still gets it.
    pub deprecated: Option<String>,
    /// When it came.
    pub since: Option<String>,
    /// How long the platform waits for the answer, in milliseconds, where that is shorter than usual.
    pub timeout_ms: Option<u32>,
    /// Path of the list in which several arrive in one push.
    pub fan_out: Option<String>,
    /// Where the body repeats the command; empty: nowhere.
    pub command_path: Option<String>,
    /// Keys that identify a body without its query.
    pub body_keys: Option<Vec<String>>,
    /// Name of its envelope.
    pub envelope_variant: Option<String>,
    /// Sample of the XML form.
    pub sample_xml: Option<String>,
    /// Sample of the JSON form.
    pub sample_json: Option<String>,
    /// Samples of other shapes.
    #[serde(default)]
    pub samples_more: Vec<String>,
    /// Who confirms it.
    #[serde(default)]
    pub sources: Vec<String>,
    /// How sure it is.
    pub confidence: Confidence,
    /// The structured answer, where the platform reads one.
    pub response: Option<Response>,
}

impl Entry {
    /// Its selector and the others.
    pub fn selectors(&self) -> impl Iterator<Item = &BTreeMap<String, String>> {
        std::iter::once(&self.select).chain(&self.also)
    }

    /// The sample of one form.
    pub fn sample(&self, form: Form) -> Option<&str> {
        match form {
            Form::Xml => self.sample_xml.as_deref(),
            Form::Json => self.sample_json.as_deref(),
        }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Message,
    Event,
    Info,
    Command,
    KfMessage,
    KfEvent,
    Reply,
}

impl Kind {
    /// Its name in the files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Event => "event",
            Self::Info => "info",
            Self::Command => "command",
            Self::KfMessage => "kf_message",
            Self::KfEvent => "kf_event",
            Self::Reply => "reply",
        }
    }
}

/// Whether the answer decides.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The answer steers the operation.
    Before,
    /// The answer is an acknowledgement.
    After,
}

/// Syntax of a payload.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Form {
    Json,
    Xml,
}

/// How sure an entry is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// One source, which is not the platform.
    Medium,
    /// Doubtful.
    Low,
    /// The platform itself, or two independent sources.
    High,
}

/// The structured answer to an event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Response {
    /// Name of the Rust type.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// For readers: what to answer.
    pub doc: Option<String>,
    /// For editors of the catalogue: what is doubtful. Shown nowhere.
    pub note: Option<String>,
    /// How long the platform waits, in words.
    pub deadline: Option<String>,
    /// How long the platform waits.
    pub deadline_ms: Option<u32>,
    /// What happens without an answer.
    pub on_timeout: Option<String>,
    /// The first and the last code that an application may return.
    pub custom_codes: Option<[i64; 2]>,
    /// The code that the client sees of the plain refusal.
    pub refused_as: Option<i64>,
    /// Its fields.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// Sample of the XML form.
    pub sample_xml: Option<String>,
    /// Sample of the JSON form.
    pub sample_json: Option<String>,
}

/// An element of a message body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Element {
    /// Its name in the catalogue.
    pub id: String,
    /// Always `element`.
    pub kind: String,
    /// The wire value that selects it.
    pub select: BTreeMap<String, String>,
    /// Name of the Rust type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// One line.
    pub summary: String,
    /// Its fields.
    pub fields: Vec<Field>,
    /// For readers: what is odd about it.
    pub quirks: Option<String>,
    /// For editors of the catalogue: what is doubtful. Shown nowhere.
    pub note: Option<String>,
    /// Sample of the whole item.
    pub sample_json: Option<String>,
    /// Samples of other shapes.
    #[serde(default)]
    pub samples_more: Vec<String>,
    /// Who confirms it.
    pub sources: Vec<String>,
    /// How sure it is.
    pub confidence: Confidence,
}

impl Element {
    /// The wire value that selects it.
    pub fn tag(&self) -> &str {
        self.select.values().next().map_or("", String::as_str)
    }
}

/// A body that answers events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Reply {
    /// Its name in the catalogue.
    pub id: String,
    /// Name of the Rust type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Last parts of the ids that it answers, or `any`.
    pub allowed_for: Vec<String>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// For readers: what is odd about it.
    pub quirks: Option<String>,
    /// For editors of the catalogue: what is doubtful. Shown nowhere.
    pub note: Option<String>,
    /// A sample.
    pub sample_json: Option<String>,
    /// Samples of other shapes.
    #[serde(default)]
    pub samples_more: Vec<String>,
    /// Who confirms it.
    pub sources: Vec<String>,
    /// How sure it is.
    pub confidence: Option<Confidence>,
}
