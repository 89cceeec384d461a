//! Values that are allowed, and surely not what was meant. No message has the value in it.

use super::reader::name;

/// Texts that stand for a secret in templates and examples, in lower case and without what is no letter.
const PLACEHOLDERS: [&str; 13] = [
    "changeme",
    "changeit",
    "changethis",
    "replaceme",
    "replacethis",
    "placeholder",
    "todo",
    "tbd",
    "fixme",
    "none",
    "null",
    "undefined",
    "redacted",
];

/// What begins so is a placeholder, too, as in `your_token` and `insert-key-here`.
const PLACEHOLDER_STARTS: [&str; 5] = ["your", "insert", "enteryour", "fillin", "putyour"];

/// Where secrets lie that are mounted.
const SECRET_PLACES: [&str; 7] = ["/run/", "/var/", "/etc/", "/secrets/", "/home/", "/opt/", "file:"];

const QUOTES: [char; 7] = ['"', '\'', '`', '“', '”', '‘', '’'];

/// What is wrong with a secret, as it goes on after the name of its key.
pub(super) fn of_secret(text: &str) -> Option<&'static str> {
    let found = [
        (text.starts_with('\u{FEFF}'), "begins with a byte-order mark: save the file without one"),
        (text.trim() != text, "has space around it: a file or variable has the value alone"),
        (is_quoted(text), "begins or ends with a quote: a file or variable has the value alone, without quotes"),
        (
            is_reference(text),
            "looks like a reference to a variable, which is not expanded in a string: write { env = \"NAME\" }",
        ),
        (
            SECRET_PLACES.iter().any(|place| text.starts_with(place)),
            "looks like the path of a file: write { file = \"PATH\" }",
        ),
        (is_placeholder(text), "looks like a placeholder: replace it with the real value"),
    ];
    found.into_iter().find_map(|(is_so, text)| is_so.then_some(text))
}

/// The same as the end of a message that says already that the secret is not valid.
pub(super) fn hint(text: &str) -> String {
    of_secret(text).map_or_else(String::new, |mistake| format!("; it {mistake}"))
}

fn is_quoted(text: &str) -> bool {
    text.starts_with(QUOTES) || text.ends_with(QUOTES)
}

/// `$NAME`, `${NAME}`, `$(NAME)`, `%NAME%`, `{{ NAME }}`, `env:NAME`.
fn is_reference(text: &str) -> bool {
    let is_name = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && name.bytes().all(allowed)
    };
    let within = |start: &str, end: &str| text.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    text.strip_prefix('$').is_some_and(is_name)
        || within("${", "}").or_else(|| within("$(", ")")).or_else(|| within("{{", "}}")).is_some()
        || within("%", "%").is_some_and(is_name)
        || ["env:", "ENV:", "env."].iter().any(|start| text.strip_prefix(start).is_some_and(is_name))
}

fn is_placeholder(text: &str) -> bool {
    let is_in_brackets =
        ['<', '['].into_iter().zip(['>', ']']).any(|(open, close)| text.starts_with(open) && text.ends_with(close));
    let is_one_sign = text.len() >= 3
        && ["x", "X", "*", ".", "-", "_", "?", "…"].iter().any(|sign| text.replace(sign, "").is_empty());
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let is_word = PLACEHOLDERS.iter().any(|word| plain.trim_end_matches(|digit: char| digit.is_ascii_digit()) == *word);
    let is_wish = text.len() < 43 && PLACEHOLDER_STARTS.iter().any(|start| plain.starts_with(start));
    is_in_brackets || is_one_sign || is_word || is_wish
}

/// What is wrong with an id of a platform, as it goes on after the name of its key.
pub(super) fn of_id(key: &str, id: &str) -> Option<String> {
    let (what, starts): (_, &[&str]) = match key {
        "app_id" | "component_app_id" => ("an AppID", &["wx"]),
        "corp_id" | "provider_corp_id" | "receive_ids" => ("a CorpID", &["ww"]),
        "suite_id" => ("a SuiteID", &["ww", "tj", "dk"]),
        _ => return None,
    };
    let begins = |start: &str| id.starts_with(start);
    let all = starts.iter().map(|start| format!("`{start}`")).collect::<Vec<_>>().join(" or ");
    if is_placeholder(id) {
        return Some(format!("looks like a placeholder: replace it with the real value, which begins with {all}"));
    }
    if id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("is a number: {what} begins with {all}"));
    }
    if starts.iter().any(|start| !begins(start) && id.to_ascii_lowercase().starts_with(start)) {
        return Some(format!("begins with capital letters: {what} begins with {all}"));
    }
    // Only ids of another kind are surely a mistake.
    let other = [("wx", "an AppID, or a very old CorpID,"), ("ww", "a CorpID")];
    let other = other.into_iter().find(|(start, _)| begins(start) && !starts.contains(start));
    other.map(|(start, of)| format!("begins with `{start}`, as {of} does: {what} begins with {all}"))
}

