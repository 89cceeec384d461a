//! What goes on beside the deliveries: heartbeat and recovery, leases of the dead, retention, counting.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::time;
use tracing::warn;
use uuid::Uuid;

use super::{
    super::{Options, core::missing as say, id, millis},
    db::{Connection, Failure, limited, now},
    missing,
    observers::{self, Observing},
    queries,
    schema::{self, LOCK, UPKEEP},
    slots,
    writer::{PROBE, Shared, Start},
};

/// How often a node says that it lives, and for how long it is believed.
const BEAT: Duration = Duration::from_secs(1);
const ALIVE: i64 = 4_000;

/// How often what is old is looked for, and rows are counted.
const ROUND: Duration = Duration::from_secs(5);

/// How often leases of dead nodes are looked for.
const REAP: Duration = Duration::from_secs(1);

/// Rows that are removed or added in one transaction.
const ROWS: i64 = 500;

/// Chunks that are looked through in a round without finding anything to remove.
const CHUNKS: usize = 20;

/// Keys are kept so long at least, in milliseconds: longer than a platform repeats a delivery.
const KEYS_KEPT: i64 = 3_600_000;

/// What nobody has had for so long is gone, in milliseconds: a node, and at the latest an observer when there is no room for
/// what is left of it.
const GONE: i64 = 3_600_000;

/// An observer that no node has had for so long is missing, in milliseconds; what is left of it is kept for the retention.
const MISSING: i64 = 10_000;

/// A pause that is longer than any configured one comes of a clock that jumped; nobody waits that long.
const LONGEST_PAUSE: i64 = 2 * 86_400_000;

/// Shares of the largest size: from there on the oldest events are removed, down to there.
const SHRINK_FROM: f64 = 0.95;
const SHRINK_TO: f64 = 0.9;

const ALIVE_UNTIL: &str = concat!(
    "INSERT INTO node (id, alive_until) VALUES ($1, ",
    now!(),
    " + $2)
     ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until"
);

const SEEN: &str = concat!("UPDATE observer SET seen = ", now!(), " WHERE name = ANY($1) RETURNING name, id, in_order");

/// Says every second that this node lives; connects anew when the connection is lost.
pub(super) async fn heartbeat(shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let beaten = limited(beat(&shared, &mut connection)).await;
        let pause = match beaten {
            Ok(()) => {
                shared.recovered();
                BEAT
            }
            Err(failure) => {
                connection = None;
                shared.pool.clear();
                shared.trouble(&failure);
                PROBE
            }
        };
        shared.start.send_replace(Start::Over);
        tokio::select! {
            () = time::sleep(pause) => {}
            // Somebody else has met trouble: look again, but not at once and again.
            () = async { shared.look.notified().await; time::sleep(PROBE / 2).await } => {}
        }
    }
}

async fn beat(shared: &Shared, connection: &mut Option<Connection>) -> Result<(), Failure> {
    let db = match connection {
        Some(db) => db,
        None => {
            let mut fresh = shared.pool.connect().await?;
            set_up(shared, &mut fresh).await?;
            connection.insert(fresh)
        }
    };
    db.execute(ALIVE_UNTIL, &[&shared.node, &ALIVE]).await?;
    let names: Vec<&str> = shared.wanted.iter().map(|observer| &*observer.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let rows = db.query(SEEN, &[&names]).await?;
    if rows.len() < names.len() {
        return set_up(shared, db).await;
    }
    let mut observers = shared.observers.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        // Another version of the program may have changed the order of an observer.
        if let Some(observing) = observers.get_mut(row.try_get::<_, &str>(0)?) {
            *observing = Observing { id: row.try_get(1)?, in_order: row.try_get(2)? };
        }
    }
    Ok(())
}

/// Brings the tables up to date and enters the node and its observers.
async fn set_up(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let changes = db.client.transaction().await?;
    schema::migrate(&changes).await?;
    changes.execute(ALIVE_UNTIL, &[&shared.node, &ALIVE]).await?;
    observers::register(shared, &changes).await?;
    changes.commit().await?;
    Ok(())
}

/// Leases of nodes that are gone wait again.
const REAPED: &str = concat!(
    "UPDATE delivery SET leased = false, node = NULL, due = ",
    now!(),
    "
     WHERE leased AND due > ",
    now!(),
    " AND observer = ANY($1)
       AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = delivery.node AND node.alive_until > ",
    now!(),
    ")"
);

/// What waits longer than anybody should waits no more: the clock has jumped.
const JUMPED: &str = concat!(
    "UPDATE delivery SET leased = false, node = NULL, due = ",
    now!(),
    "
     WHERE observer = ANY($1) AND due > ",
    now!(),
    " + $2"
);

const COUNTS: &str = "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM dead)";

