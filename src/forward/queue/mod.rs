//! Queues as targets of forwards. An event is done when the broker has confirmed that it has it.
//!
//! | module | what it does |
//! |---|---|
//! | `link` | one connection for all that is published, made again when it is lost |
//! | `nats`, `redis`, `rabbitmq`, `kafka` | one system each, each behind a feature of Cargo |
//!
//! Names are resolved and judged by [`Guard`] before each connection. A publish that is cut off may have arrived: it is sent
//! again under the same id.

#[cfg(feature = "kafka")]
mod kafka;
mod link;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time;
use uuid::Uuid;

use super::{Content, Formatter};
use crate::{
    config::Queue,
    journal::EventRecord,
    log::escape,
    webhook::{Fields, Guard, SendError},
};

/// How much of what a broker says is kept with a failure.
const SHOWN_CHARACTERS: usize = 300;

/// How long it may take to connect and to sign in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One system of queues.
trait Broker: Send + Sync {
    /// Publishes a message; ready when the broker has confirmed it.
    fn publish<'b>(&'b self, message: &'b Message<'b>) -> BoxFuture<'b, Result<(), PublishError>>;

    /// Connects and signs in.
    fn reach(&self) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Lets go of the connection, so that the next message has a new one.
    fn forget(&self);
}

/// What is published.
struct Message<'m> {
    /// Identity of the event: the same on every attempt.
    id: &'m str,
    content: &'m Content,
    fields: &'m Fields<'m>,
}

/// What a failure says about the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no connection, or no confirmation: the message may have arrived.
    Unavailable,
    /// It has too much to do, or no room.
    Busy,
    /// It refuses what this forward sends until somebody changes something.
    Refused,
    /// It will never take this message.
    Unacceptable,
}

/// Why a message is not confirmed. Has no secret in it, and nothing of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PublishError {
    pub(crate) trouble: Trouble,
    pub(crate) text: String,
}

impl PublishError {
    fn new(trouble: Trouble, text: impl AsRef<str>) -> Self {
        let text: String = text.as_ref().chars().take(SHOWN_CHARACTERS).collect();
        Self { trouble, text: escape(&text).into_owned() }
    }

    fn unavailable(text: impl AsRef<str>) -> Self {
        Self::new(Trouble::Unavailable, text)
    }

    fn refused(text: impl AsRef<str>) -> Self {
        Self::new(Trouble::Refused, text)
    }
}

/// Publishes to one queue.
pub(crate) struct Publisher {
    broker: Box<dyn Broker>,
    timeout: Duration,
    needs_data: bool,
    shown: String,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("to", &self.shown).finish_non_exhaustive()
    }
}

impl Publisher {
    /// One that publishes so many messages at a time. Nothing is connected yet.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the program was built without the system.
    pub(crate) fn new(queue: &Queue, concurrency: usize, guard: &Guard) -> Result<Self, SendError> {
        let broker = broker(queue, concurrency, guard).map_err(|error| SendError(error.text))?;
        let (timeout, needs_data) = (queue.timeout, queue.place.needs_data());
        Ok(Self { broker, timeout, needs_data, shown: queue.shown().to_owned() })
    }

    /// Publishes an event as it is at this time, Unix seconds.
    ///
    /// # Errors
    /// [`PublishError`] when it is not confirmed within the timeout.
    pub(crate) async fn publish(
        &self,
        formatter: &Formatter,
        record: &EventRecord,
        id: Uuid,
        now: i64,
    ) -> Result<(), PublishError> {
        let unwritable = |error: String| PublishError::new(Trouble::Unacceptable, error);
        let content = formatter.content(record, id, now).map_err(unwritable)?;
        let text = id.to_string();
        let fields = formatter.fields(record, id, &text, self.needs_data);
        let message = Message { id: &text, content: &content, fields: &fields };
        self.within(self.broker.publish(&message), "confirmed").await
    }

    /// Connects and signs in, without a message; returns what that shows.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub(crate) async fn reach(&self) -> Result<&'static str, PublishError> {
        self.within(self.broker.reach(), "connected").await?;
        Ok("connected and signed in; whether it takes messages shows `echostr forwards test`")
    }

    async fn within(
        &self,
        attempt: impl Future<Output = Result<(), PublishError>>,
        what: &str,
    ) -> Result<(), PublishError> {
        match time::timeout(self.timeout, attempt).await {
            Ok(done) => done,
            Err(_) => {
                // It may hang for ever: another attempt is better off with another one.
                self.broker.forget();
                let seconds = self.timeout.as_secs_f64();
                Err(PublishError::new(Trouble::Unavailable, format!("not {what} within {seconds} s")))
            }
        }
    }
}

/// The client of a system.
#[cfg_attr(not(feature = "queues"), allow(unused_variables, reason = "each system has a part of it for itself"))]
fn broker(queue: &Queue, concurrency: usize, guard: &Guard) -> Result<Box<dyn Broker>, PublishError> {
    match queue.system {
        #[cfg(feature = "nats")]
        crate::config::System::Nats => Ok(Box::new(nats::Nats::new(queue, guard)?)),
        #[cfg(feature = "redis")]
        crate::config::System::Redis => Ok(Box::new(redis::Redis::new(queue, concurrency, guard)?)),
        #[cfg(feature = "rabbitmq")]
        crate::config::System::RabbitMq => Ok(Box::new(rabbitmq::RabbitMq::new(queue, guard)?)),
        #[cfg(feature = "kafka")]
        crate::config::System::Kafka => Ok(Box::new(kafka::Kafka::new(queue, guard)?)),
        // The configuration refuses these.
        #[cfg(not(all(feature = "nats", feature = "redis", feature = "rabbitmq", feature = "kafka")))]
        _ => Err(PublishError::new(Trouble::Refused, "this program was built without this queue")),
    }
}
