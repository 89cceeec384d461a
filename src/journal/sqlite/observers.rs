//! Observers in the file: their rows, pending observations, and leases.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    super::{
        Finish, Finished, Leased, Millis, Observer, Room, Wants,
        core::{LONGEST_PAUSE, Left, UNANSWERED_AFTER, UNANSWERED_UNTIL, at_once, event_columns, missing, row, steps},
        id::{number, number_at},
        millis, now_millis,
    },
    db::{self, File},
    events::offer,
    shared::Shared,
};

/// How many of the latest events are searched for those without a reply: a start must not take long.
const MAX_SEARCHED: i64 = 200_000;

/// An observer in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observing {
    pub(super) id: i64,
    pub(super) in_order: bool,
}

/// Those that are registered, and those that were while the journal is open: they may have something to finish.
pub(super) type Registered = HashMap<Arc<str>, Observing>;

/// Enters the observers when the journal is opened. They are offered what the process before has left without a reply, and its
/// leases are over: its lock is released.
pub(super) fn open(
    db: &mut Connection,
    observers: &[Observer],
    latest: u64,
    now: Millis,
) -> rusqlite::Result<Registered> {
    let changes = db.transaction()?;
    let registered = register(&changes, observers, latest)?;
    for Observer { name, unanswered, .. } in observers {
        if let (Some(wants), Some(observing)) = (unanswered, registered.get(name)) {
            offer_unanswered(&changes, observing.id, wants, now)?;
        }
    }
    changes.execute(
        "UPDATE delivery SET due = ?1, leased = 0 WHERE leased = 1 OR due > ?2",
        params![now, now + LONGEST_PAUSE],
    )?;
    changes.commit()?;
    Ok(registered)
}

/// Enters the observers. New names begin after `latest`, or at the beginning; those that are missing are marked, and what is
/// left of them stays.
pub(super) fn register(changes: &Connection, observers: &[Observer], latest: u64) -> rusqlite::Result<Registered> {
    let mut known: HashMap<String, (i64, bool)> = HashMap::new();
    {
        let mut query = changes.prepare("SELECT name, id, missing_since IS NOT NULL FROM observer")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        for row in rows {
            let (name, found) = row?;
            known.insert(name, found);
        }
    }
    let wanted: HashSet<&str> = observers.iter().map(|observer| &*observer.name).collect();
    for (_, (id, _)) in known.iter().filter(|(name, _)| !wanted.contains(name.as_str())) {
        changes.execute(
            "UPDATE observer SET missing_since = coalesce(missing_since, ?2) WHERE id = ?1",
            params![id, now_millis()],
        )?;
    }
    let mut registered = HashMap::new();
    for Observer { name, in_order, from_beginning, .. } in observers {
        let id = match known.get(&**name) {
            Some((id, is_back)) => {
                if *is_back {
                    missing::back(name, left(changes, name)?);
                    changes.execute("UPDATE observer SET missing_since = NULL WHERE id = ?1", [id])?;
                }
                *id
            }
            None => {
                let backfill = from_beginning.then_some((0, db::to_sql(latest)));
                changes.execute(
                    "INSERT INTO observer (name, in_order, backfill, backfill_to) VALUES (?1, ?2, ?3, ?4)",
                    params![&**name, in_order, backfill.map(|it| it.0), backfill.map(|it| it.1)],
                )?;
                changes.last_insert_rowid()
            }
        };
        set_order(changes, id, *in_order)?;
        registered.insert(Arc::clone(name), Observing { id, in_order: *in_order });
    }
    Ok(registered)
}