/// Bytes of what is there. Tables do not shrink when rows are removed, so it is counted by rows: their number, as
/// PostgreSQL keeps it, by the size of the latest ones; but never more than the tables have.
const BYTES: &str = "
    WITH live AS (
        SELECT coalesce(sum(n_live_tup) FILTER (WHERE relname = 'event'), 0) AS events,
               coalesce(sum(n_live_tup) FILTER (WHERE relname <> 'event'), 0) AS others
        FROM pg_stat_all_tables
        WHERE relid IN ('event'::regclass, 'dedupe'::regclass, 'delivery'::regclass, 'dead'::regclass)
    ), latest AS (
        SELECT avg(pg_column_size(payload) + coalesce(pg_column_size(reply), 0) + 220) AS size
        FROM (SELECT payload, reply FROM event ORDER BY id DESC LIMIT 200) AS few
    )
    SELECT least(
        (SELECT live.events * coalesce(latest.size, 0) + live.others * 200 FROM live, latest),
        pg_total_relation_size('event') + pg_total_relation_size('dedupe')
            + pg_total_relation_size('delivery') + pg_total_relation_size('dead')
    )::bigint";

/// Keeps house, for ever.
pub(super) async fn upkeep(shared: Arc<Shared>, options: Options) {
    shared.started().await;
    let begun = Instant::now();
    let mut missing = HashSet::new();
    let mut round: Option<Instant> = None;
    loop {
        if !matches!(shared.health(), Ok(()) | Err(super::JournalError::Full)) {
            time::sleep(REAP).await;
            continue;
        }
        let mut done = reap(&shared).await;
        if done.is_ok() && round.is_none_or(|at| at.elapsed() > ROUND) {
            round = Some(Instant::now());
            done = keep(&shared, &options, millis(begun.elapsed()), &mut missing).await;
        }
        while done.is_ok() && !shared.is_closed() {
            match observers::backfill(&shared, ROWS).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => done = Err(failure),
            }
        }
        if let Err(failure) = done {
            warn!("upkeep: {}", failure.explain());
        }
        time::sleep(REAP).await;
    }
}

async fn reap(shared: &Shared) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let observers = shared.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ids: Vec<i32> = observers.values().map(|observing| observing.id).collect();
    if !ids.is_empty() {
        let freed =
            limited(db.execute(REAPED, &[&ids])).await? + limited(db.execute(JUMPED, &[&ids, &LONGEST_PAUSE])).await?;
        if freed > 0 {
            shared.arrivals.notify_waiters();
        }
    }
    db.done();
    Ok(())
}

/// How long a node that has just started, and one that makes room, leaves to others to come back with their observers.
fn patience(options: &Options) -> i64 {
    (millis(options.retention) / 4).clamp(MISSING, GONE)
}

async fn keep(shared: &Shared, options: &Options, up: i64, missing: &mut HashSet<i32>) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let counts = limited(db.query(COUNTS, &[])).await?;
    if let Some(row) = counts.first() {
        shared.waiting.store(row.try_get::<_, i64>(0)?.cast_unsigned(), Ordering::Relaxed);
        shared.dead.store(row.try_get::<_, i64>(1)?.cast_unsigned(), Ordering::Relaxed);
    }
    measure(shared, &mut db, options).await?;
    let now: i64 = match limited(db.query(concat!("SELECT ", now!()), &[])).await?.first() {
        Some(row) => row.try_get(0)?,
        None => return Ok(()),
    };
    let retention = millis(options.retention);
    let before = now - retention;
    missing::report(&mut db, shared, now - MISSING, retention, missing).await?;
    // Other nodes may only be about to start.
    if up > patience(options) {
        limited(db.execute("DELETE FROM node WHERE alive_until < $1", &[&(now - GONE)])).await?;
        missing::remove(&mut db, before.min(now - MISSING), ROWS).await?;
    }
    say::expired(remove(&mut db, REMOVE_DEAD, before).await?);
    limited(db.execute(slots::CLEAR, &[])).await?;
    remove(&mut db, queries::REMOVE, now).await?;
    remove_events(shared, &mut db, options, id::at(before), now, false).await?;
    remove(&mut db, REMOVE_KEYS, before.min(now - KEYS_KEPT)).await?;
    if shared.bytes.load(Ordering::Relaxed) as f64 > options.max_size as f64 * SHRINK_FROM {
        remove_events(shared, &mut db, options, Uuid::max(), now, true).await?;
        if up > patience(options) {
            remove_orphans(shared, &mut db, options, now).await?;
        }
        remove(&mut db, REMOVE_KEYS_OF_NOTHING, now - KEYS_KEPT).await?;
    }
    db.done();
    Ok(())
}

async fn measure(shared: &Shared, db: &mut Connection, options: &Options) -> Result<(), Failure> {
    if let Some(row) = limited(db.query(BYTES, &[])).await?.first() {
        let bytes = row.try_get::<_, Option<i64>>(0)?.unwrap_or_default().cast_unsigned();
        shared.bytes.store(bytes, Ordering::Relaxed);
        shared.full.store(bytes >= options.max_size, Ordering::Relaxed);
    }
    Ok(())
}

