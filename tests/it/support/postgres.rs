//! A PostgreSQL of our own: one instance for the test run, a fresh database for each test.
//!
//! Without the programs of PostgreSQL the tests that need it are skipped, unless `ECHOSTR_TEST_POSTGRES=required`.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time;

/// An instance that is ended with the process that started it.
pub struct Instance {
    folder: TempDir,
    bin: PathBuf,
    pub port: u16,
    /// Settings of the next start.
    pub settings: Vec<String>,
    server: Option<Child>,
}

/// The tables of each released version before this one.
pub const RELEASED: [&str; 4] = [
    include_str!("../fixtures/journals/postgres-1.sql"),
    include_str!("../fixtures/journals/postgres-2.sql"),
    include_str!("../fixtures/journals/postgres-3.sql"),
    include_str!("../fixtures/journals/postgres-4.sql"),
];

/// The one that the tests share. A static is never dropped; `guarded` ends it with the process.
static SHARED: LazyLock<Option<Instance>> = LazyLock::new(Instance::start);

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a fresh database; `None` where PostgreSQL is not installed.
pub async fn database() -> Option<String> {
    let instance = tokio::task::spawn_blocking(|| SHARED.as_ref()).await.unwrap()?;
    Some(instance.database().await)
}

impl Instance {
    /// Starts one; `None` where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let Some(bin) = programs() else {
            let required = std::env::var("ECHOSTR_TEST_POSTGRES").is_ok_and(|value| value == "required");
            assert!(!required, "PostgreSQL is required, and not installed");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        if let Some((user, group)) = somebody() {
            chown(&data, Some(user), Some(group)).unwrap();
        }
        let made = as_somebody(&bin.join("initdb"))
            .args(["--auth=trust", "--username=echostr", "--encoding=UTF8", "--no-locale", "-D"])
            .arg(&data)
            .current_dir(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut instance = Self { folder, bin, port, settings: Vec::new(), server: None };
        instance.resume();
        Some(instance)
    }

    /// A copy that follows it, and accepts no writes.
    pub fn standby(&self) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((user, group)) = somebody() {
            chown(&data, Some(user), Some(group)).unwrap();
        }
        let copied = as_somebody(&self.bin.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "echostr", "-c", "fast", "-R", "-D"])
            .arg(&data)
            .current_dir(&data)
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut standby = Self { folder, bin: self.bin.clone(), port, settings: Vec::new(), server: None };
        standby.resume();
        standby
    }

    /// Waits until it has everything that the other one has.
    pub async fn catch_up(&self, other: &Self) {
        self.until_ready().await;
        let query = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
        let end = count(&other.url("postgres"), query).await;
        let received = "SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint";
        for _ in 0..600 {
            if count(&self.url("postgres"), received).await >= end {
                return;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the standby does not follow");
    }

    /// It follows no longer.
    pub async fn part(&self) {
        let url = self.url("postgres");
        assert!(execute(&url, "ALTER SYSTEM SET primary_conninfo = ''").await);
        assert!(execute(&url, "SELECT pg_reload_conf()").await);
        for _ in 0..600 {
            if count(&url, "SELECT count(*) FROM pg_stat_wal_receiver").await == 0 {
                return;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the standby still follows");
    }

    /// It accepts writes from now on.
    pub async fn promote(&self) {
        assert!(execute(&self.url("postgres"), "SELECT pg_promote()").await);
    }

    /// The folder of the data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file that only the server can read, as it wants its keys.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = somebody() {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path.display().to_string()
    }

    /// Starts the server on what is there.
    pub fn resume(&mut self) {
        let data = self.data();
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let server = guarded(&self.bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"])
            .arg(&data)
            .args(["-c", "max_connections=400", "-c", "shared_buffers=32MB"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .current_dir(&data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.server = Some(server.unwrap());
    }

    /// Stops the server at once; connections break.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // One that has just been started ignores the first.
        while server.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-INT", &server.id().to_string()]).status();
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://echostr@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by the socket in the folder of the data.
    pub fn socket(&self, database: &str) -> String {
        let folder = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://echostr@{folder}:{}/{database}", self.port)
    }

    /// Waits until it answers.
    pub async fn until_ready(&self) {
        for _ in 0..300 {
            if execute(&self.socket("postgres"), "").await {
                return;
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no PostgreSQL: {}", fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// The URL of a fresh database.
    pub async fn database(&self) -> String {
        let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        for _ in 0..300 {
            if execute(&self.url("postgres"), &format!("CREATE DATABASE {name}")).await {
                return self.url(&name);
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no PostgreSQL: {}", fs::read_to_string(self.folder.path().join("log")).unwrap());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a statement; says whether that was possible.
pub async fn execute(url: &str, statement: &str) -> bool {
    let Ok((client, driver)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await else { return false };
    let driver = tokio::spawn(driver);
    let done = client.batch_execute(statement).await.is_ok();
    drop(client);
    let _ = driver.await;
    done
}

/// A client that stays connected.
pub async fn client(url: &str) -> tokio_postgres::Client {
    let (client, driver) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// The number that a query returns.
pub async fn count(url: &str, query: &str) -> i64 {
    client(url).await.query_one(query, &[]).await.unwrap().get(0)
}

/// Holds every admission where its statement runs, until it is released.
pub struct Gate {
    url: String,
    client: tokio_postgres::Client,
}

impl Gate {
    pub async fn close(url: &str) -> Self {
        let client = client(url).await;
        let text = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
                        'BEGIN IF NEW.account LIKE ''mp/%'' THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; RETURN NEW; END';
                    CREATE TRIGGER gate BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION gate();
                    SELECT pg_advisory_lock(7)";
        client.batch_execute(text).await.unwrap();
        Self { url: url.to_owned(), client }
    }

    /// How many statements wait.
    pub async fn waiting(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
                     WHERE datname = current_database() AND locktype = 'advisory' AND objid = 7 AND NOT granted";
        count(&self.url, query).await
    }

    pub async fn open(self) {
        self.client.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    }
}

/// The folder of the programs, of the newest version there is.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = found.into_iter().rev().chain(std::env::split_paths(&path));
    folders.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// User and group that PostgreSQL runs as where the tests run as root, which it refuses.
pub fn somebody() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    root.then_some((65534, 65534))
}

fn as_somebody(program: &Path) -> Command {
    let Some((user, group)) = somebody() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]).arg(program);
    command
}

/// A program that is told to end when this process ends, however it does. The thread that starts it may end before.
fn guarded(program: &Path) -> Command {
    let inner = as_somebody(program);
    let mut command = Command::new("sh");
    let watch = "me=$1; shift; trap 'kill -INT $server 2>/dev/null' INT TERM; \"$@\" & server=$!; \
                 (while kill -0 $me 2>/dev/null && kill -0 $server 2>/dev/null; do sleep 1; done; \
                 kill -INT $server 2>/dev/null) & \
                 while kill -0 $server 2>/dev/null; do wait $server; done";
    command.args(["-c", watch, "sh"]).arg(std::process::id().to_string());
    command.arg(inner.get_program()).args(inner.get_args());
    command
}
