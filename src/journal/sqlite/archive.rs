//! The archive for the command line, beside a running server or without one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    super::{
        JournalError, Task,
        core::{ArchiveStore, Change, Dialect, Read, Session as _, Value, at_once, steps},
        now_millis,
    },
    db::{self, File},
    read, schema,
};

/// The file, for reading and for replays.
#[derive(Debug)]
pub struct SqliteArchive {
    path: PathBuf,
    db: Arc<Mutex<Connection>>,
}

impl SqliteArchive {
    /// Opens the file; a server may run on it.
    ///
    /// # Errors
    /// When it is not there, or is not a journal of this version.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = db::open_known(path).map_err(|failure| db::explain(path, &failure))?;
        schema::check(&connection).map_err(|failure| schema::explain(path, failure))?;
        Ok(Self { path: path.to_owned(), db: Arc::new(Mutex::new(connection)) })
    }

    fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Task<'_, T> {
        Box::pin(read(Arc::clone(&self.db), self.path.clone(), query))
    }
}

impl ArchiveStore for SqliteArchive {
    const DIALECT: Dialect = File::DIALECT;

    fn rows<T: Send + 'static>(&self, query: String, values: Vec<Value>, read: Read<T>) -> Task<'_, Vec<T>> {
        self.query(move |db| db::query(db, &query, &values, read))
    }

    fn change(&self, change: Change) -> Task<'_, u64> {
        self.query(move |db| {
            let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            let mut file = File { db: &transaction, now: now_millis() };
            let changed = at_once(steps::change(&mut file, change))?;
            transaction.commit()?;
            Ok(changed)
        })
    }
}
