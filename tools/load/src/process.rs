//! The servers: child processes on a core of their own, whose CPU time and memory `/proc` tells.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crash::nodes::free_addresses;

use crate::{Failure, cases};

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// On the first core; the script runs this program on another one.
    First,
    /// Wherever the system likes.
    Any,
}

impl Core {
    /// The first core, where there is another one, and the tool to choose.
    pub(crate) fn of_server() -> Self {
        let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let several = cores.matches("processor\t").count() > 1;
        let can = Command::new("taskset").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
        if several && can { Self::First } else { Self::Any }
    }

    fn command(self, program: &Path) -> Command {
        match self {
            Self::First => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(program);
                command
            }
            Self::Any => Command::new(program),
        }
    }
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "server on core 0",
            Self::Any => "server on any core: expect noise",
        })
    }
}

/// A directory for the configuration and the logs of the servers; removed when dropped.
pub(crate) struct Workspace(PathBuf);

impl Workspace {
    pub(crate) fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("echostr-load-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Workspace {
    /// A folder that is new.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.0.join(name.replace(' ', "-"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The URL of a journal: `sqlite` is a new file each time.
    pub(crate) fn journal(&self, name: &str) -> Result<String, Failure> {
        if name == "sqlite" { self.sqlite() } else { Ok(name.to_owned()) }
    }

    /// A SQLite journal in a folder that is new each time.
    pub(crate) fn sqlite(&self) -> Result<String, Failure> {
        let folder = self.folder("journal")?;
        Ok(format!("sqlite://{}", folder.join("echostr.db").display()))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server; ended when dropped.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// The server as it is released, with the accounts of the cases and the demo handlers; a journal, and its `memory_limit`.
    pub(crate) fn echostr(
        program: Option<&Path>,
        workspace: &Workspace,
        core: Core,
        (journal, memory_limit): (&str, Option<&str>),
    ) -> Result<Self, Failure> {
        let program = program.map_or_else(|| beside("echostr"), |path| Ok(path.to_owned()))?;
        let [address, admin] = free_addresses()?;
        let log = workspace.0.join("server.log");
        let config = workspace.0.join("echostr.toml");
        fs::write(&config, cases::config(address, admin, journal, memory_limit))?;
        let mut command = core.command(&program);
        command.arg("serve").arg("--config").arg(&config).stderr(fs::File::create(&log)?);
        if core == Core::First {
            command.env("TOKIO_WORKER_THREADS", "1");
        }
        Self::start(command, address)
            .map_err(|failure| format!("{failure}\n{}", fs::read_to_string(&log).unwrap_or_default()).into())
    }

    /// The server as it is released, with a configuration of its own.
    pub(crate) fn configured(
        program: Option<&Path>,
        workspace: &Workspace,
        address: SocketAddr,
        config: &str,
    ) -> Result<Self, Failure> {
        let program = program.map_or_else(|| beside("echostr"), |path| Ok(path.to_owned()))?;
        let file = workspace.0.join("echostr.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&file).stderr(Stdio::null());
        Self::start(command, address)
    }

    /// The bare server, with a constant answer of `size` bytes.
    pub(crate) fn bare(path: &str, size: usize, core: Core) -> Result<Self, Failure> {
        let [address] = free_addresses()?;
        let mut command = core.command(&beside("load")?);
        command.args(["--bare", &address.to_string(), "--path", path, "--size", &size.to_string()]);
        Self::start(command, address)
    }

    /// The server whose responders wait: see `bin/slow.rs`.
    pub(crate) fn slow(workspace: &Workspace) -> Result<Self, Failure> {
        let [address, admin] = free_addresses()?;
        let config = workspace.0.join("slow.toml");
        fs::write(&config, cases::config(address, admin, cases::NO_JOURNAL, None))?;
        let mut command = Command::new(beside("slow")?);
        command.arg(&config);
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> Result<Self, Failure> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|failure| format!("cannot start {command:?}: {failure}"))?;
        let mut process = Self { child, address };
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{command:?} ended: {status}").into());
            }
            if Instant::now() > until {
                return Err(format!("{command:?} does not listen on {address}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The CPU time that its threads have used.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.child.id())
    }

    /// The memory it holds, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64, Failure> {
        self.status_mib("VmRSS:")
    }

    /// The most memory that it has ever held, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64, Failure> {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, name: &str) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that was built to write a profile does that when it ends by itself.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let until = Instant::now() + STOP_TIMEOUT;
        while asked.is_ok() && matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time that the threads of a process have used. `/proc/PID/stat` has the same in steps of 10 ms only.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, Failure> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).ok_or("no CPU time")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The CPU time that a process and those that descend from it have used, by process.
pub(crate) fn cpu_of_family(first: u32) -> Result<BTreeMap<u32, Duration>, Failure> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The name of the program, in parentheses, may have spaces.
        let parent = fs::read_to_string(format!("/proc/{process}/stat"))
            .ok()
            .and_then(|text| text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.insert(process, parent.unwrap_or_default());
    }
    let descends = |process: &u32| {
        let mut at = Some(process);
        while let Some(process) = at.filter(|process| **process != first) {
            at = parents.get(process);
        }
        at.is_some()
    };
    // One that has ended meanwhile counts nothing.
    Ok(parents
        .keys()
        .filter(|process| descends(process))
        .filter_map(|process| Some((*process, cpu_of(*process).ok()?)))
        .collect())
}

/// A program of the same build.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
