//! The pages: links lead somewhere, and the English and the Chinese page of a subject say the same.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Pages in English only: for who works on the server itself.
const ENGLISH_ONLY: [&str; 1] = ["decisions.md"];

const CHINESE: &str = ".zh-CN.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages.extend(below(&path));
        } else if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages
}

/// Every page that is read as one, generated ones too.
fn pages() -> Vec<PathBuf> {
    let mut pages = below(&root().join("docs"));
    let names = ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    pages.extend(names.map(|name| root().join(name)));
    pages
}

fn chinese_of(page: &Path) -> PathBuf {
    let name = page.file_stem().unwrap().to_str().unwrap();
    page.with_file_name(format!("{name}{CHINESE}"))
}

fn is_chinese(page: &Path) -> bool {
    page.to_str().unwrap().ends_with(CHINESE)
}

/// The pages for users: the English and the Chinese one of each.
fn twins() -> Vec<(PathBuf, PathBuf)> {
    let docs = root().join("docs");
    let mut pages: Vec<PathBuf> = fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|end| end == "md") && !is_chinese(page));
    pages.retain(|page| !ENGLISH_ONLY.iter().any(|name| page.ends_with(name)));
    pages.push(root().join("README.md"));
    pages.into_iter().map(|english| (english.clone(), chinese_of(&english))).collect()
}

/// A page in its parts: blocks of code with what they are of, and the lines around them.
#[derive(Default)]
struct Parts<'page> {
    prose: Vec<&'page str>,
    code: Vec<(&'page str, Vec<&'page str>)>,
}

fn parts(text: &str) -> Parts<'_> {
    let mut parts = Parts::default();
    let mut is_code = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_code = !is_code;
            if is_code {
                parts.code.push((language, Vec::new()));
            }
        } else if is_code {
            parts.code.last_mut().unwrap().1.push(line.trim());
        } else {
            parts.prose.push(line);
        }
    }
    assert!(!is_code, "a block of code that does not end");
    parts
}

/// The targets of the links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|&byte| byte == b'#').count();
    let text = line[level..].strip_prefix(' ')?;
    (1..=6).contains(&level).then_some((level, text))
}

