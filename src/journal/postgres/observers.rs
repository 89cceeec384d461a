//! Observers in the database: their rows, pending observations, and leases of nodes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        Finish, Finished, Lease, Leased, Observer, Room,
        core::{EVENT_COLUMNS, Row as _, row},
        millis,
    },
    db::{self, Failure},
    pool::Connection,
    schema::{LOCK, ORDERING_KEYS},
    shared::Shared,
};

/// An observer in the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observing {
    pub(super) id: i32,
    pub(super) in_order: bool,
}

/// Inserts observers, and records that a node has them.
const REGISTER: &str = "INSERT INTO observer (name, in_order, backfill, backfill_to, seen)
     SELECT name, in_order, CASE WHEN past THEN '00000000-0000-0000-0000-000000000000'::uuid END,
            CASE WHEN past THEN (SELECT id FROM event ORDER BY id DESC LIMIT 1) END, {now}
     FROM unnest($1::text[], $2::boolean[], $3::boolean[]) AS t (name, in_order, past) ORDER BY name
     ON CONFLICT (name) DO UPDATE SET in_order = excluded.in_order, seen = excluded.seen
     RETURNING name, id, in_order";

/// Updates pending observations when an observer is switched between order and none.
const SET_ORDER: &str = "UPDATE delivery SET lane = CASE WHEN observer.in_order THEN {ordering key of event} END
     FROM observer, event
     WHERE observer.id = delivery.observer AND event.id = delivery.event AND observer.name = ANY($1)
       AND observer.in_order <> (delivery.lane IS NOT NULL)";

/// Enters the observers of this node, in one transaction with whatever else is set up.
pub(super) async fn register(shared: &Shared, changes: &tokio_postgres::Transaction<'_>) -> Result<(), Failure> {
    let wanted = shared.wanted();
    let of = |what: fn(&Observer) -> bool| wanted.iter().map(what).collect::<Vec<bool>>();
    let names: Vec<&str> = wanted.iter().map(|observer| &*observer.name).collect();
    let (in_order, past) = (of(|it| it.in_order), of(|it| it.from_beginning));
    let rows = changes.query(&db::sql(REGISTER), &[&names, &in_order, &past]).await?;
    changes.execute(&db::sql(SET_ORDER), &[&names]).await?;
    let mut observers = HashMap::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        if let Some(observer) = wanted.iter().find(|observer| *observer.name == *name) {
            let observing = Observing { id: row.try_get(1)?, in_order: row.try_get(2)? };
            observers.insert(Arc::clone(&observer.name), observing);
        }
    }
    // Those that it had before may have something to finish.
    shared.observers.lock().unwrap_or_else(PoisonError::into_inner).extend(observers);
    Ok(())
}

/// Updates what was on its way when the order of an observer changed.
pub(super) async fn reorder(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let wanted = shared.wanted();
    let names: Vec<&str> = wanted.iter().map(|observer| &*observer.name).collect();
    db.execute(SET_ORDER, &[&names]).await.map(drop)
}

/// The accounts of which something waits for an observer, with how many there is room for: of most `$5`, of the accounts
/// `$6` the numbers `$7`. Begins behind the account `$8`, which had its turn last. Goes from account to account rather
/// than from row to row.
pub(super) const ROOMS: &str = "
    WITH RECURSIVE accounts (account) AS (
        (SELECT account FROM delivery WHERE observer = $1 ORDER BY account LIMIT 1)
        UNION ALL
        SELECT (SELECT next.account FROM delivery AS next
                WHERE next.observer = $1 AND next.account > accounts.account ORDER BY next.account LIMIT 1)
        FROM accounts WHERE accounts.account IS NOT NULL
    ), room AS (
        SELECT accounts.account, coalesce(less.count, $5::bigint) AS count
        FROM accounts LEFT JOIN unnest($6::text[], $7::bigint[]) AS less (account, count) USING (account)
        WHERE accounts.account IS NOT NULL AND coalesce(less.count, $5::bigint) > 0
        ORDER BY accounts.account <= $8::text, accounts.account
    )";

