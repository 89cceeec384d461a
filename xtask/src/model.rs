//! From the flat field lists of the catalogue to the types they describe.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::{Entry, Field},
    names::{camel, snake},
};

/// A field with the fields below it.
#[derive(Clone)]
pub struct Node {
    pub field: Field,
    pub children: Vec<Node>,
}

impl Node {
    /// What makes two objects the same type: everything but the docs.
    fn shape(&self) -> String {
        let values: Vec<_> = self.field.values.iter().map(|[wire, name, _]| format!("{wire}={name}")).collect();
        let children: Vec<_> = self.children.iter().map(Node::shape).collect();
        let Field { name, kind, required, aliases, xml_only, of, .. } = &self.field;
        format!("{name}:{kind}:{required}:{aliases:?}:{xml_only}:{of:?}:{values:?}{{{}}}", children.join(","))
    }

    fn is_object(&self) -> bool {
        matches!(self.field.kind.as_str(), "object" | "list<object>")
    }
}

/// Arranges a flat list by its paths. Fields of a union (`of`) keep no children: their type is written by hand.
///
/// # Panics
/// When a field comes before the object it stands in.
pub fn tree(fields: &[Field], prefix: &str) -> Vec<Node> {
    let mut roots: Vec<Node> = Vec::new();
    for field in fields {
        let Some(path) = field.path().strip_prefix(prefix) else { continue };
        let mut level = &mut roots;
        let mut parts = path.split('.').map(|part| part.trim_end_matches("[]")).peekable();
        let mut in_union = false;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                break;
            }
            let parent = level.iter_mut().find(|node| node.field.name == part);
            let parent = parent.unwrap_or_else(|| panic!("`{path}` comes before its parent `{part}`"));
            in_union |= parent.field.of.is_some();
            level = &mut parent.children;
        }
        if !in_union && !level.iter().any(|node| node.field.name == field.name) {
            level.push(Node { field: field.clone(), children: Vec::new() });
        }
    }
    roots
}

/// A struct to be written.
pub struct Struct {
    pub name: String,
    pub docs: Vec<String>,
    pub members: Vec<Member>,
}

/// A field of a struct.
pub struct Member {
    pub doc: String,
    pub name: String,
    pub type_name: String,
    pub mode: &'static str,
    /// The wire name, then its other spellings.
    pub wire: Vec<String>,
}

/// An open enumeration to be written.
pub struct Enum {
    pub name: String,
    pub doc: String,
    pub kind: &'static str,
    pub variants: Vec<Variant>,
}

/// One listed value.
pub struct Variant {
    pub name: String,
    pub doc: String,
    /// Every spelling.
    pub wire: Vec<String>,
}

/// Everything that goes into one file.
#[derive(Default)]
pub struct Module {
    pub structs: Vec<Struct>,
    pub enums: Vec<Enum>,
}

/// Names the nested types of a platform: by their field where all of that name are alike, else by their owner too.
pub struct Types {
    shapes: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    taken: BTreeSet<String>,
    written: BTreeSet<String>,
}

impl Types {
    /// Looks at every field of the platform. `taken` are names of top-level types, `homes` pairs each top-level list of
    /// fields with the module it goes to.
    pub fn new(taken: BTreeSet<String>, homes: &[(String, Vec<Node>)]) -> Self {
        let mut types = Self { shapes: BTreeMap::new(), taken, written: BTreeSet::new() };
        for (home, nodes) in homes {
            nodes.iter().for_each(|node| types.note(node, home));
        }
        types
    }

    fn note(&mut self, node: &Node, home: &str) {
        if !node.children.is_empty() || !node.field.values.is_empty() {
            let homes =
                self.shapes.entry(local_name(&node.field.name)).or_default().entry(node_shape(node)).or_default();
            homes.insert(home.to_owned());
        }
        node.children.iter().for_each(|child| self.note(child, home));
    }

    /// The name of a nested type, and the module it is shared from (`None`: its owner's).
    fn name(&self, node: &Node, owner: &str) -> (String, Option<&'static str>) {
        let local = local_name(&node.field.name);
        let shapes = &self.shapes[&local];
        let generic =
            matches!(local.as_str(), "Item" | "Event" | "Info" | "Text" | "Result" | "Data" | "Type" | "Status");
        if shapes.len() > 1 || generic || self.taken.contains(&local) {
            return (format!("{owner}{local}"), None);
        }
        let homes = &shapes[&node_shape(node)];
        (local, (homes.len() > 1).then_some("shared"))
    }

