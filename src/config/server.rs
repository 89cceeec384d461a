//! `[server]`: the address the platforms reach, and what one connection may cost.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use toml::de::DeTable;

use super::{
    reader::{Reader, Section},
    values::{self, IpRange},
};

pub(super) const KEYS: &[&str] = &[
    "listen",
    "body_limit",
    "body_memory",
    "max_age",
    "trusted_proxies",
    "files",
    "max_connections",
    "max_in_flight",
    "max_in_flight_per_account",
    "unsigned_limit",
    "header_timeout",
    "body_timeout",
    "keep_alive",
    "shutdown_grace",
];

pub(super) const MAX_AGE_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// More than any address sends by mistake.
const MAX_UNSIGNED: u64 = 10_000;

/// `[server]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Server {
    /// Where callbacks are received; `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// Largest body of a request, in bytes; 1 MiB.
    pub body_limit: usize,
    /// What all bodies that are being read may hold, in bytes, beyond 16 KiB of each; 64 MiB, or four of the largest.
    pub body_memory: usize,
    /// Freshness of the signed timestamp, absent when "off"; 10 minutes. IM accounts follow it only when it is off, see
    /// [`Account::max_age`](super::Account::max_age), which is the value to use.
    pub max_age: Option<Duration>,
    /// Peers whose `X-Forwarded-For` is believed; none.
    pub trusted_proxies: Vec<IpRange>,
    /// Folder of the ownership files that consoles ask for at the root of the host; none.
    pub files: Option<PathBuf>,
    /// Connections open at one time; 20 000.
    pub max_connections: usize,
    /// Deliveries in flight at one time, waiting and held ones included; 4096.
    pub max_in_flight: usize,
    /// Those of one account, where it does not say itself; all of them for one account, else half of them.
    pub max_in_flight_per_account: Option<usize>,
    /// Refused requests without a valid signature that each address may send in a second, or a minute's worth of them at
    /// once, until they are answered with 429; 20, and 0 for any number.
    pub unsigned_limit: u32,
    /// Time to send the head of a request; 10 seconds.
    pub header_timeout: Duration,
    /// Time to send the body of a request; 10 seconds.
    pub body_timeout: Duration,
    /// How long an idle connection is kept; 75 seconds.
    pub keep_alive: Duration,
    /// How long a shutdown waits for deliveries in flight; 10 seconds.
    pub shutdown_grace: Duration,
}

impl Server {
    pub(super) fn read(reader: &Reader<'_>, root: &DeTable<'_>) -> Self {
        const ADDRESS: &str = "an address and a port such as \"0.0.0.0:8080\"";
        let section = reader.section(root, "server", KEYS);
        let seconds = Duration::from_secs;
        let timeouts = Duration::from_millis(100)..=seconds(300);
        let max_age = section.duration_or_off("max_age", MAX_AGE_RANGE).unwrap_or(Some(seconds(600)));
        if max_age.is_none() {
            section.warning("max_age", "`max_age` is off: a recorded request is accepted again at any time");
        }
        let proxies = section.list("trusted_proxies", "addresses such as \"10.0.0.0/8\"", IpRange::parse);
        let proxies = proxies.unwrap_or_default();
        if proxies.iter().any(|(_, range)| range.is_everything()) {
            section.warning("trusted_proxies", "`trusted_proxies` has everybody: anybody can claim any address");
        }
        let body_limit = section.size("body_limit", 1 << 10..=64 << 20).unwrap_or(1 << 20);
        let body_memory = section.size("body_memory", 64 << 10..=64 << 30);
        if body_memory.is_some_and(|memory| memory < 2 * body_limit) {
            section.problem("body_memory", "must be at least twice `body_limit`, or large bodies could not be read");
        }
        let max_in_flight = section.integer("max_in_flight", 1..=1_000_000).map_or(4096, values::to_usize);
        Self {
            listen: section
                .matching("listen", ADDRESS, |text| text.parse().ok())
                .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 8080))),
            body_limit: values::to_usize(body_limit),
            body_memory: values::to_usize(body_memory.unwrap_or((64 << 20).max(4 * body_limit))),
            max_age,
            trusted_proxies: proxies.into_iter().map(|(_, range)| range).collect(),
            files: section
                .matching("files", "the path of a folder", |text| (!text.is_empty()).then(|| PathBuf::from(text))),
            max_connections: section.integer("max_connections", 1..=1_000_000).map_or(20_000, values::to_usize),
            max_in_flight,
            max_in_flight_per_account: share(&section, "max_in_flight_per_account", max_in_flight),
            unsigned_limit: section.integer("unsigned_limit", 0..=MAX_UNSIGNED).map_or(20, values::to_u32),
            header_timeout: section.duration("header_timeout", timeouts.clone()).unwrap_or(seconds(10)),
            body_timeout: section.duration("body_timeout", timeouts).unwrap_or(seconds(10)),
            keep_alive: section.duration("keep_alive", seconds(1)..=seconds(3600)).unwrap_or(seconds(75)),
            shutdown_grace: section.duration("shutdown_grace", Duration::ZERO..=seconds(600)).unwrap_or(seconds(10)),
        }
    }
}

/// How many of all deliveries in flight may be of one account.
pub(super) fn share(section: &Section<'_>, key: &str, max_in_flight: usize) -> Option<usize> {
    let written = values::to_usize(section.integer(key, 1..=1_000_000)?);
    if written > max_in_flight {
        section.problem(key, format!("must not be more than `max_in_flight` of [server], {max_in_flight}"));
        return None;
    }
    Some(written)
}
