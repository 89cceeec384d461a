//! What errors of the database mean, and how rows are read.

use std::{error::Error, future::Future, time::Duration};

use bytes::BytesMut;
use tokio::time;
use tokio_postgres::{
    Transaction,
    error::SqlState,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::{
    super::{
        JournalError,
        core::{Dialect, Read, Row, RowError, Session, Value, commit, event_columns},
    },
    observers::ROOMS,
    queries,
};
use crate::panics::Panicked;

/// How long one operation may take, beyond the time limit of each statement.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(8);

/// Why an operation failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Database(tokio_postgres::Error),
    /// No connection was made.
    Connect(String),
    Slow,
    Row(RowError),
    Panicked(Panicked),
    Journal(JournalError),
}

impl From<RowError> for Failure {
    fn from(failure: RowError) -> Self {
        Self::Row(failure)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(failure: tokio_postgres::Error) -> Self {
        Self::Database(failure)
    }
}

impl commit::Failure for Failure {
    fn is_trouble(&self) -> bool {
        let Self::Database(failure) = self else { return !matches!(self, Self::Row(_) | Self::Panicked(_)) };
        // Class 21, 22, 23 and 54: the data cannot be stored.
        let class = failure.code().map(|code| code.code().get(..2).unwrap_or_default());
        !matches!(class, Some("21" | "22" | "23" | "54"))
    }

    fn panicked(panicked: Panicked) -> Self {
        Self::Panicked(panicked)
    }

    /// Another node was in the way.
    fn is_conflict(&self) -> bool {
        let Self::Database(failure) = self else { return false };
        matches!(failure.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE))
    }
}

impl Failure {
    /// The error for the operator. PostgreSQL's messages have no password in them.
    pub(super) fn explain(&self) -> JournalError {
        let failure = match self {
            Self::Journal(failure) => return failure.clone(),
            Self::Slow => return JournalError::storage("PostgreSQL: no answer within the time limit"),
            Self::Panicked(panicked) => return JournalError::storage(format!("PostgreSQL: the statement {panicked}")),
            Self::Connect(failure) => return JournalError::storage(format!("PostgreSQL: {failure}")),
            Self::Row(failure) => return JournalError::storage(format!("PostgreSQL: {failure}")),
            Self::Database(failure) => failure,
        };
        JournalError::storage(format!("PostgreSQL: {}", explain(failure)))
    }
}

/// An error of the library, for the operator.
pub(super) fn explain(failure: &tokio_postgres::Error) -> String {
    if let Some(said) = failure.as_db_error() {
        let hint = match *said.code() {
            SqlState::DISK_FULL => "; the disk is full; free some space, nothing needs to be restarted",
            SqlState::INSUFFICIENT_PRIVILEGE => "; the journal's user needs the right to create tables",
            SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE => {
                "; a server of this version updates the tables when it starts"
            }
            SqlState::LOCK_NOT_AVAILABLE => "; another session has locked a table or a row for several seconds",
            SqlState::READ_ONLY_SQL_TRANSACTION => "; this is a standby or is set to read only",
            _ => "",
        };
        return format!("{} ({}){hint}", said.message(), said.code().code());
    }
    let cause = failure.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{failure}{cause}")
}

/// An operation, within the time limit.
pub(super) async fn limited<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    time::timeout(WORK_TIMEOUT, work).await.unwrap_or(Err(Failure::Slow))
}

impl Row for tokio_postgres::Row {
    fn number(&self, column: usize) -> Result<Option<i64>, RowError> {
        let number = match *self.columns()[column].type_() {
            Type::INT2 => self.try_get::<_, Option<i16>>(column).map(|it| it.map(i64::from)),
            Type::INT4 => self.try_get::<_, Option<i32>>(column).map(|it| it.map(i64::from)),
            Type::BOOL => self.try_get::<_, Option<bool>>(column).map(|it| it.map(i64::from)),
            _ => self.try_get(column),
        };
        number.map_err(|cause| RowError::column(column, cause))
    }

    fn text(&self, column: usize) -> Result<Option<String>, RowError> {
        let text = match *self.columns()[column].type_() {
            Type::BYTEA => self.try_get::<_, Option<&[u8]>>(column).map(|it| it.map(|it| string(it.to_vec()))),
            _ => self.try_get(column),
        };
        text.map_err(|cause| RowError::column(column, cause))
    }

