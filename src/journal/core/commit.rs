//! Group commit: a pending batch is written in one transaction, and what cannot be written spoils nothing else.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
};

use tracing::error;

use super::super::JournalError;

/// A store that writes a batch of operations in one transaction.
pub(crate) trait Commit {
    type Operation: Send;
    /// What the store says of each.
    type Done: Send;
    type Failure: Failure;

    /// Writes the batch; everything is durable when this is ready, or nothing was written. It may be asked twice.
    fn commit(
        &mut self,
        batch: &mut [Self::Operation],
    ) -> impl Future<Output = Result<Self::Done, Self::Failure>> + Send;

    /// The batch is durable: whoever waits for it is answered.
    fn settle(&mut self, batch: Vec<Self::Operation>, done: Self::Done);

    /// The batch was not written. If the store has [trouble](Failure::is_trouble) it keeps what can be written later; else
    /// it is one operation, which can never be written.
    fn fail(&mut self, batch: Vec<Self::Operation>, failure: &Self::Failure);
}

/// Why a store could not do something.
pub(crate) trait Failure: Send {
    /// Whether it is the trouble of the store, and not of what was asked.
    fn is_trouble(&self) -> bool;

    /// Whether the same may go well at once: another process was in the way.
    fn is_conflict(&self) -> bool {
        false
    }
}

/// Writes a batch, and settles it.
pub(crate) async fn write<C: Commit>(store: &mut C, mut batch: Vec<C::Operation>) {
    match attempt(store, &mut batch).await {
        Ok(done) => store.settle(batch, done),
        Err(failure) if batch.len() > 1 && !failure.is_trouble() => {
            // One of them cannot be written; the others are not to suffer for it.
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
    match store.commit(batch).await {
        Err(failure) if failure.is_conflict() => store.commit(batch).await,
        written => written,
    }
}

/// One operation can never be written.
pub(crate) fn given_up(failure: &JournalError) {
    error!("{failure}; one operation was given up");
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
