//! The registry of handlers: one responder per event builds the answer, any number of observers see it.
//!
//! ```
//! use echostr::{
//!     events::{im, mp},
//!     hooks::{Context, Hooks},
//!     replies::mp::Reply,
//! };
//!
//! let hooks = Hooks::default()
//!     .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("echo: {}", message.content))))
//!     .observe("audit", async |friend: im::AfterFriendAdd, _: Context| Ok(drop(friend)));
//! # drop(hooks);
//! ```

#[doc(hidden)]
pub mod compiler_help;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use tracing::warn;
use uuid::Uuid;

use crate::{
    api::{Api, ApiError},
    clock::Clock,
    envelope,
    event::{self, Answer, Event, EventSpec, Platform, Reply, ReplyError},
    observers::OWN,
    panics::{self, Caught},
    payload::{self, Form, PayloadError, Value},
    platform::{self, AUTHORIZER},
    replies::RawReply,
    wire::{Reading, Unreadable},
};

use self::compiler_help::ReturnedAs;
pub use crate::payload::Payload;

/// Whatever a handler fails with, so that `?` works on any error.
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

    /// When the answer must be there; what comes later is not lost, but the platform may no longer take it.
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// How much time is left for the answer.
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Which attempt of an observer this is, from 1. An observer may see an event again when it failed, or when the
    /// process ended before its success was recorded.
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
    /// The event type, as in `mp.event.subscribe`; what nobody knows is `mp.event.unknown` and the like.
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
    /// Never for an event that a handler was given; the payload was read before.
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
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A responder that runs. Its panic is in what it gives.
pub(crate) type Responding = Caught<Work<Result<Answer, RespondError>>>;
/// An observer that runs. Its panic is in what it gives.
pub(crate) type Observing = Caught<Work<Result<(), String>>>;
/// A handler without its types: reads its event from the tree and starts.
type Start<T> = Arc<dyn Fn(&Value<'_>, Form, Context) -> Result<Work<T>, Unreadable> + Send + Sync>;

/// Starts a handler. It may read its event with code of its own, whose panic is that of the handler.
fn start<T: Send + 'static>(
    start: &Start<T>,
    tree: &Value<'_>,
    form: Form,
    context: Context,
) -> Result<Caught<Work<T>>, Unreadable> {
    match panics::catch(|| start(tree, form, context)) {
        Ok(started) => started.map(Caught::new),
        Err(panicked) => Ok(Caught::panicked(panicked)),
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

/// What a handler's error says. It is asked while the handler runs: the text is made by code of the handler.
fn said(failure: HandlerError) -> String {
    failure.to_string()
}

/// Which events a handler wants.
#[derive(Clone, Debug, PartialEq)]
enum Selection {
    /// One type, and the more specific ones that nobody else responds to.
    Event(&'static EventSpec),
    /// By event type with a trailing `*`, or by family as in `im/group_member`.
    Pattern(String),
    /// Everything, also what nobody knows.
    All,
}

impl Selection {
    fn pattern(pattern: &str) -> Self {
        if pattern == "*" { Self::All } else { Self::Pattern(pattern.to_owned()) }
    }

    fn matches(&self, event_type: &str, spec: Option<&'static EventSpec>) -> bool {
        match self {
            Self::All => true,
            Self::Event(wanted) => spec.is_some_and(|spec| spec == *wanted || spec.general() == Some(*wanted)),
            Self::Pattern(pattern) => match (pattern.strip_suffix('*'), pattern.split_once('/')) {
                (Some(prefix), _) => event_type.starts_with(prefix),
                (None, Some((platform, family))) => {
                    spec.is_some_and(|spec| spec.platform.as_str() == platform && spec.family == family)
                }
                (None, None) => event_type == pattern,
            },
        }
    }

    /// Whether there is any event that the selection can match.
    fn is_known(&self) -> bool {
        match self {
            Self::All | Self::Event(_) => true,
            Self::Pattern(_) => {
                let unknown = Platform::ALL.into_iter().flat_map(|platform| {
                    [&[][..], &["event".into(), "".into()][..]].map(|key| platform::unknown_type(platform, key))
                });
                event::all().any(|spec| self.matches(spec.id, Some(spec)))
                    || unknown.into_iter().any(|event_type| self.matches(event_type, None))
            }
        }
    }
}

pub(crate) struct Responder {
    selection: Selection,
    start: Start<Result<Answer, RespondError>>,
    registered: &'static Location<'static>,
}

impl Responder {
    /// Whether it reads events as exactly this type.
    pub(crate) fn is_for(&self, spec: Option<&'static EventSpec>) -> bool {
        matches!((&self.selection, spec), (Selection::Event(own), Some(spec)) if *own == spec)
    }

    /// Reads the event and starts.
    ///
    /// # Errors
    /// When the payload has not the shape of the event.
    pub(crate) fn start(&self, tree: &Value<'_>, form: Form, context: Context) -> Result<Responding, Unreadable> {
        start(&self.start, tree, form, context)
    }
}

/// Reads an event as its type, and tells of optional fields that could not be read.
fn read<E: Event>(tree: &Value<'_>, form: Form, context: &Context) -> Result<E, Unreadable> {
    let mut reading = Reading::new(form);
    let event = E::read(tree, &mut reading)?;
    warn_unreadable(&reading.into_unreadable(), context);
    Ok(event)
}

/// Checks that an event has the shape of its type where no handler reads it so.
pub(crate) fn read_unseen(spec: &EventSpec, tree: &Value<'_>, form: Form, context: &Context) -> Result<(), Unreadable> {
    warn_unreadable(&spec.decode(tree, form)?.unreadable, context);
    Ok(())
}

fn warn_unreadable(fields: &[Unreadable], context: &Context) {
    for field in fields {
        let (account, kind) = (context.account(), context.raw().event_type);
        warn!(account, kind, "{account}: {kind}: {field}; it reads as absent");
    }
}

/// How a handler observes: under which name, from where on, in which order. A name alone will do.
///
/// ```
/// use echostr::{events::mp, hooks::{Context, Hooks, Observe}};
///
/// let audit = Observe::named("audit").in_order().from_beginning();
/// let hooks = Hooks::default().observe(audit, async |message: mp::TextMessage, _: Context| Ok(drop(message)));
/// # drop(hooks);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    pub(crate) name: Arc<str>,
    pub(crate) in_order: bool,
    pub(crate) from_beginning: bool,
}

impl Observe {
    /// Under this name, which must stay the same: what the observer has seen is kept under it.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), in_order: false, from_beginning: false }
    }

    /// Events of one subject one after the other: one that fails holds back the later ones of its subject, and only
    /// these, until it is done or dead.
    #[must_use]
    pub const fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Begins with the events that are in the journal already, when the name comes up for the first time.
    #[must_use]
    pub const fn from_beginning(mut self) -> Self {
        self.from_beginning = true;
        self
    }
}

impl From<&str> for Observe {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) how: Observe,
    selection: Selection,
    start: Start<Result<(), String>>,
}

