//! Named leases in the database.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    super::{LeaseWrite, NamedLease, millis},
    admissions::{ADMIT, Columns},
    db::Failure,
    shared::Shared,
};

const READ: &str = "SELECT value FROM slot WHERE name = $1 AND (expires IS NULL OR expires > {now})";

pub(super) async fn read(shared: &Shared, name: &str) -> Result<Option<String>, Failure> {
    let mut db = shared.pool.get().await?;
    let rows = db.query(READ, &[&name]).await?;
    db.done();
    rows.first().map_or(Ok(None), |row| Ok(row.try_get(0)?))
}

/// A dead node holds none. The fence is a time, so that it does not begin anew when the row was removed: whoever held the
/// lease before has a lower one.
const HOLD: &str = "INSERT INTO slot (name, fence, until, node) VALUES ($1, {clock}, {clock} + $2, $3)
     ON CONFLICT (name) DO UPDATE SET
         fence = greatest(slot.fence + 1, {clock}), until = {clock} + $2, node = excluded.node,
         value = CASE WHEN slot.expires <= {clock} THEN NULL ELSE slot.value END, expires = NULL
     WHERE slot.until <= {clock}
        OR NOT EXISTS (SELECT 1 FROM node WHERE node.id = slot.node AND node.alive_until > {clock})
     RETURNING value, fence";

pub(super) async fn hold(shared: &Shared, name: &Arc<str>, term: Duration) -> Result<Option<NamedLease>, Failure> {
    let mut db = shared.pool.get().await?;
    let rows = db.query(HOLD, &[&&**name, &millis(term), &shared.node]).await?;
    db.done();
    let held = rows
        .first()
        .map(|row| Ok(NamedLease { name: Arc::clone(name), value: row.try_get(0)?, lease_token: row.try_get(1)? }));
    held.transpose()
}

/// The row is locked before the time is taken. A database that lost its last transactions may have given the same fence
/// to two nodes.
const WRITE: &str = "WITH held AS MATERIALIZED (
        SELECT name FROM slot WHERE name = $1 AND fence = $2 AND node = $6 FOR UPDATE
    )
    UPDATE slot SET value = coalesce($3, value), until = coalesce({clock} + $4, 0), expires = {clock} + $5
    FROM held WHERE slot.name = held.name RETURNING slot.name";

const ANSWERED: &str = "UPDATE event SET state = 1 WHERE id = ANY($1)";

/// `None` when the lease is no longer held.
pub(super) async fn write(shared: &Shared, held: &NamedLease, write: &LeaseWrite) -> Result<Option<usize>, Failure> {
    // One of two events with one key is enough, and PostgreSQL would refuse both.
    let mut keys = HashSet::new();
    let is_first = |key: Option<_>| key.is_none_or(|key| keys.insert(key));
    let mut fresh = is_first;
    let pulled: Vec<_> = write.events.iter().filter(|one| fresh(one.event.key.map(|key| key.bytes))).collect();
    let events: Vec<_> = pulled.iter().map(|one| &one.event).collect();
    let answered: Vec<_> = pulled.iter().filter(|one| !one.responds).map(|one| one.event.id).collect();
    let mut db = shared.pool.get().await?;
    let (set, admit, mark) = (db.prepare(WRITE).await?, db.prepare(ADMIT).await?, db.prepare(ANSWERED).await?);
    let changes = db.client.transaction().await?;
    let (keep, expires) = (write.keep.map(millis), write.expires.map(millis));
    let name: &str = &held.name;
    if changes.query(&set, &[&name, &held.lease_token, &write.value, &keep, &expires, &shared.node]).await?.is_empty() {
        changes.rollback().await?;
        db.done();
        return Ok(None);
    }
    let mut admitted = 0;
    if !events.is_empty() {
        let columns = Columns::of(&events, &shared.observing());
        // No node owns them: an observer answers them.
        let won = changes.query(&admit, &columns.values(&None)).await?;
        admitted = won.len() + events.iter().filter(|event| event.key.is_none()).count();
        changes.execute(&mark, &[&answered]).await?;
    }
    changes.commit().await?;
    db.done();
    Ok(Some(admitted))
}
