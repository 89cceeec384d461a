//! The SQL that stores have in common: one text, with what differs taken from a dialect.

use uuid::Uuid;

use super::row::{Row, RowError};

/// What a statement is given; a store knows what its columns want.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    /// An event, as [`Dialect::event`] has it.
    Event(Uuid),
}

/// What reads a row.
pub(crate) type Read<T> = fn(&dyn Row) -> Result<T, RowError>;

/// Where the SQL of stores differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    /// The column of `event` that other tables refer to; its order is that of arrival.
    pub(crate) event: &'static str,
    /// The column of other tables that refers to an event.
    pub(crate) of_event: &'static str,
    /// The primary key of `delivery`.
    pub(crate) observation: &'static str,
    /// How names are compared byte by byte.
    pub(crate) collate: &'static str,
    /// Whether an event is for an observer; its observers with one more, and without one.
    pub(crate) is_wanted: &'static str,
    pub(crate) with_observer: &'static str,
    pub(crate) without_observer: &'static str,
    /// Whether the payload of an event has a text.
    pub(crate) has_text: &'static str,
    /// The ordering key of an event.
    pub(crate) ordering_key: &'static str,
    /// Whether an observer is missing: neither the server that runs nor the one that ran last has it.
    pub(crate) is_missing: &'static str,
    /// Since when an observer is missing, and how its row is locked.
    pub(crate) missing_since: &'static str,
    pub(crate) lock_row: &'static str,
    /// Removes the oldest used queries from before the time `$1`, and those beyond the latest `{max}`, up to the limit.
    pub(crate) remove_used_queries: &'static str,
}

/// A transaction of a store.
pub(crate) trait Session {
    type Failure: From<RowError>;

    const DIALECT: Dialect;

    /// The time, as SQL.
    fn now(&self) -> String;

    /// Runs a statement; returns the number of rows that it changed.
    fn execute(&mut self, text: &str, values: &[Value]) -> impl Future<Output = Result<u64, Self::Failure>> + Send;

    /// Runs a query.
    fn query<T: Send>(
        &mut self,
        text: &str,
        values: &[Value],
        read: Read<T>,
    ) -> impl Future<Output = Result<Vec<T>, Self::Failure>> + Send;
}
