//! What a handler may know beside its event.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    api::{Api, ApiError},
    bots::Bots,
    clock::Clock,
    envelope,
    event::Platform,
    journal::{EventRecord, Millis},
    media::MediaError,
    payload::{self, Form, Payload, PayloadError, Value},
    platform::{self, AUTHORIZER},
    websocket::{Bot, BotError},
};

/// What a handler may know beside the event. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context(Arc<ContextInner>);

#[derive(Debug)]
pub(crate) struct ContextInner {
    pub(crate) event: RawEvent,
    pub(crate) id: Uuid,
    pub(crate) deadline: Instant,
    pub(crate) clock: Clock,
    pub(crate) attempt: u32,
    pub(crate) api: Option<Api>,
    pub(crate) bots: Bots,
}

impl Context {
    pub(crate) fn new(inner: ContextInner) -> Self {
        Self(Arc::new(inner))
    }

    /// The platform of the account that received the event.
    pub fn platform(&self) -> Platform {
        self.0.event.platform
    }

    /// The account that received the event, as in `mp/shop`.
    pub fn account(&self) -> &str {
        &self.0.event.account
    }

    /// Identity of the event; a repeated delivery of it has the same.
    pub fn event_id(&self) -> Uuid {
        self.0.id
    }

    /// When the answer is due; a later one is recorded, but the platform may no longer accept it.
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Time left for the answer.
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Which attempt of an observer this is, from 1. An observer may see an event again when it failed, or when the
    /// process ended before its success was recorded. A responder that runs again because its process ended, and not because
    /// the platform retried, has a number above 1.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The event as it came.
    pub fn raw(&self) -> &RawEvent {
        &self.0.event
    }

    /// The platform's API, with the account's access token: for what a reply cannot say.
    ///
    /// # Errors
    /// [`ApiError::NoSecret`] when the account has no `secret`.
    pub fn api(&self) -> Result<&Api, ApiError> {
        self.0.api.as_ref().ok_or_else(|| ApiError::NoSecret(self.account().to_owned()))
    }

    /// The connection of a bot in WebSocket mode: for messages that nobody asked for, and uploads.
    ///
    /// # Errors
    /// [`BotError::NotWebSocket`] when the account has none.
    pub fn bot(&self) -> Result<&Bot, BotError> {
        self.0.bots.connection(self.account()).ok_or_else(|| BotError::NotWebSocket(self.account().to_owned()))
    }

    /// A picture, file or video of a message to a bot, downloaded from the platform and decrypted. The link works for a few
    /// minutes after the message.
    ///
    /// # Errors
    /// [`MediaError`]; a link that does not lead to the platform is not followed.
    pub async fn media(&self, url: &str) -> Result<Vec<u8>, MediaError> {
        let media = self.0.bots.media(self.account());
        let media = media.ok_or_else(|| MediaError::NoMedia(self.account().to_owned()))?;
        media.get(url, self.raw().tree().ok().as_ref()).await
    }

    /// The time of day, which tests may set.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

/// An event as it came: what handlers of whole families and of unknown events get.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawEvent {
    /// The platform of the account that received it.
    pub platform: Platform,
    /// The account that received it, as in `mp/shop`.
    pub account: Arc<str>,
    /// The event type, as in `mp.event.subscribe`; unknown events are `mp.event.unknown` and the like.
    pub event_type: &'static str,
    /// Syntax of the payload.
    pub form: Form,
    /// The opened payload.
    pub payload: Payload,
    /// The parameters of the query that are data.
    pub(crate) query: Option<Arc<str>>,
}

impl RawEvent {
    /// The payload as a tree.
    ///
    /// # Errors
    /// Never for the event of a handler; its payload was parsed before.
    pub fn tree(&self) -> Result<Value<'_>, PayloadError> {
        payload::parse(self.form, self.payload.text())
    }

    /// The wire values that name the event: `["event", "subscribe"]`.
    pub fn key(&self) -> Vec<String> {
        let command = self.query("CallbackCommand");
        let Ok(tree) = self.tree() else { return Vec::new() };
        let identity = platform::identify(self.platform, &tree, command.as_deref());
        identity.key.iter().map(ToString::to_string).collect()
    }

    /// The AppID of the account that has authorised a third-party platform, in messages and events of that account.
    pub fn authorizer(&self) -> Option<String> {
        self.query(AUTHORIZER).filter(|_| self.platform.protocol().routes_authorizers())
    }

    /// A query parameter that is data of the event, which only IM has: `CallbackCommand`, `ClientIP`, `OptPlatform`,
    /// `RequestTime` and `RequestID`.
    pub fn query(&self, name: &str) -> Option<String> {
        envelope::Query::parse(self.query.as_deref()?).ok()?.get(name).map(str::to_owned)
    }

    /// What the journal stores of it.
    pub(crate) fn record(&self, subject: Option<Box<str>>, received: Millis) -> EventRecord {
        EventRecord {
            platform: self.platform,
            account: Arc::clone(&self.account),
            event_type: Cow::Borrowed(self.event_type),
            subject,
            form: self.form,
            payload: self.payload.clone(),
            query: self.query.clone(),
            received,
        }
    }
}
