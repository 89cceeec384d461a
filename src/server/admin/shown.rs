//! Events, observations and dead letters as the API shows them.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    catalogue::Titles,
    mask::{Mask, Shown},
    model::{
        AttemptDetail, Content, DeadLetterDetail, EventDetail, Listed, ObservationDetail, ObserverDetail, Summary,
    },
};
use crate::{
    delivery::{Answered, LatestDeliveries},
    journal::{DeadLetter, INTERNAL_PREFIX, Millis, Observation, ObservationState, ObserverState, Stored},
    payload::Form,
};

/// RFC 3339 in UTC, with milliseconds.
pub(super) fn time(millis: Millis) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

/// How an event is shown.
#[derive(Clone, Copy)]
pub(super) struct View<'v> {
    pub(super) titles: &'v Titles,
    pub(super) mask: &'v Mask,
    pub(super) deliveries: &'v LatestDeliveries,
    /// With the values that are masked otherwise.
    pub(super) reveal: bool,
    /// In a list: with payload and reply.
    pub(super) full: bool,
}

impl View<'_> {
    pub(super) fn listed(&self, stored: &Stored) -> Listed {
        let shown = self.mask.show(stored, self.reveal);
        let content = self.full.then(|| content(stored, &shown));
        Listed::new(self.summary(stored, &shown), content)
    }

    fn summary(&self, stored: &Stored, shown: &Shown<'_>) -> Summary {
        let record = &stored.record;
        Summary {
            id: stored.id.to_string(),
            time: time(record.received),
            account: record.account.to_string(),
            platform: record.platform.as_str().to_owned(),
            r#type: record.event_type.to_string(),
            title: self.titles.of(&record.event_type),
            subject: shown.subject(),
            state: stored.state.as_str().to_owned(),
            deliveries: stored.deliveries,
            duration_ms: self.deliveries.of(stored.id).first().map(|first| in_millis(first.took)),
            has_reply: stored.reply.is_some(),
            failure: stored.failure.as_deref().map(|failure| shown.text(failure)),
        }
    }

    pub(super) fn detail(&self, stored: &Stored, observations: &[Observation]) -> EventDetail {
        let shown = self.mask.show(stored, self.reveal);
        let cloudevent = shown.cloud_event();
        EventDetail {
            summary: self.summary(stored, &shown),
            content: content(stored, &shown),
            data: cloudevent["data"].clone(),
            cloudevent,
            attempts: self.attempts(stored),
            observations: observations.iter().map(|it| observation(it, &shown)).collect(),
        }
    }

    /// The deliveries of an event that this process remembers.
    fn attempts(&self, stored: &Stored) -> Vec<AttemptDetail> {
        let attempt = |it: Answered| AttemptDetail { time: time(it.at), duration_ms: in_millis(it.took) };
        self.deliveries.of(stored.id).into_iter().map(attempt).collect()
    }

    pub(super) fn letter(&self, letter: &DeadLetter) -> DeadLetterDetail {
        let error = self.mask.show(&letter.event, self.reveal).text(&letter.error);
        DeadLetterDetail {
            event: self.listed(&letter.event),
            observer: letter.observer.clone(),
            attempts: letter.attempts,
            error,
            died: time(letter.died),
        }
    }

    /// Whether a text is in what is shown of a payload: what is masked is not found either.
    pub(super) fn has_text(&self, stored: &Stored, text: Option<&str>) -> bool {
        let in_shown = |text| self.mask.show(stored, false).payload().contains(text);
        self.mask.is_empty() || text.is_none_or(in_shown)
    }
}

/// Milliseconds, to a hundredth.
fn in_millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

fn content(stored: &Stored, shown: &Shown<'_>) -> Content {
    Content {
        form: form_name(stored.record.form).to_owned(),
        payload: shown.payload().to_owned(),
        query: shown.query(),
        reply: shown.reply(),
    }
}

/// The name of a syntax.
pub(super) const fn form_name(form: Form) -> &'static str {
    match form {
        Form::Xml => "xml",
        Form::Json => "json",
    }
}

fn observation(observation: &Observation, shown: &Shown<'_>) -> ObservationDetail {
    let due = match observation.state {
        ObservationState::Waiting(at) | ObservationState::Leased(at) | ObservationState::Dead(at) => Some(time(at)),
        ObservationState::Done => None,
    };
    ObservationDetail {
        observer: observation.observer.clone(),
        state: observation.state.as_str().to_owned(),
        due,
        attempts: observation.attempts,
        error: observation.error.as_deref().map(|error| shown.text(error)),
    }
}

impl From<ObserverState> for ObserverDetail {
    fn from(ObserverState { name, absent_since, pending, oldest, dead }: ObserverState) -> Self {
        let internal = name.starts_with(INTERNAL_PREFIX);
        Self { name, internal, absent_since: absent_since.map(time), pending, oldest: oldest.map(time), dead }
    }
}
