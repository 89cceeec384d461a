//! A server of somebody else's as a process of our own: started, stopped, killed, and ended with the tests.

use std::{
    ffi::OsStr,
    fs::File,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

/// A program with its children, in a group of its own; killed when dropped.
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    running: Option<Child>,
}

impl Process {
    /// One that is not started yet, and writes to this file.
    pub fn new(program: &Path, log: &Path) -> Self {
        let (arguments, variables) = (Vec::new(), Vec::new());
        Self { program: program.to_owned(), arguments, variables, log: log.to_owned(), running: None }
    }

    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it. Whatever ends this process, a shell in the group kills the group then.
    pub fn start(&mut self) {
        assert!(self.running.is_none());
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let watch = "me=$1; shift; (while kill -0 $me 2>/dev/null; do sleep 1; done; kill -KILL -- -$$) \
                     </dev/null >/dev/null 2>&1 & exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", watch, "sh"]).arg(std::process::id().to_string()).arg(&self.program).args(&self.arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.running = Some(command.spawn().unwrap());
    }

    /// Sends a signal to all of it.
    pub fn signal(&self, name: &str) {
        let Some(running) = &self.running else { return };
        let group = format!("-{}", running.id());
        assert!(Command::new("kill").args(["-s", name, "--", &group]).status().unwrap().success());
    }

    /// Ends all of it at once, as a power failure would.
    pub fn kill(&mut self) {
        if self.running.is_none() {
            return;
        }
        self.signal("KILL");
        let _ = self.running.take().unwrap().wait();
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port for a server that cannot choose one by itself, and has to come back on the same one. The system gives none of these to
/// who asks for any.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    for _ in 0..10_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Where a program is, in one of these folders or `PATH`.
pub fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What a program prints, if it succeeds.
pub fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}
