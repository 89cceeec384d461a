//! Accepts connections and serves them: HTTP/1.1 only, as the platforms and the proxies in front speak it.
//!
//! How long a connection may wait for its client is watched here, for all connections at one time (`watch.rs`), rather than
//! in hyper, whose header timeout also ends idle connections and costs a timer for each request.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    net::{self, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::HttpBody,
    http::{Request, Response},
};
use futures_util::FutureExt as _;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use super::{
    activity::{Activity, Peer},
    watch::{Limits, POLL_INTERVAL, Watches},
};
use crate::throttle::Throttle;

/// More headers and longer ones than any platform or proxy sends.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// After an error of the system (mostly: no more file descriptors), accepting pauses for a moment.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection whose last answer has been written is read, so that the client sees the answer: a socket that is
/// closed with bytes in it is reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// At a shutdown, how long handshakes that have begun may take.
const HANDSHAKE_WAIT: Duration = Duration::from_millis(100);

/// At a shutdown, how long a connection that has been used may take to begin another request.
const LAST_REQUEST_WAIT: Duration = Duration::from_millis(250);

/// At a shutdown, how often connections are checked.
const LAST_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
#[derive(Debug)]
pub(super) struct Listener {
    /// Closed at the end.
    socket: Mutex<Option<net::TcpListener>>,
    limits: Limits,
    open: Option<Gauge>,
    /// What the limit of connections is called, and what to do when it is reached.
    limit: &'static str,
    advice: &'static str,
    places: Arc<Semaphore>,
    watches: Mutex<Watches>,
    tasks: TaskTracker,
    /// The connections that are left end now.
    aborted: CancellationToken,
}

impl Listener {
    /// Listens with a longer queue than the 128 of the standard library: when many connect at one time, as after a restart
    /// of the proxy, a full queue lets each of the others wait for a second. The system caps it (`net.core.somaxconn`).
    pub(super) fn bind(
        address: SocketAddr,
        limits: Limits,
        limit: &'static str,
        advice: &'static str,
    ) -> io::Result<Self> {
        const ACCEPT_BACKLOG: u32 = 4096;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(ACCEPT_BACKLOG)?.into_std()?;
        Ok(Self {
            socket: Mutex::new(Some(socket)),
            limits,
            open: None,
            limit,
            advice,
            places: Arc::new(Semaphore::new(limits.connections)),
            watches: Mutex::default(),
            tasks: TaskTracker::new(),
            aborted: CancellationToken::new(),
        })
    }

