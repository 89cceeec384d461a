//! Maintenance, beside the deliveries: retention, making room, backfill for new observers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    super::{JournalError, Millis, millis},
    health::Counts,
    missing::{self, Left},
    steps::{Old, Outcome, Step},
};

/// How often rows are counted, and old ones are looked for.
pub(crate) const ROUND_INTERVAL: Duration = Duration::from_secs(5);

/// Rows that are removed or added in one transaction: a commit of others waits no longer than that takes.
pub(crate) const MAX_ROWS: usize = 500;

/// Keys are kept so long at least, in milliseconds: longer than a platform repeats a delivery.
pub(crate) const KEY_RETENTION: Millis = 3_600_000;

/// An event whose process ended is given to who answers it in the background so long after it came, in milliseconds: when the
/// platform does not retry any more, and what a retry has started had its time. And not when it is older than that.
pub(crate) const UNANSWERED_AFTER: Millis = 60_000;
pub(crate) const UNANSWERED_UNTIL: Millis = 3_600_000;

/// A pause longer than any that can be configured: the clock has jumped, so it is cut short.
pub(crate) const LONGEST_PAUSE: Millis = 2 * 86_400_000;

/// Shares of the largest size: from there on the oldest events are removed, down to there.
const SHRINK_FROM: f64 = 0.95;
const SHRINK_TO: f64 = 0.9;

/// A store that is maintained. Everything ends early when the journal is closed.
pub(crate) trait Maintain: Send {
    type Failure: Send;

    /// Whether its size is measured all the time, and not only once in a round.
    const IS_MEASURED_OFTEN: bool;

    fn counts(&self) -> &Counts;

    /// Waits for the next round; false once the journal is closed.
    fn pause(&mut self) -> impl Future<Output = bool> + Send;

    /// What is done often. False when the store has failed, and nothing else can be done.
    fn look(&mut self) -> impl Future<Output = Result<bool, Self::Failure>> + Send;

    /// Counts what there is, and reports missing observers; returns the time, by the clock of the store.
    fn count(&mut self) -> impl Future<Output = Result<Millis, Self::Failure>> + Send;

    /// Runs a step in a transaction, unless it is not due, or another node runs it.
    fn run(&mut self, step: Step) -> impl Future<Output = Result<Outcome, Self::Failure>> + Send;

    /// The step of the backfill, unless there is none.
    fn backfill(&self) -> Option<Step>;

    /// Removes events that are not needed, the oldest first: those from before a time, or as many as there are too many.
    fn remove_events(&mut self, which: Which) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// Removes keys that platforms no longer repeat: of events from before a time, or of those that were removed for
    /// being too many.
    fn remove_keys(&mut self, which: Which) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// What to log of a failure, unless that has been logged.
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

/// Maintains a store until the journal is closed.
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
    if let Some(backfill) = store.backfill() {
        repeat(store, backfill, &mut HashMap::new()).await?;
    }
    Ok(())
}

/// Repeats a step until nothing is left for it; returns the number of rows that it removed.
async fn repeat<M: Maintain>(store: &mut M, step: Step, left: &mut HashMap<String, Left>) -> Result<u64, M::Failure> {
    let mut removed = 0;
    loop {
        let outcome = store.run(step.clone()).await?;
        removed += outcome.removed;
        outcome.left.into_iter().for_each(|(name, some)| left.entry(name).or_default().add(some));
        if !outcome.more {
            return Ok(removed);
        }
    }
}

/// Removes what is older than the retention.
async fn expire<M: Maintain>(store: &mut M, now: Millis, before: Millis) -> Result<(), M::Failure> {
    let mut left = HashMap::new();
    let done = repeat(store, Step::RemoveMissing(before), &mut left).await;
    left.iter().for_each(|(name, left)| missing::removed(name, *left));
    done?;
    missing::expired(repeat(store, Step::Remove(Old::DeadLetters, before), &mut left).await?);
    for old in [Old::Leases, Old::UsedQueries] {
        repeat(store, Step::Remove(old, now), &mut left).await?;
    }
    store.remove_events(Which::Before(before)).await?;
    store.remove_keys(Which::Before(before.min(now - KEY_RETENTION))).await
}

/// Removes the oldest events until the store is small enough again: those that are not needed, and when there are none left,
/// those that only observers need that are missing.
async fn shrink<M: Maintain>(store: &mut M) -> Result<(), M::Failure> {
    let mut dropped = HashMap::new();
    let mut done = store.remove_events(Which::TooMany).await;
    while done.is_ok() && !Which::TooMany.is_enough(store.counts()) {
        done = match store.run(Step::DropOrphans(Millis::MAX)).await {
            Ok(Outcome { more: false, .. }) => break,
            Ok(Outcome { left, .. }) => {
                left.into_iter().for_each(|(name, some): (String, Left)| {
                    dropped.entry(name).or_insert_with(Left::default).add(some)
                });
                store.remove_events(Which::TooMany).await
            }
            Err(failure) => Err(failure),
        };
    }
    dropped.iter().for_each(|(name, left)| missing::dropped(name, *left));
    done?;
    store.remove_keys(Which::TooMany).await
}
