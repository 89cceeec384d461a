//! Who wants an event: the observers it is stored for.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    event::EventSpec,
    hooks::{Hooks, RawEvent},
    journal::{self, Millis, NewEvent},
    payload::Value,
    platform::{self, DedupeKey},
};

/// Observers: those of handlers and the internal ones.
#[derive(Clone, Debug)]
pub(crate) struct Subscribers {
    hooks: Arc<Hooks>,
    internal: Vec<journal::Observer>,
}

/// An event that is about to be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'e> {
    pub(crate) id: Uuid,
    pub(crate) key: Option<DedupeKey>,
    pub(crate) raw: &'e RawEvent,
    /// What the event is, if it has the shape of that.
    pub(crate) spec: Option<&'static EventSpec>,
    pub(crate) tree: &'e Value<'e>,
    pub(crate) received: Millis,
}

impl Subscribers {
    pub(crate) const fn new(hooks: Arc<Hooks>, internal: Vec<journal::Observer>) -> Self {
        Self { hooks, internal }
    }

    /// The event as the journal is given it, for everybody who wants it but those that are left out.
    pub(crate) fn new_event(&self, candidate: Candidate<'_>, left_out: &[&str]) -> NewEvent {
        let Candidate { id, key, raw, spec, tree, received } = candidate;
        let internal = self.internal.iter().filter(|it| (it.wants)(&raw.account, raw.event_type)).map(|it| &it.name);
        let internal = internal.filter(|name| !left_out.contains(&&***name));
        let observers = self.hooks.observers(&raw.account, raw.event_type, spec).chain(internal);
        let subject = platform::subject(raw.platform, tree).map(Into::into);
        NewEvent { id, key, record: raw.record(subject, received), observers: observers.map(Arc::clone).collect() }
    }
}
