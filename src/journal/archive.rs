//! The view of a journal that the command line and the event API have.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::{EventRecord, Millis, State, Task, model::plain_success};
use crate::{event::Platform, platform::Body};

/// What the command line and the event API need of a journal. A running server picks up its changes by itself.
pub trait Archive: fmt::Debug + Send + Sync {
    /// Up to `limit` events that match, the oldest first, from `after` on.
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>>;

    /// The place behind every event that is stored by now.
    fn place(&self) -> Task<'_, Place>;

    /// Up to `limit` events that match and were stored since, each with the place behind it, and where to go on. However many
    /// nodes store at a time, none is passed over, and none comes twice.
    fn follow(&self, filter: &Filter, since: Place, limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)>;

    /// Up to `limit` events that match, the newest first, from before `before` on; and before which one to go on, where there
    /// may be more. No more than `scan` events are looked at, so a page may be short and not the last one.
    fn page(&self, filter: &Filter, before: Option<Uuid>, limit: usize, scan: usize) -> Task<'_, Page>;

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

/// A text that stands for a [`Place`], for those who keep it elsewhere.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { event: Some(event), .. } => write!(f, "e.{}", event.simple()),
            Self { snapshot: Some(seen), reading: Some((now, transaction, event)), .. } => {
                write!(f, "r.{seen}.{now}.{transaction}.{}", event.simple())
            }
            Self { snapshot: Some(seen), .. } => write!(f, "s.{seen}"),
            Self { .. } => f.write_str("0"),
        }
    }
}

/// A text is no place of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place of a journal")]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    /// What comes back may not be what was given out: only what every store can read is a place.
    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let event = |text: &str| Uuid::try_parse(text).map_err(|_| NotAPlace);
        let parts: Vec<&str> = text.split('.').collect();
        match *parts {
            ["0"] => Ok(Self::default()),
            ["e", id] => Ok(Self { event: Some(event(id)?), ..Self::default() }),
            ["s", seen] => Ok(Self { snapshot: Some(snapshot(seen)?), ..Self::default() }),
            ["r", seen, now, transaction, id] => {
                let transaction = transaction.parse().map_err(|_| NotAPlace)?;
                let reading = Some((snapshot(now)?, transaction, event(id)?));
                Ok(Self { snapshot: Some(snapshot(seen)?), reading, event: None })
            }
            _ => Err(NotAPlace),
        }
    }
}

/// A snapshot as PostgreSQL writes it, `xmin:xmax:xip,…`, with the transactions in between in their order.
fn snapshot(text: &str) -> Result<String, NotAPlace> {
    let transaction = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|transaction| digits && *transaction > 0).ok_or(NotAPlace)
    };
    let (from, rest) = text.split_once(':').ok_or(NotAPlace)?;
    let (to, open) = rest.split_once(':').ok_or(NotAPlace)?;
    let (from, to) = (transaction(from)?, transaction(to)?);
    let open = open.split(',').filter(|_| !open.is_empty()).map(transaction).collect::<Result<Vec<_>, _>>()?;
    let is_snapshot = from <= to && open.is_sorted() && open.iter().all(|open| (from..to).contains(open));
    if is_snapshot { Ok(text.to_owned()) } else { Err(NotAPlace) }
}

/// A page of events, the newest first, and before which one the next page begins.
pub type Page = (Vec<Stored>, Option<Uuid>);

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
    /// Its payload has this text, as the platform wrote it.
    pub text: Option<String>,
    /// With this observer; of dead letters only.
    pub observer: Option<String>,
}

impl Filter {
    /// Whether an event has to be looked at to know if it matches; when it came is known by its identity.
    pub(super) fn selects(&self) -> bool {
        *self != Self { since: self.since, ..Self::default() }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_place_is_the_same_when_it_comes_back() {
        let event = Uuid::from_u128(0x0199_1234_5678_7abc_8def_0123_4567_89ab);
        let seen = Some("10:20:10,14,15".to_owned());
        for place in [
            Place::default(),
            Place { event: Some(event), ..Place::default() },
            Place { snapshot: seen.clone(), ..Place::default() },
            Place { snapshot: seen, reading: Some(("10:30:".to_owned(), 12, event)), event: None },
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
    }

    #[test]
    fn what_no_store_can_read_is_no_place() {
        for text in [
            "",
            ".",
            "1",
            "e",
            "e.",
            "e.x",
            "e.1.2",
            "s.",
            "s.1:2",
            "s.0:2:",
            "s.2:1:",
            "s.1:2:3",
            "s.1:9:5,4",
            "s.1:9:,",
            "s.-1:2:",
            "s.+1:2:",
            "s.1:99999999999999999999:",
            "s.1:2:'",
            "r.1:2:.1:2:.x.0",
            "r.1:2:.1:2:.1.x",
            "é",
        ] {
            assert_eq!(text.parse::<Place>(), Err(NotAPlace), "{text}");
        }
    }
}
