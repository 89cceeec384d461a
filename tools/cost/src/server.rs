//! The server under test: a child process, whose CPU time and memory `/proc` reports, and the connection to it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, targets};

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take. The dearest body ever found took 40 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A directory for the configuration and the log of the servers; removed when dropped.
pub(crate) struct Workspace(PathBuf);

impl Workspace {
    pub(crate) fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("echostr-cost-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What one delivery cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) status: u16,
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    connection: Option<TcpStream>,
}

impl Server {
    /// The server as it is released, with the accounts of the targets and the demo handlers.
    pub(crate) fn start(program: &Path, workspace: &Workspace) -> Result<Self, Failure> {
        // Both are taken until both are known, else they may be the same.
        let taken = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let (address, admin) = (taken.0.local_addr()?, taken.1.local_addr()?);
        drop(taken);
        let (config, log) = (workspace.0.join("echostr.toml"), workspace.0.join("server.log"));
        fs::write(&config, targets::config(address, admin))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&config).env("TOKIO_WORKER_THREADS", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let child = command.spawn().map_err(|failure| format!("cannot start {command:?}: {failure}"))?;
        let mut server = Self { child, address, connection: None };
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{command:?} ended: {status}\n{log}").into());
            }
            if Instant::now() > until {
                return Err(format!("{command:?} does not listen on {address}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Posts a body, and returns the CPU time that the server took for it.
    pub(crate) fn deliver(&mut self, target: &str, body: &str) -> Result<Cost, Failure> {
        let before = self.settled_cpu()?;
        let status = match self.send(target, body) {
            Ok(status) => status,
            // The server closes what is idle for long; a delivery that it did not answer is sent again once.
            Err(_) => {
                self.connection = None;
                self.send(target, body).map_err(|failure| format!("no answer of the server: {failure}"))?
            }
        };
        Ok(Cost { cpu: self.settled_cpu()?.saturating_sub(before), status })
    }

    fn send(&mut self, target: &str, body: &str) -> std::io::Result<u16> {
        if self.connection.is_none() {
            let connection = TcpStream::connect(self.address)?;
            connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            connection.set_nodelay(true)?;
            self.connection = Some(connection);
        }
        let Some(connection) = &mut self.connection else { return Err(std::io::ErrorKind::NotConnected.into()) };
        let head = format!("POST {target} HTTP/1.1\r\nHost: cost\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all(head.as_bytes())?;
        connection.write_all(body.as_bytes())?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            if let Some((status, whole)) = answer(&bytes)
                && bytes.len() >= whole
            {
                return Ok(status);
            }
            match connection.read(&mut buffer)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The CPU time of its threads, once they are at rest.
    fn settled_cpu(&self) -> Result<Duration, Failure> {
        let mut last = self.cpu()?;
        for _ in 0..2_000 {
            thread::sleep(Duration::from_micros(300));
            let now = self.cpu()?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).ok_or("no CPU time")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The most memory that it has held at one time, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of an answer whose head is there, and its length with the head.
fn answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some((status, end + length))
}
