//! Wire spellings to Rust names, mechanically: nobody should have to guess.

/// `To_Account` → `to_account`, `MediaId16K` → `media_id_16k`, `OpenID` → `open_id`.
pub fn snake(wire: &str) -> String {
    let name = words(wire).join("_").to_lowercase();
    match name.as_str() {
        "type" | "ref" | "match" | "move" | "use" | "mod" | "in" | "loop" | "box" | "final" | "async" => {
            format!("r#{name}")
        }
        _ => name,
    }
}

/// `order_info` → `OrderInfo`, `ResultList` → `ResultList`, `To_Account` → `ToAccount`.
pub fn camel(wire: &str) -> String {
    words(wire)
        .iter()
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().collect::<String>() + &letters.as_str().to_lowercase()
            })
        })
        .collect()
}

/// Words begin at an upper-case letter after a lower-case one, at the last upper-case letter of a run that goes on in
/// lower case (`URLName` → `URL`, `Name`), at a digit after a lower-case letter, and after `_`, `-`, `.`.
pub fn words(wire: &str) -> Vec<String> {
    let letters: Vec<char> = wire.chars().collect();
    let mut words = vec![String::new()];
    for (at, &letter) in letters.iter().enumerate() {
        if matches!(letter, '_' | '-' | '.' | ' ') {
            words.push(String::new());
            continue;
        }
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let starts = before.is_some_and(|before| {
            (letter.is_uppercase() && before.is_lowercase())
                || (letter.is_uppercase() && before.is_ascii_digit() && after.is_some_and(|after| after.is_lowercase()))
                || (letter.is_uppercase() && before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
                || (letter.is_ascii_digit() && before.is_lowercase() && ends_in_upper_case(&letters[at..]))
        });
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Digits and then a capital: `16K` is a word, the 2 of `Level2` is not, nor is the 5 of `Md5Sum`.
fn ends_in_upper_case(letters: &[char]) -> bool {
    let mut after = letters.iter().skip_while(|letter| letter.is_ascii_digit());
    after.next().is_some_and(|letter| letter.is_uppercase())
        && !after.next().is_some_and(|letter| letter.is_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mechanical() {
        for (wire, expected_snake, expected_camel) in [
            ("To_Account", "to_account", "ToAccount"),
            ("MsgId", "msg_id", "MsgId"),
            ("OpenID", "open_id", "OpenId"),
            ("MediaId16K", "media_id_16k", "MediaId16k"),
            ("PicMd5Sum", "pic_md5_sum", "PicMd5Sum"),
            ("bizmsgmenuid", "bizmsgmenuid", "Bizmsgmenuid"),
            ("URL", "url", "Url"),
            ("order_info", "order_info", "OrderInfo"),
            ("CtxcbRequestId", "ctxcb_request_id", "CtxcbRequestId"),
            ("type", "r#type", "Type"),
            ("OpenKfId", "open_kf_id", "OpenKfId"),
            ("AgentID", "agent_id", "AgentId"),
        ] {
            assert_eq!(snake(wire), expected_snake, "{wire}");
            assert_eq!(camel(wire), expected_camel, "{wire}");
        }
    }
}
