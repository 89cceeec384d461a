//! The platform: connections that send one delivery after the other, each again and again until it is answered.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    task::JoinHandle,
    time::{self, Instant},
};

use crate::{
    Failure,
    deliveries::{Accounts, Delivery, unix_nanos},
    slow::End,
};

/// How long an attempt is waited for, as the platforms do.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a delivery may take until it is answered, whatever happens to the servers.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(90);

/// One of so many answered deliveries is sent again at once.
const REPEATED: u32 = 8;

/// One of so many has a subject that other connections use at the same time.
const SHARED: u64 = 5;

/// What the platform knows in the end.
#[derive(Clone, Debug)]
pub struct Answered {
    pub delivery: Delivery,
    /// When the first 200 was read.
    pub nanos: u64,
    pub reply: String,
}

/// How fast a connection sends, in milliseconds.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The pause between two deliveries, at most.
    pub pause: u64,
    /// The pause before an attempt after one that was refused, or not answered.
    pub retry: RangeInclusive<u64>,
}

/// The pause before an attempt after one that failed, where as much as possible is to be sent.
pub const QUICK_RETRY: RangeInclusive<u64> = 100..=300;

/// What an answer must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A 200 that does not have the reply of the responder.
    WithoutReply,
    /// Another reply than before.
    OtherReply,
    /// Neither a 200 nor a 503.
    Refused,
    /// No 200 for long.
    Unanswered,
    /// A streamed answer that got shorter, changed after its end, or had none.
    Stream,
}

impl Wrong {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::WithoutReply, Self::OtherReply, Self::Refused, Self::Unanswered, Self::Stream];

    /// What it is, for a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithoutReply => "answered with 200 without the reply of the responder",
            Self::OtherReply => "different replies to one event",
            Self::Refused => "refused with another status than 503",
            Self::Unanswered => "never answered with 200",
            Self::Stream => "streams that got shorter, changed or did not end",
        }
    }
}

/// Counts of a load.
#[derive(Debug, Default)]
pub struct Counts {
    pub attempts: AtomicU64,
    pub cut: AtomicU64,
    pub refused: AtomicU64,
    pub repeats: AtomicU64,
}

/// A load.
#[derive(Debug)]
pub struct Load {
    nodes: Vec<SocketAddr>,
    pub(crate) accounts: Accounts,
    next: AtomicU64,
    end: u64,
    step: u64,
    pub(crate) pace: Pace,
    pub(crate) stop: AtomicBool,
    pub counts: Counts,
    answered: Mutex<BTreeMap<u64, Answered>>,
    pub(crate) ends: Mutex<BTreeMap<u64, End>>,
    wrong: Mutex<Vec<(Wrong, String)>>,
}

impl Load {
    pub fn new(nodes: Vec<SocketAddr>, serials: std::ops::Range<u64>, step: u64, pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            nodes,
            accounts: Accounts::default(),
            next: AtomicU64::new(serials.start),
            end: serials.end,
            step,
            pace,
            stop: AtomicBool::new(false),
            counts: Counts::default(),
            answered: Mutex::default(),
            ends: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    pub fn start(self: &Arc<Self>, runtime: &Runtime, connections: usize, seed: u64) -> Vec<JoinHandle<()>> {
        let connection = |number: usize| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(number as u64 + 1));
            runtime.spawn(Connection::new(Arc::clone(self), format!("o_{number}"), random).run())
        };
        (0..connections).map(connection).collect()
    }

    /// What has been begun is sent until it is answered.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Everything that was answered with 200.
    pub fn answered(&self) -> BTreeMap<u64, Answered> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers that were not right.
    pub fn wrong(&self) -> Vec<(Wrong, String)> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn complain(&self, wrong: Wrong, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push((wrong, what));
    }
}

/// A connection of the platform, which sends one delivery after the other.
pub(crate) struct Connection {
    pub(crate) load: Arc<Load>,
    /// Who writes, unless others do at the same time.
    pub(crate) subject: String,
    pub(crate) random: StdRng,
    open: Option<(SocketAddr, TcpStream)>,
}

impl Connection {
    pub(crate) const fn new(load: Arc<Load>, subject: String, random: StdRng) -> Self {
        Self { load, subject, random, open: None }
    }

