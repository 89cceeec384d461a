//! Tables, samples and links of a page.

use std::fmt::Write as _;

use echostr_catalog::Field;

use crate::sources::text;

pub(super) fn table(page: &mut String, fields: &[Field], first: &str) {
    let _ = write!(page, "| {first} | type | required | meaning |\n|---|---|---|---|\n");
    for field in fields {
        let path = field.path();
        let required = if field.required { "yes" } else { "" };
        let _ = writeln!(page, "| {} | {} | {required} | {} |", cell(&code(path)), kind(field), cell(&meaning(field)));
    }
}

fn kind(field: &Field) -> String {
    if let Some(of) = &field.of
        && of == "element"
    {
        return "list of [elements](#elements-of-a-message-body)".to_owned();
    }
    let one = |kind: &str| {
        match kind {
            "string" => "text",
            "i64" => "whole number",
            "u64" => "whole number from 0",
            "f64" => "number",
            "bool" => "true or false",
            "bool01" => "0 or 1",
            "timestamp_s" => "Unix time, seconds",
            "timestamp_ms" => "Unix time, milliseconds",
            "csv" => "text, comma-separated",
            other => other,
        }
        .to_owned()
    };
    match (field.is_list(), field.item_kind()) {
        (true, "object") => "list of objects".to_owned(),
        (true, "string") => "list of texts".to_owned(),
        (true, item) => format!("list of {}s", one(item)),
        (false, kind) => one(kind),
    }
}

/// Meaning, values, other names.
fn meaning(field: &Field) -> String {
    let mut parts = Vec::new();
    if !field.doc.is_empty() {
        let doc = text(&field.doc);
        let ends = doc.ends_with(['.', '。', '!', ')']);
        parts.push(if ends { doc } else { format!("{doc}.") });
    }
    let mut values: Vec<(Vec<String>, &str)> = Vec::new();
    for (at, [wire, name, meaning]) in field.values.iter().enumerate() {
        let wire = if wire.is_empty() { "empty".to_owned() } else { code(wire) };
        // Spellings of one value.
        match field.values[..at].iter().position(|[_, other, said]| other == name && said == meaning) {
            Some(_) => {
                if let Some((wires, _)) = values.iter_mut().find(|(_, said)| said == meaning) {
                    wires.push(wire);
                }
            }
            None => values.push((vec![wire], meaning)),
        }
    }
    if !values.is_empty() {
        let values: Vec<_> =
            values.iter().map(|(wires, meaning)| format!("{} {}", wires.join(" or "), text(meaning))).collect();
        parts.push(format!("{}.", values.join("; ").trim_end_matches(['.', ' '])));
    }
    if let Some(value) = &field.r#const {
        parts.push(format!("Always {}.", code(value)));
    }
    if let Some(of) = field.of.as_deref().filter(|of| *of != "element") {
        parts.push(format!("The same as in {}.", code(of)));
    }
    if !field.aliases.is_empty() {
        parts.push(format!("Also spelled {}.", code_list(&field.aliases)));
    }
    if field.moves_in_json() {
        parts.push(format!("In JSON {}.", code(field.json_path())));
    }
    if field.xml_only {
        parts.push("XML only.".to_owned());
    }
    if field.wrapper {
        parts.push("Some pushes leave it out: its fields then stand in its place.".to_owned());
    }
    if let Some(since) = &field.since {
        parts.push(format!("Since {}.", text(since)));
    }
    parts.join(" ")
}

pub(super) fn note(page: &mut String, quirks: Option<&str>) {
    if let Some(quirks) = quirks {
        let _ = write!(page, "\nNote: {}\n", text(quirks));
    }
}

pub(super) fn sample(page: &mut String, language: &str, sample: Option<&str>) {
    if let Some(sample) = sample {
        let _ = write!(page, "\n```{language}\n{}\n```\n", sample.trim());
    }
}

/// A cell ends at a pipe, also in a code span.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

pub(super) fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

pub(super) fn code_list(items: &[String]) -> String {
    items.iter().map(|item| code(item)).collect::<Vec<_>>().join(", ")
}

/// What GitHub makes of a heading.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_github() {
        for (heading, expected) in [
            ("`mp.event.subscribe`", "mpeventsubscribe"),
            ("Fields of every push", "fields-of-every-push"),
            ("`wecom_kf.message.business_card`", "wecom_kfmessagebusiness_card"),
            ("公众号: x", "公众号-x"),
        ] {
            assert_eq!(anchor(heading), expected);
        }
    }

    #[test]
    fn a_pipe_does_not_end_a_cell() {
        assert_eq!(cell("`a|b`"), "`a\\|b`");
    }
}