/// Offers what the process before has left without a reply.
fn offer_unanswered(db: &Transaction<'_>, observer: i64, wants: &Wants, now: Millis) -> rusqlite::Result<()> {
    let mut query = db.prepare(
        "SELECT seq, account, type, received FROM (
             SELECT seq, account, type, received, state FROM event WHERE seq >= ?1 ORDER BY seq DESC LIMIT ?2
         ) AS latest
         WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.seq = latest.seq AND observer = ?3)
           AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.seq = latest.seq AND observer = ?3)",
    )?;
    let since = db::to_sql(number_at(now.saturating_sub(UNANSWERED_UNTIL)));
    let found = query.query_map(params![since, MAX_SEARCHED, observer], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, Millis>(3)?))
    })?;
    for event in found.collect::<rusqlite::Result<Vec<_>>>()? {
        let (seq, account, event_type, received) = event;
        if wants(&account, &event_type) {
            offer(db, observer, &account, now.max(received.saturating_add(UNANSWERED_AFTER)), seq, None)?;
            wanted_by(db, observer, seq)?;
        }
    }
    Ok(())
}

/// Updates pending observations when an observer is switched between order and none.
fn set_order(db: &Connection, observer: i64, in_order: bool) -> rusqlite::Result<()> {
    db.execute("UPDATE observer SET in_order = ?2 WHERE id = ?1", params![observer, in_order])?;
    if !in_order {
        db.execute("UPDATE delivery SET lane = NULL WHERE observer = ?1 AND lane IS NOT NULL", [observer])?;
        return Ok(());
    }
    db.execute(
        "UPDATE delivery SET lane = coalesce((SELECT subject FROM event WHERE event.seq = delivery.seq), ' ' || seq)
         WHERE observer = ?1 AND lane IS NULL",
        [observer],
    )?;
    Ok(())
}

/// An observation that may be taken.
struct Due {
    seq: i64,
    due: Millis,
    attempts: u32,
}

/// Leases pending observations of an observer, of each account as many as there is room for.
pub(super) fn lease(
    db: &Connection,
    shared: &Shared,
    name: &Arc<str>,
    observing: Observing,
    room: &Room,
    term: Duration,
) -> rusqlite::Result<Vec<Leased>> {
    let now = shared.now();
    let until = now.saturating_add(millis(term));
    let mut take = db.prepare_cached(
        "UPDATE delivery SET due = ?5, attempts = attempts + 1, leased = 1
         WHERE observer = ?1 AND account = ?2 AND due = ?3 AND seq = ?4",
    )?;
    let mut event = db.prepare_cached(concat!("SELECT ", event_columns!(), " FROM event WHERE seq = ?1"))?;
    let mut leased = Vec::new();
    for account in accounts(db, shared, observing.id)? {
        let limit = room.of_account(&account).min(room.limit.saturating_sub(leased.len()));
        if limit == 0 {
            continue;
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ready = match observing.in_order {
            true => heads(db, shared, observing.id, &account, now, limit)?,
            false => due(db, observing.id, &account, now, limit)?,
        };
        for Due { seq, due, attempts } in ready {
            match event.query_row([seq], |row| Ok(row::leased(row, name, attempts + 1, until))).optional()? {
                Some(readable) => {
                    take.execute(params![observing.id, &*account, due, seq, until])?;
                    leased.extend(readable);
                }
                // Retention leaves what is needed; only another program can have removed it.
                None => drop(remove(db, observing.id, &account, due, seq)?),
            }
        }
        if leased.len() >= room.limit {
            // The next round begins behind it.
            let mut turns = shared.last_accounts.lock().unwrap_or_else(PoisonError::into_inner);
            turns.insert(observing.id, account);
            break;
        }
    }
    Ok(leased)
}

/// The accounts of which something waits for an observer, beginning behind the one that had its turn last. Goes from
/// account to account rather than from row to row.
fn accounts(db: &Connection, shared: &Shared, observer: i64) -> rusqlite::Result<Vec<String>> {
    let mut next = db.prepare_cached("SELECT min(account) FROM delivery WHERE observer = ?1 AND account > ?2")?;
    let mut first = db.prepare_cached("SELECT min(account) FROM delivery WHERE observer = ?1")?;
    let mut accounts: Vec<String> = Vec::new();
    let mut found: Option<String> = first.query_row([observer], |row| row.get(0))?;
    while let Some(account) = found {
        found = next.query_row(params![observer, account], |row| row.get(0))?;
        accounts.push(account);
    }
    let last = shared.last_accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&observer);
    if let Some(last) = last {
        let behind = accounts.partition_point(|account| *account <= last);
        accounts.rotate_left(behind);
    }
    Ok(accounts)
}

