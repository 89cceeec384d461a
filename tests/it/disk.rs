//! The disk makes trouble: what cannot be stored is not claimed, and the server goes on once it can.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, Hooks, RawEvent},
    replies::mp::Reply,
    server::Server,
};

use crate::support::{
    NOW, TestServer,
    server::{ACCOUNTS, IM, MP, PLAIN, text_message},
    wait_for,
};

const FRIENDS: &str = r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"a","From_Account":"a","FriendItem":[{"To_Account":"b"}],"AddType":"Add_Type_Both","ForceAddFlags":0}"#;

/// Bounds every wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the hooks of these tests have done.
#[derive(Clone, Default)]
struct Seen {
    runs: Arc<AtomicU32>,
    observed: Arc<AtomicU32>,
    /// The observer fails.
    failing: Arc<AtomicBool>,
}

impl Seen {
    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    fn observed(&self) -> u32 {
        self.observed.load(Ordering::SeqCst)
    }

    fn hooks(&self) -> Hooks {
        let (runs, seen) = (Arc::clone(&self.runs), self.clone());
        Hooks::default()
            .on(move |message: mp::TextMessage, _: Context| {
                runs.fetch_add(1, Ordering::SeqCst);
                async move { Ok(Reply::text(format!("echo: {}", message.content))) }
            })
            .observe_any("audit", "*", move |_: RawEvent, _: Context| {
                let seen = seen.clone();
                async move {
                    if seen.failing.load(Ordering::SeqCst) {
                        return Err("not now".into());
                    }
                    seen.observed.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            })
    }
}

async fn start(journal: &Path, more: &str, seen: &Seen) -> TestServer {
    TestServer::start_on(&format!("sqlite://{}", journal.display()), more, ACCOUNTS, seen.hooks()).await
}

/// Waits until `/readyz` has this status; gives what it says.
async fn readiness(server: &TestServer, status: u16) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = server.admin.get("/readyz").await;
        if answer.status == status {
            return answer.body;
        }
        assert!(Instant::now() < until, "/readyz is {answer:?} and not {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn text(server: &TestServer, id: u64, content: &str) -> (u16, String) {
    let answer = server.post("/mp/plain", &PLAIN.plain(&text_message(id, content), &format!("nonce{id}"))).await;
    (answer.status, answer.body)
}

/// Sends new messages until one is refused; gives the id of that one.
async fn until_refused(server: &TestServer, ids: std::ops::Range<u64>) -> u64 {
    for id in ids {
        match text(server, id, &"x".repeat(1500)).await {
            (200, _) => {}
            (503, body) => {
                assert!(body.contains("not_stored"), "{body}");
                return id;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("nothing was refused");
}

/// An observed command of IM that is asked once only gets its configured verdict.
async fn assert_verdict(server: &TestServer) {
    let answer = server.post("/im/chat", &IM.command("Sns.CallbackPrevFriendAdd", FRIENDS)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(r#"{"To_Account":"b","ResultCode":0,"ResultInfo":""}"#), "{}", answer.body);
}

async fn refusal_to_start(journal: &Path) -> String {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [journal]\nurl = \"sqlite://{}\"\n{ACCOUNTS}",
        journal.display()
    );
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    Server::bind(&config, Seen::default().hooks(), Clock::fixed(NOW)).await.unwrap_err().to_string()
}

/// A small disk; gone when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        assert!(
            std::env::var_os("ECHOSTR_TEST_DISK").is_none_or(|value| value != "required"),
            "mounting a tmpfs needs root and CAP_SYS_ADMIN"
        );
        eprintln!("skipped: mounting a tmpfs needs root and CAP_SYS_ADMIN");
        None
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn remount(&self, mode: &str) -> bool {
        let mount = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.0.path()).output();
        mount.is_ok_and(|output| output.status.success())
    }

    /// Leaves no room.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = fs::File::options().create(true).append(true).open(self.path("ballast")).unwrap();
        for size in [65_536, 4096, 512, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may not have let go of it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_claims_nothing_and_is_recovered_from() {
    let Some(disk) = SmallDisk::mount("4m") else { return };
    let seen = Seen::default();
    let server = start(&disk.path("echostr.db"), "", &seen).await;
    assert_eq!(text(&server, 1, "before").await.0, 200);
    let encrypted = |nonce: &str| MP.safe(&text_message(2, "encrypted"), nonce);
    let before = server.post("/mp/shop", &encrypted("n1")).await;
    assert!(before.status == 200 && MP.open_reply(&before.body).contains("echo: encrypted"), "{before:?}");
    disk.fill();
    let refused = until_refused(&server, 100..1100).await;
    readiness(&server, 503).await;
    assert_verdict(&server).await;
    assert_eq!(text(&server, refused, &"x".repeat(1500)).await.0, 503);
    // What is known needs no room. (In plain mode a signature that was used has to be stored, which takes some.)
    let runs = seen.runs();
    for nonce in ["n2", "n3"] {
        let again = server.post("/mp/shop", &encrypted(nonce)).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(MP.open_reply(&again.body), MP.open_reply(&before.body));
    }
    assert_eq!(seen.runs(), runs, "it was answered before");
    disk.make_room();
    readiness(&server, 200).await;
    let (status, body) = text(&server, refused, &"x".repeat(1500)).await;
    assert_eq!(status, 200);
    assert!(body.contains("echo: xxx"), "{body}");
    assert_eq!(seen.runs(), runs + 1, "it was not claimed, so its responder runs");
    assert!(text(&server, 1, "before").await.1.contains("echo: before"));
    assert_eq!(seen.runs(), runs + 1, "it was answered before");
    // All that was answered is observed: the first, those before the refused one, and that.
    let all = 2 + u32::try_from(refused - 100).unwrap() + 1;
    wait_for("the observer sees all that was stored", async || seen.observed() == all).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_made_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let refusal = refusal_to_start(&file.join("echostr.db")).await;
    assert!(refusal.contains(&*file.to_string_lossy()), "{refusal}");

    let Some(disk) = SmallDisk::mount("1m") else { return };
    assert!(disk.remount("ro"));
    let refusal = refusal_to_start(&disk.path("echostr.db")).await;
    assert!(refusal.contains(&*disk.path("echostr.db").to_string_lossy()), "{refusal}");
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("echostr.db");
    fs::write(&journal, "This is not a database, and long enough to be looked at. ".repeat(100)).unwrap();
    let refusal = refusal_to_start(&journal).await;
    assert!(refusal.contains(&*journal.to_string_lossy()) && refusal.contains("damaged"), "{refusal}");
}

#[tokio::test]
async fn a_journal_with_destroyed_pages_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
    let server = start(&journal, "", &seen).await;
    for id in 0..50 {
        assert_eq!(text(&server, id, &"x".repeat(1000)).await.0, 200);
    }
    assert!(server.stop().await.unwrap());
    let mut bytes = fs::read(&journal).unwrap();
    bytes[4096..].fill(0x5A);
    fs::write(&journal, bytes).unwrap();
    let refusal = refusal_to_start(&journal).await;
    assert!(refusal.contains(&*journal.to_string_lossy()) && refusal.contains("damaged"), "{refusal}");
}

/// Stores something, destroys the files while the server runs, and expects that nothing is claimed afterwards.
async fn destroyed_while_running(destroy: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
    let server = start(&journal, "", &seen).await;
    for id in 0..50 {
        assert_eq!(text(&server, id, &"x".repeat(1000)).await.0, 200);
    }
    wait_for("the observer sees all", async || seen.observed() == 50).await;
    destroy(&journal);
    assert_eq!(until_refused(&server, 100..200).await, 100);
    readiness(&server, 503).await;
    assert_verdict(&server).await;
    assert_eq!(server.admin.get("/healthz").await.status, 200);
    assert_eq!(text(&server, 9999, "after").await.0, 503);
    let stopped = tokio::time::timeout(PATIENCE, server.stop());
    stopped.await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_journal_that_is_cut_short_while_it_runs_takes_nothing_more() {
    destroyed_while_running(|journal| fs::File::options().write(true).open(journal).unwrap().set_len(0).unwrap()).await;
}

#[tokio::test]
async fn a_journal_that_is_replaced_while_it_runs_takes_nothing_more() {
    destroyed_while_running(|journal| {
        for end in ["", "-wal", "-shm"] {
            fs::rename(format!("{}{end}", journal.display()), format!("{}.away{end}", journal.display())).unwrap();
        }
        fs::write(journal, "").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_journal_takes_events_until_it_is_full_and_again_once_observers_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
    seen.failing.store(true, Ordering::SeqCst);
    let more = "max_size = \"1MiB\"\n[observers]\nbackoff = \"100ms..200ms\"\nmax_attempts = 1000\nconcurrency = 512";
    let server = start(&journal, more, &seen).await;
    let refused = until_refused(&server, 1..5001).await;
    assert!(refused > 100, "it takes what there is room for, and that are more than {refused} events");
    assert_eq!(readiness(&server, 503).await, "the journal is full\n");
    // What is known needs no room; the plain signature of a repeat is a new one.
    let again = server.post("/mp/plain", &PLAIN.plain(&text_message(1, &"x".repeat(1500)), "again")).await;
    assert!(again.status == 200 && again.body.contains("echo: xxx"), "{again:?}");
    // The bound is of the file, and a commit or two come on top.
    let size = fs::metadata(&journal).unwrap().len();
    assert!(size < 3 << 20, "{size}");
    assert_eq!(seen.observed(), 0);
    seen.failing.store(false, Ordering::SeqCst);
    readiness(&server, 200).await;
    let runs = seen.runs();
    assert_eq!(text(&server, refused, &"x".repeat(1500)).await.0, 200);
    assert_eq!(seen.runs(), runs + 1);
    let stored = u32::try_from(refused).unwrap();
    wait_for("the observer sees all that was stored", async || seen.observed() == stored).await;
}

#[tokio::test]
async fn a_journal_that_was_away_and_is_put_back_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
    let server = start(&journal, "", &seen).await;
    assert_eq!(text(&server, 1, "before").await.0, 200);
    for log in ["", "-wal"] {
        let (here, away) = (format!("{}{log}", journal.display()), folder.path().join("away"));
        fs::rename(&here, &away).unwrap();
        assert_eq!(text(&server, 2, "during").await.0, 503);
        readiness(&server, 503).await;
        fs::rename(&away, &here).unwrap();
        readiness(&server, 200).await;
    }
    assert_eq!(text(&server, 2, "during").await.0, 200);
    // A refused delivery may have had its responder run, or may not have come so far; none has claimed the event.
    assert!((2..=4).contains(&seen.runs()), "{}", seen.runs());
}

/// Cuts the log of a server that runs, at a place between the start and the end.
fn cut_log(journal: &Path, share: f64) {
    let log = fs::File::options().write(true).open(format!("{}-wal", journal.display())).unwrap();
    let length = log.metadata().unwrap().len();
    assert!(length > 0, "nothing to cut");
    log.set_len((length as f64 * share) as u64).unwrap();
}

#[tokio::test]
async fn a_log_that_is_cut_short_while_the_server_runs_takes_nothing_more() {
    for share in [0.0, 0.001, 0.5, 0.999] {
        destroyed_while_running(|journal| cut_log(journal, share)).await;
    }
}

#[tokio::test]
async fn a_log_that_is_cut_and_filled_up_again_takes_nothing_more() {
    destroyed_while_running(|journal| {
        let length = fs::metadata(format!("{}-wal", journal.display())).unwrap().len();
        cut_log(journal, 0.5);
        let log = fs::File::options().write(true).open(format!("{}-wal", journal.display())).unwrap();
        log.set_len(length).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_log_or_its_index_that_is_removed_or_replaced_takes_nothing_more() {
    for end in ["-wal", "-shm"] {
        destroyed_while_running(|journal| fs::remove_file(format!("{}{end}", journal.display())).unwrap()).await;
        destroyed_while_running(|journal| {
            let (file, copy) = (format!("{}{end}", journal.display()), format!("{}.copy", journal.display()));
            fs::copy(&file, &copy).unwrap();
            fs::rename(&copy, &file).unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn readiness_tells_of_a_cut_log_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
    let server = start(&journal, "", &seen).await;
    assert_eq!(text(&server, 1, "before").await.0, 200);
    wait_for("the observer sees it", async || seen.observed() == 1).await;
    cut_log(&journal, 0.0);
    assert!(readiness(&server, 503).await.contains("cannot store"), "the probe says why");
}

/// The messages that a new process finds in the journal: it has the files, and not the index that processes share.
fn stored(journal: &Path) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    for end in ["", "-wal"] {
        let _ = fs::copy(format!("{}{end}", journal.display()), folder.path().join(format!("copy{end}")));
    }
    let db = rusqlite::Connection::open(folder.path().join("copy")).unwrap();
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    // Of a log that was cut at its beginning not even the tables are left.
    let Ok(mut query) = db.prepare("SELECT payload FROM event") else { return Vec::new() };
    let payloads = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let number = |payload: &str| payload.split_once("<MsgId>")?.1.split_once('<')?.0.parse().ok();
    payloads.map(|payload| number(&payload.unwrap()).unwrap()).collect()
}

/// Whatever was answered 200 after the cut is found by the next process; most likely nothing was.
#[tokio::test]
async fn what_is_answered_after_the_log_was_cut_is_in_the_journal() {
    for (round, share) in [0.0, 0.3, 0.7, 0.97].into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, seen) = (folder.path().join("echostr.db"), Seen::default());
        let server = start(&journal, "", &seen).await;
        let cut = AtomicBool::new(false);
        let after = std::sync::Mutex::new(Vec::new());
        // Under load, so that the cut meets the writer at work.
        let senders = (0..16_u64).map(|sender| {
            let (server, journal, cut, after) = (&server, &journal, &cut, &after);
            async move {
                for number in 0..60 {
                    let (id, is_cut) = (sender * 1000 + number, cut.load(Ordering::SeqCst));
                    let (status, _) = text(server, id, &"x".repeat(700)).await;
                    if is_cut && status == 200 {
                        after.lock().unwrap().push(id);
                    }
                    if sender == 0 && number == 20 + round as u64 {
                        cut_log(journal, share);
                        cut.store(true, Ordering::SeqCst);
                    }
                }
            }
        });
        futures_util::future::join_all(senders).await;
        readiness(&server, 503).await;
        tokio::time::timeout(PATIENCE, server.stop()).await.expect("it stops").unwrap();
        let stored = stored(&journal);
        let lost: Vec<_> = after.into_inner().unwrap().into_iter().filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty(), "cut at {share}: {lost:?} were answered 200 and are not there");
    }
}
