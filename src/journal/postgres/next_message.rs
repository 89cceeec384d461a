//! Late replies that wait for the next message of a user: observations of one observer, with the user as ordering key.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    super::{
        Recipient, ReplySender, TakenReply, Wait, WaitingReply,
        core::{Row as _, row},
        millis,
    },
    db::Failure,
    shared::Shared,
};
use crate::platform::{self, Body};

/// A reply is waited for which is still to come.
const AWAIT: &str = "INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
    SELECT $1, account, {now} + $4, id, 0, false, $3 FROM event WHERE id = $2 AND state = 0
    ON CONFLICT (event, observer) DO NOTHING";

/// What a dead node has run ends with it.
const LOOK: &str = "SELECT event.state = 3 FROM delivery JOIN event ON event.id = delivery.event
    WHERE delivery.observer = $1 AND delivery.account = $2 AND delivery.lane = $3 AND NOT delivery.leased
      AND delivery.due > {now} AND event.id IS DISTINCT FROM $4::uuid
      AND (event.state = 3 OR event.state = 0 AND (event.owner = $5 OR EXISTS (
          SELECT 1 FROM node WHERE node.id = event.owner AND node.alive_until > {now})))
    ORDER BY event.state DESC LIMIT 1";

/// What another node takes at the moment is passed over.
const TAKE: &str = "WITH own AS MATERIALIZED (
        SELECT id FROM event WHERE id = $4 AND owner = $5 AND state = 0 AND NOT given_up FOR UPDATE
    ), ready AS MATERIALIZED (
        SELECT delivery.event, event.account, event.reply FROM delivery JOIN event ON event.id = delivery.event
        WHERE delivery.observer = $1 AND delivery.account = $2 AND delivery.lane = $3 AND NOT delivery.leased
          AND delivery.due > {now} AND event.state = 3 AND event.id <> $4
        ORDER BY delivery.event LIMIT 1 FOR UPDATE OF delivery SKIP LOCKED
    ), gone AS (
        DELETE FROM delivery USING ready, own WHERE delivery.event = ready.event AND delivery.observer = $1
        RETURNING delivery.event
    ), noted AS (
        UPDATE event SET failure = $6 FROM gone WHERE event.id = gone.event
    )
    UPDATE event SET state = 1, reply = ready.reply, failure = $7::text || ready.event
    FROM own, ready, gone WHERE event.id = own.id
    RETURNING ready.event, ready.account, ready.reply";

fn observer(shared: &Shared, name: &Arc<str>) -> Option<i32> {
    shared.observing().get(name).map(|observing| observing.id)
}

pub(super) async fn await_reply(shared: &Shared, sender: &ReplySender, event: Uuid) -> Result<(), Failure> {
    let (Some(observer), Some(Wait { user, keep })) = (observer(shared, &sender.observer), &sender.waits) else {
        return Ok(());
    };
    let mut db = shared.pool.get().await?;
    db.execute(AWAIT, &[&observer, &event, &user.as_bytes(), &millis(*keep)]).await?;
    db.done();
    Ok(())
}

/// What waits of a user, but for an event.
pub(super) async fn look(
    shared: &Shared,
    recipient: &Recipient,
    except: Option<Uuid>,
) -> Result<WaitingReply, Failure> {
    let Some(observer) = observer(shared, &recipient.observer) else { return Ok(WaitingReply::Nothing) };
    let mut db = shared.pool.get().await?;
    let (account, user) = (&*recipient.account, recipient.user.as_bytes());
    let rows = db.query(LOOK, &[&observer, &account, &user, &except, &shared.node]).await?;
    db.done();
    Ok(match rows.first().map(|row| row.try_get(0)).transpose()? {
        Some(true) => WaitingReply::Ready,
        Some(false) => WaitingReply::Coming,
        None => WaitingReply::Nothing,
    })
}

/// Makes the oldest late reply of a user that of an event, which this node runs.
pub(super) async fn take(shared: &Shared, recipient: &Recipient, event: Uuid) -> Result<Option<TakenReply>, Failure> {
    let Some(observer) = observer(shared, &recipient.observer) else { return Ok(None) };
    let mut db = shared.pool.get().await?;
    let (account, user) = (&*recipient.account, recipient.user.as_bytes());
    let (of_late, of_taker) = (TakenReply::note_of_late(event), TakenReply::NOTE_OF_TAKER);
    let rows = db.query(TAKE, &[&observer, &account, &user, &event, &shared.node, &of_late, &of_taker]).await?;
    db.done();
    let Some(row) = rows.first() else { return Ok(None) };
    let late = row.id(0)?;
    let platform = row::platform_of(late, &row.string(1)?)?;
    let body = row.text(2)?.map_or_else(|| Body::Plain(platform::plain_success(platform)), Body::Document);
    Ok(Some(TakenReply { event: late, body }))
}
