//! What would stop a server from starting, found by setting one up that touches nothing: its journal is in memory, and it
//! does not listen.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use tokio::net::TcpSocket;

use super::{
    StartError, check_observers,
    generation::{Common, Generation, Plan},
};
use crate::{
    clock::Clock,
    config::{self, Config, JournalUrl},
    delivery::Memory,
    hooks::Hooks,
    journal::{self, Observer},
};

/// How long whoever has an address may take to tell who it is.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sets a server up as it would start, but for its journal and its addresses; returns the observers that it would have.
/// Handlers that are not `complete` may lack observers that the configuration names.
///
/// # Errors
/// The first thing that would stop it.
pub(crate) async fn start(config: &Config, hooks: Hooks, complete: bool) -> Result<Vec<Observer>, StartError> {
    let common = Common::new(Clock::system());
    let plan = Plan::with(config, hooks, &common, &[])?;
    check_observers(config, plan.hooks(), complete)?;
    let observers = plan.observers();
    let in_memory = config::Journal { url: JournalUrl::Memory, ..config.journal.clone() };
    let journal = journal::open(&in_memory, plan.observers(), &common.supervisor, &common.clock, None)?;
    Generation::new(plan, &journal, &Memory::of(&*journal), &common)?;
    Ok(observers)
}

/// Whether a server could listen on an address. It is not listened on, so that several may look at one time.
///
/// # Errors
/// The system's error, as the server would get it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Whether an echostr listens there, for callbacks or for its admin.
pub(crate) fn is_echostr(address: SocketAddr, is_admin: bool) -> bool {
    // What no account can have, and what every admin listener has.
    let (path, sign) = if is_admin { ("/healthz", "\r\nserver: echostr") } else { ("/_", "unknown_account") };
    ask(reachable(address), path).is_ok_and(|answer| answer.to_ascii_lowercase().contains(sign))
}

/// An address to connect to, for one to listen on.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