impl Observer {
    pub(crate) fn wants(&self, event_type: &str, spec: Option<&'static EventSpec>) -> bool {
        self.selection.matches(event_type, spec)
    }

    /// Reads the event and starts.
    ///
    /// # Errors
    /// When the payload has not the shape of the event.
    pub(crate) fn start(&self, tree: &Value<'_>, form: Form, context: Context) -> Result<Observing, Unreadable> {
        start(&self.start, tree, form, context)
    }
}

/// Who responds to what, and who observes.
///
/// A responder is looked for in this order: of the account ([`Hooks::account`]), then of all accounts; within each by
/// type, then by the more general type (a follow through a QR code is a follow), then by family or pattern, then the
/// fallback for everything.
#[derive(Default)]
pub struct Hooks {
    by_type: HashMap<&'static str, Responder>,
    by_pattern: Vec<Responder>,
    observers: Vec<Observer>,
    accounts: HashMap<String, Hooks>,
}

impl Hooks {
    /// Registers the one responder of an event type.
    ///
    /// # Panics
    /// When the type already has one: a bug in `hooks()`, found when the server starts.
    #[must_use]
    #[track_caller]
    pub fn on<E: Event>(mut self, handler: impl Handler<E, E::Reply>) -> Self {
        let handler = Arc::new(handler);
        let start: Start<_> = Arc::new(move |tree, form, context| {
            let event: E = read(tree, form, &context)?;
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move {
                let reply =
                    handler.handle(event, context).await.map_err(|failure| RespondError::Handler(said(failure)))?;
                Ok(reply.into_answer()?)
            }))
        });
        let responder = Responder { selection: Selection::Event(E::SPEC), start, registered: Location::caller() };
        if let Some(earlier) = self.by_type.insert(E::SPEC.id, responder) {
            refuse_second(E::SPEC.id, earlier.registered, Location::caller());
        }
        self
    }

    /// Registers a responder for events that have none of their own: by event type with a trailing `*`
    /// (`im.command.group.*`), by family (`im/group_member`), or `*` for everything, also what nobody knows.
    ///
    /// # Panics
    /// When the pattern matches no event, or has a responder already.
    #[must_use]
    #[track_caller]
    pub fn on_any(mut self, pattern: &str, handler: impl Handler<RawEvent, RawReply>) -> Self {
        let selection = Self::selection(pattern);
        if let Some(earlier) = self.by_pattern.iter().find(|other| other.selection == selection) {
            refuse_second(pattern, earlier.registered, Location::caller());
        }
        let handler = Arc::new(handler);
        let start: Start<_> = Arc::new(move |_, _, context| {
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move {
                let event = context.raw().clone();
                let reply =
                    handler.handle(event, context).await.map_err(|failure| RespondError::Handler(said(failure)))?;
                Ok(reply.into_answer()?)
            }))
        });
        self.add_pattern(Responder { selection, start, registered: Location::caller() });
        self
    }

    fn add_pattern(&mut self, responder: Responder) {
        self.by_pattern.push(responder);
        // A family or a single type before a beginning, a longer beginning before a shorter one, everything last.
        self.by_pattern.sort_by_key(|responder| match &responder.selection {
            Selection::Pattern(pattern) => (pattern.ends_with('*'), usize::MAX - pattern.len()),
            _ => (true, usize::MAX),
        });
    }

    /// Registers an observer under a stable name: it sees every matching event at least once, with retries
    /// (`[delivery]`), whatever happens to the process. Events come in no order, unless it asks for one ([`Observe`]).
    ///
    /// # Panics
    /// When the name is taken, or begins with `echostr.`, as those of the server's own do.
    #[must_use]
    #[track_caller]
    pub fn observe<E: Event>(self, how: impl Into<Observe>, handler: impl Handler<E, ()>) -> Self {
        let handler = Arc::new(handler);
        let start: Start<_> = Arc::new(move |tree, form, context| {
            let event = E::read(tree, &mut Reading::new(form))?;
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move { handler.handle(event, context).await.map_err(said) }))
        });
        self.add_observer(how.into(), Selection::Event(E::SPEC), start)
    }

    /// Registers an observer of everything that matches a pattern, as [`Hooks::on_any`] takes it.
    ///
    /// # Panics
    /// When the pattern matches no event, or the name is taken.
    #[must_use]
    #[track_caller]
    pub fn observe_any(self, how: impl Into<Observe>, pattern: &str, handler: impl Handler<RawEvent, ()>) -> Self {
        let handler = Arc::new(handler);
        let start: Start<_> = Arc::new(move |_, _, context| {
            let handler = Arc::clone(&handler);
            Ok(Box::pin(async move { handler.handle(context.raw().clone(), context).await.map_err(said) }))
        });
        let selection = Self::selection(pattern);
        self.add_observer(how.into(), selection, start)
    }

    /// Hooks of one account (`mp/shop`); its responders come before those of all accounts, its observers beside them.
    ///
    /// # Panics
    /// When the account has hooks already, or an observer's name is taken.
    #[must_use]
    #[track_caller]
    pub fn account(mut self, account: &str, hooks: Self) -> Self {
        for observer in &hooks.observers {
            self.refuse_taken(&observer.how.name);
        }
        let earlier = self.accounts.insert(account.to_owned(), hooks);
        assert!(earlier.is_none(), "account `{account}` already has hooks");
        self
    }

    /// Adds everything that `other` has registered.
    ///
    /// # Panics
    /// When both have a responder for one event, hooks for one account, or an observer of one name.
    #[must_use]
    #[track_caller]
    pub fn merge(mut self, other: Self) -> Self {
        for (id, responder) in other.by_type {
            let registered = responder.registered;
            if let Some(earlier) = self.by_type.insert(id, responder) {
                refuse_second(id, earlier.registered, registered);
            }
        }
        for responder in other.by_pattern {
            if let Some(earlier) = self.by_pattern.iter().find(|earlier| earlier.selection == responder.selection) {
                refuse_second("a pattern", earlier.registered, responder.registered);
            }
            self.add_pattern(responder);
        }
        for observer in other.observers {
            self.refuse_taken(&observer.how.name);
            self.observers.push(observer);
        }
        for (account, hooks) in other.accounts {
            self = self.account(&account, hooks);
        }
        self
    }

    /// The accounts that have hooks of their own, to be checked against the configuration.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(String::as_str)
    }

    pub(crate) fn responder(
        &self,
        account: &str,
        event_type: &str,
        spec: Option<&'static EventSpec>,
    ) -> Option<&Responder> {
        let own = self.accounts.get(account).and_then(|hooks| hooks.responder("", event_type, spec));
        own.or_else(|| {
            let by_type = spec.and_then(|spec| {
                let general = || spec.general().and_then(|general| self.by_type.get(general.id));
                self.by_type.get(spec.id).or_else(general)
            });
            let by_pattern = || self.by_pattern.iter().find(|other| other.selection.matches(event_type, spec));
            by_type.or_else(by_pattern)
        })
    }

    /// Names of the observers that want an event.
    pub(crate) fn observers<'h>(
        &'h self,
        account: &str,
        event_type: &'h str,
        spec: Option<&'static EventSpec>,
    ) -> impl Iterator<Item = &'h Arc<str>> {
        let own = self.accounts.get(account).into_iter().flat_map(|hooks| &hooks.observers);
        let all = self.observers.iter().chain(own);
        all.filter(move |other| other.wants(event_type, spec)).map(|other| &other.how.name)
    }

    /// Every observer, with its account if it is of one only.
    pub(crate) fn each_observer(&self) -> impl Iterator<Item = (Option<&str>, &Observer)> {
        let own = self.accounts.iter().flat_map(|(account, hooks)| {
            hooks.observers.iter().map(move |observer| (Some(account.as_str()), observer))
        });
        self.observers.iter().map(|observer| (None, observer)).chain(own)
    }

    #[track_caller]
    fn selection(pattern: &str) -> Selection {
        let selection = Selection::pattern(pattern);
        assert!(selection.is_known(), "`{pattern}` matches no event; `echostr catalog` lists them");
        selection
    }

    #[track_caller]
    fn add_observer(mut self, how: Observe, selection: Selection, start: Start<Result<(), String>>) -> Self {
        assert!(!how.name.starts_with(OWN), "`{}`: names that begin with `{OWN}` are the server's own", how.name);
        self.refuse_taken(&how.name);
        self.observers.push(Observer { how, selection, start });
        self
    }

    #[track_caller]
    fn refuse_taken(&self, name: &str) {
        let mut names = self.observers.iter().chain(self.accounts.values().flat_map(|hooks| &hooks.observers));
        assert!(names.all(|other| &*other.how.name != name), "there is already an observer called `{name}`");
    }
}

#[track_caller]
fn refuse_second(what: &str, earlier: &Location<'_>, later: &Location<'_>) -> ! {
    panic!("`{what}` has two responders, registered at {earlier} and at {later}; only one can answer")
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.by_type.keys().collect();
        types.sort_unstable();
        let observers: Vec<_> = self.observers.iter().map(|observer| &observer.how.name).collect();
        f.debug_struct("Hooks").field("responders", &types).field("observers", &observers).finish_non_exhaustive()
    }
}
