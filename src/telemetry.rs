//! Traces of what becomes of each event, for a collector of OpenTelemetry.
//!
//! The trace of an event has the identity of the event: a UUID is as long as a trace id, and random where samplers look. So
//! whoever has the one has the other, and what observers do later, in another process or after a restart, is in the same trace
//! without anything that is stored for it.
//!
//! ```text
//! delivery (root, of the first delivery)
//! ├── ask NAME         a service of an [[answer]] that was asked
//! ├── delivery         a repeat
//! └── observe NAME     an attempt of an observer; of a forward, what its target is given as `traceparent`
//! ```
//!
//! A span is made when what it is about has ended. While nothing is exported, that is one look at a static.

#[cfg(feature = "otlp")]
mod otlp;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::OnceLock,
    time::{Instant, SystemTime},
};

use uuid::Uuid;

/// Where the spans of this process go to.
static EXPORT: OnceLock<Box<dyn Export>> = OnceLock::new();

/// Takes finished spans.
trait Export: Send + Sync {
    fn export(&self, span: Span);

    /// Whether the spans of an event are exported.
    fn samples(&self, event: Uuid) -> bool;

    /// Sends what is left.
    fn flush(&self);
}

/// Something that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Its event.
    pub(crate) event: Uuid,
    pub(crate) kind: Kind,
    pub(crate) account: String,
    pub(crate) event_type: String,
    pub(crate) started: Instant,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// What a span is about.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A delivery of the platform, which is the first one or a repeat.
    Delivery { is_first: bool },
    /// A service was asked for the reply.
    Ask { answer: String },
    /// An observer was given the event.
    Observe { observer: String, attempt: u32 },
}

impl Kind {
    fn name(&self, event_type: &str) -> String {
        match self {
            Self::Delivery { .. } => format!("delivery {event_type}"),
            Self::Ask { answer } => format!("ask {answer}"),
            Self::Observe { observer, .. } => format!("observe {observer}"),
        }
    }

    /// Its id within the trace of an event: the same in whatever process and place it is asked for. That of a repeat, which is
    /// asked for once only, depends on the time.
    fn id(&self, event: Uuid, started: Instant) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Delivery { is_first: true } => return root(event),
            Self::Delivery { is_first: false } => started.hash(&mut hasher),
            Self::Ask { answer } => ("ask", answer).hash(&mut hasher),
            Self::Observe { observer, attempt } => ("observe", observer, attempt).hash(&mut hasher),
        }
        event.hash(&mut hasher);
        // None has the id of nothing.
        hasher.finish().max(1)
    }
}

/// The id of the first span of an event.
fn root(event: Uuid) -> u64 {
    event.as_u64_pair().1.max(1)
}

/// Exports the spans of this process from now on, if the variables `OTEL_…` name a collector; returns where to.
///
/// # Errors
/// What is wrong with these variables.
pub(crate) fn start() -> Result<Option<String>, String> {
    if !is_wanted(|name| std::env::var(name).ok()) {
        return Ok(None);
    }
    #[cfg(feature = "otlp")]
    return otlp::start().map(|(export, to)| {
        let _ = EXPORT.set(export);
        Some(to)
    });
    #[cfg(not(feature = "otlp"))]
    return Err(
        "this program was built without the feature `otlp` of the package echostr, so no traces are exported".into()
    );
}

/// Whether the variables ask for traces.
fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name: &str, value: &str| variable(name).is_some_and(|it| it.trim().eq_ignore_ascii_case(value));
    let has = |name: &str| variable(name).is_some_and(|it| !it.trim().is_empty());
    !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
        && (has("OTEL_EXPORTER_OTLP_ENDPOINT") || has("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
}

/// Sends what is left, at the end of the process.
pub(crate) fn flush() {
    if let Some(export) = EXPORT.get() {
        export.flush();
    }
}

/// Whether the spans of an event are exported: only then it is worth to make one.
pub(crate) fn traces(event: Uuid) -> bool {
    EXPORT.get().is_some_and(|export| export.samples(event))
}

/// Records what has ended now.
pub(crate) fn record(span: Span) {
    if let Some(export) = EXPORT.get().filter(|export| export.samples(span.event)) {
        export.export(span);
    }
}

/// The header by which whoever is asked puts its spans below this one; `None` while nothing is exported.
pub(crate) fn traceparent(event: Uuid, kind: &Kind) -> Option<String> {
    let id = || kind.id(event, Instant::now());
    traces(event).then(|| format!("00-{}-{:016x}-01", event.simple(), id()))
}

/// When something began, by the time of day.
fn time_of_day(started: Instant, now: SystemTime) -> SystemTime {
    now.checked_sub(started.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_exported_where_a_collector_is_named_and_not_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[], false),
            (&[endpoint], true),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")], true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], false),
            (&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], false),
        ];
        for (variables, expected) in cases {
            let variable = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
            assert_eq!(is_wanted(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_span_has_the_same_id_wherever_it_is_asked_for() {
        let (event, other) = (Uuid::from_u64_pair(1, 2), Uuid::from_u64_pair(1, 3));
        let observe = |attempt| Kind::Observe { observer: "crm".to_owned(), attempt };
        let id = |kind: &Kind, event| kind.id(event, Instant::now());
        assert_eq!(id(&observe(1), event), id(&observe(1), event));
        assert_ne!(id(&observe(1), event), id(&observe(2), event));
        assert_ne!(id(&observe(1), event), id(&observe(1), other));
        assert_eq!(id(&Kind::Delivery { is_first: true }, event), 2);
        assert_ne!(id(&Kind::Delivery { is_first: false }, event), 2);
        assert_eq!(traceparent(event, &observe(1)), None, "nothing is exported");
    }
}
