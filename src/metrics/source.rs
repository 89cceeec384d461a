//! What is known of the addresses that requests come from.

use std::time::Duration;

use metrics::{Counter, Gauge, Key, Label, Recorder as _};

use super::{METADATA, Metrics, counter};

pub(super) const UNEXPECTED: &str = "echostr_unexpected_source_total";
pub(super) const ADDRESSES: &str = "echostr_source_addresses";
pub(super) const AGE: &str = "echostr_source_age_seconds";

/// The metrics of one account, registered once.
#[derive(Clone, Debug)]
pub(crate) struct SourceMetrics {
    /// Requests from addresses that are not in the list.
    pub(crate) unexpected: Counter,
    addresses: Gauge,
    age: Gauge,
}

impl SourceMetrics {
    /// Shows how many entries the list has, and how old it is.
    pub(crate) fn show(&self, entries: usize, age: Duration) {
        self.addresses.set(entries as f64);
        self.age.set(age.as_secs_f64());
    }

    /// Shows no number.
    pub(crate) fn hide(&self) {
        self.addresses.set(f64::NAN);
        self.age.set(f64::NAN);
    }
}

impl Metrics {
    /// Registers the metrics of an account that checks addresses.
    pub(crate) fn source(&self, platform: &'static str, name: &str) -> SourceMetrics {
        let labels = || vec![Label::from_static_parts("platform", platform), Label::new("account", name.to_owned())];
        let gauge = |name| self.recorder.register_gauge(&Key::from_parts(name, labels()), &METADATA);
        SourceMetrics {
            unexpected: counter(&self.recorder, UNEXPECTED, labels()),
            addresses: gauge(ADDRESSES),
            age: gauge(AGE),
        }
    }
}
