//! Who may ask: the token, the session of the page, and what keeps other sites out of both.
//!
//! A token in `Authorization` proves itself: no other site can send it. What a browser sends by itself does not, neither a
//! cookie nor, where no token is configured, the mere request. Then the host has to be a known one, so that no name of
//! another site stands for this server, and the request has to come from this origin.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{AUTHORIZATION, HOST, ORIGIN},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tracing::info;

use super::{Admin, error::ApiError, limiter::Limiter, sessions::Sessions};
use crate::{
    config::{self, IpRange},
    secret::Secret,
    server::{activity::Peer, client},
};

/// What decides who may ask.
#[derive(Debug)]
pub(super) struct Gate {
    rules: ArcSwap<Rules>,
    attempts: Limiter,
    pub(super) sessions: Sessions,
}

/// What is configured of it.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    token: Option<Secret>,
    hosts: Vec<String>,
    trusted_proxies: Vec<IpRange>,
}

impl Rules {
    fn new(admin: &config::Admin, trusted_proxies: &[IpRange]) -> Arc<Self> {
        let config::Admin { token, hosts, .. } = admin.clone();
        Arc::new(Self { token, hosts, trusted_proxies: trusted_proxies.to_vec() })
    }
}

/// Who asks, for the lines of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) by: By,
    /// Address of the client.
    pub(super) client: IpAddr,
}

/// What authorises a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The token.
    Token,
    /// A session of the page, by the beginning of its hash.
    Session(String),
    /// No token is configured: it comes from this machine.
    Nobody,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token => f.write_str("token"),
            Self::Session(name) => write!(f, "session {name}"),
            Self::Nobody => f.write_str("nobody (no token is configured)"),
        }
    }
}

impl Caller {
    /// Logs what was done, as who.
    pub(super) fn audit(&self, action: &'static str, what: &str) {
        let Self { by, client } = self;
        info!(audit = action, %by, %client, "admin: {action}: {what} (by {by}, from {client})");
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(ApiError::unauthorized)
    }
}

impl Gate {
    pub(super) fn new(admin: &config::Admin, trusted_proxies: &[IpRange]) -> Self {
        let rules = ArcSwap::new(Rules::new(admin, trusted_proxies));
        Self { rules, attempts: Limiter::default(), sessions: Sessions::default() }
    }

    /// The configuration was read again. With another token, whoever had the old one has to sign in again.
    pub(super) fn reload(&self, admin: &config::Admin, trusted_proxies: &[IpRange]) {
        let rules = Rules::new(admin, trusted_proxies);
        let has_other_token = rules.token != self.rules.load().token;
        self.rules.store(rules);
        if has_other_token {
            self.sessions.end_all();
        }
    }

    /// The address of who asks.
    pub(super) fn client(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        client::address(peer.address.ip(), headers, &self.rules.load().trusted_proxies)
    }

    /// Whether a token is configured.
    pub(super) fn wants_token(&self) -> bool {
        self.rules.load().token.is_some()
    }

