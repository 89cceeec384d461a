//! The server under test, a raw HTTP client, and the platforms' side.

pub mod api;
pub mod http;
pub mod platform;
pub mod postgres;
pub mod server;

pub use self::{
    http::{Answer, Http},
    server::TestServer,
};

/// The time of every test.
pub const NOW: i64 = 1_735_689_600;
