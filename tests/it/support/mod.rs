//! The server under test, a raw HTTP client, and the platforms' side.

pub mod api;
pub mod http;
pub mod log;
pub mod platform;
pub mod postgres;
pub mod server;

use std::time::{Duration, Instant};

pub use self::{
    http::{Answer, Http},
    log::Log,
    server::TestServer,
};

/// The time of every test.
pub const NOW: i64 = 1_735_689_600;

/// Waits for a condition, by asking again and again; fails when it never holds.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "it never happened");
        tokio::task::yield_now().await;
    }
}
