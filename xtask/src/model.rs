//! From the flat field lists of the catalogue to the types they describe.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::{Entry, Field},
    names::{camel, snake, words},
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
        let Field { name, kind, required, aliases, xml_only, verbatim, of, .. } = &self.field;
        let field = format!("{name}:{kind}:{required}:{aliases:?}:{xml_only}:{verbatim}:{of:?}");
        format!("{field}:{values:?}{{{}}}", children.join(","))
    }

    /// What makes two nested types one: whether the field itself is promised or repeated, and how it is spelled, does not
    /// change the type of its value.
    fn key(&self) -> String {
        let mut node = self.clone();
        node.field.name = self.local_name().concat();
        node.field.required = false;
        node.field.kind = node.field.kind.trim_start_matches("list<").trim_end_matches('>').to_owned();
        node.field.xml_only = false;
        node.field.verbatim = false;
        node.field.aliases.clear();
        node.shape()
    }

    /// Whether the value has a type of its own.
    fn is_type(&self) -> bool {
        !self.children.is_empty() || !self.field.values.is_empty() && self.field.kind != "bool01"
    }

    /// The words of the field's name; of one item where it is a list.
    fn local_name(&self) -> Vec<String> {
        let mut words = words(&camel(&self.field.name));
        if !self.field.kind.starts_with("list<") {
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

/// A type with a name of its own in the catalogue: an envelope, an event, an element, an answer.
pub struct Top {
    pub name: String,
    /// The file it goes to.
    pub home: String,
    pub fields: Vec<Node>,
}

/// Nested types that are one type: alike in everything but their docs.
#[derive(Default)]
struct Group {
    local: Vec<String>,
    /// The files it occurs in.
    homes: BTreeSet<String>,
    /// The types it occurs in.
    owners: Vec<Owner>,
    /// Where it occurs, as in `Entry.path.to.field`.
    paths: Vec<String>,
}

#[derive(Clone, PartialEq)]
enum Owner {
    Top(String),
    /// By its key among the groups.
    Nested(String),
}

/// Names the nested types of a platform: by their field where all of that name are alike, else by their owners too.
pub struct Types {
    groups: BTreeMap<String, Group>,
    names: BTreeMap<String, String>,
    written: BTreeSet<String>,
}

/// Words that say nothing without their owner.
const VAGUE: &[&str] = &[
    "Action", "Content", "Data", "Detail", "Event", "Format", "Info", "Item", "Kind", "Label", "List", "Platform",
    "Reason", "Result", "Ret", "Role", "Scene", "Source", "State", "Status", "Type",
];

/// Words at the end of an owner that the name of a nested type can do without.
const WEAK: &[&str] = &["Data", "Envelope", "Event", "Info", "Item", "List", "Message", "Notify"];

impl Types {
    /// Looks at every field of the platform. `taken` are names that no nested type may have, `given` the names that the
    /// catalogue gives.
    ///
    /// # Errors
    /// When two types would have one name, or `given` names a field that there is not.
    pub fn new(taken: &BTreeSet<String>, tops: &[Top], given: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut types = Self { groups: BTreeMap::new(), names: BTreeMap::new(), written: BTreeSet::new() };
        for top in tops {
            types.note(&top.fields, &Owner::Top(top.name.clone()), &top.home, &top.name);
        }
        let mut used = taken.clone();
        for (path, name) in given {
            let group = types.groups.iter().find(|(_, group)| group.paths.contains(path));
            let (key, _) = group.ok_or_else(|| format!("type_names: `{path}` is no nested type"))?;
            if types.names.insert(key.clone(), name.clone()).is_some() || !used.insert(name.clone()) {
                return Err(format!("type_names: `{path}` or `{name}` is named twice"));
            }
        }
        let mut of_local: BTreeMap<String, usize> = BTreeMap::new();
        types.groups.values().for_each(|group| *of_local.entry(group.local.concat()).or_default() += 1);
        let keys: Vec<String> = types.groups.keys().cloned().collect();
        for key in &keys {
            let local = types.groups[key].local.concat();
            let plain = of_local[&local] == 1 && !VAGUE.contains(&local.as_str());
            if plain && !types.names.contains_key(key) && used.insert(local.clone()) {
                types.names.insert(key.clone(), local);
            }
        }
        for key in &keys {
            types.qualify(key, &mut used)?;
        }
        Ok(types)
    }

    fn note(&mut self, nodes: &[Node], owner: &Owner, home: &str, path: &str) {
        for node in nodes {
            let path = format!("{path}.{}", node.field.name);
            if node.is_type() {
                let key = node.key();
                let group = self.groups.entry(key.clone()).or_default();
                group.local = node.local_name();
                group.homes.insert(home.to_owned());
                if !group.owners.contains(owner) {
                    group.owners.push(owner.clone());
                }
                group.paths.push(path.clone());
                self.note(&node.children, &Owner::Nested(key), home, &path);
            }
        }
    }

    /// Gives a type a name made of its owner's and its field's.
    fn qualify(&mut self, key: &str, used: &mut BTreeSet<String>) -> Result<String, String> {
        if let Some(name) = self.names.get(key) {
            return Ok(name.clone());
        }
        let mut owners = Vec::new();
        for owner in self.groups[key].owners.clone() {
            owners.push(match owner {
                Owner::Top(name) => name,
                Owner::Nested(key) => self.qualify(&key, used)?,
            });
        }
        let local = &self.groups[key].local;
        let owner = common(&owners);
        let joined = [join(&strong(&owner), local), join(&owner, local), [owner, local.clone()].concat()];
        let name = joined.iter().map(|words| words.concat()).find(|name| !used.contains(name));
        let name = name.ok_or_else(|| format!("`{}` needs a name in type_names", self.groups[key].paths[0]))?;
        used.insert(name.clone());
        self.names.insert(key.to_owned(), name.clone());
        Ok(name)
    }

    /// The name of a nested type, and the file it is shared from (`None`: its owner's).
    fn name(&self, node: &Node) -> (String, Option<&'static str>) {
        let key = node.key();
        (self.names[&key].clone(), (self.groups[&key].homes.len() > 1).then_some("shared"))
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
        let members: Vec<_> = nodes.iter().map(|node| self.member(node, home, modules)).collect();
        if let Some(written) = modules.get_mut(home).and_then(|module| module.structs.get_mut(at)) {
            written.members = members;
        }
    }

    fn member(&mut self, node: &Node, home: &str, modules: &mut BTreeMap<String, Module>) -> Member {
        let field = &node.field;
        let list = field.kind.starts_with("list<");
        let (base, mode) = if let Some(of) = &field.of {
            (camel(&format!("msg_{of}")), "")
        } else if node.is_object() && node.children.is_empty() {
            ("serde_json::Value".to_owned(), "")
        } else if node.is_type() {
            (self.nested(node, home, modules), if field.xml_only { "wrapper" } else { "" })
        } else {
            let (base, mode) = scalar(&field.kind);
            (base.to_owned(), if field.verbatim { "verbatim" } else { mode })
        };
        let type_name = match (list, field.required || mode == "wrapper") {
            (true, _) => format!("Vec<{base}>"),
            (false, true) => base,
            (false, false) => format!("Option<{base}>"),
        };
        let mode = if list && !field.required && mode.is_empty() { "optional" } else { mode };
        let doc = if is_bare(&field.doc) && node.children.len() <= 4 {
            let names: Vec<_> = node.children.iter().map(|child| format!("`{}`", child.field.name)).collect();
            format!("Holds {}.", listed(&names))
        } else {
            field.doc.clone()
        };
        Member {
            doc,
            name: snake(&field.name),
            type_name,
            mode,
            wire: std::iter::once(&field.name).chain(&field.aliases).cloned().collect(),
        }
    }

    /// What a nested type is. Of a field that only holds others there is nothing to say but where it is, and what is said
    /// of a list is not said of its item.
    fn doc(&self, node: &Node) -> String {
        let Field { name, kind, doc, .. } = &node.field;
        let group = &self.groups[&node.key()];
        let owner = match group.owners.as_slice() {
            [Owner::Top(owner)] => Some(owner),
            [Owner::Nested(key)] => self.names.get(key),
            _ => None,
        };
        let place = owner.map_or_else(|| format!("`{name}`"), |owner| format!("`{name}` of `{owner}`"));
        if kind.starts_with("list<") {
            format!("An item of {place}: {}", lower(doc))
        } else if is_bare(doc) {
            format!("What {place} holds.")
        } else {
            doc.clone()
        }
    }

    fn nested(&mut self, node: &Node, home: &str, modules: &mut BTreeMap<String, Module>) -> String {
        let (name, shared) = self.name(node);
        let home = shared.unwrap_or(home);
        if !self.written.insert(name.clone()) {
            return name;
        }
        if node.children.is_empty() {
            let doc = node.field.doc.clone();
            let kind = if node.field.kind.contains("string") { "str" } else { "i64" };
            let new = Enum { name: name.clone(), doc, kind, variants: variants(&node.field) };
            modules.entry(home.to_owned()).or_default().enums.push(new);
        } else {
            self.write(&name, vec![self.doc(node)], &node.children, home, modules);
        }
        name
    }
}

/// Whether a doc says of an object that it is one, and no more.
fn is_bare(doc: &str) -> bool {
    matches!(doc, "Body." | "Container element." | "Data." | "Item." | "Wrapper." | "Wrapper of the items.")
}

/// `a`, `b` and `c`.
fn listed(names: &[String]) -> String {
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "what belongs to it".to_owned(),
    }
}

/// The text as it goes on after a colon: without its capital, unless it begins with an abbreviation or a name.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && (second.is_lowercase() || second == ' ') => {
            first.to_lowercase().collect::<String>() + &text[first.len_utf8()..]
        }
        _ => text.to_owned(),
    }
}

