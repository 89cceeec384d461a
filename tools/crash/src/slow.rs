//! Answers that take longer than a response: streams of an AI bot, which the platform polls, and late replies, which are
//! sent through the API.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use echostr::simulate::api::{FakeApi, Faults, Sent};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    runtime::Runtime,
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    deliveries::{APP_ID, Delivery, FIRST_LATE, FIRST_STREAM, SECRET, Streamed, slow_accounts, unix_nanos},
    load::{ATTEMPT_TIMEOUT, Connection, Load, Wrong},
};

/// Connections that talk to the bot, and as many that write what is answered late.
const CONNECTIONS: u64 = 4;

/// The pause before a poll, at most, in milliseconds.
const POLL_PAUSE_MILLIS: u64 = 150;

/// How long a stream may take until it has ended, whatever happens to the servers.
const STREAM_TIMEOUT: Duration = Duration::from_secs(120);

/// The API that late replies are sent through. It refuses some calls, and cuts some.
pub struct Api(FakeApi);

impl Api {
    /// # Errors
    /// When no port can be bound.
    pub fn start(runtime: &Runtime, seed: u64) -> io::Result<Self> {
        let api = runtime.block_on(FakeApi::start(seed))?;
        api.add_account(APP_ID, SECRET);
        api.set_faults(Faults { bad_gateway: 0.02, busy: 0.02, cut: 0.02, ..Faults::default() });
        Ok(Self(api))
    }

    /// The accounts whose answers are slow, as a configuration.
    pub fn accounts(&self) -> String {
        slow_accounts(&self.0.url())
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.0.sent()
    }
}

/// The end of a stream, as the platform saw it first.
#[derive(Clone, Debug)]
pub struct End {
    pub id: String,
    pub nanos: u64,
    pub content: String,
}

impl Load {
    /// Starts connections that write messages whose answers are slow, and follow each answer to its end.
    pub fn start_slow(self: &Arc<Self>, runtime: &Runtime, seed: u64) -> Vec<JoinHandle<()>> {
        let start = |first: u64, number: u64| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(first + number));
            let connection = Connection::new(Arc::clone(self), format!("o_slow_{number}"), random);
            runtime.spawn(connection.run_slow(first + number))
        };
        let streams = (0..CONNECTIONS).map(|number| start(FIRST_STREAM, number));
        streams.chain((0..CONNECTIONS).map(|number| start(FIRST_LATE, number))).collect()
    }

    /// The ends of the streams.
    pub fn ends(&self) -> BTreeMap<u64, End> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Connection {
    async fn run_slow(mut self, mut serial: u64) {
        let load = Arc::clone(&self.load);
        while !load.stop.load(Ordering::Relaxed) {
            let delivery = Delivery::new(serial, self.subject.clone());
            if let Some(reply) = self.answered(&delivery).await
                && let Some(streamed) = Streamed::read(&reply)
            {
                self.follow(&delivery, streamed).await;
            }
            let pause = self.random.random_range(0..=load.pace.pause);
            time::sleep(Duration::from_millis(pause)).await;
            serial += CONNECTIONS;
        }
    }

    /// Polls a stream to its end, and once more.
    async fn follow(&mut self, delivery: &Delivery, mut seen: Streamed) {
        let (load, until) = (Arc::clone(&self.load), Instant::now() + STREAM_TIMEOUT);
        while Instant::now() < until {
            let pause = self.random.random_range(0..=POLL_PAUSE_MILLIS);
            time::sleep(Duration::from_millis(pause)).await;
            let poll = delivery.poll(&load.accounts, &seen.id, self.random.random());
            let body = match time::timeout(ATTEMPT_TIMEOUT, self.exchange(&poll)).await {
                Ok(Ok((200, body))) => body,
                Ok(Ok((503, _))) => continue,
                Ok(Ok((status, body))) => {
                    load.complain(Wrong::Refused, format!("a poll of {}: {status} `{body}`", delivery.name()));
                    return;
                }
                Ok(Err(_)) | Err(_) => {
                    self.forget();
                    continue;
                }
            };
            let next = delivery.open_reply(&load.accounts, &body).and_then(|reply| Streamed::read(&reply));
            let goes_on = |next: &&Streamed| match seen.finished {
                true => **next == seen,
                false => next.id == seen.id && next.content.starts_with(&seen.content),
            };
            if next.as_ref().filter(goes_on).is_none() {
                load.complain(Wrong::Stream, format!("{}: after {seen:?} came {next:?}", delivery.name()));
            }
            let Some(next) = next else { return };
            if seen.finished {
                return;
            }
            if next.finished {
                let end = End { id: next.id.clone(), nanos: unix_nanos(), content: next.content.clone() };
                load.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.serial, end);
            }
            seen = next;
        }
        if !seen.finished {
            load.complain(Wrong::Stream, format!("{}: no end for {STREAM_TIMEOUT:?}: {seen:?}", delivery.name()));
        }
    }
}

/// How often each text was sent, by user.
pub(crate) fn times_sent(sent: &[Sent]) -> HashMap<(&str, &str), u32> {
    let mut times: HashMap<(&str, &str), u32> = HashMap::new();
    for message in sent {
        let text = message.body["text"]["content"].as_str().unwrap_or_default();
        *times.entry((&message.to, text)).or_default() += 1;
    }
    times
}
