//! Maintenance of the database, by each node: leases of dead nodes, retention, counting.

use std::{
    collections::HashSet,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        JournalError, Millis,
        core::{
            Counts, KEY_RETENTION, LONGEST_PAUSE, Left, Maintain, Outcome, Step, UNANSWERED_AFTER, UNANSWERED_UNTIL,
            Which, maintenance, missing, steps,
        },
        id, millis, now_millis,
    },
    db::{Failure, limited},
    observers,
    pool::Connection,
    schema::{self, BACKFILL, LOCK, MAINTENANCE},
    shared::Shared,
};

/// How often leases of dead nodes are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// Rows that are removed or added in one transaction.
const MAX_ROWS: i64 = maintenance::MAX_ROWS as i64;

/// Chunks that are searched in a round without finding anything to remove.
const MAX_CHUNKS: usize = 20;

/// After this time without a sign of life a node is removed; an observer that no node has had for so long may be removed
/// when there is no room for what is left of it.
const NODE_TIMEOUT_MILLIS: i64 = 3_600_000;

/// An observer that no node has had for so long is missing; what is left of it is kept for the retention.
const MISSING_AFTER_MILLIS: i64 = 10_000;

/// When an index is tried again that could not be made.
const INDEX_INTERVAL: Duration = Duration::from_secs(600);

/// One node at a time; another does not wait for it.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, $2)";

/// Leases of dead nodes are pending again.
const REAPED: &str = "UPDATE delivery SET leased = false, node = NULL, due = {now}
     WHERE leased AND due > {now} AND observer = ANY($1)
       AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = delivery.node AND node.alive_until > {now})";

/// An observation that is due later than any pause allows is due now: the clock has jumped.
const JUMPED: &str = "UPDATE delivery SET leased = false, node = NULL, due = {now}
     WHERE observer = ANY($1) AND due > {now} + $2";

/// Nodes that died so long ago that the platforms do not retry any more what came to them.
const DEAD_NODES: &str = "SELECT id FROM node WHERE alive_until < {now} - $1 AND alive_until > {now} - $2";

/// What they have left without a reply.
const UNANSWERED: &str = "
    SELECT id, account, type FROM event WHERE state = 0 AND owner = ANY($1) AND id > $2
      AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.event = event.id AND dead.observer = $3)";

/// Offers it, and gives up its owner: who observes it may record a reply.
const OFFER_UNANSWERED: &str = "
    WITH offered AS (
        UPDATE event SET owner = NULL,
            observers = CASE WHEN $3 = ANY(observers) THEN observers ELSE observers || $3 END
        WHERE id IN (SELECT id FROM event WHERE id = ANY($1) ORDER BY id FOR UPDATE)
          AND state = 0 AND owner = ANY($2)
        RETURNING id, account
    )
    INSERT INTO delivery (observer, account, due, event, attempts, leased)
    SELECT $3, account, {now}, id, 0, false FROM offered ON CONFLICT (event, observer) DO NOTHING";

const COUNTS: &str = "SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM dead), {now}";

/// Events, if they are not very many.
const EVENTS: &str = "SELECT count(*) FROM (SELECT 1 FROM event LIMIT 100001) AS few";

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

const REMOVE_KEYS: &str = "
    DELETE FROM dedupe WHERE key IN (SELECT key FROM dedupe WHERE admitted < $1 ORDER BY admitted LIMIT $2)";

const REMOVE_KEYS_OF_NOTHING: &str = "
    DELETE FROM dedupe WHERE key IN (
        SELECT key FROM dedupe WHERE admitted < $1 AND NOT EXISTS (SELECT 1 FROM event WHERE event.id = dedupe.id)
        ORDER BY admitted LIMIT $2)";

/// Removes some events, except those that are needed: by an observer, by the backfill of one, or by the responder.
/// Returns how many were checked, how many removed, and which was the last.
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

/// Maintains the database until the journal is closed.
pub(super) async fn run(shared: Arc<Shared>, retention: Duration) {
    shared.started().await;
    let begun = Instant::now();
    let mut database = Maintained {
        shared,
        retention: millis(retention),
        begun,
        is_first: true,
        missing: HashSet::new(),
        searched: HashSet::new(),
        now: 0,
        index_due: Some(begun),
    };
    maintenance::run(&mut database, retention, begun).await;
}

/// The database, for its maintenance.
struct Maintained {
    shared: Arc<Shared>,
    retention: Millis,
    begun: Instant,
    is_first: bool,
    /// Observers that were missing at the last check.
    missing: HashSet<i32>,
    /// Dead nodes whose events have been searched for those without a reply.
    searched: HashSet<Uuid>,
    /// The time of the last count.
    now: Millis,
    /// When the index is looked for that may be missing still.
    index_due: Option<Instant>,
}

impl Maintain for Maintained {
    type Failure = Failure;

