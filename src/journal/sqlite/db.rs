//! A connection to the file, and how rows are read.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ffi};
use uuid::Uuid;

use super::super::{Facts, JournalError, State, Stored};
use crate::{
    event::Platform,
    payload::{Form, Payload},
    platform::Body,
};

/// How long to wait for another process that writes, such as `echostr events replay`.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the file for writing; WAL, and a commit is durable when it returns.
pub(super) fn open(path: &Path, create: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints are made beside the commits (`checkpoint.rs`).
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "cache_size", -16_000)?;
    Ok(db)
}

/// Opens a file that is a journal already, and leaves its settings as they are.
pub(super) fn open_known(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

/// Opens the file for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = open(path, false)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -4_000)?;
    Ok(db)
}

/// What an error of SQLite means to whoever runs the server.
pub(super) fn explain(path: &Path, failure: &rusqlite::Error) -> JournalError {
    let path = path.display();
    let hint = match failure.sqlite_error_code() {
        _ if failure.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_DBMOVED) => {
            "it was moved, removed, replaced or cut short while the server ran; put it back, or start the server again"
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room and it goes on by itself",
        Some(ErrorCode::ReadOnly) => "it cannot be written to; check the owner and the mode of the file and its folder",
        Some(ErrorCode::CannotOpen) => "it cannot be opened; check that its folder exists and may be written to",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged or no journal; move it away to start with an empty one, `sqlite3 FILE .recover` may save the rest"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed, or is full",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process has kept it locked for too long",
        _ => "",
    };
    let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
    JournalError::storage(format!("journal {path}{hint} ({failure})"))
}

/// The files are no longer those that were opened; which, or what has become of it.
pub(super) fn moved(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(what.to_owned()))
}

pub(super) fn is_busy(failure: &rusqlite::Error) -> bool {
    matches!(failure.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether an error is the trouble of the file or the disk, and not of what was asked.
pub(super) fn is_trouble(failure: &rusqlite::Error) -> bool {
    matches!(
        failure.sqlite_error_code(),
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

/// Numbers are at most 60 bits.
pub(super) fn to_sql(number: u64) -> i64 {
    number.cast_signed()
}

/// The columns that [`stored`] reads.
pub(super) const EVENT: &str =
    "event.id, account, type, subject, form, payload, query, received, deliveries, state, reply, failure";

/// Number of columns in [`EVENT`].
pub(super) const EVENT_COLUMNS: usize = 12;

/// An event from the columns of [`EVENT`].
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let account: String = row.get(1)?;
    let event_type: String = row.get(2)?;
    let subject: Option<String> = row.get(3)?;
    let query: Option<String> = row.get(6)?;
    let state = match row.get(9)? {
        0 => State::Responding,
        1 => State::Answered,
        2 => State::Defaulted,
        _ => State::Late,
    };
    let facts = Facts {
        platform: platform_of(&account),
        account: account.into(),
        event_type: event_type.into(),
        subject: subject.map(Into::into),
        form: if row.get::<_, i64>(4)? == 0 { Form::Xml } else { Form::Json },
        payload: Payload::new(row.get::<_, String>(5)?),
        query: query.map(Into::into),
        received: row.get(7)?,
    };
    Ok(Stored { id: id(row, 0)?, facts, deliveries: row.get(8)?, state, reply: row.get(10)?, failure: row.get(11)? })
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(Uuid::from_bytes(bytes))
}

pub(super) fn platform_of(account: &str) -> Platform {
    let name = account.split_once('/').map_or(account, |(platform, _)| platform);
    name.parse().unwrap_or(Platform::Mp)
}

pub(super) const fn form(form: Form) -> i64 {
    match form {
        Form::Xml => 0,
        Form::Json => 1,
    }
}

pub(super) const fn state(state: State) -> i64 {
    match state {
        State::Responding => 0,
        State::Answered => 1,
        State::Defaulted => 2,
        State::Late => 3,
    }
}

/// The reply column: nothing for the plain success.
pub(super) fn reply(body: &Body) -> Option<&str> {
    match body {
        Body::Plain(_) => None,
        Body::Document(text) => Some(text),
    }
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
