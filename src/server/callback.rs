//! The route of the callbacks: `/{platform}/{account}`, or the path an account has of its own.
//!
//! One table look-up is all the routing there is, so requests do not pass through a router.

mod callers;
mod limiter;

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
        header::{ALLOW, CONTENT_TYPE, EXPECT, RETRY_AFTER},
        request::Parts,
    },
};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use tokio::time;
use tracing::{debug, warn};

use self::limiter::Limiter;
use super::{
    Current,
    activity::Peer,
    body::{self, Begun, BodyError, Budget},
    client,
    files::{self, Files},
    refusals::{Refusals, RefusedRequest},
    routes::Routes,
    unrouted,
};
use crate::{
    config::{self, IpRange},
    delivery::{self, Content, Endpoint, Receiver},
    envelope::{Refusal, RefusalKind},
    log::seconds,
    metrics::{Metrics, Outcome},
    throttle::{LineKind, Throttle},
};

/// Everything that requests need.
#[derive(Debug)]
pub(super) struct Callbacks {
    receiver: Arc<Receiver>,
    routes: Routes<Endpoint>,
    body_limit: usize,
    body_timeout: Duration,
    bodies: Arc<Budget>,
    no_memory: Throttle,
    unrouted: Throttle,
    files: Option<Files>,
    metrics: Metrics,
    trusted_proxies: Vec<IpRange>,
    refusals: Arc<Refusals>,
    limiter: Limiter,
    limited_unrouted: Throttle,
}

/// Why a request has no body.
enum Unread {
    /// Its query is refused already.
    Refused(delivery::Response),
    /// It does not come.
    Failed(BodyError),
}

impl From<BodyError> for Unread {
    fn from(failure: BodyError) -> Self {
        Self::Failed(failure)
    }
}

