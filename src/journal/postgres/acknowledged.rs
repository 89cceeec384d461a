//! What was acknowledged lately, to notice that the database has lost it: a standby that was promoted lacks the last
//! transactions, or a backup was restored. Nobody can bring it back, so the log names it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tracing::error;
use uuid::Uuid;

use super::{db::Failure, pool::Connection, shared::Shared};

/// How long, and how many: hardly a standby is further behind, no retention is over by then, and it costs two megabytes at most.
const KEPT: Duration = Duration::from_secs(40);
const MAX: usize = 50_000;

/// Events that one line of the log names.
const NAMED: usize = 50;

/// Which of these events are gone, and which have no reply any more.
const LOST: &str = "SELECT lately.id, event.id IS NULL FROM unnest($1::uuid[]) AS lately (id)
     LEFT JOIN event ON event.id = lately.id WHERE event.id IS NULL OR event.state = 0";

/// Events with a durable reply, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(VecDeque<(Instant, Uuid)>);

impl Acknowledged {
    pub(super) fn add(&mut self, now: Instant, event: Uuid) {
        while self.0.len() >= MAX || self.0.front().is_some_and(|(since, _)| now.duration_since(*since) > KEPT) {
            self.0.pop_front();
        }
        self.0.push_back((now, event));
    }

    fn lately(&self) -> Vec<Uuid> {
        self.0.iter().filter(|(since, _)| since.elapsed() <= KEPT).map(|(_, event)| *event).collect()
    }
}

/// Looks for them on a new connection, which may lead to another server than the one before.
pub(super) async fn check(shared: &Shared, db: &mut Connection) -> Result<(), Failure> {
    let lately = shared.lock().acknowledged.lately();
    if lately.is_empty() {
        return Ok(());
    }
    let (mut events, mut replies) = (Vec::new(), Vec::new());
    for row in db.query(LOST, &[&lately]).await? {
        let lost = if row.try_get(1)? { &mut events } else { &mut replies };
        lost.push(row.try_get(0)?);
    }
    if events.is_empty() && replies.is_empty() {
        return Ok(());
    }
    // Each is named once.
    shared.lock().acknowledged = Acknowledged::default();
    shared.counts.lost(events.len() + replies.len());
    for events in events.chunks(NAMED) {
        error!(
            count = events.len(),
            "PostgreSQL has LOST {} events that were acknowledged: {}; the database is a standby that was promoted without \
             the last transactions, or an old copy; platforms do not send these events again, and a repeat of one is new",
            events.len(),
            names(events)
        );
    }
    for events in replies.chunks(NAMED) {
        error!(
            count = events.len(),
            "PostgreSQL has LOST the replies of {} events that were answered: {}; the database is a standby that was promoted \
             without the last transactions, or an old copy; a repeat of one runs its responder again",
            events.len(),
            names(events)
        );
    }
    Ok(())
}

fn names(events: &[Uuid]) -> String {
    events.iter().map(Uuid::to_string).collect::<Vec<_>>().join(" ")
}
