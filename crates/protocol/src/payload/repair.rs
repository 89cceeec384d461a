//! Rewrites what is not well-formed to the letter and can be read in one way only.
//!
//! What users write ends in payloads as it is: half a character, a control character, an `&`. The platforms do not always
//! escape it, and a message must not be lost for it.

use super::{Form, parse};

/// What cannot be shown.
const REPLACEMENT: &str = "\u{FFFD}";

/// The text as it can be parsed; `None` when it cannot be, or there is nothing to repair.
///
/// JSON: a control character in a string stands for itself, half of a surrogate pair for U+FFFD. XML: an `&` that begins no
/// reference stands for itself, a NUL for U+FFFD.
pub fn repair(form: Form, text: &str) -> Option<String> {
    let repaired = match form {
        Form::Json => json(text),
        Form::Xml => xml(text),
    };
    (repaired != text && parse(form, &repaired).is_ok()).then_some(repaired)
}

fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut is_string = false;
    let wanted = |is_string: bool| {
        move |character: char| match character {
            '"' => true,
            '\\' | '\0'..='\u{1F}' => is_string,
            _ => false,
        }
    };
    while let Some((before, character, after)) = split_at(rest, wanted(is_string)) {
        out.push_str(before);
        rest = after;
        match character {
            '\\' => rest = escape(&mut out, after),
            '"' => {
                out.push('"');
                is_string = !is_string;
            }
            control => out.extend(["\\u00", if control < '\u{10}' { "0" } else { "1" }, HEX[control as usize % 16]]),
        }
    }
    out + rest
}

const HEX: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

/// Copies an escape, without the half of a pair; gives what is behind it.
fn escape<'t>(out: &mut String, after: &'t str) -> &'t str {
    const LENGTH: usize = "uXXXX".len();
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    let pair = || {
        let (first, second) = (unit(after)?, unit(after.get(LENGTH..)?.strip_prefix('\\')?)?);
        ((0xD800..0xDC00).contains(&first) && (0xDC00..0xE000).contains(&second)).then_some(2 * LENGTH + 1)
    };
    let length = match (pair(), unit(after)) {
        (Some(length), _) => length,
        (None, Some(0xD800..0xE000)) => {
            out.push_str(REPLACEMENT);
            return after.get(LENGTH..).unwrap_or_default();
        }
        _ => after.chars().next().map_or(0, char::len_utf8),
    };
    let (copied, rest) = after.split_at_checked(length).unwrap_or((after, ""));
    out.extend(["\\", copied]);
    rest
}

fn xml(text: &str) -> String {
    const SECTION: &str = "<![CDATA[";
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, character, after)) = split_at(rest, |character| matches!(character, '&' | '<' | '\0')) {
        out.push_str(before);
        let from = &rest[before.len()..];
        rest = after;
        match character {
            '\0' => out.push_str(REPLACEMENT),
            '&' if is_reference(after) => out.push('&'),
            '&' => out.push_str("&amp;"),
            // Text of a section is literal; its own end is found when it is parsed.
            _ => {
                let length = if from.starts_with(SECTION) { from.find("]]>").unwrap_or(from.len()) } else { 1 };
                let (copied, behind) = from.split_at(length);
                out.push_str(&copied.replace('\0', REPLACEMENT));
                rest = behind;
            }
        }
    }
    out + rest
}

/// Whether a reference to a character follows that is one in XML.
fn is_reference(after: &str) -> bool {
    const LONGEST: usize = "#x10FFFF".len();
    let Some(name) = after.find(';').filter(|length| *length <= LONGEST).and_then(|length| after.get(..length)) else {
        return false;
    };
    let code = match name.strip_prefix('#') {
        None => return matches!(name, "lt" | "gt" | "amp" | "quot" | "apos"),
        Some(number) => match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        },
    };
    code.is_ok_and(|code| code != 0 && char::from_u32(code).is_some())
}

/// What is before the first such character, the character, and what is after it.
fn split_at(text: &str, is_wanted: impl Fn(char) -> bool) -> Option<(&str, char, &str)> {
    let (at, character) = text.char_indices().find(|(_, character)| is_wanted(*character))?;
    Some((&text[..at], character, &text[at + character.len_utf8()..]))
}
