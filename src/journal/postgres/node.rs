//! A node among others: its heartbeat, which also notices when the database is back, and its end.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time;

use super::{
    db::{Connection, Failure, limited, sql},
    observers::{self, Observing},
    schema,
    shared::{PROBE_INTERVAL, Shared, Start},
};

/// How often a node says that it lives, and for how long it is believed, in milliseconds.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
const ALIVE: i64 = 4_000;

const ALIVE_UNTIL: &str = "INSERT INTO node (id, alive_until) VALUES ($1, {now} + $2)
     ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until";

const SEEN: &str = "UPDATE observer SET seen = {now} WHERE name = ANY($1) RETURNING name, id, in_order";

/// Says every second that this node lives; connects anew when the connection is lost.
pub(super) async fn heartbeat(shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let beaten = limited(beat(&shared, &mut connection)).await;
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
            // Somebody else has met trouble: look again, but not at once and again.
            () = async { shared.look.notified().await; time::sleep(PROBE_INTERVAL / 2).await } => {}
        }
    }
}

async fn beat(shared: &Shared, connection: &mut Option<Connection>) -> Result<(), Failure> {
    let db = match connection {
        Some(db) => db,
        None => {
            let mut fresh = shared.pool.connect().await?;
            set_up(shared, &mut fresh).await?;
            connection.insert(fresh)
        }
    };
    db.execute(ALIVE_UNTIL, &[&shared.node, &ALIVE]).await?;
    let names: Vec<&str> = shared.wanted.iter().map(|observer| &*observer.name).collect();
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

/// Brings the tables up to date and enters the node and its observers.
async fn set_up(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let changes = db.client.transaction().await?;
    schema::migrate(&changes).await?;
    changes.execute(&sql(ALIVE_UNTIL), &[&shared.node, &ALIVE]).await?;
    observers::register(shared, &changes).await?;
    changes.commit().await?;
    Ok(())
}

/// This node is gone: others need not wait for it.
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
