//! The files of a platform's types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use echostr_catalog::{Catalog, Element, Entry, Field, Platform};

use crate::{
    FORK, HEADER, alias,
    envelope::Common,
    model::{Member, Module, Struct},
    nested::{Top, Types},
    replies, rust, sources,
    table::{self, Rows},
    tree,
};

/// Names of the prelude, and of types that are written by hand.
const TAKEN: [&str; 7] = ["Default", "From", "MsgElement", "Option", "Reply", "String", "Vec"];

/// What is generated of a platform.
pub(crate) struct Written {
    /// The files, by their name.
    pub(crate) files: BTreeMap<String, String>,
    /// The names of its nested types, by what makes two of them one.
    pub(crate) types: BTreeMap<String, String>,
    /// The names of all of its types.
    pub(crate) names: BTreeSet<String>,
}

/// Writes the types of a platform. `elsewhere` are the nested types of the platform whose types it shares.
///
/// # Errors
/// When two types would have one name, or a type cannot be made of its fields.
pub(crate) fn write(catalog: &Catalog, elsewhere: &BTreeMap<String, String>) -> Result<Written, String> {
    let tops = tops(catalog)?;
    let mut taken: BTreeSet<String> = tops.iter().map(|(top, _)| top.name.clone()).collect();
    taken.extend(TAKEN.map(str::to_owned));
    let (tops, structs): (Vec<Top>, Vec<Struct>) = tops.into_iter().unzip();
    let mut types = Types::new(&taken, &tops, &catalog.type_names, &catalog.type_docs, elsewhere, true)?;
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    for (top, written) in tops.iter().zip(structs) {
        types.write(written, &top.fields, &top.home, &mut modules)?;
    }
    let mut files = BTreeMap::new();
    for (file, module) in &modules {
        files.insert(file.clone(), file_text(catalog, file, module));
    }
    let table = table::text(catalog, files.keys(), &types.re_exports())?;
    files.insert("mod".to_owned(), table);
    let names = modules.values().flat_map(declared).map(str::to_owned).collect();
    Ok(Written { files, types: types.names().clone(), names })
}

/// Writes the types of a fork's events, and their rows: one file, which is all that depends on them. `names` are those of the
/// other types of the platform.
///
/// # Errors
/// When an entry has the name of another type, or a type cannot be made of its fields.
pub(crate) fn write_fork(catalog: &Catalog, names: &BTreeSet<String>) -> Result<String, String> {
    let mut tops = tops(catalog)?;
    tops.retain(|(top, _)| top.home != "envelope");
    if let Some((top, _)) = tops.iter().find(|(top, _)| names.contains(&top.name)) {
        return Err(format!("`{}` is a type of upstream already", top.name));
    }
    tops.iter_mut().for_each(|(top, _)| FORK.clone_into(&mut top.home));
    let mut taken: BTreeSet<String> = tops.iter().map(|(top, _)| top.name.clone()).collect();
    taken.extend(names.iter().cloned().chain(TAKEN.map(str::to_owned)));
    let (tops, structs): (Vec<Top>, Vec<Struct>) = tops.into_iter().unzip();
    let elsewhere = BTreeMap::new();
    // A plain name may be one of upstream's tomorrow.
    let mut types = Types::new(&taken, &tops, &catalog.type_names, &catalog.type_docs, &elsewhere, false)?;
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    for (top, written) in tops.iter().zip(structs) {
        types.write(written, &top.fields, FORK, &mut modules)?;
    }
    let Rows { uses, rows, getters } = table::rows(catalog)?;
    let variant = &catalog.platform.variant;
    let Some(module) = modules.get(FORK) else {
        let title = title(&catalog.platform.name, FORK);
        return Ok(format!("//! {title}\n{HEADER}\nuse crate::event::events;\n\nevents! {{ @fork {variant}; }}\n"));
    };
    let mut text = file_text(catalog, FORK, module);
    if !replies::bodies(catalog).is_empty() {
        text += &answers(module).replacen("body_replies!", "crate::event::body_replies!", 1);
    }
    // Imports stand together.
    if let Some(at) = text.find("use crate::wire") {
        text.insert_str(at, &uses);
    }
    let _ = write!(text, "\nevents! {{\n    @fork {variant};\n\n{rows}}}\n{getters}");
    Ok(text)
}

