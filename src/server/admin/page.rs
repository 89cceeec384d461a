//! `/` and `/assets`: the page, which is a part of the program and asks for nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
            IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest as _, Sha256};

use super::{Admin, error::ApiError, json::Name};

/// What pages and answers may do in a browser: what this server gives them, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
    is_compressed: bool,
    tag: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $media_type:literal, $is_compressed:literal, $file:literal) => {{
        const CONTENT: &[u8] = include_bytes!(concat!("../../../inspector/dist/", $file));
        Asset {
            name: $name,
            media_type: $media_type,
            content: CONTENT,
            is_compressed: $is_compressed,
            tag: LazyLock::new(|| tag(CONTENT)),
        }
    }};
}

static INDEX: Asset = asset!("", "text/html; charset=utf-8", false, "index.html");
static ASSETS: [Asset; 3] = [
    asset!("app.js", "text/javascript; charset=utf-8", true, "app.js.gz"),
    asset!("app.css", "text/css; charset=utf-8", true, "app.css.gz"),
    asset!("icon.svg", "image/svg+xml", false, "icon.svg"),
];

fn tag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash.iter().take(12).fold("\"".to_owned(), |tag, byte| format!("{tag}{byte:02x}")) + "\""
}

/// The routes of the page, which has nothing in it that is secret.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(asset))
}

async fn index(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, ApiError> {
    serve(&admin, &INDEX, &headers)
}

async fn asset(State(admin): State<Arc<Admin>>, Name(name): Name, headers: HeaderMap) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    serve(&admin, found.ok_or_else(|| ApiError::not_found("the page has no such file"))?, &headers)
}

fn serve(admin: &Admin, asset: &'static Asset, headers: &HeaderMap) -> Result<Response, ApiError> {
    admin.gate.check_host(headers)?;
    let tag = &**asset.tag;
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = match (is_known, !asset.is_compressed || accepts_gzip(headers)) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, true) => asset.content.into_response(),
        (false, false) => {
            const MESSAGE: &str = "the page is stored compressed; ask for it with Accept-Encoding: gzip";
            return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", MESSAGE));
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    if asset.is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0));
        matches!(name.trim(), "gzip" | "*") && !is_refused
    })
}

/// Adds what keeps browsers from doing more with an answer than the page needs.
pub(super) async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
