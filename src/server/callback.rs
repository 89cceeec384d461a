//! The route of the callbacks: `/{platform}/{account}`, or the path an account has of its own.
//!
//! One table look-up is all the routing there is, so requests do not pass through a router.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{
        HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
        header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
    },
};
use bytes::Buf as _;
use hashbrown::HashMap;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    service::{Service, service_fn},
};
use tokio::time;
use tracing::{debug, warn};

use super::connection::Peer;
use crate::{
    config::{self, IpRange},
    envelope::{Refusal, RefusalKind},
    event::Platform,
    metrics::Outcome,
    receiver::{self, Content, Endpoint, Receiver},
};

/// Everything that requests need.
#[derive(Debug)]
pub(super) struct Callbacks {
    receiver: Arc<Receiver>,
    endpoints: HashMap<String, Arc<Endpoint>>,
    body_limit: usize,
    body_timeout: Duration,
    trusted_proxies: Vec<IpRange>,
}

impl Callbacks {
    pub(super) fn new(receiver: Receiver, endpoints: HashMap<String, Arc<Endpoint>>, server: &config::Server) -> Self {
        Self {
            receiver: Arc::new(receiver),
            endpoints,
            body_limit: server.body_limit,
            body_timeout: server.body_timeout,
            trusted_proxies: server.trusted_proxies.clone(),
        }
    }

    /// Waits until no handler runs.
    pub(super) async fn drain(&self) {
        self.receiver.drain().await;
    }

    async fn respond(&self, peer: &Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let arrived = Instant::now();
        let (head, body) = request.into_parts();
        let Some((endpoint, authorizer)) = self.route(head.uri.path()) else {
            debug!("no account has the path of a request");
            return refuse(StatusCode::NOT_FOUND, "unknown_account");
        };
        let query = head.uri.query().unwrap_or_default();
        let platform = endpoint.account.platform;
        let response = match head.method {
            Method::GET if platform != Platform::Im => self.receiver.verify_url(&endpoint, query),
            Method::POST => match self.read_body(body).await {
                Ok(body) => self.receiver.receive(&endpoint, query, authorizer, body, arrived).await,
                Err(refusal) => return refusal.respond(&endpoint),
            },
            _ => {
                let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "wrong_method");
                let allowed = if platform == Platform::Im { "POST" } else { "GET, POST" };
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                return response;
            }
        };
        self.write(&endpoint, peer, &head.headers, response)
    }

    /// The account of a path; and whose message it is, where a third-party platform is given those of others.
    fn route<'p>(&self, path: &'p str) -> Option<(Arc<Endpoint>, Option<&'p str>)> {
        let known = self.endpoints.get(path).or_else(|| self.endpoints.get(path.strip_suffix('/')?));
        if let Some(endpoint) = known {
            return Some((Arc::clone(endpoint), None));
        }
        let (path, authorizer) = path.rsplit_once('/')?;
        let is_id = (1..=64).contains(&authorizer.len()) && authorizer.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let endpoint = self.endpoints.get(path).filter(|it| is_id && it.account.platform == Platform::OpenPlatform)?;
        Some((Arc::clone(endpoint), Some(authorizer)))
    }

    /// Reads a body of bounded size in bounded time.
    async fn read_body(&self, body: Incoming) -> Result<Bytes, BodyError> {
        if body.size_hint().lower() > self.body_limit as u64 {
            return Err(BodyError::TooLarge);
        }
        let mut read = pin!(whole(Limited::new(body, self.body_limit)));
        // Most bodies come with their head, and need no timer.
        let read = match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => time::timeout(self.body_timeout, read).await,
        };
        match read {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
            Ok(Err(_)) => Err(BodyError::Broken),
            Err(_elapsed) => Err(BodyError::Slow),
        }
    }

    fn write(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        headers: &HeaderMap,
        response: receiver::Response,
    ) -> Response<Full<Bytes>> {
        match response {
            receiver::Response::Answer { body, content } => answer(body, content),
            receiver::Response::Refused(refusal) => {
                let client = self.client(peer, headers);
                warn!(account = &*endpoint.id, %client, reason = refusal.reason(),
                    "{}: refused a request of {client}: {refusal}", endpoint.id);
                refuse(status(&refusal), refusal.reason())
            }
            receiver::Response::Unavailable(reason) => {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }

    /// The client's address: the last one in `X-Forwarded-For` that is not a proxy's, when a proxy is asking.
    fn client(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: &IpAddr| self.trusted_proxies.iter().any(|range| range.contains(*address));
        let direct = peer.address.ip();
        if !trusted(&direct) {
            return direct;
        }
        let forwarded = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
        let addresses: Vec<IpAddr> =
            forwarded.flat_map(|value| value.split(',')).filter_map(|value| value.trim().parse().ok()).collect();
        addresses.into_iter().rev().find(|address| !trusted(address)).unwrap_or(direct)
    }
}

/// The service of one connection.
pub(super) fn service(
    callbacks: Arc<Callbacks>,
    peer: Peer,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Send
+ 'static {
    let connection = Arc::new((callbacks, peer));
    service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move {
            let (callbacks, peer) = &*connection;
            let _busy = peer.busy();
            Ok(callbacks.respond(peer, request).await)
        }
    })
}

/// All of a body. Most are one piece, which is taken as it is.
async fn whole(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let Some(first) = body.frame().await else { return Ok(Bytes::new()) };
    let first = first?.into_data().unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let rest = body.collect().await?.aggregate();
    let length = first.len() + rest.remaining();
    Ok(first.chain(rest).copy_to_bytes(length))
}

/// Why there is no body.
enum BodyError {
    TooLarge,
    Slow,
    Broken,
}

impl BodyError {
    fn respond(&self, endpoint: &Endpoint) -> Response<Full<Bytes>> {
        let (status, reason, outcome) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", Outcome::TooLarge),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow_body", Outcome::Incomplete),
            Self::Broken => (StatusCode::BAD_REQUEST, "broken_body", Outcome::Incomplete),
        };
        endpoint.count(outcome);
        warn!(account = &*endpoint.id, reason, "{}: refused a request: {reason}", endpoint.id);
        let mut response = refuse(status, reason);
        // What is left of the body is not worth reading.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
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

fn refuse(status: StatusCode, reason: &'static str) -> Response<Full<Bytes>> {
    let mut response = answer(Cow::Borrowed(reason), Content::Text);
    *response.status_mut() = status;
    response
}
