//! Platforms, events, and the table that selects an event by its wire keys.

mod macros;
#[cfg(test)]
mod tests;
mod view;

use std::{
    any::Any,
    borrow::Cow,
    error::Error,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use hashbrown::HashMap;

pub(crate) use self::macros::{body_replies, envelope_getters, events, first_of};
pub use crate::platform::{Platform, UnknownPlatform};
use crate::{
    panics::{Caught, Panicked},
    payload::{Form, Object, Value},
    wire::{Reading, Unreadable, Wire},
};

/// One callback of one platform: what arrives, and what may go back.
///
/// Implemented for every type below [`crate::events`] by the table of its platform.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event of a platform",
    label = "the first argument of a handler is a type of `echostr::events`, such as `mp::TextMessage`",
    note = "handlers of whole families and of unknown events take a `RawEvent`: `on_any`, `observe_any`"
)]
pub trait Event: Wire + Clone + Send + Sync + 'static {
    /// The row of the table: identity, selectors, kind of answer.
    const SPEC: &'static EventSpec;

    /// What a responder returns; `()` where the platform only expects an acknowledgement.
    type Reply: Reply;
}

/// What a responder may return.
pub trait Reply: Send + 'static {
    /// The answer for the platform.
    ///
    /// # Errors
    /// When the reply breaks a rule of the platform; the account's default answer is given instead.
    fn into_answer(self) -> Result<Answer, ReplyError>;
}

/// "Received": the platform's plain success.
impl Reply for () {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}

/// A reply breaks a rule of the platform; the handler is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplyError(pub Cow<'static, str>);

/// An answer before it is written in the platform's form.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The platform's plain success: `success`, an empty body, or `{"ActionStatus":"OK",…}`.
    Default,
    /// A passive reply; sender, receiver and time are filled in from the event.
    Passive(Object<'static>),
    /// A structured answer, as it is.
    Body(Object<'static>),
    /// A structured answer that is JSON already.
    Written(String),
    /// An answer that comes in chunks; only AI bots have such.
    Stream(AnswerStream),
}

/// The chunks of a streamed answer, taken one after the other. Clones share the stream, and only these are equal.
#[derive(Clone)]
pub struct AnswerStream(Arc<Mutex<Caught<Chunks>>>);

type Chunks = Pin<Box<dyn Stream<Item = Result<String, ChunkError>> + Send>>;

/// Why a streamed answer is aborted.
pub type ChunkError = Box<dyn Error + Send + Sync>;

impl AnswerStream {
    /// A streamed answer of these chunks.
    pub fn new(chunks: impl Stream<Item = Result<String, ChunkError>> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Caught::new(Box::pin(chunks)))))
    }

    /// The next chunk, or why there is none; `None` at the end, and after an error. A panic of the stream is its
    /// error.
    pub async fn next(&mut self) -> Option<Result<String, ChunkError>> {
        self.next_chunk().await.map(|next| next.map_err(ChunkError::from))
    }

    /// The next chunk; a panic of the stream is distinguished from an error.
    pub async fn next_chunk(&mut self) -> Option<Result<String, StreamError>> {
        poll_fn(|context| {
            // The lock is held while the stream is polled, never while it waits.
            let mut chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let polled = chunks.run(|chunks| {
                // Formatting the error runs the handler's code, too.
                chunks.poll_next_unpin(context).map_err(|failure| StreamError::Failed(failure.to_string()))
            });
            let next = match polled {
                Some(Ok(Poll::Pending)) => return Poll::Pending,
                Some(Ok(Poll::Ready(next))) => next,
                Some(Err(panicked)) => Some(Err(panicked.into())),
                None => None,
            };
            if matches!(next, Some(Ok(_))) {
                return Poll::Ready(next);
            }
            // It is dropped here, where its panic can be reported.
            let ended = chunks.end();
            Poll::Ready(next.or_else(|| ended.err().map(|panicked| Err(panicked.into()))))
        })
        .await
    }
}

/// Why a streamed answer is aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The handler's stream returned an error.
    #[error("the stream failed: {0}")]
    Failed(String),
    /// The handler's stream panicked.
    #[error("the stream {0}")]
    Panicked(#[from] Panicked),
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerStream(…)")
    }
}

