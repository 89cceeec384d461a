//! Signed queries that were used: one statement for all that gathered, before their events are admitted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::{
    super::{JournalError, millis},
    db::{Connection, Failure, limited, now},
    writer::Shared,
};
use crate::envelope::UsedQuery;

/// How many are written together, at most.
const LARGEST_BATCH: usize = 256;

/// Enters queries, unless they are there; gives the bodies that stand. Rows are locked in their order, so that two nodes
/// do not wait for each other.
const USE: &str = concat!(
    "INSERT INTO used_query AS known (signature, body, until)
     SELECT DISTINCT ON (signature) signature, body, ",
    now!(),
    " + term
     FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS t (signature, body, term) ORDER BY signature
     ON CONFLICT (signature) DO UPDATE SET
         body = CASE WHEN known.until <= ",
    now!(),
    " THEN excluded.body ELSE known.body END,
         until = greatest(known.until, excluded.until)
     RETURNING signature, body"
);

/// Removes some of those that are over.
pub(super) const REMOVE: &str = "
    DELETE FROM used_query WHERE signature IN (
        SELECT signature FROM used_query WHERE until < $1 ORDER BY until LIMIT $2)";

/// The other nodes see a query as soon as it is entered. It need not be on the disk by then: the commit of its event, which
/// comes after it, brings it there.
const SESSION: &str = "SET synchronous_commit = off";

/// Queries that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queries: Mutex<Vec<Claim>>,
    added: Notify,
}

#[derive(Debug)]
struct Claim {
    used: UsedQuery,
    respond: oneshot::Sender<Result<u64, JournalError>>,
}

impl Pending {
    /// Adds a query; the receiver gets the body that stands.
    pub(super) fn add(&self, used: UsedQuery) -> oneshot::Receiver<Result<u64, JournalError>> {
        let (respond, response) = oneshot::channel();
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).push(Claim { used, respond });
        self.added.notify_one();
        response
    }

    fn take(&self) -> Vec<Claim> {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queries.len().min(LARGEST_BATCH);
        queries.drain(..count).collect()
    }
}

/// Writes queries, for ever, on a connection of its own.
pub(super) async fn write(shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let batch = shared.queries.take();
        if batch.is_empty() {
            shared.queries.added.notified().await;
            continue;
        }
        let mut written = limited(enter(&shared, &mut connection, &batch)).await;
        if written.as_ref().is_err_and(Failure::is_conflict) {
            written = limited(enter(&shared, &mut connection, &batch)).await;
        }
        let trouble = written.as_ref().err().map(|failure| shared.trouble(failure));
        if trouble.is_some() {
            connection = None;
        }
        let stand = written.unwrap_or_default();
        for Claim { used, respond } in batch {
            let body = stand.get(&used.signature).copied();
            // Whoever asked may have left.
            let _ = respond.send(body.ok_or_else(|| trouble.clone().unwrap_or(JournalError::Closed)));
        }
    }
}

async fn enter(
    shared: &Shared,
    connection: &mut Option<Connection>,
    batch: &[Claim],
) -> Result<HashMap<[u8; 20], u64>, Failure> {
    let db = match connection {
        Some(db) if !db.client.is_closed() => db,
        _ => {
            let fresh = shared.pool.connect().await?;
            fresh.client.batch_execute(SESSION).await?;
            connection.insert(fresh)
        }
    };
    let signatures: Vec<&[u8]> = batch.iter().map(|claim| &claim.used.signature[..]).collect();
    let bodies: Vec<i64> = batch.iter().map(|claim| claim.used.body.cast_signed()).collect();
    let terms: Vec<i64> = batch.iter().map(|claim| millis(claim.used.term)).collect();
    let mut stand = HashMap::with_capacity(batch.len());
    for row in db.query(USE, &[&signatures, &bodies, &terms]).await? {
        if let Ok(signature) = row.try_get::<_, &[u8]>(0)?.try_into() {
            stand.insert(signature, row.try_get::<_, i64>(1)?.cast_unsigned());
        }
    }
    Ok(stand)
}
