//! What the command line asks, beside a running server or without one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::{
    Connection, OptionalExtension as _, ToSql, Transaction, TransactionBehavior, params, params_from_iter,
    types::ToSqlOutput,
};
use uuid::Uuid;

use super::{
    super::{
        JournalError, Task,
        core::archive::{ArchiveStore, Change, Dialect, Read, Step, Value},
        id::number,
        now_millis,
    },
    db, observers, read, schema,
};

/// The file, for looking at and for replays.
#[derive(Debug)]
pub struct SqliteArchive {
    path: PathBuf,
    db: Arc<Mutex<Connection>>,
}

impl SqliteArchive {
    /// Opens the file; a server may run on it.
    ///
    /// # Errors
    /// When it is not there, or is no journal of this version.
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
    const DIALECT: Dialect = Dialect {
        event: "seq",
        of_event: "seq",
        is_wanted: "instr(',' || event.observers || ',', ',' || observer.id || ',') > 0",
        collate: "",
    };

    fn rows<T: Send + 'static>(&self, query: String, values: Vec<Value>, read: Read<T>) -> Task<'_, Vec<T>> {
        self.query(move |db| db.prepare(&query)?.query_map(params_from_iter(&values), db::read(read))?.collect())
    }

    fn change(&self, change: Change, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.query(move |db| {
            let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            let (first, then, both) = change.steps();
            let mut count = 0;
            for (event, name) in letters {
                if apply(&transaction, first, event, &name)? {
                    count += u64::from(apply(&transaction, then, event, &name)? || !both);
                }
            }
            transaction.commit()?;
            Ok(count)
        })
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Event(id) => Ok(ToSqlOutput::from(db::to_sql(number(*id)))),
        }
    }
}

/// Runs a step; says whether it changed something.
fn apply(db: &Connection, step: Step, event: Uuid, name: &str) -> rusqlite::Result<bool> {
    let mut observer = db.prepare_cached("SELECT id FROM observer WHERE name = ?1")?;
    let Some(observer) = observer.query_row([name], |row| row.get(0)).optional()? else { return Ok(false) };
    let seq = db::to_sql(number(event));
    match step {
        Step::Offer => replay(db, observer, event),
        Step::DropLetter => {
            let mut delete = db.prepare_cached("DELETE FROM dead WHERE seq = ?1 AND observer = ?2")?;
            Ok(delete.execute(params![seq, observer])? > 0)
        }
        Step::Forget => forget(db, observer, seq).map(|()| true),
    }
}

/// Takes an observer from those that an event is for: it has not seen it, and never will.
pub(super) fn forget(db: &Connection, observer: i64, seq: i64) -> rusqlite::Result<()> {
    let wanted: Option<Option<String>> =
        db.query_row("SELECT observers FROM event WHERE seq = ?1", [seq], |row| row.get(0)).optional()?;
    let wanted = wanted.flatten().unwrap_or_default();
    let rest: Vec<&str> = wanted.split(',').filter(|id| !id.is_empty() && id.parse() != Ok(observer)).collect();
    let rest = (!rest.is_empty()).then(|| rest.join(","));
    db.execute("UPDATE event SET observers = ?2 WHERE seq = ?1", params![seq, rest])?;
    Ok(())
}

/// Adds a delivery that waits, unless there is one; says whether it did.
fn replay(db: &Connection, observer: i64, event: Uuid) -> rusqlite::Result<bool> {
    const OFFER: &str = "
        INSERT INTO delivery
        SELECT observer.id, account, ?3, seq, 0, 0, CASE WHEN in_order THEN coalesce(subject, ' ' || seq) END, NULL
        FROM event, observer WHERE seq = ?1 AND event.id = ?4 AND observer.id = ?2
          AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.observer = ?2 AND delivery.seq = ?1)";
    let seq = db::to_sql(number(event));
    let offered = db.prepare_cached(OFFER)?.execute(params![seq, observer, now_millis(), event.as_bytes()])? > 0;
    if offered {
        forget(db, observer, seq)?;
        observers::wanted_by(db, observer, seq)?;
    }
    Ok(offered)
}
