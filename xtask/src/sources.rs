//! The platform's own pages that an entry names.

use std::fmt::Write as _;

/// The pages of the platform, as links where the address follows from the catalogue.
pub(crate) fn pages(sources: &[String]) -> Vec<String> {
    sources.iter().filter_map(|source| page(source)).map(|page| linked(&title(page))).collect()
}

/// The projects that know the entry.
pub(crate) fn projects(sources: &[String]) -> Vec<&str> {
    sources.iter().filter(|source| !source.starts_with("official")).map(String::as_str).collect()
}

/// The page that a source names, when it is the platform's own.
fn page(source: &str) -> Option<String> {
    let (kind, page) = source.split_once(": ")?;
    let number = kind.strip_prefix("official")?.trim_start_matches("-ref").trim();
    let number = if number.starts_with("page linked") { "" } else { number };
    let page = page.split(" (cited by").next().unwrap_or(page);
    Some(format!("{number} {}", page.trim_end_matches('.')).trim().to_owned())
}

/// Without the remarks on how much of the page was at hand.
fn title(page: String) -> String {
    let page = [" (heading only)", " (headings)", " (heading)"].iter().fold(page, |page, note| page.replace(note, ""));
    let title = page.split_once("; ").and_then(|(title, rest)| Some((title, rest.split_once(" read")?.1)));
    title.map_or_else(|| page.clone(), |(title, rest)| format!("{title}{rest}"))
}

/// Tencent's documentation numbers its pages.
fn linked(page: &str) -> String {
    let (number, title) = page.split_once(' ').unwrap_or((page, ""));
    let rest: Vec<&str> = title.splitn(2, ' ').collect();
    if let ("cn" | "intl", [path, ..]) = (number, rest.as_slice())
        && let Some((product, document)) = path.split_once('/')
        && [product, document].iter().all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
    {
        let site = if number == "cn" { "https://cloud.tencent.com" } else { "https://www.tencentcloud.com" };
        let title = rest.get(1).map_or_else(|| path.to_string(), |title| text(title));
        return format!("[{title}]({site}/document/product/{product}/{document})");
    }
    let Some((before, numbers)) = page.split_once("doc path ") else { return text(page) };
    // Several numbers may follow, and a bracket.
    let mut out = format!("{}page ", text(before));
    for piece in numbers.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let number = piece.trim_end_matches(|c: char| !c.is_ascii_digit());
        let _ = match number.len() {
            5.. => write!(out, "[{number}](https://developer.work.weixin.qq.com/document/path/{number})"),
            _ => write!(out, "{}", text(number)),
        };
        out.push_str(&piece[number.len()..]);
    }
    out
}

/// Text of the catalogue as Markdown, meant literally but for its code spans.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::new();
    for (at, piece) in text.split('`').enumerate() {
        if at > 0 {
            out.push('`');
        }
        for character in piece.chars() {
            match character {
                '\n' => out.push(' '),
                '\\' | '<' | '>' | '*' | '[' | ']' | '~' | '$' | '&' if at % 2 == 0 => out.extend(['\\', character]),
                _ => out.push(character),
            }
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_tencent_are_linked() {
        let of = |source: &str| pages(&[source.to_owned()]).concat();
        assert_eq!(
            of("official intl 1047/33527: Message Formats"),
            "[Message Formats](https://www.tencentcloud.com/document/product/1047/33527)"
        );
        assert_eq!(
            of("official: kf receive; headings read (doc path 94670, 94699)"),
            "kf receive (page [94670](https://developer.work.weixin.qq.com/document/path/94670), \
             [94699](https://developer.work.weixin.qq.com/document/path/94699))"
        );
        assert_eq!(of("official page linked by one (not read here): create_order"), "create_order");
        assert_eq!(of("WxJava"), "");
    }

    #[test]
    fn what_would_be_markup_is_meant_literally() {
        assert_eq!(text("a|b <c> *d* `<e>` $F$"), "a|b \\<c\\> \\*d\\* `<e>` \\$F\\$");
    }
}
