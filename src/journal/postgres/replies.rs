//! Replies: those of this node are written by one statement, those of others are looked up.

use std::{collections::HashMap, mem, sync::Arc, time::Instant};

use metrics::Histogram;
use tokio::time;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        Entry, JournalError, State,
        core::{Commit, Failure as _, Row as _, commit, row},
        millis,
        model::plain_success,
    },
    admissions::LARGEST_BATCH,
    db::{self, Failure, limited},
    pool::Connection,
    shared::{PROBE_INTERVAL, Recording, Shared},
};
use crate::platform::Body;

/// Records replies; one that the platform was answered without is offered to who sends it, or who has it wait: that may
/// know of it since it was given up. What was asked for has no owner.
const RECORD: &str = "WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bytea[], $4::text[], $6::integer[], $7::boolean[],
                             $8::bytea[], $9::bigint[])
        AS t (id, state, reply, failure, sender, due, lane, keep)
    ), locked AS (
        SELECT event.id FROM event JOIN given ON given.id = event.id ORDER BY event.id FOR UPDATE OF event
    ), done AS (
        UPDATE event SET reply = given.reply, failure = given.failure,
            state = CASE WHEN given.sender IS NOT NULL AND (given.due OR event.given_up) THEN 3 ELSE given.state END,
            observers = CASE WHEN given.sender IS NOT NULL AND (given.due OR event.given_up)
                                  AND given.sender <> ALL(event.observers)
                             THEN event.observers || given.sender ELSE event.observers END
        FROM given JOIN locked ON locked.id = given.id
        WHERE event.id = given.id AND (event.owner = $5 OR event.owner IS NULL) AND event.state = 0
        RETURNING event.id, event.account, given.sender IS NOT NULL AND (given.due OR event.given_up) AS late, given.sender,
            given.lane, given.keep
    ), offered AS (
        INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
        SELECT sender, account, {now} + keep, id, 0, false, lane FROM done WHERE late
        ON CONFLICT (event, observer) DO UPDATE SET due = excluded.due, leased = false, node = NULL
    )
    SELECT id, late FROM done";

/// The platform is answered without the reply.
const GIVE_UP: &str = "UPDATE event SET given_up = true WHERE id = $1 AND state = 0";

const REPEATED: &str = "
    WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::integer[]) AS t (id, times)
    ), locked AS (
        SELECT event.id FROM event JOIN given ON given.id = event.id ORDER BY event.id FOR UPDATE OF event
    )
    UPDATE event SET deliveries = event.deliveries + given.times
    FROM given JOIN locked ON locked.id = given.id WHERE event.id = given.id";

/// The replies of events; whether the node that answers them still lives, and whether the platform was answered without.
const REPLIES: &str = "SELECT id, state, reply, account, owner, EXISTS (
        SELECT 1 FROM node WHERE node.id = event.owner AND node.alive_until > {now}
    ), given_up FROM event WHERE id = ANY($1)";

/// What a repeat of an event is answered, or why it will not be.
type Replied = Result<Body, JournalError>;

/// What is known of an event whose responder may still run.
pub(super) enum Found {
    /// It has a reply, or will have none because its node is dead or does not run it.
    Reply(Replied),
    /// The platform was answered without the reply, which is still to come.
    GivenUp,
}

/// Says that the platform is answered without the reply, unless that is there: then gives it.
pub(super) async fn give_up(shared: &Shared, entry: &Entry) -> Result<Option<Body>, Failure> {
    let mut db = shared.pool.get().await?;
    let reply = match db.execute(GIVE_UP, &[&entry.id]).await? {
        0 => match find(&mut db, shared, &[entry.id]).await?.remove(&entry.id) {
            Some(Found::Reply(reply)) => reply.ok(),
            Some(Found::GivenUp) | None => None,
        },
        _ => None,
    };
    db.done();
    Ok(reply)
}

/// The reply of an event of an account.
pub(super) async fn recorded(shared: &Shared, account: &str, event: Uuid) -> Result<Option<Body>, Failure> {
    let mut db = shared.pool.get().await?;
    let rows = db.query("SELECT state, reply FROM event WHERE id = $1 AND account = $2", &[&event, &account]).await?;
    db.done();
    let Some(row) = rows.first() else { return Ok(None) };
    let platform = row::platform_of(event, account)?;
    Ok(row::answer(row::state(event, row.integer(0)?)?, row.text(1)?, platform))
}

/// Writes replies until the journal is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut writer = Records { shared: Arc::clone(&shared) };
    loop {
        loop {
            let repeated = mem::take(&mut shared.lock().repeated);
            if !repeated.is_empty()
                && let Err(failure) = limited(count_repeats(&shared, repeated)).await
            {
                // How often a platform asked is not worth a second try.
                shared.trouble(&failure);
            }
            let batch = shared.lock().take_records(LARGEST_BATCH);
            let trouble = batch.is_none();
            let batch = batch.unwrap_or_default();
            if batch.is_empty() {
                shared.flushed.notify_waiters();
                if trouble {
                    time::sleep(PROBE_INTERVAL / 5).await;
                }
                break;
            }
            commit::write(&mut writer, batch).await;
        }
        shared.record.notified().await;
    }
}

async fn count_repeats(shared: &Shared, repeated: HashMap<Uuid, i32>) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let (ids, times): (Vec<Uuid>, Vec<i32>) = repeated.into_iter().unzip();
    db.execute(REPEATED, &[&ids, &times]).await?;
    db.done();
    Ok(())
}

