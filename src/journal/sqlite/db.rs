//! A connection to the file, and how rows are read.

use std::{future::ready, path::Path, time::Duration};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, ToSql, ffi, params_from_iter,
    types::{ToSqlOutput, Type},
};
use uuid::Uuid;

use super::{
    super::{
        JournalError, Millis,
        core::{Dialect, Failure, Read, Row, RowError, Session, Value},
        id::number,
    },
    queries,
};
use crate::panics::Panicked;

/// How long to wait for another process that writes, such as `echostr events replay`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file for writing; WAL, and a commit is durable when it returns.
pub(super) fn open(path: &Path, create: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "journal_mode", "WAL")?;
    make_durable(&db)?;
    // Checkpoints are made beside the commits (`maintenance.rs`).
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "cache_size", -16_000)?;
    Ok(db)
}

/// Opens a file that is a journal already, and leaves its settings as they are.
pub(super) fn open_known(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    make_durable(&db)?;
    Ok(db)
}

/// Opens a file of its own, without a log: one that is being made.
pub(super) fn open_plain(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// A commit is on the disk when it returns. `fsync` of macOS leaves it in the cache of the disk, unless it is asked for more;
/// other systems take no notice.
fn make_durable(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "checkpoint_fullfsync", true)
}

/// Opens the file for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = open(path, false)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -4_000)?;
    Ok(db)
}

/// What an error of SQLite means to the operator.
pub(in super::super) fn explain(path: &Path, failure: &rusqlite::Error) -> JournalError {
    let path = path.display();
    let hint = match failure.sqlite_error_code() {
        _ if failure.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_DBMOVED) => {
            "it was moved, removed, replaced or truncated while the server ran; put it back, or restart the server"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; free some space, nothing needs to be restarted",
        Some(ErrorCode::ReadOnly) => {
            "it cannot be written to; check the owner and the mode of the file and its directory"
        }
        Some(ErrorCode::CannotOpen) => "it cannot be opened; check that its directory exists and is writable",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged or not a journal; move it away to start with an empty one, `sqlite3 FILE .recover` may save the rest"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed, or is full",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process has kept it locked for too long",
        _ => "",
    };
    let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
    JournalError::storage(format!("journal {path}{hint} ({failure})"))
}

/// There is no file.
pub(super) fn absent(path: &Path) -> JournalError {
    JournalError::storage(format!("there is no journal at {}; the first start of a server creates it", path.display()))
}

/// The files are no longer those that were opened; which, or what has become of it.
pub(super) fn moved(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(what.to_owned()))
}

pub(super) fn is_busy(failure: &rusqlite::Error) -> bool {
    matches!(failure.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl Failure for rusqlite::Error {
    fn panicked(panicked: Panicked) -> Self {
        Self::ToSqlConversionFailure(Box::new(panicked))
    }

    fn is_trouble(&self) -> bool {
        matches!(
            self.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OutOfMemory
            )
        )
    }
}

/// Numbers are at most 60 bits.
pub(super) fn to_sql(number: u64) -> i64 {
    number.cast_signed()
}

impl Row for rusqlite::Row<'_> {
    fn number(&self, column: usize) -> Result<Option<i64>, RowError> {
        self.get(column).map_err(|cause| RowError::column(column, cause))
    }

    fn text(&self, column: usize) -> Result<Option<String>, RowError> {
        self.get(column).map_err(|cause| RowError::column(column, cause))
    }

    fn place(&self, column: usize) -> Result<Option<Value>, RowError> {
        Ok(self.number(column)?.map(Value::Number))
    }

    fn id(&self, column: usize) -> Result<Uuid, RowError> {
        uuid(self, column).map_err(|cause| RowError::column(column, cause))
    }
}

/// An identity in a column.
pub(super) fn uuid(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

impl From<RowError> for rusqlite::Error {
    fn from(failure: RowError) -> Self {
        let column = if let RowError::Column { column, .. } = failure { column } else { 0 };
        Self::FromSqlConversionFailure(column, Type::Text, Box::new(failure))
    }
}

/// Transactions that other stores have too.
pub(super) struct File<'d> {
    pub(super) db: &'d Connection,
    pub(super) now: Millis,
}

impl Session for File<'_> {
    type Failure = rusqlite::Error;

    const DIALECT: Dialect = Dialect {
        event: "seq",
        of_event: "seq",
        observation: "observer, account, due, seq",
        collate: "",
        is_wanted: "instr(',' || event.observers || ',', ',' || observer.id || ',') > 0",
        with_observer: "CASE WHEN instr(',' || event.observers || ',', ',' || observer.id || ',') > 0
                             THEN event.observers ELSE coalesce(event.observers || ',', '') || observer.id END",
        without_observer: "nullif(trim(replace(',' || event.observers || ',', ',' || observer.id || ',', ','), ','), '')",
        has_text: "instr(event.payload, ?) > 0",
        ordering_key: "coalesce(event.subject, ' ' || event.seq)",
        is_missing: "observer.missing_since IS NOT NULL",
        missing_since: "missing_since",
        lock_row: "",
        remove_used_queries: queries::REMOVE,
    };

    fn now(&self) -> String {
        self.now.to_string()
    }

    fn execute(&mut self, text: &str, values: &[Value]) -> impl Future<Output = rusqlite::Result<u64>> + Send {
        let changed = self.db.prepare(&numbered(text)).and_then(|mut it| it.execute(params_from_iter(values)));
        ready(changed.map(|changed| changed as u64))
    }

    fn query<T: Send>(
        &mut self,
        text: &str,
        values: &[Value],
        read: Read<T>,
    ) -> impl Future<Output = rusqlite::Result<Vec<T>>> + Send {
        ready(query(self.db, text, values, read))
    }
}

/// Runs a query whose rows are read by the codec of all stores.
pub(super) fn query<T>(db: &Connection, text: &str, values: &[Value], read: Read<T>) -> rusqlite::Result<Vec<T>> {
    db.prepare(&numbered(text))?.query_map(params_from_iter(values), self::read(read))?.collect()
}

/// SQLite takes `$1` for a name.
fn numbered(text: &str) -> String {
    text.replace('$', "?")
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Event(id) => Ok(ToSqlOutput::from(to_sql(number(*id)))),
        }
    }
}

/// Has a row read by the codec of all stores.
fn read<T>(read: Read<T>) -> impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T> {
    move |row| Ok(read(row)?)
}

/// Bytes of the file that are in use.
pub(super) fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| {
        let mut pragma = db.prepare_cached(name)?;
        pragma.query_row([], |row| row.get::<_, i64>(0))
    };
    let used = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok((used * pragma("PRAGMA page_size")?).cast_unsigned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{open, open_known, open_reader};

    #[test]
    fn every_connection_syncs_as_far_as_the_system_can() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal.db");
        let connections = [open(&path, true).unwrap(), open_known(&path).unwrap(), open_reader(&path).unwrap()];
        for db in connections {
            for (pragma, value) in [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1)] {
                let set: i64 = db.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
                assert_eq!(set, value, "{pragma}");
            }
        }
    }
}