impl PartialEq for AnswerStream {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What the platform does with the answer to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplyKind {
    /// A passive reply reaches the user; plain success sends nothing.
    Passive,
    /// Only the plain success counts.
    Success,
    /// Nothing can reach the user; the plain success is expected all the same.
    Nothing,
    /// A structured answer is expected.
    Body,
    /// IM "after" callback: the answer is only an acknowledgement.
    Ack,
    /// IM "before" callback: the answer decides.
    Verdict,
    /// Answered through the API, not in the response.
    ByApi,
}

/// Reads an event as its type.
type Decode = fn(&Value<'_>, &mut Reading) -> Result<Box<dyn AnyEvent>, Unreadable>;

/// A row of the table of events.
#[derive(Debug)]
pub struct EventSpec {
    /// The event type of the JSON form, stable: `mp.event.subscribe`.
    pub id: &'static str,
    /// The platform whose catalogue has it.
    pub platform: Platform,
    /// The family, which is also the source file.
    pub family: &'static str,
    /// Path of the Rust type below [`crate::events`]: `mp::Subscribe`.
    pub rust_type: &'static str,
    /// Wire values that identify it, in the order of [`Table::keys`]; a trailing `*` matches by prefix.
    pub select: &'static [&'static [&'static str]],
    /// What the platform does with the answer.
    pub reply: ReplyKind,
    /// How long the platform waits for the answer, where that is shorter than for its other events.
    pub timeout: Option<Duration>,
    /// Path of the list in which several events arrive in one push.
    pub fan_out: Option<&'static str>,
    /// Keys that identify a body that does not name its event.
    pub body_keys: &'static [&'static str],
    pub(crate) decode: Decode,
}

impl PartialEq for EventSpec {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl EventSpec {
    /// Whether the platform does something with the answer, beyond taking it for an acknowledgement.
    pub fn takes_reply(&self) -> bool {
        !matches!(self.reply, ReplyKind::Success | ReplyKind::Nothing | ReplyKind::Ack)
    }

    /// How long the answer may take for an account with this deadline: the way back takes time, too.
    pub fn deadline(&self, of_account: Duration) -> Duration {
        const WAY_BACK: Duration = Duration::from_millis(500);
        self.timeout.map_or(of_account, |timeout| of_account.min(timeout.saturating_sub(WAY_BACK)))
    }

    /// Reads the typed event from the tree.
    ///
    /// # Errors
    /// [`Unreadable`] when the payload is no object.
    pub fn decode(&self, value: &Value<'_>, form: Form) -> Result<Decoded, Unreadable> {
        let mut reading = Reading::new(form);
        let event = (self.decode)(value, &mut reading)?;
        let has_lost = reading.has_lost();
        Ok(Decoded { event, has_lost, unreadable: reading.into_unreadable() })
    }

    /// Whether the tree can be read as the event; `reading` then knows which fields cannot.
    ///
    /// # Errors
    /// [`Unreadable`] when the payload is no object.
    pub fn check(&self, value: &Value<'_>, reading: &mut Reading) -> Result<(), Unreadable> {
        (self.decode)(value, reading).map(drop)
    }

    /// Some names are exact to the letter; the other names mix cases.
    fn selects(&self, values: &[&str]) -> bool {
        !self.platform.protocol().is_exact(self) || self.select.contains(&values)
    }

    /// Whether it is what a user wrote or sent, and not an event.
    pub fn is_message(&self) -> bool {
        self.id.split('.').nth(1) == Some("message")
    }

    /// Whether a user expects the answer: it is a message, or something else that was done in the chat. What devices report
    /// reaches the user, too, but nobody waits for it.
    pub fn is_awaited(&self) -> bool {
        const REPORTED: [&str; 7] = [
            "location",
            "unsubscribe",
            "wificonnected",
            "device_bind",
            "device_unbind",
            "device_subscribe_status",
            "device_unsubscribe_status",
        ];
        let is_reported = || self.id.rsplit('.').next().is_some_and(|name| REPORTED.contains(&name));
        self.reply == ReplyKind::Passive && (self.is_message() || !is_reported())
    }

    /// Whether `InfoType` names it, which no message and no other event has.
    pub(crate) fn is_notice(&self) -> bool {
        self.platform.protocol().serves_others() && self.id.split('.').nth(1) == Some("info")
    }

    /// The more general event whose selectors this one narrows: a follow through a QR code is a follow.
    pub fn general(&self) -> Option<&'static EventSpec> {
        let narrow = self.select.first()?;
        let (_, general) = narrow.split_last().filter(|_| narrow.last().is_some_and(|value| value.ends_with('*')))?;
        table(self.platform).find(general)
    }
}

/// A typed event whose type is known only at run time.
pub struct Decoded {
    /// The event; downcast it with [`Decoded::downcast`].
    event: Box<dyn AnyEvent>,
    /// Fields that could not be read: each is absent, or kept as it came.
    pub unreadable: Vec<Unreadable>,
    /// Whether one of them is absent.
    pub has_lost: bool,
}

impl Decoded {
    /// The event with the platform's own names, numbers as numbers.
    pub fn to_value(&self) -> Value<'static> {
        self.event.to_value()
    }

    /// The event as its Rust type, if it is that.
    pub fn downcast<E: Event>(self) -> Option<E> {
        let event: Box<dyn Any> = self.event;
        event.downcast().ok().map(|event| *event)
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoded").field("unreadable", &self.unreadable).finish_non_exhaustive()
    }
}

/// An [`Event`] without its type.
pub(crate) trait AnyEvent: Any + Send + Sync {
    fn to_value(&self) -> Value<'static>;
}

impl<E: Event> AnyEvent for E {
    fn to_value(&self) -> Value<'static> {
        self.write().unwrap_or(Value::Null)
    }
}