/// The names of the types of a file.
fn declared(module: &Module) -> impl Iterator<Item = &str> {
    let structs = module.structs.iter().map(|item| item.name.as_str());
    structs.chain(module.enums.iter().map(|item| item.name.as_str()))
}

/// The types that the catalogue names: envelopes, entries, elements, answers.
fn tops(catalog: &Catalog) -> Result<Vec<(Top, Struct)>, String> {
    let mut tops: Vec<(Top, Struct)> = Vec::new();
    let mut push = |name: &str, home: &str, fields, written| {
        tops.push((Top { name: name.to_owned(), home: home.to_owned(), fields }, written));
    };
    let mut envelopes = BTreeSet::new();
    for entry in &catalog.event {
        let common = Common::of(catalog, entry)?;
        if envelopes.insert(common.name.clone()) {
            push(&common.name, "envelope", tree::tree(&common.top(), "")?, plain(&common.name, &common.doc));
        }
    }
    for entry in &catalog.event {
        let common = Common::of(catalog, entry)?;
        let prefix = entry.fan_out.as_ref().map_or(String::new(), |path| format!("{path}."));
        let top = common.top();
        let in_envelope = |field: &Field| {
            let path = field.path().strip_prefix(&prefix).unwrap_or(field.path());
            top.iter().any(|other| other.path() == path)
        };
        let mut fields = tree::entry_fields(entry, common.fields);
        fields.retain(|field| !in_envelope(field));
        let fields = tree::tree(&fields, &prefix).map_err(|error| format!("{}: {error}", entry.id))?;
        push(&entry.type_name, &entry.family, fields, event(&catalog.platform, entry, &common));
    }
    for element in &catalog.element {
        let written = Struct { aliases: alias::of_element(element), ..plain(&element.type_name, &element.summary) };
        push(&element.type_name, "element", tree::tree(&element.fields, "")?, written);
    }
    for (name, fields, answered) in replies::bodies(catalog) {
        let answered: Vec<_> = answered.iter().map(|name| format!("`{name}`")).collect();
        let doc = format!("Answer to {}.", answered.join(", "));
        push(&name, "reply", tree::tree(fields, "")?, plain(&name, &doc));
    }
    Ok(tops)
}

fn plain(name: &str, doc: &str) -> Struct {
    Struct { name: name.to_owned(), docs: vec![doc.to_owned()], ..Struct::default() }
}

fn event(platform: &Platform, entry: &Entry, common: &Common<'_>) -> Struct {
    let pages = sources::pages(&entry.sources);
    let envelope = Member {
        doc: common.member_doc.to_owned(),
        aliases: Vec::new(),
        name: "envelope".to_owned(),
        type_name: common.name.clone(),
        mode: "flatten",
        wire: Vec::new(),
    };
    Struct {
        name: entry.type_name.clone(),
        docs: docs(platform, entry),
        aliases: alias::of_entry(entry, platform),
        pages: (!pages.is_empty()).then(|| format!("Documentation: {}.", pages.join("; "))),
        members: vec![envelope],
    }
}

fn docs(platform: &Platform, entry: &Entry) -> Vec<String> {
    let mut docs = vec![entry.summary.clone()];
    let selectors = entry.selectors().map(|select| {
        let keys = platform.keys_of(select).iter();
        let pairs = keys.filter_map(|key| select.get(key).map(|value| format!("`{key}` = `{value}`")));
        pairs.collect::<Vec<_>>().join(", ")
    });
    docs.push(format!("Selected by {}.", selectors.collect::<Vec<_>>().join("; or ")));
    if let Some(trigger) = &entry.trigger {
        docs.push(format!("Sent on: {trigger}."));
    }
    docs.extend(entry.quirks.clone());
    if entry.deprecated.is_some() {
        docs.push("The platform no longer offers this; old accounts may still get it.".to_owned());
    }
    if let Some(doc) = entry.response.as_ref().and_then(|response| response.doc.as_ref()) {
        docs.push(format!("Answer: {doc}"));
    }
    docs
}

