//! Where events and their replies live: an event is admitted once, however often the platform delivers it.
//!
//! This version has the journal in memory only ([`memory::MemoryJournal`]).

pub mod memory;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::platform::Body;

/// What admitting a delivery says about its event.
#[derive(Debug)]
pub enum Admission {
    /// The event is new: the responder is to be run.
    New(Arc<Entry>),
    /// The event is known: its responder runs, or has answered.
    Known(Arc<Entry>),
}

/// An admitted event.
#[derive(Debug)]
pub struct Entry {
    /// Identity of the event.
    pub id: Uuid,
    reply: OnceLock<Body>,
    answered: Notify,
    deliveries: AtomicU32,
}

impl Entry {
    /// A new event, delivered once.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::now_v7(),
            reply: OnceLock::new(),
            answered: Notify::new(),
            deliveries: AtomicU32::new(1),
        })
    }

    /// How often the platform has delivered the event.
    pub fn deliveries(&self) -> u32 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// The recorded reply, if there is one yet.
    pub fn reply(&self) -> Option<&Body> {
        self.reply.get()
    }

    /// The recorded reply, once there is one.
    pub async fn answered(&self) -> &Body {
        loop {
            let answered = self.answered.notified();
            if let Some(reply) = self.reply.get() {
                return reply;
            }
            answered.await;
        }
    }

    fn delivered_again(&self) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the reply; the first one stands. Waiting deliveries are answered with it.
    pub fn record(&self, reply: Body) {
        let _ = self.reply.set(reply);
        self.answered.notify_waiters();
    }
}
