//! The servers, which are killed and started again, on the same ports.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use echostr::config::Config;

use crate::{Failure, deliveries};

/// How long a server may take until it is ready, and until it has stopped.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server; killed when dropped.
pub struct Node {
    address: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
    effects: PathBuf,
    log: PathBuf,
    program: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A server that is not started yet. Its files are in `folder`, what its handlers append in `effects`.
    pub fn new(folder: &Path, effects: &Path, number: u16, journal: &str) -> Result<Self, Failure> {
        Self::with_config(folder, effects, number, |address, admin| deliveries::config(address, admin, journal))
    }

    /// The same, with this configuration.
    pub fn with_config(
        folder: &Path,
        effects: &Path,
        number: u16,
        config_of: impl FnOnce(SocketAddr, SocketAddr) -> String,
    ) -> Result<Self, Failure> {
        let [address, admin] = free_addresses()?;
        let config = folder.join(format!("node-{number}.toml"));
        fs::write(&config, config_of(address, admin))?;
        let log = folder.join(format!("node-{number}.log"));
        let program = std::env::current_exe()?;
        Ok(Self { address, admin, config, effects: effects.to_owned(), log, program, child: None })
    }

    /// The same, run by another build of a program that can `serve` so.
    #[must_use]
    pub fn run_by(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config)?)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn start(&mut self) -> Result<(), Failure> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(&self.config).arg("--effects").arg(&self.effects);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    /// Waits until it takes deliveries.
    pub fn ready(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + START_TIMEOUT;
        while !is_ready(self.admin) {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                return Err(format!("a server ended: {status}\n{}", self.log()).into());
            }
            if Instant::now() > until {
                return Err(format!("a server is not ready\n{}", self.log()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// `kill -9`
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// `kill`, and what it ended with.
    pub fn stop(&mut self) -> Result<ExitStatus, Failure> {
        let mut child = self.child.take().ok_or("the server does not run")?;
        let signalled = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until || !signalled.success() {
                child.kill()?;
                child.wait()?;
                return Err(format!("a server did not stop\n{}", self.log()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok::<_, io::Error>(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Ports that were free a moment ago, on the loopback interface.
pub fn free_addresses<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    // Taken until all are known, else two may be the same.
    let listeners = addresses.map(TcpListener::bind);
    for (address, listener) in addresses.iter_mut().zip(listeners) {
        *address = listener?.local_addr()?;
    }
    Ok(addresses)
}
