//! Names of nested types, and the types themselves.

use std::collections::{BTreeMap, BTreeSet};

use echostr_catalog::Field;

use crate::{
    alias,
    model::{Enum, Member, Module, Struct, Variant},
    names::{camel, common, join, snake, strong},
    tree::Node,
};

/// A type with a name of its own in the catalogue: an envelope, an event, an element, an answer.
pub(crate) struct Top {
    pub(crate) name: String,
    /// The file it goes to.
    pub(crate) home: String,
    pub(crate) fields: Vec<Node>,
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
    /// Its fields do not say what it is: they hold several, or say only that they hold others.
    needs_doc: bool,
}

#[derive(Clone, PartialEq)]
enum Owner {
    Top(String),
    /// By its key among the groups.
    Nested(String),
}

/// Names the nested types of a platform: by their field where all of that name are alike, else by their owners too.
pub(crate) struct Types<'c> {
    groups: BTreeMap<String, Group>,
    names: BTreeMap<String, String>,
    /// What the catalogue says of a type, by its name.
    docs: &'c BTreeMap<String, String>,
    /// Names of types that another platform declares, by their key.
    elsewhere: &'c BTreeMap<String, String>,
    written: BTreeSet<String>,
}

/// Words that say nothing without their owner.
const VAGUE: &[&str] = &[
    "Action", "Content", "Data", "Detail", "Event", "Format", "Info", "Item", "Kind", "Label", "List", "Platform",
    "Reason", "Result", "Ret", "Role", "Scene", "Source", "State", "Status", "Type",
];

impl<'c> Types<'c> {
    /// Looks at every field of the platform. `taken` are names that no nested type may have; the catalogue gives the names
    /// and docs that do not follow from the fields. Types `elsewhere` are not written again. Without `plain` names every type has
    /// that of its owner in its own.
    ///
    /// # Errors
    /// When two types would have one name, a type would have no doc, or the catalogue names a field or a type that there
    /// is not.
    pub(crate) fn new(
        taken: &BTreeSet<String>,
        tops: &[Top],
        given: &BTreeMap<String, String>,
        docs: &'c BTreeMap<String, String>,
        elsewhere: &'c BTreeMap<String, String>,
        plain: bool,
    ) -> Result<Self, String> {
        let (groups, names, written) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut types = Self { groups, names, docs, elsewhere, written };
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
            let is_plain = plain && of_local[&local] == 1 && !VAGUE.contains(&local.as_str());
            if is_plain && !types.names.contains_key(key) && used.insert(local.clone()) {
                types.names.insert(key.clone(), local);
            }
        }
        for key in &keys {
            types.qualify(key, &mut used)?;
        }
        types.check_docs()?;
        Ok(types)
    }

    /// The name of each nested type, by its key.
    pub(crate) fn names(&self) -> &BTreeMap<String, String> {
        &self.names
    }

    /// The types that another platform declares: its name, and the name here.
    pub(crate) fn re_exports(&self) -> BTreeSet<(&str, &str)> {
        let both = self.names.iter().filter_map(|(key, here)| Some((self.elsewhere.get(key)?.as_str(), here.as_str())));
        both.collect()
    }

    fn check_docs(&self) -> Result<(), String> {
        for (key, group) in self.groups.iter().filter(|(_, group)| group.needs_doc) {
            let name = &self.names[key];
            if !self.docs.contains_key(name) {
                return Err(format!("`{}` has the type `{name}`, which needs a line in type_docs", group.paths[0]));
            }
        }
        match self.docs.keys().find(|name| !self.names.values().any(|known| known == *name)) {
            Some(name) => Err(format!("type_docs: `{name}` is no nested type")),
            None => Ok(()),
        }
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
                group.needs_doc |= !node.children.is_empty() && (node.field.is_list() || node.is_bare());
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

    /// Writes the struct, whose members are made of `nodes`, and the types below it, into `modules`.
    ///
    /// # Errors
    /// When a field has a type that the catalogue does not know.
    pub(crate) fn write(
        &mut self,
        written: Struct,
        nodes: &[Node],
        home: &str,
        modules: &mut BTreeMap<String, Module>,
    ) -> Result<(), String> {
        // The owner stands before the types of its fields.
        let structs = &mut modules.entry(home.to_owned()).or_default().structs;
        let at = structs.len();
        structs.push(written);
        for node in nodes {
            let member = self.member(node, home, modules)?;
            if let Some(written) = modules.get_mut(home).and_then(|module| module.structs.get_mut(at)) {
                written.members.push(member);
            }
        }
        Ok(())
    }

    fn member(&mut self, node: &Node, home: &str, modules: &mut BTreeMap<String, Module>) -> Result<Member, String> {
        let field = &node.field;
        let list = field.is_list();
        let (base, mode) = if let Some(of) = &field.of {
            (camel(&format!("msg_{of}")), "")
        } else if node.is_object() && node.children.is_empty() {
            ("serde_json::Value".to_owned(), "")
        } else if node.is_type() {
            (self.nested(node, home, modules)?, if field.xml_only || field.wrapper { "wrapper" } else { "" })
        } else {
            let (base, mode) = scalar(field.item_kind()).ok_or_else(|| format!("`{}` is no type", field.kind))?;
            (base.to_owned(), if field.verbatim { "verbatim" } else { mode })
        };
        let doc = if node.is_bare() { self.docs.get(&base).unwrap_or(&field.doc) } else { &field.doc };
        // Without a value there is nothing to be told, but a number or a flag would tell something: 0 is a result.
        let tells_nothing = matches!(field.kind.as_str(), "timestamp_s" | "timestamp_ms" | "csv");
        let has_default = node.is_object() || field.kind == "string" || tells_nothing;
        let type_name = match (list, field.required && has_default || mode == "wrapper") {
            (true, _) => format!("Vec<{base}>"),
            (false, true) => base.clone(),
            (false, false) => format!("Option<{base}>"),
        };
        let name = snake(&field.name);
        Ok(Member {
            doc: doc.clone(),
            aliases: alias::of_field(field, &name),
            name,
            type_name,
            mode,
            wire: std::iter::once(&field.name).chain(&field.aliases).cloned().collect(),
        })
    }

    fn nested(&mut self, node: &Node, home: &str, modules: &mut BTreeMap<String, Module>) -> Result<String, String> {
        let (name, shared) = self.name(node);
        if self.elsewhere.contains_key(&node.key()) {
            return Ok(name);
        }
        let home = shared.unwrap_or(home);
        if !self.written.insert(name.clone()) {
            return Ok(name);
        }
        let doc = self.docs.get(&name).unwrap_or(&node.field.doc).clone();
        if node.children.is_empty() {
            let kind = if node.field.kind.contains("string") { "str" } else { "i64" };
            let new = Enum { name: name.clone(), doc, kind, variants: variants(&node.field) };
            modules.entry(home.to_owned()).or_default().enums.push(new);
        } else {
            let new = Struct { name: name.clone(), docs: vec![doc], ..Struct::default() };
            self.write(new, &node.children, home, modules)?;
        }
        Ok(name)
    }
}

