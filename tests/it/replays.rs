//! A signed query that was used carries no other body: on no account with its token, on no node, after no restart.

use std::path::Path;

use echostr::hooks::Hooks;
use tempfile::TempDir;

use crate::support::{
    Answer, TestServer,
    platform::{Signed, WeChat},
    postgres::database,
    server::{ACCOUNTS, COMPAT, MP, OPEN, PLAIN, WECOM, text_message},
};

/// The time of every test, as it stands in a query.
const T: &str = "1735689600";

/// Accounts that share the token of one that takes clear text.
const SHARING: &str = r#"
[mp.plain2]
app_id = "wx0000000000000010"
token = "plainToken"
mode = "plain"
[miniprogram.plain3]
app_id = "wx0000000000000011"
token = "someToken"
token_previous = "plainToken"
mode = "plain"
[mp.sealed]
app_id = "wx0000000000000001"
token = "plainToken"
aes_key = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
[openplatform.sealed]
component_app_id = "wxcomponent0000001"
token = "plainToken"
aes_key = "openopenopenopenopenopenopenopenopenopenope"
[wecom.sealed]
corp_id = "ww0000000000000004"
token = "plainToken"
aes_key = "wecomwecomwecomwecomwecomwecomwecomwecomwec"
"#;

async fn start() -> TestServer {
    TestServer::start_with("", &format!("{ACCOUNTS}{SHARING}"), Hooks::default()).await
}

async fn start_in(folder: &Path) -> TestServer {
    TestServer::start_in(folder, SHARING, Hooks::default()).await
}

/// What an encrypted delivery of WeChat brings: both signatures.
fn both(platform: WeChat, id: u64, nonce: &str) -> Signed {
    let sealed = platform.safe(&text_message(id, "pay 1"), nonce);
    let signature = platform.sign(&[T, nonce]);
    Signed { query: format!("signature={signature}&{}", sealed.query), ..sealed }
}

/// Every way to write the plain query of this nonce, with a forged body.
fn forgeries(platform: WeChat, nonce: &str) -> Vec<Signed> {
    let signature = platform.sign(&[T, nonce]);
    let (first, rest) = nonce.split_at(1);
    let (begin, end) = T.split_at(9);
    [
        format!("signature={signature}&timestamp={T}&nonce={nonce}"),
        format!("nonce={nonce}&timestamp={T}&signature={signature}"),
        format!("x=y&signature={signature}&timestamp={T}&nonce={nonce}&openid=o"),
        format!("%73ignature={signature}&timestamp={T}&n%6Fnce={nonce}"),
        format!("signature={signature}&timestamp=%31735689600&nonce={nonce}"),
        format!("signature={signature}&timestamp={T}&nonce={nonce}&encrypt_type=raw"),
        format!("signature={signature}&timestamp={T}&nonce={nonce}&msg_signature="),
        format!("signature={signature}&timestamp={begin}&nonce={end}{nonce}"),
        format!("signature={signature}&timestamp={T}{first}&nonce={rest}"),
        format!("signature={signature}&timestamp={nonce}&nonce={T}"),
        format!("signature={}&timestamp={T}&nonce={nonce}", signature.to_uppercase()),
        format!("signature={signature}&signature={signature}&timestamp={T}&nonce={nonce}"),
    ]
    .map(|query| Signed { query, body: text_message(99, "pay 1000000") })
    .into()
}

fn is_refused(answer: &Answer, what: &str) {
    assert!(matches!(answer.status, 400 | 403), "{what}: {} {}", answer.status, answer.body);
}

async fn carries_nothing(server: &TestServer, path: &str, platform: WeChat, nonce: &str) {
    let forgeries = forgeries(platform, nonce);
    let answer = server.post(path, &forgeries[0]).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "replayed_query"), "{path} {nonce}");
    for forged in forgeries {
        is_refused(&server.post(path, &forged).await, &format!("{path}?{}", forged.query));
    }
}

const PLAIN_PATHS: [&str; 3] = ["/mp/plain", "/mp/plain2", "/miniprogram/plain3"];

#[tokio::test]
async fn a_plain_query_carries_no_other_body_on_an_account_with_the_same_token() {
    let server = start().await;
    for (number, path) in PLAIN_PATHS.into_iter().enumerate() {
        let nonce = format!("173568961{number}");
        assert_eq!(server.post(path, &PLAIN.plain(&text_message(1, "pay 1"), &nonce)).await.status, 200);
        for path in PLAIN_PATHS {
            carries_nothing(&server, path, PLAIN, &nonce).await;
        }
        // The same again is a repeat.
        assert_eq!(server.post(path, &PLAIN.plain(&text_message(1, "pay 1"), &nonce)).await.status, 200);
    }
}

