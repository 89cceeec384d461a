//! `/session`: signing in to the page, and out.

use std::sync::Arc;

use axum::{
    extract::{FromRequest as _, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ORIGIN, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tracing::info;
use utoipa::ToSchema;

use super::{
    Admin,
    auth::check_origin,
    error::{ApiError, BodyErrors, CommonErrors},
    json::Json,
};
use crate::{secret::Secret, server::activity::Peer};

/// Who signs in.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// The token of `[admin]`.
    token: String,
}

/// Signs in: the answer sets a cookie
#[utoipa::path(
    post, path = "/session", tag = "page", request_body = Login,
    responses((status = 204, description = "Signed in; where no token is configured, nothing is needed."), BodyErrors, CommonErrors),
)]
pub(super) async fn begin(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    admin.gate.check_host(&headers)?;
    check_origin(&headers, false)?;
    let peer = request.extensions().get::<Peer>().cloned().ok_or_else(ApiError::unauthorized)?;
    let client = admin.gate.client(&peer, &headers);
    let Json(Login { token }) = Json::from_request(request, &()).await?;
    let token = Secret::new(token);
    admin.gate.check_token(token.expose(), client)?;
    if !admin.gate.wants_token() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let cookie = admin.gate.sessions.begin(is_secure(&headers));
    let cookie = cookie.ok_or_else(|| ApiError::internal("the system gives no random bytes"))?;
    info!(audit = "login", %client, "admin: a session of the page has begun (from {client})");
    Ok(with_cookie(&cookie))
}

/// Signs out
#[utoipa::path(
    delete, path = "/session", tag = "page",
    responses((status = 204, description = "Signed out."), CommonErrors),
)]
pub(super) async fn end(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, ApiError> {
    admin.gate.check_host(&headers)?;
    check_origin(&headers, admin.gate.sessions.find(&headers).is_some())?;
    Ok(with_cookie(&admin.gate.sessions.end(&headers, is_secure(&headers))))
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Whether the browser speaks TLS, to whatever is in front.
fn is_secure(headers: &HeaderMap) -> bool {
    let starts = |name: &str, with: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(with))
    };
    starts(ORIGIN.as_str(), "https://") || starts("x-forwarded-proto", "https")
}
