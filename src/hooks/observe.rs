//! How a handler observes.

use std::sync::Arc;

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