/// The events of one platform, and the wire keys that select among them.
pub struct Table {
    /// The names of the wire values that [`EventSpec::select`] lists. Of several lists the first counts whose first name a
    /// payload has: a notice has `InfoType`, an event `MsgType`.
    pub keys: &'static [&'static [&'static str]],
    /// Every event, in the order of the catalogue.
    pub events: &'static [&'static EventSpec],
    pub(crate) exact: LazyLock<HashMap<String, &'static EventSpec>>,
    /// Selectors with a prefix are few; they are tried one by one.
    pub(crate) prefixes: LazyLock<Vec<Selector>>,
}

type Selector = (&'static [&'static str], &'static EventSpec);

fn selectors(events: &'static [&'static EventSpec], prefix: bool) -> impl Iterator<Item = Selector> {
    let all = events.iter().flat_map(|spec| spec.select.iter().map(|select| (*select, *spec)));
    all.filter(move |(select, _)| select.iter().any(|value| value.ends_with('*')) == prefix)
}

pub(crate) fn exact_selectors(events: &'static [&'static EventSpec]) -> HashMap<String, &'static EventSpec> {
    selectors(events, false).map(|(select, spec)| (lookup_key(select), spec)).collect()
}

pub(crate) fn prefix_selectors(events: &'static [&'static EventSpec]) -> Vec<Selector> {
    selectors(events, true).collect()
}

impl Table {
    /// The event that these wire values select; of several the one with more keys. Case does not matter, except for
    /// IM commands and notices of the Open Platform.
    pub fn find(&self, values: &[&str]) -> Option<&'static EventSpec> {
        (1..=values.len()).rev().find_map(|keys| {
            let values = &values[..keys];
            let exact = self.exact.get(lookup_key(values).as_str()).copied();
            exact.filter(|spec| spec.selects(values)).or_else(|| self.find_prefix(values))
        })
    }

    fn find_prefix(&self, values: &[&str]) -> Option<&'static EventSpec> {
        self.prefixes.iter().find(|(select, _)| matches(select, values)).map(|(_, spec)| *spec)
    }
}

fn matches(select: &[&str], values: &[&str]) -> bool {
    select.len() == values.len()
        && select.iter().zip(values).all(|(wanted, value)| match wanted.strip_suffix('*') {
            Some(prefix) => value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            None => wanted.eq_ignore_ascii_case(value),
        })
}

fn lookup_key(values: &[&str]) -> String {
    let mut key = String::with_capacity(values.iter().map(|value| value.len() + 1).sum());
    for value in values {
        key.push_str(value);
        key.push('\n');
    }
    key.make_ascii_lowercase();
    key
}

/// The table of a platform's events.
pub fn table(platform: Platform) -> &'static Table {
    platform.protocol().table()
}

/// Every event of every platform.
pub fn all() -> impl Iterator<Item = &'static EventSpec> {
    Platform::ALL.into_iter().flat_map(|platform| table(platform).events.iter().copied())
}

/// The event called `id`.
pub fn by_id(id: &str) -> Option<&'static EventSpec> {
    static IDS: LazyLock<HashMap<&str, &EventSpec>> = LazyLock::new(|| all().map(|spec| (spec.id, spec)).collect());
    IDS.get(id).copied()
}

/// Two lists as one, which has the length of both.
pub(crate) const fn joined<const N: usize>(
    first: &'static [&'static EventSpec],
    second: &'static [&'static EventSpec],
) -> [&'static EventSpec; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

pub(crate) fn decode_as<E: Event>(value: &Value<'_>, reading: &mut Reading) -> Result<Box<dyn AnyEvent>, Unreadable> {
    Ok(Box::new(E::read(value, reading)?))
}
