//! Addresses that nothing is sent to: what clouds tell their machines, credentials among it, and the server itself.
//!
//! Names are judged after they were resolved, by the addresses that the connection then goes to. Private networks are
//! allowed: targets come from the configuration, never from an event.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses beside the link-local ones where clouds serve metadata.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Finds the addresses of a name.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Decides which addresses may be connected to. Clones share what the server listens on.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Where this server listens.
    own: Arc<Mutex<Vec<SocketAddr>>>,
    lookup: Lookup,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} is where clouds serve metadata, and nothing is sent there")]
    Metadata(IpAddr),
    #[error("{0} is a listener of echostr itself, and nothing is sent there")]
    Own(SocketAddr),
}

impl Default for Guard {
    fn default() -> Self {
        Self::looking_up(Arc::new(|name| {
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
        }))
    }
}

impl Guard {
    fn looking_up(lookup: Lookup) -> Self {
        Self { own: Arc::default(), lookup }
    }

    /// One that resolves names as a table says.
    #[cfg(test)]
    pub(super) fn resolving(names: &'static [(&'static str, &'static [IpAddr])]) -> Self {
        Self::looking_up(Arc::new(move |name| {
            let found = names.iter().find(|(known, _)| *known == name);
            let found = found.map(|(_, addresses)| addresses.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into());
            Box::pin(std::future::ready(found))
        }))
    }

    /// Nothing is sent to an address of this machine with the port of one of these.
    pub(crate) fn protect(&self, listeners: impl IntoIterator<Item = SocketAddr>) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).extend(listeners);
    }

    /// Whether an address may be connected to.
    ///
    /// # Errors
    /// [`Refused`] when it may not.
    pub(crate) fn check(&self, ip: IpAddr, port: u16) -> Result<(), Refused> {
        let plain = plain(ip);
        if is_metadata(plain) {
            return Err(Refused::Metadata(ip));
        }
        let is_own_port = self.own.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|own| own.port() == port);
        if is_own_port && is_of_this_machine(plain) {
            return Err(Refused::Own(SocketAddr::new(ip, port)));
        }
        Ok(())
    }

    /// Whether the host of a URL may be connected to, if it is an address; a name is judged when it is resolved.
    ///
    /// # Errors
    /// [`Refused`] when it may not.
    pub(crate) fn check_literal(&self, url: &reqwest::Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match host.parse() {
            Ok(ip) => self.check(ip, port(url)),
            Err(_) => Ok(()),
        }
    }

    /// The addresses of a host, a name or an address, that may be connected to.
    ///
    /// # Errors
    /// Why there is none, or that one of them is refused: which of them is connected to is left to chance.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let addresses = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => (self.lookup)(host.to_owned()).await.map_err(|error| format!("{host}: {error}"))?,
        };
        if addresses.is_empty() {
            return Err(format!("{host} has no address"));
        }
        for ip in &addresses {
            self.check(*ip, port).map_err(|refused| format!("{host} is not connected to: {refused}"))?;
        }
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Resolves names for a client whose connections all go to the port of this URL.
    pub(super) fn resolver(&self, of: &reqwest::Url) -> Arc<Resolver> {
        Arc::new(Resolver { guard: self.clone(), port: port(of) })
    }
}

fn port(url: &reqwest::Url) -> u16 {
    url.port_or_known_default().unwrap_or_default()
}

/// Resolves names, and refuses those that lead where nothing may be sent.
#[derive(Debug)]
pub(super) struct Resolver {
    guard: Guard,
    port: u16,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, port, name) = (self.guard.clone(), self.port, name.as_str().to_owned());
        Box::pin(async move {
            let addresses: Addrs = Box::new(guard.resolve(&name, port).await?.into_iter());
            Ok(addresses)
        })
    }
}

/// The address that is reached in the end: IPv4 has several forms in IPv6.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let [.., a, b] = v6.segments();
    let v4 = || Ipv4Addr::from((u32::from(a) << 16) | u32::from(b));
    match v6.segments() {
        // Mapped, translated by NAT64, and compatible, but for `::` and `::1`.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4().into(),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => v4().into(),
        _ => ip,
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || METADATA_V4.contains(&ip),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || METADATA_V6.contains(&ip),
    }
}

/// Whether an address is one of this machine's: nobody else's can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let guard = Guard::default();
        guard.protect(["0.0.0.0:8080".parse().unwrap(), "[::1]:9180".parse().unwrap()]);
        guard
    }

    #[test]
    fn metadata_is_refused_in_every_form() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.23",
            "169.254.1.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "::ffff:100.100.100.200",
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(guard().check(ip, 80), Err(Refused::Metadata(ip)));
        }
    }

    #[test]
    fn the_server_itself_is_refused_by_its_port() {
        for (address, is_refused) in [
            ("127.0.0.1:8080", true),
            ("127.9.9.9:8080", true),
            ("0.0.0.0:8080", true),
            ("[::1]:8080", true),
            ("[::]:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:9180", true),
            ("127.0.0.1:8081", false),
            ("[::1]:8081", false),
            // Private, and not this machine.
            ("192.0.2.7:8080", false),
            ("10.255.255.254:80", false),
            ("[fd00::1]:80", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(guard().check(address.ip(), address.port()).is_err(), is_refused, "{address}");
        }
    }

    #[test]
    fn literal_hosts_are_judged_in_every_form_of_a_url() {
        for (url, is_refused) in [
            ("http://169.254.169.254/latest", true),
            ("http://2852039166/", true),
            ("http://0xa9fea9fe/", true),
            ("http://169.254.43518/", true),
            ("http://[::ffff:a9fe:a9fe]/", true),
            ("https://[fd00:ec2::254]/", true),
            ("http://127.1:8080/", true),
            ("http://127.0.0.1/", false),
            ("http://metadata/", false),
        ] {
            assert_eq!(guard().check_literal(&url.parse().unwrap()).is_err(), is_refused, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_is_refused_by_what_it_resolves_to() {
        const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
        const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
        let guard = Guard::resolving(&[
            ("good.test", &[GOOD]),
            ("bad.test", &[METADATA]),
            ("both.test", &[GOOD, METADATA]),
            ("self.test", &[IpAddr::V4(Ipv4Addr::LOCALHOST)]),
            ("empty.test", &[]),
        ]);
        guard.protect(["127.0.0.1:8080".parse().unwrap()]);
        let resolve = async |name: &str| {
            let resolver = guard.resolver(&"http://any:8080".parse().unwrap());
            resolver.resolve(name.parse().unwrap()).await.map(Iterator::collect::<Vec<_>>).map_err(|it| it.to_string())
        };
        assert_eq!(resolve("good.test").await.unwrap(), [SocketAddr::new(GOOD, 8080)]);
        for (name, expected) in [
            ("bad.test", "169.254.169.254"),
            ("both.test", "169.254.169.254"),
            ("self.test", "127.0.0.1:8080"),
            ("empty.test", "no address"),
            ("unknown.test", "unknown.test"),
        ] {
            let refused = resolve(name).await.unwrap_err();
            assert!(refused.contains(expected) && refused.contains(name), "{refused}");
        }
    }
}
