//! An admitted event, until its reply is settled.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use uuid::Uuid;

use super::JournalError;
use crate::platform::{Body, DedupeKey};

/// The responder is done.
const REPLIED: u8 = 1;
/// The platform has been answered without the reply.
const GIVEN_UP: u8 = 2;

/// An admitted event. Only journals settle it, and only with what is durable.
#[derive(Debug)]
pub struct Entry {
    /// Identity of the event.
    pub id: Uuid,
    /// The key it was admitted under.
    pub key: Option<DedupeKey>,
    /// Where its admission stands in line, or when it was, as its journal counts.
    pub(super) ticket: AtomicU64,
    deliveries: AtomicU32,
    stored: AtomicBool,
    /// [`REPLIED`] and [`GIVEN_UP`].
    turn: AtomicU8,
    /// When its responder began to run in this process.
    begun: OnceLock<Instant>,
    /// Whether it was pulled instead of delivered.
    pub(super) pulled: bool,
    reply: OnceLock<Result<Body, JournalError>>,
    changed: Notify,
}

impl Entry {
    /// An event that has been delivered so often.
    pub fn new(id: Uuid, key: Option<DedupeKey>, deliveries: u32) -> Arc<Self> {
        Arc::new(Self::of(id, key, deliveries, false))
    }

    /// An event that was pulled, and is to be answered.
    pub fn pulled(id: Uuid) -> Arc<Self> {
        let entry = Self::of(id, None, 1, true);
        entry.mark_stored();
        Arc::new(entry)
    }

    /// A new event in the memory of one that was removed, unless that is still waited for: memory that was in use a
    /// moment ago is much faster than any other.
    pub(super) fn renewed(forgotten: Option<Arc<Self>>, id: Uuid, key: DedupeKey) -> Arc<Self> {
        let entry = Self::of(id, Some(key), 1, false);
        if let Some(mut place) = forgotten
            && let Some(old) = Arc::get_mut(&mut place)
        {
            *old = entry;
            return place;
        }
        Arc::new(entry)
    }

    fn of(id: Uuid, key: Option<DedupeKey>, deliveries: u32, pulled: bool) -> Self {
        Self {
            id,
            key,
            ticket: AtomicU64::new(0),
            deliveries: AtomicU32::new(deliveries),
            stored: AtomicBool::new(false),
            turn: AtomicU8::new(0),
            begun: OnceLock::new(),
            pulled,
            reply: OnceLock::new(),
            changed: Notify::new(),
        }
    }

    /// An event that has its reply.
    pub fn answered_with(id: Uuid, deliveries: u32, reply: Body) -> Arc<Self> {
        let entry = Self::new(id, None, deliveries);
        entry.settle(Ok(reply));
        entry
    }

    /// How often the platform has delivered the event.
    pub fn deliveries(&self) -> u32 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Counts a repeat; returns how often the platform has delivered the event now.
    pub fn delivered_again(&self) -> u32 {
        self.deliveries.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Whether the responder is done, be its reply durable or not.
    pub fn is_replied(&self) -> bool {
        self.turn.load(Ordering::Acquire) & REPLIED != 0
    }

    /// The responder is done, and its reply is about to be recorded. Returns whether it was given up before.
    pub fn mark_replied(&self) -> bool {
        self.turn.fetch_or(REPLIED, Ordering::AcqRel) & GIVEN_UP != 0
    }

    /// A reply that is there already is about to become its own, if it was not given up and the responder is not done.
    pub fn claim(&self) -> bool {
        self.turn.compare_exchange(0, REPLIED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// After a [claim](Self::claim): the reply was another's, and the responder is to run.
    pub fn unclaim(&self) {
        self.turn.fetch_and(!REPLIED, Ordering::AcqRel);
    }

    /// Its responder begins to run.
    pub fn begin(&self, now: Instant) {
        let _ = self.begun.set(now);
    }

    /// The platform is answered without the reply, unless the responder is done, has run for less than `patience`, or it is settled
    /// that there will be none: then this returns false.
    pub fn give_up(&self, patience: Duration) -> bool {
        if self.reply.get().is_some() || self.begun.get().is_some_and(|begun| begun.elapsed() < patience) {
            return false;
        }
        let given_up = |turn: u8| (turn & REPLIED == 0).then_some(turn | GIVEN_UP);
        self.turn.fetch_update(Ordering::AcqRel, Ordering::Acquire, given_up).is_ok()
    }

    /// The recorded reply, if there is one yet, or why there will be none.
    pub fn reply(&self) -> Option<&Result<Body, JournalError>> {
        self.reply.get()
    }

    /// The recorded reply, once there is one, or why there will be none.
    pub async fn answered(&self) -> &Result<Body, JournalError> {
        self.until(|| self.reply.get()).await
    }

    /// Ready once the event is durable, with a reply or without.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn stored(&self) -> Result<(), JournalError> {
        let settled = || match self.reply.get() {
            Some(Err(failure)) => Some(Err(failure.clone())),
            Some(Ok(_)) => Some(Ok(())),
            None => self.stored.load(Ordering::Acquire).then_some(Ok(())),
        };
        self.until(settled).await
    }

    async fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            if let Some(found) = look() {
                return found;
            }
            let changed = self.changed.notified();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }

    /// The event is durable.
    pub fn mark_stored(&self) {
        self.stored.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The event has a reply, or will have none; the first outcome stands.
    pub fn settle(&self, reply: Result<Body, JournalError>) {
        let _ = self.reply.set(reply);
        self.changed.notify_waiters();
    }
}
