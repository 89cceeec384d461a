//! Events that another node runs: their replies are polled for, and their owner is asked whether it runs them.
//!
//! The row of an event names the node that admitted it, and that node may not know: the commit succeeded, and the
//! connection broke before it was told. So a node that waits asks the owner.
//!
//! - An owner that does not run the event releases it; whoever delivers it next runs it. The number of deliveries fences
//!   that: each admission of a known event counts one.
//! - An owner that runs it gives up on the reply, if it is asked to and the responder has had its time.
//! - An owner that does not answer says nothing, and the platform has to retry.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time};
use tracing::warn;
use uuid::Uuid;

use super::{
    super::{Entry, JournalError, core::Running, millis},
    db::Failure,
    replies::{Found, find},
    shared::{Pending, Shared},
};
use crate::platform::{Body, DedupeKey, Key};

/// How often it is asked for replies of other nodes, and for how long at most.
const POLL_INTERVAL: Duration = Duration::from_millis(75);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often an owner is asked about an event.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// How often an owner looks for questions, while it runs something and else.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a delivery waits for the answer of an owner: what the deadline leaves of the platform's patience.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(400);

/// How long one look may take. The next is made over another connection.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

const ASK: &str = "
    INSERT INTO question (event, key, owner, patience, asked)
    SELECT event.id, given.key, event.owner, given.patience, {now}
    FROM unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS given (id, key, patience) JOIN event ON event.id = given.id
    WHERE event.state = 0 AND event.owner IS NOT NULL ORDER BY event.id
    ON CONFLICT (event) DO UPDATE
        SET owner = excluded.owner, patience = excluded.patience, asked = excluded.asked";

/// Takes the questions to this node, and removes those to nodes that are dead. Who asked to give up has left after a second.
const TAKE: &str = "
    WITH taken AS (
        DELETE FROM question WHERE owner = $1 OR asked < {now} - 60000 RETURNING event, key, patience, asked
    )
    SELECT event.id, event.deliveries, taken.key, CASE WHEN taken.asked > {now} - 1000 THEN taken.patience END
    FROM taken JOIN event ON event.id = taken.event WHERE event.owner = $1 AND event.state = 0";

const RELEASE: &str = "
    UPDATE event SET owner = NULL FROM unnest($1::uuid[], $2::integer[]) AS given (id, deliveries)
    WHERE event.id = given.id AND event.deliveries = given.deliveries AND event.owner = $3 AND event.state = 0";

const GIVE_UP: &str = "UPDATE event SET given_up = true WHERE id = ANY($1) AND owner = $2 AND state = 0";

/// An event that runs on another node, as far as the database knows.
pub(super) struct Awaited {
    key: Key,
    asked: Option<Instant>,
    waiting: Vec<Waiting>,
}

/// A delivery that waits for it.
struct Waiting {
    entry: Weak<Entry>,
    since: Instant,
    gives_up: Option<GivesUp>,
}

/// A delivery that is to be answered without the reply.
struct GivesUp {
    patience: Duration,
    confirmed: oneshot::Sender<()>,
}

/// What is asked of the owners of events.
#[derive(Default)]
struct Questions {
    events: Vec<Uuid>,
    keys: Vec<Key>,
    /// How long the responder must have run, in milliseconds, to give up on its reply; without it that is not asked.
    patience: Vec<Option<i64>>,
}

impl Awaited {
    /// Whether its owner is to be asked now.
    fn is_due(&self, now: Instant) -> bool {
        self.waiting.iter().any(|one| one.gives_up.is_some())
            || match self.asked {
                Some(asked) => now.duration_since(asked) >= ASK_INTERVAL,
                // Most replies come before it is worth a question.
                None => self.waiting.iter().any(|one| now.duration_since(one.since) >= POLL_INTERVAL),
            }
    }

    fn patience(&self) -> Option<Duration> {
        self.waiting.iter().filter_map(|one| one.gives_up.as_ref()).map(|it| it.patience).max()
    }
}

/// Waits for the reply of another node.
pub(super) fn wait_for(shared: &Shared, entry: &Arc<Entry>) {
    let Some(key) = &entry.key else { return };
    let waiting = Waiting { entry: Arc::downgrade(entry), since: Instant::now(), gives_up: None };
    let mut pending = shared.lock();
    let awaited = || Awaited { key: key.bytes, asked: None, waiting: Vec::new() };
    pending.awaited.entry(entry.id).or_insert_with(awaited).waiting.push(waiting);
    drop(pending);
    shared.await_.notify_one();
}

/// Asks the owner to give up on a reply. Returns the reply if it is there.
///
/// # Errors
/// When the owner does not confirm it in time: then nobody knows whether the responder runs.
pub(super) async fn give_up(
    shared: &Shared,
    entry: &Arc<Entry>,
    patience: Duration,
) -> Result<Option<Body>, JournalError> {
    let unknown = || JournalError::storage("the node that has the event does not say whether its responder runs");
    let (confirmed, answer) = oneshot::channel();
    {
        let mut pending = shared.lock();
        let waiting = pending.awaited.get_mut(&entry.id).map(|awaited| awaited.waiting.iter_mut());
        let own = |one: &&mut Waiting| std::ptr::eq(one.entry.as_ptr(), Arc::as_ptr(entry));
        match waiting.into_iter().flatten().find(own) {
            Some(waiting) => waiting.gives_up = Some(GivesUp { patience, confirmed }),
            None => return entry.reply().cloned().unwrap_or_else(|| Err(unknown())).map(Some),
        }
    }
    tokio::select! {
        biased;
        reply = entry.answered() => reply.clone().map(Some),
        Ok(()) = answer => Ok(None),
        () = time::sleep(ANSWER_TIMEOUT) => Err(unknown()),
    }
}

