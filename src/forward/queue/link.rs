//! One connection that everything of a forward goes over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
    time,
};
use tokio_rustls::TlsConnector;

use super::{CONNECT_TIMEOUT, PublishError};
use crate::{
    config::{Host, Tls},
    http,
    webhook::Guard,
};

/// A connection that is made when it is needed, and shared. Nothing waits in it: what is published waits in the journal.
pub(super) struct Link<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    connection: Option<C>,
    /// When it was tried in vain for the last time, and why.
    failed: Option<(Instant, PublishError)>,
}

impl<C: Clone> Link<C> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { connection: None, failed: None }) }
    }

    /// The connection, a new one where there is none that is alive. Whoever waited while it was tried in vain does not try again.
    pub(super) async fn get(
        &self,
        is_alive: impl FnOnce(&C) -> bool,
        connect: impl Future<Output = Result<C, PublishError>>,
    ) -> Result<C, PublishError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.take().filter(is_alive) {
            return Ok(state.connection.insert(connection).clone());
        }
        if let Some((when, why)) = &state.failed
            && *when > asked
        {
            return Err(why.clone());
        }
        let connected = match time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected,
            Err(_) => Err(PublishError::unavailable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        match &connected {
            Ok(connection) => (state.connection, state.failed) = (Some(connection.clone()), None),
            Err(error) => state.failed = Some((Instant::now(), error.clone())),
        }
        connected
    }

    /// Lets go of it; while one is being made, that one is new.
    pub(super) fn forget(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.connection = None;
        }
    }
}

/// How TLS is set up, once for all connections.
pub(super) fn tls(tls: Option<&Tls>) -> Result<Option<Arc<ClientConfig>>, PublishError> {
    let Some(tls) = tls else { return Ok(None) };
    let config = http::tls(tls.roots.as_deref());
    config.map(|config| Some(Arc::new(config))).map_err(|error| PublishError::unavailable(format!("no TLS: {error}")))
}

/// A connection, encrypted or not.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Connects to the first host that can be reached, with TLS if that is wanted.
pub(super) async fn connect(
    hosts: &[Host],
    guard: &Guard,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn Transport>, PublishError> {
    let (stream, host) = tcp(hosts, guard).await?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let wrong = |error: String| PublishError::unavailable(format!("no TLS with {}: {error}", host.authority()));
    let name = ServerName::try_from(host.name.clone()).map_err(|error| wrong(error.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| wrong(error.to_string()))?))
}

/// Connects to the first host that can be reached; each of its addresses is judged before.
async fn tcp<'h>(hosts: &'h [Host], guard: &Guard) -> Result<(TcpStream, &'h Host), PublishError> {
    let mut why = "there is no host".to_owned();
    for host in hosts {
        let addresses = match guard.resolve(&host.name, host.port).await {
            Ok(addresses) => addresses,
            Err(error) => {
                why = error;
                continue;
            }
        };
        for address in addresses {
            match time::timeout(per_server(hosts.len()), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Where it cannot be set it is slower, and no worse.
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, host));
                }
                Ok(Err(error)) => why = format!("{address}: {error}"),
                Err(_) => why = format!("{address}: it does not answer"),
            }
        }
    }
    Err(PublishError::unavailable(format!("cannot connect: {why}")))
}

/// How long one of several servers is waited for.
pub(super) fn per_server(servers: usize) -> Duration {
    CONNECT_TIMEOUT / u32::try_from(servers.clamp(1, 4)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn one_of_those_who_wait_connects_for_all_of_them() {
        let (link, tried, is_up) = (Link::new(), AtomicU32::new(0), AtomicU32::new(0));
        let connect = async || {
            tried.fetch_add(1, Ordering::Relaxed);
            time::sleep(Duration::from_millis(1)).await;
            match is_up.load(Ordering::Relaxed) {
                0 => Err(PublishError::unavailable("down")),
                number => Ok(number),
            }
        };
        let get = async || link.get(|number| *number == is_up.load(Ordering::Relaxed), connect()).await;
        let all = async || join_all((0..5).map(|_| get())).await;
        assert!(all().await.iter().all(|got| got.as_ref().is_err_and(|error| error.text == "down")));
        assert_eq!(tried.load(Ordering::Relaxed), 1);
        is_up.store(1, Ordering::Relaxed);
        assert!(all().await.iter().all(|got| *got == Ok(1)));
        assert_eq!(tried.load(Ordering::Relaxed), 2);
        // The one that there is has ended.
        is_up.store(2, Ordering::Relaxed);
        assert!(all().await.iter().all(|got| *got == Ok(2)));
        link.forget();
        assert_eq!(get().await, Ok(2));
        assert_eq!(tried.load(Ordering::Relaxed), 4);
    }
}
