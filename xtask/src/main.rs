//! `cargo run -p xtask` writes `crates/protocol/src/events` and `docs/events` anew from the catalogue; `cargo run -p xtask -- check`
//! checks the catalogue; `cargo run -p xtask -- seeds DIR` writes what the fuzz targets start from.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => xtask::generate().and_then(|files| write(root, &files)).map(|changed| format!("{changed} files changed")),
        ["seeds", folder] => xtask::seeds()
            .and_then(|seeds| write_seeds(Path::new(folder), &seeds))
            .map(|written| format!("{written} seeds")),
        ["check"] => xtask::check().map(|entries| format!("{entries} entries are sound")),
        _ => Err("usage: xtask [check | seeds DIR]".to_owned()),
    };
    match done {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(folder: &Path, seeds: &std::collections::BTreeMap<String, Vec<u8>>) -> Result<usize, String> {
    for (file, seed) in seeds {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        fs::write(&path, seed).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(seeds.len())
}

/// Writes changed files and removes those of families that no longer exist.
fn write(root: &Path, files: &std::collections::BTreeMap<String, String>) -> Result<usize, String> {
    let mut changed = 0;
    let mut folders: BTreeSet<_> = files.keys().filter_map(|file| Path::new(file).parent()).collect();
    // The fork may have no events any more.
    let of_fork = Path::new("docs/events/fork");
    folders.extend(root.join(of_fork).is_dir().then_some(of_fork));
    for folder in folders {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten() {
            let path = entry.path();
            let known =
                path.strip_prefix(root).ok().and_then(Path::to_str).is_some_and(|path| files.contains_key(path));
            if !known && path.is_file() {
                fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                changed += 1;
            }
        }
    }
    for (file, text) in files {
        let path = root.join(file);
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        changed += 1;
    }
    Ok(changed)
}
