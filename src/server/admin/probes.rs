//! Health, readiness and metrics.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, SERVER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{self, Duration},
};

use super::Admin;
use crate::{
    journal::{JournalError, now_millis},
    server::activity::Peer,
};

/// Probes need no token: they show only whether the server runs.
pub(super) fn routes(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(admin), authorize));
    Router::new()
        .route("/healthz", get(async || ([(SERVER, "echostr")], "ok\n")))
        .route("/readyz", get(ready))
        .merge(guarded)
}

/// The threads that serve deliveries and run handlers.
#[derive(Debug)]
pub(super) struct Workers {
    runtime: Handle,
    /// One question at a time, so that unanswered ones do not pile up.
    question: Arc<Semaphore>,
}

impl Workers {
    pub(super) fn of_this_runtime() -> Self {
        Self { runtime: Handle::current(), question: Arc::new(Semaphore::new(1)) }
    }

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

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    if let Some(journal) = admin.store.journal() {
        admin.metrics.show_usage(journal.usage());
    }
    // While the journal cannot be read, they stay as they were.
    if let Ok(archive) = admin.store.archive().await
        && let Ok(states) = archive.observer_states().await
    {
        admin.metrics.show_observers(&states, now_millis());
    }
    let view = admin.view.load_full();
    let now = admin.store.journal().map_or_else(now_millis, |journal| journal.now());
    for endpoint in &view.endpoints {
        if let Some(source) = &endpoint.source {
            source.show(now);
        }
        if let Some(api) = view.apis.get(&endpoint.id) {
            admin.metrics.show_token(&endpoint.id, api.token_state().0);
        }
    }
    ([(CONTENT_TYPE, PROMETHEUS)], admin.metrics.render()).into_response()
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    match admin.not_ready().await {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        // A bot that is not connected is no reason to take the node away from the other accounts.
        None => {
            let view = admin.view.load_full();
            let unknown = view.endpoints.iter().filter(|it| it.source.as_ref().is_some_and(|it| it.list().is_none()));
            let unknown = unknown
                .map(|it| format!("{}: the platform's addresses are not known yet, so all are accepted\n", it.id));
            let lines = std::iter::once("ready\n".to_owned()).chain(view.connections.lines()).chain(unknown);
            lines.collect::<String>().into_response()
        }
    }
}

impl Admin {
    /// Why the server is not ready.
    pub(super) async fn not_ready(&self) -> Option<String> {
        if self.stopping.is_cancelled() {
            return Some("shutting down".to_owned());
        }
        if !self.workers.answer().await {
            return Some("every worker is blocked by a handler".to_owned());
        }
        if self.metrics.loads().are_stuck(Instant::now()) {
            const STUCK: &str = "max_in_flight reached, mostly by responders that have run for over a minute";
            return Some(STUCK.to_owned());
        }
        if let Some(task) = self.supervisor.failing() {
            return Some(format!("the background task {task} has panicked"));
        }
        match self.store.journal().map_or(Err(JournalError::Closed), |journal| journal.health()) {
            Ok(()) => None,
            // The log has the details, which are not for every client.
            Err(JournalError::Full) => Some("the journal is full".to_owned()),
            Err(_) => Some("the journal cannot store".to_owned()),
        }
    }
}

/// Collectors have the token, and reach the server by any name.
async fn authorize(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let Some(peer) = request.extensions().get::<Peer>() else { return StatusCode::UNAUTHORIZED.into_response() };
    match admin.gate.check_token(given, admin.gate.client(peer, headers)) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}
