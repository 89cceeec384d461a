//! Who calls: addresses that are not the platform's, and those that send much without a valid signature.

use std::{net::IpAddr, time::Instant};

use axum::{
    body::Bytes,
    http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER, request::Parts},
};
use http_body_util::Full;
use tracing::warn;

use super::{Callbacks, RefusedRequest, refuse};
use crate::{
    delivery::{self, Endpoint},
    metrics::Outcome,
    server::activity::Peer,
    source::Unexpected,
    throttle::LineKind,
};

/// Reason codes.
const UNEXPECTED: &str = "unexpected_source";
const LIMITED: &str = "unsigned_limit";

impl Callbacks {
    /// Refuses a request from an address that is not in the platform's list, where that is wanted.
    pub(super) fn refuse_source(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        head: &Parts,
    ) -> Option<Response<Full<Bytes>>> {
        let source = endpoint.source.as_ref()?;
        let client = self.client(peer, &head.headers);
        let Unexpected { is_refused, entries } = source.unexpected(client)?;
        let (account, kind) = (&*endpoint.id, if is_refused { LineKind::Refused } else { LineKind::Unexpected });
        let hint = || {
            let advice = self.advice(client, head);
            format!("it is not among the {entries} addresses and ranges that the platform calls from{advice}")
        };
        if let Some(more) = endpoint.lines.allow(kind, UNEXPECTED) {
            let (hint, what) = (hint(), if is_refused { "refused" } else { "handled all the same" });
            warn!(account, %client, reason = UNEXPECTED, "{account}: {what}: a request of {client}: {hint}{more}");
        }
        if !is_refused {
            return None;
        }
        endpoint.count(Outcome::UnexpectedSource);
        self.refusals.add(RefusedRequest::new(head, client, UNEXPECTED, hint()).of(&endpoint.id, None));
        Some(refuse(StatusCode::FORBIDDEN, UNEXPECTED))
    }

    /// What is likely wrong with an address that is not the platform's.
    fn advice(&self, client: IpAddr, head: &Parts) -> &'static str {
        let is_local = match client.to_canonical() {
            IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
        };
        if self.trusted_proxies.iter().any(|range| range.contains(client)) {
            if head.headers.contains_key("x-forwarded-for") {
                "; it is in `trusted_proxies`, and its X-Forwarded-For names no address beyond them"
            } else {
                "; it is in `trusted_proxies`, and sent no X-Forwarded-For: have that proxy set it"
            }
        } else if is_local {
            "; it is of a private network: name the proxy that has it in `trusted_proxies` of [server]"
        } else {
            ""
        }
    }

    /// Refuses a POST without reading its body, if its address is over the limit and no body could make it authentic.
    pub(super) fn refuse_flood(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        head: &Parts,
        arrived: Instant,
    ) -> Option<Response<Full<Bytes>>> {
        if !self.limiter.is_active(arrived) || !self.limiter.is_over(self.client(peer, &head.headers), arrived) {
            return None;
        }
        let refused = self.receiver.refuse_early(endpoint, head.uri.query().unwrap_or_default())?;
        Some(self.write(endpoint, peer, head, refused))
    }

    /// Counts a refused request; if its address is over the limit, that is all that is done with it.
    pub(super) fn limit(
        &self,
        endpoint: &Endpoint,
        client: IpAddr,
        refused: &delivery::Refused,
    ) -> Option<Response<Full<Bytes>>> {
        if refused.refusal.is_signed() || !self.limiter.count(client, Instant::now()) {
            return None;
        }
        if let Some(more) = endpoint.lines.allow(LineKind::Limited, LIMITED) {
            let (account, limit) = (&*endpoint.id, self.limiter.per_second);
            warn!(account, %client, reason = LIMITED,
                "{account}: answers requests of {client} with 429 that have no valid signature: unsigned_limit ({limit} a second) \
                 reached; the last was refused as {}{more}", refused.refusal.reason());
        }
        Some(self.too_many())
    }

    /// The same for a request at a path that no account has.
    pub(super) fn limit_unrouted(&self, client: IpAddr) -> Option<Response<Full<Bytes>>> {
        if !self.limiter.count(client, Instant::now()) {
            return None;
        }
        if let Some(more) = self.limited_unrouted.allow() {
            let limit = self.limiter.per_second;
            warn!(%client, reason = LIMITED,
                "answers requests of {client} with 429 at paths that no account has: unsigned_limit ({limit} a second) reached{more}");
        }
        Some(self.too_many())
    }

    fn too_many(&self) -> Response<Full<Bytes>> {
        self.metrics.limited.increment(1);
        let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, LIMITED);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}
