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

mod background;
#[doc(hidden)]
pub mod compiler_help;
mod context;
mod failure;
mod handler;
mod observe;
mod selection;
mod state;
#[cfg(test)]
mod tests;

use std::{fmt, future::Future, mem, panic::Location, sync::Arc};

use hashbrown::HashMap;

use self::selection::Selection;
pub(crate) use self::{
    background::BackgroundJob,
    context::ContextInner,
    failure::{ObserveError, Retry},
    handler::{AnyHandler, Observed, Responded, Running},
};
pub use self::{
    background::{Background, ServerHandle},
    context::{Context, RawEvent},
    failure::{Permanent, RetryAfter},
    handler::{Handler, HandlerError, RespondError},
    observe::Observe,
    state::HooksWith,
};
use crate::{
    answers::Listeners,
    config::{Policy, suggestion},
    event::{self, Event, EventSpec},
    journal::{FORWARD_PREFIX, INTERNAL_PREFIX},
    replies::RawReply,
    webhook::Patterns,
};

pub use uuid::Uuid;

pub use crate::payload::Payload;

pub(crate) struct Responder {
    pub(crate) handler: AnyHandler<Responded>,
    registered: &'static Location<'static>,
}

#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) how: Observe,
    pub(crate) handler: AnyHandler<Observed>,
}

impl Observer {
    pub(crate) fn wants(&self, event_type: &str, spec: Option<&'static EventSpec>) -> bool {
        self.handler.selection.matches(event_type, spec)
    }
}

/// Who responds to what, and who observes.
///
/// A responder is looked for in this order: of the account ([`Hooks::account`]), then of all accounts; within each by
/// type, then by the more general type (a follow through a QR code is a follow), then by family or pattern, then the
/// fallback for everything. An `[[answer]]` of the configuration comes after the responders of a type and before those of
/// patterns, and the demo last.
#[derive(Default)]
pub struct Hooks {
    by_type: HashMap<&'static str, Responder>,
    by_pattern: Vec<Responder>,
    observers: Vec<Observer>,
    background: Vec<BackgroundJob>,
    accounts: HashMap<String, Hooks>,
    /// Those of the configuration.
    answers: Vec<Configured>,
    /// Who answers from outside what nobody else does.
    listeners: Option<(Listeners, AnyHandler<Responded>)>,
    /// Responders of types for which there is no other.
    defaults: HashMap<&'static str, Responder>,
}

/// A responder that the configuration declares.
pub(crate) struct Configured {
    patterns: Patterns,
    handler: AnyHandler<Responded>,
}

impl Configured {
    pub(crate) fn new(patterns: Patterns, handler: impl Handler<RawEvent, RawReply>) -> Self {
        Self { patterns, handler: AnyHandler::responds_raw(Selection::All, handler) }
    }
}

impl Hooks {
    /// Registers the one responder of an event type.
    ///
    /// # Panics
    /// When the type already has one: a bug in `hooks()`, found when the server starts.
    #[must_use]
    #[track_caller]
    pub fn on<E: Event>(mut self, handler: impl Handler<E, E::Reply>) -> Self {
        let responder = Responder { handler: AnyHandler::responds(handler), registered: Location::caller() };
        if let Some(earlier) = self.by_type.insert(E::SPEC.id, responder) {
            refuse_second(E::SPEC.id, earlier.registered, Location::caller());
        }
        self
    }

    /// Registers a responder for events that have none of their own: by event type with a trailing `*`
    /// (`im.command.group.*`), by family (`im/group_member`), or `*` for everything, unknown events included.
    ///
    /// # Panics
    /// When the pattern matches no event, or has a responder already.
    #[must_use]
    #[track_caller]
    pub fn on_any(mut self, pattern: &str, handler: impl Handler<RawEvent, RawReply>) -> Self {
        let selection = Self::selection(pattern);
        if let Some(earlier) = self.by_pattern.iter().find(|other| other.handler.selection == selection) {
            refuse_second(pattern, earlier.registered, Location::caller());
        }
        let handler = AnyHandler::responds_raw(selection, handler);
        self.add_pattern(Responder { handler, registered: Location::caller() });
        self
    }

    fn add_pattern(&mut self, responder: Responder) {
        self.by_pattern.push(responder);
        // A family or a single type before a prefix, a longer prefix before a shorter one, everything last.
        self.by_pattern.sort_by_key(|responder| match &responder.handler.selection {
            Selection::Pattern(pattern) => (pattern.ends_with('*'), usize::MAX - pattern.len()),
            _ => (true, usize::MAX),
        });
    }

