//! Backups of the database, and a database from backups.

use std::{fmt::Write as _, path::Path, pin::pin};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, TryStreamExt as _};
use rusqlite::types::ValueRef;
use tokio_postgres::{IsolationLevel, Transaction, types::ToSql};
use uuid::Uuid;

use super::{
    super::{
        JournalError,
        backup::Summary,
        sqlite::{
            self,
            backup::{Backup, CONTENT, not_empty},
            exchange::{Write, Writer},
        },
    },
    db::{Failure, sql, text},
    pool::{Connection, Pool},
    schema::{self, LOCK, SETUP},
};

/// A backup takes as long as it takes.
const PATIENCE: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'";

/// What is read of each table, and what writes it. Observers and others name events, so these come first.
const TABLES: [(&str, Write); 7] = [
    ("SELECT {event}, array_to_string(event.observers, ',') FROM event ORDER BY id", Writer::event),
    ("SELECT encode(key, 'hex'), id, until FROM dedupe", Writer::key),
    (
        "SELECT id, name, in_order, backfill::text, backfill_to::text, CASE WHEN {is missing} THEN seen END FROM observer",
        Writer::observer,
    ),
    (
        "SELECT observer, account, due, event, attempts, leased,
                CASE WHEN lane <> convert_to(' ' || event::text, 'UTF8') AND substring(lane FROM 1 FOR 1) <> '\\xff' THEN lane END, error
         FROM delivery",
        Writer::observation,
    ),
    ("SELECT event, observer, died, attempts, error FROM dead", Writer::dead_letter),
    ("SELECT name, value, fence, expires FROM slot WHERE name NOT LIKE 'token/%'", Writer::lease),
    ("SELECT encode(signature, 'hex'), body, until FROM used_query ORDER BY until", Writer::used_query),
];

/// The identity of the event with a number, as text.
macro_rules! identity {
    ($number:literal) => {
        concat!("(SELECT lower(hex(event.id)) FROM event WHERE event.seq = ", $number, ")")
    };
}

/// The identity of the last event up to a number: what comes after the one comes after the other.
macro_rules! place {
    ($number:literal) => {
        concat!(
            "CASE WHEN ",
            $number,
            " IS NOT NULL THEN coalesce(
                 (SELECT lower(hex(event.id)) FROM event WHERE event.seq <= ",
            $number,
            " ORDER BY event.seq DESC LIMIT 1),
                 '00000000000000000000000000000000') END"
        )
    };
}

/// A text that is stored as bytes.
macro_rules! bytes {
    ($column:literal) => {
        concat!("CASE WHEN ", $column, " IS NOT NULL THEN '\\x' || hex(", $column, ") END")
    };
}

/// What is written, and what is read of the file for it. `:node` is a node that has ended: what it had in flight is taken over as
/// that of any node, unless an observer answers it; the one whose replies wait for the next message answers nothing.
const COPIES: [(&str, &str); 6] = [
    (
        "COPY event (id, account, type, subject, form, payload, query, received, deliveries, state, reply, failure, observers, owner)
         FROM STDIN",
        concat!(
            "SELECT lower(hex(id)), account, type, ", bytes!("subject"), ", form, ", bytes!("payload"), ", ", bytes!("query"),
            ", received, deliveries, state, ", bytes!("reply"), ", failure, '{' || coalesce(observers, '') || '}',
             CASE WHEN state = 0 AND NOT EXISTS (
                 SELECT 1 FROM delivery JOIN observer ON observer.id = delivery.observer
                 WHERE delivery.seq = event.seq AND name LIKE 'echostr.%' AND name <> 'echostr.next-message'
                 UNION ALL SELECT 1 FROM dead JOIN observer ON observer.id = dead.observer
                 WHERE dead.seq = event.seq AND name LIKE 'echostr.%') THEN :node END
             FROM event ORDER BY seq"
        ),
    ),
    (
        "COPY dedupe (key, id, until, admitted) FROM STDIN",
        // The event of a key may be gone; then it only has to be another one than any that is there.
        concat!(
            "SELECT ", bytes!("key"), ", coalesce(", identity!("dedupe.seq"), ",
                        printf('%012x7%03x8%015x', seq >> 12, seq & 4095, random() & 1152921504606846975)), until, seq >> 12
             FROM dedupe"
        ),
    ),
    (
        "COPY observer (id, name, in_order, backfill, backfill_to, seen) FROM STDIN",
        concat!(
            "SELECT id, name, in_order, ", place!("backfill"), ", ", place!("backfill_to"), ",
                    coalesce(missing_since, :now) FROM observer"
        ),
    ),
    (
        "COPY delivery (observer, account, due, event, attempts, leased, lane, error) FROM STDIN",
        concat!(
            "SELECT observer, delivery.account, CASE WHEN leased THEN 0 ELSE min(due) END, lower(hex(event.id)), attempts, 0, ",
            bytes!("CASE WHEN lane <> ' ' || seq AND length(CAST(lane AS BLOB)) <= 256 THEN lane END"), ", error
             FROM delivery JOIN event USING (seq) JOIN observer ON observer.id = delivery.observer GROUP BY observer, seq"
        ),
    ),
    (
        "COPY dead (event, observer, died, attempts, error) FROM STDIN",
        "SELECT lower(hex(event.id)), observer, died, attempts, error FROM dead JOIN event USING (seq)",
    ),
    (
        "COPY slot (name, value, fence, until, node, expires) FROM STDIN",
        "SELECT name, value, fence, 0, :node, expires FROM slot WHERE name NOT LIKE 'token/%'",
    ),
];

