//! What is done to observations in one transaction, beside leasing and finishing them.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    super::{INTERNAL_PREFIX, Millis, Observer, ObserverState},
    archive::observer_states,
    maintenance::MAX_ROWS,
    missing::Left,
    row::{self, Row},
    session::{Dialect, Session, Value},
};
use crate::envelope::UsedQuery;

/// A step of maintenance, in a transaction of its own.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Removes some rows from before a time.
    Remove(Old, Millis),
    /// Removes some rows of an observer that has been missing since before a time, and then the observer.
    RemoveMissing(Millis),
    /// Removes some of what is kept for observers that have been missing since before a time, the oldest first.
    DropOrphans(Millis),
    /// Offers the next events of the past to one of these observers that begins with them.
    Backfill(Arc<[Observer]>),
}

/// Rows that are old at a time of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Old {
    DeadLetters,
    Leases,
    UsedQueries,
}

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the step may find more when it is repeated.
    pub(crate) more: bool,
    pub(crate) removed: u64,
    /// What was removed of observers.
    pub(crate) left: Vec<(String, Left)>,
}

/// What the command line changes; events and observers are in pairs.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Replay(Vec<(Uuid, String)>),
    /// Replays events to each observer that they were for, except internal ones and missing ones.
    ReplayToAll(Vec<Uuid>),
    Revive(Vec<(Uuid, String)>),
    DropDead(Vec<(Uuid, String)>),
    /// Removes some rows of a missing observer, and then the observer.
    RemoveObserver(String),
    /// Removes the value of a named lease, whoever holds it.
    ClearLease(String),
}

/// Runs a step.
pub(crate) async fn run<S: Session>(session: &mut S, step: Step) -> Result<Outcome, S::Failure> {
    match step {
        Step::Remove(old, before) => remove(session, old, before).await,
        Step::RemoveMissing(before) => remove_missing(session, before).await,
        Step::DropOrphans(before) => drop_orphans(session, before).await,
        Step::Backfill(observers) => backfill(session, &observers).await,
    }
}

async fn remove<S: Session>(session: &mut S, old: Old, before: Millis) -> Result<Outcome, S::Failure> {
    let Dialect { of_event, remove_used_queries, .. } = S::DIALECT;
    let text = match old {
        Old::DeadLetters => format!(
            "DELETE FROM dead WHERE ({of_event}, observer) IN
                 (SELECT {of_event}, observer FROM dead WHERE died < $1 LIMIT {MAX_ROWS})"
        ),
        Old::Leases => {
            format!("DELETE FROM slot WHERE name IN (SELECT name FROM slot WHERE expires <= $1 LIMIT {MAX_ROWS})")
        }
        Old::UsedQueries => {
            let oldest = remove_used_queries.replace("{max}", &UsedQuery::MAX.to_string());
            format!("{oldest} LIMIT {MAX_ROWS})")
        }
    };
    let removed = session.execute(&text, &[Value::Number(before)]).await?;
    Ok(Outcome { more: removed >= MAX_ROWS as u64, removed, ..Outcome::default() })
}

const OF_NAME: &str = "(SELECT id FROM observer WHERE name = $1)";

/// What is left of an observer.
pub(crate) async fn left<S: Session>(session: &mut S, name: &str) -> Result<Left, S::Failure> {
    let text = format!(
        "SELECT (SELECT count(*) FROM delivery WHERE observer = {OF_NAME}),
                (SELECT count(*) FROM dead WHERE observer = {OF_NAME})"
    );
    let read =
        |row: &dyn Row| Ok(Left { waiting: row.integer(0)?.cast_unsigned(), dead: row.integer(1)?.cast_unsigned() });
    let left = session.query(&text, &[Value::Text(name.to_owned())], read).await?;
    Ok(left.into_iter().next().unwrap_or_default())
}

/// The observers that are missing, with what is left of them.
pub(crate) async fn missing<S: Session>(session: &mut S) -> Result<Vec<ObserverState>, S::Failure> {
    let missing = observer_states(&S::DIALECT, &format!("WHERE {}", S::DIALECT.is_missing));
    session.query(&missing, &[], row::observer_state).await
}

async fn remove_missing<S: Session>(session: &mut S, before: Millis) -> Result<Outcome, S::Failure> {
    let Dialect { missing_since, lock_row, .. } = S::DIALECT;
    let overdue = format!("SELECT name FROM observer WHERE {missing_since} < $1 ORDER BY id LIMIT 1 {lock_row}");
    let overdue = session.query(&overdue, &[Value::Number(before)], |row| row.string(0)).await?;
    let Some(name) = overdue.into_iter().next() else { return Ok(Outcome::default()) };
    let (left, _) = remove_some(session, &name).await?;
    Ok(Outcome { more: true, left: vec![(name, left)], ..Outcome::default() })
}