    /// Shows the number of open connections there.
    pub(super) fn counted(self, open: Gauge) -> Self {
        Self { open: Some(open), ..self }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket().as_ref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), net::TcpListener::local_addr)
    }

    /// Has the connections end that are left after `stopping`, whatever they are doing.
    pub(super) fn abort(&self) {
        self.aborted.cancel();
    }

    /// Serves until `stopping`; then lets the connections finish the requests they have, and returns. After a panic it may
    /// be called again: connections go on meanwhile.
    pub(super) async fn serve<S, B>(&self, stopping: CancellationToken, service: impl Fn(Peer) -> S + Send + Sync)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Unpin + 'static,
        S::Future: Send,
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Some(socket) = self.socket().as_ref().map(net::TcpListener::try_clone) else { return };
        let socket = match socket.and_then(TcpListener::from_std) {
            Ok(socket) => socket,
            Err(failure) => return error!("cannot accept connections: {failure}"),
        };
        let start = |stream, address, place, finish| self.start(&service, stream, address, place, finish);
        let reached = Throttle::default();
        let mut look = time::interval(POLL_INTERVAL);
        // A connection that there is no room for yet; the next ones wait in the queue of the system.
        let mut waiting = None;
        loop {
            let accepted = select! {
                biased;
                () = stopping.cancelled() => break,
                _ = look.tick() => {
                    let mut watches = self.watches();
                    watches.look(self.limits);
                    if waiting.is_some() {
                        watches.make_room();
                    }
                    continue;
                }
                Ok(place) = Arc::clone(&self.places).acquire_owned(), if waiting.is_some() => {
                    if let Some((stream, address)) = waiting.take() {
                        start(stream, address, Some(place), false);
                    }
                    continue;
                }
                accepted = socket.accept(), if waiting.is_none() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(failure) => {
                    error!("cannot accept connections: {failure}");
                    time::sleep(ACCEPT_RETRY_PAUSE).await;
                    continue;
                }
            };
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                start(stream, address, Some(place), false);
                continue;
            }
            waiting = Some((stream, address));
            let then = match self.watches().make_room() {
                true => "each new connection closes the one that has been idle longest",
                false => "all are in use, new connections wait",
            };
            if let Some(more) = reached.allow() {
                let (limit, count, advice) = (self.limit, self.limits.connections, self.advice);
                warn!("{limit} ({count}) reached: {then}{more}; {advice}");
            }
        }
        self.stop(socket, waiting, |stream, address| start(stream, address, None, true)).await;
        let mut limits = self.limits;
        // hyper would wait for the rest of a head, which may never come.
        limits.header = limits.header.min(POLL_INTERVAL);
        limits.new = limits.header;
        limits.idle = limits.idle.min(LAST_REQUEST_WAIT);
        let mut look = time::interval(LAST_POLL_INTERVAL);
        let mut finished = pin!(self.tasks.wait());
        loop {
            select! {
                () = finished.as_mut() => return,
                _ = look.tick() => {
                    let mut watches = self.watches();
                    if self.aborted.is_cancelled() {
                        watches.end_all();
                    } else {
                        watches.look(limits);
                    }
                }
            }
        }
    }

    /// Serves a connection. `finish`: its next request is its last one.
    fn start<S, B>(
        &self,
        service: &impl Fn(Peer) -> S,
        stream: TcpStream,
        address: SocketAddr,
        place: Option<OwnedSemaphorePermit>,
        finish: bool,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Unpin + 'static,
        S::Future: Send,
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::new(finish));
        self.watches().add(&activity, self.limits);
        let service = service(Peer { address, activity: Arc::clone(&activity) });
        let open = self.open.clone();
        self.tasks.spawn(async move {
            open.iter().for_each(|open| open.increment(1.0));
            if let Err(failure) = serve(Watched { stream, activity }, service).await {
                debug!("connection of {address} ended: {failure}");
            }
            open.iter().for_each(|open| open.decrement(1.0));
            drop(place);
        });
    }

    /// Closes the listening socket. Whoever is connected by then may have sent a request, and is served: a socket that is
    /// closed resets what waits to be accepted.
    async fn stop(
        &self,
        socket: TcpListener,
        waiting: Option<(TcpStream, SocketAddr)>,
        start: impl Fn(TcpStream, SocketAddr),
    ) {
        self.watches().finish();
        if let Err(failure) = refuse_handshakes(&socket) {
            debug!("connections that are made while the listener closes may be reset: {failure}");
        }
        if let Some((stream, address)) = waiting {
            start(stream, address);
        }
        let until = time::Instant::now() + HANDSHAKE_WAIT;
        while let Ok(Ok((stream, address))) = time::timeout_at(until, socket.accept()).await {
            start(stream, address);
        }
        while let Some(Ok((stream, address))) = socket.accept().now_or_never() {
            start(stream, address);
        }
        self.socket().take();
        drop(socket);
        self.tasks.close();
    }

    fn socket(&self) -> MutexGuard<'_, Option<net::TcpListener>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the system ignore new handshakes from now on, so that the queue can be emptied before the socket is closed.
/// Handshakes that have begun go on.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn refuse_handshakes(socket: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF over the TCP header: load the byte of the flags; drop the packet if it has SYN, else keep all of it.
    const PROGRAM: [SockFilter; 4] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x45, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&PROGRAM)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn refuse_handshakes(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

async fn serve<S, B>(stream: Watched, service: S) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Unpin,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::clone(&stream.activity);
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    until_over(&activity, |context| connection.poll_unpin(context)).await.unwrap_or(Ok(()))?;
    if activity.lingers() {
        let stream = connection.into_parts().io.into_inner().stream;
        // Boxed, as it is rare and would make every connection larger.
        let mut read = Box::pin(time::timeout(LINGER_TIMEOUT, discard(stream)));
        let _ = until_over(&activity, |context| read.as_mut().poll(context)).await;
    }
    Ok(())
}

/// Serves until the connection is asked to end, which it does not do while there is something to read.
async fn until_over<T>(activity: &Activity, mut go_on: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(|context| {
        activity.wake_here(context.waker());
        match go_on(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if activity.is_over() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Reads what a client still sends.
async fn discard(mut stream: TcpStream) {
    let mut buffer = [0; 8 * 1024];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// A stream that reports when bytes come. It does not write vectored: head and body of an answer are small, and are written
/// faster from one buffer, into which they have to be copied, than from two.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Watched {
    /// Whether the system has bytes that the runtime does not know of yet.
    fn has_bytes(&self) -> bool {
        SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count > 0)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        } else if read.is_pending() && self.activity.is_over() && self.has_bytes() {
            self.activity.go_on();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
