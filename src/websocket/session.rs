//! One connection, from its subscription to its end: frames in and out, acknowledgements, signs of life.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    frame::{self, Acknowledged, Frame},
    socket::Socket,
};
use crate::journal::{Millis, now_millis};
use crate::log::seconds;

/// The platform acknowledges a frame within this.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A frame that is not taken off our hands for so long means that the connection is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the platform may take to answer that we close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Frames that wait to be written.
const QUEUE: usize = 64;

/// Pings in a row without an answer, after which the connection is dead.
const MAX_MISSED_PINGS: usize = 2;

/// The connection is no longer subscribed, says the platform.
const NOT_SUBSCRIBED: i64 = 846_609;
const NOT_SUBSCRIBED_SAID: &str = "the platform says that it is not subscribed";

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// The platform refused it, and did nothing.
    #[error("the platform refused it: {code} {says}")]
    Refused { code: i64, says: String },
    /// It is not known whether it was done.
    #[error("the platform did not acknowledge it within {} s", ACKNOWLEDGE_TIMEOUT.as_secs())]
    NotAcknowledged,
    /// The connection ended meanwhile: it is not known whether it was done.
    #[error("the connection ended before the platform acknowledged it")]
    Ended,
    /// Not sent at all.
    #[error("there is no connection")]
    NotConnected,
    /// Not sent at all: a programming error.
    #[error("it is no JSON")]
    NotJson,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Another connection has subscribed for the bot.
    Kicked,
    /// We closed it.
    Closed,
    /// It broke, or the platform closed it.
    Broken(String),
}

/// A connection that is subscribed.
pub(super) struct Session {
    outgoing: mpsc::Sender<Message>,
    /// Who waits for an acknowledgement, by `req_id`.
    pending: Mutex<HashMap<String, oneshot::Sender<Acknowledged>>>,
    closing: CancellationToken,
    /// Over: nothing is acknowledged any more.
    ended: CancellationToken,
    /// Why we close it, when it is useless.
    broken: Mutex<Option<String>>,
    next_id: AtomicU64,
    /// When it began.
    pub(super) since: Instant,
    pub(super) since_millis: Millis,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("since", &self.since).finish_non_exhaustive()
    }
}

/// What there is of a connection in this process.
#[derive(Clone, Debug, Default)]
pub(super) enum Link {
    /// None, and none is made soon: another node has it, or another client.
    #[default]
    Absent,
    /// It is being made.
    Coming,
    /// It is subscribed.
    Up(Arc<Session>),
}

impl Link {
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Up(session) => Some(session),
            Self::Absent | Self::Coming => None,
        }
    }
}

/// The ends of a session that its connection serves.
pub(super) struct Ends {
    outgoing: mpsc::Receiver<Message>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn new() -> (Self, Ends) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let session = Self {
            outgoing,
            pending: Mutex::default(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            broken: Mutex::default(),
            next_id: AtomicU64::new(rand::random::<u32>().into()),
            since: Instant::now(),
            since_millis: now_millis(),
        };
        (session, Ends { outgoing: queue })
    }