struct Records {
    shared: Arc<Shared>,
}

impl Commit for Records {
    type Operation = Recording;
    type Done = Vec<Replied>;
    type Failure = Failure;

    fn commits(&self) -> Option<&Histogram> {
        self.shared.commits.as_ref()
    }

    async fn commit(&mut self, batch: &mut [Recording]) -> Result<Vec<Replied>, Failure> {
        limited(record(&self.shared, batch)).await
    }

    fn settle(&mut self, batch: Vec<Recording>, replies: Vec<Replied>) {
        let now = Instant::now();
        let mut pending = self.shared.lock();
        for (one, reply) in batch.iter().zip(&replies) {
            pending.end(&one.entry);
            if reply.is_ok() {
                pending.acknowledged.add(now, one.entry.id);
            }
        }
        drop(pending);
        for (Recording { entry, .. }, reply) in batch.into_iter().zip(replies) {
            entry.settle(reply);
        }
    }

    fn fail(&mut self, batch: Vec<Recording>, failure: &Failure) {
        if failure.is_conflict() {
            self.shared.lock().keep_records(batch);
            return self.shared.record.notify_one();
        }
        let trouble = self.shared.trouble(failure);
        let mut pending = self.shared.lock();
        if failure.is_trouble() {
            pending.keep_records(batch);
            return self.shared.record.notify_one();
        }
        for Recording { entry, .. } in batch {
            pending.end(&entry);
            entry.settle(Err(trouble.clone()));
        }
    }
}

async fn record(shared: &Shared, batch: &[Recording]) -> Result<Vec<Replied>, Failure> {
    let mut db = shared.pool.get().await?;
    let ids: Vec<Uuid> = batch.iter().map(|one| one.entry.id).collect();
    let states: Vec<i16> = batch.iter().map(|one| row::state_number(State::of(Some(&one.reply)))).collect();
    let replies: Vec<Option<&[u8]>> =
        batch.iter().map(|one| row::reply_text(&one.reply.body).map(str::as_bytes)).collect();
    let failures: Vec<Option<String>> = batch.iter().map(|one| one.reply.failure.as_deref().map(db::text)).collect();
    let observing = shared.observing();
    let sender = |one: &Recording| Some(observing.get(&one.reply.sender.as_ref()?.observer)?.id);
    let senders: Vec<Option<i32>> = batch.iter().map(sender).collect();
    let due = |one: &Recording| one.reply.sender.as_ref().is_some_and(|sender| sender.is_due);
    let dues: Vec<bool> = batch.iter().map(due).collect();
    let waits = |one: &Recording| one.reply.sender.as_ref()?.waits.clone();
    let (users, keeps): (Vec<Option<Vec<u8>>>, Vec<i64>) = batch
        .iter()
        .map(|one| waits(one).map_or((None, 0), |wait| (Some(wait.user.as_bytes().to_vec()), millis(wait.keep))))
        .unzip();
    let mut done = Vec::with_capacity(batch.len());
    let mut late = Vec::new();
    let given: [&(dyn ToSql + Sync); 9] =
        [&ids, &states, &replies, &failures, &shared.node, &senders, &dues, &users, &keeps];
    for row in db.query(RECORD, &given).await? {
        done.push(row.try_get::<_, Uuid>(0)?);
        late.extend(row.try_get::<_, bool>(1)?.then_some(row.try_get::<_, Uuid>(0)?));
    }
    if !late.is_empty() {
        shared.arrivals.notify_waiters();
    }
    let others: Vec<Uuid> = ids.iter().filter(|id| !done.contains(id)).copied().collect();
    let mut stands = HashMap::new();
    if !others.is_empty() {
        // Another node has taken over, or this reply was written before and the news of it was lost.
        stands = find(&mut db, shared, &others).await?;
    }
    db.done();
    let gone = || Err(JournalError::storage("another node has taken the event over"));
    let result = |one: &Recording| {
        if late.contains(&one.entry.id)
            && let Some(sender) = &one.reply.sender
        {
            return Ok(plain_success(sender.record.platform));
        }
        if done.contains(&one.entry.id) {
            return Ok(one.reply.body.clone());
        }
        match stands.get(&one.entry.id) {
            Some(Found::Reply(reply)) => reply.clone(),
            Some(Found::GivenUp) | None => gone(),
        }
    };
    Ok(batch.iter().map(result).collect())
}

/// What is known of those events that need not, or must not, be waited for any longer.
pub(super) async fn find(db: &mut Connection, shared: &Shared, ids: &[Uuid]) -> Result<HashMap<Uuid, Found>, Failure> {
    let mut found = HashMap::new();
    for row in db.query(REPLIES, &[&ids]).await? {
        let id = row.try_get(0)?;
        let (owner, lives): (Option<Uuid>, bool) = (row.try_get(4)?, row.try_get(5)?);
        let platform = row::platform_of(id, row.try_get(3)?)?;
        if let Some(body) = row::answer(row::state(id, row.integer(1)?)?, row.text(2)?, platform) {
            found.insert(id, Found::Reply(Ok(body)));
        } else if !lives && owner != Some(shared.node) {
            found.insert(id, Found::Reply(Err(JournalError::Abandoned)));
        } else if row.try_get(6)? {
            found.insert(id, Found::GivenUp);
        }
    }
    Ok(found)
}