    async fn run(mut self) {
        let load = Arc::clone(&self.load);
        while !load.stop.load(Ordering::Relaxed) {
            let serial = load.next.fetch_add(load.step, Ordering::Relaxed);
            if serial >= load.end {
                return;
            }
            let subject = match serial % SHARED {
                0 => format!("o_shared_{}", serial % 7),
                _ => self.subject.clone(),
            };
            self.answered(&Delivery::new(serial, subject)).await;
            let pause = self.random.random_range(0..=load.pace.pause);
            time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Sends a delivery until it is answered, and now and then once more; returns the reply in clear text.
    pub(crate) async fn answered(&mut self, delivery: &Delivery) -> Option<String> {
        let load = Arc::clone(&self.load);
        let reply = self.until_answered(delivery).await?;
        let answered = Answered { delivery: delivery.clone(), nanos: unix_nanos(), reply: reply.clone() };
        load.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.serial, answered);
        if self.random.random_ratio(1, REPEATED) {
            load.counts.repeats.fetch_add(1, Ordering::Relaxed);
            if let Some(again) = self.until_answered(delivery).await
                && again != reply
            {
                let what = format!("{}: first `{reply}`, then `{again}`", delivery.name());
                load.complain(Wrong::OtherReply, what);
            }
        }
        Some(reply)
    }

    /// The reply in clear text.
    async fn until_answered(&mut self, delivery: &Delivery) -> Option<String> {
        let load = Arc::clone(&self.load);
        let until = Instant::now() + DELIVERY_TIMEOUT;
        loop {
            load.counts.attempts.fetch_add(1, Ordering::Relaxed);
            let request = delivery.request(&load.accounts, self.random.random());
            match time::timeout(ATTEMPT_TIMEOUT, self.exchange(&request)).await {
                Ok(Ok((200, body))) => {
                    let reply = delivery.open_reply(&load.accounts, &body);
                    if reply.is_none() {
                        load.complain(Wrong::WithoutReply, format!("{}: not its reply: `{body}`", delivery.name()));
                    }
                    return reply;
                }
                Ok(Ok((503, _))) => drop(load.counts.refused.fetch_add(1, Ordering::Relaxed)),
                Ok(Ok((status, body))) => {
                    load.complain(Wrong::Refused, format!("{}: {status} `{body}`", delivery.name()));
                    return None;
                }
                Ok(Err(_)) | Err(_) => {
                    self.forget();
                    load.counts.cut.fetch_add(1, Ordering::Relaxed);
                }
            }
            if Instant::now() > until {
                load.complain(Wrong::Unanswered, format!("{}: not answered for {DELIVERY_TIMEOUT:?}", delivery.name()));
                return None;
            }
            let pause = self.random.random_range(load.pace.retry.clone());
            time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// The connection is of no use any more.
    pub(crate) fn forget(&mut self) {
        self.open = None;
    }

    /// Sends a request to some node; returns status and body.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, String)> {
        let node = self.load.nodes[self.random.random_range(0..self.load.nodes.len())];
        let mut stream = match self.open.take() {
            Some((open, stream)) if open == node => stream,
            _ => {
                let stream = TcpStream::connect(node).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        let answer = read_answer(&mut stream).await?;
        self.open = Some((node, stream));
        Ok(answer)
    }
}

async fn read_answer(stream: &mut TcpStream) -> io::Result<(u16, String)> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answer) = parse(&bytes) {
            return Ok(answer);
        }
    }
}

/// Status and body, once they are whole.
fn parse(bytes: &[u8]) -> Option<(u16, String)> {
    let (head, body) = std::str::from_utf8(bytes).ok()?.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = length.trim().parse().ok()?;
    Some((status, body.get(..length)?.to_owned()))
}

/// Sends some deliveries; returns whether all answers were right.
pub fn send(address: SocketAddr, first: u64, deliveries: u64, connections: usize) -> Result<bool, Failure> {
    let runtime = Runtime::new()?;
    // The even ones are plain: a trace shows what they are about.
    let first = first * 2;
    let load = Load::new(vec![address], first..first + deliveries * 2, 2, Pace { pause: 0, retry: QUICK_RETRY });
    let connections = load.start(&runtime, connections, first);
    runtime.block_on(async {
        for connection in connections {
            connection.await?;
        }
        Ok::<_, Failure>(())
    })?;
    load.wrong().iter().for_each(|(wrong, what)| eprintln!("{}: {what}", wrong.as_str()));
    println!("{} deliveries answered", load.answered().len());
    Ok(load.wrong().is_empty() && load.answered().len() as u64 == deliveries)
}
