//! From an event to a running handler: which type the event is decoded as, and what the handler gets.
//!
//! Every handler is called through here, with an event of a delivery or with one of the journal, and every event is decoded
//! here: once, by the handler itself where that has the event's own type.

use std::{sync::Arc, time::Instant};

use tracing::warn;
use uuid::Uuid;

use crate::{
    api::Apis,
    blocking::{Blocking, Handler, Timed},
    bots::Bots,
    clock::Clock,
    envelope::Query,
    event::{EventSpec, Platform},
    hooks::{AnyHandler, Context, ContextInner, Hooks, Observed, Observer, RawEvent, Responded, Running},
    journal::EventRecord,
    payload::{self, Form, Payload, Value},
    platform::{self, Identity},
    wire::{Reading, Unreadable},
};

/// The handlers, and what they may use.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) apis: Apis,
    pub(crate) bots: Bots,
    pub(crate) clock: Clock,
    pub(crate) blocking: Blocking,
}

/// An event as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'e> {
    pub(crate) platform: Platform,
    pub(crate) account: &'e Arc<str>,
    pub(crate) form: Form,
    pub(crate) payload: &'e Payload,
    /// The parameters of the query that are data.
    pub(crate) query: Option<&'e Arc<str>>,
}

impl<'e> From<&'e EventRecord> for Source<'e> {
    fn from(record: &'e EventRecord) -> Self {
        let EventRecord { platform, account, form, payload, query, .. } = record;
        Self { platform: *platform, account, form: *form, payload, query: query.as_ref() }
    }
}

/// An event that has been read as a tree, with its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'e> {
    pub(crate) source: Source<'e>,
    pub(crate) tree: &'e Value<'e>,
    pub(crate) identity: &'e Identity<'e>,
    /// The authorizer of a third-party platform.
    pub(crate) authorizer: Option<&'e str>,
}

impl Incoming<'_> {
    /// What it is in the catalogue, if it can be read as that.
    fn typed(&self) -> Option<&'static EventSpec> {
        let tree = self.tree;
        self.identity.spec.filter(|spec| tree.as_object().is_some() && !platform::is_wrapper(tree, spec))
    }

    fn raw(&self, event_type: &'static str) -> RawEvent {
        let Source { platform, account, form, payload, query } = self.source;
        let (account, payload, query) = (Arc::clone(account), payload.clone(), query.cloned());
        RawEvent { platform, account, event_type, form, payload, query }
    }
}

/// One attempt to handle an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Identity of the event.
    pub(crate) id: Uuid,
    /// Which one it is, from 1.
    pub(crate) number: u32,
    pub(crate) deadline: Instant,
}

/// An event that has been decoded, with its handler not yet polled.
pub(crate) struct Call<T> {
    /// The catalogue's entry; `None` when the event is unknown, or cannot be read at all.
    pub(crate) spec: Option<&'static EventSpec>,
    pub(crate) context: Context,
    /// The handler, if there is one.
    pub(crate) running: Result<Timed<T>, NotStarted>,
    /// Whether the handler cannot see all that the event says: it is unknown, or fields could not be read.
    pub(crate) is_partial: bool,
    /// The event type by its names.
    named: &'static str,
    /// Fields that could not be read.
    unreadable: Vec<Unreadable>,
}

/// Why no handler runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    /// The one there is cannot read the event.
    #[error("unexpected shape: {0}")]
    Misshapen(Unreadable),
    /// There is none.
    #[error("no responder for {0}")]
    NoHandler(&'static str),
}

impl Dispatcher {
    /// Calls the responder of an event.
    pub(crate) fn respond(&self, event: Incoming<'_>, attempt: Attempt) -> Call<Responded> {
        let hooks = &self.hooks;
        let find = |event_type, spec| hooks.responder(event.source.account, event_type, spec);
        self.call(event, attempt, find, Handler::Responder)
    }

    /// Calls the responder of an event that was stored.
    pub(crate) fn respond_stored(&self, source: Source<'_>, attempt: Attempt) -> Call<Responded> {
        parsed(source, |event| self.respond(event, attempt))
    }

    /// Calls an observer with an event that was stored.
    pub(crate) fn observe_stored(&self, observer: &Observer, source: Source<'_>, attempt: Attempt) -> Call<Observed> {
        let named = |_| Handler::Observer(Arc::clone(&observer.how.name));
        parsed(source, |event| self.call(event, attempt, |_, _| Some(&observer.handler), named))
    }

