//! Arrays of tables: `[[forward]]`, `[[answer]]`.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use super::reader::{Reader, Section, kind};

/// The tables of an array, with their names, each of which is there once: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
pub(super) fn read<'r>(reader: &'r Reader<'r>, root: &'r DeTable<'r>, key: &str) -> Vec<(String, Section<'r>)> {
    const NAME: &str = "a name of 1 to 64 of a-z, 0-9, `_` and `-`";
    let Some((at, value)) = root.get_key_value(key) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        let text = format!("`{key}` must be an array of tables, [[{key}]], not {}", kind(value.get_ref()));
        reader.problem(Some(reader.line(at)), text);
        return Vec::new();
    };
    let mut lines: HashMap<&str, usize> = HashMap::with_capacity(items.len());
    let mut tables = Vec::with_capacity(items.len());
    for item in items {
        let line = reader.line(item);
        let DeValue::Table(table) = item.get_ref() else {
            let text = format!("`{key}` must be an array of tables, [[{key}]], not of {}s", item.get_ref().type_str());
            reader.problem(Some(line), text);
            continue;
        };
        let name = table.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or_default();
        let section = Section::new(reader, format!("[[{key}]]"), line, table);
        let section = section.reading(reader.needs.of_table(key, name));
        section.require("name", "it is how this one is called in commands, logs and metrics");
        let is_name = |text: &&str| super::accounts::is_account_name(text);
        if let Some(name) = section.matching("name", NAME, |text| Some(text).filter(is_name)) {
            let here = section.line_of("name").unwrap_or(line);
            match lines.insert(name, here) {
                Some(before) => section.problem("name", format!("is the one of line {before}, too; each has its own")),
                None => tables.push((name.to_owned(), section)),
            }
        } else {
            // What else is wrong with it is still reported.
            tables.push((String::new(), section));
        }
    }
    tables
}
