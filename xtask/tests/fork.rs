//! A fork with handlers, a dependency and an event of its own merges an upstream that has changed the same things.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use xtask::Texts;

/// What a fork and upstream change, and what is generated of it.
const COPIED: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "catalog",
    "crates/protocol/src/events",
    "docs/events",
    "fork",
    "src/handlers",
];

/// An event of an Official Account.
fn entry(name: &str, type_name: &str, family: &str) -> String {
    format!(
        r#"
[[event]]
id = "mp.event.{name}"
kind = "event"
select = {{ MsgType = "event", Event = "{name}" }}
type = "{type_name}"
summary = "An event ({name})."
family = "{family}"
formats = ["xml"]
reply = "passive"
fields = [
  {{ name = "ShopId", path = "ShopId", type = "string", required = true, doc = "Shop." }},
  {{ name = "Place", path = "Place", type = "object", required = false, doc = "Where it is." }},
  {{ name = "City", path = "Place.City", type = "string", required = true, doc = "City." }},
  {{ name = "Street", path = "Place.Street", type = "string", required = true, doc = "Street." }},
]
sample_xml = '''
<xml><ToUserName>gh_1</ToUserName><FromUserName>oFan_1</FromUserName><CreateTime>1735689600</CreateTime><MsgType>event</MsgType><Event>{name}</Event><ShopId>7</ShopId><Place><City>a</City><Street>b</Street></Place></xml>'''
confidence = "high"
"#
    )
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The texts of the catalogue in a folder.
fn texts(folder: &Path) -> Texts {
    let read = |file: String| fs::read_to_string(folder.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut texts = Texts::compiled().unwrap();
    for (name, text, fork) in &mut texts.platforms {
        *text = read(format!("catalog/{name}.toml"));
        *fork = read(format!("catalog/fork/{name}.toml"));
    }
    texts
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
        return;
    }
    for entry in fs::read_dir(from).unwrap().flatten() {
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

struct Repository(TempDir);

impl Repository {
    /// The sources as they are.
    fn new() -> Self {
        let repository = Self(TempDir::new().unwrap());
        COPIED.into_iter().for_each(|path| copy(&root().join(path), &repository.path().join(path)));
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit("upstream as it is");
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
        let output = command.args(["-c", "core.autocrlf=false"]).args(arguments).output().expect("git is installed");
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {printed}");
        printed
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// Changes a file with this function, or makes it.
    fn change(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let changed = change(text.clone());
        assert!(changed != text, "{file} has not changed");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, changed).unwrap();
    }

    /// As `cargo run -p xtask` does; returns what has changed.
    fn generate(&self) -> Vec<String> {
        let files: BTreeMap<_, _> = xtask::generate_from(&texts(self.path())).unwrap();
        let is_old =
            |(file, text): &(String, String)| fs::read_to_string(self.path().join(file)).is_ok_and(|old| old == *text);
        let changed: Vec<_> = files.into_iter().filter(|file| !is_old(file)).collect();
        for (file, text) in &changed {
            let path = self.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        changed.into_iter().map(|(file, _)| file).collect()
    }
}

#[test]
fn a_fork_merges_upstream_without_a_conflict() {
    let repository = Repository::new();
    assert_eq!(repository.generate(), Vec::<String>::new(), "what is generated is current");

    repository.git(&["checkout", "--quiet", "-b", "fork"]);
    repository.change("src/handlers/mine.rs", |_| "pub fn hooks() {}\n".to_owned());
    repository.change("src/handlers/mod.rs", |text| format!("mod mine;\n{text}"));
    repository.change("fork/Cargo.toml", |text| {
        text.replace("\n[dev-dependencies]", "moka = \"0.12\"\n\n[dev-dependencies]")
    });
    repository.change("fork/Cargo.lock", |_| "version = 4\n".to_owned());
    repository.change("catalog/fork/mp.toml", |text| text + &entry("shop_visit", "ShopVisit", "follow"));
    let of_fork = ["crates/protocol/src/events/mp/fork.rs", "docs/events/fork/mp.md"];
    assert_eq!(repository.generate(), of_fork, "only files of the fork");
    repository.commit("a fork");

    repository.git(&["checkout", "--quiet", "main"]);
    repository.change("catalog/mp.toml", |text| text + &entry("shop_left", "ShopLeft", "follow"));
    repository.change("Cargo.toml", |text| text.replace("\nmimalloc = ", "\nmonostate = \"1\"\nmimalloc = "));
    let block = "[[package]]\nname = \"mimalloc\"";
    repository.change("Cargo.lock", |text| {
        text.replace(block, &format!("[[package]]\nname = \"mad\"\nversion = \"1.0.0\"\n\n{block}"))
    });
    repository
        .change("CHANGELOG.md", |text| text.replace("## Unreleased\n\n", "## Unreleased\n\n- **added:** more.\n"));
    assert!(repository.generate().len() > 3, "types, table, pages");
    repository.commit("upstream has more");

    repository.git(&["checkout", "--quiet", "fork"]);
    let merged = repository.git(&["merge", "--no-edit", "main"]);
    assert!(!merged.contains("CONFLICT"), "{merged}");
    assert_eq!(repository.generate(), Vec::<String>::new(), "nothing has to be generated again");
    let before = xtask::check().unwrap();
    assert_eq!(xtask::check_texts(&texts(repository.path())), Ok(before + 2));
    let pages = fs::read_to_string(repository.path().join("docs/events/fork/mp.md")).unwrap();
    assert!(pages.contains("### `mp.event.shop_visit`") && pages.contains("](../mp.md#"), "{pages}");

    // Upstream gets the event of the fork, too.
    repository.change("catalog/mp.toml", |text| text + &entry("shop_visit", "ShopVisited", "follow"));
    let found = xtask::check_texts(&texts(repository.path())).unwrap_err();
    assert!(
        found.contains("catalog/fork/mp.toml:") && found.contains("upstream has this event now, `mp.event.shop_visit`"),
        "{found}"
    );
    repository.change("catalog/mp.toml", |text| text.replace("\"ShopVisited\"", "\"ShopVisit\""));
    let failure = xtask::generate_from(&texts(repository.path())).unwrap_err();
    assert!(failure.contains("catalog/fork/mp.toml: `ShopVisit` is a type of upstream already"), "{failure}");
}
