//! What the crate `echostr-testing` needs of the inside. It is not for anybody else, and may change with any version.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use crate::{
    api::Api,
    bots::Bots,
    clock::Clock,
    event::Platform,
    hooks::{Context, ContextInner, RawEvent},
    http,
    payload::{self, Form, Payload, PayloadError},
    platform,
};

/// What [`crate::run`] does before handlers are set up.
pub fn prepare() {
    http::install_crypto();
}

/// What a handler under test is to find in its context.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The platform of the account.
    pub platform: Platform,
    /// The account, `mp/shop`.
    pub account: Arc<str>,
    /// The payload and its syntax.
    pub form: Form,
    /// The opened payload.
    pub payload: String,
    /// The parameters of the query that are data.
    pub query: Option<String>,
    /// Identity of the event.
    pub id: Uuid,
    /// When the reply must be there.
    pub deadline: Instant,
    /// The time of day.
    pub clock: Clock,
    /// Which attempt of an observer it is.
    pub attempt: u32,
    /// The platform's API.
    pub api: Option<Api>,
}

/// The context of such an event, classified as the server does it.
///
/// # Errors
/// When the payload cannot be read.
pub fn context(parts: Parts) -> Result<Context, PayloadError> {
    let Parts { platform, account, form, payload, query, id, deadline, clock, attempt, api } = parts;
    let query: Option<Arc<str>> = query.map(Into::into);
    let mut event = RawEvent { platform, account, event_type: "", form, payload: Payload::new(payload), query };
    let command = event.query("CallbackCommand");
    event.event_type =
        platform::classify(platform, &payload::parse(form, event.payload.text())?, form, command.as_deref()).0;
    Ok(Context::new(ContextInner { event, id, deadline, clock, attempt, api, bots: Bots::default() }))
}
