//! Observers in the file that this server does not have.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::{
        Millis,
        core::missing::{self, Left},
    },
    archive,
};

/// What there is of an observer.
pub(super) fn left(db: &Connection, observer: i64) -> rusqlite::Result<Left> {
    let rows = |table: &str| {
        let mut count = db.prepare_cached(&format!("SELECT count(*) FROM {table} WHERE observer = ?1"))?;
        count.query_row([observer], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    Ok(Left { waiting: rows("delivery")?, dead: rows("dead")? })
}

/// Warns of each that is missing. What is left of one is kept for the retention.
pub(super) fn report(db: &Connection, retention: Millis) -> rusqlite::Result<()> {
    let mut query =
        db.prepare("SELECT id, name, missing_since FROM observer WHERE missing_since IS NOT NULL ORDER BY name")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (name, since): (String, Millis) = (row.get(1)?, row.get(2)?);
        missing::kept(&name, left(db, row.get(0)?)?, since.saturating_add(retention));
    }
    Ok(())
}

/// One that has been missing since before a time, if there is one.
pub(super) fn overdue(db: &Connection, before: Millis) -> rusqlite::Result<Option<(i64, String)>> {
    let mut query = db.prepare_cached("SELECT id, name FROM observer WHERE missing_since < ?1 LIMIT 1")?;
    query.query_row([before], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Removes up to `limit` dead letters from before a time; gives their number.
pub(super) fn expire(db: &Connection, before: Millis, limit: usize) -> rusqlite::Result<usize> {
    let mut delete = db.prepare_cached(
        "DELETE FROM dead WHERE (seq, observer) IN (SELECT seq, observer FROM dead WHERE died < ?1 LIMIT ?2)",
    )?;
    delete.execute(params![before, limit as i64])
}

/// Removes up to `limit` rows of an observer, and then itself; gives what was removed.
pub(super) fn remove(db: &Connection, observer: i64, limit: usize) -> rusqlite::Result<Left> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut waiting = db.prepare_cached(
        "DELETE FROM delivery WHERE (observer, account, due, seq) IN
             (SELECT observer, account, due, seq FROM delivery WHERE observer = ?1 LIMIT ?2)",
    )?;
    let waiting = waiting.execute(params![observer, limit])?;
    let mut dead = db.prepare_cached(
        "DELETE FROM dead WHERE (seq, observer) IN (SELECT seq, observer FROM dead WHERE observer = ?1 LIMIT ?2)",
    )?;
    let dead = dead.execute(params![observer, limit])?;
    if (waiting as i64) < limit && (dead as i64) < limit {
        db.prepare_cached("DELETE FROM observer WHERE id = ?1")?.execute([observer])?;
    }
    Ok(Left { waiting: waiting as u64, dead: dead as u64 })
}

/// What waits for an observer that is missing, or is a dead letter of it.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    observer: i64,
    seq: i64,
    /// Account and time of one that waits; `None`: a dead letter.
    waiting: Option<(String, Millis)>,
}

/// The oldest orphans, up to `limit`.
pub(super) fn oldest(db: &Connection, limit: usize) -> rusqlite::Result<Vec<Orphan>> {
    // Dead letters are not in the order of their observers.
    if !db.prepare_cached("SELECT 1 FROM observer WHERE missing_since IS NOT NULL")?.exists([])? {
        return Ok(Vec::new());
    }
    let mut query = db.prepare_cached(
        "WITH missing AS (SELECT id FROM observer WHERE missing_since IS NOT NULL)
         SELECT observer, seq, account, due FROM delivery WHERE observer IN (SELECT id FROM missing)
         UNION ALL
         SELECT observer, seq, NULL, NULL FROM dead WHERE observer IN (SELECT id FROM missing)
         ORDER BY seq LIMIT ?1",
    )?;
    let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let account: Option<String> = row.get(2)?;
        let waiting = account.zip(row.get(3)?);
        Ok(Orphan { observer: row.get(0)?, seq: row.get(1)?, waiting })
    })?;
    rows.collect()
}

/// Removes orphans; their events are not done for the observer, it is as if they had not been for it.
pub(super) fn drop_orphans(db: &Connection, orphans: &[Orphan]) -> rusqlite::Result<HashMap<String, Left>> {
    let mut name = db.prepare_cached("SELECT name FROM observer WHERE id = ?1")?;
    let mut waiting =
        db.prepare_cached("DELETE FROM delivery WHERE observer = ?1 AND account = ?2 AND due = ?3 AND seq = ?4")?;
    let mut dead = db.prepare_cached("DELETE FROM dead WHERE seq = ?1 AND observer = ?2")?;
    let mut dropped: HashMap<String, Left> = HashMap::new();
    for Orphan { observer, seq, waiting: due } in orphans {
        let left = dropped.entry(name.query_row([observer], |row| row.get(0))?).or_default();
        match due {
            Some((account, due)) => left.waiting += waiting.execute(params![observer, account, due, seq])? as u64,
            None => left.dead += dead.execute(params![seq, observer])? as u64,
        }
        archive::forget(db, *observer, *seq)?;
    }
    Ok(dropped)
}
