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

#[test]
fn a_field_that_the_message_has_is_not_written_again() {
    for (message, name, value, expected) in [
        ("mp/shop: no reply", "account", "\"mp/shop\"", true),
        ("mp/shop2: no reply", "account", "\"mp/shop\"", false),
        ("im/mp/shop: no reply", "account", "\"mp/shop\"", false),
        ("of 10.0.0.1: stale", "client", "10.0.0.1", true),
        ("of 10.0.0.1.", "client", "10.0.0.1", true),
        ("of 10.0.0.12: stale", "client", "10.0.0.1", false),
        ("of 10.0.0.1.5", "client", "10.0.0.1", false),
        ("failed, attempt 3", "attempt", "3", true),
        ("failed after 3 s", "attempt", "3", false),
        ("nothing", "empty", "\"\"", false),
        ("a drop of it", "action", "\"drop\"", false),
        ("订单号 12345。", "order", "12345", true),
    ] {
        assert_eq!(super::says(message, name, value), expected, "{message} {name}={value}");
    }
}

#[test]
fn durations_have_one_decimal() {
    use std::time::Duration;
    for (millis, expected) in [
        (5000, "5.0 s"),
        (4500, "4.5 s"),
        (80_372, "80.4 s"),
        (0, "0.0 s"),
        (20, "0.02 s"),
        (3, "0.003 s"),
        (100, "0.1 s"),
    ] {
        assert_eq!(super::seconds(Duration::from_millis(millis)).to_string(), expected);
    }
}