const LEASE: &str = "{rooms}, ready AS (
        SELECT due.event, due.observer FROM room CROSS JOIN LATERAL (
            SELECT event, observer FROM delivery
            WHERE observer = $1 AND delivery.account = room.account AND due <= {now}
            ORDER BY due, event LIMIT room.count FOR UPDATE SKIP LOCKED
        ) AS due LIMIT $2
    )
    UPDATE delivery SET due = {clock} + $3, attempts = delivery.attempts + 1, leased = true, node = $4
    FROM ready, event
    WHERE delivery.event = ready.event AND delivery.observer = ready.observer AND event.id = ready.event
    RETURNING {event}, delivery.attempts, delivery.due";

/// The first of each ordering key, unless it pauses, or another of the key is leased; of the accounts `$3` from behind the
/// keys `$4` on. Goes from key to key rather than from row to row, so that many events behind a failing one cost nothing.
const HEADS: &str = "{rooms}
    SELECT heads.event, room.account, heads.lane, room.count
    FROM room LEFT JOIN unnest($3::text[], $4::bytea[]) AS turn (account, lane) ON turn.account = room.account
    CROSS JOIN LATERAL (
        WITH RECURSIVE lanes (lane) AS (
            (SELECT first.lane FROM delivery AS first
             WHERE first.observer = $1 AND first.account = room.account AND first.lane IS NOT NULL
               AND (turn.lane IS NULL OR first.lane > turn.lane)
             ORDER BY first.lane LIMIT 1)
            UNION ALL
            SELECT (SELECT next.lane FROM delivery AS next
                    WHERE next.observer = $1 AND next.account = room.account AND next.lane IS NOT NULL
                      AND next.lane > lanes.lane
                    ORDER BY next.lane LIMIT 1)
            FROM lanes WHERE lanes.lane IS NOT NULL
        )
        SELECT head.event, lanes.lane
        FROM lanes CROSS JOIN LATERAL (
            SELECT event, due FROM delivery
            WHERE observer = $1 AND delivery.account = room.account AND delivery.lane = lanes.lane
            ORDER BY event LIMIT 1
        ) AS head
        WHERE lanes.lane IS NOT NULL AND head.due <= {now} AND NOT EXISTS (
            SELECT 1 FROM delivery AS other
            WHERE other.observer = $1 AND other.account = room.account AND other.lane = lanes.lane
              AND other.leased AND other.due > {now})
        LIMIT room.count
    ) AS heads LIMIT $2";

/// What somebody else has locked has its turn later.
const TAKE: &str = "WITH ready AS (
        SELECT event FROM delivery WHERE event = ANY($2) AND observer = $1 AND due <= {now}
        ORDER BY event FOR UPDATE SKIP LOCKED
    )
    UPDATE delivery SET due = {clock} + $3, attempts = delivery.attempts + 1, leased = true, node = $4
    FROM ready, event
    WHERE delivery.event = ready.event AND delivery.observer = $1 AND event.id = ready.event
    RETURNING {event}, delivery.attempts, delivery.due";

/// The values of a query, as columns.
struct Asked<'r> {
    limit: i64,
    each: i64,
    accounts: Vec<&'r str>,
    counts: Vec<i64>,
    /// The account that had its turn last.
    last: Option<String>,
}