    const IS_MEASURED_OFTEN: bool = false;

    fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    async fn pause(&mut self) -> bool {
        if !mem::take(&mut self.is_first) {
            time::sleep(REAP_INTERVAL).await;
        }
        !self.shared.is_closed()
    }

    /// Looks for leases of dead nodes.
    async fn look(&mut self) -> Result<bool, Failure> {
        if !matches!(self.shared.health(), Ok(()) | Err(JournalError::Full)) {
            return Ok(false);
        }
        let ids: Vec<i32> = self.shared.observing().values().map(|observing| observing.id).collect();
        if !ids.is_empty() {
            let mut db = self.shared.pool.get().await?;
            let freed = limited(db.execute(REAPED, &[&ids])).await?
                + limited(db.execute(JUMPED, &[&ids, &LONGEST_PAUSE])).await?;
            let freed = freed + self.offer_unanswered(&mut db).await?;
            if self.shared.is_reordering() {
                limited(observers::reorder(&self.shared, &mut db)).await?;
            }
            db.done();
            if freed > 0 {
                self.shared.arrivals.notify_waiters();
            }
        }
        Ok(true)
    }

    async fn count(&mut self) -> Result<Millis, Failure> {
        let mut db = self.shared.pool.get().await?;
        let row = limited(db.row(COUNTS)).await?;
        self.shared.counts.counted(row.try_get(0)?, row.try_get(1)?);
        self.now = row.try_get(2)?;
        if self.index_due.is_some_and(|due| due <= Instant::now()) {
            self.index_due = Some(Instant::now() + INDEX_INTERVAL);
            schema::make_index(&self.shared.pool).await?;
            self.index_due = None;
        }
        let bytes: Option<i64> = limited(db.row(BYTES)).await?.try_get(0)?;
        self.shared.counts.measured(bytes.unwrap_or_default().cast_unsigned());
        let missing = limited(async { steps::missing(&mut db.client.transaction().await?).await }).await?;
        self.shared.counts.absent(&missing);
        report(&mut db, &self.shared, self.now - MISSING_AFTER_MILLIS, self.retention, &mut self.missing).await?;
        if self.is_patient() {
            limited(db.execute("DELETE FROM node WHERE alive_until < $1", &[&(self.now - NODE_TIMEOUT_MILLIS)]))
                .await?;
        }
        db.done();
        Ok(self.now)
    }

    async fn run(&mut self, step: Step) -> Result<Outcome, Failure> {
        let (is_backfill, is_patient) = (matches!(step, Step::Backfill(_)), self.is_patient());
        let step = match step {
            Step::RemoveMissing(_) | Step::DropOrphans(_) if !is_patient => return Ok(Outcome::default()),
            Step::RemoveMissing(before) => Step::RemoveMissing(before.min(self.now - MISSING_AFTER_MILLIS)),
            Step::DropOrphans(_) => Step::DropOrphans(self.now - self.patience()),
            step => step,
        };
        if self.shared.is_closed() {
            return Ok(Outcome::default());
        }
        let mut db = self.shared.pool.get().await?;
        let mut changes = db.client.transaction().await?;
        // The past may be given while something is removed by another node, but not of what it is given from.
        let lock = if is_backfill { BACKFILL } else { MAINTENANCE };
        if is_backfill {
            changes.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", &[&LOCK, &MAINTENANCE]).await?;
        }
        let outcome = match changes.query_one(TRY_LOCK, &[&LOCK, &lock]).await?.try_get(0)? {
            true => limited(steps::run(&mut changes, step)).await?,
            false => Outcome::default(),
        };
        changes.commit().await?;
        db.done();
        if is_backfill && outcome.more {
            self.shared.arrivals.notify_waiters();
        }
        Ok(outcome)
    }

    fn backfill(&self) -> Option<Step> {
        Some(Step::Backfill(self.shared.wanted()))
    }

    async fn remove_events(&mut self, which: Which) -> Result<(), Failure> {
        let before = match which {
            Which::Before(time) => id::at(time),
            Which::TooMany => Uuid::max(),
        };
        let (responding, seen) = (id::at(self.now - NODE_TIMEOUT_MILLIS), self.now - NODE_TIMEOUT_MILLIS);
        let counts = &self.shared.counts;
        let mut db = self.shared.pool.get().await?;
        let statement = db.prepare(REMOVE_EVENTS).await?;
        let mut after = Uuid::nil();
        let mut idle = 0;
        while idle < MAX_CHUNKS && !which.is_enough(counts) && !self.shared.is_closed() {
            let changes = db.client.transaction().await?;
            let locked = changes.query_one(TRY_LOCK, &[&LOCK, &MAINTENANCE]).await?;
            if !locked.try_get(0)? {
                // Another node runs it.
                break;
            }
            let values: [&(dyn ToSql + Sync); 5] = [&after, &before, &MAX_ROWS, &responding, &seen];
            let row = limited(async { Ok(changes.query_one(&statement, &values).await?) }).await?;
            changes.commit().await?;
            let (looked, gone): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if looked < MAX_ROWS && !(which == Which::TooMany && gone > 0) {
                break;
            }
            after = row.try_get::<_, Option<Uuid>>(2)?.unwrap_or(before);
            idle = if gone == 0 { idle + 1 } else { 0 };
            if which == Which::TooMany {
                // The statistics of PostgreSQL lag behind by a second, so what went is taken off by its share.
                let left: i64 = limited(db.row(EVENTS)).await?.try_get(0)?;
                let share = left as f64 / (left + gone).max(1) as f64;
                counts.shrunk((counts.bytes() as f64 * share) as u64);
            }
        }
        db.done();
        Ok(())
    }