    /// Registers an observer under a stable name: it sees every matching event at least once, with retries
    /// (`[observers]`), whatever happens to the process. Events come in no order, unless it asks for one ([`Observe`]).
    ///
    /// # Panics
    /// When the name is taken, or begins with `echostr.`, as those of internal observers do.
    #[must_use]
    #[track_caller]
    pub fn observe<E: Event>(self, how: impl Into<Observe>, handler: impl Handler<E, ()>) -> Self {
        self.add_observer(how.into(), AnyHandler::observes(handler))
    }

    /// Registers an observer of everything that matches a pattern, as [`Hooks::on_any`] takes it.
    ///
    /// # Panics
    /// When the pattern matches no event, or the name is taken.
    #[must_use]
    #[track_caller]
    pub fn observe_any(self, how: impl Into<Observe>, pattern: &str, handler: impl Handler<RawEvent, ()>) -> Self {
        self.add_observer(how.into(), AnyHandler::observes_raw(Self::selection(pattern), handler))
    }

    /// Registers a job that starts with the server and ends with it, on every node (but see [`Background::on_one_node`]). An error or a
    /// panic starts it again after a pause; readiness names one that has panicked. `Ok` ends it.
    ///
    /// # Panics
    /// When the name is taken.
    #[must_use]
    #[track_caller]
    pub fn background<F, Fut>(mut self, how: impl Into<Background>, job: F) -> Self
    where
        F: Fn(ServerHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.add_background(BackgroundJob::new(how.into(), job));
        self
    }

    /// Hooks of one account (`mp/shop`); its responders come before those of all accounts, its observers beside them. Several
    /// modules may have hooks for one account.
    ///
    /// # Panics
    /// When they have hooks of accounts in them, a second responder for what the account has one for, or an observer whose
    /// name is taken.
    #[must_use]
    #[track_caller]
    pub fn account(mut self, account: &str, hooks: impl Into<Self>) -> Self {
        let mut hooks = hooks.into();
        if let Some(inner) = hooks.accounts.keys().min() {
            panic!(
                "the hooks of account `{account}` have hooks of account `{inner}` in them, and would never be asked for that: \
                 register them side by side, `hooks.account(\"{account}\", …).account(\"{inner}\", …)`, or use `merge`"
            );
        }
        for observer in &hooks.observers {
            self.refuse_taken(&observer.how.name);
        }
        // Jobs are of the server.
        mem::take(&mut hooks.background).into_iter().for_each(|job| self.add_background(job));
        let hooks = match self.accounts.remove(account) {
            Some(earlier) => earlier.merge(hooks),
            None => hooks,
        };
        self.accounts.insert(account.to_owned(), hooks);
        self
    }

    /// Adds everything that `other` has registered.
    ///
    /// # Panics
    /// When both have a responder for one event, be it of all accounts or of one, or an observer of one name.
    #[must_use]
    #[track_caller]
    pub fn merge(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        // In the same order each time, so that it is the same two that are named.
        for (id, responder) in sorted(other.by_type) {
            let registered = responder.registered;
            if let Some(earlier) = self.by_type.insert(id, responder) {
                refuse_second(id, earlier.registered, registered);
            }
        }
        for responder in other.by_pattern {
            if let Some(earlier) =
                self.by_pattern.iter().find(|earlier| earlier.handler.selection == responder.handler.selection)
            {
                refuse_second("a pattern", earlier.registered, responder.registered);
            }
            self.add_pattern(responder);
        }
        for observer in other.observers {
            self.refuse_taken(&observer.how.name);
            self.observers.push(observer);
        }
        other.background.into_iter().for_each(|job| self.add_background(job));
        for (account, hooks) in sorted(other.accounts) {
            self = self.account(&account, hooks);
        }
        self
    }

    /// Adds everything that `other` has registered; its responders of types are those of events that have no other. So a
    /// program overrides the demo's.
    ///
    /// # Panics
    /// When both have an observer of one name.
    #[must_use]
    #[track_caller]
    pub fn with_defaults(mut self, other: impl Into<Self>) -> Self {
        let mut other = other.into();
        self.defaults.extend(mem::take(&mut other.by_type));
        self.merge(other)
    }

    /// Adds the responders of the configuration, which [no responder in Rust](Hooks::typed) may double.
    pub(crate) fn with_answers(mut self, answers: Vec<Configured>) -> Self {
        self.answers = answers;
        self
    }

    /// Adds who answers what no responder does, while somebody listens.
    pub(crate) fn with_listeners(mut self, listeners: Listeners, handler: impl Handler<RawEvent, RawReply>) -> Self {
        self.listeners = Some((listeners, AnyHandler::responds_raw(Selection::All, handler)));
        self
    }

