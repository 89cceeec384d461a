//! JSON in and out, and parameters: whatever cannot be read is an error of the API.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time;
use tracing::error;

use super::error::ApiError;

/// Largest body of a request; room for a thousand dead letters with long names.
const BODY_LIMIT: usize = 512 * 1024;

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer, or the body of a request.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let (status, text) = match serde_json::to_vec(&self.0) {
            Ok(text) => (StatusCode::OK, text),
            Err(failure) => {
                error!("an answer of the event API cannot be written: {failure}");
                let text = r#"{"error":{"code":"internal","message":"the answer cannot be written"}}"#;
                (StatusCode::INTERNAL_SERVER_ERROR, text.into())
            }
        };
        let mut response = (status, Body::from(text)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        // No form of another site can send this media type.
        if !is_json(request.headers()) {
            let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong_media_type");
            return Err(ApiError::new(status, code, "expected Content-Type: application/json"));
        }
        let text = read(request.into_body()).await?;
        serde_json::from_slice(&text).map(Self).map_err(|failure| ApiError::bad_request(format!("the body: {failure}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let body = time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await;
    match body {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(failure)) if failure.is::<LengthLimitError>() => {
            let message = format!("the body has more than {BODY_LIMIT} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("the body is not complete")),
        Err(_elapsed) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body did not come in time")),
    }
}

/// The parameters of the query; none that is not known.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// The last part of the path.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}