/// The anchors of a page, as GitHub makes them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    for (_, heading) in parts(text).prose.into_iter().filter_map(heading) {
        let anchor: String = heading
            .to_lowercase()
            .chars()
            .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'))
            .map(|character| if character == ' ' { '-' } else { character })
            .collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.push(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut anchors_of: HashMap<PathBuf, Vec<String>> = HashMap::new();
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in parts(&text).prose.into_iter().flat_map(targets) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let leads = path.exists()
                && (anchor.is_empty()
                    || anchors_of
                        .entry(path.clone())
                        .or_insert_with(|| anchors(&read(&path)))
                        .iter()
                        .any(|of| of == anchor));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn the_pages_of_both_languages_link_to_each_other() {
    let mut wrong = Vec::new();
    for (english, chinese) in twins() {
        let name = |page: &Path| page.file_name().unwrap().to_str().unwrap().to_owned();
        let (text, chinese_text) = (read(&english), read(&chinese));
        if !text.contains(&format!("[中文]({})", name(&chinese))) {
            wrong.push(format!("{} has no link to {}", name(&english), name(&chinese)));
        }
        if !chinese_text.contains(&format!("[English]({})", name(&english))) {
            wrong.push(format!("{} has no link to {}", name(&chinese), name(&english)));
        }
        let back = name(&english);
        for target in parts(&chinese_text).prose.into_iter().flat_map(targets).filter(|target| *target != back) {
            let page = chinese.parent().unwrap().join(target.split('#').next().unwrap());
            if page.extension().is_some_and(|end| end == "md") && chinese_of(&page).exists() {
                wrong.push(format!("{} links to {target}, of which there is a Chinese page", name(&chinese)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a page consists of in every language: levels of headings and columns of tables, in order.
fn outline(text: &str) -> Vec<String> {
    let mut outline = Vec::new();
    for line in parts(text).prose {
        if let Some((level, _)) = heading(line) {
            outline.push("#".repeat(level));
        } else if line.trim_start().starts_with('|') {
            outline.push(format!("{} columns", line.replace("\\|", "").matches('|').count() - 1));
        }
    }
    outline
}

/// What stands in backquotes: keys, commands, log lines and values, which no language translates.
fn spans(text: &str) -> Vec<String> {
    let prose = parts(text).prose.join(" ");
    let spans = prose.split('`').skip(1).step_by(2);
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A line of code without its comment, which is no name of a file. A `#` or `//` in quotes, or behind another character, begins none.
fn uncommented<'line>(language: &str, line: &'line str) -> &'line str {
    let mark = match language {
        "rust" if line.starts_with("// src/") => return line,
        "rust" => "//",
        "toml" | "sh" | "python" | "yaml" | "ini" => "#",
        _ => return line,
    };
    let begins = |at: usize| {
        let before = &line[..at];
        before.matches('"').count().is_multiple_of(2) && before.chars().next_back().is_none_or(char::is_whitespace)
    };
    let comment = line.match_indices(mark).map(|(at, _)| at).find(|&at| begins(at));
    line[..comment.unwrap_or(line.len())].trim_end()
}

/// Whether a line of code is the same, but for texts that are in Chinese.
fn is_same(english: &str, chinese: &str) -> bool {
    let (english, chinese): (Vec<&str>, Vec<&str>) = (english.split('"').collect(), chinese.split('"').collect());
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    english.len() == chinese.len()
        && english.iter().zip(&chinese).enumerate().all(|(at, (english, chinese))| {
            let is_text = at % 2 == 1;
            words(english) == words(chinese) || (is_text && !chinese.is_ascii())
        })
}

#[test]
fn the_pages_of_both_languages_have_the_same_parts() {
    let mut differences = Vec::new();
    for (english, chinese) in twins() {
        let name = chinese.file_name().unwrap().to_str().unwrap().to_owned();
        let (english, chinese) = (read(&english), read(&chinese));
        let (outline, chinese_outline) = (outline(&english), outline(&chinese));
        if outline != chinese_outline {
            let at = outline.iter().zip(&chinese_outline).take_while(|(one, other)| one == other).count();
            differences.push(format!("{name}: headings and tables differ from part {at} on"));
        }
        let chinese_spans = spans(&chinese);
        for span in spans(&english) {
            if !chinese_spans.iter().any(|chinese| is_same(&span, chinese)) {
                differences.push(format!("{name}: does not say `{span}`"));
            }
        }
        let (code, chinese_code) = (parts(&english).code, parts(&chinese).code);
        if code.len() != chinese_code.len() {
            differences.push(format!("{name}: {} blocks of code instead of {}", chinese_code.len(), code.len()));
        }
        for ((language, lines), (chinese_language, chinese_lines)) in code.iter().zip(&chinese_code) {
            let strip = |lines: &[&str]| -> Vec<String> {
                lines
                    .iter()
                    .map(|line| uncommented(language, line).to_owned())
                    .filter(|line| !line.is_empty())
                    .collect()
            };
            let (lines, chinese_lines) = (strip(lines), strip(chinese_lines));
            let different = lines.iter().zip(&chinese_lines).find(|(line, chinese)| !is_same(line, chinese));
            if let Some((line, chinese)) = different {
                differences.push(format!("{name}: `{chinese}` instead of `{line}`"));
            } else if lines.len() != chinese_lines.len() || language != chinese_language {
                differences.push(format!("{name}: a block of {language} has other lines: {:?}", lines.first()));
            }
        }
    }
    assert!(differences.is_empty(), "pages differ from their twins:\n{}", differences.join("\n"));
}

/// A reason that the page knows no advice for is shown as a bare code. The page's own tests say the same, but need Node.js.
#[test]
fn the_inspector_has_advice_for_every_refusal() {
    let page = read(&root().join("docs/refusals.md"));
    let codes: Vec<&str> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let code = cells.next()?.strip_suffix('`')?;
            let status = cells.next()?;
            (status.len() == 3 && status.parse::<u16>().is_ok()).then_some(code)
        })
        .collect();
    assert!(codes.len() > 20, "{codes:?}");
    let advice = read(&root().join("inspector/src/words/advice.ts"));
    let missing: Vec<_> = codes.iter().filter(|code| !advice.contains(&format!("\n  {code}: "))).collect();
    assert!(
        missing.is_empty(),
        "inspector/src/words/advice.ts: {missing:?}; afterwards run `npm run build` in inspector/"
    );
}
