//! A PostgreSQL of one's own, which can be taken away.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Failure, nodes::free_addresses};

/// Where Debian has the programs that are not in the path.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// The user that runs it when this program is run by root, as PostgreSQL refuses root.
const USER: &str = "postgres";

/// A database; stopped when dropped, if it is our own.
pub struct Postgres {
    url: String,
    own: Option<Instance>,
}

struct Instance {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    as_root: bool,
}

impl Postgres {
    /// The database that `ECHOSTR_CRASH_POSTGRES` names, or one of our own in `folder`.
    pub fn find(folder: &Path) -> Result<Self, Failure> {
        if let Ok(url) = std::env::var("ECHOSTR_CRASH_POSTGRES") {
            println!("the database of ECHOSTR_CRASH_POSTGRES is neither stopped nor restarted");
            return Ok(Self { url, own: None });
        }
        Self::start_in(folder)
    }

    /// One of our own in `folder`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start_in(folder: &Path) -> Result<Self, Failure> {
        let instance = Instance {
            programs: programs()?,
            data: folder.join("postgres"),
            port: free_addresses::<1>()?[0].port(),
            as_root: fs::metadata("/proc/self")?.uid() == 0,
        };
        fs::create_dir(&instance.data)?;
        if instance.as_root {
            // It has to come through to its own folder.
            succeed(Command::new("chmod").arg("711").arg(folder))?;
            succeed(Command::new("chown").arg(USER).arg(&instance.data))?;
        }
        instance.run("initdb", &["--username", USER, "--auth", "trust", "--no-locale", "--encoding", "UTF8"])?;
        instance.start()?;
        Ok(Self { url: url_at(instance.address()), own: Some(instance) })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, if it is our own.
    pub fn address(&self) -> Option<SocketAddr> {
        self.own.as_ref().map(Instance::address)
    }

    /// Whether it may be stopped.
    pub const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The first of its processes, if it is our own; the others descend from it.
    pub fn process(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.own.as_ref()?.data.join("postmaster.pid")).ok()?;
        pid.lines().next()?.trim().parse().ok()
    }

    /// The first column of a query's only row.
    ///
    /// # Errors
    /// When PostgreSQL, or its client, is not there or refuses it.
    pub fn ask(&self, query: &str) -> Result<String, Failure> {
        let program = programs()?.join("psql");
        let asked = Command::new(program).args(["-X", "-A", "-t", "-c", query, &self.url]).output()?;
        if asked.status.success() {
            Ok(String::from_utf8(asked.stdout)?.trim().to_owned())
        } else {
            Err(format!("{query}: {}", String::from_utf8_lossy(&asked.stderr)).into())
        }
    }

    /// Without a checkpoint: what is not durable is lost.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.own.as_ref().map_or(Ok(()), |it| it.control("restart", &["-m", "immediate", "-o", &it.options()]))
    }

    pub fn stop(&mut self) -> Result<(), Failure> {
        self.own.as_ref().map_or(Ok(()), |it| it.control("stop", &["-m", "immediate"]))
    }

    pub fn start(&mut self) -> Result<(), Failure> {
        self.own.as_ref().map_or(Ok(()), Instance::start)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The URL of a database of our own that is reached at this address.
pub fn url_at(address: SocketAddr) -> String {
    format!("postgres://{USER}@{address}/postgres")
}

impl Instance {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn options(&self) -> String {
        format!("-h 127.0.0.1 -p {} -k {}", self.port, self.data.display())
    }

    fn start(&self) -> Result<(), Failure> {
        self.control("start", &["-o", &self.options()])
    }

    fn control(&self, what: &str, more: &[&str]) -> Result<(), Failure> {
        let log = self.data.join("log").display().to_string();
        self.run("pg_ctl", &[&[what, "-w", "-s", "-l", &log], more].concat())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let program = self.programs.join(program);
        let mut command = if self.as_root {
            let mut command = Command::new("runuser");
            command.args(["-u", USER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // Not a pipe for what it prints: the server would keep it open.
        succeed(command.arg("-D").arg(&self.data).args(arguments).current_dir("/").stdout(std::process::Stdio::null()))
    }
}

/// The folder of the latest version.
fn programs() -> Result<PathBuf, Failure> {
    let versions = fs::read_dir(PROGRAMS).map_err(|failure| format!("PostgreSQL is not installed: {failure}"))?;
    let mut versions: Vec<PathBuf> =
        versions.map(|entry| Ok::<_, Failure>(entry?.path().join("bin"))).collect::<Result<_, _>>()?;
    versions.sort();
    versions.pop().ok_or_else(|| format!("no PostgreSQL in {PROGRAMS}").into())
}

fn succeed(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|failure| format!("{command:?}: {failure}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
