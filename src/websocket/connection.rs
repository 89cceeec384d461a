//! The connection of one account: which node has it, when it is made, and when it is not.
//!
//! A bot has one connection, and a newer one ends the older. So only the holder of the account's lease connects, for as
//! long as it holds the lease. When a newer connection takes over although the lease is held, it is not of these nodes:
//! then nobody fights for the bot, the holder waits, longer each time.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    answers::Answers,
    frame,
    session::{End, Link, RequestError, Session, lock},
    socket,
};
use crate::{
    config,
    journal::{Journal, JournalError, KeptLease, LEASE_DURATION, LeaseWrite, Millis, NamedLease, millis, now_millis},
    log::seconds,
    metrics::WebSocketMetrics,
};

/// The pause before another connection, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After the platform has refused bot or secret.
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// After so many failures in a row the lease is given away for the pause: another node may reach the platform.
const MAX_FAILURES: u32 = 3;

/// A connection that has lasted for so long was well: the next pause is short.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// The pause after another client has taken the bot, twice as long each time; and the time after which that is forgotten.
const FIRST_KICK_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_KICK_PAUSE: Duration = Duration::from_secs(1800);
const KICKS_FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Another node has the lease, or may have it.
    #[default]
    Standby,
    /// It is being made.
    Connecting,
    /// It is subscribed.
    Connected,
    /// The platform cannot be reached, or the connection broke.
    Disconnected,
    /// The platform refuses the bot.
    Refused,
    /// Another client uses the bot.
    Kicked,
}

impl State {
    /// In a word.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Kicked => "kicked",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standby => "another node has the connection",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "NOT connected: the platform cannot be reached",
            Self::Refused => "NOT connected: the platform refuses bot_id or secret",
            Self::Kicked => "NOT connected: another client uses this bot",
        })
    }
}

/// What a connection is doing, for whoever looks.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<State>);

impl Status {
    pub(super) fn get(&self) -> State {
        *lock(&self.0)
    }

    fn set(&self, state: State) {
        *lock(&self.0) = state;
    }
}

/// The value of the lease: how often another client took the bot, and until when it is left to it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Kicks {
    kicks: u32,
    until: Millis,
}

impl Kicks {
    fn of(value: Option<&str>) -> Self {
        value.and_then(|value| serde_json::from_str(value).ok()).unwrap_or_default()
    }

    /// One more, of a connection that has lasted for so long.
    fn next(self, lasted: Duration, now: Millis) -> (Self, Duration) {
        let kicks = if lasted >= KICKS_FORGOTTEN_AFTER { 1 } else { self.kicks.saturating_add(1) };
        let doubled = FIRST_KICK_PAUSE.saturating_mul(1 << (kicks - 1).min(16));
        let pause = doubled.min(LONGEST_KICK_PAUSE);
        (Self { kicks, until: now.saturating_add(millis(pause)) }, pause)
    }
}

/// The connection of one account.
pub(super) struct Connection {
    pub(super) account: Arc<str>,
    pub(super) settings: config::WebSocket,
    pub(super) answers: Arc<Answers>,
    pub(super) link: watch::Sender<Link>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) metrics: WebSocketMetrics,
    pub(super) status: Arc<Status>,
    /// Which node has the connection. What is left of it when the task panics is released, so that nobody waits for its end.
    pub(super) lease: KeptLease,
    /// Makes no more connections; the one there is ends when its answers are sent.
    pub(super) stopping: CancellationToken,
}

/// How long the next pause is, and after how many failures.
struct Backoff {
    pause: Duration,
    failures: u32,
}

impl Backoff {
    const fn new() -> Self {
        Self { pause: FIRST_PAUSE, failures: 0 }
    }

    /// The next pause, twice as long each time.
    fn next(&mut self, longest: Duration) -> Duration {
        let pause = self.pause.min(longest);
        self.pause = (2 * pause).min(longest);
        // Not at the same moment as others.
        pause.mul_f64(rand::random_range(0.75..=1.0))
    }
}

/// Why a connection was not subscribed.
enum NotSubscribed {
    Refused(String),
    Failed(String),
}