/// Leases pending observations of an observer, of each account as many as there is room for.
pub(super) async fn lease(
    shared: &Shared,
    name: &Arc<str>,
    observing: Observing,
    room: &Room,
    term: Duration,
) -> Result<Vec<Leased>, Failure> {
    let mut db = shared.pool.get().await?;
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (accounts, counts) = room.less.iter().map(|(account, less)| (&**account, count(*less))).unzip();
    let turns = || shared.last_accounts.lock().unwrap_or_else(PoisonError::into_inner);
    let last = turns().remove(&observing.id);
    let asked = Asked { limit: count(room.limit), each: count(room.each), accounts, counts, last };
    let term = millis(term);
    let rows = if observing.in_order {
        heads(&mut db, shared, observing.id, &asked, term).await?
    } else {
        let Asked { limit, each, accounts, counts, last } = &asked;
        db.query(LEASE, &[&observing.id, limit, &term, &shared.node, each, accounts, counts, last]).await?
    };
    db.done();
    let mut leased = Vec::with_capacity(rows.len());
    for row in &rows {
        leased.extend(row::leased(row, name, row.count(EVENT_COLUMNS)?, row.integer(EVENT_COLUMNS + 1)?));
    }
    leased.sort_by_key(|one| one.lease.id);
    // The next round begins behind one of these accounts, and so with another one each time.
    if let Some(one) = leased.last().filter(|_| leased.len() >= room.limit) {
        turns().insert(observing.id, one.lease.account.as_ref().to_owned());
    }
    Ok(leased)
}

/// One node at a time looks for the first of each ordering key, so that two of one key are never out together.
async fn heads(
    db: &mut Connection,
    shared: &Shared,
    observer: i32,
    asked: &Asked<'_>,
    term: i64,
) -> Result<Vec<Row>, Failure> {
    let (heads, take) = (db.prepare(HEADS).await?, db.prepare(TAKE).await?);
    let last_keys = || shared.last_keys.lock().unwrap_or_else(PoisonError::into_inner);
    let (turns, after): (Vec<String>, Vec<Vec<u8>>) =
        last_keys().remove(&observer).unwrap_or_default().into_iter().unzip();
    let changes = db.client.transaction().await?;
    changes.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK, &ORDERING_KEYS.saturating_add(observer)]).await?;
    let Asked { limit, each, accounts, counts, last } = asked;
    let rows = changes.query(&heads, &[&observer, limit, &turns, &after, each, accounts, counts, last]).await?;
    let mut events: Vec<Uuid> = Vec::with_capacity(rows.len());
    let mut taken: HashMap<String, (i64, i64, Vec<u8>)> = HashMap::new();
    for row in &rows {
        events.push(row.try_get(0)?);
        let of_account = taken.entry(row.try_get(1)?).or_insert((0, row.try_get(3)?, Vec::new()));
        of_account.0 += 1;
        of_account.2 = row.try_get(2)?;
    }
    let taken_rows = changes.query(&take, &[&observer, &events, &term, &shared.node]).await?;
    changes.commit().await?;
    // Where there was room for more, the next round begins with the first key; where an account had no turn, with the
    // key that it had before.
    let full = i64::try_from(rows.len()) == Ok(*limit);
    let mut next: HashMap<String, Vec<u8>> = HashMap::new();
    if full {
        next.extend(turns.into_iter().zip(after).filter(|(account, _)| !taken.contains_key(account)));
    }
    next.extend(
        taken.into_iter().filter(|(_, (count, room, _))| full || count >= room).map(|(account, it)| (account, it.2)),
    );
    last_keys().insert(observer, next);
    Ok(taken_rows)
}

/// Ends leases, unless they have expired and were taken.
const DONE: &str = "
    DELETE FROM delivery USING unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[]) AS t (event, observer, attempt, until)
    WHERE delivery.event = t.event AND delivery.observer = t.observer AND delivery.attempts = t.attempt
      AND delivery.due = t.until AND delivery.leased AND delivery.node = $5";

const AGAIN: &str = "UPDATE delivery SET due = {clock} + t.pause, attempts = t.tries, leased = false, node = NULL,
        error = coalesce(t.error, delivery.error)
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $6::bigint[], $7::integer[], $8::text[])
        AS t (event, observer, attempt, until, pause, tries, error)
    WHERE delivery.event = t.event AND delivery.observer = t.observer AND delivery.attempts = t.attempt
      AND delivery.due = t.until AND delivery.leased AND delivery.node = $5";