impl Callbacks {
    pub(super) fn new(
        receiver: Arc<Receiver>,
        routes: Routes<Endpoint>,
        server: &config::Server,
        metrics: &Metrics,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            receiver,
            routes,
            body_limit: server.body_limit,
            body_timeout: server.body_timeout,
            bodies: Budget::new(server.body_memory, metrics.body_memory.clone()),
            no_memory: Throttle::default(),
            unrouted: Throttle::default(),
            files: server.files.clone().map(Files::new),
            metrics: metrics.clone(),
            trusted_proxies: server.trusted_proxies.clone(),
            refusals,
            limiter: Limiter::new(server.unsigned_limit),
            limited_unrouted: Throttle::default(),
        }
    }

    /// Waits until no handler runs.
    pub(super) async fn drain(&self) {
        self.receiver.drain().await;
    }

    /// Logs how many lines of each account were suppressed whose minute is over, or of `all`.
    pub(super) fn log_omitted(&self, all: bool) {
        self.routes.each().for_each(|endpoint| endpoint.log_omitted(all));
    }

    async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let arrived = Instant::now();
        let (head, body) = request.into_parts();
        // To look whether the body has come must not send `100 Continue` to a client that asks for it.
        let asks = || head.headers.contains_key(EXPECT);
        let Some((endpoint, authorizer)) = self.routes.find(head.uri.path()) else {
            if let Some(response) = self.ownership_file(&head).await {
                return dismiss(peer, body, asks, response).await;
            }
            return dismiss(peer, body, asks, self.unrouted(peer, &head)).await;
        };
        if let Some(refused) = self.refuse_source(&endpoint, peer, &head) {
            return dismiss(peer, body, asks, refused).await;
        }
        let query = head.uri.query().unwrap_or_default();
        if head.method == Method::POST
            && let Some(refused) = self.refuse_flood(&endpoint, peer, &head, arrived)
        {
            return dismiss(peer, body, asks, refused).await;
        }
        let response = match head.method {
            Method::POST => match self.read_body(&endpoint, query, peer, body, asks).await {
                Ok(body) => {
                    let response = self.receiver.receive(&endpoint, query, authorizer, body, arrived).await;
                    if matches!(response, delivery::Response::Answer { .. }) {
                        endpoint.answered(arrived);
                    }
                    response
                }
                Err(Unread::Refused(refused)) => {
                    let mut response = self.write(&endpoint, peer, &head, refused);
                    peer.close_behind(&mut response);
                    return response;
                }
                Err(Unread::Failed(failure)) => return self.fail(&endpoint, &head, peer, failure),
            },
            Method::GET if endpoint.keys.has_url_check() => {
                let response = self.receiver.verify_url(&endpoint, query).await;
                let response = self.write(&endpoint, peer, &head, response);
                return dismiss(peer, body, asks, response).await;
            }
            _ => {
                let client = self.client(peer, &head.headers);
                let hint = "platforms send POST, and GET where the console checks the URL".to_owned();
                self.refusals.add(RefusedRequest::new(&head, client, "wrong_method", hint).of(&endpoint.id, None));
                if let Some(more) = endpoint.lines.allow(LineKind::Refused, "wrong_method") {
                    let account = &*endpoint.id;
                    warn!(account, %client, reason = "wrong_method",
                        "{account}: refused a request of {client}: wrong method {}{more}", head.method);
                }
                let allowed = if endpoint.keys.has_url_check() { "GET, POST" } else { "POST" };
                return dismiss(peer, body, asks, wrong_method(allowed)).await;
            }
        };
        self.write(&endpoint, peer, &head, response)
    }

    /// The response to a request for an ownership file.
    async fn ownership_file(&self, head: &Parts) -> Option<Response<Full<Bytes>>> {
        let (files, name) = (self.files.as_ref()?, files::name(head.uri.path())?);
        if head.method != Method::GET && head.method != Method::HEAD {
            return Some(wrong_method("GET, HEAD"));
        }
        let content = files.read(name).await?;
        debug!(name, "served an ownership file");
        let mut response = answer(Cow::Borrowed(""), Content::Text);
        *response.body_mut() = Full::new(content);
        Some(response)
    }

    /// Refuses a request at a path that no account has. One with a signature is a platform's whose console has another
    /// address: it is logged.
    fn unrouted(&self, peer: &Peer, head: &Parts) -> Response<Full<Bytes>> {
        let is_signed = unrouted::is_signed(head.uri.query().unwrap_or_default());
        self.metrics.count_unrouted(is_signed);
        let client = self.client(peer, &head.headers);
        if let Some(limited) = self.limit_unrouted(client) {
            return limited;
        }
        debug!("refused a request with 404: no account has its path");
        if is_signed {
            self.log_unrouted(client, head);
        }
        refuse(StatusCode::NOT_FOUND, "unknown_account")
    }

    fn log_unrouted(&self, client: IpAddr, head: &Parts) {
        let path = unrouted::shown(head.uri.path());
        let more = self.unrouted.allow();
        // The nearest path takes a while to find.
        let nearest = more.as_ref().map(|_| self.routes.nearest(path));
        let hint =
            format!("no account has this path{}", nearest.as_ref().map_or_else(String::new, |it| format!("; {it}")));
        self.refusals.add(RefusedRequest::new(head, client, "unknown_account", hint));
        let (Some(more), Some(nearest)) = (more, nearest) else { return };
        warn!(
            %client,
            path,
            reason = "unknown_account",
            "refused a signed request of {client} with 404: no account has the path {path}; {nearest}{more}"
        );
    }

    /// Reads a body of bounded size in bounded time and memory, unless what is known without it refuses the request.
    async fn read_body(
        &self,
        endpoint: &Endpoint,
        query: &str,
        peer: &Peer,
        body: Incoming,
        asks: impl FnOnce() -> bool,
    ) -> Result<Bytes, Unread> {
        // Most bodies come with their head, and need no timer.
        let reading = match body::begin(body, self.body_limit, &self.bodies, asks).await? {
            Begun::Whole(body) => return Ok(body),
            Begun::Partial(reading) => reading,
        };
        if let Some(refused) = self.receiver.refuse_early(endpoint, query) {
            return Err(Unread::Refused(refused));
        }
        let _waits = peer.waits_for_body();
        let read = time::timeout(self.body_timeout, reading.rest()).await;
        Ok(read.unwrap_or(Err(BodyError::Slow))?)
    }

    /// Answers a request whose body does not come.
    fn fail(&self, endpoint: &Endpoint, head: &Parts, peer: &Peer, failure: BodyError) -> Response<Full<Bytes>> {
        let query = head.uri.query().unwrap_or_default();
        let (status, reason, outcome) = match failure {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", Outcome::TooLarge),
            BodyError::Slow => (StatusCode::REQUEST_TIMEOUT, "slow_body", Outcome::Incomplete),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "broken_body", Outcome::Incomplete),
            BodyError::NoMemory => (StatusCode::SERVICE_UNAVAILABLE, "body_memory", Outcome::BodyMemory),
        };
        if let Some(delivery::Response::Answer { body, content }) =
            self.receiver.verdict_unread(endpoint, query, outcome)
        {
            let mut response = answer(body, content);
            peer.close_behind(&mut response);
            return response;
        }
        endpoint.count(outcome);
        let mut response = refuse(status, reason);
        if failure == BodyError::NoMemory {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            if let Some(more) = self.no_memory.allow() {
                warn!(
                    account = &*endpoint.id,
                    "{}: rejected a delivery with 503: body_memory ({} bytes) reached{more}; \
                    many or slow bodies are being read",
                    endpoint.id,
                    self.bodies.limit()
                );
            }
        } else {
            let hint = match failure {
                BodyError::TooLarge => format!("the body is larger than `body_limit` ({} bytes)", self.body_limit),
                BodyError::Slow => format!("the body did not come within {}", seconds(self.body_timeout)),
                BodyError::Broken | BodyError::NoMemory => "the connection ended before the body did".to_owned(),
            };
            let client = self.client(peer, &head.headers);
            self.refusals.add(RefusedRequest::new(head, client, reason, hint).of(&endpoint.id, None));
            if let Some(more) = endpoint.lines.allow(LineKind::Refused, reason) {
                warn!(account = &*endpoint.id, reason, "{}: refused a request: {reason}{more}", endpoint.id);
            }
        }
        // What is left of the body is not worth reading.
        peer.close_behind(&mut response);
        response
    }

    fn write(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        head: &Parts,
        response: delivery::Response,
    ) -> Response<Full<Bytes>> {
        match response {
            delivery::Response::Answer { body, content } => answer(body, content),
            delivery::Response::Refused(refused) => {
                let client = self.client(peer, &head.headers);
                if let Some(limited) = self.limit(endpoint, client, &refused) {
                    return limited;
                }
                let delivery::Refused { refusal, step, .. } = refused;
                let refused = RefusedRequest::new(head, client, refusal.reason(), refusal.to_string());
                self.refusals.add(refused.of(&endpoint.id, step.as_deref()));
                // Anybody can cause this line.
                if let Some(more) = endpoint.lines.allow(LineKind::Refused, refusal.reason()) {
                    let hint = step.as_ref().map_or_else(|| refusal.to_string(), |step| step.detail.clone());
                    warn!(account = &*endpoint.id, %client, reason = refusal.reason(),
                        "{}: refused a request of {client}: {hint}{more}", endpoint.id);
                }
                refuse(status(&refusal), refusal.reason())
            }
            delivery::Response::Unavailable(reason) => {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }

    /// The client's address.
    fn client(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        client::address(peer.address.ip(), headers, &self.trusted_proxies)
    }
}

/// The service of one connection.
pub(super) fn service(
    current: Arc<Current>,
    peer: Peer,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Send
+ Unpin
+ 'static {
    let connection = Arc::new((current, peer));
    service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move {
            let (current, peer) = &*connection;
            // What it begins with it ends with, whatever is configured meanwhile.
            let callbacks = current.load_full();
            let _busy = peer.answers();
            // Awaited in place: to pass it on would have each connection hold it several times, and move it for each request.
            let mut response = callbacks.respond(peer, request).await;
            peer.finish(&mut response);
            Ok(response)
        }
    })
}