/// What is defined at a line of the file and at one before it.
pub(super) fn defined_twice(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let before = lines.get(..line.checked_sub(1)?)?;
    let here = lines.get(line - 1)?;
    if let Some(table) = table(here) {
        let first = before.iter().position(|other| self::table(other) == Some(table.clone()))? + 1;
        let shown = name(&table);
        return Some(format!("table {shown} is defined twice, in lines {first} and {line}; put its keys together"));
    }
    let key = key(here)?;
    let start = before.iter().rposition(|other| other.starts_with('[')).map_or(0, |at| at + 1);
    let first = before.iter().skip(start).position(|other| self::key(other) == Some(key))? + start + 1;
    Some(format!("{} is set twice in its table, in lines {first} and {line}; remove one", name(key)))
}

/// The name of the table that a line begins.
fn table(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[').filter(|inner| !inner.starts_with('['))?.split_once(']')?.0;
    Some(inner.chars().filter(|sign| !sign.is_whitespace() && !['"', '\''].contains(sign)).collect())
}

fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    Some(key.trim().trim_matches(['"', '\''])).filter(|key| !key.is_empty() && !key.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_nobody_means() {
        for (text, part) in [
            ("\"abcdef\"", "quote"),
            ("'abcdef", "quote"),
            ("abcdef\"", "quote"),
            ("“abcdef”", "quote"),
            ("\u{FEFF}abcdef", "byte-order mark"),
            ("abcdef ", "space around it"),
            ("$SHOP_TOKEN", "{ env ="),
            ("${SHOP_TOKEN}", "{ env ="),
            ("${SHOP_TOKEN:-x}", "{ env ="),
            ("$(cat token)", "{ env ="),
            ("%TOKEN%", "{ env ="),
            ("{{ token }}", "{ env ="),
            ("env:TOKEN", "{ env ="),
            ("/run/secrets/token", "{ file ="),
            ("file:///token", "{ file ="),
            ("changeme", "placeholder"),
            ("CHANGE_ME", "placeholder"),
            ("change-me-1", "placeholder"),
            ("your_token", "placeholder"),
            ("YourSecret", "placeholder"),
            ("<token>", "placeholder"),
            ("xxxxxxxx", "placeholder"),
            ("TODO", "placeholder"),
        ] {
            assert!(of_secret(text).is_some_and(|found| found.contains(part)), "{text}: {:?}", of_secret(text));
        }
        for fine in ["abc", "fakeToken", "p$ssw0rd", "a%20b", "$2y$10$abc", "xx", "token", "nonesuch", "k", "a'b"] {
            assert_eq!(of_secret(fine), None, "{fine}");
        }
        assert_eq!(of_secret(&"your".repeat(11)), None, "long enough to be random");
    }

    #[test]
    fn ids_of_another_kind() {
        for (key, id, part) in [
            ("app_id", "ww0123456789abcdef", "as a CorpID does"),
            ("app_id", "1400000000", "is a number"),
            ("app_id", "WX0123456789abcdef", "capital"),
            ("app_id", "your_app_id", "placeholder"),
            ("component_app_id", "ww0123456789abcdef", "an AppID begins with `wx`"),
            ("corp_id", "1000002", "is a number"),
            ("corp_id", "wx0123456789abcdef", "as an AppID"),
            ("provider_corp_id", "wx0123456789abcdef", "as an AppID"),
            ("receive_ids", "wx0123456789abcdef", "as an AppID"),
            ("suite_id", "wx0123456789abcdef", "a SuiteID begins with `ww` or `tj` or `dk`"),
        ] {
            assert!(of_id(key, id).is_some_and(|found| found.contains(part)), "{key} {id}: {:?}", of_id(key, id));
        }
        for (key, id) in
            [("app_id", "wx1"), ("corp_id", "ww1"), ("suite_id", "dk1"), ("suite_id", "tj1"), ("corp_id", "any")]
        {
            assert_eq!(of_id(key, id), None, "{key} {id}");
        }
    }
}