    /// Writes the struct `name` with these fields, and the types below it, into `modules`.
    pub fn write(
        &mut self,
        name: &str,
        docs: Vec<String>,
        nodes: &[Node],
        home: &str,
        modules: &mut BTreeMap<String, Module>,
    ) {
        // The owner stands before the types of its fields.
        let structs = &mut modules.entry(home.to_owned()).or_default().structs;
        let at = structs.len();
        structs.push(Struct { name: name.to_owned(), docs, members: Vec::new() });
        let members: Vec<_> = nodes.iter().map(|node| self.member(node, name, home, modules)).collect();
        if let Some(written) = modules.get_mut(home).and_then(|module| module.structs.get_mut(at)) {
            written.members = members;
        }
    }

    fn member(&mut self, node: &Node, owner: &str, home: &str, modules: &mut BTreeMap<String, Module>) -> Member {
        let field = &node.field;
        let list = field.kind.starts_with("list<");
        let (base, mode) = if let Some(of) = &field.of {
            (camel(&format!("msg_{of}")), "")
        } else if node.is_object() && node.children.is_empty() {
            ("serde_json::Value".to_owned(), "")
        } else if !node.children.is_empty() || !field.values.is_empty() && field.kind != "bool01" {
            (self.nested(node, owner, home, modules), if field.xml_only { "wrapper" } else { "" })
        } else {
            let (base, mode) = scalar(&field.kind);
            (base.to_owned(), if field.verbatim { "verbatim" } else { mode })
        };
        let type_name = match (list, field.required || mode == "wrapper") {
            (true, _) => format!("Vec<{base}>"),
            (false, true) => base,
            (false, false) => format!("Option<{base}>"),
        };
        Member {
            doc: field.doc.clone(),
            name: snake(&field.name),
            type_name,
            mode,
            wire: std::iter::once(&field.name).chain(&field.aliases).cloned().collect(),
        }
    }

    fn nested(&mut self, node: &Node, owner: &str, home: &str, modules: &mut BTreeMap<String, Module>) -> String {
        let (name, shared) = self.name(node, owner);
        let home = shared.unwrap_or(home);
        if !self.written.insert(name.clone()) {
            return name;
        }
        let doc = node.field.doc.clone();
        if node.children.is_empty() {
            let kind = if node.field.kind.contains("string") { "str" } else { "i64" };
            let new = Enum { name: name.clone(), doc, kind, variants: variants(&node.field) };
            modules.entry(home.to_owned()).or_default().enums.push(new);
        } else {
            self.write(&name, vec![doc], &node.children, home, modules);
        }
        name
    }
}

/// An item of `PicList` is a `Pic`? No: names stay the field's, so that nobody has to guess.
fn local_name(wire: &str) -> String {
    camel(wire)
}

fn node_shape(node: &Node) -> String {
    // Whether the field itself is promised or repeated does not change the type of its value.
    let mut node = node.clone();
    node.field.required = false;
    node.field.kind = node.field.kind.trim_start_matches("list<").trim_end_matches('>').to_owned();
    node.field.xml_only = false;
    node.field.aliases.clear();
    node.shape()
}

fn scalar(kind: &str) -> (&'static str, &'static str) {
    match kind.trim_start_matches("list<").trim_end_matches('>') {
        "string" => ("String", ""),
        "i64" | "timestamp_s" | "timestamp_ms" => ("i64", ""),
        "u64" => ("u64", ""),
        "f64" => ("f64", ""),
        "bool" => ("bool", ""),
        "bool01" => ("bool", "flag"),
        "csv" => ("Vec<String>", "csv"),
        other => panic!("`{other}` is no type of the catalogue"),
    }
}

fn variants(field: &Field) -> Vec<Variant> {
    let mut variants: Vec<Variant> = Vec::new();
    for [wire, name, doc] in &field.values {
        match variants.iter_mut().find(|variant| variant.name == *name) {
            Some(variant) => variant.wire.push(wire.clone()),
            None => variants.push(Variant { name: name.clone(), doc: doc.clone(), wire: vec![wire.clone()] }),
        }
    }
    variants
}

/// Fields of the envelope that stand inside an object of the entry (`event.event_type`) are added to it; those at the
/// top are the `Envelope` type's.
pub fn entry_fields(entry: &Entry, envelope: &[Field]) -> Vec<Field> {
    let mut fields = Vec::new();
    for field in &entry.fields {
        fields.push(field.clone());
        let below = format!("{}.", field.path());
        fields.extend(envelope.iter().filter(|other| other.path().starts_with(&below)).cloned());
    }
    fields
}