fn due(db: &Connection, observer: i64, account: &str, now: Millis, limit: i64) -> rusqlite::Result<Vec<Due>> {
    let mut query = db.prepare_cached(
        "SELECT seq, due, attempts FROM delivery WHERE observer = ?1 AND account = ?2 AND due <= ?3
         ORDER BY due, seq LIMIT ?4",
    )?;
    let rows = query.query_map(params![observer, account, now, limit], |row| {
        Ok(Due { seq: row.get(0)?, due: row.get(1)?, attempts: row.get(2)? })
    })?;
    rows.collect()
}

/// The first of each ordering key of an account, unless it is leased or pauses. Goes from key to key rather than from row
/// to row, so that many events behind a failing one cost nothing.
fn heads(
    db: &Connection,
    shared: &Shared,
    observer: i64,
    account: &str,
    now: Millis,
    limit: i64,
) -> rusqlite::Result<Vec<Due>> {
    let mut query = db.prepare_cached(
        "WITH RECURSIVE lanes (lane) AS (
             SELECT min(lane) FROM delivery WHERE observer = ?1 AND account = ?5 AND lane IS NOT NULL AND lane > ?4
             UNION ALL
             SELECT (SELECT min(lane) FROM delivery
                     WHERE observer = ?1 AND account = ?5 AND lane IS NOT NULL AND lane > lanes.lane)
             FROM lanes WHERE lanes.lane IS NOT NULL
         )
         SELECT head.seq, head.due, head.attempts, lanes.lane FROM lanes CROSS JOIN delivery AS head
         WHERE lanes.lane IS NOT NULL AND head.observer = ?1 AND head.account = ?5 AND head.lane = lanes.lane
           AND head.due <= ?2
           AND head.seq = (SELECT min(seq) FROM delivery WHERE observer = ?1 AND account = ?5 AND lane = lanes.lane)
           -- A replay may come before what is leased already.
           AND NOT EXISTS (
               SELECT 1 FROM delivery WHERE observer = ?1 AND account = ?5 AND lane = lanes.lane AND leased = 1
                 AND lane IS NOT NULL AND due > ?2
           )
         LIMIT ?3",
    )?;
    let mut last_keys = shared.last_keys.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = (observer, account.to_owned());
    let after = last_keys.remove(&turn).unwrap_or_default();
    let mut heads = Vec::new();
    let mut last = None;
    let rows = query.query_map(params![observer, now, limit, after, account], |row| {
        Ok((Due { seq: row.get(0)?, due: row.get(1)?, attempts: row.get(2)? }, row.get(3)?))
    })?;
    for row in rows {
        let (head, key) = row?;
        heads.push(head);
        last = Some(key);
    }
    // Where there was room for more, the next round begins with the first key.
    if let Some(key) = last.filter(|_| heads.len() as i64 == limit) {
        last_keys.insert(turn, key);
    }
    Ok(heads)
}