/// Removes some of what is left of an observer, and then the observer itself; whether that is gone, too.
async fn remove_some<S: Session>(session: &mut S, name: &str) -> Result<(Left, bool), S::Failure> {
    let Dialect { of_event, observation, .. } = S::DIALECT;
    let name = Value::Text(name.to_owned());
    let mut removed = [0; 2];
    for ((table, key), removed) in
        [("delivery", observation), ("dead", &*format!("{of_event}, observer"))].into_iter().zip(&mut removed)
    {
        let text = format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE observer = {OF_NAME} LIMIT {MAX_ROWS})"
        );
        *removed = session.execute(&text, std::slice::from_ref(&name)).await?;
    }
    let is_gone = removed.iter().all(|removed| *removed < MAX_ROWS as u64);
    if is_gone {
        session.execute("DELETE FROM observer WHERE name = $1", &[name]).await?;
    }
    let [waiting, dead] = removed;
    Ok((Left { waiting, dead }, is_gone))
}

/// The same for an observer that is to be removed now, if it is missing; gives the number of rows.
async fn remove_observer<S: Session>(session: &mut S, name: String) -> Result<u64, S::Failure> {
    let Dialect { is_missing, lock_row, .. } = S::DIALECT;
    let missing = format!("SELECT name FROM observer WHERE name = $1 AND {is_missing} {lock_row}");
    if session.query(&missing, &[Value::Text(name.clone())], |row| row.string(0)).await?.is_empty() {
        return Ok(0);
    }
    let (Left { waiting, dead }, is_gone) = remove_some(session, &name).await?;
    Ok(waiting + dead + u64::from(is_gone))
}

/// Observers have not seen what is removed here, so that it is as if it had not been for them.
async fn drop_orphans<S: Session>(session: &mut S, before: Millis) -> Result<Outcome, S::Failure> {
    let Dialect { event, of_event, missing_since, without_observer, .. } = S::DIALECT;
    let missing = format!("SELECT name FROM observer WHERE {missing_since} < $1");
    let missing = session.query(&missing, &[Value::Number(before)], |row| row.string(0)).await?;
    let mut outcome = Outcome::default();
    if missing.is_empty() {
        return Ok(outcome);
    }
    let orphans = format!("observer IN (SELECT id FROM observer WHERE {missing_since} < $1)");
    let oldest = format!(
        "SELECT {of_event} FROM delivery WHERE {orphans} UNION ALL SELECT {of_event} FROM dead WHERE {orphans}
         ORDER BY {of_event} LIMIT {MAX_ROWS}"
    );
    let oldest = session.query(&oldest, &[Value::Number(before)], |row| row.place(0)).await?;
    let Some(last) = oldest.into_iter().flatten().last() else { return Ok(outcome) };
    let of_one = format!("observer = {OF_NAME} AND {of_event} <= $2");
    for name in missing {
        let values = [Value::Text(name.clone()), last.clone()];
        let forget = format!(
            "UPDATE event SET observers = {without_observer} FROM observer
             WHERE observer.name = $1 AND event.{event} IN (
                 SELECT {of_event} FROM delivery WHERE {of_one} UNION SELECT {of_event} FROM dead WHERE {of_one})"
        );
        session.execute(&forget, &values).await?;
        let waiting = session.execute(&format!("DELETE FROM delivery WHERE {of_one}"), &values).await?;
        let dead = session.execute(&format!("DELETE FROM dead WHERE {of_one}"), &values).await?;
        outcome.left.push((name, Left { waiting, dead }));
    }
    outcome.more = true;
    Ok(outcome)
}

/// Offers events to the observer `$1`; gives the number of those that did not wait for it.
async fn offer<S: Session>(session: &mut S, which: &str, values: &[Value]) -> Result<u64, S::Failure> {
    let Dialect { event, of_event, ordering_key, with_observer, .. } = S::DIALECT;
    let now = session.now();
    let which = format!("observer.name = $1 AND {which}");
    let wanted = format!("UPDATE event SET observers = {with_observer} FROM observer WHERE {which}");
    session.execute(&wanted, values).await?;
    let insert = format!(
        "INSERT INTO delivery (observer, account, due, {of_event}, attempts, leased, lane)
         SELECT observer.id, event.account, {now}, event.{event}, 0, false,
                CASE WHEN observer.in_order THEN {ordering_key} END
         FROM event, observer WHERE {which} ON CONFLICT DO NOTHING"
    );
    session.execute(&insert, values).await
}

