//! Other names by which rustdoc finds a type or a field: those of the wire, and the Chinese terms.

use std::collections::BTreeMap;

use echostr_catalog::{Element, Entry, Field, Platform};

/// The wire values that select an entry, and the Chinese term of its summary.
pub(crate) fn of_entry(entry: &Entry, platform: &Platform) -> Vec<String> {
    let values = |select: &BTreeMap<String, String>| {
        let keys = platform.keys_of(select).iter();
        // That it is an event distinguishes it from nothing.
        let values = keys.filter_map(|key| select.get(key)).filter(|value| *value != "event");
        values.map(|value| value.trim_end_matches('*').to_owned()).collect::<Vec<_>>()
    };
    let names = entry.selectors().flat_map(values).chain(terms(&entry.summary));
    others(names, &entry.type_name)
}

/// The wire value that selects an element, and the Chinese term of its summary.
pub(crate) fn of_element(element: &Element) -> Vec<String> {
    let names = std::iter::once(element.tag().to_owned()).chain(terms(&element.summary));
    others(names, &element.type_name)
}

/// The wire names of a field where they are not simply another spelling, and the Chinese terms of its doc.
pub(crate) fn of_field(field: &Field, rust_name: &str) -> Vec<String> {
    let names = std::iter::once(&field.name).chain(&field.aliases).cloned().chain(terms(&field.doc));
    others(names, rust_name)
}

/// What stands in parentheses and is Chinese.
fn terms(text: &str) -> impl Iterator<Item = String> {
    let remarks = text.split('(').skip(1).filter_map(|rest| rest.split_once(')'));
    remarks.map(|(remark, _)| remark.trim()).filter(|remark| remark.contains(is_chinese)).map(str::to_owned)
}

fn is_chinese(letter: char) -> bool {
    ('\u{3400}'..='\u{9fff}').contains(&letter)
}

/// Without what rustdoc finds anyway, as it looks at neither case nor underscores, and what it does not take.
fn others(names: impl Iterator<Item = String>, rust_name: &str) -> Vec<String> {
    let plain = |name: &str| name.trim_start_matches("r#").replace('_', "").to_lowercase();
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        let refused = |letter: char| matches!(letter, '"' | '\'') || (letter.is_whitespace() && letter != ' ');
        let known = plain(&name) == plain(rust_name) || kept.iter().any(|other| plain(other) == plain(&name));
        if !name.is_empty() && !known && !name.contains(refused) {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_names_are_aliases() {
        let rows: [(&[&str], &str, &[&str]); 5] = [
            (&["FromUserName"], "from_user_name", &[]),
            (&["type"], "r#type", &[]),
            (&["SCAN", "scan", "扫码"], "SubscribeScan", &["SCAN", "扫码"]),
            (&["", "it's", "a\tb", "a b"], "Name", &["a b"]),
            (&["open_kfid", "OpenKfId"], "account", &["open_kfid"]),
        ];
        for (names, rust_name, expected) in rows {
            assert_eq!(others(names.iter().map(|name| (*name).to_owned()), rust_name), expected, "{names:?}");
        }
    }

    #[test]
    fn terms_stand_in_parentheses() {
        let of = |text| terms(text).collect::<Vec<_>>();
        assert_eq!(of("Text message from a user (文本消息)."), ["文本消息"]);
        assert_eq!(of("Id (gh_...) of the account (公众号), kept (always"), ["公众号"]);
        assert!(of("文本消息").is_empty());
    }
}
