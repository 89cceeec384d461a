//! The archive for the command line, beside running servers or without one.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_postgres::Transaction;

use super::{
    super::{
        Filter, JournalError, Place, Stored, Task,
        core::{
            ArchiveStore, Change, Conditions, Dialect, EVENT_COLUMNS, Read, Session as _, Value, event_columns, row,
            steps,
        },
    },
    db::{self, Failure, limited},
    pool::{Connection, Pool},
    schema::{self, LOCK, MAINTENANCE},
};

/// The transaction that entered an event: not shown by a snapshot, and shown by one.
const SINCE: &str = "event.entered >= pg_snapshot_xmin(CAST(? AS text)::pg_snapshot)::text::bigint
     AND NOT pg_visible_in_snapshot(event.entered::text::xid8, CAST(? AS text)::pg_snapshot)";
const SHOWN: &str = "pg_visible_in_snapshot(event.entered::text::xid8, CAST(? AS text)::pg_snapshot)";

/// The database, for reading and for replays. It connects on first use.
pub struct PostgresArchive {
    pool: Arc<Pool>,
    /// This version works with the tables.
    is_checked: AtomicBool,
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
    /// When the URL cannot be parsed, or a file that it names cannot be read.
    pub fn open(url: &str) -> Result<Self, JournalError> {
        Ok(Self { pool: Arc::new(Pool::new(url)?), is_checked: AtomicBool::default() })
    }

    async fn snapshot(&self) -> Result<Option<String>, JournalError> {
        let query = "SELECT pg_current_snapshot()::text".to_owned();
        Ok(self.rows(query, Vec::new(), |row| row.string(0)).await?.pop())
    }

    /// Checks once that this version works with the tables. A database that no server has used yet has none.
    async fn check(&self, db: &mut Connection) -> Result<(), Failure> {
        if self.is_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let changes = db.client.transaction().await?;
        match schema::version(&changes).await? {
            Some(_) => drop(schema::check(&changes).await?),
            None => schema::migrate(&changes).await?,
        }
        changes.commit().await?;
        self.is_checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn apply(&self, change: Change) -> Result<u64, Failure> {
        let mut db = self.pool.get().await?;
        self.check(&mut db).await?;
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
            self.check(&mut db).await?;
            let rows = db.client.query(&query, &db::as_sql(&values)).await?;
            db.done();
            Ok(rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?)
        })
    }

    fn here(&self) -> Task<'_, Place> {
        Box::pin(async move { Ok(Place { snapshot: self.snapshot().await?, ..Place::default() }) })
    }

    /// Nodes make identities by their own clocks, and commit in any order. So an event is new when the snapshot of the last
    /// round does not show the transaction that entered it.
    fn since(&self, filter: &Filter, place: Place, limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)> {
        let mut conditions = Conditions::of::<Self>(filter);
        Box::pin(async move {
            let Place { snapshot, reading, .. } = place;
            let (now, last) = match reading {
                Some((now, transaction, event)) => (Some(now), Some((transaction, event))),
                None => (self.snapshot().await?, None),
            };
            let (Some(seen), Some(now)) = (snapshot, now) else { return Ok((Vec::new(), self.here().await?)) };
            conditions.add(SINCE, Value::Text(seen.clone()));
            conditions.add(SHOWN, Value::Text(now.clone()));
            if let Some((transaction, event)) = last {
                conditions.add("event.entered >= ?", Value::Number(transaction));
                let behind = format!("(event.entered > ${} OR event.id > ?)", conditions.values.len());
                conditions.add(&behind, Value::Event(event));
            }
            let query = format!(
                "SELECT {}, event.entered FROM event WHERE {} ORDER BY event.entered, event.id LIMIT {limit}",
                event_columns!(),
                conditions.text
            );
            let page = self.rows(query, conditions.values, |one| Ok((row::stored(one)?, one.integer(EVENT_COLUMNS)?)));
            let with_place = |(stored, transaction): (Stored, i64)| {
                let reading = Some((now.clone(), transaction, stored.id));
                (stored, Place { snapshot: Some(seen.clone()), reading, event: None })
            };
            let page: Vec<_> = page.await?.into_iter().map(with_place).collect();
            let place = match page.last() {
                Some((_, place)) if page.len() >= limit => place.clone(),
                _ => Place { snapshot: Some(now), ..Place::default() },
            };
            Ok((page, place))
        })
    }

    fn change(&self, change: Change) -> Task<'_, u64> {
        task(self.apply(change))
    }
}

/// A task with a time limit, and a readable error.
fn task<'j, T>(work: impl Future<Output = Result<T, Failure>> + Send + 'j) -> Task<'j, T> {
    Box::pin(async move { limited(work).await.map_err(|failure| failure.explain()) })
}
