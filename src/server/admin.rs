//! Health, readiness and metrics.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Weak},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::FutureExt as _;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use subtle::ConstantTimeEq as _;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{self, Duration},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use super::activity::Peer;
use crate::{
    journal::{Journal, JournalError},
    metrics::Metrics,
    secret::Secret,
    supervisor::Supervisor,
    websocket::Statuses,
};

/// What the admin routes need. They are served by a thread of their own: handlers that block every worker of the runtime do
/// not keep probes and metrics from being answered.
pub(super) struct Admin {
    metrics: Metrics,
    token: Option<Secret>,
    stopping: CancellationToken,
    /// Weak: the thread must not keep the journal open after its server.
    journal: Weak<dyn Journal>,
    workers: Workers,
    supervisor: Supervisor,
    connections: Statuses,
}

/// The threads that serve deliveries and run handlers.
struct Workers {
    runtime: Handle,
    /// One question at a time, so that unanswered ones do not pile up.
    question: Arc<Semaphore>,
}

impl Workers {
    /// Whether one of them is free soon.
    async fn answer(&self) -> bool {
        const WORKER_TIMEOUT: Duration = Duration::from_secs(2);
        let asked = async {
            let question = Arc::clone(&self.question).acquire_owned().await;
            let _ = self.runtime.spawn(async move { drop(question) }).await;
        };
        time::timeout(WORKER_TIMEOUT, asked).await.is_ok()
    }
}

impl Admin {
    /// For a server that runs on the current runtime.
    pub(super) fn new(
        metrics: Metrics,
        token: Option<Secret>,
        stopping: CancellationToken,
        journal: &Arc<dyn Journal>,
        supervisor: Supervisor,
        connections: Statuses,
    ) -> Self {
        let workers = Workers { runtime: Handle::current(), question: Arc::new(Semaphore::new(1)) };
        Self { metrics, token, stopping, journal: Arc::downgrade(journal), workers, supervisor, connections }
    }

    fn allows(&self, request: &Request) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        given.as_bytes().ct_eq(token.expose().as_bytes()).into()
    }
}

/// The routes; probes need no token, they show only whether the server runs.
pub(super) fn routes(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&admin), authorize));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(guarded)
        .layer(CatchPanicLayer::new())
        .with_state(admin)
}

/// The service of one connection.
pub(super) fn service(
    routes: Router,
    peer: Peer,
) -> impl Service<
    axum::http::Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> + Send
+ Unpin
+ 'static {
    service_fn(move |request: axum::http::Request<Incoming>| {
        let (routes, peer) = (routes.clone(), peer.clone());
        async move {
            let answer = routes.oneshot(request.map(Body::new)).map(|Ok(response)| response);
            Ok(peer.answer(answer).await)
        }
    })
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    if let Some(journal) = admin.journal.upgrade() {
        admin.metrics.show_usage(journal.usage());
    }
    ([(axum::http::header::CONTENT_TYPE, PROMETHEUS)], admin.metrics.render()).into_response()
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    if !admin.workers.answer().await {
        return (StatusCode::SERVICE_UNAVAILABLE, "every worker is blocked by a handler\n").into_response();
    }
    if admin.metrics.loads().are_stuck(Instant::now()) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "max_in_flight reached, mostly by responders that have run for over a minute\n",
        )
            .into_response();
    }
    if let Some(task) = admin.supervisor.failing() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("the background task {task} has panicked\n")).into_response();
    }
    match admin.journal.upgrade().map_or(Err(JournalError::Closed), |journal| journal.health()) {
        // A bot that is not connected is no reason to take the node away from the other accounts.
        Ok(()) => {
            std::iter::once("ready\n".to_owned()).chain(admin.connections.lines()).collect::<String>().into_response()
        }
        // The log has the details, which are not for every client.
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