async fn backfill<S: Session>(session: &mut S, observers: &[Observer]) -> Result<Outcome, S::Failure> {
    let Dialect { event, .. } = S::DIALECT;
    let places = "SELECT name, backfill, coalesce(backfill_to, backfill) FROM observer
                  WHERE backfill IS NOT NULL ORDER BY id";
    let places = session.query(places, &[], |row| Ok((row.string(0)?, row.place(1)?, row.place(2)?))).await?;
    let known = |(name, from, to): (String, Option<Value>, Option<Value>)| {
        Some((observers.iter().find(|observer| *observer.name == *name)?, from?, to?))
    };
    let Some((observer, from, to)) = places.into_iter().find_map(known) else { return Ok(Outcome::default()) };
    let next = format!(
        "SELECT {event}, account, type FROM event WHERE {event} > $1 AND {event} <= $2 ORDER BY {event} LIMIT {MAX_ROWS}"
    );
    let read = |row: &dyn Row| Ok((row.place(0)?, row.string(1)?, row.string(2)?));
    let events = session.query(&next, &[from.clone(), to], read).await?;
    let is_wanted =
        |(place, account, kind): (Option<Value>, String, String)| Some((place?, (observer.wants)(&account, &kind)));
    let events: Vec<(Value, bool)> = events.into_iter().filter_map(is_wanted).collect();
    let name = Value::Text(observer.name.as_ref().to_owned());
    let Some((last, _)) = events.last().cloned() else {
        session.execute("UPDATE observer SET backfill = NULL WHERE name = $1", &[name]).await?;
        return Ok(Outcome { more: true, ..Outcome::default() });
    };
    let which = format!("event.{event} > $2 AND event.{event} <= $3");
    let mut after = from;
    for alike in events.chunk_by(|one, other| one.1 == other.1) {
        let Some((end, is_wanted)) = alike.last().cloned() else { continue };
        if is_wanted {
            offer(session, &which, &[name.clone(), after, end.clone()]).await?;
        }
        after = end;
    }
    session.execute("UPDATE observer SET backfill = $2 WHERE name = $1", &[name, last]).await?;
    Ok(Outcome { more: true, ..Outcome::default() })
}

/// Changes one after the other; gives the number of those that were changed.
pub(crate) async fn change<S: Session>(session: &mut S, change: Change) -> Result<u64, S::Failure> {
    match change {
        Change::Replay(pairs) => change_each(session, Pairs::Replay, pairs).await,
        Change::ReplayToAll(events) => {
            let pairs = wanting(session, events).await?;
            change_each(session, Pairs::Replay, pairs).await
        }
        Change::Revive(letters) => change_each(session, Pairs::Revive, letters).await,
        Change::DropDead(letters) => change_each(session, Pairs::DropDead, letters).await,
        Change::RemoveObserver(name) => remove_observer(session, name).await,
        Change::ClearLease(name) => {
            let clear = "UPDATE slot SET value = NULL WHERE name = $1 AND value <> ''";
            session.execute(clear, &[Value::Text(name)]).await
        }
    }
}

/// Events with the observers that they were for, without internal ones and missing ones.
async fn wanting<S: Session>(session: &mut S, events: Vec<Uuid>) -> Result<Vec<(Uuid, String)>, S::Failure> {
    let Dialect { event, is_wanted, is_missing, collate, .. } = S::DIALECT;
    let text = format!(
        "SELECT observer.name FROM observer, event
         WHERE event.{event} = $1 AND {is_wanted} AND NOT ({is_missing}) ORDER BY observer.name {collate}"
    );
    let mut pairs = Vec::new();
    for event in events {
        let names = session.query(&text, &[Value::Event(event)], |row| row.string(0)).await?;
        let names = names.into_iter().filter(|name| !name.starts_with(INTERNAL_PREFIX));
        pairs.extend(names.map(|name| (event, name)));
    }
    Ok(pairs)
}

/// What is changed of an event and an observer.
#[derive(Clone, Copy, Debug)]
enum Pairs {
    Replay,
    Revive,
    DropDead,
}

async fn change_each<S: Session>(
    session: &mut S,
    change: Pairs,
    letters: Vec<(Uuid, String)>,
) -> Result<u64, S::Failure> {
    let Dialect { event, of_event, without_observer, .. } = S::DIALECT;
    let which = format!("event.{event} = $2");
    let offered = format!(
        "{which} AND NOT EXISTS
             (SELECT 1 FROM delivery WHERE delivery.observer = observer.id AND delivery.{of_event} = event.{event})"
    );
    let drop_letter = format!("DELETE FROM dead WHERE observer = {OF_NAME} AND {of_event} = $2");
    // It has not seen the event, and never will.
    let forget =
        format!("UPDATE event SET observers = {without_observer} FROM observer WHERE observer.name = $1 AND {which}");
    let mut count = 0;
    for (event, name) in letters {
        let values = [Value::Text(name), Value::Event(event)];
        let goes_on = matches!(change, Pairs::Replay) || session.execute(&drop_letter, &values).await? > 0;
        let changed = match change {
            Pairs::Replay | Pairs::Revive => goes_on && offer(session, &offered, &values).await? > 0,
            Pairs::DropDead => goes_on,
        };
        if changed && matches!(change, Pairs::Replay) {
            session.execute(&drop_letter, &values).await?;
        }
        if changed && matches!(change, Pairs::DropDead) {
            session.execute(&forget, &values).await?;
        }
        count += u64::from(changed);
    }
    Ok(count)
}
