//! What a journal that is full still answers: repeats of what it has answered, which take no room.

use uuid::Uuid;

use super::{
    super::{
        Admission, Entry,
        core::{Row as _, row},
        model::plain_success,
    },
    db::{Failure, limited},
    shared::Shared,
};
use crate::{event::Platform, platform::DedupeKey};

const ANSWERED: &str = "
    SELECT event.id, event.deliveries, event.state, event.reply FROM dedupe LEFT JOIN event ON event.id = dedupe.id
    WHERE dedupe.key = $1 AND (dedupe.until IS NULL OR dedupe.until > {now})";

/// The event with a key, if it is answered.
pub(super) async fn answered(
    shared: &Shared,
    key: &DedupeKey,
    platform: Platform,
) -> Result<Option<Admission>, Failure> {
    let found = limited(async {
        let mut db = shared.pool.get().await?;
        let rows = db.query(ANSWERED, &[&&key.bytes[..]]).await?;
        db.done();
        Ok(rows)
    });
    let rows = found.await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let known = |id, deliveries, reply| Some(Admission::Known(Entry::answered_with(id, deliveries, reply)));
    if row.number(2)?.is_none() {
        // Its event is no longer kept: all that is known is that it was answered.
        return Ok(known(Uuid::nil(), 1, plain_success(platform)));
    }
    let id = row.id(0)?;
    let Some(reply) = row::answer(row::state(id, row.integer(2)?)?, row.text(3)?, platform) else { return Ok(None) };
    // Counted with the next replies.
    *shared.lock().repeated.entry(id).or_default() += 1;
    shared.record.notify_one();
    Ok(known(id, row.count(1)? + 1, reply))
}
