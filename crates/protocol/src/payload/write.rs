//! Writes payloads: replies, and events of a list.

use serde::ser::Serialize;

use super::{Number, Object, Value};

/// Writes an object as `<xml>…</xml>`, the way the platforms write theirs: text in CDATA, numbers plain, lists as
/// repeated elements. Characters that XML cannot carry are left out.
pub fn write_xml(object: &Object<'_>) -> String {
    let mut out = String::with_capacity(xml_length("xml", object));
    write_members(&mut out, "xml", object);
    out
}

/// How long an object gets in XML, roughly: mostly a little less.
fn xml_length(name: &str, object: &Object<'_>) -> usize {
    const TAGS: usize = "<></>".len();
    const SECTION: usize = "<![CDATA[]]>".len();
    let length_of = |name: &str, value: &Value<'_>| match value {
        Value::Text(text) => 2 * name.len() + TAGS + SECTION + text.len(),
        Value::Object(object) => xml_length(name, object),
        _ => 2 * name.len() + TAGS + SECTION,
    };
    2 * name.len() + TAGS + object.iter().map(|(name, value)| length_of(name, value)).sum::<usize>()
}

/// Writes an object as JSON.
pub fn write_json(object: &Object<'_>) -> String {
    json_of(object, json_length(object))
}

/// Writes any value as JSON.
pub fn to_json(value: &Value<'_>) -> String {
    json_of(value, json_length_of(value))
}

/// `length` is what it takes, roughly.
fn json_of(value: &impl Serialize, length: usize) -> String {
    let mut out = Vec::with_capacity(length);
    let written = serde_json::to_writer(&mut out, value).is_ok();
    String::from_utf8(out).ok().filter(|_| written).unwrap_or_default()
}

/// How long an object gets in JSON, roughly: a long one would be moved again and again while it grows.
fn json_length(object: &Object<'_>) -> usize {
    const MEMBER: usize = r#""":,"#.len();
    object.iter().map(|(name, value)| name.len() + MEMBER + json_length_of(value)).sum::<usize>() + 2
}

fn json_length_of(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len() + 2,
        Value::Object(object) => json_length(object),
        Value::List(items) => items.iter().map(|item| json_length_of(item) + 1).sum::<usize>() + 2,
        _ => 8,
    }
}

fn write_element(out: &mut String, name: &str, value: &Value<'_>) {
    if let Value::List(items) = value {
        items.iter().for_each(|item| write_element(out, name, item));
        return;
    }
    if let Value::Object(object) = value {
        return write_members(out, name, object);
    }
    out.extend(["<", name, ">"]);
    match value {
        Value::Null | Value::List(_) | Value::Object(_) => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(Number::Int(number)) => out.push_str(itoa::Buffer::new().format(*number)),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Text(text) => write_cdata(out, text),
    }
    out.extend(["</", name, ">"]);
}

fn write_members(out: &mut String, name: &str, object: &Object<'_>) {
    out.extend(["<", name, ">"]);
    object.iter().for_each(|(name, value)| write_element(out, name, value));
    out.extend(["</", name, ">"]);
}

/// `]]>` would end the section, so it is split over two.
fn write_cdata(out: &mut String, text: &str) {
    out.push_str("<![CDATA[");
    if is_plain(text) {
        out.extend([text, "]]>"]);
        return;
    }
    let mut after_brackets = 0;
    for character in text.chars().filter(|character| is_xml_character(*character)) {
        if character == '>' && after_brackets >= 2 {
            out.push_str("]]><![CDATA[");
        }
        after_brackets = if character == ']' { after_brackets + 1 } else { 0 };
        out.push(character);
    }
    out.push_str("]]>");
}

/// Whether a text can be copied whole: no `]`, and nothing that XML excludes. Most are decided by their bytes alone, which is
/// much faster; 0xEF begins the characters that XML excludes, among others.
fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || matches!(byte, b']' | 0xEF);
    !has_byte(text, odd) || text.chars().all(|character| character != ']' && is_xml_character(character))
}

/// Whether a text has such a byte. Looking at all of them, and never stopping early, is what the compiler turns into
/// vector instructions.
pub(super) fn has_byte(text: &str, is_such: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, byte| any | is_such(byte))
}

/// How many of its bytes are such. The same, with a count that vectors have room for.
pub(super) fn count_bytes(text: &str, is_such: impl Fn(u8) -> bool) -> usize {
    const MOST: usize = u8::MAX as usize;
    let in_piece = |piece: &[u8]| piece.iter().fold(0_u8, |count, byte| count + u8::from(is_such(*byte)));
    text.as_bytes().chunks(MOST).map(|piece| usize::from(in_piece(piece))).sum()
}

pub(super) const fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::count_bytes;

    /// A count that did not fit into its piece would begin anew.
    #[test]
    fn bytes_are_counted_however_many_there_are() {
        let is_stop = |byte| matches!(byte, b'>' | b'"');
        for length in [0, 1, 254, 255, 256, 510, 511, 70_000] {
            assert_eq!(count_bytes(&">".repeat(length), is_stop), length);
            assert_eq!(count_bytes(&"a\"b".repeat(length), is_stop), length);
        }
    }
}
