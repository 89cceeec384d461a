//! The flat field lists of the catalogue as trees.

use echostr_catalog::{Entry, Field};

use crate::names::{camel, singular, words};

/// A field with the fields below it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) field: Field,
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// What makes two objects the same type: everything but the docs.
    fn shape(&self) -> String {
        let values: Vec<_> = self.field.values.iter().map(|[wire, name, _]| format!("{wire}={name}")).collect();
        let children: Vec<_> = self.children.iter().map(Node::shape).collect();
        let Field { name, kind, required, aliases, xml_only, verbatim, of, .. } = &self.field;
        let field = format!("{name}:{kind}:{required}:{aliases:?}:{xml_only}:{verbatim}:{of:?}");
        format!("{field}:{values:?}{{{}}}", children.join(","))
    }

    /// What makes two nested types one: whether the field itself is promised or repeated, and how it is spelled, does not
    /// change the type of its value.
    pub(crate) fn key(&self) -> String {
        let mut node = self.clone();
        node.field.name = self.local_name().concat();
        node.field.required = false;
        node.field.kind = node.field.item_kind().to_owned();
        node.field.xml_only = false;
        node.field.verbatim = false;
        node.field.aliases.clear();
        node.shape()
    }

    /// Whether the value has a type of its own.
    pub(crate) fn is_type(&self) -> bool {
        !self.children.is_empty() || !self.field.values.is_empty() && self.field.kind != "bool01"
    }

    /// The words of the field's name; of one item where it is a list.
    pub(crate) fn local_name(&self) -> Vec<String> {
        let mut words = words(&camel(&self.field.name));
        if !self.field.is_list() {
            return words;
        }
        if words.last().is_some_and(|last| last == "List" || last == "Array") {
            words.pop();
        }
        match words.last_mut() {
            Some(last) => *last = singular(last),
            None => words.push("Item".to_owned()),
        }
        words
    }

    /// Whether a doc says of the object that it is one, and no more.
    pub(crate) fn is_bare(&self) -> bool {
        let bare = ["Body.", "Container element.", "Data.", "Item.", "Wrapper.", "Wrapper of the items."];
        !self.children.is_empty() && bare.contains(&self.field.doc.as_str())
    }

    pub(crate) fn is_object(&self) -> bool {
        self.field.item_kind() == "object"
    }
}

/// Arranges a flat list by its paths. Fields of a union (`of`) keep no children: their type is written by hand.
///
/// # Errors
/// When a field comes before the object it stands in.
pub(crate) fn tree(fields: &[Field], prefix: &str) -> Result<Vec<Node>, String> {
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
            let parent = parent.ok_or_else(|| format!("`{path}` comes before its parent `{part}`"))?;
            in_union |= parent.field.of.is_some();
            level = &mut parent.children;
        }
        if !in_union && !level.iter().any(|node| node.field.name == field.name) {
            level.push(Node { field: field.clone(), children: Vec::new() });
        }
    }
    Ok(roots)
}

/// Fields of the envelope that stand inside an object of the entry (`event.event_type`) are added to it; those at the
/// top are the `Envelope` type's.
pub(crate) fn entry_fields(entry: &Entry, envelope: &[Field]) -> Vec<Field> {
    let mut fields = Vec::new();
    // An entry that says no more than its name need not mention the object that has it.
    let parents = entry.select.keys().filter_map(|key| key.split_once('.')).map(|(parent, _)| parent);
    for parent in parents.filter(|parent| entry.fields.iter().all(|field| field.path() != *parent)) {
        let within =
            |path: &str| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        fields.extend(envelope.iter().filter(|field| within(field.path())).cloned());
    }
    for field in &entry.fields {
        fields.push(field.clone());
        let below = format!("{}.", field.path());
        fields.extend(envelope.iter().filter(|other| other.path().starts_with(&below)).cloned());
    }
    fields
}