    /// Whether this is the token; where none is configured, any is.
    pub(super) fn check_token(&self, given: &str, client: IpAddr) -> Result<(), ApiError> {
        let rules = self.rules.load();
        let Some(token) = &rules.token else { return Ok(()) };
        self.attempts.check(client).map_err(|seconds| {
            let message = "too many wrong tokens; wait a moment";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message).retry_after(seconds)
        })?;
        // Hashes are of one length, so the time says nothing about that of the token.
        let (given, token) = (Sha256::digest(given), Sha256::digest(token.expose()));
        if given.as_slice().ct_eq(token.as_slice()).into() {
            return Ok(());
        }
        self.attempts.failed(client);
        Err(ApiError::unauthorized())
    }

    /// Whether the host is an address, this machine, or a configured name.
    pub(super) fn check_host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = header(headers, HOST.as_str());
        let name = host_name(host);
        let is_known = name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.rules.load().hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is_known && headers.get_all(HOST).iter().count() == 1 {
            return Ok(());
        }
        const MESSAGE: &str = "this host name is not known; add it to `hosts` of [admin]";
        Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden_host", MESSAGE))
    }

    /// Who asks, if that may.
    fn authorize(&self, peer: &Peer, method: &Method, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let client = self.client(peer, headers);
        if let Some(given) = headers.get(AUTHORIZATION).filter(|_| self.wants_token()) {
            let given = given.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
            self.check_token(given, client)?;
            return Ok(Caller { by: By::Token, client });
        }
        self.check_host(headers)?;
        let by = match (self.wants_token(), self.sessions.find(headers)) {
            (false, _) => By::Nobody,
            (true, Some(session)) => By::Session(session),
            (true, None) => return Err(ApiError::unauthorized()),
        };
        // Where nothing is authorised by a cookie, a program without an origin may change something, too.
        let needs_origin = !method.is_safe() && by != By::Nobody;
        check_origin(headers, needs_origin)?;
        Ok(Caller { by, client })
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A host without its port, and an address without its brackets.
fn host_name(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let is_whole = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return if is_whole { address } else { "" };
    }
    match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && !name.contains(':') => name,
        Some(_) => "",
        None => host,
    }
}

/// Whether a request comes from the page of this server, as far as the browser says where it comes from.
pub(super) fn check_origin(headers: &HeaderMap, is_needed: bool) -> Result<(), ApiError> {
    const MESSAGE: &str = "the request does not come from the page of this server";
    let forbidden = || Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden_origin", MESSAGE));
    let origins: Vec<_> = headers.get_all(ORIGIN).iter().collect();
    let host = header(headers, HOST.as_str());
    match *origins {
        [] if is_needed => return forbidden(),
        [] => {}
        [_] if is_same(header(headers, ORIGIN.as_str()), host) => {}
        _ => return forbidden(),
    }
    // Sent with what a script of another site asks for, which may have no origin.
    match header(headers, "sec-fetch-site") {
        "" | "same-origin" | "none" => Ok(()),
        _ => forbidden(),
    }
}

/// Whether an origin is of this host. Its scheme is that of whatever is in front.
fn is_same(origin: &str, host: &str) -> bool {
    let [default_port, origin] = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(origin), _) => [":80", origin],
        (_, Some(origin)) => [":443", origin],
        _ => return false,
    };
    let of_port = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_ascii_lowercase();
    !origin.is_empty() && of_port(origin) == of_port(host)
}

/// Lets those through who may ask, with who they are.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>() else { return ApiError::unauthorized().into_response() };
    match admin.gate.authorize(peer, request.method(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for (host, name) in [
            ("127.0.0.1:9180", "127.0.0.1"),
            ("localhost", "localhost"),
            ("[::1]:9180", "::1"),
            ("[::1]", "::1"),
            ("[::1]x", ""),
            ("a:b", ""),
            ("::1", ""),
            ("evil.example:9180", "evil.example"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), name, "{host}");
        }
    }

    #[test]
    fn an_origin_is_the_same_with_its_port_or_the_usual_one() {
        for (origin, host, same) in [
            ("http://127.0.0.1:9180", "127.0.0.1:9180", true),
            ("https://admin.example", "admin.example", true),
            ("https://admin.example", "admin.example:443", true),
            ("https://Admin.example:443", "admin.example", true),
            ("http://admin.example", "admin.example:443", false),
            ("http://127.0.0.1:8080", "127.0.0.1:9180", false),
            ("http://evil.example", "127.0.0.1:9180", false),
            ("http://127.0.0.1:9180.evil.example", "127.0.0.1:9180", false),
            ("null", "null", false),
            ("http://", "", false),
            ("file://", "", false),
        ] {
            assert_eq!(is_same(origin, host), same, "{origin} {host}");
        }
    }
}