fn file_text(catalog: &Catalog, file: &str, module: &Module) -> String {
    let body = rust::module(module);
    let tail = match file {
        "element" => element_union(&catalog.element),
        "reply" => answers(module),
        _ => String::new(),
    };
    let mut uses = Vec::new();
    for (macro_name, used) in
        [("open_enum", !module.enums.is_empty()), ("tagged", file == "element"), ("wire", !module.structs.is_empty())]
    {
        uses.extend(used.then_some(macro_name));
    }
    // Types of other files of the platform, by the names its `mod.rs` re-exports them under.
    let declared: BTreeSet<&str> = declared(module).collect();
    let mut used = BTreeSet::new();
    for member in module.structs.iter().flat_map(|item| &item.members) {
        let name = member
            .type_name
            .trim_start_matches("Vec<")
            .trim_start_matches("Option<")
            .trim_start_matches("Vec<")
            .trim_end_matches('>');
        let builtin = matches!(name, "String" | "i64" | "u64" | "f64" | "bool" | "serde_json::Value");
        let own = declared.contains(name) || (name == "MsgElement" && file == "element");
        if !builtin && !own {
            used.insert(name);
        }
    }
    let used: Vec<_> = used.into_iter().collect();
    let supers = if used.is_empty() { String::new() } else { rust::import("super", &used) };
    let events = if file == "reply" { "use crate::event::body_replies;\n" } else { "" };
    let uses = rust::import("crate::wire", &uses);
    let title = title(&catalog.platform.name, file);
    format!("//! {title}\n{HEADER}\n{supers}{events}{uses}\n{body}{tail}")
}

fn title(platform: &str, file: &str) -> String {
    match file {
        "envelope" => "Fields that every push of the platform carries.".to_owned(),
        "shared" => "Types that occur in several families.".to_owned(),
        "element" => "Elements of a message body (MsgBody).".to_owned(),
        "reply" => "Structured answers.".to_owned(),
        FORK => format!("Events of a fork: `catalog/fork/{platform}.toml`."),
        family => format!("`{platform}`, family `{family}`."),
    }
}

/// The types of this file that are whole answers.
fn answers(module: &Module) -> String {
    let names: Vec<_> =
        module.structs.iter().map(|item| item.name.as_str()).filter(|name| name.ends_with("Reply")).collect();
    format!("\nbody_replies! {{\n    {}\n}}\n", names.join(",\n    "))
}

fn element_union(elements: &[Element]) -> String {
    let mut out = String::from(
        "\ntagged! {\n    /// One element of a message body, told apart by `MsgType`.\n    pub enum MsgElement: \"MsgType\" / \"MsgContent\" {\n",
    );
    for element in elements {
        let variant = element.type_name.trim_end_matches("Elem");
        let _ = writeln!(out, "        /// {}", element.summary);
        let _ = writeln!(out, "        {variant}({}) = {:?},", element.type_name, element.tag());
    }
    out.push_str("    }\n}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nested types that files declare: name and members, without what is documentation.
    fn declared(files: &BTreeMap<String, String>) -> BTreeSet<(String, Vec<String>)> {
        let mut found = BTreeSet::new();
        for (_, text) in files.iter().filter(|(file, _)| *file != "envelope") {
            let mut lines =
                text.lines().map(str::trim).filter(|line| !line.starts_with("///") && !line.starts_with("#["));
            while let Some(line) = lines.next() {
                let Some(head) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) else {
                    continue;
                };
                let members: Vec<String> = lines.by_ref().take_while(|line| *line != "}").map(str::to_owned).collect();
                // Events and answers are not nested.
                if !head.contains("Reply") && !members.iter().any(|member| member.contains("= flatten")) {
                    found.insert((head.to_owned(), members));
                }
            }
        }
        found
    }

    #[test]
    fn a_type_that_is_alike_on_two_platforms_is_declared_once() {
        let catalog = |name: &str| echostr_catalog::platform(name).expect("a catalogue");
        let mut pairs = 0;
        for name in echostr_catalog::platforms() {
            let here = catalog(name);
            let Some(other) = here.platform.types_of.clone() else { continue };
            let there = write(&catalog(&other), &BTreeMap::new()).expect("types");
            let alone = write(&here, &BTreeMap::new()).expect("types");
            let shared = write(&here, &there.types).expect("types");
            assert_eq!(alone.types, shared.types, "{name}: a type has another name when it is shared");
            let twice = |here: &Written| -> Vec<String> {
                let there = declared(&there.files);
                declared(&here.files).intersection(&there).map(|(head, _)| head.clone()).collect()
            };
            assert!(!twice(&alone).is_empty(), "{name} shares nothing with {other}");
            assert_eq!(twice(&shared), Vec::<String>::new(), "{name} declares what {other} does");
            pairs += 1;
        }
        assert_eq!(pairs, 2);
    }
}
