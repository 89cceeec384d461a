//! Who asks, when proxies are in front.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::IpRange;

/// The client's address: the last one in `X-Forwarded-For` that is not a proxy's, when a proxy is asking. Beyond an entry
/// that cannot be read nothing is believed: it is what that proxy was asked with.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpRange]) -> IpAddr {
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|range| range.contains(*address));
    let mut client = peer;
    let lines = headers.get_all("x-forwarded-for").into_iter();
    let entries = lines.rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries {
        if !trusted(&client) {
            break;
        }
        let Some(address) = address_of(entry) else { break };
        client = address;
    }
    client
}

/// Whoever has an address of IPv6 has all that begin so.
pub(super) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
        address => address,
    }
}

/// The address in an entry of `X-Forwarded-For`. Some proxies add the port of the client, and brackets around an address
/// of IPv6.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?.trim().trim_matches('"');
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    entry.parse().ok().or_else(with_port).or_else(in_brackets)
}