/// Answers a request whose body is not needed.
async fn dismiss(
    peer: &Peer,
    body: Incoming,
    asks: impl FnOnce() -> bool,
    mut response: Response<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    if !body::is_skipped(body, asks).await {
        peer.close_behind(&mut response);
    }
    response
}

const fn status(refusal: &Refusal) -> StatusCode {
    match refusal.kind() {
        RefusalKind::Forbidden => StatusCode::FORBIDDEN,
        RefusalKind::Malformed => StatusCode::BAD_REQUEST,
    }
}

fn answer(body: Cow<'static, str>, content: Content) -> Response<Full<Bytes>> {
    let media_type = match content {
        Content::Text => "text/plain; charset=utf-8",
        Content::Xml => "application/xml; charset=utf-8",
        Content::Json => "application/json; charset=utf-8",
    };
    let body = match body {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "wrong_method");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn refuse(status: StatusCode, reason: &'static str) -> Response<Full<Bytes>> {
    let mut response = answer(Cow::Borrowed(reason), Content::Text);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each connection has room for it, and it is moved there for every request.
    #[test]
    fn the_future_of_a_request_is_small() {
        const fn size<S: Service<Request<Incoming>>>(_: fn(Arc<Current>, Peer) -> S) -> usize {
            size_of::<S::Future>()
        }
        let bytes = size(service);
        assert!(bytes < 4096, "{bytes}");
    }
}