    async fn remove_keys(&mut self, which: Which) -> Result<(), Failure> {
        let (statement, before) = match which {
            Which::Before(time) => (REMOVE_KEYS, time),
            Which::TooMany => (REMOVE_KEYS_OF_NOTHING, self.now - KEY_RETENTION),
        };
        let mut db = self.shared.pool.get().await?;
        while limited(db.execute(statement, &[&before, &MAX_ROWS])).await? == MAX_ROWS.cast_unsigned() {}
        db.done();
        Ok(())
    }

    fn explain(&self, failure: Failure) -> Option<JournalError> {
        Some(failure.explain())
    }
}

impl Maintained {
    /// Offers what dead nodes have left without a reply; returns how much.
    async fn offer_unanswered(&mut self, db: &mut Connection) -> Result<u64, Failure> {
        let observing = self.shared.observing();
        let wanted = self.shared.wanted();
        let wanting = wanted.iter().filter_map(|it| Some((observing.get(&it.name)?.id, it.unanswered.as_ref()?)));
        let wanting: Vec<_> = wanting.collect();
        if wanting.is_empty() {
            return Ok(0);
        }
        let dead = limited(db.query(DEAD_NODES, &[&UNANSWERED_AFTER, &UNANSWERED_UNTIL])).await?;
        let dead: HashSet<Uuid> = dead.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.searched.retain(|node| dead.contains(node));
        let new: Vec<Uuid> = dead.difference(&self.searched).copied().collect();
        if new.is_empty() {
            return Ok(0);
        }
        let since = id::at(now_millis().saturating_sub(UNANSWERED_UNTIL));
        let mut offered = 0;
        for (observer, wants) in wanting {
            let rows = limited(db.query(UNANSWERED, &[&new, &since, &observer])).await?;
            let mut events: Vec<Uuid> = Vec::new();
            for row in rows {
                if wants(row.try_get(1)?, row.try_get(2)?) {
                    events.push(row.try_get(0)?);
                }
            }
            for some in events.chunks(maintenance::MAX_ROWS) {
                offered += limited(db.execute(OFFER_UNANSWERED, &[&some, &new, &observer])).await?;
            }
        }
        self.searched.extend(new);
        Ok(offered)
    }

    /// How long a node that has just started, and one that makes room, waits for others to come back with their observers.
    fn patience(&self) -> Millis {
        (self.retention / 4).clamp(MISSING_AFTER_MILLIS, NODE_TIMEOUT_MILLIS)
    }

    /// Whether others have had the time to start.
    fn is_patient(&self) -> bool {
        millis(self.begun.elapsed()) > self.patience()
    }
}

/// Logs each observer once that no node has had since a time, and when it is back. `known` are those of the last check.
async fn report(
    db: &mut Connection,
    shared: &Shared,
    seen: i64,
    retention: i64,
    known: &mut HashSet<i32>,
) -> Result<(), Failure> {
    let rows = limited(db.query("SELECT id, name, seen FROM observer WHERE seen < $1 ORDER BY name", &[&seen])).await?;
    let wanted = shared.wanted();
    let own = |name: &str| wanted.iter().any(|observer| *observer.name == *name);
    let mut found = HashSet::new();
    for row in rows {
        let (id, name, seen): (i32, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        // This node's own are inserted again by the next heartbeat.
        if own(&name) {
            continue;
        }
        found.insert(id);
        if !known.contains(&id) {
            missing::kept(&name, left(db, &name).await?, seen.saturating_add(retention));
        }
    }
    for id in known.difference(&found) {
        if let Some(row) = limited(db.query("SELECT name FROM observer WHERE id = $1", &[id])).await?.first() {
            let name: String = row.try_get(0)?;
            missing::back(&name, left(db, &name).await?);
        }
    }
    *known = found;
    Ok(())
}

async fn left(db: &mut Connection, name: &str) -> Result<Left, Failure> {
    limited(async { steps::left(&mut db.client.transaction().await?, name).await }).await
}
