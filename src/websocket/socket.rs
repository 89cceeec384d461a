//! Makes a connection: TCP, TLS with the certificates that the system trusts, the handshake of WebSocket.

use std::{io, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, http::Uri, protocol::WebSocketConfig},
};

use crate::http;

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest frame that is read. Messages hold text and links; those of the largest are a few KiB long.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// What a connection is made of.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// An open connection.
pub(super) type Socket = WebSocketStream<Box<dyn Transport>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    #[error("`websocket_url` has no host")]
    NoHost,
}

/// Connects to a `ws://` or `wss://` address.
pub(super) async fn connect(url: &str) -> Result<Socket, ConnectError> {
    time::timeout(CONNECT_TIMEOUT, connect_now(url)).await.unwrap_or(Err(ConnectError::Timeout))
}

async fn connect_now(url: &str) -> Result<Socket, ConnectError> {
    let uri: Uri = url.parse().map_err(|_| ConnectError::NoHost)?;
    let host = uri.host().ok_or(ConnectError::NoHost)?.trim_matches(['[', ']']).to_owned();
    let is_tls = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((&*host, port)).await?;
    stream.set_nodelay(true)?;
    let transport: Box<dyn Transport> = if is_tls {
        let name = ServerName::try_from(host).map_err(|_| ConnectError::NoHost)?;
        Box::new(TlsConnector::from(Arc::new(http::tls(None)?)).connect(name, stream).await?)
    } else {
        Box::new(stream)
    };
    let limits = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let (socket, _) = client_async_with_config(uri, transport, Some(limits)).await.map_err(Box::new)?;
    Ok(socket)
}
