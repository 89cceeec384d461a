//! What the command line asks of a journal.

use std::fmt;

use uuid::Uuid;

use super::{EventRecord, Millis, State, Task, model::plain_success};
use crate::{event::Platform, platform::Body};

/// What the command line needs of a journal. Everything it changes, a running server takes up by itself.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Up to `limit` events that match, the oldest first, from `after` on.
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>>;

    /// The newest `limit` events that match, the oldest of them first.
    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>>;

    /// One event.
    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>>;

    /// What the observers have to do with an event, or had.
    fn observations(&self, id: Uuid) -> Task<'_, Vec<Observation>>;

    /// Names of the observers, in the order of the alphabet.
    fn observers(&self) -> Task<'_, Vec<String>>;

    /// Offers events to an observer once more, as if they were new; says how many. One that waits already stays as it is.
    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64>;

    /// Up to `limit` dead letters whose event matches, the oldest event first, from `after` on.
    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>>;

    /// Offers dead letters to their observers once more; says how many.
    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;

    /// Removes dead letters; says how many. Their events stay as long as all events.
    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64>;
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
    /// How far it is.
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
    /// How far it is.
    pub state: State,
    /// The recorded reply, if it is more than the plain success.
    pub reply: Option<String>,
    /// Why it has the default answer.
    pub failure: Option<String>,
}

impl Stored {
    /// The recorded reply, be it only the plain success.
    pub(super) fn body(&self) -> Option<Body> {
        let plain = || plain_success(self.record.platform);
        (self.state != State::Responding).then(|| self.reply.clone().map_or_else(plain, Body::Document))
    }
}

/// What an observer has to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The observer.
    pub observer: String,
    /// How far it is.
    pub state: ObservationState,
    /// Attempts so far.
    pub attempts: u32,
    /// With what the last one failed.
    pub error: Option<String>,
}

/// How far an observer is with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationState {
    /// It gets the event then, or as soon as there is room.
    Waiting(Millis),
    /// It has the event until then.
    Leased(Millis),
    /// It has seen the event.
    Done,
    /// It failed for good.
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

/// An event that an observer failed on for good.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event.
    pub event: Stored,
    /// The observer.
    pub observer: String,
    /// Attempts it took.
    pub attempts: u32,
    /// With what the last one failed.
    pub error: String,
    /// When.
    pub died: Millis,
}
