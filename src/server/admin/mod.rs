//! The admin listener: health, metrics, the event API and the page that shows it.
//!
//! | file | what it does |
//! |---|---|
//! | `probes` | health, readiness, metrics |
//! | `auth`, `limiter`, `sessions` | who may ask |
//! | `store` | the journal of the running server |
//! | `stream`, `change`, `samples` | events as they come; replays and dead letters; playing the platform |
//! | `reload` | reading the configuration again |
//! | `events`, `dead`, `observers`, `accounts`, `refused`, `forwards`, `catalogue`, `info` | a part of the API each |
//! | `model`, `shown`, `mask` | what is shown of an event |
//! | `filter`, `json`, `error` | parameters and bodies, and what is answered to wrong ones |

mod accounts;
mod auth;
mod catalogue;
pub(super) mod change;
mod dead;
pub(super) mod error;
mod events;
mod filter;
mod forwards;
mod info;
mod json;
mod limiter;
mod mask;
pub(super) mod model;
mod observers;
mod openapi;
mod page;
mod probes;
mod refused;
mod reload;
mod reply;
mod samples;
mod session;
mod sessions;
mod shown;
mod store;
mod stream;

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{Router, body::Body, http::StatusCode, middleware, response::Response};
use futures_util::StreamExt as _;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    auth::Gate,
    error::ApiError,
    mask::Mask,
    probes::Workers,
    shown::View,
    store::Store,
    stream::{Endless, MAX_STREAMS},
};
use super::{Reload, activity::Peer, generation, refusals::Refusals};
use crate::{
    answers::{Deferred, Listeners},
    clock::Clock,
    config::{self, Config, IpRange},
    delivery::Memory,
    journal::{self, Journal, Millis},
    metrics::Metrics,
    supervisor::Supervisor,
};

/// What the admin routes need. They are served by a thread of their own: handlers that block every worker of the runtime do
/// not keep probes and metrics from being answered.
#[derive(Debug)]
pub(super) struct Admin {
    gate: Gate,
    mask: Mask,
    store: Store,
    view: ArcSwap<generation::View>,
    memory: Arc<Memory>,
    reload: Reload,
    refusals: Arc<Refusals>,
    deferred: Deferred,
    listeners: Listeners,
    metrics: Metrics,
    supervisor: Supervisor,
    workers: Workers,
    stopping: CancellationToken,
    started: Millis,
    document: openapi::Served,
    streams: Arc<Semaphore>,
    /// Where callbacks are received.
    callback: SocketAddr,
    clock: Clock,
}

/// What a server gives to its admin routes.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: config::Admin,
    pub(super) journal_config: config::Journal,
    pub(super) trusted_proxies: Vec<IpRange>,
    pub(super) view: generation::View,
    pub(super) memory: Arc<Memory>,
    pub(super) reload: Reload,
    pub(super) refusals: Arc<Refusals>,
    pub(super) deferred: Deferred,
    pub(super) listeners: Listeners,
    pub(super) callback: SocketAddr,
    pub(super) clock: Clock,
}

impl Admin {
    /// For a server that runs on the current runtime.
    pub(super) fn new(
        parts: Parts,
        metrics: Metrics,
        stopping: CancellationToken,
        journal: &Arc<dyn Journal>,
        supervisor: Supervisor,
    ) -> Self {
        let Parts {
            config,
            journal_config,
            trusted_proxies,
            view,
            memory,
            reload,
            refusals,
            deferred,
            listeners,
            callback,
            clock,
        } = parts;
        Self {
            gate: Gate::new(&config, &trusted_proxies),
            mask: Mask::new(&config.mask),
            store: Store::new(journal, journal_config),
            view: ArcSwap::from_pointee(view),
            memory,
            reload,
            refusals,
            deferred,
            listeners,
            metrics,
            supervisor,
            workers: Workers::of_this_runtime(),
            stopping,
            started: journal::now_millis(),
            document: openapi::Served::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            callback,
            clock,
        }
    }

    /// The configuration was read again.
    pub(super) fn reload(&self, config: &Config, view: generation::View) {
        self.gate.reload(&config.admin, &config.server.trusted_proxies);
        self.view.store(Arc::new(view));
    }

    /// The server is shutting down: what is open of the journal is closed.
    pub(super) fn close(&self) {
        self.store.close();
    }

    /// How events are shown in a list.
    async fn view(&self) -> View<'_> {
        let deliveries = &self.memory.deliveries;
        View { titles: catalogue::titles().await, mask: &self.mask, deliveries, reveal: false, full: false }
    }
}

/// The routes of the API, and its document.
fn api(admin: &Arc<Admin>) -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(events::list))
        .routes(routes!(stream::events))
        .routes(routes!(events::show))
        .routes(routes!(reply::reply))
        .routes(routes!(change::replay))
        .routes(routes!(dead::list))
        .routes(routes!(change::retry))
        .routes(routes!(change::discard))
        .routes(routes!(observers::list))
        .routes(routes!(accounts::list))
        .routes(routes!(refused::list))
        .routes(routes!(forwards::list))
        .routes(routes!(forwards::resume))
        .routes(routes!(catalogue::list))
        .routes(routes!(samples::send))
        .routes(routes!(reload::reload))
        .routes(routes!(info::show))
        .routes(routes!(openapi::show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(admin), auth::guard))
        // Whoever signs in has no right yet.
        .routes(routes!(session::begin, session::end))
}

/// The routes. Probes need no token: they show only whether the server runs.
pub(super) fn routes(admin: &Arc<Admin>) -> Router {
    let (api, document) = api(admin).split_for_parts();
    admin.document.set(&document);
    let api = api.merge(page::routes()).layer(middleware::from_fn(page::protect));
    let routes = probes::routes(admin).merge(api).fallback(unknown).method_not_allowed_fallback(wrong_method);
    routes.layer(CatchPanicLayer::new()).with_state(Arc::clone(admin))
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path has no such method")
}

async fn unknown() -> ApiError {
    ApiError::not_found("there is no such path")
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
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            let mut answer = {
                let _busy = peer.answers();
                let Ok(answer) = routes.oneshot(request).await;
                answer
            };
            peer.finish(&mut answer);
            if answer.extensions().get::<Endless>().is_none() {
                return Ok(answer);
            }
            // Nobody is idle who is sent something now and then.
            let busy = peer.goes_on();
            Ok(answer.map(|body| Body::from_stream(body.into_data_stream().inspect(move |_| _ = &busy))))
        }
    })
}