/// Used queries, which a file has in blocks: several may have one signature.
const QUERIES: &str = "CREATE TEMPORARY TABLE copied_query (signature bytea, body bigint, until bigint) ON COMMIT DROP";
const COPY_QUERIES: &str = "COPY copied_query (signature, body, until) FROM STDIN";
const ENTER_QUERIES: &str = "INSERT INTO used_query (signature, body, until)
    SELECT DISTINCT ON (signature) signature, body, until FROM copied_query ORDER BY signature, until
    ON CONFLICT (signature) DO NOTHING";

/// After the rows: ordering keys, which are hashes of long subjects, and the next id of an observer.
const FINISH: &str = "
    UPDATE delivery SET lane = {ordering key of event} FROM observer, event
    WHERE observer.id = delivery.observer AND event.id = delivery.event AND observer.in_order
      AND delivery.lane IS NULL;
    SELECT setval(pg_get_serial_sequence('observer', 'id'), (SELECT max(id) FROM observer))";

/// Bytes that are sent in one go.
const CHUNK: usize = 64 << 10;

/// Copies the journal as it is at one moment into an empty file. Servers go on writing meanwhile.
///
/// # Errors
/// When the database cannot be read, or the file cannot be written.
pub(in super::super) async fn copy(url: &str, to: &Path) -> Result<(), JournalError> {
    read(url, to).await.map_err(|failure| failure.explain())
}

async fn connect(url: &str) -> Result<Connection, Failure> {
    let db = Pool::new(url).map_err(Failure::Journal)?.connect().await?;
    db.client.batch_execute(PATIENCE).await?;
    Ok(db)
}

async fn read(url: &str, to: &Path) -> Result<(), Failure> {
    let mut db = connect(url).await?;
    let moment = db.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let moment = moment.start().await?;
    schema::check(&moment).await?;
    let failed = |failure: rusqlite::Error| Failure::Journal(sqlite::explain(to, &failure));
    let mut file = Writer::create(to).map_err(Failure::Journal)?;
    for (query, write) in TABLES {
        let none: [&(dyn ToSql + Sync); 0] = [];
        // Row by row: the database waits while one is written.
        let mut rows = pin!(moment.query_raw(&sql(query), none).await?);
        while let Some(row) = rows.try_next().await? {
            write(&mut file, &row).map_err(failed)?;
        }
    }
    file.finish(to).map_err(Failure::Journal)
}

/// Restores a backup into a database whose journal is empty, or not there yet.
///
/// # Errors
/// When it is not empty, a server runs on it, or the file is no backup that this version can read.
pub(in super::super) async fn restore(url: &str, from: &Path) -> Result<Summary, JournalError> {
    let backup = Backup::open_current(from)?;
    write(url, from, &backup).await.map_err(|failure| failure.explain())?;
    backup.summary().map_err(|failure| sqlite::explain(from, &failure))
}