impl Connection {
    /// Has the connection whenever no other node has it, until the server shuts down.
    pub(super) async fn run(&self) {
        let account = &*self.account;
        self.lease.release().await;
        let mut backoff = Backoff::new();
        while !self.stopping.is_cancelled() {
            self.show(State::Standby);
            let Some(acquired) = self.lease.acquire(&self.stopping).await else { break };
            let rest = tokio::select! {
                why = self.lease.renew(&acquired) => {
                    warn!(account, "{account}: closed the connection: {why}");
                    None
                }
                rest = self.connect(&acquired.held, &mut backoff) => rest,
            };
            self.link.send_replace(Link::Absent);
            self.lease.release().await;
            if let Some(rest) = rest {
                self.show(State::Disconnected);
                self.link.send_replace(Link::Absent);
                let _ = self.pause(rest).await;
            }
        }
        self.show(State::Standby);
    }

    fn show(&self, state: State) {
        self.status.set(state);
        match state {
            State::Standby | State::Refused | State::Kicked => drop(self.link.send_replace(Link::Absent)),
            State::Connecting | State::Disconnected => drop(self.link.send_replace(Link::Coming)),
            State::Connected => {}
        }
        self.metrics.connected.set(if state == State::Connected { 1.0 } else { 0.0 });
    }

    /// Waits; `None` when the server shuts down meanwhile.
    async fn pause(&self, pause: Duration) -> Option<()> {
        self.stopping.run_until_cancelled(time::sleep(pause)).await
    }

    /// Connects, again and again, until the server shuts down or the lease is lost; or until another node may have more
    /// luck: then it returns how long the lease is left to it.
    async fn connect(&self, held: &NamedLease, backoff: &mut Backoff) -> Option<Duration> {
        let account = &*self.account;
        let mut kicks = Kicks::of(held.value.as_deref());
        let left = u64::try_from(kicks.until.saturating_sub(now_millis())).unwrap_or(0);
        if left > 0 {
            self.show(State::Kicked);
            let left = Duration::from_millis(left).min(LONGEST_KICK_PAUSE);
            info!(account, "{account}: another client uses this bot; it is left to it for {}", seconds(left));
            self.pause(left).await?;
        }
        loop {
            self.show(State::Connecting);
            let subscribed = self.stopping.run_until_cancelled(self.subscribe()).await?;
            let began = Instant::now();
            let end = match subscribed {
                Ok(serving) => {
                    backoff.failures = 0;
                    Ok(serving.await)
                }
                Err(failure) => Err(failure),
            };
            if self.stopping.is_cancelled() {
                self.link.send_replace(Link::Absent);
                info!(account, "{account}: closed the connection");
                return None;
            }
            self.link.send_replace(Link::Coming);
            let lasted = began.elapsed();
            if lasted >= STEADY_AFTER {
                *backoff = Backoff::new();
            }
            let rest = match end {
                Ok(End::Kicked) => self.kicked(held, &mut kicks, lasted).await?,
                Ok(End::Closed) => FIRST_PAUSE,
                Ok(End::Broken(why)) | Err(NotSubscribed::Failed(why)) => self.broken(&why, backoff),
                Err(NotSubscribed::Refused(why)) => {
                    self.show(State::Refused);
                    self.metrics.refused.increment(1);
                    let rest = backoff.next(LONGEST_REFUSED_PAUSE);
                    let pause = seconds(rest);
                    error!(
                        account,
                        "{account}: the platform refused to subscribe: {why}; check `bot_id` and `secret`. It is tried \
                         again in {pause}"
                    );
                    rest
                }
            };
            if backoff.failures >= MAX_FAILURES {
                return Some(rest);
            }
            self.pause(rest).await?;
        }
    }

    /// There is no connection; returns after how long it is made again.
    fn broken(&self, why: &str, backoff: &mut Backoff) -> Duration {
        let account = &*self.account;
        self.show(State::Disconnected);
        self.metrics.broken.increment(1);
        backoff.failures = backoff.failures.saturating_add(1);
        let rest = backoff.next(LONGEST_PAUSE);
        warn!(account, "{account}: no connection: {why}; it is made again in {}", seconds(rest));
        rest
    }

    /// Another connection has taken the bot. Returns how long it is left to it; `None` when it is another node's.
    async fn kicked(&self, held: &NamedLease, kicks: &mut Kicks, lasted: Duration) -> Option<Duration> {
        let account = &*self.account;
        let (next, pause) = kicks.next(lasted, now_millis());
        let value = serde_json::to_string(&next).ok();
        let write = LeaseWrite { value, keep: Some(LEASE_DURATION), expires: None, events: Vec::new() };
        match self.journal.write_lease(held, write).await {
            Ok(_) => {}
            Err(JournalError::Lost) => {
                info!(account, "{account}: another node has the connection");
                return None;
            }
            // Whoever has the lease connects, once that can be known again.
            Err(failure) => {
                warn!(account, "{account}: a newer connection ended ours; whose it is cannot be told: {failure}");
                return None;
            }
        }
        *kicks = next;
        self.show(State::Kicked);
        self.metrics.kicks.increment(1);
        warn!(
            account,
            kicks = next.kicks,
            "{account}: ANOTHER CLIENT uses this bot: its newer connection ended ours (number {}). It is left to it for {} s; \
             stop the other client, or give it a bot of its own",
            next.kicks,
            pause.as_secs()
        );
        Some(pause)
    }

