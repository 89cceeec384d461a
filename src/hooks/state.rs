//! Handlers that share a state.

use std::{future::Future, sync::Arc};

use super::{Background, Context, HandlerError, Hooks, Observe, RawEvent, ServerHandle};
use crate::{event::Event, replies::RawReply};

/// Registers handlers that get a state beside the event: a pool of connections, an HTTP client, a cache. [`Hooks::with`] makes it.
///
/// ```
/// use echostr::{events::mp, hooks::{Context, HandlerError, Hooks}, replies::mp::Reply};
///
/// struct Shop {
///     greeting: String,
/// }
///
/// impl Shop {
///     async fn greet(&self, openid: &str) -> Result<String, HandlerError> {
///         Ok(format!("{}, {openid}", self.greeting))
///     }
/// }
///
/// let hooks: Hooks = Hooks::with(Shop { greeting: "hello".to_owned() })
///     .on(async |shop, message: mp::TextMessage, _| Ok(Reply::text(shop.greet(message.from_user()).await?)))
///     .observe("audit", async |_, message: mp::TextMessage, context| {
///         tracing::info!("{}: {}", context.account(), message.content.len());
///         Ok(())
///     })
///     .into();
/// # drop(hooks);
/// ```
///
/// A function takes it as `Arc<Shop>`. Handlers without the state are added with [`merge`](Self::merge).
#[derive(Debug)]
pub struct HooksWith<S> {
    state: Arc<S>,
    hooks: Hooks,
}

impl Hooks {
    /// Handlers that share a state; each gets it as its first argument, an `Arc`.
    pub fn with<S: Send + Sync + 'static>(state: S) -> HooksWith<S> {
        Self::with_shared(Arc::new(state))
    }

    /// As [`with`](Self::with), with a state that others have too: other modules of handlers, a task.
    pub fn with_shared<S: Send + Sync + 'static>(state: Arc<S>) -> HooksWith<S> {
        HooksWith { state, hooks: Self::default() }
    }
}

impl<S: Send + Sync + 'static> HooksWith<S> {
    /// As [`Hooks::on`].
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn on<E, F, Fut>(self, handler: F) -> Self
    where
        E: Event,
        F: Fn(Arc<S>, E, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<E::Reply, HandlerError>> + Send + 'static,
    {
        let handler = self.bind(handler);
        Self { hooks: self.hooks.on(handler), state: self.state }
    }

    /// As [`Hooks::on_any`].
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn on_any<F, Fut>(self, pattern: &str, handler: F) -> Self
    where
        F: Fn(Arc<S>, RawEvent, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<RawReply, HandlerError>> + Send + 'static,
    {
        let handler = self.bind(handler);
        Self { hooks: self.hooks.on_any(pattern, handler), state: self.state }
    }

    /// As [`Hooks::observe`].
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn observe<E, F, Fut>(self, how: impl Into<Observe>, handler: F) -> Self
    where
        E: Event,
        F: Fn(Arc<S>, E, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = self.bind(handler);
        Self { hooks: self.hooks.observe(how, handler), state: self.state }
    }

    /// As [`Hooks::observe_any`].
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn observe_any<F, Fut>(self, how: impl Into<Observe>, pattern: &str, handler: F) -> Self
    where
        F: Fn(Arc<S>, RawEvent, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = self.bind(handler);
        Self { hooks: self.hooks.observe_any(how, pattern, handler), state: self.state }
    }

    /// As [`Hooks::background`].
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn background<F, Fut>(self, how: impl Into<Background>, job: F) -> Self
    where
        F: Fn(Arc<S>, ServerHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let state = Arc::clone(&self.state);
        Self { hooks: self.hooks.background(how, move |server| job(Arc::clone(&state), server)), state: self.state }
    }

    /// As [`Hooks::account`]: hooks of one account, which may have a state of their own or none.
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn account(self, account: &str, hooks: impl Into<Hooks>) -> Self {
        Self { hooks: self.hooks.account(account, hooks), state: self.state }
    }

    /// As [`Hooks::merge`]: adds hooks that may have a state of their own or none.
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    #[track_caller]
    pub fn merge(self, other: impl Into<Hooks>) -> Self {
        Self { hooks: self.hooks.merge(other), state: self.state }
    }

    /// A handler that has the state already.
    fn bind<E, F, Fut>(&self, handler: F) -> impl Fn(E, Context) -> Fut + use<S, E, F, Fut>
    where
        F: Fn(Arc<S>, E, Context) -> Fut,
    {
        let state = Arc::clone(&self.state);
        move |event, context| handler(Arc::clone(&state), event, context)
    }
}

impl<S> From<HooksWith<S>> for Hooks {
    fn from(with: HooksWith<S>) -> Self {
        with.hooks
    }
}
