//! Signed queries that were used: one statement for all that wait, before their events are admitted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::Histogram;
use tokio::sync::{Notify, oneshot};

use super::{
    super::{
        JournalError,
        core::{Commit, commit},
        millis,
    },
    admissions::LARGEST_BATCH,
    db::{Failure, limited},
    pool::Connection,
    shared::Shared,
};
use crate::envelope::UsedQuery;

/// Enters queries, unless they are there; gives the bodies that stand. Rows are locked in their order, so that two nodes
/// do not wait for each other.
const USE: &str = "INSERT INTO used_query AS known (signature, body, until)
     SELECT DISTINCT ON (signature) signature, body, {now} + term
     FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS t (signature, body, term) ORDER BY signature
     ON CONFLICT (signature) DO UPDATE SET
         body = CASE WHEN known.until <= {now} THEN excluded.body ELSE known.body END,
         until = greatest(known.until, excluded.until)
     RETURNING signature, body";

/// Removes those that are over.
pub(super) const REMOVE: &str = "
    DELETE FROM used_query WHERE signature IN (SELECT signature FROM used_query WHERE until < $1 ORDER BY until";

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

/// Writes queries until the journal is closed, on a connection of its own.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut writer = Queries { shared: Arc::clone(&shared), connection: None };
    loop {
        let batch = shared.queries.take();
        if batch.is_empty() {
            shared.queries.added.notified().await;
            continue;
        }
        commit::write(&mut writer, batch).await;
    }
}

struct Queries {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Commit for Queries {
    type Operation = Claim;
    /// The bodies that stand, by signature.
    type Done = HashMap<[u8; 20], u64>;
    type Failure = Failure;

    fn commits(&self) -> Option<&Histogram> {
        self.shared.commits.as_ref()
    }

    async fn commit(&mut self, batch: &mut [Claim]) -> Result<Self::Done, Failure> {
        limited(enter(&self.shared, &mut self.connection, batch)).await
    }

    fn settle(&mut self, batch: Vec<Claim>, stand: Self::Done) {
        for Claim { used, respond } in batch {
            // Whoever asked may have left.
            let _ = respond.send(stand.get(&used.signature).copied().ok_or(JournalError::Closed));
        }
    }

    fn fail(&mut self, batch: Vec<Claim>, failure: &Failure) {
        self.connection = None;
        let trouble = self.shared.trouble(failure);
        for Claim { respond, .. } in batch {
            let _ = respond.send(Err(trouble.clone()));
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