/// Rust type and way of reading.
fn scalar(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "string" => ("String", ""),
        "i64" | "timestamp_s" | "timestamp_ms" => ("i64", ""),
        "u64" => ("u64", ""),
        "f64" => ("f64", ""),
        "bool" => ("bool", ""),
        "bool01" => ("bool", "flag"),
        "csv" => ("Vec<String>", "csv"),
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn alike_types_are_one_and_others_are_distinguished() {
        let tops = [
            top("OrderNew", vec![nested("shop", &["id"]), nested("buyer", &["id"])]),
            top("OrderPay", vec![nested("shop", &["id"]), nested("buyer", &["id", "bank"])]),
        ];
        let none = BTreeMap::new();
        let types = Types::new(&BTreeSet::new(), &tops, &none, &none, &none, true).expect("names");
        let names: BTreeSet<_> = types.names.values().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["OrderNewBuyer", "OrderPayBuyer", "Shop"]));

        let given = |path: &str, name: &str| BTreeMap::from([(path.to_owned(), name.to_owned())]);
        let types =
            Types::new(&BTreeSet::new(), &tops, &given("OrderPay.buyer", "Payer"), &none, &none, true).expect("names");
        assert!(types.names.values().any(|name| name == "Payer"));
        let taken = BTreeSet::from(["Payer".to_owned()]);
        assert!(
            Types::new(&taken, &tops, &given("OrderPay.buyer", "Payer"), &none, &none, true).is_err(),
            "the name is taken"
        );
        assert!(
            Types::new(&taken, &tops, &given("OrderPay.seller", "Seller"), &none, &none, true).is_err(),
            "there is no such field"
        );
    }

    #[test]
    fn what_another_platform_declares_is_not_written_again() {
        let tops = [top("OrderNew", vec![nested("shop", &["id"]), nested("buyer", &["id", "bank"])])];
        let (none, taken) = (BTreeMap::new(), BTreeSet::new());
        let first = Types::new(&taken, &tops, &none, &none, &none, true).expect("names");
        let here = [top("OrderPaid", vec![nested("shop", &["id"]), nested("buyer", &["id"])])];
        let given = BTreeMap::from([("OrderPaid.shop".to_owned(), "Store".to_owned())]);
        let mut types = Types::new(&taken, &here, &given, &none, first.names(), true).expect("names");
        assert_eq!(types.re_exports(), BTreeSet::from([("Shop", "Store")]));
        let mut modules = BTreeMap::new();
        types
            .write(
                Struct { name: "OrderPaid".to_owned(), ..Struct::default() },
                &here[0].fields,
                "family",
                &mut modules,
            )
            .expect("types");
        let written: Vec<_> = modules["family"].structs.iter().map(|written| written.name.as_str()).collect();
        assert_eq!(written, ["OrderPaid", "Buyer"]);
    }

    #[test]
    fn what_its_fields_do_not_describe_needs_a_doc() {
        let mut list = nested("shops", &["id"]);
        list.field.kind = "list<object>".to_owned();
        let tops = [top("OrderNew", vec![list])];
        let (none, taken) = (BTreeMap::new(), BTreeSet::new());
        let docs = |name: &str| BTreeMap::from([(name.to_owned(), "A shop.".to_owned())]);
        let error = |docs: &BTreeMap<String, String>| Types::new(&taken, &tops, &none, docs, &none, true).err();
        assert_eq!(
            error(&none).as_deref(),
            Some("`OrderNew.shops` has the type `Shop`, which needs a line in type_docs")
        );
        assert_eq!(error(&docs("Shop")), None);
        let mut both = docs("Shop");
        both.extend(docs("Buyer"));
        assert_eq!(error(&both).as_deref(), Some("type_docs: `Buyer` is no nested type"));
    }
}