    fn place(&self, column: usize) -> Result<Option<Value>, RowError> {
        let id = self.try_get::<_, Option<Uuid>>(column).map_err(|cause| RowError::column(column, cause))?;
        Ok(id.map(Value::Event))
    }

    fn id(&self, column: usize) -> Result<Uuid, RowError> {
        self.try_get(column).map_err(|cause| RowError::column(column, cause))
    }
}

/// A text that is stored as bytes.
fn string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into())
}

pub(super) fn to_sql(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl ToSql for Value {
    fn to_sql(&self, to: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Number(number) if *to == Type::INT2 => i16::try_from(*number)?.to_sql(to, out),
            Self::Number(number) => number.to_sql(to, out),
            Self::Text(value) if *to == Type::BYTEA => value.as_bytes().to_sql(to, out),
            Self::Text(value) => text(value).to_sql(to, out),
            Self::Event(id) => id.to_sql(to, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A message for a text column, which holds no NUL.
pub(super) fn text(message: &str) -> String {
    message.replace('\0', "\u{FFFD}")
}

/// When the statement or its transaction began, by the clock of the database, which is the one of all nodes: milliseconds.
const NOW: &str = "(extract(epoch FROM now()) * 1000)::bigint";

/// The same at the moment, also where the statement has waited for a lock since it began: for leases, which must not be
/// shorter than was asked for.
const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// The ordering key of an event `T`: its subject, or a hash of a long one, which an index could not hold. An event
/// without a subject has one of its own.
const ORDERING_KEY: &str = "
    CASE WHEN T.subject IS NULL THEN convert_to(' ' || T.id::text, 'UTF8')
         WHEN octet_length(T.subject) > 256 THEN '\\xff'::bytea || sha256(T.subject) ELSE T.subject END";

/// Whether an observer is missing: no node had it when one last gave a sign of life, nor in the ten seconds before. That of a
/// node is four seconds ahead (`ALIVE_MILLIS`). When every node has stopped, the observers of the last one are not missing.
const IS_MISSING: &str = "observer.seen <
    greatest((SELECT max(alive_until) FROM node), (SELECT max(latest.seen) FROM observer AS latest)) - 14000";

/// A statement with what many have in common: `{now}`, `{clock}`, the columns of an `{event}`, its
/// `{ordering key of TABLE}`, whether an observer `{is missing}`, and `{rooms}`.
pub(super) fn sql(text: &str) -> String {
    let key = |text: String, table: &str| {
        text.replace(&format!("{{ordering key of {table}}}"), &ORDERING_KEY.replace("T.", &format!("{table}.")))
    };
    let text = text
        .replace("{now}", NOW)
        .replace("{clock}", CLOCK)
        .replace("{event}", event_columns!())
        .replace("{is missing}", IS_MISSING)
        .replace("{rooms}", ROOMS);
    ["event", "new"].into_iter().fold(text, key)
}

/// Transactions that other stores have too.
impl Session for Transaction<'_> {
    type Failure = Failure;

    const DIALECT: Dialect = Dialect {
        event: "id",
        of_event: "event",
        observation: "event, observer",
        collate: "COLLATE \"C\"",
        is_wanted: "observer.id = ANY(event.observers)",
        with_observer: "CASE WHEN observer.id = ANY(event.observers) THEN event.observers
                             ELSE event.observers || observer.id END",
        without_observer: "array_remove(event.observers, observer.id)",
        has_text: "position(convert_to(CAST(? AS text), 'UTF8') IN event.payload) > 0",
        ordering_key: "{ordering key of event}",
        is_missing: IS_MISSING,
        missing_since: "seen",
        lock_row: "FOR UPDATE SKIP LOCKED",
        remove_used_queries: queries::REMOVE,
    };

    fn now(&self) -> String {
        "{now}".to_owned()
    }

    async fn execute(&mut self, text: &str, values: &[Value]) -> Result<u64, Failure> {
        Ok(Transaction::execute(self, &sql(text), &as_sql(values)).await?)
    }

    async fn query<T: Send>(&mut self, text: &str, values: &[Value], read: Read<T>) -> Result<Vec<T>, Failure> {
        let rows = Transaction::query(self, &sql(text), &as_sql(values)).await?;
        Ok(rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?)
    }
}

pub(super) fn as_sql(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}