/// Ends a lease, unless it has expired and was taken.
pub(super) fn finish(db: &Connection, shared: &Shared, observer: i64, finished: &Finished) -> rusqlite::Result<()> {
    let Finished { lease, outcome } = finished;
    let seq = db::to_sql(number(lease.id));
    let mut held = db.prepare_cached(
        "SELECT 1 FROM delivery
         WHERE observer = ?1 AND account = ?2 AND due = ?3 AND seq = ?4 AND attempts = ?5 AND leased = 1",
    )?;
    if !held.exists(params![observer, &*lease.account, lease.until, seq, lease.attempt])? {
        return Ok(());
    }
    let mut wait = db.prepare_cached(
        "UPDATE delivery SET due = ?5, attempts = ?6, leased = 0, error = coalesce(?7, error)
         WHERE observer = ?1 AND account = ?2 AND due = ?3 AND seq = ?4",
    )?;
    let mut wait = |after: Duration, attempts: u32, error: Option<&str>| {
        let due = shared.now().saturating_add(millis(after));
        wait.execute(params![observer, &*lease.account, lease.until, seq, due, attempts, error]).map(drop)
    };
    match outcome {
        Finish::Done => drop(remove(db, observer, &lease.account, lease.until, seq)?),
        Finish::Retry { after, error } => wait(*after, lease.attempt, Some(error))?,
        Finish::Released => wait(Duration::ZERO, lease.attempt - 1, None)?,
        Finish::Postponed { after } => wait(*after, lease.attempt - 1, None)?,
        Finish::Dropped { reason } => {
            remove(db, observer, &lease.account, lease.until, seq)?;
            let mut drop_reply =
                db.prepare_cached("UPDATE event SET state = 2, failure = ?2 WHERE seq = ?1 AND state = 3")?;
            drop_reply.execute(params![seq, reason])?;
        }
        Finish::Dead { error } => {
            remove(db, observer, &lease.account, lease.until, seq)?;
            let mut bury = db.prepare_cached(
                "INSERT OR REPLACE INTO dead (seq, observer, died, attempts, error) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            bury.execute(params![seq, observer, now_millis(), lease.attempt, error])?;
        }
    }
    Ok(())
}

fn remove(db: &Connection, observer: i64, account: &str, due: Millis, seq: i64) -> rusqlite::Result<usize> {
    let mut delete =
        db.prepare_cached("DELETE FROM delivery WHERE observer = ?1 AND account = ?2 AND due = ?3 AND seq = ?4")?;
    delete.execute(params![observer, account, due, seq])
}

/// Offers an event to one more observer, out of order.
pub(super) fn add(db: &Connection, observer: i64, account: &str, seq: i64, now: Millis) -> rusqlite::Result<()> {
    if !wanted_by(db, observer, seq)? {
        // It was offered when its process had ended, and may be pending still; nothing else is searched for like this.
        let mut pending =
            db.prepare_cached("SELECT leased FROM delivery WHERE observer = ?1 AND account = ?2 AND seq = ?3")?;
        let found = pending.query_row(params![observer, account, seq], |row| row.get::<_, bool>(0)).optional()?;
        if found.is_some() {
            let mut hasten = db.prepare_cached(
                "UPDATE delivery SET due = ?4 WHERE observer = ?1 AND account = ?2 AND seq = ?3 AND leased = 0",
            )?;
            return hasten.execute(params![observer, account, seq, now]).map(drop);
        }
    }
    offer(db, observer, account, now, seq, None)
}

/// Notes that an event is for one more observer; returns whether that is new.
pub(super) fn wanted_by(db: &Connection, observer: i64, seq: i64) -> rusqlite::Result<bool> {
    let mut update = db.prepare_cached(
        "UPDATE event SET observers = CASE WHEN observers IS NULL THEN ?2 ELSE observers || ',' || ?2 END
         WHERE seq = ?1 AND (observers IS NULL OR instr(',' || observers || ',', ',' || ?2 || ',') = 0)",
    )?;
    Ok(update.execute(params![seq, observer.to_string()])? > 0)
}

/// Warns of each that is missing. What is left of one is kept for the retention.
pub(super) fn report(db: &Connection, retention: Millis) -> rusqlite::Result<()> {
    let mut query =
        db.prepare("SELECT name, missing_since FROM observer WHERE missing_since IS NOT NULL ORDER BY name")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (name, since): (String, Millis) = (row.get(0)?, row.get(1)?);
        missing::kept(&name, left(db, &name)?, since.saturating_add(retention));
    }
    Ok(())
}

fn left(db: &Connection, name: &str) -> rusqlite::Result<Left> {
    at_once(steps::left(&mut File { db, now: now_millis() }, name))
}
