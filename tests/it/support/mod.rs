//! The server under test, a raw HTTP client, and the platforms' side.

pub mod api;
pub mod certificates;
pub mod http;
pub mod log;
pub mod platform;
pub mod postgres;
#[cfg(any(feature = "nats", feature = "redis", feature = "rabbitmq", feature = "kafka"))]
pub mod process;
pub mod program;
pub mod server;
pub mod service;
pub mod target;

use std::{
    panic::Location,
    time::{Duration, Instant},
};

pub use self::{
    http::{Answer, Http},
    log::Log,
    server::TestServer,
};

/// The time of every test.
pub const NOW: i64 = 1_735_689_600;

/// Waits for a condition, by asking again and again; fails when it never holds.
#[track_caller]
pub fn until(holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move { wait_for(&format!("what {caller} waits for"), holds).await }
}

/// The same; fails with what was waited for.
pub async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
