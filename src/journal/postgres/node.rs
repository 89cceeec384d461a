//! A node among others: its heartbeat, which also notices when the database is back, and its end.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::time;
use uuid::Uuid;

use super::{
    super::JournalError,
    acknowledged,
    db::{Failure, limited, sql},
    observers::{self, Observing},
    pool::Connection,
    schema,
    shared::{PROBE_INTERVAL, Shared, Start},
};

/// How often a node writes its heartbeat, and how long one is valid, in milliseconds.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
const ALIVE_MILLIS: i64 = 4_000;

/// How long one may take. What stalls is replaced before the other nodes take this one for dead.
const BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long this node counts on a heartbeat: what it has begun by then begins before another may take it over.
pub(super) const COUNTED_ON: Duration = Duration::from_millis(3_500);

/// Returns whether the heartbeat before was no longer valid: then others may have taken over what this node has.
const ALIVE_UNTIL: &str = "WITH before AS (SELECT alive_until FROM node WHERE id = $1)
     INSERT INTO node (id, alive_until) VALUES ($1, {clock} + $2)
     ON CONFLICT (id) DO UPDATE SET alive_until = {clock} + $2
     RETURNING coalesce((SELECT alive_until < {clock} FROM before), true)";

const ENTER: &str = "INSERT INTO node (id, alive_until) VALUES ($1, {clock} + $2) ON CONFLICT (id) DO NOTHING";

const SEEN: &str = "UPDATE observer SET seen = {now} WHERE name = ANY($1) RETURNING name, id, in_order";

/// How long the tables of a large database may take to be updated.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(1800);

/// What it takes to store an event, unless something else is in the way: a lock of each table, and room for this many
/// bytes.
const LOCKS: &str = "SET LOCAL lock_timeout = '1s';
    LOCK TABLE event, dedupe, delivery, dead, slot, used_query IN ROW EXCLUSIVE MODE";
const PROBE: &str = "INSERT INTO event (id, account, type, form, payload, received, deliveries, state, observers)
     VALUES ($1, '', '', 0, $2, 0, 1, 1, '{}')";
const PROBE_SIZE: usize = 64 << 10;

/// How long this node surely lives in the eyes of the others.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    until: Option<Instant>,
    number: u64,
}

impl Lifetime {
    /// A heartbeat was written that was sent then.
    fn prolong(&mut self, sent: Instant) {
        if self.current().is_none() {
            self.number += 1;
        }
        self.until = Some(sent + COUNTED_ON);
    }

    /// The number of this life: nobody can have taken over what the node owned since it last had this number.
    pub(super) fn current(&self) -> Option<u64> {
        (self.until? > Instant::now()).then_some(self.number)
    }
}

/// Writes a heartbeat every second; reconnects when the connection is lost.
pub(super) async fn heartbeat(shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let beaten = beat(&shared, &mut connection).await;
        let pause = match beaten {
            Ok(()) => {
                shared.recovered();
                BEAT_INTERVAL
            }
            Err(failure) => {
                connection = None;
                shared.pool.clear();
                shared.trouble(&failure);
                PROBE_INTERVAL
            }
        };
        shared.start.send_replace(Start::Over);
        tokio::select! {
            () = time::sleep(pause) => {}
            // Another task has met an error: check again, after a pause.
            () = async { shared.look.notified().await; time::sleep(PROBE_INTERVAL / 2).await } => {}
        }
    }
}

async fn beat(shared: &Shared, connection: &mut Option<Connection>) -> Result<(), Failure> {
    let db = match connection {
        Some(db) => db,
        None => {
            let mut fresh = shared.pool.connect().await?;
            let set_up = time::timeout(SET_UP_TIMEOUT, set_up(shared, &mut fresh));
            set_up.await.unwrap_or(Err(Failure::Slow))?;
            limited(acknowledged::check(shared, &mut fresh)).await?;
            connection.insert(fresh)
        }
    };
    let sent = Instant::now();
    let beaten = time::timeout(BEAT_TIMEOUT, db.query(ALIVE_UNTIL, &[&shared.node, &ALIVE_MILLIS])).await;
    let was_away = beaten.unwrap_or(Err(Failure::Slow))?.first().map_or(Ok(false), |row| row.try_get(0))?;
    shared.alive(sent, was_away);
    shared.lifetime().prolong(sent);
    limited(see_observers(shared, db)).await?;
    if shared.has_trouble() {
        limited(probe(db)).await?;
    }
    Ok(())
}

/// Records that this node has its observers.
async fn see_observers(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let wanted = shared.wanted();
    let names: Vec<&str> = wanted.iter().map(|observer| &*observer.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let rows = db.query(SEEN, &[&names]).await?;
    if rows.len() < names.len() {
        return set_up(shared, db).await;
    }
    let mut observers = shared.observers.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        // Another version of the program may have changed the order of an observer.
        if let Some(observing) = observers.get_mut(row.try_get::<_, &str>(0)?) {
            *observing = Observing { id: row.try_get(1)?, in_order: row.try_get(2)? };
        }
    }
    Ok(())
}

/// Whether an event could be stored. That the database answers is not enough: a table may be locked, or a disk full.
async fn probe(db: &mut Connection) -> Result<(), Failure> {
    let mut payload = vec![0; PROBE_SIZE];
    // Nothing that could be compressed.
    getrandom::fill(&mut payload).map_err(|failure| Failure::Journal(JournalError::storage(failure)))?;
    let changes = db.client.transaction().await?;
    changes.batch_execute(LOCKS).await?;
    changes.execute(PROBE, &[&Uuid::now_v7(), &payload]).await?;
    changes.rollback().await?;
    Ok(())
}

/// Migrates the tables, and inserts the node and its observers.
async fn set_up(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let changes = db.client.transaction().await?;
    // What there is to do may be more than a statement has time for.
    changes.batch_execute("SET LOCAL statement_timeout = 0").await?;
    schema::migrate(&changes).await?;
    // The heartbeat that follows tells whether others have taken anything over.
    changes.execute(&sql(ENTER), &[&shared.node, &ALIVE_MILLIS]).await?;
    observers::register(shared, &changes).await?;
    changes.commit().await?;
    Ok(())
}

/// Enters the observers that this node has now.
pub(super) async fn register(shared: &Shared) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let changes = db.client.transaction().await?;
    observers::register(shared, &changes).await?;
    changes.commit().await?;
    db.done();
    Ok(())
}

/// This node leaves: others need not wait for it.
pub(super) async fn leave(shared: &Shared) -> Result<(), Failure> {
    const LEAVE: &str = "UPDATE node SET alive_until = {now} - 1 WHERE id = $1";
    const RELEASE: &str = "UPDATE delivery SET leased = false, node = NULL, due = {now} WHERE node = $1 AND leased AND observer = ANY($2)";
    let observers = shared.observing();
    let ids: Vec<i32> = observers.values().map(|observing| observing.id).collect();
    let mut db = shared.pool.get().await?;
    limited(async {
        db.execute(RELEASE, &[&shared.node, &ids]).await?;
        db.execute(LEAVE, &[&shared.node]).await
    })
    .await?;
    db.done();
    Ok(())
}
