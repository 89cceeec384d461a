//! The command line through the API of a running server: the same lines as on its journal.

use std::{
    io::BufRead as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{sync::mpsc, task, time};

use super::{
    Client, auth,
    read::{hooks, send},
};
use crate::support::{TestServer, until};

const SETTINGS: &str = "\n[observers]\nmax_attempts = 1\n";

async fn run(folder: &Path, token: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
    command.args(arguments).env("ECHOSTR_CONFIG", folder.join("echostr.toml")).env("ECHOSTR_ADMIN_TOKEN", token);
    task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What a command prints that must succeed.
async fn ok(folder: &Path, token: &str, arguments: &[&str]) -> String {
    let output = run(folder, token, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_the_same_over_the_api_as_on_the_journal() {
    let folder = TempDir::new().unwrap();
    let config = format!("[journal]\nurl = \"sqlite://{}\"\n", folder.path().join("journal.db").display());
    std::fs::write(folder.path().join("echostr.toml"), config).unwrap();
    let works = Arc::new(AtomicBool::new(false));
    let server = TestServer::start_in(folder.path(), SETTINGS, hooks(&works)).await;
    let api = Client::new(server.admin);
    send(&server, 1, &["one", "two", "fail", "four"]).await;
    until(async || api.get("/v1/dead").await["letters"].as_array().unwrap().len() == 4).await;
    let url = format!("http://{}/", server.admin.0);
    let id = api.get("/v1/events").await["events"][3]["id"].as_str().unwrap().to_owned();
    for arguments in [
        &["events", "ls"][..],
        &["events", "ls", "--json"],
        &["events", "ls", "--limit", "2", "--type", "mp.message.*"],
        &["events", "ls", "--limit", "0", "--text", "two", "--json"],
        &["events", "ls", "--state", "defaulted"],
        &["events", "show", &id],
        &["events", "show", &id, "--json"],
        &["dead", "ls"],
        &["dead", "ls", "--json", "--observer", "stock"],
        &["observers", "ls"],
        &["observers", "ls", "--json"],
    ] {
        let local = ok(folder.path(), "", arguments).await;
        let remote = ok(folder.path(), "", &[arguments, &["--url", &url]].concat()).await;
        assert_eq!(local, remote, "{arguments:?}");
        assert!(!local.is_empty(), "{arguments:?}");
    }
    works.store(true, Ordering::SeqCst);
    let letter = format!("{id}/stock");
    let replayed = ok(folder.path(), "", &["dead", "replay", &letter, "--url", &url]).await;
    assert_eq!(replayed, "queued 1 dead letter again\n");
    assert_eq!(
        ok(folder.path(), "", &["dead", "drop", "--text", "two", "--url", &url]).await,
        "removed 1 dead letter\n"
    );
    assert_eq!(
        ok(folder.path(), "", &["dead", "replay", "--all", "--url", &url]).await,
        "queued 2 dead letters again\n"
    );
    let replayed = ok(folder.path(), "", &["events", "replay", "--all", "--observer", "audit", "--url", &url]).await;
    assert!(replayed.starts_with("queued 4 events again;"), "{replayed}");
    let missing = run(folder.path(), "", &["events", "replay", "--all", "--observer", "nobody", "--url", &url]).await;
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("unknown observer `nobody`; expected one of audit, stock")
    );

    // `tail` goes on with what comes.
    let mut tail = Command::new(env!("CARGO_BIN_EXE_echostr"));
    tail.args(["events", "tail", "--json", "--url", &url]).stdout(Stdio::piped());
    let mut tail = Ended(tail.spawn().unwrap());
    let (tell, mut lines) = mpsc::unbounded_channel();
    let stdout = std::io::BufReader::new(tail.0.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| _ = tell.send(line)));
    let mut next = async || {
        let line = time::timeout(Duration::from_secs(60), lines.recv()).await.expect("a line").expect("a line");
        serde_json::from_str::<Json>(&line).unwrap()["data"]["Content"].as_str().unwrap().to_owned()
    };
    for expected in ["one", "two", "fail", "four"] {
        assert_eq!(next().await, expected);
    }
    send(&server, 10, &["five"]).await;
    assert_eq!(next().await, "five");
    assert!(server.stop().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_what_went_wrong_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("echostr.toml"), "[journal]\nurl = \"memory:\"\n").unwrap();
    let server = auth::start("token = \"adminTokenOfSomeLength\"", hooks(&Arc::default())).await;
    let (url, callbacks) = (format!("http://{}", server.admin.0), format!("http://{}", server.http.0));
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let tls = url.replace("http:", "https:");
    for (token, url, parts) in [
        ("", &*url, &["401", "ECHOSTR_ADMIN_TOKEN", "--token"][..]),
        ("wrong", &url, &["401", "ECHOSTR_ADMIN_TOKEN"]),
        ("", &closed, &["Connection refused", "is the server running"]),
        ("", &callbacks, &["404", "is this the admin listener"]),
        ("", "http://no-such-host.invalid", &["dns error", "check its spelling"]),
        ("", "127.0.0.1:9180", &["--url must be", "http://127.0.0.1:9180"]),
        ("", &tls, &[&tls, "error sending request: ", "it answers without TLS", "use http://"]),
    ] {
        let output = run(folder.path(), token, &["events", "ls", "--url", url]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.lines().count() == 1, "{url}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{url} {parts:?}: {error}");
    }
    let listed = ok(folder.path(), "adminTokenOfSomeLength", &["observers", "ls", "--url", &url]).await;
    assert!(listed.contains("audit"), "{listed}");
}
