//! Backups: the journal as it was at one moment, in one file; and a journal from such a file.
//!
//! The file is a SQLite journal, whatever journal it is of. So the backup of one can be restored into the other.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{JournalError, Millis, sqlite};
use crate::config::{self, JournalUrl};

/// Only its owner may read it: payloads are what users wrote.
const MODE: u32 = 0o600;

/// What is in a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) events: u64,
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    /// When the backup was made, if the file says so, and by which version.
    pub(crate) taken: Option<Millis>,
    pub(crate) program: Option<String>,
    /// Events that have another identity than in the backup: see [`sqlite::backup`].
    pub(crate) renamed: u64,
}

/// Writes a backup; servers may run on the journal, and write to it. Returns what is in it.
///
/// # Errors
/// When the journal cannot be read, or the file cannot be written; then there is no file. When there is a file already,
/// unless it is to be replaced.
pub(crate) async fn back_up(config: &config::Journal, to: &Path, replace: bool) -> Result<Summary, JournalError> {
    if let JournalUrl::Sqlite(path) = &config.url {
        refuse_journal(path, to)?;
    }
    let refuse = || match fs::symlink_metadata(to) {
        Ok(_) if !replace => {
            Err(JournalError::storage(format!("{} is there already; --force replaces it", to.display())))
        }
        _ => Ok(()),
    };
    refuse()?;
    let partial = match &config.url {
        JournalUrl::Memory => return Err(in_memory("backup")),
        JournalUrl::Sqlite(path) => {
            let partial = Partial::create(to)?;
            sqlite::backup::copy(path, &partial.path)?;
            partial
        }
        #[cfg(feature = "postgres")]
        JournalUrl::Postgres(url) => {
            let partial = Partial::create(to)?;
            super::postgres::backup::copy(url.expose(), &partial.path).await?;
            partial
        }
        JournalUrl::Unread => return Err(super::unread()),
        #[cfg(not(feature = "postgres"))]
        other => return Err(super::not_built(other)),
    };
    let summary = sqlite::backup::seal(&partial.path)?;
    // It may have come meanwhile.
    refuse()?;
    partial.finish()?;
    Ok(summary)
}

/// Restores a backup into a journal that is empty, or not there yet. Returns what is in it.
///
/// # Errors
/// When the journal is not empty, a server runs on it, or the file is no backup that this version can read. Nothing was
/// changed then.
pub(crate) async fn restore(config: &config::Journal, from: &Path) -> Result<Summary, JournalError> {
    match &config.url {
        JournalUrl::Memory => Err(in_memory("restore")),
        JournalUrl::Sqlite(path) => sqlite::backup::restore(path, from),
        #[cfg(feature = "postgres")]
        JournalUrl::Postgres(url) => super::postgres::backup::restore(url.expose(), from).await,
        JournalUrl::Unread => Err(super::unread()),
        #[cfg(not(feature = "postgres"))]
        other => Err(super::not_built(other)),
    }
}

fn in_memory(what: &str) -> JournalError {
    JournalError::storage(format!(
        "a \"memory:\" journal is lost when its server ends, so there is nothing to {what}; set [journal] url to \"sqlite://PATH\" \
         or \"postgres://…\""
    ))
}

/// A backup must not replace the journal that it is of.
fn refuse_journal(journal: &Path, to: &Path) -> Result<(), JournalError> {
    let (Ok(journal), Ok(found)) = (fs::canonicalize(journal), fs::canonicalize(to)) else { return Ok(()) };
    let belongs = ["", "-wal", "-shm", ".lock"].iter().any(|end| with_end(&journal, end) == found);
    if belongs {
        return Err(JournalError::storage(format!("{} is the journal itself, or a part of it", to.display())));
    }
    Ok(())
}

/// The path with more at its end.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A file that is written under another name, and gets its own when it is whole and on the disk. Removed when it is dropped
/// before.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    to: PathBuf,
    file: File,
    is_finished: bool,
}

impl Partial {
    /// Creates the file, empty. What a process left that was killed is used again.
    pub(super) fn create(to: &Path) -> Result<Self, JournalError> {
        let path = with_end(to, ".partial");
        let failed = |failure: io::Error| JournalError::storage(format!("cannot write {}: {failure}", path.display()));
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(MODE).open(&path).map_err(failed)?;
        let is_own = match file.try_lock() {
            // Another process may have given it its name since it was opened.
            Ok(()) => fs::metadata(&path).is_ok_and(|found| is_same(&found, &file)),
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(failure)) => return Err(failed(failure)),
        };
        if !is_own {
            return Err(JournalError::storage(format!("another process is writing {}", to.display())));
        }
        file.set_len(0).map_err(failed)?;
        file.set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed)?;
        Ok(Self { path, to: to.to_owned(), file, is_finished: false })
    }

    /// Gives it its name.
    pub(super) fn finish(mut self) -> Result<(), JournalError> {
        let failed =
            |failure: io::Error| JournalError::storage(format!("cannot write {}: {failure}", self.to.display()));
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, &self.to).map_err(failed)?;
        self.is_finished = true;
        File::open(folder(&self.to)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_finished {
            // What SQLite puts beside a file that it writes.
            for end in ["", "-journal", "-wal", "-shm"] {
                let _ = fs::remove_file(with_end(&self.path, end));
            }
        }
    }
}

fn is_same(found: &fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
