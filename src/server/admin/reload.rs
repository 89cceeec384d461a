//! `POST /v1/reload`: reading the configuration again.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa::IntoResponses;

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, CommonErrors, ErrorBody},
    json::Json,
};
use crate::server::{ReloadError, Reloaded};

/// Why nothing has changed.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum ReloadErrors {
    /// The configuration is wrong; the message has every problem in a line: `wrong_configuration`.
    #[response(status = 422)]
    Wrong(ErrorBody),
    /// The program that runs the server does not say where its configuration is: `not_supported`.
    #[response(status = 501)]
    Unsupported(ErrorBody),
}

/// Reads the configuration again, as SIGHUP does: it is applied as a whole, or not at all
#[utoipa::path(
    post, path = "/v1/reload", tag = "server",
    responses((status = 200, description = "It is in use.", body = Reloaded), ReloadErrors, CommonErrors),
)]
pub(super) async fn reload(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<Reloaded>, ApiError> {
    caller.audit("reload", "the configuration");
    let reloaded = admin.reload.reload().await;
    reloaded.map(Json).map_err(|failure| match failure {
        ReloadError::Wrong(problems) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_configuration", problems.join("\n"))
        }
        ReloadError::Unsupported => ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_supported", failure.to_string()),
        ReloadError::Stopping | ReloadError::Busy => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", failure.to_string()).retry_after(1)
        }
    })
}