/// The platform signs encrypted deliveries of WeChat in the other way, too, and that signature covers no body.
#[tokio::test]
async fn the_query_of_an_encrypted_delivery_carries_no_clear_text_on_any_account() {
    let server = start().await;
    let sealed = [
        ("/mp/sealed", WeChat { token: PLAIN.token, ..MP }),
        ("/openplatform/sealed", WeChat { token: PLAIN.token, ..OPEN }),
        ("/openplatform/sealed/wxauthorizer000001", WeChat { token: PLAIN.token, ..OPEN }),
        ("/wecom/sealed", WeChat { token: PLAIN.token, ..WECOM }),
    ];
    for (number, (path, platform)) in sealed.into_iter().enumerate() {
        let nonce = format!("173568961{number}");
        let message = both(platform, 1, &nonce);
        assert_eq!(server.post(path, &message).await.status, 200, "{path}");
        for path in PLAIN_PATHS {
            carries_nothing(&server, path, platform, &nonce).await;
        }
        assert_eq!(server.post(path, &message).await.status, 200, "{path}");
    }
    let message = both(COMPAT, 1, "1735689615");
    assert_eq!(server.post("/mp/compat", &message).await.status, 200);
    carries_nothing(&server, "/mp/compat", COMPAT, "1735689615").await;
}

#[tokio::test]
async fn the_query_of_a_url_check_carries_no_body() {
    let server = start().await;
    for (number, checked) in
        ["/mp/plain", "/miniprogram/plain3", "/mp/sealed", "/openplatform/sealed"].iter().enumerate()
    {
        let nonce = format!("173568961{number}");
        let target = format!("{checked}?{}&echostr=8315637468324", PLAIN.plain_query(T, &nonce));
        for _ in 0..2 {
            assert_eq!(server.http.get(&target).await.body, "8315637468324", "{checked}");
        }
        for path in PLAIN_PATHS {
            carries_nothing(&server, path, PLAIN, &nonce).await;
        }
    }
    let query = COMPAT.plain_query(T, "1735689615");
    assert_eq!(server.http.get(&format!("/mp/compat?{query}&echostr=1")).await.body, "1");
    carries_nothing(&server, "/mp/compat", COMPAT, "1735689615").await;
}

/// A query of an account whose token opens no clear text is the envelope's matter alone.
#[tokio::test]
async fn a_token_that_opens_no_clear_text_needs_no_guard() {
    let server = start().await;
    let query = MP.plain_query(T, "n");
    assert_eq!(server.http.get(&format!("/mp/shop?{query}&echostr=1")).await.body, "1");
    assert_eq!(server.post("/mp/shop", &both(MP, 1, "n")).await.status, 200);
    assert_eq!(server.post("/mp/shop", &both(MP, 2, "n")).await.status, 200);
}

/// Uses a query of each kind; says where each was used, with its keys and its nonce.
async fn use_some(server: &TestServer) -> Vec<(&'static str, WeChat, &'static str)> {
    let sealed = WeChat { token: PLAIN.token, ..MP };
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), "1735689611")).await.status, 200);
    assert_eq!(server.post("/mp/compat", &both(COMPAT, 2, "1735689612")).await.status, 200);
    assert_eq!(server.post("/mp/sealed", &both(sealed, 3, "1735689613")).await.status, 200);
    let check = format!("/mp/plain?{}&echostr=1", PLAIN.plain_query(T, "1735689614"));
    assert_eq!(server.http.get(&check).await.body, "1");
    // A repeat, with a query of its own.
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), "1735689615")).await.status, 200);
    vec![
        ("/mp/plain", PLAIN, "1735689611"),
        ("/mp/compat", COMPAT, "1735689612"),
        ("/mp/plain2", PLAIN, "1735689613"),
        ("/miniprogram/plain3", PLAIN, "1735689614"),
        ("/mp/plain", PLAIN, "1735689615"),
    ]
}

#[tokio::test]
async fn a_restart_forgets_no_query() {
    let folder = TempDir::new().unwrap();
    let server = start_in(folder.path()).await;
    let used = use_some(&server).await;
    assert!(server.stop().await.unwrap());
    let server = start_in(folder.path()).await;
    for (path, platform, nonce) in &used {
        carries_nothing(&server, path, *platform, nonce).await;
    }
    // The platform's repeat is none the worse, nor is its query after one more restart.
    let again = PLAIN.plain(&text_message(1, "pay 1"), "1735689616");
    assert_eq!(server.post("/mp/plain", &again).await.status, 200);
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), "1735689611")).await.status, 200);
    assert_eq!(server.post("/mp/compat", &both(COMPAT, 2, "1735689612")).await.status, 200);
    assert!(server.stop().await.unwrap());
    let server = start_in(folder.path()).await;
    for (path, platform, nonce) in used.into_iter().chain([("/mp/plain", PLAIN, "1735689616")]) {
        carries_nothing(&server, path, platform, nonce).await;
    }
}

