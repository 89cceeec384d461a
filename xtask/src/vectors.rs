//! Reads `tests/vectors`: what others than the catalogue's own samples know of the pushes. A test holds the types against it;
//! `docs/events` lists what nothing there confirms.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use echostr_catalog::Entry;
use serde::Deserialize;

/// The file of one platform.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    source: Vec<Source>,
    #[serde(default)]
    vector: Vec<Vector>,
}

/// Where vectors come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name in this file.
    pub id: String,
    /// Repository or site.
    pub of: String,
    /// File in the repository, page of the site.
    pub path: String,
    /// Commit of the repository.
    pub commit: Option<String>,
    /// What `sources` of the catalogue call it.
    #[serde(default)]
    pub known_as: Vec<String>,
}

/// What a source knows of one type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The event type.
    #[serde(rename = "type")]
    pub id: String,
    /// The `id` of its source.
    source: String,
    /// File of the source, where that is not the same for all of its vectors.
    path: Option<String>,
    /// `json` or `xml`, where it is not each form of the type.
    pub form: Option<String>,
    /// Names of the members: `Token Sender{Name Tel} Items[]{Id}`.
    fields: Option<String>,
    /// A whole payload.
    pub payload: Option<String>,
}

/// A vector with its source.
#[derive(Clone, Debug)]
pub struct Known {
    /// The vector.
    pub vector: Vector,
    /// Where it comes from.
    pub source: Source,
    /// The members of `fields`.
    pub members: Vec<Member>,
}

/// A member of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name on the wire.
    pub name: String,
    /// Whether it is repeated.
    pub is_list: bool,
    /// What is in it.
    pub members: Vec<Member>,
}

/// Every vector, by platform.
///
/// # Errors
/// When a file cannot be read, a vector has no known source, or says its members in no way or in two.
pub fn all() -> Result<BTreeMap<String, Vec<Known>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut all = BTreeMap::new();
    for platform in echostr_catalog::platforms() {
        let text = fs::read_to_string(folder.join(format!("{platform}.toml")));
        let known = text.map_err(|error| error.to_string()).and_then(|text| parse(&text));
        all.insert(platform.to_owned(), known.map_err(|error| format!("tests/vectors/{platform}.toml: {error}"))?);
    }
    Ok(all)
}

fn parse(text: &str) -> Result<Vec<Known>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let known = file.vector.into_iter().map(|vector| {
        let id = &vector.id;
        let source = file.source.iter().find(|source| source.id == vector.source);
        let mut source = source.cloned().ok_or_else(|| format!("{id}: no source `{}`", vector.source))?;
        if let Some(path) = &vector.path {
            source.path.clone_from(path);
        }
        let members = match (&vector.fields, &vector.payload) {
            (Some(fields), None) => members(fields).ok_or_else(|| format!("{id}: `{fields}` are no members"))?,
            (None, Some(_)) => Vec::new(),
            _ => return Err(format!("{id}: either `fields` or `payload`")),
        };
        Ok(Known { vector, source, members })
    });
    known.collect()
}

/// `Token Sender{Name Tel} Items[]{Id}` as a tree.
fn members(text: &str) -> Option<Vec<Member>> {
    let mut open: Vec<Vec<Member>> = vec![Vec::new()];
    let spaced = text.replace('{', " { ").replace('}', " } ");
    for word in spaced.split_whitespace() {
        match word {
            "{" => open.push(Vec::new()),
            "}" => {
                let inside = open.pop()?;
                open.last_mut()?.last_mut()?.members = inside;
            }
            name => {
                let bare = name.trim_end_matches("[]");
                open.last_mut()?.push(Member { name: bare.to_owned(), is_list: bare != name, members: Vec::new() });
            }
        }
    }
    open.pop().filter(|_| open.is_empty())
}

impl Known {
    /// Whether the entry was not made from this source.
    pub fn is_independent(&self, entry: &Entry) -> bool {
        // Who knows only the family has not given the fields; who links a page has not read it for us.
        let own = |source: &String| {
            let names = self.source.known_as.iter().any(|name| source.starts_with(name.as_str()));
            names && !source.ends_with("(family only)")
        };
        self.vector.id == entry.id && !entry.sources.iter().any(own)
    }

    /// The repository or site with the file or page.
    pub fn place(&self) -> String {
        let Source { of, path, .. } = &self.source;
        format!("{of}: {path}")
    }
}

/// The entries that no vector of another source confirms, and are not sure.
pub fn unconfirmed<'e>(entries: &'e [Entry], vectors: &[Known]) -> Vec<&'e Entry> {
    let confirmed: BTreeSet<&str> = entries
        .iter()
        .filter(|entry| vectors.iter().any(|known| known.is_independent(entry)))
        .map(|entry| entry.id.as_str())
        .collect();
    let is_sure = |entry: &&Entry| entry.confidence == echostr_catalog::Confidence::High;
    entries.iter().filter(|entry| !is_sure(entry) && !confirmed.contains(entry.id.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[source]]
id = "a"
of = "one/project"
path = "models"
known_as = ["Project"]

[[vector]]
type = "mp.event.subscribe"
source = "a"
path = "models/subscribe"
fields = "Token Sender{Name Tel} Items[]{Id}"
"#;

    #[test]
    fn members_are_a_tree() {
        let known = parse(FILE).expect("vectors");
        assert_eq!(known[0].place(), "one/project: models/subscribe");
        let member = |name: &str, is_list, members| Member { name: name.to_owned(), is_list, members };
        let leaf = |name| member(name, false, Vec::new());
        let expected = [
            leaf("Token"),
            member("Sender", false, vec![leaf("Name"), leaf("Tel")]),
            member("Items", true, vec![leaf("Id")]),
        ];
        assert_eq!(known[0].members, expected);
        assert_eq!([members("a{b"), members("a}"), members("{b}")], [None, None, None]);
    }

    #[test]
    fn a_vector_that_says_nothing_is_refused() {
        for (right, wrong) in [("source = \"a\"", "source = \"b\""), ("fields = ", "form = ")] {
            assert!(parse(&FILE.replacen(right, wrong, 1)).is_err(), "{wrong}");
        }
        assert!(parse(&format!("{FILE}payload = \"{{}}\"\n")).is_err());
    }

    #[test]
    fn no_source_confirms_itself() {
        let known = parse(FILE).expect("vectors");
        let catalog = echostr_catalog::platform("mp").expect("mp");
        let mut entry = catalog.event.into_iter().find(|entry| entry.id == "mp.event.subscribe").expect("an entry");
        entry.confidence = echostr_catalog::Confidence::Low;
        for (source, confirms) in [
            ("Project", false),
            ("Project (family only)", true),
            ("Other", true),
            ("official page linked by Project", true),
        ] {
            entry.sources = vec![source.to_owned()];
            let entries = std::slice::from_ref(&entry);
            assert_eq!(unconfirmed(entries, &known).is_empty(), confirms, "{source}");
        }
        assert_eq!(unconfirmed(&[entry], &[]).len(), 1);
    }
}
