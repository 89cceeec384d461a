//! Health, readiness and metrics.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    journal::{Journal, JournalError},
    metrics::Metrics,
    secret::Secret,
};

/// What the admin routes need.
pub(super) struct Admin {
    metrics: Metrics,
    token: Option<Secret>,
    stopping: CancellationToken,
    journal: Arc<dyn Journal>,
}

impl Admin {
    pub(super) fn new(
        metrics: Metrics,
        token: Option<Secret>,
        stopping: CancellationToken,
        journal: Arc<dyn Journal>,
    ) -> Self {
        Self { metrics, token, stopping, journal }
    }

    fn allows(&self, request: &Request) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        given.as_bytes().ct_eq(token.expose().as_bytes()).into()
    }
}

/// The routes; probes need no token, they tell nothing but whether the server runs.
pub(super) fn service(
    admin: Arc<Admin>,
) -> impl Service<
    axum::http::Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> + Send
+ 'static {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&admin), authorize));
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(guarded)
        .layer(CatchPanicLayer::new())
        .with_state(admin);
    TowerToHyperService::new(tower::ServiceExt::map_request(router, |request: axum::http::Request<Incoming>| {
        request.map(Body::new)
    }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(axum::http::header::CONTENT_TYPE, PROMETHEUS)], admin.metrics.render()).into_response()
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    match admin.journal.health() {
        Ok(()) => "ready\n".into_response(),
        // What exactly is in the log, and is not for everybody who may ask.
        Err(JournalError::Full) => (StatusCode::SERVICE_UNAVAILABLE, "the journal is full\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot store\n").into_response(),
    }
}

async fn authorize(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if admin.allows(&request) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "the admin token is required: Authorization: Bearer …\n").into_response()
}
