//! The command line's view of a journal.

use std::fmt;

use uuid::Uuid;

use super::{EventRecord, Millis, State, Task, model::plain_success};
use crate::{event::Platform, platform::Body};

/// What the command line needs of a journal. A running server picks up its changes by itself.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Up to `limit` events that match, the oldest first, from `after` on.
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>>;

    /// The place behind every event that is stored by now.
    fn place(&self) -> Task<'_, Place>;

    /// Up to `limit` events that match and were stored since, and where to go on. However many nodes store at a time, none
    /// is passed over, and none comes twice.
    fn follow(&self, filter: &Filter, since: Place, limit: usize) -> Task<'_, (Vec<Stored>, Place)>;

    /// The newest `limit` events that match, the oldest of them first.
    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>>;

    /// One event.
    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>>;

    /// The observations of an event, done ones included.
    fn observations(&self, id: Uuid) -> Task<'_, Vec<Observation>>;

    /// Names of the observers, sorted.
    fn observers(&self) -> Task<'_, Vec<String>>;

    /// The observers, sorted by name, with what is left of each.
    fn observer_states(&self) -> Task<'_, Vec<ObserverState>>;

    /// Removes an observer that is absent, with its pending events and dead letters; returns whether it is gone. One that is
    /// registered stays as it is.
    fn remove_observer(&self, name: &str) -> Task<'_, bool>;

    /// Gives events to an observer again, as if they were new; returns how many. Pending ones stay as they are.
    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64>;

    /// Gives events again to every observer that they were for; returns how many observations that makes. Internal observers and
    /// absent ones are left out.
    fn replay_to_all(&self, events: Vec<Uuid>) -> Task<'_, u64>;

    /// Up to `limit` dead letters whose event matches, the oldest event first, from `after` on.
    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>>;

    /// The same, the newest event first, before `before`.
    fn newest_dead(&self, filter: &Filter, before: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>>;

    /// Gives dead letters to their observers again; returns how many.
    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;

    /// Removes dead letters; returns how many. Their events stay for the retention.
    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;

    /// The value of a named lease, whoever holds it.
    fn lease_value(&self, name: &str) -> Task<'_, Option<String>>;

    /// Removes the value of a named lease, whoever holds it; returns whether there was one.
    fn clear_lease(&self, name: &str) -> Task<'_, bool>;
}

/// How far the events of a journal were [followed](Archive::follow).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of a store with one writer: the last event.
    pub(super) event: Option<Uuid>,
    /// Of a store with several: its snapshot at the time.
    pub(super) snapshot: Option<String>,
    /// The snapshot that is being read now, and the last event of it with the transaction that entered it.
    pub(super) reading: Option<(String, i64, Uuid)>,
}

/// Which events. An empty filter matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Platform of the account.
    pub platform: Option<Platform>,
    /// The account, `mp/shop`.
    pub account: Option<String>,
    /// The event type, which may end with `*`.
    pub event_type: Option<String>,
    /// Whom the event is about.
    pub subject: Option<String>,
    /// Received then or later.
    pub since: Option<Millis>,
    /// Received before.
    pub until: Option<Millis>,
    /// Its state.
    pub state: Option<State>,
    /// With this observer; of dead letters only.
    pub observer: Option<String>,
}

/// An event in the journal.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Identity.
    pub id: Uuid,
    /// The event as it came.
    pub record: EventRecord,
    /// How often the platform has delivered it.
    pub deliveries: u32,
    /// Its state.
    pub state: State,
    /// The recorded reply, if it is more than the plain success.
    pub reply: Option<String>,
    /// Why it has the default answer; of an event with a reply, where that went or came from.
    pub failure: Option<String>,
}

impl Stored {
    /// The recorded reply, be it only the plain success.
    pub(super) fn body(&self) -> Option<Body> {
        let plain = || plain_success(self.record.platform);
        (self.state != State::Responding).then(|| self.reply.clone().map_or_else(plain, Body::Document))
    }
}

/// An observation: one observer's state with one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The observer.
    pub observer: String,
    /// Its state.
    pub state: ObservationState,
    /// Attempts so far.
    pub attempts: u32,
    /// The error of the last one.
    pub error: Option<String>,
}

/// An observer, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverState {
    /// Its name.
    pub name: String,
    /// Since when it is absent; `None` when the server that runs, or ran last, has it.
    pub absent_since: Option<Millis>,
    /// Events that it has still to see.
    pub pending: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Millis>,
    /// Its dead letters.
    pub dead: u64,
}

/// The state of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationState {
    /// Due then, or as soon as there is room.
    Waiting(Millis),
    /// In flight; the lease ends then.
    Leased(Millis),
    /// It has seen the event.
    Done,
    /// It permanently failed.
    Dead(Millis),
}

impl ObservationState {
    /// Name, as in `waiting`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Leased(_) => "leased",
            Self::Done => "done",
            Self::Dead(_) => "dead",
        }
    }
}

/// An event that an observer permanently failed on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event.
    pub event: Stored,
    /// The observer.
    pub observer: String,
    /// Attempts it took.
    pub attempts: u32,
    /// The error of the last one.
    pub error: String,
    /// When.
    pub died: Millis,
}
