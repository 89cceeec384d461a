//! What is counted of observers, by their names.

use metrics::{Counter, Key, Label, Recorder as _};

use super::{METADATA, Metrics, counter};
use crate::journal::{Millis, ObserverState};

pub(super) const ATTEMPTS: &str = "echostr_observations_total";
pub(super) const PENDING: &str = "echostr_observer_pending";
pub(super) const OLDEST: &str = "echostr_observer_oldest_seconds";
pub(super) const DEAD: &str = "echostr_observer_dead_letters";

/// The counters of one observer, registered once. Each attempt is counted by one.
#[derive(Clone, Debug)]
pub(crate) struct ObserverMetrics {
    /// Attempts that succeeded.
    pub(crate) done: Counter,
    /// Those that failed or panicked, and that are to be repeated.
    pub(crate) failed: Counter,
    /// Those that failed for good: dead letters.
    pub(crate) dead: Counter,
    /// Late replies that waited in vain for the next message of a user.
    pub(crate) dropped: Counter,
}

impl Metrics {
    /// Registers the counters of an observer.
    pub(crate) fn observer(&self, name: &str) -> ObserverMetrics {
        let attempts = |result| {
            let labels = vec![Label::new("observer", name.to_owned()), Label::from_static_parts("result", result)];
            counter(&self.recorder, ATTEMPTS, labels)
        };
        ObserverMetrics {
            done: attempts("done"),
            failed: attempts("failed"),
            dead: attempts("dead"),
            dropped: attempts("dropped"),
        }
    }

    /// Shows what the journal has for each observer.
    pub(crate) fn show_observers(&self, states: &[ObserverState], now: Millis) {
        for state in states {
            let show = |name: &'static str, value: f64| {
                let key = Key::from_parts(name, vec![Label::new("observer", state.name.clone())]);
                self.recorder.register_gauge(&key, &METADATA).set(value);
            };
            let age = state.oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
            show(PENDING, state.pending as f64);
            show(OLDEST, age as f64 / 1000.0);
            show(DEAD, state.dead as f64);
        }
    }
}
