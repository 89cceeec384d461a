//! Accepts connections and watches over them: none may be held by a client that does not send.
//!
//! HTTP/1.1 only, as the platforms and the proxies in front speak it. The times are kept here, for all connections at one
//! time, rather than in hyper, whose header timeout also ends idle connections and costs a timer for each request.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::HttpBody,
    http::{Request, Response},
};
use futures_util::task::AtomicWaker;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
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
        let Self { socket, mut limits, open } = self;
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut watches = Watches::default();
        let mut look = time::interval(LOOK);
        loop {
            let accepted = select! {
                biased;
                () = stopping.cancelled() => break,
                _ = look.tick() => {
                    watches.look(limits);
                    continue;
                }
                accepted = accept(&socket, &places) => accepted,
            };
            let (place, stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(failure) => {
                    error!("cannot accept connections: {failure}");
                    time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let activity = Arc::new(Activity::new());
            watches.add(&activity, limits);
            let service = service(Peer { address, activity: Arc::clone(&activity) });
            let open = open.clone();
            connections.spawn(async move {
                open.iter().for_each(|open| open.increment(1.0));
                if let Err(failure) = serve(Watched { stream, activity }, service).await {
                    debug!("connection of {address} ended: {failure}");
                }
                open.iter().for_each(|open| open.decrement(1.0));
                drop(place);
            });
        }
        drop(socket);
        connections.close();
        watches.finish();
        // hyper closes what is idle, and waits for the rest of a head, which may never come.
        limits.header = limits.header.min(LOOK);
        let mut finished = pin!(connections.wait());
        loop {
            select! {
                () = finished.as_mut() => return,
                _ = look.tick() => watches.look(limits),
            }
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = socket.accept().await?;
    Ok((place, stream, address))
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

/// What a connection is doing, and what it is told to do. Changes are counted rather than timed, so that a request costs
/// no look at the clock: whoever watches knows since when nothing has changed. Nor does a connection have a timer or wait
/// for a token, which both take locks whenever it is polled: it is woken when it is told something.
#[derive(Debug)]
struct Activity {
    /// Number of changes, above two bits of [`Phase`].
    state: AtomicU64,
    /// The state that has lasted too long: the connection ends if it still has that one.
    over: AtomicU64,
    /// No more requests are taken.
    finish: AtomicBool,
    task: AtomicWaker,
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
    fn new() -> Self {
        let (state, over) = (AtomicU64::new(Phase::Idle as u64), AtomicU64::new(u64::MAX));
        Self { state, over, finish: AtomicBool::new(false), task: AtomicWaker::new() }
    }

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

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) == self.state.load(Ordering::Relaxed)
    }

    fn end_if_still(&self, state: u64) {
        self.over.store(state, Ordering::Relaxed);
        self.task.wake();
    }

    fn finish(&self) {
        self.finish.store(true, Ordering::Relaxed);
        self.task.wake();
    }
}

/// What was seen of a connection, and when first.
struct Watch {
    activity: Weak<Activity>,
    state: u64,
    since: Instant,
}

impl Watch {
    /// Ends a connection that has been waiting for its client for too long; says whether to look at it again.
    fn look(&mut self, limits: Limits, now: Instant) -> bool {
        let Some(activity) = self.activity.upgrade() else { return false };
        let state = activity.state.load(Ordering::Relaxed);
        if state != self.state {
            (self.state, self.since) = (state, now);
            return true;
        }
        let limit = match state & 3 {
            phase if phase == Phase::Idle as u64 => limits.idle,
            phase if phase == Phase::Head as u64 => limits.header,
            _ => return true,
        };
        let is_over = now - self.since > limit;
        if is_over {
            activity.end_if_still(state);
        }
        !is_over
    }
}

/// Looks at the connections of a listener.
#[derive(Default)]
struct Watches(Vec<Watch>);

impl Watches {
    fn add(&mut self, activity: &Arc<Activity>, limits: Limits) {
        // When very many come and go, those that are gone are forgotten before the second is over.
        if self.0.len() >= 2 * limits.connections {
            self.look(limits);
        }
        self.0.push(Watch { activity: Arc::downgrade(activity), state: 0, since: Instant::now() });
    }

    /// Closes those that are over, and forgets those that are gone.
    fn look(&mut self, limits: Limits) {
        let now = Instant::now();
        self.0.retain_mut(|watch| watch.look(limits, now));
    }

    /// Tells all of them to take no more requests.
    fn finish(&self) {
        self.0.iter().filter_map(|watch| watch.activity.upgrade()).for_each(|activity| activity.finish());
    }
}

async fn serve<S, B>(stream: Watched, service: S) -> Result<(), hyper::Error>
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
    let mut finishing = false;
    poll_fn(|context| {
        activity.task.register(context.waker());
        if activity.is_over() {
            return Poll::Ready(Ok(()));
        }
        if !finishing && activity.finish.load(Ordering::Relaxed) {
            finishing = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await
}

/// A stream that tells when bytes come. It does not write vectored: head and body of an answer are small, and are written
/// faster from one buffer, into which they have to be copied, than from two.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_of_a_connection_is_void_once_it_has_gone_on() {
        let limits = Limits { connections: 1, header: Duration::from_millis(10), idle: Duration::from_millis(20) };
        let (activity, start) = (Arc::new(Activity::new()), Instant::now());
        let mut watch = Watch { activity: Arc::downgrade(&activity), state: 0, since: start };
        let mut look = |after| watch.look(limits, start + Duration::from_millis(after));
        assert!(look(20) && !activity.is_over(), "idle for as long as it may be");
        assert!(!look(21) && activity.is_over());
        activity.bytes_came();
        assert!(!activity.is_over(), "a request came before the connection was told");
        assert!(look(30), "seen for the first time");
        activity.bytes_came();
        assert!(look(40) && !look(41) && activity.is_over(), "more of a head begins no new one");
        activity.set(Phase::Busy);
        assert!(!activity.is_over() && look(50) && look(10_000) && !activity.is_over());
        drop(activity);
        assert!(!look(10_001), "gone");
    }
}