async fn write(url: &str, from: &Path, backup: &Backup) -> Result<(), Failure> {
    let failed = |failure: rusqlite::Error| Failure::Journal(sqlite::explain(from, &failure));
    let mut db = connect(url).await?;
    let changes = db.client.transaction().await?;
    // Servers that start meanwhile wait for this lock.
    changes.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK, &SETUP]).await?;
    schema::migrate(&changes).await?;
    refuse(&changes).await?;
    // Those that a server has entered which only started, and what it got for a while.
    changes.batch_execute("DELETE FROM observer; DELETE FROM slot; DELETE FROM used_query").await?;
    let node = Uuid::now_v7();
    let row = changes
        .query_one(&sql("INSERT INTO node (id, alive_until) VALUES ($1, {clock}) RETURNING alive_until"), &[&node])
        .await?;
    let now: i64 = row.try_get(0)?;
    for (copy, query) in COPIES {
        let mut query = backup.db.prepare(query).map_err(failed)?;
        for (name, value) in [(":node", &node.simple().to_string() as &dyn rusqlite::ToSql), (":now", &now)] {
            if let Some(at) = query.parameter_index(name).map_err(failed)? {
                query.raw_bind_parameter(at, value).map_err(failed)?;
            }
        }
        let columns = query.column_count();
        let mut rows = query.raw_query();
        let mut lines = Lines::begin(&changes, copy).await?;
        while let Some(row) = rows.next().map_err(failed)? {
            for column in 0..columns {
                lines.add(&row.get_ref(column).map_err(failed)?);
            }
            lines.end_line().await?;
        }
        lines.finish().await?;
    }
    changes.batch_execute(QUERIES).await?;
    let mut lines = Lines::begin(&changes, COPY_QUERIES).await?;
    let mut used = backup.db.prepare("SELECT until, queries FROM used_query ORDER BY count").map_err(failed)?;
    let mut rows = used.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (until, queries): (i64, Vec<u8>) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        for (signature, body) in sqlite::split_queries(&queries) {
            lines.add(&ValueRef::Text(format!("\\x{}", hex(&signature)).as_bytes()));
            lines.add(&ValueRef::Integer(body.cast_signed()));
            lines.add(&ValueRef::Integer(until));
            lines.end_line().await?;
        }
    }
    lines.finish().await?;
    changes.batch_execute(ENTER_QUERIES).await?;
    changes.batch_execute(&sql(FINISH)).await?;
    Ok(changes.commit().await?)
}

/// A journal that is used is not replaced, nor one that a server has open.
async fn refuse(changes: &Transaction<'_>) -> Result<(), Failure> {
    let nodes = changes.query_one(&sql("SELECT count(*) FROM node WHERE alive_until > {clock}"), &[]).await?;
    if nodes.try_get::<_, i64>(0)? > 0 {
        let running = "a server runs on this journal, or ended within the last four seconds: stop all of them first";
        return Err(Failure::Journal(JournalError::storage(running)));
    }
    if changes.query_one(CONTENT, &[]).await?.try_get(0)? {
        return Err(Failure::Journal(not_empty("in this database", "create another database for it")));
    }
    Ok(())
}

/// Rows on their way into a table.
struct Lines {
    sink: std::pin::Pin<Box<tokio_postgres::CopyInSink<Bytes>>>,
    buffer: BytesMut,
    is_first: bool,
}

impl Lines {
    async fn begin(changes: &Transaction<'_>, copy: &str) -> Result<Self, Failure> {
        let sink = Box::pin(changes.copy_in(copy).await?);
        Ok(Self { sink, buffer: BytesMut::with_capacity(2 * CHUNK), is_first: true })
    }

    /// Adds a column, in the text format of COPY.
    fn add(&mut self, value: &ValueRef<'_>) {
        if !std::mem::take(&mut self.is_first) {
            self.buffer.extend_from_slice(b"\t");
        }
        match value {
            ValueRef::Null => self.buffer.extend_from_slice(b"\\N"),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                for character in text(&String::from_utf8_lossy(bytes)).chars() {
                    match character {
                        '\\' => self.buffer.extend_from_slice(b"\\\\"),
                        '\t' => self.buffer.extend_from_slice(b"\\t"),
                        '\n' => self.buffer.extend_from_slice(b"\\n"),
                        '\r' => self.buffer.extend_from_slice(b"\\r"),
                        _ => self.buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            ValueRef::Integer(number) => _ = write!(self.buffer, "{number}"),
            ValueRef::Real(number) => _ = write!(self.buffer, "{number}"),
        }
    }

    async fn end_line(&mut self) -> Result<(), Failure> {
        self.buffer.extend_from_slice(b"\n");
        self.is_first = true;
        if self.buffer.len() >= CHUNK {
            self.sink.send(self.buffer.split().freeze()).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Failure> {
        self.sink.send(self.buffer.split().freeze()).await?;
        self.sink.as_mut().finish().await?;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