    /// Decodes an event as the type of its names, or takes it for unknown, and starts the handler.
    fn call<'h, T: Send + 'static>(
        &self,
        event: Incoming<'_>,
        attempt: Attempt,
        find: impl Fn(&'static str, Option<&'static EventSpec>) -> Option<&'h AnyHandler<T>>,
        named: impl Fn(&'static str) -> Handler,
    ) -> Call<T> {
        let timed = |running, event_type| {
            Timed::new(running, self.blocking.clone(), Arc::clone(event.source.account), named(event_type))
        };
        let Incoming { source: Source { platform, form, .. }, tree, identity, .. } = event;
        if let Some(spec) = event.typed() {
            let context = self.context(event, spec.id, attempt);
            let mut reading = Reading::new(form);
            let running = match start(find(spec.id, Some(spec)), spec, tree, &mut reading, &context) {
                Ok(running) => running.map(|it| timed(it, spec.id)).ok_or(NotStarted::NoHandler(spec.id)),
                Err(error) => Err(NotStarted::Misshapen(error)),
            };
            let (is_partial, unreadable) = (reading.has_lost(), reading.into_unreadable());
            return Call { spec: Some(spec), context, running, is_partial, named: spec.id, unreadable };
        }
        let unknown = platform::unknown_type(platform, &identity.key);
        let context = self.context(event, unknown, attempt);
        let mut reading = Reading::new(form);
        let running = match find(unknown, None) {
            Some(handler) => {
                let started = handler.start(tree, &mut reading, context.clone());
                started.map(|it| timed(it, unknown)).map_err(NotStarted::Misshapen)
            }
            None => Err(NotStarted::NoHandler(unknown)),
        };
        let of_type = identity.spec.map_or(unknown, |spec| spec.id);
        Call { spec: None, context, running, is_partial: true, named: of_type, unreadable: reading.into_unreadable() }
    }

    fn context(&self, event: Incoming<'_>, event_type: &'static str, attempt: Attempt) -> Context {
        let api = self.apis.of_event(event.source.account, event.tree, event.authorizer);
        let event = event.raw(event_type);
        let Attempt { id, number, deadline } = attempt;
        let (bots, clock) = (self.bots.clone(), self.clock.clone());
        Context::new(ContextInner { event, id, deadline, clock, attempt: number, api, bots })
    }
}

impl<T> Call<T> {
    /// Logs what of the event could not be read: one line, however much it is.
    pub(crate) fn log_unreadable(&self) {
        const SHOWN: usize = 20;
        let (account, kind) = (self.context.account(), self.named);
        let shown: Vec<_> = self.unreadable.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = match self.unreadable.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        if !shown.is_empty() {
            let fields = shown.join("; ");
            warn!(account, kind, "{account}: {kind}: read without a field: {fields}{more}");
        }
    }
}

/// Starts a handler for an event of a type, after the event was decoded as that.
fn start<T: Send + 'static>(
    handler: Option<&AnyHandler<T>>,
    spec: &'static EventSpec,
    tree: &Value<'_>,
    reading: &mut Reading,
    context: &Context,
) -> Result<Option<Running<T>>, Unreadable> {
    match handler {
        // It decodes the event itself.
        Some(handler) if handler.reads_as(spec) => handler.start(tree, reading, context.clone()).map(Some),
        handler => {
            spec.check(tree, reading)?;
            let form = context.raw().form;
            handler.map(|handler| handler.start(tree, &mut Reading::new(form), context.clone())).transpose()
        }
    }
}

/// A stored event, as its handler was given it.
pub(crate) fn stored(record: &EventRecord) -> RawEvent {
    parsed(record.into(), |event| {
        let unknown = || platform::unknown_type(record.platform, &event.identity.key);
        event.raw(event.typed().map_or_else(unknown, |spec| spec.id))
    })
}

/// Parses a stored event, and identifies it by its names; what could not be read when it came has none.
fn parsed<R>(source: Source<'_>, then: impl FnOnce(Incoming<'_>) -> R) -> R {
    let tree = payload::parse(source.form, source.payload.text()).unwrap_or(Value::Null);
    let query = source.query.and_then(|query| Query::parse(query).ok());
    let parameter = |name| query.as_ref().and_then(|query| query.get(name));
    let identity = platform::identify(source.platform, &tree, parameter("CallbackCommand"));
    let authorizer = parameter(platform::AUTHORIZER).filter(|_| source.platform.protocol().routes_authorizers());
    then(Incoming { source, tree: &tree, identity: &identity, authorizer })
}
