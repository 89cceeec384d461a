//! The archive for the command line, beside running servers or without one.

use std::{fmt, future::Future, sync::Arc};

use tokio_postgres::Transaction;

use super::{
    super::{
        JournalError, Task,
        core::{ArchiveStore, Change, Dialect, Read, Session as _, Value, steps},
    },
    db::{self, Failure, Pool, limited},
    schema::{self, LOCK, MAINTENANCE},
};

/// The database, for reading and for replays. It connects on first use.
pub struct PostgresArchive {
    pool: Arc<Pool>,
}

impl fmt::Debug for PostgresArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresArchive").finish_non_exhaustive()
    }
}

impl PostgresArchive {
    /// Parses the URL; connects on first use.
    ///
    /// # Errors
    /// When the URL cannot be parsed, or requires TLS.
    pub fn open(url: &str) -> Result<Self, JournalError> {
        Ok(Self { pool: Arc::new(Pool::new(url)?) })
    }

    async fn apply(&self, change: Change) -> Result<u64, Failure> {
        let mut db = self.pool.get().await?;
        migrate(&mut db).await?;
        let mut changes = db.client.transaction().await?;
        // So that nothing is removed that was just read.
        changes.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", &[&LOCK, &MAINTENANCE]).await?;
        let changed = steps::change(&mut changes, change).await?;
        changes.commit().await?;
        db.done();
        Ok(changed)
    }
}

impl ArchiveStore for PostgresArchive {
    const DIALECT: Dialect = Transaction::DIALECT;

    fn rows<T: Send + 'static>(&self, query: String, values: Vec<Value>, read: Read<T>) -> Task<'_, Vec<T>> {
        task(async move {
            let mut db = self.pool.get().await?;
            migrate(&mut db).await?;
            let rows = db.client.query(&query, &db::as_sql(&values)).await?;
            db.done();
            Ok(rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?)
        })
    }

    fn change(&self, change: Change) -> Task<'_, u64> {
        task(self.apply(change))
    }
}

/// A database that no server has used yet has no tables.
async fn migrate(db: &mut db::Connection) -> Result<(), Failure> {
    let there = db.client.query_one("SELECT to_regclass('echostr_version') IS NOT NULL", &[]).await?;
    if there.try_get(0)? {
        return Ok(());
    }
    let changes = db.client.transaction().await?;
    schema::migrate(&changes).await?;
    changes.commit().await?;
    Ok(())
}

/// A task with a time limit, and a readable error.
fn task<'j, T>(work: impl Future<Output = Result<T, Failure>> + Send + 'j) -> Task<'j, T> {
    Box::pin(async move { limited(work).await.map_err(|failure| failure.explain()) })
}
