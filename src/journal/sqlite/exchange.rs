//! A backup that is written row by row, as a database of several nodes has the rows: by the identities of events.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    super::{
        JournalError,
        core::{Row, RowError},
        id::number,
    },
    db::{self, to_sql},
    schema,
};

/// A file that is written; whole when it is [finished](Writer::finish).
pub(in super::super) struct Writer {
    db: Connection,
    /// The number of the latest event, and by how much one is above that of its identity at most.
    last: i64,
    shift: i64,
}

/// What writes a row into a table.
pub(in super::super) type Write = fn(&mut Writer, &dyn Row) -> rusqlite::Result<()>;

impl Writer {
    /// Makes the tables in an empty file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in super::super) fn create(path: &Path) -> Result<Self, JournalError> {
        let explain = |failure| db::explain(path, &failure);
        let mut db = db::open_plain(path).map_err(explain)?;
        // A file that is not finished is removed; one that is, is synced.
        db.pragma_update(None, "synchronous", "OFF").map_err(explain)?;
        schema::migrate(&mut db).map_err(|failure| schema::explain(path, failure))?;
        db.execute_batch("BEGIN").map_err(explain)?;
        Ok(Self { db, last: 0, shift: 0 })
    }

    /// Events, in the order of their identities: the columns of `event_columns`, and the ids of the observers with commas.
    pub(in super::super) fn event(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let id = row.id(0)?;
        let of_id = to_sql(number(id));
        let seq = of_id.max(self.last + 1);
        (self.last, self.shift) = (seq, self.shift.max(seq - of_id));
        let mut insert = self.db.prepare_cached(
            "INSERT INTO event (seq, id, account, type, subject, form, payload, query, received, deliveries, state, reply,
                                failure, observers)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        let observers = row.text(12)?.filter(|ids| !ids.is_empty());
        insert.execute(params![
            seq,
            &id.as_bytes()[..],
            row.string(1)?,
            row.string(2)?,
            row.text(3)?,
            row.integer(4)?,
            row.string(5)?,
            row.text(6)?,
            row.integer(7)?,
            row.integer(8)?,
            row.integer(9)?,
            row.text(10)?,
            row.text(11)?,
            observers,
        ])?;
        Ok(())
    }

    /// Keys: as hexadecimal text, the event, until when.
    pub(in super::super) fn key(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let id = row.id(1)?;
        let seq = match self.number_of(id)? {
            Some(seq) => seq,
            // Its event is no longer kept, and no other may be taken for it.
            None => self.free(to_sql(number(id)))?,
        };
        let mut insert = self.db.prepare_cached("INSERT INTO dedupe (key, seq, until) VALUES (unhex(?1), ?2, ?3)")?;
        insert.execute(params![row.string(0)?, seq, row.number(2)?]).map(drop)
    }

    /// Observers: id, name, in order, backfill from and to as text, since when it is missing.
    pub(in super::super) fn observer(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let place = |column: usize| -> rusqlite::Result<Option<i64>> {
            let Some(text) = row.text(column)? else { return Ok(None) };
            let id = Uuid::try_parse(&text).map_err(|cause| RowError::column(column, cause))?;
            let mut latest =
                self.db.prepare_cached("SELECT seq FROM event WHERE id <= ?1 ORDER BY seq DESC LIMIT 1")?;
            Ok(Some(latest.query_row([&id.as_bytes()[..]], |row| row.get(0)).optional()?.unwrap_or(0)))
        };
        let (from, to) = (place(3)?, place(4)?);
        let mut insert = self.db.prepare_cached(
            "INSERT INTO observer (id, name, in_order, backfill, backfill_to, missing_since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        insert.execute(params![row.integer(0)?, row.string(1)?, row.integer(2)?, from, to, row.number(5)?]).map(drop)
    }

    /// Observations: observer, account, due, event, attempts, leased, ordering key unless it follows from the event,
    /// error.
    pub(in super::super) fn observation(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let Some(seq) = self.number_of(row.id(3)?)? else { return Ok(()) };
        let mut insert = self.db.prepare_cached(
            "INSERT INTO delivery (observer, account, due, seq, attempts, leased, lane, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let values = params![
            row.integer(0)?,
            row.string(1)?,
            row.integer(2)?,
            seq,
            row.integer(4)?,
            row.integer(5)?,
            row.text(6)?,
            row.text(7)?
        ];
        insert.execute(values).map(drop)
    }

    /// Dead letters: event, observer, when, attempts, error.
    pub(in super::super) fn dead_letter(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let Some(seq) = self.number_of(row.id(0)?)? else { return Ok(()) };
        let mut insert = self
            .db
            .prepare_cached("INSERT INTO dead (seq, observer, died, attempts, error) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![seq, row.integer(1)?, row.integer(2)?, row.integer(3)?, row.string(4)?]).map(drop)
    }

    /// Named leases: name, value, fence, when it is removed.
    pub(in super::super) fn lease(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let mut insert = self
            .db
            .prepare_cached("INSERT INTO slot (name, value, fence, until, expires) VALUES (?1, ?2, ?3, 0, ?4)")?;
        insert.execute(params![row.string(0)?, row.text(1)?, row.integer(2)?, row.number(3)?]).map(drop)
    }

    /// Used queries, the oldest first: signature as hexadecimal text, hash of the body, until when.
    pub(in super::super) fn used_query(&mut self, row: &dyn Row) -> rusqlite::Result<()> {
        let mut insert = self.db.prepare_cached(
            "INSERT INTO used_query (count, until, queries)
             SELECT coalesce(max(count), 0) + 1, ?3, unhex(?1 || ?2) FROM used_query",
        )?;
        insert.execute(params![row.string(0)?, format!("{:016x}", row.integer(1)?), row.integer(2)?]).map(drop)
    }

    /// Ends the file.
    pub(in super::super) fn finish(self, path: &Path) -> Result<(), JournalError> {
        let explain = |failure| db::explain(path, &failure);
        // A database has a hash for the ordering key of a long subject, and its own identity for that of none.
        let order = "UPDATE delivery SET lane = coalesce((SELECT subject FROM event WHERE event.seq = delivery.seq), ' ' || seq)
                     WHERE lane IS NULL AND observer IN (SELECT id FROM observer WHERE in_order); COMMIT";
        self.db.execute_batch(order).map_err(explain)?;
        self.db.close().map_err(|(_, failure)| explain(failure))
    }

    /// The number that an event has in the file.
    fn number_of(&self, id: Uuid) -> rusqlite::Result<Option<i64>> {
        let of_id = to_sql(number(id));
        let mut find = self.db.prepare_cached("SELECT seq FROM event WHERE seq BETWEEN ?1 AND ?2 AND id = ?3")?;
        find.query_row(params![of_id, of_id + self.shift, &id.as_bytes()[..]], |row| row.get(0)).optional()
    }

    /// The next number that no event has.
    fn free(&self, mut seq: i64) -> rusqlite::Result<i64> {
        let mut taken = self.db.prepare_cached("SELECT 1 FROM event WHERE seq = ?1")?;
        while taken.exists([seq])? {
            seq += 1;
        }
        Ok(seq)
    }
}
