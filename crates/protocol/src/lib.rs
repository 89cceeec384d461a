//! The callbacks of the Tencent messaging platforms, without I/O: WeChat Official Accounts, Mini Programs, third-party
//! platforms, WeCom with customer service and AI bots, Tencent IM.
//!
//! This crate verifies and decrypts a request, parses its payload into a typed event, and writes and seals the reply. It opens no
//! socket, reads no clock and stores nothing: whoever calls it passes bytes and the time. The `echostr` server is built
//! on it, and so can any other application be. Here, the handler of an Official Account, whatever the HTTP framework:
//!
//! ```
//! use std::error::Error;
//!
//! use echostr_protocol::{
//!     crypto::{EncodingKey, KeyError},
//!     envelope::{Keys, Mode, Query, ReceiveIds},
//!     event::{Event as _, Platform, Reply as _},
//!     events::mp,
//!     payload,
//!     platform::{self, Address, Body},
//!     replies::mp::Reply,
//!     secret::Secret,
//!     wire::{Reading, Wire as _},
//! };
//!
//! fn keys() -> Result<Keys, KeyError> {
//!     Ok(Keys {
//!         platform: Platform::Mp,
//!         tokens: vec![Secret::new("fakeToken")],
//!         aes_keys: vec![EncodingKey::parse("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")?],
//!         receive_ids: ReceiveIds::OneOf(vec!["wx0123456789abcdef".to_owned()]),
//!         mode: Mode::Safe,
//!         max_age: Some(std::time::Duration::from_secs(600)),
//!         sdk_app_id: None,
//!     })
//! }
//!
//! /// The body of the answer. `now` is in Unix seconds; `nonce` and `random` are new for each answer.
//! fn answer(keys: &Keys, query: &str, body: &[u8], now: i64, nonce: &str, random: [u8; 16]) -> Result<String, Box<dyn Error>> {
//!     let query = Query::parse(query)?;
//!     let request = keys.open(&query, body, now)?;
//!     let payload = payload::parse(request.form(), request.payload())?;
//!
//!     let event = platform::identify(Platform::Mp, &payload, None);
//!     let is_text = event.spec == Some(mp::TextMessage::SPEC);
//!     let Some(message) = is_text.then(|| mp::TextMessage::read(&payload, &mut Reading::new(request.form())).ok()).flatten()
//!     else {
//!         return Ok(platform::plain_success(Platform::Mp).to_owned());
//!     };
//!     let reply = Reply::text(format!("echo: {}", message.content));
//!     let Ok(reply) = reply.into_answer() else { return Ok(platform::plain_success(Platform::Mp).to_owned()) };
//!     let body = platform::write_answer(Platform::Mp, request.form(), reply, Address::of(&payload), now);
//!     Ok(match (body, request.seal()) {
//!         (Body::Document(document), Some(seal)) => keys.answer(seal, &document, now, nonce, random)?,
//!         (Body::Document(document), None) => document,
//!         (Body::Plain(text), _) => text.to_owned(),
//!     })
//! }
//!
//! # use echostr_protocol::envelope::Sender;
//! # let keys = keys()?;
//! # let _ = (answer, keys);
//! # Ok::<_, KeyError>(())
//! ```
//!
//! # Layout
//!
//! | module | what it does |
//! |---|---|
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
pub mod replies;
pub mod secret;
pub mod wire;