/// The words that all owners have in a row, the longest such row; the first owner's if there is none.
fn common(owners: &[String]) -> Vec<String> {
    let all: Vec<Vec<String>> = owners.iter().map(|owner| words(owner)).collect();
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let in_all = |row: &[String]| others.iter().all(|other| other.windows(row.len()).any(|part| part == row));
    let rows = (1..=first.len()).rev().flat_map(|length| first.windows(length));
    rows.into_iter().find(|row| in_all(row)).unwrap_or(first).to_vec()
}

/// The name without the words at its end that say little.
fn strong(owner: &[String]) -> Vec<String> {
    let weak = owner.iter().skip(1).rev().take_while(|word| WEAK.contains(&word.as_str())).count();
    owner[..owner.len() - weak].to_vec()
}

/// Both names, without repeating at the beginning of the second what the first has said.
fn join(owner: &[String], local: &[String]) -> Vec<String> {
    let said = local[..local.len() - 1].iter().take_while(|word| owner.contains(word)).count();
    let new = &local[said..];
    if owner.last() == new.first() { [owner, &new[1..]].concat() } else { [owner, new].concat() }
}

/// One of what a plural names.
fn singular(word: &str) -> String {
    const SAME: &[&str] = &["Goods", "News", "Series"];
    let ending = |end: &str| word.len() > end.len() + 1 && word.ends_with(end);
    if SAME.contains(&word) || ["ss", "us", "is"].into_iter().any(ending) || !ending("s") {
        word.to_owned()
    } else if ending("ies") {
        format!("{}y", &word[..word.len() - 3])
    } else if ending("sses") || ending("xes") {
        word[..word.len() - 2].to_owned()
    } else {
        word[..word.len() - 1].to_owned()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str) -> Vec<String> {
        words(name)
    }

    #[test]
    fn a_plural_names_one() {
        for (many, one) in [
            ("Comments", "Comment"),
            ("Categories", "Category"),
            ("Addresses", "Address"),
            ("Goods", "Goods"),
            ("Status", "Status"),
            ("s", "s"),
        ] {
            assert_eq!(singular(many), one);
        }
    }

    #[test]
    fn a_nested_name_does_not_repeat_its_owner() {
        for (owner, local, expected) in [
            ("CopyrightCheckResult", "ResultList", "CopyrightCheckResultList"),
            ("CopyrightCheckResultList", "Item", "CopyrightCheckResultItem"),
            ("StoreCouponCreate", "CouponInfo", "StoreCouponCreateInfo"),
            ("TextMessage", "Text", "Text"),
            ("StateChangeInfo", "Action", "StateChangeAction"),
            ("Info", "Type", "InfoType"),
        ] {
            assert_eq!(join(&strong(&split(owner)), &split(local)).concat(), expected);
        }
    }

    #[test]
    fn a_shared_name_is_what_its_owners_have_in_common() {
        for (owners, expected) in [
            (&["TransportAddOrder", "TransportReaddOrder", "TransportPreCreateOrder"][..], "Transport"),
            (&["QuerySingleWaybillFee", "AddSingleWaybill"], "SingleWaybill"),
            (&["One"], "One"),
            (&["One", "Two"], "One"),
        ] {
            let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
            assert_eq!(common(&owners).concat(), expected);
        }
    }

    fn nested(name: &str, children: &[&str]) -> Node {
        let field = |name: &str, kind: &str| {
            toml::from_str::<Field>(&format!("name = {name:?}\ntype = {kind:?}")).expect("a field")
        };
        let children = children.iter().map(|name| Node { field: field(name, "string"), children: Vec::new() });
        Node { field: field(name, "object"), children: children.collect() }
    }

    fn top(name: &str, fields: Vec<Node>) -> Top {
        Top { name: name.to_owned(), home: "family".to_owned(), fields }
    }

    #[test]
    fn alike_types_are_one_and_others_are_told_apart() {
        let tops = [
            top("OrderNew", vec![nested("shop", &["id"]), nested("buyer", &["id"])]),
            top("OrderPay", vec![nested("shop", &["id"]), nested("buyer", &["id", "bank"])]),
        ];
        let types = Types::new(&BTreeSet::new(), &tops, &BTreeMap::new()).expect("names");
        let names: BTreeSet<_> = types.names.values().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["OrderNewBuyer", "OrderPayBuyer", "Shop"]));

        let given = |path: &str, name: &str| BTreeMap::from([(path.to_owned(), name.to_owned())]);
        let types = Types::new(&BTreeSet::new(), &tops, &given("OrderPay.buyer", "Payer")).expect("names");
        assert!(types.names.values().any(|name| name == "Payer"));
        let taken = BTreeSet::from(["Payer".to_owned()]);
        assert!(Types::new(&taken, &tops, &given("OrderPay.buyer", "Payer")).is_err(), "the name is taken");
        assert!(Types::new(&taken, &tops, &given("OrderPay.seller", "Seller")).is_err(), "there is no such field");
    }
}
