//! Observers in the database that no node has any more.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    super::core::missing::{self, Left},
    db::{Connection, Failure, limited},
    schema::{LOCK, MAINTENANCE},
    shared::Shared,
};

const LEFT: &str =
    "SELECT (SELECT count(*) FROM delivery WHERE observer = $1), (SELECT count(*) FROM dead WHERE observer = $1)";

/// Warns once of each that no node has had since a time, and says when it is back. `known` are those of the last look.
pub(super) async fn report(
    db: &mut Connection,
    shared: &Shared,
    seen: i64,
    retention: i64,
    known: &mut HashSet<i32>,
) -> Result<(), Failure> {
    let rows = limited(db.query("SELECT id, name, seen FROM observer WHERE seen < $1 ORDER BY name", &[&seen])).await?;
    let own = |name: &str| shared.wanted.iter().any(|observer| *observer.name == *name);
    let mut found = HashSet::new();
    for row in rows {
        let (id, name, seen): (i32, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        // This node's own are entered anew by the next heartbeat.
        if own(&name) {
            continue;
        }
        found.insert(id);
        if !known.contains(&id) {
            missing::kept(&name, left(db, id).await?, seen.saturating_add(retention));
        }
    }
    for id in known.difference(&found) {
        if let Some(row) = limited(db.query("SELECT name FROM observer WHERE id = $1", &[id])).await?.first() {
            missing::back(row.try_get(0)?, left(db, *id).await?);
        }
    }
    *known = found;
    Ok(())
}

async fn left(db: &mut Connection, observer: i32) -> Result<Left, Failure> {
    let rows = limited(db.query(LEFT, &[&observer])).await?;
    let Some(row) = rows.first() else { return Ok(Left::default()) };
    let count = |at| Ok::<_, Failure>(row.try_get::<_, i64>(at)?.cast_unsigned());
    Ok(Left { waiting: count(0)?, dead: count(1)? })
}

const OVERDUE: &str = "SELECT id, name FROM observer WHERE seen < $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";

const REMOVE_DELIVERIES: &str = "
    DELETE FROM delivery WHERE (event, observer) IN (SELECT event, observer FROM delivery WHERE observer = $1 LIMIT $2)";

const REMOVE_DEAD: &str = "
    DELETE FROM dead WHERE (event, observer) IN (SELECT event, observer FROM dead WHERE observer = $1 LIMIT $2)";

/// Removes some rows of an observer that no node has had since a time, and then the observer; `None` when there is none.
/// Who is registered meanwhile waits for this, and keeps the rest.
pub(super) async fn remove(db: &mut Connection, seen: i64, rows: i64) -> Result<Option<(String, Left)>, Failure> {
    let changes = db.client.transaction().await?;
    let locked = changes.query_one("SELECT pg_try_advisory_xact_lock($1, $2)", &[&LOCK, &MAINTENANCE]).await?;
    if !locked.try_get(0)? {
        return Ok(None);
    }
    let Some(row) = changes.query_opt(OVERDUE, &[&seen]).await? else { return Ok(None) };
    let (id, name): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let waiting = changes.execute(REMOVE_DELIVERIES, &[&id, &rows]).await?;
    let dead = changes.execute(REMOVE_DEAD, &[&id, &rows]).await?;
    if waiting < rows.cast_unsigned() && dead < rows.cast_unsigned() {
        changes.execute("DELETE FROM observer WHERE id = $1", &[&id]).await?;
    }
    changes.commit().await?;
    Ok(Some((name, Left { waiting, dead })))
}

/// The oldest of what is left of observers that no node has had since a time goes, and they have not seen it.
const DROP: &str = "
    WITH missing AS (
        SELECT id, name FROM observer WHERE seen < $1
    ), oldest AS (
        SELECT event, observer FROM delivery WHERE observer IN (SELECT id FROM missing)
        UNION ALL
        SELECT event, observer FROM dead WHERE observer IN (SELECT id FROM missing)
        ORDER BY event LIMIT $2
    ), waiting AS (
        DELETE FROM delivery WHERE (event, observer) IN (SELECT event, observer FROM oldest) RETURNING event, observer
    ), dead AS (
        DELETE FROM dead WHERE (event, observer) IN (SELECT event, observer FROM oldest) RETURNING event, observer
    )
    SELECT name, waiting.event, dead.event, id FROM oldest JOIN missing ON missing.id = oldest.observer
        LEFT JOIN waiting USING (event, observer) LEFT JOIN dead USING (event, observer)";

const FORGET: &str = "
    UPDATE event SET observers = array_remove(event.observers, gone.observer)
    FROM unnest($1::uuid[], $2::integer[]) AS gone (event, observer) WHERE event.id = gone.event";

/// Removes up to so many of them; false when there were none.
pub(super) async fn drop_orphans(
    db: &mut Connection,
    seen: i64,
    rows: i64,
    dropped: &mut HashMap<String, Left>,
) -> Result<bool, Failure> {
    let (drop, forget) = (db.prepare(DROP).await?, db.prepare(FORGET).await?);
    let changes = db.client.transaction().await?;
    let locked = changes.query_one("SELECT pg_try_advisory_xact_lock($1, $2)", &[&LOCK, &MAINTENANCE]).await?;
    if !locked.try_get(0)? {
        return Ok(false);
    }
    let gone = changes.query(&drop, &[&seen, &rows]).await?;
    let (mut events, mut observers): (Vec<Uuid>, Vec<i32>) = (Vec::new(), Vec::new());
    for row in &gone {
        let (waiting, dead): (Option<Uuid>, Option<Uuid>) = (row.try_get(1)?, row.try_get(2)?);
        let left = dropped.entry(row.try_get(0)?).or_default();
        left.waiting += u64::from(waiting.is_some());
        left.dead += u64::from(dead.is_some());
        if let Some(event) = waiting.or(dead) {
            events.push(event);
            observers.push(row.try_get(3)?);
        }
    }
    changes.execute(&forget, &[&events, &observers]).await?;
    changes.commit().await?;
    Ok(!gone.is_empty())
}
