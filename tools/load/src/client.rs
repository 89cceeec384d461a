//! The load: keep-alive connections with one request at a time, on one thread, as cheap as it can be so that the server
//! is what is measured.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::LocalSet,
    time,
};

use crate::{
    Failure,
    cases::{Batch, Case},
    process::Process,
};

/// How long a round may take, whatever happens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request of a round takes at most, on average, before the round is given up.
const SLOWEST: Duration = Duration::from_millis(10);

/// The status of every answer is checked, and the body of one of this many.
const SAMPLE: usize = 512;

/// Connections that stay open from round to round.
pub(crate) struct Client {
    runtime: Runtime,
    connections: Vec<TcpStream>,
}

/// What one round has shown.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    requests: usize,
    took: Duration,
    /// What the server used in that time.
    cpu: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
    /// Answers that were not 200, or a sample that was not right.
    pub(crate) wrong: usize,
    /// Size of the last answer's body.
    pub(crate) answer: usize,
}

impl Round {
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// The part of the time that the server was busy. Far from 1, the load was too slow to measure anything: an idle server
    /// goes to sleep between two requests, which costs it more than it saves.
    pub(crate) fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64()
    }

    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }
}

/// What the connections of a round share.
struct Shared {
    batch: Rc<Batch>,
    case: Option<Case>,
    requests: usize,
    /// Deliveries a second; without it each connection sends as soon as it can.
    rate: Option<u32>,
    started: Instant,
    next: Cell<usize>,
    latencies: RefCell<Vec<Duration>>,
    wrong: Cell<usize>,
    answer: Cell<usize>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, connections: usize) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connections = runtime.block_on(async {
            let mut open = Vec::with_capacity(connections);
            for _ in 0..connections {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                open.push(stream);
            }
            Ok::<_, std::io::Error>(open)
        })?;
        Ok(Self { runtime, connections })
    }

    /// Sends `requests` requests of a batch, over and over when it has fewer; checks answers to a case.
    pub(crate) fn run(
        &mut self,
        server: &Process,
        case: Option<&Case>,
        batch: &Rc<Batch>,
        requests: usize,
    ) -> Result<Round, Failure> {
        self.run_at(server, case, batch, requests, None)
    }

    /// The same at a rate: request `n` is due `n / rate` seconds after the start, and late when every connection is busy.
    pub(crate) fn run_at(
        &mut self,
        server: &Process,
        case: Option<&Case>,
        batch: &Rc<Batch>,
        requests: usize,
        rate: Option<u32>,
    ) -> Result<Round, Failure> {
        let limit = ANSWER_TIMEOUT + rate.map_or(SLOWEST * requests as u32, |rate| due(requests, rate));
        let cpu = server.cpu()?;
        let shared = Rc::new(Shared {
            batch: Rc::clone(batch),
            case: case.cloned(),
            requests,
            rate,
            started: Instant::now(),
            next: Cell::new(0),
            latencies: RefCell::new(Vec::with_capacity(requests)),
            wrong: Cell::new(0),
            answer: Cell::new(0),
        });
        let connections = std::mem::take(&mut self.connections);
        self.connections = self.runtime.block_on(LocalSet::new().run_until(async {
            let work = connections.into_iter().map(|stream| tokio::task::spawn_local(send(stream, Rc::clone(&shared))));
            let work: Vec<_> = work.collect();
            let mut connections = Vec::with_capacity(work.len());
            for work in work {
                connections.push(time::timeout(limit, work).await.map_err(|_| "a round takes too long")???);
            }
            Ok::<_, Failure>(connections)
        }))?;
        let (took, cpu) = (shared.started.elapsed(), server.cpu()?.saturating_sub(cpu));
        let mut latencies = shared.latencies.take();
        latencies.sort_unstable();
        let per_mille = |part: usize| latencies.get(latencies.len() * part / 1000).copied().unwrap_or_default();
        Ok(Round {
            requests,
            took,
            cpu,
            p50: per_mille(500),
            p99: per_mille(990),
            p999: per_mille(999),
            max: latencies.last().copied().unwrap_or_default(),
            wrong: shared.wrong.get(),
            answer: shared.answer.get(),
        })
    }
}

/// When a request is due, after the start.
fn due(number: usize, rate: u32) -> Duration {
    Duration::from_secs_f64(number as f64 / f64::from(rate))
}

/// One connection: the next unsent request, until there is none.
async fn send(mut stream: TcpStream, shared: Rc<Shared>) -> Result<TcpStream, Failure> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let number = shared.next.get();
        if number >= shared.requests {
            return Ok(stream);
        }
        shared.next.set(number + 1);
        let started = match shared.rate {
            None => Instant::now(),
            Some(rate) => {
                let due = shared.started + due(number, rate);
                // A timer of the runtime has steps of a millisecond; the core is this program's own.
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                due
            }
        };
        stream.write_all(shared.batch.request(number)).await?;
        let (status, body) = read_answer(&mut stream, &mut buffer).await?;
        shared.latencies.borrow_mut().push(started.elapsed());
        shared.answer.set(body.len());
        let checked = shared.case.as_ref().filter(|_| number.is_multiple_of(SAMPLE));
        if status != 200 || checked.is_some_and(|case| !case.is_right(shared.batch.serial(number), body)) {
            shared.wrong.set(shared.wrong.get() + 1);
        }
    }
}

/// Reads one answer; both servers tell the length of theirs.
async fn read_answer<'b>(stream: &mut TcpStream, buffer: &'b mut [u8]) -> Result<(u16, &'b [u8]), Failure> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed a connection, or its answer is too long".into());
        }
        filled += read;
        if let Some((status, head, length)) = parse_head(&buffer[..filled])?
            && filled >= head + length
        {
            return Ok((status, &buffer[head..head + length]));
        }
    }
}

/// Status, length of the head, length of the body; `None` while the head is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, Failure> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let length = lengths.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, length)| length.trim().parse().ok()).ok_or("an answer without a length")?;
    Ok(Some((status, end + END.len(), length)))
}
