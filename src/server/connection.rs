//! Accepts connections and watches over them: none may be held by a client that does not send.
//!
//! HTTP/1.1 only, as the platforms and the proxies in front speak it. The timers are kept here rather than per request
//! in hyper, whose header timeout also ends idle connections and costs a timer for each request.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::HttpBody,
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    select,
    sync::Semaphore,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error};

/// More headers and longer ones than any platform or proxy sends.
const MAX_HEADERS: usize = 64;
const MAX_HEAD: usize = 32 * 1024;

/// How often a connection is looked at; its limits are that exact.
const LOOK: Duration = Duration::from_secs(1);

/// After an error of the system (mostly: no more file descriptors), accepting rests for a moment.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections open at one time; more wait to be accepted.
    pub(super) connections: usize,
    /// Time to send the head of a request.
    pub(super) header: Duration,
    /// How long an idle connection is kept.
    pub(super) idle: Duration,
}

/// A socket that accepts connections.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    limits: Limits,
    open: Option<Gauge>,
}

impl Listener {
    pub(super) const fn new(socket: TcpListener, limits: Limits, open: Option<Gauge>) -> Self {
        Self { socket, limits, open }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stopping`; then lets the connections finish the requests they have, and returns.
    pub(super) async fn serve<S, B>(self, stopping: CancellationToken, service: impl Fn(Peer) -> S + Send)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send,
        B: HttpBody + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        while let Some(place) = until(&stopping, Arc::clone(&places).acquire_owned()).await {
            let (stream, address) = match until(&stopping, self.socket.accept()).await {
                None => break,
                Some(Ok(accepted)) => accepted,
                Some(Err(failure)) => {
                    error!("cannot accept connections: {failure}");
                    time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let activity = Arc::new(Activity::default());
            let service = service(Peer { address, activity: Arc::clone(&activity) });
            let (open, stopping, limits) = (self.open.clone(), stopping.clone(), self.limits);
            connections.spawn(async move {
                open.iter().for_each(|open| open.increment(1.0));
                if let Err(failure) = serve(Watched { stream, activity }, service, limits, &stopping).await {
                    debug!("connection of {address} ended: {failure}");
                }
                open.iter().for_each(|open| open.decrement(1.0));
                drop(place);
            });
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }
}

async fn until<T>(stopping: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    stopping.run_until_cancelled(work).await
}

/// Who is at the other end, and what its connection is doing.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    activity: Arc<Activity>,
}

impl Peer {
    /// Marks the connection as working on a request until the guard is dropped.
    pub(super) fn busy(&self) -> Busy<'_> {
        self.activity.set(Phase::Busy);
        Busy(&self.activity)
    }
}

/// A request is in work.
pub(super) struct Busy<'p>(&'p Activity);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

/// What a connection is doing. Changes are counted rather than timed, so that a request costs no look at the clock:
/// whoever watches knows since when nothing has changed.
#[derive(Debug, Default)]
struct Activity {
    /// Number of changes, above two bits of [`Phase`].
    state: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for a request.
    Idle = 0,
    /// Has sent a part of a head.
    Head = 1,
    /// Has sent a head; handlers have deadlines of their own.
    Busy = 2,
}

impl Activity {
    fn set(&self, phase: Phase) {
        // Only the task of the connection changes it.
        let changes = (self.state.load(Ordering::Relaxed) >> 2).wrapping_add(1);
        self.state.store(changes << 2 | phase as u64, Ordering::Relaxed);
    }

    /// The first bytes of a head begin it; more of them do not begin it anew.
    fn bytes_came(&self) {
        if self.state.load(Ordering::Relaxed) & 3 == Phase::Idle as u64 {
            self.set(Phase::Head);
        }
    }
}

/// What was seen of a connection, and when first.
struct Watch {
    state: u64,
    since: Instant,
}

impl Watch {
    fn new() -> Self {
        Self { state: 0, since: Instant::now() }
    }

    /// Whether the connection has been waiting for its client for too long.
    fn is_over(&mut self, activity: &Activity, limits: Limits) -> bool {
        let state = activity.state.load(Ordering::Relaxed);
        if state != self.state {
            *self = Self { state, since: Instant::now() };
            return false;
        }
        let waited = self.since.elapsed();
        match state & 3 {
            phase if phase == Phase::Idle as u64 => waited > limits.idle,
            phase if phase == Phase::Head as u64 => waited > limits.header,
            _ => false,
        }
    }
}

async fn serve<S, B>(
    stream: Watched,
    service: S,
    mut limits: Limits,
    stopping: &CancellationToken,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: HttpBody + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::clone(&stream.activity);
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut watch = Watch::new();
    let mut look = pin!(time::sleep(LOOK));
    let mut stopped = false;
    loop {
        select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = stopping.cancelled(), if !stopped => {
                stopped = true;
                connection.as_mut().graceful_shutdown();
                // hyper closes what is idle, and waits for the rest of a head, which may never come.
                limits.header = limits.header.min(LOOK);
            }
            () = look.as_mut() => {
                if watch.is_over(&activity, limits) {
                    return Ok(());
                }
                look.as_mut().reset(time::Instant::now() + LOOK);
            }
        }
    }
}

/// A stream that tells when bytes come. It does not write vectored: head and body of an answer are small, and copied into
/// one buffer they are written faster than from two.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.bytes_came();
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
