//! Named leases in the file.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::{LeaseWrite, Millis, NamedLease, Pulled, ReplyRecord, millis, model::plain_success},
    events,
    observers::Registered,
};

/// Leases of the process before are over: its lock is released.
pub(super) fn free(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE slot SET until = 0", []).map(drop)
}

pub(super) fn read(db: &Connection, name: &str, now: Millis) -> rusqlite::Result<Option<String>> {
    let mut query =
        db.prepare_cached("SELECT value FROM slot WHERE name = ?1 AND (expires IS NULL OR expires > ?2)")?;
    Ok(query.query_row(params![name, now], |row| row.get(0)).optional()?.flatten())
}

pub(super) fn hold(
    db: &Connection,
    name: &Arc<str>,
    now: Millis,
    term: Duration,
) -> rusqlite::Result<Option<NamedLease>> {
    // A fence is a time, so that it does not begin anew when the row was removed.
    let mut hold = db.prepare_cached(
        "INSERT INTO slot (name, fence, until) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET
             fence = max(fence + 1, ?2), until = ?3, value = CASE WHEN expires <= ?2 THEN NULL ELSE value END, expires = NULL
         WHERE until <= ?2
         RETURNING value, fence",
    )?;
    let held = hold.query_row(params![&**name, now, now.saturating_add(millis(term))], |row| {
        Ok(NamedLease { name: Arc::clone(name), value: row.get(0)?, lease_token: row.get(1)? })
    });
    held.optional()
}

/// `None` when the lease is no longer held.
pub(super) fn write(
    db: &Connection,
    observers: &Registered,
    held: &NamedLease,
    write: &LeaseWrite,
    now: Millis,
) -> rusqlite::Result<Option<usize>> {
    let after = |time: Option<Duration>| time.map(|time| now.saturating_add(millis(time)));
    let mut update = db.prepare_cached(
        "UPDATE slot SET value = coalesce(?3, value), until = ?4, expires = ?5 WHERE name = ?1 AND fence = ?2",
    )?;
    let until = after(write.keep).unwrap_or_default();
    let changed = update.execute(params![&*held.name, held.lease_token, write.value, until, after(write.expires)])?;
    if changed == 0 {
        return Ok(None);
    }
    let mut known = db.prepare_cached("SELECT 1 FROM dedupe WHERE key = ?1 AND (until IS NULL OR until > ?2)")?;
    let mut admitted = 0;
    for Pulled { event, responds } in &write.events {
        if let Some(key) = &event.key
            && known.exists(params![&key.bytes[..], now])?
        {
            continue;
        }
        let body = plain_success(event.record.platform);
        let answered = (!responds).then_some(ReplyRecord { body, failure: None, sender: None });
        events::admit(db, observers, event, answered.as_ref(), now)?;
        admitted += 1;
    }
    Ok(Some(admitted))
}
