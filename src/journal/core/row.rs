//! How rows are read, and what the numbers in them mean.

use std::{fmt, sync::Arc};

use tracing::error;
use uuid::Uuid;

use super::{
    super::{
        DeadLetter, EventRecord, Lease, Leased, Millis, Observation, ObservationState, ObserverState, State, Stored,
        model::plain_success,
    },
    session::Value,
};
use crate::{
    event::Platform,
    payload::{Form, Payload},
    platform::Body,
};

/// A row that a store has found; columns have numbers.
pub(crate) trait Row {
    /// A number or a flag.
    fn number(&self, column: usize) -> Result<Option<i64>, RowError>;

    /// A text, however the store keeps it.
    fn text(&self, column: usize) -> Result<Option<String>, RowError>;

    /// An identity.
    fn id(&self, column: usize) -> Result<Uuid, RowError>;

    /// What refers to an event: its [`Dialect::event`](super::session::Dialect::event).
    fn place(&self, column: usize) -> Result<Option<Value>, RowError>;

    /// A number that is there.
    fn integer(&self, column: usize) -> Result<i64, RowError> {
        self.number(column)?.ok_or_else(|| RowError::column(column, "it is NULL"))
    }

    /// A text that is there.
    fn string(&self, column: usize) -> Result<String, RowError> {
        self.text(column)?.ok_or_else(|| RowError::column(column, "it is NULL"))
    }

    /// How many.
    fn count(&self, column: usize) -> Result<u32, RowError> {
        let number = self.integer(column)?;
        u32::try_from(number).map_err(|_| RowError::column(column, format_args!("it is {number}, which is no count")))
    }
}

/// Why a row cannot be read. The store works; only another program can have written this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("column {column} cannot be read: {cause}")]
    Column { column: usize, cause: String },
    #[error("event {event} belongs to account `{account}`, whose platform this version does not know")]
    Platform { event: Uuid, account: String },
    #[error("event {event} has {what} {number}, which this version does not know")]
    Number { event: Uuid, what: &'static str, number: i64 },
}

impl RowError {
    pub(crate) fn column(column: usize, cause: impl fmt::Display) -> Self {
        Self::Column { column, cause: cause.to_string() }
    }
}

/// The columns that [`stored`] reads.
macro_rules! event_columns {
    () => {
        "event.id, event.account, event.type, event.subject, event.form, event.payload, event.query, event.received, \
         event.deliveries, event.state, event.reply, event.failure"
    };
}
pub(crate) use event_columns;

/// Number of columns in `event_columns`.
pub(crate) const EVENT_COLUMNS: usize = 12;

/// An event from the columns of `event_columns`.
pub(crate) fn stored(row: &dyn Row) -> Result<Stored, RowError> {
    let id = row.id(0)?;
    let account = row.string(1)?;
    let record = EventRecord {
        platform: platform_of(id, &account)?,
        account: account.into(),
        event_type: row.string(2)?.into(),
        subject: row.text(3)?.map(Into::into),
        form: form(id, row.integer(4)?)?,
        payload: Payload::new(row.string(5)?),
        query: row.text(6)?.map(Into::into),
        received: row.integer(7)?,
    };
    let state = state(id, row.integer(9)?)?;
    Ok(Stored { id, record, deliveries: row.count(8)?, state, reply: row.text(10)?, failure: row.text(11)? })
}

/// An event on lease, from the columns of `event_columns`. One that cannot be read is skipped until its lease is over, so
/// that it blocks no other.
pub(crate) fn leased(row: &dyn Row, observer: &Arc<str>, attempt: u32, until: Millis) -> Option<Leased> {
    let unreadable = |failure: &RowError| {
        error!(observer = &**observer, "observer {observer} skipped an event that cannot be read: {failure}");
    };
    let stored = stored(row).inspect_err(unreadable).ok()?;
    let (observer, account) = (Arc::clone(observer), Arc::clone(&stored.record.account));
    let lease = Lease { id: stored.id, observer, account, attempt, until };
    let is_late = stored.state == State::Late;
    Some(Leased { lease, reply: stored.body(), is_late, record: stored.record })
}

/// A dead letter from the columns of `event_columns`, and then observer, attempts, error and time.
pub(super) fn dead_letter(row: &dyn Row) -> Result<DeadLetter, RowError> {
    let column = |at: usize| EVENT_COLUMNS + at;
    Ok(DeadLetter {
        event: stored(row)?,
        observer: row.string(column(0))?,
        attempts: row.count(column(1))?,
        error: row.string(column(2))?,
        died: row.integer(column(3))?,
    })
}

/// What an observer has to do with an event: its name, when it is due and whether it is leased, when it permanently failed,
/// attempts, and the last error.
pub(super) fn observation(row: &dyn Row) -> Result<Observation, RowError> {
    let state = match (row.number(1)?, row.number(2)?, row.number(3)?) {
        (Some(due), Some(1), _) => ObservationState::Leased(due),
        (Some(due), _, _) => ObservationState::Waiting(due),
        (None, _, Some(died)) => ObservationState::Dead(died),
        _ => ObservationState::Done,
    };
    Ok(Observation { observer: row.string(0)?, state, attempts: row.count(4)?, error: row.text(5)? })
}

/// An observer: its name, since when it is missing, its pending events, when the oldest of them came, its dead letters.
pub(crate) fn observer_state(row: &dyn Row) -> Result<ObserverState, RowError> {
    Ok(ObserverState {
        name: row.string(0)?,
        absent_since: row.number(1)?,
        pending: row.integer(2)?.cast_unsigned(),
        oldest: row.number(3)?,
        dead: row.integer(4)?.cast_unsigned(),
    })
}

/// The platform of the account of an event.
pub(crate) fn platform_of(event: Uuid, account: &str) -> Result<Platform, RowError> {
    let name = account.split_once('/').map_or(account, |(platform, _)| platform);
    name.parse().map_err(|_| RowError::Platform { event, account: account.to_owned() })
}

/// The number of a form.
pub(crate) const fn form_number(form: Form) -> i16 {
    match form {
        Form::Xml => 0,
        Form::Json => 1,
    }
}

/// The form with a number.
fn form(event: Uuid, number: i64) -> Result<Form, RowError> {
    match number {
        0 => Ok(Form::Xml),
        1 => Ok(Form::Json),
        _ => Err(RowError::Number { event, what: "form", number }),
    }
}

/// The number of a state.
pub(crate) const fn state_number(state: State) -> i16 {
    match state {
        State::Responding => 0,
        State::Answered => 1,
        State::Defaulted => 2,
        State::Late => 3,
    }
}

/// The state of an event, with a number.
pub(crate) fn state(event: Uuid, number: i64) -> Result<State, RowError> {
    let known = State::ALL.into_iter().find(|state| i64::from(state_number(*state)) == number);
    known.ok_or(RowError::Number { event, what: "state", number })
}

/// The reply column: nothing for the plain success.
pub(crate) fn reply_text(body: &Body) -> Option<&str> {
    match body {
        Body::Plain(_) => None,
        Body::Document(text) => Some(text),
    }
}

/// What a repeat of an event is answered; nothing while its responder runs.
pub(crate) fn answer(state: State, reply: Option<String>, platform: Platform) -> Option<Body> {
    match state {
        State::Responding => None,
        State::Late => Some(plain_success(platform)),
        State::Answered | State::Defaulted => Some(reply.map_or_else(|| plain_success(platform), Body::Document)),
    }
}
