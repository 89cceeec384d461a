//! What goes on beside the deliveries: retention, making room, the past for new observers.

use std::{
    collections::HashMap,
    ops::AddAssign,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    super::{JournalError, Millis, millis},
    health::Counts,
    missing::{self, Left},
};

/// How often rows are counted, and what is old is looked for.
pub(crate) const ROUND_INTERVAL: Duration = Duration::from_secs(5);

/// Rows that are removed or added in one transaction: a commit of others waits no longer than that takes.
pub(crate) const ROWS: usize = 500;

/// Keys are kept so long at least, in milliseconds: longer than a platform repeats a delivery.
pub(crate) const KEYS_KEPT: Millis = 3_600_000;

/// A pause that is longer than any configured one comes of a clock that jumped; nobody waits that long.
pub(crate) const LONGEST_PAUSE: Millis = 2 * 86_400_000;

/// Shares of the largest size: from there on the oldest events are removed, down to there.
const SHRINK_FROM: f64 = 0.95;
const SHRINK_TO: f64 = 0.9;

/// Rows that are old at a time of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Old {
    DeadLetters,
    Leases,
    UsedQueries,
}

/// A store that is looked after. Each step is a transaction, or some; it ends early when the journal is closed.
pub(crate) trait Maintain: Send {
    type Failure: Send;

    /// Whether its size is measured all the time, and not only once in a round.
    const IS_MEASURED_OFTEN: bool;

    fn counts(&self) -> &Counts;

    /// Waits until it is time to look again; false once the journal is closed.
    fn pause(&mut self) -> impl Future<Output = bool> + Send;

    /// What is done often. False when the store has trouble, and nothing else is to be done.
    fn look(&mut self) -> impl Future<Output = Result<bool, Self::Failure>> + Send;

    /// Counts what there is, and reports observers that are missing; gives the time, by the clock of the store.
    fn count(&mut self) -> impl Future<Output = Result<Millis, Self::Failure>> + Send;

    /// Removes up to [`ROWS`] rows from before a time; gives their number.
    fn remove(&mut self, old: Old, before: Millis) -> impl Future<Output = Result<usize, Self::Failure>> + Send;

    /// Removes up to [`ROWS`] rows of an observer that has been missing since before a time, and then the observer. `None`
    /// when there is none, or another node is at it.
    fn remove_missing(
        &mut self,
        before: Millis,
    ) -> impl Future<Output = Result<Option<(String, Left)>, Self::Failure>> + Send;

    /// Removes events that nobody needs, the oldest first: those from before a time, or as many as there are too many.
    fn remove_events(&mut self, which: Which) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Removes keys that no platform repeats any more: of events from before a time, or of those that were removed for
    /// being too many.
    fn remove_keys(&mut self, which: Which) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Removes up to [`ROWS`] of what is kept for observers that are missing, the oldest first; false when nothing is left.
    fn drop_orphans(
        &mut self,
        dropped: &mut HashMap<String, Left>,
    ) -> impl Future<Output = Result<bool, Self::Failure>> + Send;

    /// Offers the next events of the past to an observer that begins with them; false when there are none left.
    fn backfill(&mut self) -> impl Future<Output = Result<bool, Self::Failure>> + Send;

    /// What is to be said of a failure, unless that has been said.
    fn explain(&self, failure: Self::Failure) -> Option<JournalError>;
}

/// Which events are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Before(Millis),
    TooMany,
}

impl Which {
    /// Whether all are removed that had to be.
    pub(crate) fn is_enough(self, counts: &Counts) -> bool {
        self == Self::TooMany && !counts.is_above(SHRINK_TO)
    }
}

impl AddAssign for Left {
    fn add_assign(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.dead += other.dead;
    }
}

/// Looks after a store until the journal is closed.
pub(crate) async fn run<M: Maintain>(store: &mut M, retention: Duration, mut next_round: Instant) {
    let retention = millis(retention);
    while store.pause().await {
        if let Err(failure) = look(store, retention, &mut next_round).await
            && let Some(failure) = store.explain(failure)
        {
            warn!("maintenance: {failure}");
        }
    }
}

async fn look<M: Maintain>(store: &mut M, retention: Millis, next_round: &mut Instant) -> Result<(), M::Failure> {
    if !store.look().await? {
        return Ok(());
    }
    let due = *next_round <= Instant::now();
    if due {
        *next_round = Instant::now() + ROUND_INTERVAL;
        let now = store.count().await?;
        expire(store, now, now - retention).await?;
    }
    if (due || M::IS_MEASURED_OFTEN) && store.counts().is_above(SHRINK_FROM) {
        shrink(store).await?;
    }
    while store.backfill().await? {}
    Ok(())
}

/// Removes what is older than the retention.
async fn expire<M: Maintain>(store: &mut M, now: Millis, before: Millis) -> Result<(), M::Failure> {
    let mut removed: HashMap<String, Left> = HashMap::new();
    let done = loop {
        match store.remove_missing(before).await {
            Ok(Some((name, left))) => *removed.entry(name).or_default() += left,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    removed.iter().for_each(|(name, left)| missing::removed(name, *left));
    done?;
    missing::expired(remove(store, Old::DeadLetters, before).await?);
    remove(store, Old::Leases, now).await?;
    remove(store, Old::UsedQueries, now).await?;
    store.remove_events(Which::Before(before)).await?;
    store.remove_keys(Which::Before(before.min(now - KEYS_KEPT))).await
}

/// Removes rows, some at a time, until none are left; gives their number.
async fn remove<M: Maintain>(store: &mut M, old: Old, before: Millis) -> Result<u64, M::Failure> {
    let mut removed = 0;
    loop {
        let some = store.remove(old, before).await?;
        removed += some as u64;
        if some < ROWS {
            return Ok(removed);
        }
    }
}

/// Removes the oldest events until the store is small enough again: those that nobody needs, and when there are none left,
/// those that only observers need that are missing.
async fn shrink<M: Maintain>(store: &mut M) -> Result<(), M::Failure> {
    let mut dropped = HashMap::new();
    let mut done = store.remove_events(Which::TooMany).await;
    while done.is_ok() && !Which::TooMany.is_enough(store.counts()) {
        done = match store.drop_orphans(&mut dropped).await {
            Ok(true) => store.remove_events(Which::TooMany).await,
            Ok(false) => break,
            Err(failure) => Err(failure),
        };
    }
    dropped.iter().for_each(|(name, left)| missing::dropped(name, *left));
    done?;
    store.remove_keys(Which::TooMany).await
}