    /// Makes a connection and subscribes; returns what serves it to its end.
    async fn subscribe(&self) -> Result<impl Future<Output = End> + Send + '_, NotSubscribed> {
        let config::WebSocket { url, bot_id, secret, ping_interval, .. } = &self.settings;
        let socket = socket::connect(url).await.map_err(|failure| NotSubscribed::Failed(failure.to_string()))?;
        let (session, ends) = Session::new();
        let session = Arc::new(session);
        let (serving, answers) = (Arc::clone(&session), Arc::clone(&self.answers));
        let interval = *ping_interval;
        // Boxed, for it is polled here first, and returned then.
        let mut serving = Box::pin(async move {
            serving
                .serve(socket, ends, interval, |request_id, body| {
                    answers.pushed(request_id, body);
                    is_takeover(body)
                })
                .await
        });
        let body = json!({ "bot_id": bot_id, "secret": secret.expose() });
        let id = session.next_id(frame::SUBSCRIBE);
        let subscribed = tokio::select! {
            biased;
            subscribed = session.request(frame::SUBSCRIBE, &id, Some(&body)) => subscribed,
            end = &mut serving => return Err(NotSubscribed::Failed(match end {
                End::Broken(why) => why,
                End::Kicked | End::Closed => "it was closed before it was subscribed".to_owned(),
            })),
        };
        match subscribed {
            Ok(_) => {}
            Err(RequestError::Refused { code, says }) => {
                // What the platform says could repeat what it was told.
                let says = says.replace(secret.expose(), "…");
                return Err(NotSubscribed::Refused(format!("{code} {says}")));
            }
            Err(failure) => return Err(NotSubscribed::Failed(format!("the subscription: {failure}"))),
        }
        self.show(State::Connected);
        self.metrics.subscribed.increment(1);
        info!(account = &*self.account, "{}: connected to {url}", self.account);
        self.link.send_replace(Link::Up(Arc::clone(&session)));
        Ok(async move {
            let stop = async {
                self.stopping.cancelled().await;
                self.answers.settle().await;
                session.close();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                end = serving => end,
                () = stop => End::Closed,
            }
        })
    }
}

/// Whether an event says that another connection has subscribed.
fn is_takeover(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Body<'b> {
        #[serde(borrow, default)]
        event: Option<Event<'b>>,
    }
    #[derive(Deserialize)]
    struct Event<'b> {
        #[serde(borrow, default)]
        eventtype: Option<std::borrow::Cow<'b, str>>,
    }
    let body: Option<Body<'_>> = serde_json::from_str(body).ok();
    let event_type = body.and_then(|body| body.event).and_then(|event| event.eventtype);
    event_type.is_some_and(|event_type| event_type == "disconnected_event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_another_connection_doubles_up_to_a_limit() {
        let mut backoff = Backoff::new();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let pause = backoff.next(LONGEST_PAUSE).as_secs_f64();
            let expected = f64::from(expected);
            assert!((0.75 * expected..=expected).contains(&pause), "{pause} instead of {expected}");
        }
    }

    #[test]
    fn the_pause_after_a_kick_grows_and_is_forgotten_after_a_while() {
        let mut kicks = Kicks::default();
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                let pause;
                (kicks, pause) = kicks.next(Duration::from_secs(5), 0);
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        let (after, pause) = kicks.next(KICKS_FORGOTTEN_AFTER, 7);
        assert_eq!((after.kicks, after.until, pause), (1, 30_007, FIRST_KICK_PAUSE));
        assert_eq!(Kicks::of(Some("what an older version wrote")).kicks, 0);
    }

    #[test]
    fn a_takeover_is_told_by_the_event_alone() {
        assert!(is_takeover(r#"{"msgtype":"event","event":{"eventtype":"disconnected_event"}}"#));
        let others = [r#"{"text":{"content":"disconnected_event"}}"#, r#"{"event":"disconnected_event"}"#, "{", "[]"];
        assert!(others.into_iter().all(|other| !is_takeover(other)));
    }
}
