//! echostr receives the callbacks of the Tencent messaging platforms: verifies, decrypts, types, answers, fans out.

pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod envelope;
pub mod event;
pub mod events;
pub mod handlers;
pub mod hooks;
pub mod journal;
pub mod metrics;
pub mod payload;
pub mod platform;
pub mod receiver;
pub mod replies;
pub mod secret;
pub mod server;
pub mod simulate;
pub mod wire;
