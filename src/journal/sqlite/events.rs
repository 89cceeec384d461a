//! Events as rows.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    super::{
        Entry, Millis, NewEvent, ReplyRecord, State,
        core::{Row as _, form_number, reply_text, row, state_number},
        id::{self, number},
    },
    db,
    observers::Registered,
};
use crate::platform::Body;

/// Inserts an event, with its key and its observations.
pub(super) fn admit(
    db: &Connection,
    observers: &Registered,
    event: &NewEvent,
    reply: Option<&ReplyRecord>,
    now: Millis,
) -> rusqlite::Result<()> {
    let seq = db::to_sql(number(event.id));
    let record = &event.record;
    let wanted = event.observers.iter().filter_map(|name| observers.get(name));
    let ids: Vec<String> = wanted.clone().map(|observer| observer.id.to_string()).collect();
    let mut insert = db.prepare_cached(
        "INSERT INTO event (seq, id, account, type, subject, form, payload, query, received, deliveries, state, reply,
                            failure, observers)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?11, ?12, ?13)",
    )?;
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
        // A key that is there already has expired, or the index would have it.
        let mut insert = db.prepare_cached(
            "INSERT INTO dedupe (key, seq, until) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET seq = ?2, until = ?3",
        )?;
        insert.execute(params![&key.bytes[..], seq, key.until(id::millis_of(event.id))])?;
    }
    for observer in wanted {
        let key = observer.in_order.then(|| ordering_key(record.subject.as_deref(), seq));
        offer(db, observer.id, &record.account, now, seq, key.as_deref())?;
    }
    Ok(())
}

/// Records the reply of an event that has none yet; returns whether it is late, and has to be sent.
pub(super) fn record(db: &Connection, entry: &Entry, reply: &ReplyRecord) -> rusqlite::Result<bool> {
    let mut update =
        db.prepare_cached("UPDATE event SET state = ?2, reply = ?3, failure = ?4 WHERE seq = ?1 AND state = 0")?;
    let state = state_number(State::of(Some(reply)));
    let seq = db::to_sql(number(entry.id));
    let changed = update.execute(params![seq, state, reply_text(&reply.body), reply.failure])?;
    Ok(reply.is_late() && changed > 0)
}

/// The reply of an event of an account.
pub(super) fn reply(db: &Connection, account: &str, event: Uuid) -> rusqlite::Result<Option<Body>> {
    let mut query = db.prepare_cached("SELECT state, reply FROM event WHERE seq = ?1 AND id = ?2 AND account = ?3")?;
    let found = query.query_row(params![db::to_sql(number(event)), event.as_bytes(), account], |row| {
        let (state, platform) = (row::state(event, row.integer(0)?)?, row::platform_of(event, account)?);
        Ok(row::answer(state, row.text(1)?, platform))
    });
    Ok(found.optional()?.flatten())
}

/// Counts a delivery.
pub(super) fn repeated(db: &Connection, number: u64) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached("UPDATE event SET deliveries = deliveries + 1 WHERE seq = ?1")?;
    update.execute([db::to_sql(number)]).map(drop)
}

/// Events of one ordering key go to an observer one after the other; an event without a subject has one of its own.
fn ordering_key(subject: Option<&str>, seq: i64) -> Cow<'_, str> {
    subject.map_or_else(|| format!(" {seq}").into(), Cow::Borrowed)
}

/// Adds a pending observation, unless it is there.
pub(super) fn offer(
    db: &Connection,
    observer: i64,
    account: &str,
    due: Millis,
    seq: i64,
    ordering_key: Option<&str>,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO delivery (observer, account, due, seq, attempts, leased, lane) VALUES (?1, ?2, ?3, ?4, 0, 0, ?5)",
    )?;
    insert.execute(params![observer, account, due, seq, ordering_key])?;
    Ok(())
}
