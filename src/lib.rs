//! echostr receives the callbacks of the Tencent messaging platforms.

pub mod config;
pub mod crypto;
pub mod envelope;
pub mod event;
pub mod events;
pub mod payload;
pub mod replies;
pub mod secret;
pub mod wire;