    /// Where the responder in Rust is registered that answers events of a type and not only of a pattern.
    pub(crate) fn typed(&self, account: &str, event_type: &str) -> Option<&'static Location<'static>> {
        let own = self.accounts.get(account).and_then(|hooks| hooks.of_type(event::by_id(event_type)));
        own.or_else(|| self.of_type(event::by_id(event_type))).map(|responder| responder.registered)
    }

    /// The accounts that have hooks of their own, to be checked against the configuration.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        sorted(&self.accounts).into_iter().map(|(account, _)| account.as_str())
    }

    pub(crate) fn responder(
        &self,
        account: &str,
        event_type: &str,
        spec: Option<&'static EventSpec>,
    ) -> Option<&AnyHandler<Responded>> {
        let own = self.accounts.get(account).and_then(|hooks| hooks.responder("", event_type, spec));
        own.or_else(|| self.of_type(spec).map(|responder| &responder.handler))
            .or_else(|| self.configured(account, event_type, spec).map(|answer| &answer.handler))
            .or_else(|| {
                let handlers = self.by_pattern.iter().map(|responder| &responder.handler);
                handlers.into_iter().find(|handler| handler.selection.matches(event_type, spec))
            })
            .or_else(|| {
                let (_, handler) = self.listeners.as_ref()?;
                let is_wanted = spec.is_none_or(EventSpec::takes_reply) && self.is_listened_to(account, event_type);
                is_wanted.then_some(handler)
            })
            .or_else(|| find(&self.defaults, spec).map(|responder| &responder.handler))
    }

    /// Whether somebody listens to such events, and would answer them.
    pub(crate) fn is_listened_to(&self, account: &str, event_type: &str) -> bool {
        self.listeners.as_ref().is_some_and(|(listeners, _)| listeners.want(account, event_type))
    }

    fn of_type(&self, spec: Option<&'static EventSpec>) -> Option<&Responder> {
        find(&self.by_type, spec)
    }

    /// The most specific of the configuration.
    fn configured(&self, account: &str, event_type: &str, spec: Option<&'static EventSpec>) -> Option<&Configured> {
        if self.answers.is_empty() || !spec.is_none_or(EventSpec::takes_reply) {
            return None;
        }
        let ranked =
            self.answers.iter().filter_map(|answer| Some((answer.patterns.rank(account, event_type)?, answer)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, answer)| answer)
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

    /// The background jobs.
    pub(crate) fn background_jobs(&self) -> Vec<BackgroundJob> {
        self.background.clone()
    }

    /// What observers have instead of the settings of all, as their handlers were registered.
    pub(crate) fn policies(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.each_observer().map(|(_, observer)| (&*observer.how.name, &observer.how.policy))
    }

    #[track_caller]
    fn selection(pattern: &str) -> Selection {
        let selection = Selection::pattern(pattern);
        if !selection.is_known() {
            let known = Selection::all_patterns();
            let hint = suggestion(pattern, &known.iter().map(String::as_str).collect::<Vec<_>>());
            panic!("`{pattern}` matches no event{hint}; `echostr catalog` lists them");
        }
        selection
    }

    #[track_caller]
    fn add_observer(mut self, how: Observe, handler: AnyHandler<Observed>) -> Self {
        for (prefix, whose) in [(INTERNAL_PREFIX, "the server's own"), (FORWARD_PREFIX, "of forwards")] {
            assert!(!how.name.starts_with(prefix), "`{}`: names that begin with `{prefix}` are {whose}", how.name);
        }
        self.refuse_taken(&how.name);
        self.observers.push(Observer { how, handler });
        self
    }

    #[track_caller]
    fn add_background(&mut self, job: BackgroundJob) {
        if let Some(earlier) = self.background.iter().find(|other| other.how.name == job.how.name) {
            let (name, earlier, later) = (&job.how.name, earlier.registered, job.registered);
            panic!("two background jobs are called `{name}`, registered at {earlier} and at {later}");
        }
        self.background.push(job);
    }

    #[track_caller]
    fn refuse_taken(&self, name: &str) {
        let mut names = self.observers.iter().chain(self.accounts.values().flat_map(|hooks| &hooks.observers));
        assert!(names.all(|other| &*other.how.name != name), "there is already an observer called `{name}`");
    }
}

/// By their keys.
fn sorted<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    pairs
}

/// The responder of a type, or of the more general one.
fn find<'r>(
    responders: &'r HashMap<&'static str, Responder>,
    spec: Option<&'static EventSpec>,
) -> Option<&'r Responder> {
    let spec = spec?;
    responders.get(spec.id).or_else(|| spec.general().and_then(|general| responders.get(general.id)))
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
