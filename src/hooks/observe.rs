//! How a handler observes.

use std::{sync::Arc, time::Duration};

use crate::config::{Backoff, Policy};

/// How a handler observes: under which name, from where on, in which order, and how often and how long it is tried. A name
/// alone will do.
///
/// ```
/// use std::time::Duration;
///
/// use echostr::{events::mp, hooks::{Context, Hooks, Observe}};
///
/// let audit = Observe::named("audit").in_order().from_beginning().max_attempts(5).timeout(Duration::from_secs(10));
/// let hooks = Hooks::default().observe(audit, async |message: mp::TextMessage, _: Context| Ok(drop(message)));
/// # drop(hooks);
/// ```
///
/// What is not set here is as in `[observers]`; `[observers.NAME]` of the configuration overrides what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    pub(crate) name: Arc<str>,
    pub(crate) in_order: bool,
    pub(crate) from_beginning: bool,
    pub(crate) policy: Policy,
}

impl Observe {
    /// Under this name, which must stay the same: what the observer has seen is kept under it.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), in_order: false, from_beginning: false, policy: Policy::default() }
    }

    /// Events of one subject one after the other: one that fails blocks the later ones of its subject, and only
    /// these, until it is done or a dead letter.
    #[must_use]
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Starts with the events that are in the journal already, when the name is registered for the first time.
    #[must_use]
    pub const fn from_beginning(mut self) -> Self {
        self.from_beginning = true;
        self
    }

    /// Attempts before an event is a dead letter.
    ///
    /// # Panics
    /// When it is none, or more than 1000.
    #[must_use]
    #[track_caller]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        let most = Policy::MAX_ATTEMPTS;
        assert!(
            most.contains(&attempts),
            "`{}`: max_attempts must be from {} to {}",
            self.name,
            most.start(),
            most.end()
        );
        self.policy.max_attempts = Some(attempts);
        self
    }

    /// Pauses between attempts: the first and the longest; each is twice the one before, with jitter.
    ///
    /// # Panics
    /// When the first is 0 or the longer one, or the longest is more than a day.
    #[must_use]
    #[track_caller]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        let backoff = Backoff::of(first, longest);
        assert!(
            backoff.is_some(),
            "`{}`: backoff must be two durations, the shorter one first, of a day at most",
            self.name
        );
        self.policy.backoff = backoff;
        self
    }

    /// How long an attempt may take before it counts as failed.
    ///
    /// # Panics
    /// When it is less than a millisecond, or more than an hour.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        assert!(Policy::TIMEOUT.contains(&timeout), "`{}`: timeout must be from 1 ms to 1 h", self.name);
        self.policy.timeout = Some(timeout);
        self
    }

    /// How many events it is given at one time; of one account half of that, where there are several.
    ///
    /// # Panics
    /// When it is none, or more than 10,000.
    #[must_use]
    #[track_caller]
    pub fn concurrency(mut self, events: usize) -> Self {
        let most = Policy::CONCURRENCY;
        assert!(most.contains(&events), "`{}`: concurrency must be from {} to {}", self.name, most.start(), most.end());
        self.policy.concurrency = Some(events);
        self
    }
}

impl From<&str> for Observe {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}
