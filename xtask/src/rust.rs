//! Writes the types as Rust, formatted.

use std::fmt::Write as _;

use crate::model::{Enum, Member, Module, Struct};

const WIDTH: usize = 118;

/// `///` lines of Markdown, wrapped.
pub(crate) fn doc(indent: usize, marker: &str, text: &str) -> String {
    let pad = " ".repeat(indent);
    let mut out = String::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let width = |text: &str| text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
            if !line.is_empty() && indent + marker.len() + 1 + width(&line) + 1 + width(word) > WIDTH {
                let _ = writeln!(out, "{pad}{marker} {line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = if line.is_empty() { writeln!(out, "{pad}{marker}") } else { writeln!(out, "{pad}{marker} {line}") };
    }
    out
}

/// What rustdoc would take for a link, an element or emphasis is meant literally; code spans are left alone.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for (at, piece) in text.split('`').enumerate() {
        if at > 0 {
            out.push('`');
        }
        if at % 2 == 1 {
            out.push_str(piece);
            continue;
        }
        for (at, word) in piece.split(' ').enumerate() {
            if at > 0 {
                out.push(' ');
            }
            if word.starts_with("http://") || word.starts_with("https://") {
                let _ = write!(out, "<{}>", word.trim_end_matches(['.', ',', ';']));
            } else {
                out.push_str(
                    &word
                        .replace('[', "\\[")
                        .replace(']', "\\]")
                        .replace('<', "\\<")
                        .replace('>', "\\>")
                        .replace('*', "\\*"),
                );
            }
        }
    }
    out
}

/// An attribute with other names; empty when there are none.
pub(crate) fn aliases(indent: usize, names: &[String]) -> String {
    let pad = " ".repeat(indent);
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => format!("{pad}#[doc(alias = {one})]\n"),
        many => format!("{pad}#[doc(alias({}))]\n", many.join(", ")),
    }
}

/// A `use` of these names, in the lines that rustfmt would make.
pub(crate) fn import(module: &str, names: &[&str]) -> String {
    if let [one] = names {
        return format!("use {module}::{one};\n");
    }
    let line = format!("use {module}::{{{}}};\n", names.join(", "));
    if line.len() <= 121 {
        return line;
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name},")).collect();
    format!("use {module}::{{\n{}}};\n", filled(4, names.iter().map(String::as_str)))
}

/// Lines as full as they may be.
pub(crate) fn filled<'w>(indent: usize, words: impl Iterator<Item = &'w str>) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && indent + line.len() + 1 + word.len() > 120 {
            let _ = writeln!(out, "{}{line}", " ".repeat(indent));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{}{line}", " ".repeat(indent));
    out
}

/// The body of a file: its structs, then its enumerations.
pub(crate) fn module(module: &Module) -> String {
    let mut out = String::new();
    if !module.structs.is_empty() {
        out.push_str("wire! {\n");
        for (at, item) in module.structs.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            structure(&mut out, item);
        }
        out.push_str("}\n");
    }
    if !module.enums.is_empty() {
        if !module.structs.is_empty() {
            out.push('\n');
        }
        out.push_str("open_enum! {\n");
        for (at, item) in module.enums.iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            enumeration(&mut out, item);
        }
        out.push_str("}\n");
    }
    out
}

fn structure(out: &mut String, item: &Struct) {
    let mut docs: Vec<_> = item.docs.iter().map(|paragraph| escape(paragraph)).collect();
    docs.extend(item.pages.clone());
    out.push_str(&doc(4, "///", &docs.join("\n\n")));
    out.push_str(&aliases(4, &item.aliases));
    if item.members.is_empty() {
        let _ = writeln!(out, "    pub struct {} {{}}", item.name);
        return;
    }
    let _ = writeln!(out, "    pub struct {} {{", item.name);
    for member in &item.members {
        out.push_str(&doc(8, "///", &escape(&sentence(&member.doc))));
        out.push_str(&aliases(8, &member.aliases));
        let _ = writeln!(out, "        pub {}: {} = {},", member.name, member.type_name, spelling(member));
    }
    out.push_str("    }\n");
}

fn spelling(member: &Member) -> String {
    let names: Vec<_> = member.wire.iter().map(|name| format!("{name:?}")).collect();
    format!("{} {}", member.mode, names.join(" | ")).trim().to_owned()
}

fn enumeration(out: &mut String, item: &Enum) {
    out.push_str(&doc(4, "///", &escape(&sentence(&item.doc))));
    let _ = writeln!(out, "    pub enum {}: {} {{", item.name, item.kind);
    for variant in &item.variants {
        out.push_str(&doc(8, "///", &escape(&sentence(&variant.doc))));
        let wire: Vec<_> = variant
            .wire
            .iter()
            .map(|wire| if item.kind == "str" { format!("{wire:?}") } else { wire.clone() })
            .collect();
        let _ = writeln!(out, "        {} = {},", variant.name, wire.join(" | "));
    }
    out.push_str("    }\n");
}

/// Begins with a capital and ends with a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first_word_is_code = text.split_whitespace().next().is_some_and(|word| word.contains(['_', '.', '/', '=']));
    let mut out = match letters.next() {
        Some(first) if !first_word_is_code => first.to_uppercase().collect::<String>() + letters.as_str(),
        _ => text.to_owned(),
    };
    if !out.ends_with(['.', '。', ')', '!']) && !out.is_empty() {
        out.push('.');
    }
    if out.is_empty() { "Not described.".to_owned() } else { out }
}