/// Killed, not stopped: what was answered is on the disk.
#[tokio::test]
async fn a_killed_process_forgets_no_query_of_what_it_answered() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = start_in(folder.path()).await;
    for number in 0..20 {
        let nonce = format!("17356896{number:02}");
        let first = PLAIN.plain(&text_message(number, "pay 1"), &nonce);
        assert_eq!(server.post("/mp/plain", &first).await.status, 200);
        // The files as they are now are what the next process finds.
        let copy = copies.path().join(&nonce);
        std::fs::create_dir(&copy).unwrap();
        for file in ["journal.db", "journal.db-wal"] {
            std::fs::copy(folder.path().join(file), copy.join(file)).unwrap();
        }
        let next = start_in(&copy).await;
        carries_nothing(&next, "/mp/plain2", PLAIN, &nonce).await;
        assert_eq!(next.post("/mp/plain", &first).await.status, 200);
    }
}

/// What is over is removed, and what is not stays.
#[tokio::test]
async fn a_query_that_is_no_longer_fresh_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let db = || rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let rows = || db().query_row("SELECT count(*) FROM used_query", [], |row| row.get::<_, i64>(0)).unwrap();
    let server = start_in(folder.path()).await;
    for number in 0..3 {
        let nonce = format!("173568961{number}");
        assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(number, "a"), &nonce)).await.status, 200);
    }
    assert!(server.stop().await.unwrap());
    assert_eq!(rows(), 3);
    db().execute("UPDATE used_query SET until = 0 WHERE count <= 2", []).unwrap();
    let server = start_in(folder.path()).await;
    for (nonce, status) in [("1735689610", 200), ("1735689611", 200), ("1735689612", 403)] {
        let other = PLAIN.plain(&text_message(9, "other"), nonce);
        assert_eq!(server.post("/mp/plain", &other).await.status, status, "{nonce}");
    }
    for _ in 0..600 {
        if db().query_row("SELECT min(count) FROM used_query", [], |row| row.get::<_, i64>(0)).unwrap() == 3 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} rows are still there", rows());
}

/// A file of the version before, which knew nothing of it.
#[tokio::test]
async fn a_journal_of_the_version_before_goes_on() {
    let folder = TempDir::new().unwrap();
    let server = start_in(folder.path()).await;
    assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), "a")).await.status, 200);
    assert!(server.stop().await.unwrap());
    let db = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    db.execute_batch("DROP TABLE used_query; ALTER TABLE observer DROP COLUMN missing_since; PRAGMA user_version = 2")
        .unwrap();
    drop(db);
    for nonce in ["1735689611", "1735689612"] {
        let server = start_in(folder.path()).await;
        assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), nonce)).await.status, 200);
        assert!(server.stop().await.unwrap());
        let server = start_in(folder.path()).await;
        carries_nothing(&server, "/mp/plain", PLAIN, nonce).await;
        assert!(server.stop().await.unwrap());
    }
}

#[tokio::test]
async fn every_node_knows_what_a_query_was_used_for() {
    let Some(url) = database().await else { return };
    let accounts = format!("{ACCOUNTS}{SHARING}");
    let a = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    let b = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    let used = use_some(&a).await;
    for (path, platform, nonce) in &used {
        carries_nothing(&b, path, *platform, nonce).await;
    }
    // A forgery that was refused does not stand in the way of the platform.
    for server in [&b, &a] {
        assert_eq!(server.post("/mp/plain", &PLAIN.plain(&text_message(1, "pay 1"), "1735689611")).await.status, 200);
        assert_eq!(server.post("/mp/compat", &both(COMPAT, 2, "1735689612")).await.status, 200);
    }
    assert!(a.stop().await.unwrap());
    assert!(b.stop().await.unwrap());
    let c = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    for (path, platform, nonce) in used {
        carries_nothing(&c, path, platform, nonce).await;
    }
}

/// Of two bodies that come to two nodes at one time with one query, one is taken.
#[tokio::test]
async fn of_two_bodies_with_one_query_one_is_taken() {
    let Some(url) = database().await else { return };
    let accounts = format!("{ACCOUNTS}{SHARING}");
    let a = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    let b = TestServer::start_on(&url, "", &accounts, Hooks::default()).await;
    for number in 0..20 {
        let nonce = format!("both{number}");
        let (one, other) = (
            PLAIN.plain(&text_message(2 * number, "pay 1"), &nonce),
            PLAIN.plain(&text_message(2 * number + 1, "pay 1000000"), &nonce),
        );
        let (one, other) = tokio::join!(a.post("/mp/plain", &one), b.post("/mp/plain2", &other));
        let mut answers = [one.status, other.status];
        answers.sort_unstable();
        assert_eq!(answers, [200, 403], "{} {}", one.body, other.body);
    }
}
