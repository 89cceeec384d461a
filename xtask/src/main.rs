//! `cargo run -p xtask` writes `src/events` anew from the catalogue.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match xtask::generate(root).and_then(|files| write(root, &files)) {
        Ok(changed) => {
            println!("{changed} files changed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes what changed and removes files of families that are gone.
fn write(root: &Path, files: &std::collections::BTreeMap<String, String>) -> Result<usize, String> {
    let mut changed = 0;
    let folders: BTreeSet<_> = files.keys().filter_map(|file| Path::new(file).parent()).collect();
    for folder in folders {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten() {
            let path = entry.path();
            let known =
                path.strip_prefix(root).ok().and_then(Path::to_str).is_some_and(|path| files.contains_key(path));
            if !known {
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
