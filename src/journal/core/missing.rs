//! What is said of observers that are no longer registered: what waits for them, and what they failed on, is kept for the
//! retention, and nothing of it goes without a word.

use jiff::Timestamp;
use tracing::{info, warn};

use super::super::{INTERNAL_PREFIX, Millis};

/// What there is of an observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Events that wait for it.
    pub(crate) waiting: u64,
    /// Its dead letters.
    pub(crate) dead: u64,
}

impl Left {
    pub(crate) const fn add(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.dead += other.dead;
    }
}

/// Says something of an observer and what is left of it, unless that is nothing.
macro_rules! say {
    ($level:ident($name:ident, $waiting:ident, $dead:ident), $($text:tt)+) => {
        if $waiting > 0 || $dead > 0 {
            $level!(observer = $name, $waiting, $dead, $($text)+);
        }
    };
}

/// An observer is missing.
pub(crate) fn kept(name: &str, Left { waiting, dead }: Left, until: Millis) {
    let until = Timestamp::from_millisecond(until).map_or_else(|_| until.to_string(), |time| format!("{time:.0}"));
    let then = match name.strip_prefix(INTERNAL_PREFIX) {
        Some(_) => "it works for accounts with a `secret`: give it back and restart, and it goes on",
        None => "register a handler with this name again and restart, and it goes on",
    };
    say!(
        warn(name, waiting, dead),
        "observer {name} is not registered any more; {waiting} events that wait for it and {dead} dead letters are kept \
         until {until}: {then}"
    );
}

/// An observer is registered again.
pub(crate) fn back(name: &str, Left { waiting, dead }: Left) {
    say!(
        info(name, waiting, dead),
        "observer {name} is registered again, with {waiting} events that wait for it and {dead} dead letters"
    );
}

/// The time of an observer that is missing is over.
pub(crate) fn removed(name: &str, Left { waiting, dead }: Left) {
    say!(
        warn(name, waiting, dead),
        "observer {name} was not registered for as long as [journal] retention; {waiting} events that waited for it and \
         {dead} dead letters were removed"
    );
}

/// There was no room for everything that is kept for an observer that is missing.
pub(crate) fn dropped(name: &str, Left { waiting, dead }: Left) {
    say!(
        warn(name, waiting, dead),
        "the journal is as large as [journal] max_size; {waiting} of the events that wait for observer {name}, which is \
         not registered any more, and {dead} of its dead letters were removed, the oldest"
    );
}

/// Dead letters are as old as they may be.
pub(crate) fn expired(count: u64) {
    if count > 0 {
        warn!(count, "{count} dead letters are older than [journal] retention, and were removed");
    }
}
