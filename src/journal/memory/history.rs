//! The latest events of a journal in memory, for those who look: as they came, however far they are, and dead letters.
//!
//! It has a part of the limit to itself, so that it takes nothing from what is needed.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::size_of,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    super::{DeadLetter, Entry, EventRecord, Filter, Millis, ReplyRecord, State, Stored},
    room::of_record,
};
use crate::platform::Body;

/// Dead letters that are kept.
const MAX_DEAD: usize = 1024;

/// How much of an error is kept.
const MAX_ERROR: usize = 1024;

#[derive(Debug)]
pub(super) struct History {
    limit: usize,
    bytes: usize,
    /// In the order of their identities.
    events: VecDeque<Kept>,
    dead: BTreeMap<(Uuid, Arc<str>), Dead>,
}

/// An event that is kept to be looked at.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) entry: Arc<Entry>,
    pub(super) record: EventRecord,
    /// What else is known of its reply; of most there is nothing.
    note: Option<Box<Note>>,
    /// Observers that have seen it.
    pub(super) done: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct Note {
    failure: Option<String>,
    /// The reply, where the platform was answered without it.
    late: Option<Body>,
}

#[derive(Debug)]
struct Dead {
    event: Stored,
    attempts: u32,
    error: String,
    died: Millis,
}

impl Kept {
    pub(super) fn stored(&self) -> Stored {
        let failure = self.note.as_ref().and_then(|note| note.failure.clone());
        let late = self.note.as_ref().and_then(|note| note.late.as_ref());
        let reply = self.entry.reply().and_then(|reply| reply.as_ref().ok());
        let state = match (reply, late, &failure) {
            (None, None, _) => State::Responding,
            (_, Some(_), _) => State::Late,
            (Some(_), None, Some(_)) => State::Defaulted,
            (Some(_), None, None) => State::Answered,
        };
        let reply = match late.or(reply) {
            Some(Body::Document(text)) => Some(text.clone()),
            _ => None,
        };
        let (id, deliveries) = (self.entry.id, self.entry.deliveries());
        Stored { id, record: self.record.clone(), deliveries, state, reply, failure }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + of_record(&self.record)
    }
}

impl History {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, events: VecDeque::new(), dead: BTreeMap::new() }
    }

    /// Keeps an event, and drops the oldest ones that it leaves no room for.
    pub(super) fn keep(&mut self, entry: &Arc<Entry>, record: EventRecord) {
        let kept = Kept { entry: Arc::clone(entry), record, note: None, done: Vec::new() };
        let bytes = kept.bytes();
        if bytes > self.limit {
            return;
        }
        while self.bytes + bytes > self.limit {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes());
        }
        self.bytes += bytes;
        // It is the latest, but for those that came at the same time.
        let at = match self.events.back() {
            Some(last) if last.entry.id > entry.id => self.position(entry.id).unwrap_or_else(|at| at),
            _ => self.events.len(),
        };
        self.events.insert(at, kept);
    }

    /// What the journal says of a reply, where it is more than the reply.
    pub(super) fn note(&mut self, event: Uuid, reply: &ReplyRecord) {
        if reply.failure.is_none() && !reply.is_late() {
            return;
        }
        if let Some(kept) = self.find_mut(event) {
            let late = reply.is_late().then(|| reply.body.clone());
            kept.note = Some(Box::new(Note { failure: reply.failure.clone(), late }));
        }
    }

    /// The late reply of an event will not be given any more.
    pub(super) fn dropped(&mut self, event: Uuid, reason: String) {
        if let Some(kept) = self.find_mut(event) {
            kept.note.get_or_insert_default().failure = Some(reason);
        }
    }

    /// An observer has seen an event.
    pub(super) fn seen(&mut self, event: Uuid, observer: &Arc<str>) {
        if let Some(kept) = self.find_mut(event)
            && !kept.done.contains(observer)
        {
            kept.done.push(Arc::clone(observer));
        }
    }

    pub(super) fn bury(&mut self, event: Stored, observer: &Arc<str>, attempts: u32, mut error: String, died: Millis) {
        error.truncate(error.floor_char_boundary(MAX_ERROR));
        if self.dead.len() >= MAX_DEAD {
            self.dead.pop_first();
        }
        self.dead.insert((event.id, Arc::clone(observer)), Dead { event, attempts, error, died });
    }

    /// Removes a dead letter; returns its event.
    pub(super) fn exhume(&mut self, event: Uuid, observer: &str) -> Option<Stored> {
        self.dead.remove(&(event, observer.into())).map(|dead| dead.event)
    }

    /// The dead letters, by event and observer.
    pub(super) fn letters(&self) -> impl DoubleEndedIterator<Item = DeadLetter> {
        self.dead.iter().map(|((id, observer), Dead { event, attempts, error, died })| {
            let event = self.find(*id).map_or_else(|| event.clone(), Kept::stored);
            DeadLetter { event, observer: observer.to_string(), attempts: *attempts, error: error.clone(), died: *died }
        })
    }

    pub(super) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// The events, the oldest first.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = &Kept> {
        self.events.iter()
    }

    /// Those behind an event.
    pub(super) fn after(&self, event: Option<Uuid>) -> impl DoubleEndedIterator<Item = &Kept> {
        let from = event.map_or(0, |event| self.events.partition_point(|kept| kept.entry.id <= event));
        self.events.range(from..)
    }

    /// Those before an event.
    pub(super) fn before(&self, event: Option<Uuid>) -> impl DoubleEndedIterator<Item = &Kept> {
        let to = event.map_or(self.events.len(), |event| self.events.partition_point(|kept| kept.entry.id < event));
        self.events.range(..to)
    }

    pub(super) fn find(&self, event: Uuid) -> Option<&Kept> {
        self.position(event).ok().and_then(|at| self.events.get(at))
    }

    fn find_mut(&mut self, event: Uuid) -> Option<&mut Kept> {
        self.position(event).ok().and_then(|at| self.events.get_mut(at))
    }

    fn position(&self, event: Uuid) -> Result<usize, usize> {
        self.events.binary_search_by(|kept| kept.entry.id.cmp(&event))
    }
}

impl Filter {
    /// Whether an event matches, as the conditions of a database say it.
    pub(super) fn matches(&self, stored: &Stored) -> bool {
        let Self { platform, account, event_type, subject, since, until, state, text, observer: _ } = self;
        let record = &stored.record;
        let is_type = |wanted: &str| match wanted.strip_suffix('*') {
            Some(start) => record.event_type.starts_with(start),
            None => record.event_type == wanted,
        };
        platform.is_none_or(|platform| record.platform == platform)
            && account.as_deref().is_none_or(|account| *record.account == *account)
            && event_type.as_deref().is_none_or(is_type)
            && subject.as_deref().is_none_or(|subject| record.subject.as_deref() == Some(subject))
            && since.is_none_or(|since| record.received >= since)
            && until.is_none_or(|until| record.received < until)
            && state.is_none_or(|state| stored.state == state)
            && text.as_deref().is_none_or(|text| record.payload.text().contains(text))
    }
}
