//! Log lines about observers that are no longer registered: their pending events and dead letters are kept for the
//! retention, and never removed without a line.

use jiff::Timestamp;
use tracing::{info, warn};

use super::super::{INTERNAL_PREFIX, Millis};

/// What is left of an observer.
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

/// Logs something of an observer and what is left of it, unless that is nothing.
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
        Some(_) => "it needs an account with a `secret`: set that again and restart to resume",
        None => "register an observer of this name again and restart to resume",
    };
    let remove = format!("`echostr observers rm {name}` to remove it");
    if waiting == 0 && dead == 0 {
        info!(observer = name, "observer {name} is no longer registered; nothing is pending: {then}, or {remove}");
    }
    say!(
        warn(name, waiting, dead),
        "observer {name} is no longer registered; its {waiting} pending events and {dead} dead letters are kept \
         until {until}: {then}, or {remove} with them"
    );
}

/// An observer is registered again.
pub(crate) fn back(name: &str, Left { waiting, dead }: Left) {
    say!(
        info(name, waiting, dead),
        "observer {name} is registered again and resumes with {waiting} pending events and {dead} dead letters"
    );
}

/// The retention of a missing observer is over.
pub(crate) fn removed(name: &str, Left { waiting, dead }: Left) {
    say!(
        warn(name, waiting, dead),
        "observer {name} was not registered for the time of [journal] retention; removed its {waiting} pending \
         events and {dead} dead letters"
    );
}

/// There was no room for everything that is kept for a missing observer.
pub(crate) fn dropped(name: &str, Left { waiting, dead }: Left) {
    say!(
        warn(name, waiting, dead),
        "the journal has reached [journal] max_size; removed the oldest {waiting} pending events and {dead} dead letters \
         of observer {name}, which is no longer registered"
    );
}

/// Dead letters were removed after the retention.
pub(crate) fn expired(count: u64) {
    if count > 0 {
        warn!(count, "removed {count} dead letters older than [journal] retention");
    }
}
