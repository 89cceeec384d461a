//! The invariants of ARCHITECTURE.md, read off the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use echostr::platform::Platform;

/// A module or file of `src`, and all that it may name of the crate. What the protocol may know is held by its own crate.
const LAYERS: [(&str, &[&str]); 2] = [
    ("demo.rs", &["demo", "config", "event", "events", "hooks", "replies"]),
    (
        "journal",
        &[
            "journal",
            "clock",
            "prehashed",
            "config",
            "envelope",
            "event",
            "panics",
            "payload",
            "platform",
            "supervisor",
        ],
    ),
];

fn sources(below: &Path) -> Vec<PathBuf> {
    if below.is_file() {
        return vec![below.to_owned()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        files.extend(sources(&entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    files
}

/// The code of a file without its comments and tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that a file names: `crate::a`, `$crate::a` and `use crate::{a::…, b::…}`.
fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            continue;
        }
        let mut depth = 0;
        let mut name = String::new();
        for character in rest.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (character.is_alphanumeric() || character == '_') {
                name.push(character);
            } else if !name.is_empty() && (character == ':' || character == ',' || character == '}') {
                names.push(std::mem::take(&mut name));
                // What follows `a::` up to the comma is inside of `a`.
            } else if character == ',' {
                name.clear();
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// What no rule is for: tests, and the handlers of a fork.
fn is_free(file: &Path) -> bool {
    file.starts_with(src().join("handlers"))
        || file.ends_with("tests.rs")
        || file.parent().is_some_and(|folder| folder.ends_with("tests"))
}

#[test]
fn layers_know_only_what_is_below_them() {
    let modules: Vec<String> = sources(&src().join("lib.rs"))
        .iter()
        .flat_map(|file| {
            code(file)
                .lines()
                .filter_map(|line| {
                    line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(modules.len() > 15, "{modules:?}");
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for file in sources(&src().join(layer)).into_iter().filter(|file| !is_free(file)) {
            let names = named(&code(&file));
            let known = names.into_iter().filter(|name| modules.contains(name));
            wrong.extend(
                known
                    .filter(|name| !allowed.contains(&name.as_str()))
                    .map(|name| format!("{} names {name}", file.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Below these a platform is named: where they differ, and what is generated.
const PLATFORMS: [&str; 2] = ["crates/protocol/src/platform", "crates/protocol/src/events"];

#[test]
fn only_platforms_name_a_platform() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<String> = Platform::ALL.iter().map(|platform| format!("Platform::{platform:?}")).collect();
    let mut wrong = Vec::new();
    for below in ["src", "crates/protocol/src", "crates/testing/src", "catalog/src", "xtask/src"] {
        for file in sources(&root.join(below)).into_iter().filter(|file| !is_free(file)) {
            let code = code(&file);
            let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').collect();
            let named = names.iter().find(|name| words.contains(&name.as_str()));
            let may = PLATFORMS.iter().any(|below| file.starts_with(root.join(below)));
            wrong.extend(named.filter(|_| !may).map(|name| format!("{} names {name}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What only these folders of `src` may name. The API that is played is a server of its own.
const ONLY_BELOW: [(&[&str], &[&str]); 5] = [
    (&["axum::", "hyper::", "hyper_util::"], &["server", "simulate/api"]),
    (&["tokio_tungstenite::"], &["websocket", "simulate/api"]),
    (&["rusqlite::", "tokio_postgres::"], &["journal"]),
    (&["clap::"], &["cli"]),
    (&["async_nats::", "redis::", "lapin::", "rskafka::"], &["forward/queue"]),
];

#[test]
fn http_sql_and_the_command_line_stay_where_they_belong_and_nobody_panics_or_is_unsafe() {
    let mut wrong = Vec::new();
    for file in sources(&src()).into_iter().filter(|file| !is_free(file)) {
        let code = code(&file);
        for (words, folders) in ONLY_BELOW {
            let may = folders.iter().any(|below| file.starts_with(src().join(below)));
            let named = words.iter().filter(|word| !may && code.contains(**word));
            wrong.extend(named.map(|word| format!("{} names {word}", file.display())));
        }
        // `panic!` is for the registry, which is checked when the server starts, and for what tests inject.
        let may_panic = file.ends_with("hooks/mod.rs") || file.ends_with("supervisor.rs");
        for word in [".unwrap()", ".expect(", "unsafe {", "todo!(", "unimplemented!(", "unreachable!("] {
            if code.contains(word) {
                wrong.push(format!("{} has {word}", file.display()));
            }
        }
        if code.contains("panic!(") && !may_panic {
            wrong.push(format!("{} panics", file.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_protocol_asks_the_system_for_time_and_random_bytes_in_one_module_behind_a_feature() {
    let asks = |code: &str| {
        ["SystemTime", "Instant::now", "getrandom::", "std::fs", "std::net"].iter().any(|word| code.contains(word))
    };
    let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/protocol/src");
    let asking = sources(&protocol).into_iter().filter(|file| !is_free(file) && asks(&code(file)));
    assert_eq!(asking.collect::<Vec<_>>(), [protocol.join("receive.rs")]);
    let code = code(&protocol.join("receive.rs"));
    let (others, module) = code.split_once("#[cfg(feature = \"system\")]\nmod system {").unwrap();
    assert!(!asks(others) && asks(module));
}

/// A file that is longer tells more than one story.
const LONGEST: usize = 500;

#[test]
fn no_file_that_is_written_by_hand_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = ["src", "crates", "catalog/src", "xtask/src", "tools", "benches", "examples"];
    let files: Vec<PathBuf> = below.iter().flat_map(|folder| sources(&root.join(folder))).collect();
    assert!(files.len() > 200, "{}", files.len());
    // The events are generated.
    let written = files.iter().filter(|file| !file.starts_with(root.join("crates/protocol/src/events")));
    let too_long = written.filter_map(|file| {
        let lines = fs::read_to_string(file).unwrap().lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", file.display()))
    });
    assert_eq!(too_long.collect::<Vec<_>>(), Vec::<String>::new());
}
