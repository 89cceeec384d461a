use super::*;

#[test]
fn what_acts_is_escaped_and_nothing_else() {
    for (text, line, lines, json) in [
        ("", "", "", ""),
        ("你好 \"a\\b\" é 😀", "你好 \"a\\b\" é 😀", "你好 \"a\\b\" é 😀", "你好 \"a\\b\" é 😀"),
        ("a\r\n\tb", "a\\r\\n\\tb", "a\\r\n\\tb", "a\r\n\tb"),
        ("\u{0}\u{1b}[2J\u{7}", "\\u{0}\\u{1b}[2J\\u{7}", "\\u{0}\\u{1b}[2J\\u{7}", "\u{0}\u{1b}[2J\u{7}"),
        ("\u{7f}\u{9b}2J\u{85}", "\\u{7f}\\u{9b}2J\\u{85}", "\\u{7f}\\u{9b}2J\\u{85}", "\\u007f\\u009b2J\\u0085"),
        (
            "\u{2028}\u{202e}\u{2066}",
            "\\u{2028}\\u{202e}\\u{2066}",
            "\\u{2028}\\u{202e}\\u{2066}",
            "\\u2028\\u202e\\u2066",
        ),
    ] {
        assert_eq!((&*escape(text), &*escape_lines(text), &*escape_json(text)), (line, lines, json), "{text:?}");
    }
}

#[test]
fn json_stays_the_same_json() {
    let value = serde_json::json!({ "a\u{9b}": ["\u{1b}\n\u{7f}\u{2029}\u{202e}", "plain"] });
    for text in [value.to_string(), format!("{value:#}")] {
        let escaped = escape_json(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        assert!(escaped.chars().all(|character| character == '\n' || !acts(character)), "{escaped:?}");
    }
}
