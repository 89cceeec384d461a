//! Late replies that wait for the next message of a user: observations of one observer, with the user as ordering key.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    super::{
        Millis, Recipient, ReplySender, TakenReply, Wait, WaitingReply,
        core::{Row as _, row},
        id::number,
        millis,
    },
    db, events, observers,
    shared::Shared,
};
use crate::platform::{self, Body};

/// Offers an event to the observer that has its late reply.
pub(super) fn offer_late(
    db: &Connection,
    observer: i64,
    sender: &ReplySender,
    event: Uuid,
    now: Millis,
) -> rusqlite::Result<()> {
    let (seq, account) = (db::to_sql(number(event)), &sender.record.account);
    let Some(Wait { user, keep }) = &sender.waits else {
        return observers::add(db, observer, account, seq, now);
    };
    observers::wanted_by(db, observer, seq)?;
    let due = now.saturating_add(millis(*keep));
    // It was waited for since it was given up.
    let mut ready = db.prepare_cached(
        "UPDATE delivery SET due = ?5, leased = 0 WHERE observer = ?1 AND account = ?2 AND lane = ?3 AND seq = ?4",
    )?;
    match ready.execute(params![observer, &**account, &**user, seq, due])? {
        0 => events::offer(db, observer, account, due, seq, Some(user)),
        _ => Ok(()),
    }
}

/// Notes that a reply is waited for which is still to come.
pub(super) fn await_reply(
    db: &Connection,
    observer: i64,
    sender: &ReplySender,
    event: Uuid,
    now: Millis,
) -> rusqlite::Result<()> {
    let Some(Wait { user, keep }) = &sender.waits else { return Ok(()) };
    let mut insert = db.prepare_cached(
        "INSERT INTO delivery (observer, account, due, seq, attempts, leased, lane) SELECT ?1, ?2, ?5, ?4, 0, 0, ?3
         WHERE EXISTS (SELECT 1 FROM event WHERE seq = ?4 AND state = 0)
           AND NOT EXISTS (SELECT 1 FROM delivery WHERE observer = ?1 AND account = ?2 AND lane = ?3 AND seq = ?4)",
    )?;
    let (seq, due) = (db::to_sql(number(event)), now.saturating_add(millis(*keep)));
    insert.execute(params![observer, &*sender.record.account, &**user, seq, due]).map(drop)
}

/// What waits of a user, but for an event.
pub(super) fn look(
    db: &Connection,
    shared: &Shared,
    observer: i64,
    recipient: &Recipient,
    except: Option<Uuid>,
) -> rusqlite::Result<WaitingReply> {
    let mut query = db.prepare_cached(
        "SELECT event.state, event.id FROM delivery JOIN event USING (seq)
         WHERE observer = ?1 AND delivery.account = ?2 AND lane = ?3 AND leased = 0 AND due > ?4 AND event.state IN (0, 3)
           AND seq IS NOT ?5
         ORDER BY event.state DESC",
    )?;
    let seq = except.map(|event| db::to_sql(number(event)));
    let mut rows = query.query(params![observer, &*recipient.account, &*recipient.user, shared.now(), seq])?;
    while let Some(row) = rows.next()? {
        if row.integer(0)? != 0 {
            return Ok(WaitingReply::Ready);
        }
        // What the process before has run ends with it.
        let id = row.id(1)?;
        if shared.lock().in_flight.entries().any(|running| running.id == id) {
            return Ok(WaitingReply::Coming);
        }
    }
    Ok(WaitingReply::Nothing)
}

/// Makes the oldest late reply of a user that of an event.
pub(super) fn take(
    db: &Connection,
    observer: i64,
    recipient: &Recipient,
    event: Uuid,
    now: Millis,
) -> rusqlite::Result<Option<TakenReply>> {
    let mut oldest = db.prepare_cached(
        "SELECT seq, event.id, event.account, event.reply FROM delivery JOIN event USING (seq)
         WHERE observer = ?1 AND delivery.account = ?2 AND lane = ?3 AND leased = 0 AND due > ?4 AND event.state = 3
           AND seq <> ?5
         ORDER BY seq LIMIT 1",
    )?;
    let own = db::to_sql(number(event));
    let values = params![observer, &*recipient.account, &*recipient.user, now, own];
    let found = oldest.query_row(values, |row| Ok((row.integer(0)?, row.id(1)?, row.string(2)?, row.text(3)?)));
    let Some((seq, late, account, reply)) = found.optional()? else { return Ok(None) };
    let mut answer =
        db.prepare_cached("UPDATE event SET state = 1, reply = ?2, failure = ?3 WHERE seq = ?1 AND state = 0")?;
    if answer.execute(params![own, reply, format!("{}{late}", TakenReply::NOTE_OF_TAKER)])? == 0 {
        return Ok(None);
    }
    let mut done =
        db.prepare_cached("DELETE FROM delivery WHERE observer = ?1 AND account = ?2 AND lane = ?3 AND seq = ?4")?;
    done.execute(params![observer, &*recipient.account, &*recipient.user, seq])?;
    let mut note = db.prepare_cached("UPDATE event SET failure = ?2 WHERE seq = ?1")?;
    note.execute(params![seq, TakenReply::note_of_late(event)])?;
    let platform = row::platform_of(late, &account)?;
    let body = reply.map_or_else(|| Body::Plain(platform::plain_success(platform)), Body::Document);
    Ok(Some(TakenReply { event: late, body }))
}
