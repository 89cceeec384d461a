//! Wire spellings to Rust names, mechanically: names can be predicted.

/// `To_Account` → `to_account`, `MediaId16K` → `media_id_16k`, `OpenID` → `open_id`.
pub(crate) fn snake(wire: &str) -> String {
    let name = words(wire).join("_").to_lowercase();
    match name.as_str() {
        "type" | "ref" | "match" | "move" | "use" | "mod" | "in" | "loop" | "box" | "final" | "async" => {
            format!("r#{name}")
        }
        _ => name,
    }
}

/// `order_info` → `OrderInfo`, `ResultList` → `ResultList`, `To_Account` → `ToAccount`.
pub(crate) fn camel(wire: &str) -> String {
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
pub(crate) fn words(wire: &str) -> Vec<String> {
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

/// Words at the end of an owner that the name of a nested type can do without.
const WEAK: &[&str] = &["Data", "Envelope", "Event", "Info", "Item", "List", "Message", "Notify"];

/// The words that all owners have in a row, the longest such row; the first owner's if there is none.
pub(crate) fn common(owners: &[String]) -> Vec<String> {
    let all: Vec<Vec<String>> = owners.iter().map(|owner| words(owner)).collect();
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let in_all = |row: &[String]| others.iter().all(|other| other.windows(row.len()).any(|part| part == row));
    let rows = (1..=first.len()).rev().flat_map(|length| first.windows(length));
    rows.into_iter().find(|row| in_all(row)).unwrap_or(first).to_vec()
}

/// The name without the words at its end that say little.
pub(crate) fn strong(owner: &[String]) -> Vec<String> {
    let weak = owner.iter().skip(1).rev().take_while(|word| WEAK.contains(&word.as_str())).count();
    owner[..owner.len() - weak].to_vec()
}

/// Both names, without repeating at the beginning of the second what the first has said.
pub(crate) fn join(owner: &[String], local: &[String]) -> Vec<String> {
    let said = local[..local.len() - 1].iter().take_while(|word| owner.contains(word)).count();
    let new = &local[said..];
    if owner.last() == new.first() { [owner, &new[1..]].concat() } else { [owner, new].concat() }
}

/// One of what a plural names.
pub(crate) fn singular(word: &str) -> String {
    const SAME: &[&str] = &["Goods", "News", "Series"];
    let ending = |end: &str| word.len() > end.len() + 1 && word.ends_with(end);
    if SAME.contains(&word) || ["ss", "us", "is"].into_iter().any(ending) || !ending("s") {
        word.to_owned()
    } else if ending("ies") {
        format!("{}y", &word[..word.len() - 3])
    } else if ending("sses") || ending("xes") {
        word[..word.len() - 2].to_owned()
    } else {
        word[..word.len() - 1].to_owned()
    }
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

    #[test]
    fn a_plural_names_one() {
        for (many, one) in [
            ("Comments", "Comment"),
            ("Categories", "Category"),
            ("Addresses", "Address"),
            ("Goods", "Goods"),
            ("Status", "Status"),
            ("s", "s"),
        ] {
            assert_eq!(singular(many), one);
        }
    }

    #[test]
    fn a_nested_name_does_not_repeat_its_owner() {
        for (owner, local, expected) in [
            ("CopyrightCheckResult", "ResultList", "CopyrightCheckResultList"),
            ("CopyrightCheckResultList", "Item", "CopyrightCheckResultItem"),
            ("StoreCouponCreate", "CouponInfo", "StoreCouponCreateInfo"),
            ("TextMessage", "Text", "Text"),
            ("StateChangeInfo", "Action", "StateChangeAction"),
            ("Info", "Type", "InfoType"),
        ] {
            assert_eq!(join(&strong(&words(owner)), &words(local)).concat(), expected);
        }
    }

    #[test]
    fn a_shared_name_is_what_its_owners_have_in_common() {
        for (owners, expected) in [
            (&["TransportAddOrder", "TransportReaddOrder", "TransportPreCreateOrder"][..], "Transport"),
            (&["QuerySingleWaybillFee", "AddSingleWaybill"], "SingleWaybill"),
            (&["One"], "One"),
            (&["One", "Two"], "One"),
        ] {
            let owners: Vec<_> = owners.iter().map(|owner| (*owner).to_owned()).collect();
            assert_eq!(common(&owners).concat(), expected);
        }
    }
}