/// Makes room where nobody needs anything any more but observers that are missing: the oldest of what is kept for them goes.
async fn remove_orphans(shared: &Shared, db: &mut Connection, options: &Options, now: i64) -> Result<(), Failure> {
    let small = (options.max_size as f64 * SHRINK_TO) as u64;
    let seen = now - patience(options);
    let mut dropped = HashMap::new();
    let mut done = Ok(());
    while done.is_ok() && shared.bytes.load(Ordering::Relaxed) > small && !shared.is_closed() {
        match missing::drop_orphans(db, seen, ROWS, &mut dropped).await {
            Ok(0) => break,
            Ok(_) => done = remove_events(shared, db, options, Uuid::max(), now, true).await,
            Err(failure) => done = Err(failure),
        }
    }
    dropped.iter().for_each(|(name, left)| say::dropped(name, *left));
    done
}

const REMOVE_DEAD: &str = "
    DELETE FROM dead WHERE (event, observer) IN (SELECT event, observer FROM dead WHERE died < $1 LIMIT $2)";

const REMOVE_KEYS: &str = "
    DELETE FROM dedupe WHERE key IN (SELECT key FROM dedupe WHERE admitted < $1 ORDER BY admitted LIMIT $2)";

const REMOVE_KEYS_OF_NOTHING: &str = "
    DELETE FROM dedupe WHERE key IN (
        SELECT key FROM dedupe WHERE admitted < $1 AND NOT EXISTS (SELECT 1 FROM event WHERE event.id = dedupe.id)
        ORDER BY admitted LIMIT $2)";

/// Removes rows, some at a time, until none are left; says how many.
async fn remove(db: &mut Connection, text: &'static str, before: i64) -> Result<u64, Failure> {
    let mut removed = 0;
    loop {
        let some = limited(db.execute(text, &[&before, &ROWS])).await?;
        removed += some;
        if some < ROWS.cast_unsigned() {
            return Ok(removed);
        }
    }
}

/// Removes some events, but for those that are needed: by an observer, by one that is still given the past, or by the
/// responder. Says how many were looked at, how many removed, and which was the last.
const REMOVE_EVENTS: &str = "
    WITH few AS (
        SELECT id FROM event WHERE id > $1 AND id < $2
          AND id <= coalesce((SELECT backfill FROM observer WHERE backfill IS NOT NULL AND seen > $5
                              ORDER BY backfill LIMIT 1), $2)
        ORDER BY id LIMIT $3
    ), gone AS (
        DELETE FROM event WHERE id IN (SELECT id FROM few)
          AND (state <> 0 OR id < $4)
          AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.event = event.id)
          AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.event = event.id)
        RETURNING id
    )
    SELECT (SELECT count(*) FROM few), (SELECT count(*) FROM gone), (SELECT id FROM few ORDER BY id DESC LIMIT 1)";

async fn remove_events(
    shared: &Shared,
    db: &mut Connection,
    options: &Options,
    before: Uuid,
    now: i64,
    shrink: bool,
) -> Result<(), Failure> {
    let small = (options.max_size as f64 * SHRINK_TO) as u64;
    let responding = id::at(now - GONE);
    let seen = now - GONE;
    let statement = db.prepare(REMOVE_EVENTS).await?;
    let mut after = Uuid::nil();
    let mut idle = 0;
    while idle < CHUNKS && !shared.is_closed() {
        let bytes = shared.bytes.load(Ordering::Relaxed);
        if shrink && bytes <= small {
            break;
        }
        let changes = db.client.transaction().await?;
        let locked = changes.query_one("SELECT pg_try_advisory_xact_lock($1, $2)", &[&LOCK, &UPKEEP]).await?;
        if !locked.try_get(0)? {
            break;
        }
        let row =
            limited(async { Ok(changes.query_one(&statement, &[&after, &before, &ROWS, &responding, &seen]).await?) });
        let row = row.await?;
        changes.commit().await?;
        let (looked, gone): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if looked < ROWS && !(shrink && gone > 0) {
            break;
        }
        after = row.try_get::<_, Option<Uuid>>(2)?.unwrap_or(before);
        idle = if gone == 0 { idle + 1 } else { 0 };
        if shrink {
            // The statistics of PostgreSQL lag behind by a second, so what went is taken off by its share.
            let total =
                limited(db.query("SELECT count(*) FROM (SELECT 1 FROM event LIMIT 100001) AS few", &[])).await?;
            let left = total.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
            let share = left as f64 / (left + gone).max(1) as f64;
            shared.bytes.store((bytes as f64 * share) as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// This node is gone: others need not wait for it.
pub(super) async fn leave(shared: &Shared) -> Result<(), Failure> {
    const LEAVE: &str = concat!("UPDATE node SET alive_until = ", now!(), " - 1 WHERE id = $1");
    const RELEASE: &str = concat!(
        "UPDATE delivery SET leased = false, node = NULL, due = ",
        now!(),
        " WHERE node = $1 AND leased AND observer = ANY($2)"
    );
    let observers = shared.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ids: Vec<i32> = observers.values().map(|observing| observing.id).collect();
    let mut db = shared.pool.get().await?;
    limited(async {
        db.execute(RELEASE, &[&shared.node, &ids]).await?;
        db.execute(LEAVE, &[&shared.node]).await
    })
    .await?;
    db.done();
    Ok(())
}
