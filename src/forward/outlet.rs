//! What sends the events of one forward.

use reqwest::header::HeaderValue;

use super::{Content, queue::Publisher};
use crate::{
    config::Destination,
    log::escape,
    webhook::{Client, Guard, Message, Received, SendError, TRACEPARENT},
};

/// How much of an answer is kept with a failure.
const SHOWN_CHARACTERS: usize = 200;

/// Sends to one target, over connections that it keeps.
#[derive(Debug)]
pub(crate) enum Outlet {
    Http(Box<Client>),
    Queue(Publisher),
}

impl Outlet {
    /// One that sends so many events at a time.
    ///
    /// # Errors
    /// When a client cannot be set up.
    pub(crate) fn new(to: &Destination, concurrency: usize, guard: &Guard) -> Result<Self, SendError> {
        match to {
            Destination::Http(target) => Ok(Self::Http(Box::new(Client::new(target, guard)?))),
            Destination::Queue(queue) => Ok(Self::Queue(Publisher::new(queue, concurrency, guard)?)),
        }
    }

    /// Connects to the target without an event; returns what it says.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses.
    pub(crate) async fn reach(&self) -> Result<String, SendError> {
        match self {
            Self::Http(client) => Ok(format!("status {} to OPTIONS", client.reach().await?)),
            Self::Queue(publisher) => Ok(publisher.reach().await.map_err(|error| SendError(error.text))?.to_owned()),
        }
    }
}

/// Sends an event once; `parent` is the span that whoever gets it may put its own below.
///
/// # Errors
/// [`SendError`] when there is no answer.
pub(crate) async fn send(
    client: &Client,
    id: &str,
    now: i64,
    content: Content,
    parent: Option<&str>,
) -> Result<Received, SendError> {
    let mut headers = content.headers().map_err(SendError)?;
    if let Some(parent) = parent.and_then(|parent| HeaderValue::from_str(parent).ok()) {
        headers.insert(TRACEPARENT, parent);
    }
    let Content { content_type, query, body, .. } = content;
    client.post(Message { id, now, content_type, headers, query: query.as_deref(), body }, None).await
}

/// An answer that is a failure: its status and how its body begins.
pub(crate) async fn describe(received: &mut Received) -> String {
    let status = received.status();
    let note = if (300..400).contains(&status) { " (redirects are not followed)" } else { "" };
    let (body, _) = received.start_of_body(4 * SHOWN_CHARACTERS).await.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_CHARACTERS).collect();
    let separator = if text.is_empty() { "" } else { ": " };
    format!("status {status}{note}{separator}{}", escape(&text))
}
