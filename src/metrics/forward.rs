//! What is counted of forwards, by their names.

use metrics::{Counter, Gauge, Key, Label, Recorder as _};

use super::{METADATA, Metrics, counter};
use crate::forward::ForwardState;

pub(super) const ATTEMPTS: &str = "echostr_forward_attempts_total";
pub(super) const STATE: &str = "echostr_forward_state";

/// The metrics of one forward, registered once.
#[derive(Clone, Debug)]
pub(crate) struct ForwardMetrics {
    /// Events that the target took.
    pub(crate) delivered: Counter,
    /// Attempts that failed.
    pub(crate) failed: Counter,
    /// Events that are dead letters.
    pub(crate) dead: Counter,
    /// 1 at the state that it has.
    states: [Gauge; 4],
}

impl ForwardMetrics {
    /// Shows the state.
    pub(crate) fn show(&self, state: ForwardState) {
        for (gauge, of) in self.states.iter().zip(ForwardState::ALL) {
            gauge.set(if of == state { 1.0 } else { 0.0 });
        }
    }
}

impl Metrics {
    /// Registers the metrics of a forward.
    pub(crate) fn forward(&self, name: &str) -> ForwardMetrics {
        let labels = |key: &'static str, value: &'static str| {
            vec![Label::new("forward", name.to_owned()), Label::from_static_parts(key, value)]
        };
        let attempts = |result| counter(&self.recorder, ATTEMPTS, labels("result", result));
        ForwardMetrics {
            delivered: attempts("delivered"),
            failed: attempts("failed"),
            dead: attempts("dead"),
            states: ForwardState::ALL.map(|state| {
                let key = Key::from_parts(STATE, labels("state", state.as_str()));
                self.recorder.register_gauge(&key, &METADATA)
            }),
        }
    }
}
