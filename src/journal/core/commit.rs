//! Group commit: a pending batch is written in one transaction; an operation that cannot be written fails alone.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use futures_util::FutureExt as _;
use metrics::Histogram;
use tracing::error;

use super::super::JournalError;
use crate::panics::Panicked;

/// A store that writes a batch of operations in one transaction.
pub(crate) trait Commit {
    type Operation: Send;
    /// The store's result for each operation.
    type Done: Send;
    type Failure: Failure;

    /// How long commits take.
    fn commits(&self) -> Option<&Histogram>;

    /// Writes the batch; everything is durable when this is ready, or nothing was written. It may be called twice.
    fn commit(
        &mut self,
        batch: &mut [Self::Operation],
    ) -> impl Future<Output = Result<Self::Done, Self::Failure>> + Send;

    /// The batch is durable: completes what waits for it.
    fn settle(&mut self, batch: Vec<Self::Operation>, done: Self::Done);

    /// The batch was not written. If the store has [trouble](Failure::is_trouble) it keeps what can be written later; else
    /// it is one operation, which can never be written.
    fn fail(&mut self, batch: Vec<Self::Operation>, failure: &Self::Failure);
}

/// Why an operation of a store failed.
pub(crate) trait Failure: Send {
    /// Whether the store has failed, and not the operation.
    fn is_trouble(&self) -> bool;

    /// The commit panicked: the operation is at fault.
    fn panicked(panicked: Panicked) -> Self;

    /// Whether the same may succeed at once: another process was in the way.
    fn is_conflict(&self) -> bool {
        false
    }
}

/// Writes a batch, and settles it.
pub(crate) async fn write<C: Commit>(store: &mut C, mut batch: Vec<C::Operation>) {
    match attempt(store, &mut batch).await {
        Ok(done) => store.settle(batch, done),
        Err(failure) if batch.len() > 1 && !failure.is_trouble() => {
            // One of them cannot be written; the others must not fail for it.
            for operation in batch {
                let mut one = vec![operation];
                match attempt(store, &mut one).await {
                    Ok(done) => store.settle(one, done),
                    Err(failure) => store.fail(one, &failure),
                }
            }
        }
        Err(failure) => store.fail(batch, &failure),
    }
}

async fn attempt<C: Commit>(store: &mut C, batch: &mut [C::Operation]) -> Result<C::Done, C::Failure> {
    match commit(store, batch).await {
        Err(failure) if failure.is_conflict() => commit(store, batch).await,
        written => written,
    }
}

async fn commit<C: Commit>(store: &mut C, batch: &mut [C::Operation]) -> Result<C::Done, C::Failure> {
    let started = Instant::now();
    let committed = AssertUnwindSafe(async { store.commit(batch).await }).catch_unwind().await;
    if let (Ok(Ok(_)), Some(commits)) = (&committed, store.commits()) {
        commits.record(started.elapsed());
    }
    committed.unwrap_or_else(|payload| Err(C::Failure::panicked(Panicked::of(payload))))
}

/// One operation can never be written.
pub(crate) fn given_up(failure: &JournalError) {
    error!("{failure}; dropped one operation that can never be stored");
}

/// What a future gives that never waits, as those of a store that has a thread of its own.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        thread::yield_now();
    }
}