const DEAD: &str = "WITH gone AS (
        DELETE FROM delivery USING unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $6::text[])
            AS t (event, observer, attempt, until, error)
        WHERE delivery.event = t.event AND delivery.observer = t.observer AND delivery.attempts = t.attempt
          AND delivery.due = t.until AND delivery.leased AND delivery.node = $5
        RETURNING delivery.event, delivery.observer, delivery.attempts, t.error
    )
    INSERT INTO dead (event, observer, died, attempts, error)
    SELECT event, observer, {now}, attempts, error FROM gone
    ON CONFLICT (event, observer) DO UPDATE
        SET died = excluded.died, attempts = excluded.attempts, error = excluded.error";

/// A late reply that waited in vain is the failure of its event.
const DROPPED: &str = "WITH gone AS (
        DELETE FROM delivery USING unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $6::text[])
            AS t (event, observer, attempt, until, reason)
        WHERE delivery.event = t.event AND delivery.observer = t.observer AND delivery.attempts = t.attempt
          AND delivery.due = t.until AND delivery.leased AND delivery.node = $5
        RETURNING delivery.event, t.reason
    )
    UPDATE event SET state = 2, failure = gone.reason FROM gone WHERE event.id = gone.event AND event.state = 3";

/// Leases of one outcome, as columns.
#[derive(Default)]
struct Ends {
    events: Vec<Uuid>,
    observers: Vec<i32>,
    attempts: Vec<i32>,
    until: Vec<i64>,
}

impl Ends {
    fn push(&mut self, lease: &Lease, observer: i32) {
        self.events.push(lease.id);
        self.observers.push(observer);
        self.attempts.push(db::to_sql(lease.attempt));
        self.until.push(lease.until);
    }
}

/// Ends leases, unless they have expired and were taken. Each outcome is one statement, which is idempotent.
pub(super) async fn finish(shared: &Shared, finished: &[Finished]) -> Result<(), Failure> {
    let observing = shared.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut done, mut again, mut dead, mut dropped) =
        (Ends::default(), Ends::default(), Ends::default(), Ends::default());
    let mut reasons = Vec::new();
    let (mut pauses, mut then, mut errors, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Finished { lease, outcome } in finished {
        let Some(observer) = observing.get(&lease.observer).map(|observing| observing.id) else { continue };
        match outcome {
            Finish::Done => done.push(lease, observer),
            Finish::Retry { after, error } => {
                again.push(lease, observer);
                pauses.push(millis(*after));
                then.push(db::to_sql(lease.attempt));
                errors.push(Some(db::text(error)));
            }
            Finish::Released | Finish::Postponed { .. } => {
                again.push(lease, observer);
                pauses.push(if let Finish::Postponed { after } = outcome { millis(*after) } else { 0 });
                then.push(db::to_sql(lease.attempt.saturating_sub(1)));
                errors.push(None);
            }
            Finish::Dropped { reason } => {
                dropped.push(lease, observer);
                reasons.push(db::text(reason));
            }
            Finish::Dead { error } => {
                dead.push(lease, observer);
                last.push(db::text(error));
            }
        }
    }
    let node = &shared.node;
    let mut db = shared.pool.get().await?;
    if !done.events.is_empty() {
        db.execute(DONE, &[&done.events, &done.observers, &done.attempts, &done.until, node]).await?;
    }
    if !again.events.is_empty() {
        let Ends { events, observers, attempts, until } = &again;
        db.execute(AGAIN, &[events, observers, attempts, until, node, &pauses, &then, &errors]).await?;
    }
    if !dead.events.is_empty() {
        let Ends { events, observers, attempts, until } = &dead;
        db.execute(DEAD, &[events, observers, attempts, until, node, &last]).await?;
    }
    if !dropped.events.is_empty() {
        let Ends { events, observers, attempts, until } = &dropped;
        db.execute(DROPPED, &[events, observers, attempts, until, node, &reasons]).await?;
    }
    db.done();
    Ok(())
}
