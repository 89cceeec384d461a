//! Tests of echostr handlers, by hand or through a server.
//!
//! A handler is a function. [`sample`] gives it an event of the catalogue, [`context`] a context:
//!
//! ```
//! use echostr::{
//!     events::mp,
//!     hooks::{Context, HandlerError},
//!     replies::mp::Reply,
//! };
//!
//! async fn greet(message: mp::TextMessage, context: Context) -> Result<Reply, HandlerError> {
//!     Ok(Reply::text(format!("{}: {}", context.account(), message.content)))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut message: mp::TextMessage = echostr_testing::sample();
//! message.content = "hello".to_owned();
//! let context = echostr_testing::context(&message).account("mp/shop").build();
//! let reply = greet(message, context).await.unwrap();
//! assert_eq!(reply, Reply::text("mp/shop: hello"));
//! # }
//! ```
//!
//! [`TestServer`] is a whole server in the process of the test. It is fed as the platform would, signed and encrypted, and
//! gives the reply as the platform would open it:
//!
//! ```
//! use echostr::{
//!     events::mp,
//!     hooks::{Context, Hooks},
//!     replies::mp::Reply,
//! };
//! use echostr_testing::{TestServer, sample};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let hooks = Hooks::default()
//!     .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(message.content.to_uppercase())))
//!     .observe("audit", async |message: mp::TextMessage, _: Context| Ok(drop(message)));
//! let server = TestServer::start(hooks).await;
//!
//! let mut message: mp::TextMessage = sample();
//! message.content = "hello".to_owned();
//! let reply = server.send(&message).await;
//! assert_eq!(reply.text().as_deref(), Some("HELLO"));
//! assert_eq!(server.observed().await, 0, "dead letters");
//! # }
//! ```
//!
//! The platforms' API is played, too, faults included: [`TestServer::api`] and [`ContextBuilder::api`].
//!
//! What goes wrong in a test's own preparation is a panic that says what to do: there is nobody who could handle an error.

mod context;
mod event;
mod reply;
mod server;

pub use echostr::simulate::{
    Answer, Push,
    api::{Counts, FakeApi, Faults, Sent},
};

pub use self::{
    context::{ContextBuilder, context},
    event::{push, sample},
    reply::Reply,
    server::{Builder, TestAccount, TestServer},
};

/// The time of day in tests, until a clock is set: 2025-01-01 00:00:00 UTC, in seconds.
pub const NOW: i64 = 1_735_689_600;
