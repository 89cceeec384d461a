//! Subscribers of an event: the observers it is stored for.

use std::{cell::OnceCell, sync::Arc};

use uuid::Uuid;

use crate::{
    event::EventSpec,
    hooks::{Hooks, RawEvent},
    journal::{self, Millis, NewEvent},
    payload::Value,
    platform::{self, DedupeKey},
    webhook::{Condition, Patterns},
};

/// Observers: those of handlers, forwards, and the internal ones.
#[derive(Clone, Debug)]
pub(crate) struct Subscribers {
    hooks: Arc<Hooks>,
    internal: Vec<journal::Observer>,
    forwards: Arc<[Forwarded]>,
}

/// What a forward is for.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    /// Its observer.
    pub(crate) observer: Arc<str>,
    pub(crate) patterns: Patterns,
    pub(crate) condition: Condition,
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
    pub(crate) fn new(hooks: Arc<Hooks>, internal: Vec<journal::Observer>, forwards: Arc<[Forwarded]>) -> Self {
        Self { hooks, internal, forwards }
    }

    /// The event for the journal, with every observer that wants it, except those left out.
    pub(crate) fn new_event(&self, candidate: Candidate<'_>, left_out: &[&str]) -> NewEvent {
        let Candidate { id, key, raw, spec, tree, received } = candidate;
        let internal = self.internal.iter().filter(|it| (it.wants)(&raw.account, raw.event_type)).map(|it| &it.name);
        let internal = internal.filter(|name| !left_out.contains(&&***name));
        // Only conditions look into the event, and all of them at the same.
        let data = OnceCell::new();
        let forwards = self.forwards.iter().filter(|it| {
            let holds = || it.condition.holds(data.get_or_init(|| journal::view(tree, spec, raw.form)));
            it.patterns.matches(&raw.account, raw.event_type) && (it.condition.is_empty() || holds())
        });
        let forwards = forwards.map(|it| &it.observer);
        let observers = self.hooks.observers(&raw.account, raw.event_type, spec).chain(internal).chain(forwards);
        let subject = platform::subject(raw.platform, tree).map(Into::into);
        NewEvent { id, key, record: raw.record(subject, received), observers: observers.map(Arc::clone).collect() }
    }
}
