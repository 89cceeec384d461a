//! Handlers: the trait, and how they lose their types.

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use super::{Context, ObserveError, RawEvent, Selection, compiler_help::ReturnedAs};
use crate::{
    event::{Answer, Event, EventSpec, Reply as _, ReplyError},
    panics::{self, Caught},
    payload::Value,
    replies::RawReply,
    wire::{Reading, Unreadable},
};

/// Whatever a handler fails with, so that `?` works on any error. An observer can say more with [`Permanent`](super::Permanent)
/// and [`RetryAfter`](super::RetryAfter).
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// Reacts to one event: an async closure, an `async fn`, or a type with state that implements this by hand.
///
/// A responder returns the event's reply ([`Event::Reply`]), an observer `()`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler of `{E}`",
    label = "expected an async function `(event, Context) -> Result<{Out}, HandlerError>`, or a type that implements `Handler`"
)]
pub trait Handler<E, Out>: Send + Sync + 'static {
    /// Handles one event. An error gives the account's default answer; an observer that fails is asked again.
    fn handle(&self, event: E, context: Context) -> impl Future<Output = Result<Out, HandlerError>> + Send;
}

impl<E, Out, F, Fut, Returned> Handler<E, Out> for F
where
    F: Fn(E, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Returned, HandlerError>> + Send,
    Out: ReturnedAs<Returned>,
{
    fn handle(&self, event: E, context: Context) -> impl Future<Output = Result<Out, HandlerError>> + Send {
        let returned = self(event, context);
        async move { returned.await.map(Out::same) }
    }
}

/// Why a responder gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RespondError {
    /// The handler failed, and said so.
    #[error("the handler failed: {0}")]
    Handler(String),
    /// The handler's reply breaks a rule of the platform.
    #[error("the reply is not allowed: {0}")]
    Reply(#[from] ReplyError),
}

/// What a responder results in.
pub(crate) type Responded = Result<Answer, RespondError>;
/// What an observer results in.
pub(crate) type Observed = Result<(), ObserveError>;
/// A handler that runs. Its panic is in what it gives.
pub(crate) type Running<T> = Caught<Work<T>>;
type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Start<T> = Arc<dyn Fn(&Value<'_>, &mut Reading, Context) -> Result<Work<T>, Unreadable> + Send + Sync>;

/// A handler without its types, and the events it wants.
pub(crate) struct AnyHandler<T> {
    pub(super) selection: Selection,
    start: Start<T>,
}

impl<T> Clone for AnyHandler<T> {
    fn clone(&self) -> Self {
        Self { selection: self.selection.clone(), start: Arc::clone(&self.start) }
    }
}

impl<T: Send + 'static> AnyHandler<T> {
    /// One that reads its event as a type.
    fn typed<E: Event, Out>(
        handler: impl Handler<E, Out>,
        finish: impl Fn(Result<Out, HandlerError>) -> T + Clone + Send + Sync + 'static,
    ) -> Self {
        let handler = Arc::new(handler);
        let start: Start<T> = Arc::new(move |tree, reading, context| {
            let event = E::read(tree, reading)?;
            let (handler, finish) = (Arc::clone(&handler), finish.clone());
            Ok(Box::pin(async move { finish(handler.handle(event, context).await) }))
        });
        Self { selection: Selection::Event(E::SPEC), start }
    }

    /// One that takes events as they came.
    fn raw<Out>(
        selection: Selection,
        handler: impl Handler<RawEvent, Out>,
        finish: impl Fn(Result<Out, HandlerError>) -> T + Clone + Send + Sync + 'static,
    ) -> Self {
        let handler = Arc::new(handler);
        let start: Start<T> = Arc::new(move |_, _, context| {
            let (handler, finish) = (Arc::clone(&handler), finish.clone());
            Ok(Box::pin(async move { finish(handler.handle(context.raw().clone(), context).await) }))
        });
        Self { selection, start }
    }

    /// Whether it reads events as exactly this type.
    pub(crate) fn reads_as(&self, spec: &'static EventSpec) -> bool {
        matches!(&self.selection, Selection::Event(own) if *own == spec)
    }

    /// Reads the event and starts. The handler may read its event with code of its own, whose panic is that of the handler.
    ///
    /// # Errors
    /// When the payload has not the shape of the event.
    pub(crate) fn start(
        &self,
        tree: &Value<'_>,
        reading: &mut Reading,
        context: Context,
    ) -> Result<Running<T>, Unreadable> {
        match panics::catch(|| (self.start)(tree, reading, context)) {
            Ok(started) => started.map(Caught::new),
            Err(panicked) => Ok(Caught::panicked(panicked)),
        }
    }
}

impl AnyHandler<Responded> {
    pub(super) fn responds<E: Event>(handler: impl Handler<E, E::Reply>) -> Self {
        Self::typed(handler, |reply| Ok(reply.map_err(failed)?.into_answer()?))
    }

    pub(super) fn responds_raw(selection: Selection, handler: impl Handler<RawEvent, RawReply>) -> Self {
        Self::raw(selection, handler, |reply| Ok(reply.map_err(failed)?.into_answer()?))
    }
}

impl AnyHandler<Observed> {
    pub(super) fn observes<E: Event>(handler: impl Handler<E, ()>) -> Self {
        Self::typed(handler, |seen| seen.map_err(|failure| ObserveError::of(&failure)))
    }

    pub(super) fn observes_raw(selection: Selection, handler: impl Handler<RawEvent, ()>) -> Self {
        Self::raw(selection, handler, |seen| seen.map_err(|failure| ObserveError::of(&failure)))
    }
}

fn failed(failure: HandlerError) -> RespondError {
    RespondError::Handler(failure.to_string())
}
