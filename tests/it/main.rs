//! Black-box tests: a real server on a real socket, OpenSSL as the platforms' side.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody else reads its modules"
)]

mod admin;
mod answers;
mod architecture;
mod archive;
mod background;
mod backup;
mod bad_input;
mod blocked;
mod bodies;
mod bot;
mod captured;
mod catalogue;
mod cli;
mod connections;
mod cost;
mod dashboards;
mod deadlines;
mod disk;
mod drift;
mod dropped;
#[cfg(target_os = "linux")]
mod files;
mod flat;
mod flood;
mod forward;
mod gates;
mod golden;
mod im;
mod isolation;
mod joining;
mod journal;
mod kf;
mod late;
mod lifecycle;
mod locks;
mod log;
mod long_text;
mod memory;
mod messages;
mod missing;
mod next_message;
mod nodes;
mod noise;
mod observers;
mod online;
mod pages;
mod panics;
mod partition;
mod policy;
mod postgres;
mod postgres_faults;
mod postgres_tls;
mod probes;
#[cfg(any(feature = "nats", feature = "redis", feature = "rabbitmq", feature = "kafka"))]
mod queues;
mod reload;
mod repeats;
mod replays;
mod responders;
mod secrets;
mod shared;
mod shares;
mod shell;
mod source;
mod stopping;
mod supervision;
mod support;
#[cfg(feature = "otlp")]
mod telemetry;
mod thirdparty;
mod transport;
mod unread;
mod vectors;
mod websocket;
