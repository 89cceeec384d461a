//! Reads bodies, within bounds of size, time and memory.
//!
//! A body that comes with its head is taken as it is. Any other is copied as it comes: what the system hands over may be
//! a few bytes in a buffer of many, so a list of chunks could hold far more than the body.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use axum::body::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use metrics::Gauge;
use tokio::task;

/// What each body may hold beside the budget: the usual delivery is smaller. A connection has buffers of that order in any
/// case, so the limit of connections bounds it.
pub(super) const FREE_BYTES: usize = 16 * 1024;

/// What a body holds at first that does not come with its head.
const FIRST_READ_BYTES: usize = 2 * 1024;

/// Bytes that bodies may hold while they are read, beyond [`FREE_BYTES`] of each.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    shown: Gauge,
}

/// A part of a budget; given back when dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than bodies may be.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// The client ended it, or broke the rules of HTTP.
    Broken,
    /// Other bodies have the budget.
    NoMemory,
}

impl Budget {
    /// What is used of it is shown there.
    pub(super) fn new(limit: usize, shown: Gauge) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), shown })
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }
}

impl Share {
    /// Grows to `bytes`, taken as they come and not as they are announced. No share is larger than what is left for all
    /// others: large bodies are refused first, and there is room for smaller ones however many are being read.
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let limit = self.budget.limit;
        let take = |used: usize| used.checked_add(more).filter(|used| limit.saturating_sub(*used) >= bytes);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_err(|_| BodyError::NoMemory)?;
        self.budget.shown.increment(more as f64);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
            self.budget.shown.decrement(self.bytes as f64);
        }
    }
}

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    body: Incoming,
    bytes: Vec<u8>,
    /// Of the capacity of `bytes`, beyond [`FREE_BYTES`].
    share: Share,
    /// How long it will be, or may be at most.
    length: usize,
}

/// A body as far as it has come by itself.
#[derive(Debug)]
pub(super) enum Begun {
    /// All of it.
    Whole(Bytes),
    /// The client is still to send more.
    Partial(Reading),
}

/// Takes what has come of a body, up to [`FREE_BYTES`] bytes. A client that `asks` waits for `100 Continue`.
pub(super) async fn begin(
    mut body: Incoming,
    limit: usize,
    budget: &Arc<Budget>,
    asks: impl FnOnce() -> bool,
) -> Result<Begun, BodyError> {
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let first = match next_that_came(&mut body, true).await {
        Came::End => return Ok(Begun::Whole(Bytes::new())),
        Came::Chunk(piece) => piece?,
        Came::Nothing => Bytes::new(),
    };
    if body.is_end_stream() {
        return Ok(Begun::Whole(first));
    }
    let length = hint.exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(limit);
    let share = Share { budget: Arc::clone(budget), bytes: 0 };
    let mut reading = Reading { body, bytes: Vec::new(), share, length };
    reading.add(&first)?;
    drop(first);
    let asks = asks();
    while reading.bytes.len() <= FREE_BYTES {
        match next_that_came(&mut reading.body, asks).await {
            Came::End => return Ok(Begun::Whole(reading.into_bytes())),
            Came::Chunk(piece) => reading.add(&piece?)?,
            Came::Nothing => break,
        }
    }
    Ok(Begun::Partial(reading))
}

impl Reading {
    /// Waits for all of it.
    pub(super) async fn rest(mut self) -> Result<Bytes, BodyError> {
        while let Some(frame) = self.body.frame().await {
            self.add(&data(frame)?)?;
        }
        Ok(self.into_bytes())
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        let length = self.bytes.len() + piece.len();
        if length > self.length {
            return Err(BodyError::TooLarge);
        }
        if length > self.bytes.capacity() {
            let capacity = length.next_power_of_two().max(FIRST_READ_BYTES).min(self.length);
            self.share.grow(capacity.saturating_sub(FREE_BYTES))?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The share is given back when the bytes are no longer needed.
    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(Counted { bytes: self.bytes, _share: self.share })
    }
}

struct Counted {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether the rest of an unneeded body has come, and was discarded. A client that `asks` sends none.
pub(super) async fn is_skipped(mut body: Incoming, asks: impl FnOnce() -> bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let (asks, mut skipped) = (asks(), 0);
    while skipped <= FREE_BYTES {
        match next_that_came(&mut body, asks).await {
            Came::End => return true,
            Came::Chunk(Ok(piece)) => skipped += piece.len(),
            Came::Chunk(Err(_)) | Came::Nothing => return false,
        }
    }
    false
}

/// What has come of a body next.
enum Came {
    End,
    Chunk(Result<Bytes, BodyError>),
    Nothing,
}

/// The next chunk, without waiting for the client: what it has sent may still have to be read, which takes a turn of the
/// runtime. `at_once`: without that turn.
async fn next_that_came(body: &mut Incoming, at_once: bool) -> Came {
    let mut frame = body.frame();
    for is_last in [at_once, true] {
        match poll_fn(|context| Poll::Ready(frame.poll_unpin(context))).await {
            Poll::Ready(None) => return Came::End,
            Poll::Ready(Some(frame)) => return Came::Chunk(data(frame)),
            Poll::Pending if is_last => break,
            Poll::Pending => task::yield_now().await,
        }
    }
    Came::Nothing
}

fn data(frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Bytes, BodyError> {
    // Only data is of use.
    Ok(frame.map_err(|_| BodyError::Broken)?.into_data().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_shares_are_refused_first_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100, Gauge::noop());
        let share = || Share { budget: Arc::clone(&budget), bytes: 0 };
        let (mut one, mut two, mut three) = (share(), share(), share());
        assert_eq!(one.grow(51), Err(BodyError::NoMemory), "no more than half for a single one");
        assert_eq!((one.grow(50), one.grow(50), one.grow(20)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((two.grow(26), two.grow(25)), (Err(BodyError::NoMemory), Ok(())));
        assert_eq!((two.grow(26), three.grow(12)), (Err(BodyError::NoMemory), Ok(())), "what it has, it keeps");
        drop(one);
        assert_eq!((two.grow(37), budget.used.load(Ordering::Relaxed)), (Ok(()), 49));
        drop((two, three));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
