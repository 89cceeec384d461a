//! The callbacks of the Tencent messaging platforms, without I/O: WeChat Official Accounts, Mini Programs, third-party
//! platforms, WeCom with customer service and AI bots, Tencent IM.
//!
//! This crate verifies and decrypts a request, parses its payload into a typed event, and writes and seals the reply. It opens no
//! socket and stores nothing: whoever calls it passes bytes. The `echostr` server is built on it, and so can any other
//! application be. [`Keys`] is where that begins, whatever the HTTP framework:
//!
//! ```
//! use echostr_protocol::{Keys, Platform, Received, Response, events::mp, replies::mp::Reply};
//!
//! fn keys() -> Result<Keys, Box<dyn std::error::Error>> {
//!     let keys = Keys::new(Platform::Mp, "fakeToken").for_id("wx0123456789abcdef");
//!     Ok(keys.with_aes_key("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")?)
//! }
//!
//! /// Answers a request, be it GET or POST: its query, and its body.
//! fn answer(keys: &Keys, query: &str, body: &[u8]) -> Result<Response, Box<dyn std::error::Error>> {
//!     let push = match keys.receive(query, body)? {
//!         Received::UrlCheck(response) => return Ok(response),
//!         Received::Push(push) => push,
//!     };
//!     let Some(message) = push.event::<mp::TextMessage>() else { return Ok(push.success()) };
//!     Ok(keys.reply(&push, Reply::text(format!("echo: {}", message.content)))?)
//! }
//! # let _ = (keys()?, answer);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The time and the random bytes of an answer are the system's, with the feature `system`, which is a default one; without it
//! [`Keys::receive_at`] and [`Keys::reply_with`] take them, and nothing in this crate asks the system for anything.
//!
//! What the `echostr` server does beyond that is left to the application: a retried delivery has the same
//! [`Push::repeat_key`], and clear text of WeChat, whose signature covers no body, needs a [`ReplayGuard`](envelope::ReplayGuard).
//!
//! # Layout
//!
//! | module | what it does |
//! |---|---|
//! | the crate itself | [`Keys`], [`Received`], [`Push`], [`Response`]: a request in, an answer out |
//! | [`crypto`] | signatures, AES with the padding of the platforms, comparison in constant time |
//! | [`payload`], [`wire`] | XML or JSON as one tree; every tolerance towards the wire |
//! | [`envelope`] | opens a request, seals a reply, explains a refusal |
//! | [`event`], [`events`] | the traits and tables of events; a documented type for each, generated from the catalogue |
//! | [`platform`] | what differs between platforms: event type, subject, key of repeats, how an answer is written |
//! | [`replies`] | builders of replies that refuse what the platform refuses |
//! | [`secret`] | strings that must not be shown |

pub mod crypto;
pub mod envelope;
pub mod event;
pub mod events;
#[doc(hidden)]
pub mod panics;
pub mod payload;
pub mod platform;
#[doc(hidden)]
pub mod prehashed;
mod receive;
pub mod replies;
pub mod secret;
pub mod wire;

pub use self::{
    envelope::{Keys, Refusal},
    event::{Event, Platform},
    receive::{Push, ReceiveError, Received, ReplyFailure, Response, Unique},
};
