//! Signed queries that were used. They are read when the server starts and never looked up, so that a commit appends one
//! row, however many there are.

use rusqlite::{Connection, params};

use super::super::{Millis, millis};
use crate::envelope::UsedQuery;

/// Bytes of a query: its signature, and the hash of the body it came with.
pub(super) const QUERY_BYTES: usize = 28;

/// Queries that wait for a commit.
#[derive(Debug, Default)]
pub(super) struct Used {
    queries: Vec<u8>,
    until: Millis,
}

impl Used {
    pub(super) fn add(&mut self, used: &UsedQuery, now: Millis) {
        self.queries.extend(used.signature);
        self.queries.extend(used.body.to_be_bytes());
        self.until = self.until.max(now.saturating_add(millis(used.term)));
    }
}

/// Appends those of a batch.
pub(super) fn append(db: &Connection, used: &Used) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO used_query (count, until, queries) SELECT coalesce(max(count), 0) + ?1, ?2, ?3 FROM used_query",
    )?;
    insert.execute(params![(used.queries.len() / QUERY_BYTES) as i64, used.until, used.queries]).map(drop)
}

/// Those that are to be remembered still, the oldest first, as many as are worth it.
pub(super) fn load(db: &Connection, now: Millis) -> rusqlite::Result<Vec<UsedQuery>> {
    let mut found = Vec::new();
    let mut query = db.prepare("SELECT until, queries FROM used_query ORDER BY count DESC")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()?
        && found.len() < UsedQuery::MAX
    {
        let (until, queries): (Millis, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if until > now {
            found.extend(split(&queries).rev());
        }
    }
    Ok(found.into_iter().rev().map(|(signature, body)| UsedQuery { signature, body, ..UsedQuery::default() }).collect())
}

/// The queries of a row: their signatures, and the hashes of the bodies they came with.
pub(in super::super) fn split(queries: &[u8]) -> impl DoubleEndedIterator<Item = ([u8; 20], u64)> {
    let one = |bytes: &[u8]| {
        let (signature, body) = bytes.split_first_chunk()?;
        Some((*signature, u64::from_be_bytes(*body.first_chunk()?)))
    };
    queries.chunks_exact(QUERY_BYTES).filter_map(one)
}

/// Removes those that are over, and those that are more than can be remembered, of the oldest.
pub(super) const REMOVE: &str = "
    DELETE FROM used_query WHERE (until <= $1 OR count <= (SELECT max(count) FROM used_query) - {max})
    AND count IN (SELECT count FROM used_query ORDER BY count";
