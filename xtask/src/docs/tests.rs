use std::collections::BTreeSet;

use echostr_catalog::{platform as platform_catalog, platforms};

use super::{markdown::anchor, *};
use crate::Texts;

/// GitHub shows larger pages without their format.
const MAX_PAGE: usize = 400_000;

/// The pages of the catalogue.
fn compiled() -> BTreeMap<String, String> {
    pages(&Texts::compiled().unwrap().catalogs().unwrap()).unwrap()
}

/// Lines of a page outside of its samples.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_sample = false;
    page.lines().filter(move |line| {
        let fence = line.starts_with("```");
        in_sample ^= fence;
        !fence && !in_sample
    })
}

#[test]
fn every_entry_is_described_once() {
    let pages = compiled();
    let mut described = 0;
    for platform in platforms() {
        for entry in platform_catalog(platform).unwrap().event {
            let heading = format!("\n### `{}`\n", entry.id);
            let found: usize = pages.values().map(|page| page.matches(&heading).count()).sum();
            assert_eq!(found, 1, "{}", entry.id);
            described += usize::from(!entry.is_of_fork);
        }
    }
    assert!(pages["docs/events/README.md"].contains(&format!("**{described}**")), "{described}");
}

#[test]
fn every_link_has_its_target() {
    let pages = compiled();
    let mut anchors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (file, page) in &pages {
        let headings = prose(page).filter(|line| line.starts_with('#'));
        for heading in headings {
            let new = anchors.entry(file).or_default().insert(anchor(heading.trim_start_matches('#')));
            assert!(new, "{file}: two headings are {heading:?}");
        }
    }
    let mut links = 0;
    for (file, page) in &pages {
        let folder = file.rsplit_once('/').unwrap().0;
        for link in prose(page).flat_map(|line| line.split("](").skip(1)).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("https://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match target.strip_prefix("../") {
                _ if target.is_empty() => file.clone(),
                Some(target) => format!("{}/{target}", folder.rsplit_once('/').unwrap().0),
                None => format!("{folder}/{target}"),
            };
            let found = anchors.get(target.as_str()).unwrap_or_else(|| panic!("{file}: no page {link}"));
            assert!(anchor.is_empty() || found.contains(anchor), "{file}: no heading {link}");
            links += 1;
        }
    }
    assert!(links > 1_200, "{links}");
}

#[test]
fn pages_are_of_a_size_that_github_shows_and_without_html() {
    for (file, page) in compiled() {
        assert!(page.len() <= MAX_PAGE, "{file} has {} bytes: set page_per_family for its platform", page.len());
        for line in prose(&page).filter(|line| !HEADER.contains(line)) {
            let outside_code: String = line.split('`').step_by(2).collect();
            let html = outside_code.replace("\\<", "").contains('<');
            assert!(!html, "{file}: {line}");
            if line.starts_with('|') {
                let cells = line.replace("\\|", "").matches('|').count();
                assert!((3..=7).contains(&cells), "{file}: {line}");
            }
        }
    }
}
