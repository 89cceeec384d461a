//! One server at a time: locks that keep a second one away from the file.
//!
//! Two, as each has a gap. The one on the database itself follows the file through links and mounts, and cannot be removed
//! while the server runs; it is taken where it does not meet the locks of SQLite. On Linux `flock` and the `fcntl` locks
//! of SQLite ignore each other on local disks; elsewhere, and on some network disks, they do not. The one on `.lock` beside
//! the file works everywhere, and for earlier versions of this program, until that file is removed.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use super::{
    super::JournalError,
    guard::{beside, identity},
};

/// Held as long as the journal is open.
///
/// Closing any descriptor of a file ends the process's `fcntl` locks on it, so this has to be dropped after the
/// connections of SQLite.
pub(super) struct ServerLock {
    path: PathBuf,
    database: Mutex<Option<File>>,
    beside: Mutex<File>,
}

impl ServerLock {
    /// Locks the file before SQLite opens it; it may not be there yet.
    ///
    /// # Errors
    /// When another server has it, or `.lock` cannot be created.
    pub(super) fn take(path: &Path) -> Result<Self, JournalError> {
        // First the one that has no file of its own: a server that is refused must not touch `.lock`.
        let database = lock_database(path)?;
        let beside = match lock_beside(path) {
            Ok(Some(beside)) => beside,
            Ok(None) => return Err(taken(path)),
            Err(failure) => {
                return Err(JournalError::storage(format!(
                    "cannot lock {}.lock: {failure}; check that its directory exists and is writable",
                    path.display()
                )));
            }
        };
        Ok(Self { path: path.to_owned(), database: Mutex::new(database), beside: Mutex::new(beside) })
    }

    /// Locks a file that SQLite has made in the meantime.
    ///
    /// # Errors
    /// When another server has it.
    pub(super) fn complete(&self) -> Result<(), JournalError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = lock_database(&self.path)?;
        }
        Ok(())
    }

    /// Releases the lock on the database itself, where it is in SQLite's way; returns whether there was one. Before
    /// the first connection only.
    pub(super) fn release_database(&self) -> bool {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Creates and locks `.lock` again where it was removed or replaced; returns whether this server still has it.
    pub(super) fn keep(&self) -> bool {
        let mut held = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fs::metadata(beside(&self.path, ".lock")).ok();
        if found.is_some_and(|found| held.metadata().is_ok_and(|held| identity(&held) == identity(&found))) {
            return true;
        }
        match lock_beside(&self.path) {
            Ok(Some(file)) => {
                let path = self.path.display();
                warn!(
                    "{path}.lock was removed or replaced; created and locked it again: do not touch it while a server runs"
                );
                *held = file;
                true
            }
            Ok(None) => false,
            // The directory is no longer writable: then no other server can lock it either.
            Err(_) => true,
        }
    }
}

/// Whether another server has locked a file.
pub(super) fn is_taken(file: &File) -> bool {
    // Released with the file. One that starts in this moment tries once, and would be refused; so this is brief.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn taken(path: &Path) -> JournalError {
    JournalError::storage(format!(
        "another echostr uses {}; to run several nodes, share a PostgreSQL journal",
        path.display()
    ))
}

/// Locks the database itself; `None` where it is not there yet, or cannot be locked.
#[cfg(target_os = "linux")]
fn lock_database(path: &Path) -> Result<Option<File>, JournalError> {
    // For writing: an overlay would hand out another file to those who only read.
    let Ok(file) = File::options().read(true).write(true).open(path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(taken(path)),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

#[cfg(not(target_os = "linux"))]
fn lock_database(_path: &Path) -> Result<Option<File>, JournalError> {
    Ok(None)
}

/// Locks `.lock`; `None` when another has it.
fn lock_beside(path: &Path) -> std::io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(failure)) => Err(failure),
    }
}

/// The path that SQLite uses, so that each name of a file has the same log and the same lock: links are followed.
pub(super) fn resolve(path: &Path) -> PathBuf {
    /// As many as the system follows.
    const MAX_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(found) = fs::canonicalize(&path) {
            return found;
        }
        // It is not there yet. Its folder is, and it may be a link.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                return match (fs::canonicalize(folder), path.file_name()) {
                    (Ok(folder), Some(name)) => folder.join(name),
                    _ => path,
                };
            }
        }
    }
    path
}