/// Polls for the replies of other nodes while one is waited for, and asks the nodes; never ends.
pub(super) async fn poll(shared: Arc<Shared>) {
    loop {
        let (events, questions) = to_ask(&mut shared.lock());
        if events.is_empty() {
            shared.await_.notified().await;
            continue;
        }
        // Whoever waits is answered in time anyhow, and the heartbeat says what is wrong.
        if let Ok(Ok(found)) = time::timeout(LOOK_TIMEOUT, ask(&shared, &events, &questions)).await {
            let mut pending = shared.lock();
            for (id, found) in found {
                pending.found(id, found);
            }
        }
        time::sleep(POLL_INTERVAL).await;
    }
}

/// The events that are waited for, and what is to be asked about them now.
fn to_ask(pending: &mut Pending) -> (Vec<Uuid>, Questions) {
    let now = Instant::now();
    pending.awaited.retain(|_, awaited| {
        let is_there = |one: &Waiting| one.entry.strong_count() > 0 && now.duration_since(one.since) < LONGEST_WAIT;
        awaited.waiting.retain(is_there);
        !awaited.waiting.is_empty()
    });
    let mut questions = Questions::default();
    for (id, awaited) in &mut pending.awaited {
        if awaited.is_due(now) {
            awaited.asked = Some(now);
            questions.events.push(*id);
            questions.keys.push(awaited.key);
            questions.patience.push(awaited.patience().map(millis));
        }
    }
    (pending.awaited.keys().copied().collect(), questions)
}

impl Pending {
    /// The database was asked for an event that is waited for.
    fn found(&mut self, id: Uuid, found: Found) {
        match found {
            Found::Reply(reply) => {
                for one in self.awaited.remove(&id).into_iter().flat_map(|awaited| awaited.waiting) {
                    if let Some(entry) = one.entry.upgrade() {
                        entry.settle(reply.clone());
                    }
                }
            }
            Found::GivenUp => {
                let waiting = self.awaited.get_mut(&id).map(|awaited| awaited.waiting.iter_mut());
                for gives_up in waiting.into_iter().flatten().filter_map(|one| one.gives_up.take()) {
                    let _ = gives_up.confirmed.send(());
                }
            }
        }
    }
}

async fn ask(shared: &Shared, events: &[Uuid], questions: &Questions) -> Result<Vec<(Uuid, Found)>, Failure> {
    let mut db = shared.pool.get().await?;
    if !questions.events.is_empty() {
        let keys: Vec<&[u8]> = questions.keys.iter().map(|key| &key[..]).collect();
        db.execute(ASK, &[&questions.events, &keys, &questions.patience]).await?;
    }
    let found = find(&mut db, shared, events).await?;
    db.done();
    Ok(found.into_iter().collect())
}

/// Answers the questions of other nodes until the journal is closed.
pub(super) async fn answer(shared: Arc<Shared>) {
    let mut looked = Instant::now();
    loop {
        time::sleep(LOOK_INTERVAL).await;
        let idle = !shared.lock().is_running();
        if (idle && looked.elapsed() < IDLE_LOOK_INTERVAL)
            || matches!(shared.health(), Err(JournalError::Storage(_) | JournalError::Newer(_)))
        {
            continue;
        }
        looked = Instant::now();
        // Who has asked asks again, and the heartbeat says what is wrong.
        let _ = time::timeout(LOOK_TIMEOUT, look(&shared)).await;
    }
}

async fn look(shared: &Shared) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let (mut given_up, mut released, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for row in db.query(TAKE, &[&shared.node]).await? {
        let (id, patience): (Uuid, Option<i64>) = (row.try_get(0)?, row.try_get(3)?);
        let Ok(bytes) = Key::try_from(row.try_get::<_, &[u8]>(2)?) else { continue };
        match shared.lock().running(&DedupeKey { bytes, window: None }) {
            Some(Running::Entry(entry)) if entry.id == id => {
                let patience = patience.and_then(|patience| u64::try_from(patience).ok()).map(Duration::from_millis);
                if patience.is_some_and(|patience| entry.give_up(patience)) {
                    given_up.push(id);
                }
            }
            // It may be about to run.
            Some(Running::Asking(_)) => {}
            Some(Running::Entry(_)) | None => {
                released.push(id);
                deliveries.push(row.try_get::<_, i32>(1)?);
            }
        }
    }
    if !given_up.is_empty() {
        db.execute(GIVE_UP, &[&given_up, &shared.node]).await?;
    }
    if !released.is_empty() {
        let count = db.execute(RELEASE, &[&released, &deliveries, &shared.node]).await?;
        if count > 0 {
            warn!(
                count,
                "journal: released {count} events that were admitted while the connection to PostgreSQL broke; their \
                 responders run with the next delivery"
            );
        }
    }
    db.done();
    Ok(())
}
