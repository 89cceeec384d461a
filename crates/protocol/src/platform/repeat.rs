//! What makes two deliveries the same event.

use std::{borrow::Cow, time::Duration};

use sha2::{Digest, Sha256};

use super::{Platform, scalar, wechat};
use crate::{
    event::EventSpec,
    payload::{Object, Value},
};

/// What makes two deliveries the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeKey {
    /// The key, as journals order it.
    pub bytes: Key,
    /// How long the key stands for the same event; `None`: forever. Set where two events can look alike.
    pub window: Option<Duration>,
}

/// [`Order`], its value, and a hash of everything that identifies the event. Only the hash tells events apart; what is
/// before it makes keys of one time neighbours, and is itself a part of what identifies the event.
pub type Key = [u8; KEY];

/// Bytes of a [`Key`].
pub const KEY: usize = 1 + 8 + 16;

/// By what the keys of a kind are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing: ids without an order.
    None = 0,
    /// The time in the payload, Unix seconds.
    Time = 1,
    /// The number of the message, which grows.
    MessageId = 2,
}

impl DedupeKey {
    fn new(order: Order, value: u64, identity: &[u8], window: Option<Duration>) -> Self {
        let mut bytes = [0; KEY];
        bytes[0] = order as u8;
        bytes[1..9].copy_from_slice(&value.to_be_bytes());
        bytes[9..].copy_from_slice(&Sha256::digest(identity)[..16]);
        Self { bytes, window }
    }

    /// For tables in memory: a part of the digest, which nobody outside can choose.
    pub fn hash(&self) -> u64 {
        self.bytes.last_chunk().map_or(0, |last| u64::from_ne_bytes(*last))
    }

    /// Until when the key stands for an event that was admitted then, both in milliseconds; `None`: forever.
    pub fn until(&self, admitted: i64) -> Option<i64> {
        let window = i64::try_from(self.window?.as_millis()).unwrap_or(i64::MAX);
        Some(admitted.saturating_add(window))
    }
}

/// An event whose key is to be made.
pub struct Keyed<'k> {
    /// Its row of the table, if it is known.
    pub spec: Option<&'static EventSpec>,
    /// The payload.
    pub payload: &'k Value<'k>,
    /// The payload as it came.
    pub text: &'k str,
    /// Looks a parameter of the request's query up.
    pub query: &'k dyn Fn(&str) -> Option<String>,
}

/// What identifies an event among those of its account.
pub struct Repeat {
    order: (Order, u64),
    window: Option<Duration>,
}

impl Repeat {
    /// Told apart by the id of the message, which has no order.
    pub(super) fn by_id(key: &mut Vec<u8>, id: &str) -> Self {
        part(key, id);
        Self { order: (Order::None, 0), window: None }
    }

    /// Told apart by the parts that are in the key, within `window`; ordered by the time of the payload, if that is a part.
    pub(super) fn by_parts(timed: Option<&Value<'_>>, window: Option<Duration>) -> Self {
        let order = timed.and_then(time).map_or((Order::None, 0), |time| (Order::Time, time.cast_unsigned()));
        Self { order, window }
    }

    /// By the whole payload, which holds their time; messages are ordered by their id. The id alone does not identify a message:
    /// tools that send some for tests give all of them the same.
    pub(super) fn by_message(key: &mut Vec<u8>, event: &Keyed<'_>) -> Self {
        let sender_and_id = |object: &Object<'_>| {
            let (sender, id) = wechat::message_id(object)?;
            [&sender, &id].into_iter().for_each(|value: &Cow<'_, str>| part(key, value));
            Some(id.parse().map_or((Order::None, 0), |id| (Order::MessageId, id)))
        };
        let order = event.payload.as_object().and_then(sender_and_id);
        part(key, event.text);
        match order {
            Some(order) => Self { order, window: None },
            None => Self::by_parts(Some(event.payload), None),
        }
    }
}

/// The key of an event; `None` where every delivery is an event of its own.
pub fn dedupe_key(
    platform: Platform,
    account: &str,
    spec: Option<&'static EventSpec>,
    payload: &Value<'_>,
    text: &str,
    query: &dyn Fn(&str) -> Option<String>,
) -> Option<DedupeKey> {
    // The text is a part of most keys, and mostly short.
    let mut key = Vec::with_capacity(128 + text.len().min(1024));
    part(&mut key, platform.as_str());
    part(&mut key, account);
    let repeat = platform.protocol().repeat(&mut key, &Keyed { spec, payload, text, query })?;
    let (order, value) = repeat.order;
    Some(DedupeKey::new(order, value, &key, repeat.window))
}

/// When an event happened, by its payload: Unix seconds.
pub fn time(payload: &Value<'_>) -> Option<i64> {
    /// Numbers above are milliseconds.
    const SECONDS: i64 = 100_000_000_000;
    let object = payload.as_object()?;
    let named = |name| scalar(object, name)?.parse().ok().filter(|time: &i64| *time > 0);
    const NAMES: [&str; 6] = ["CreateTime", "EventTime", "MsgTime", "send_time", "TimeStamp", "create_time"];
    let time = NAMES.into_iter().find_map(named)?;
    Some(if time > SECONDS { time / 1000 } else { time })
}

/// Each part with its length, so that two keys cannot run into one another.
pub(super) fn part(key: &mut Vec<u8>, value: &str) {
    key.extend((value.len() as u64).to_be_bytes());
    key.extend(value.as_bytes());
}
