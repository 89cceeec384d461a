//! The program itself, as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Bounds every wait for a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// `echostr serve`, and what it logs; ended when dropped.
pub struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn serve(config: &Path) -> Self {
        Self::serve_with(config, &[])
    }

    /// The same, with these variables.
    pub fn serve_with(config: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
        command.arg("serve").env("ECHOSTR_CONFIG", config).env_remove("RUST_LOG").stderr(Stdio::piped());
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line)));
        Self { child, log }
    }

    /// The line that has all of this, once it is there.
    pub async fn says(&self, parts: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap().clone();
            if let Some(line) = log.iter().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.clone();
            }
            assert!(Instant::now() < until, "no line with {parts:?} in {log:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends it a signal, as in `-HUP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) -> bool {
        self.signal("-TERM");
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().success()).await.unwrap()
    }

    /// Where it listens: for deliveries, and for health and metrics.
    pub async fn addresses(&self) -> [SocketAddr; 2] {
        let line = self.says(&["listening on ", "health and metrics on "]).await;
        ["listening on ", "metrics on "].map(|before| {
            let rest = line.split_once(before).unwrap().1;
            rest.split([',', ' ']).next().unwrap().parse().unwrap()
        })
    }

    /// The most memory that it has had, in bytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
