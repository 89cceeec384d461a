//! `/v1/info`: what runs, since when, and whether it is ready.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, error::CommonErrors, json::Json, shown::time};

/// The server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    /// Its version.
    version: String,
    /// When it started.
    #[schema(format = "date-time")]
    started: String,
    /// Its journal.
    journal: JournalDetail,
    /// Whether it is ready, as `/readyz` says.
    ready: Ready,
    /// Whether values of payloads are masked.
    masked: bool,
    /// Whether a token is required, so that a session can be ended.
    token: bool,
}

/// The journal.
#[derive(Debug, Serialize, ToSchema)]
struct JournalDetail {
    /// `memory`, `sqlite` or `postgres`.
    kind: String,
    /// Bytes in use.
    bytes: u64,
    /// How large it may get, in bytes.
    max_bytes: u64,
}

/// Whether the server is ready.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    ok: bool,
    /// Why it is not; null when it is.
    reason: Option<String>,
}

/// Shows what runs
#[utoipa::path(
    get, path = "/v1/info", tag = "server",
    responses((status = 200, description = "The server.", body = Info), CommonErrors),
)]
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Json<Info> {
    let bytes = admin.store.journal().map_or(0, |journal| journal.usage().bytes);
    let reason = admin.not_ready().await;
    Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: time(admin.started),
        journal: JournalDetail { kind: admin.store.kind().to_owned(), bytes, max_bytes: admin.store.max_bytes() },
        ready: Ready { ok: reason.is_none(), reason },
        masked: !admin.mask.is_empty(),
        token: admin.gate.wants_token(),
    })
}
