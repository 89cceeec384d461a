//! Black-box tests: a real server on a real socket, OpenSSL as the platforms' side.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody else reads its modules"
)]

mod architecture;
mod archive;
mod bad_input;
mod bot;
mod catalogue;
mod disk;
mod drift;
mod golden;
mod im;
mod journal;
mod kf;
mod late;
mod lifecycle;
mod messages;
mod nodes;
mod observers;
mod online;
mod repeats;
mod responders;
mod secrets;
mod support;
mod thirdparty;
mod transport;