    /// A `req_id` of our own.
    pub(super) fn next_id(&self, command: &str) -> String {
        format!("{command}-{:x}-{:08x}", self.next_id.fetch_add(1, Ordering::Relaxed), rand::random::<u32>())
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Ends the connection because it is of no use; another one is made.
    pub(super) fn fail(&self, why: &str) {
        lock(&self.broken).get_or_insert_with(|| why.to_owned());
        self.closing.cancel();
    }

    /// Ready when it has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Sends a frame, and waits for its acknowledgement; returns what is in there. Frames of one `req_id` are sent one after
    /// the other by whoever has the id.
    pub(super) async fn request(
        &self,
        command: &str,
        request_id: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Json, RequestError> {
        let text = frame::write(command, request_id, body).map_err(|_| RequestError::NotJson)?;
        let (acknowledge, acknowledged) = oneshot::channel();
        if self.closing.is_cancelled() || self.ended.is_cancelled() {
            return Err(RequestError::NotConnected);
        }
        lock(&self.pending).insert(request_id.to_owned(), acknowledge);
        let exchange = async {
            self.outgoing.send(Message::text(text)).await.map_err(|_| RequestError::NotConnected)?;
            acknowledged.await.map_err(|_| RequestError::Ended)
        };
        let exchange = time::timeout(ACKNOWLEDGE_TIMEOUT, exchange);
        let result = match self.ended.run_until_cancelled(exchange).await {
            None => Err(RequestError::Ended),
            Some(Err(_elapsed)) => Err(RequestError::NotAcknowledged),
            Some(Ok(result)) => result,
        };
        let acknowledged = result.inspect_err(|_| drop(lock(&self.pending).remove(request_id)))?;
        match acknowledged.code {
            0 => Ok(acknowledged.body),
            code => {
                if code == NOT_SUBSCRIBED {
                    self.fail(NOT_SUBSCRIBED_SAID);
                }
                Err(RequestError::Refused { code, says: acknowledged.says })
            }
        }
    }

    /// Serves the connection until it ends. `callback` is given the `req_id` and the body of each message and event, and
    /// returns whether another connection has taken over.
    pub(super) async fn serve(
        &self,
        socket: Socket,
        ends: Ends,
        ping_interval: Duration,
        mut callback: impl FnMut(&str, &str) -> bool,
    ) -> End {
        // Also when this is dropped: then the connection is, too.
        let _ended = self.ended.clone().drop_guard();
        let (mut sink, mut stream) = socket.split();
        let read = async {
            loop {
                let message = match stream.next().await {
                    None => return End::Broken("the platform closed it".to_owned()),
                    Some(Err(failure)) => return End::Broken(explain(&failure)),
                    Some(Ok(message)) => message,
                };
                let text = match &message {
                    Message::Text(text) => text.as_str(),
                    // JSON all the same, should it come so.
                    Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
                    // Pings are answered by the library; a close is followed by the end.
                    _ => continue,
                };
                match frame::read(text) {
                    Ok(Frame::Callback { request_id, body }) if callback(&request_id, body) => return End::Kicked,
                    Ok(Frame::Acknowledgement { request_id, acknowledged }) => {
                        if let Some(waiting) = lock(&self.pending).remove(&request_id) {
                            let _ = waiting.send(acknowledged);
                        }
                    }
                    Ok(Frame::Callback { .. } | Frame::Other) => {}
                    Err(failure) => debug!("a frame that cannot be read was ignored: {failure}"),
                }
            }
        };
        let Ends { mut outgoing } = ends;
        let end = tokio::select! {
            biased;
            () = self.closing.cancelled() => match lock(&self.broken).take() {
                Some(why) => End::Broken(why),
                None => End::Closed,
            },
            end = read => end,
            end = write(&mut sink, &mut outgoing) => end,
            end = self.ping(ping_interval) => end,
        };
        self.ended.cancel();
        lock(&self.pending).clear();
        let _ = time::timeout(CLOSE_TIMEOUT, sink.close()).await;
        end
    }

    /// Sends pings, until two in a row have no answer.
    async fn ping(&self, interval: Duration) -> End {
        let mut ticks = time::interval(interval);
        // The first one is at once.
        ticks.tick().await;
        let mut waiting: Vec<(String, oneshot::Receiver<Acknowledged>)> = Vec::new();
        loop {
            ticks.tick().await;
            let answer = waiting.iter_mut().find_map(|(_, ping)| ping.try_recv().ok());
            if answer.as_ref().is_some_and(|answer| answer.code == NOT_SUBSCRIBED) {
                return End::Broken(NOT_SUBSCRIBED_SAID.to_owned());
            }
            if answer.is_some() {
                waiting.drain(..).for_each(|(id, _)| drop(lock(&self.pending).remove(&id)));
            }
            if waiting.len() >= MAX_MISSED_PINGS {
                let interval = seconds(interval);
                return End::Broken(format!("two pings in a row had no answer, {interval} apart: it is dead"));
            }
            let id = self.next_id(frame::PING);
            let (answer, answered) = oneshot::channel();
            let Ok(text) = frame::write(frame::PING, &id, None::<&Json>) else { continue };
            lock(&self.pending).insert(id.clone(), answer);
            waiting.push((id, answered));
            if self.outgoing.send(Message::text(text)).await.is_err() {
                return End::Broken("it is not written".to_owned());
            }
        }
    }
}

async fn write(sink: &mut SplitSink<Socket, Message>, outgoing: &mut mpsc::Receiver<Message>) -> End {
    while let Some(message) = outgoing.recv().await {
        match time::timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return End::Broken(explain(&failure)),
            Err(_elapsed) => return End::Broken(format!("it took no frame for {} s", WRITE_TIMEOUT.as_secs())),
        }
    }
    End::Closed
}

/// In our own words: the library's show parts of what came.
fn explain(failure: &tungstenite::Error) -> String {
    match failure {
        tungstenite::Error::Capacity(_) => "a frame was larger than 1 MiB".to_owned(),
        tungstenite::Error::Io(failure) => failure.to_string(),
        tungstenite::Error::Utf8(_) => "a text was not UTF-8".to_owned(),
        tungstenite::Error::Protocol(failure) => failure.to_string(),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => "the platform closed it".to_owned(),
        _ => "the connection failed".to_owned(),
    }
}
