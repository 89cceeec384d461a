//! Why a request to the event API has no other answer: a status, a fixed code, a text for people.

use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::{IntoResponses, ToSchema};

use super::json::Json;
use crate::journal::JournalError;

/// What went wrong.
#[derive(Debug)]
pub(in crate::server) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds after which it is worth another try.
    retry_after: Option<u64>,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// What went wrong.
    pub(crate) error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// A fixed word, such as `not_found`.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

/// What any request may be answered.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum CommonErrors {
    /// The token is required, or the session has expired: `unauthorized`.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// The host, the origin or the kind of authorisation does not allow it: `forbidden_host`, `forbidden_origin`.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// The method is wrong: `wrong_method`.
    #[response(status = 405)]
    WrongMethod(ErrorBody),
    /// Too many wrong tokens from this address, or too many streams: `too_many_attempts`, `too_many_streams`.
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// The server is at fault; its log has more: `internal`.
    #[response(status = 500)]
    Internal(ErrorBody),
    /// The journal cannot be read or changed now, or the server is shutting down: `unavailable`.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// What a request with parameters may be answered, too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum InputErrors {
    /// A parameter or the body is wrong: `bad_request`.
    #[response(status = 400)]
    BadRequest(ErrorBody),
}

/// What a request with a body may be answered, too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum BodyErrors {
    /// A parameter or the body is wrong: `bad_request`.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// The body did not come in time: `slow_body`.
    #[response(status = 408)]
    Slow(ErrorBody),
    /// The body is too large: `too_large`.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is not `application/json`: `wrong_media_type`.
    #[response(status = 415)]
    WrongMediaType(ErrorBody),
}

/// What a request for one event may be answered, too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum EventErrors {
    /// There is no such event: `not_found`.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// The id is the beginning of several: `ambiguous`.
    #[response(status = 409)]
    Ambiguous(ErrorBody),
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// A parameter or the body is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn unauthorized() -> Self {
        const MESSAGE: &str = "the admin token is required: Authorization: Bearer …, or a session of the page";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", MESSAGE)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    #[must_use]
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl From<JournalError> for ApiError {
    fn from(failure: JournalError) -> Self {
        // The log has the details, which name files and hosts.
        warn!("the event API could not use the journal: {failure}");
        Self::unavailable(match failure {
            JournalError::Closed => "the server is shutting down",
            JournalError::Full => "the journal is full",
            _ => "the journal cannot be read or changed now; the log has the cause",
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, retry_after } = self;
        let body = ErrorBody { error: ErrorDetail { code: code.to_owned(), message } };
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
