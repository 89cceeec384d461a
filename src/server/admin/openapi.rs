//! `/v1/openapi.json`: the document of the API, made of its routes.

use std::sync::{Arc, OnceLock};

use axum::{
    body::Bytes,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components, SecurityRequirement,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    Admin,
    error::{ApiError, CommonErrors},
};

/// The document, which the routes add their parts to.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "echostr event API",
        description = "Events, observers, dead letters and accounts of a running server. Times are RFC 3339 in UTC with \
                       milliseconds. Errors have a fixed code and a text for people. Ignore members that you do not know: \
                       later versions may add some.",
    ),
    modifiers(&Authorisation),
)]
pub(super) struct Document;

struct Authorisation;

impl Modify for Authorisation {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("`token` of `[admin]`."));
        let session = ApiKeyValue::with_description("echostr_session", "The session of the page.");
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
        let requirement = |name: &str| SecurityRequirement::new(name, [] as [&str; 0]);
        // Where no token is configured, none is needed.
        document.security = Some(vec![requirement("token"), requirement("session"), SecurityRequirement::default()]);
    }
}

/// The document as it is served.
#[derive(Debug, Default)]
pub(super) struct Served(OnceLock<Bytes>);

impl Served {
    pub(super) fn set(&self, document: &utoipa::openapi::OpenApi) {
        let _ = self.0.set(serde_json::to_vec(document).unwrap_or_default().into());
    }
}

/// Describes this API
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value), CommonErrors),
)]
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let document = admin.document.0.get().cloned().ok_or_else(|| ApiError::internal("there is no document"))?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], document).into_response())
}
