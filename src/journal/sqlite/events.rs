//! Events as rows.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use rusqlite::{Connection, params};

use super::{
    super::{
        Entry, Millis, NewEvent, ReplyRecord, State,
        core::{form_number, reply_text, state_number},
        id::{self, number},
    },
    db,
    observers::Observing,
};

/// Enters an event, with its key and what waits for its observers.
pub(super) fn admit(
    db: &Connection,
    observers: &HashMap<Arc<str>, Observing>,
    event: &NewEvent,
    reply: Option<&ReplyRecord>,
    now: Millis,
) -> rusqlite::Result<()> {
    let seq = db::to_sql(number(event.id));
    let record = &event.record;
    let wanted = event.observers.iter().filter_map(|name| observers.get(name));
    let ids: Vec<String> = wanted.clone().map(|observer| observer.id.to_string()).collect();
    let mut insert =
        db.prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?11, ?12, ?13)")?;
    insert.execute(params![
        seq,
        event.id.as_bytes(),
        &*record.account,
        &*record.event_type,
        record.subject.as_deref(),
        form_number(record.form),
        record.payload.text(),
        record.query.as_deref(),
        record.received,
        state_number(State::of(reply)),
        reply.and_then(|reply| reply_text(&reply.body)),
        reply.and_then(|reply| reply.failure.as_deref()),
        (!ids.is_empty()).then(|| ids.join(",")),
    ])?;
    if let Some(key) = &event.key {
        // One that is there already is over, or the index would have said so.
        let mut insert = db.prepare_cached(
            "INSERT INTO dedupe VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET seq = ?2, until = ?3",
        )?;
        insert.execute(params![&key.bytes[..], seq, key.until(id::millis_of(event.id))])?;
    }
    for observer in wanted {
        let key = observer.in_order.then(|| ordering_key(record.subject.as_deref(), seq));
        offer(db, observer.id, &record.account, now, seq, key.as_deref())?;
    }
    Ok(())
}

/// Records the reply of an event that has none yet; says whether it is late, and has to be sent.
pub(super) fn record(db: &Connection, entry: &Entry, reply: &ReplyRecord) -> rusqlite::Result<bool> {
    let mut update =
        db.prepare_cached("UPDATE event SET state = ?2, reply = ?3, failure = ?4 WHERE seq = ?1 AND state = 0")?;
    let state = state_number(State::of(Some(reply)));
    let seq = db::to_sql(number(entry.id));
    let changed = update.execute(params![seq, state, reply_text(&reply.body), reply.failure])?;
    Ok(reply.is_late() && changed > 0)
}

/// Counts a delivery.
pub(super) fn repeated(db: &Connection, number: u64) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached("UPDATE event SET deliveries = deliveries + 1 WHERE seq = ?1")?;
    update.execute([db::to_sql(number)]).map(drop)
}

/// Events of one ordering key go to an observer one after the other; an event about nobody has one of its own.
fn ordering_key(subject: Option<&str>, seq: i64) -> Cow<'_, str> {
    subject.map_or_else(|| format!(" {seq}").into(), Cow::Borrowed)
}

/// Adds an observation that waits, unless there is the same.
pub(super) fn offer(
    db: &Connection,
    observer: i64,
    account: &str,
    due: Millis,
    seq: i64,
    ordering_key: Option<&str>,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO delivery VALUES (?1, ?2, ?3, ?4, 0, 0, ?5, NULL)")?;
    insert.execute(params![observer, account, due, seq, ordering_key])?;
    Ok(())
}
