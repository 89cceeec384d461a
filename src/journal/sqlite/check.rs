//! Whether a server could use the file: by doing what it would do, on files beside it that are removed again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
};

use super::{
    super::{JournalError, Usable},
    archive::SqliteArchive,
    db,
    guard::beside,
    lock,
};

/// Checks whether a server could use the file; a server may run on it. Nothing is left behind.
///
/// # Errors
/// When it cannot be read or written to, is not a journal, or could not be created.
pub(in super::super) fn check(path: &Path) -> Result<Usable, JournalError> {
    let _folders = Folders::create(path)?;
    let path = &lock::resolve(path);
    if !path.exists() {
        return create(path).map(|()| Usable::Yes);
    }
    let file = File::options().read(true).write(true).open(path).map_err(|failure| unusable(path, &failure))?;
    if lock::is_taken(&file) {
        return Ok(Usable::InUse);
    }
    drop(file);
    for end in ["-wal", "-shm", ".lock"] {
        let path = beside(path, end);
        match File::options().write(true).open(&path) {
            Err(failure) if failure.kind() != io::ErrorKind::NotFound => return Err(unusable(&path, &failure)),
            Ok(file) if end == ".lock" && lock::is_taken(&file) => return Ok(Usable::InUse),
            Ok(_) | Err(_) => {}
        }
    }
    // The log and the lock are made beside it.
    create(path)?;
    match SqliteArchive::open(path) {
        Ok(_) | Err(JournalError::Older(_)) => Ok(Usable::Yes),
        Err(failure) => Err(failure),
    }
}

/// Makes a database as a server would, and removes it.
fn create(path: &Path) -> Result<(), JournalError> {
    let trial = Trial(beside(path, &format!(".check-{}", process::id())));
    let explain = |failure: rusqlite::Error| {
        let text = db::explain(&trial.0, &failure).to_string();
        JournalError::storage(format!("{} could not be written to: {text}", path.display()))
    };
    let database = File::create_new(&trial.0).map_err(|failure| unusable(path, &failure))?;
    drop(database);
    let database = db::open(&trial.0, true).map_err(explain)?;
    database.execute_batch("CREATE TABLE trial (id INTEGER PRIMARY KEY)").map_err(explain)
}

fn unusable(path: &Path, failure: &io::Error) -> JournalError {
    let hint = match failure.kind() {
        io::ErrorKind::PermissionDenied => "; check the owner and the mode of the file and its directory",
        _ => "",
    };
    JournalError::storage(format!("{} cannot be written to: {failure}{hint}", path.display()))
}

/// Files that are removed when this is dropped.
struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(beside(&self.0, end));
        }
    }
}

/// Directories that were created, the deepest last; removed when this is dropped.
struct Folders(Vec<PathBuf>);

impl Folders {
    /// Those that a server would create for a file.
    fn create(path: &Path) -> Result<Self, JournalError> {
        let mut created = Self(Vec::new());
        let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(created) };
        let missing: Vec<&Path> =
            folder.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => created.0.push(folder.to_owned()),
                Err(failure) if failure.kind() == io::ErrorKind::AlreadyExists => {}
                Err(failure) => {
                    let folder = folder.display();
                    return Err(JournalError::storage(format!("cannot create the directory {folder}: {failure}")));
                }
            }
        }
        if !folder.is_dir() {
            return Err(JournalError::storage(format!("{} is not a directory", folder.display())));
        }
        Ok(created)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        // One that somebody uses by now is not empty, and stays.
        self.0.iter().rev().for_each(|folder| _ = fs::remove_dir(folder));
    }
}
