//! What the command line asks, beside running servers or without one.

use std::{fmt, future::Future, sync::Arc};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        JournalError, Task,
        core::archive::{ArchiveStore, Change, Dialect, Read, Step, Value},
    },
    db::{self, Failure, Pool, lane, limited, now},
    schema::{self, LOCK, MAINTENANCE},
};

/// The database, for looking at and for replays. It connects when it is asked.
pub struct PostgresArchive {
    pool: Arc<Pool>,
}

impl fmt::Debug for PostgresArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresArchive").finish_non_exhaustive()
    }
}

impl PostgresArchive {
    /// Reads the URL; connects when it is asked.
    ///
    /// # Errors
    /// When the URL cannot be read, or asks for TLS.
    pub fn open(url: &str) -> Result<Self, JournalError> {
        Ok(Self { pool: Arc::new(Pool::new(url)?) })
    }

    async fn apply(&self, change: Change, letters: Vec<(Uuid, String)>) -> Result<u64, Failure> {
        let mut db = self.pool.get().await?;
        migrate(&mut db).await?;
        let changes = db.client.transaction().await?;
        // Nothing is removed meanwhile that has just been looked at.
        changes.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", &[&LOCK, &MAINTENANCE]).await?;
        let (first, then, both) = change.steps();
        let mut count = 0;
        for (event, name) in letters {
            let name = db::text(&name);
            if changes.execute(statement(first), &[&event, &name]).await? > 0 {
                let changed = changes.execute(statement(then), &[&event, &name]).await? > 0;
                count += u64::from(changed || !both);
            }
        }
        changes.commit().await?;
        db.done();
        Ok(count)
    }
}

impl ArchiveStore for PostgresArchive {
    const DIALECT: Dialect = Dialect {
        event: "id",
        of_event: "event",
        is_wanted: "observer.id = ANY(event.observers)",
        collate: "COLLATE \"C\"",
    };

    fn rows<T: Send + 'static>(&self, query: String, values: Vec<Value>, read: Read<T>) -> Task<'_, Vec<T>> {
        task(async move {
            let mut db = self.pool.get().await?;
            migrate(&mut db).await?;
            let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
            let rows = db.client.query(&query, &values).await?;
            db.done();
            Ok(rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?)
        })
    }

    fn change(&self, change: Change, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        task(self.apply(change, letters))
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

const OFFER: &str = concat!(
    "WITH told AS (
        UPDATE event SET observers = CASE WHEN event.observers @> ARRAY[observer.id] THEN event.observers
                                          ELSE event.observers || observer.id END
        FROM observer WHERE event.id = $1 AND observer.name = $2
        RETURNING event.id, event.account, event.subject, observer.id AS observer, observer.in_order
    )
    INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
    SELECT told.observer, told.account, ",
    now!(),
    ", told.id, 0, false, CASE WHEN told.in_order THEN ",
    lane!("told"),
    " END FROM told
    ON CONFLICT (event, observer) DO NOTHING"
);

const fn statement(step: Step) -> &'static str {
    match step {
        Step::Offer => OFFER,
        Step::DropLetter => "DELETE FROM dead USING observer WHERE event = $1 AND observer = observer.id AND name = $2",
        Step::Forget => {
            "UPDATE event SET observers = array_remove(event.observers, observer.id)
             FROM observer WHERE event.id = $1 AND observer.name = $2"
        }
    }
}

/// A task that is over within the time limit, with an error that says what is wrong.
fn task<'j, T>(work: impl Future<Output = Result<T, Failure>> + Send + 'j) -> Task<'j, T> {
    Box::pin(async move { limited(work).await.map_err(|failure| failure.explain()) })
}
