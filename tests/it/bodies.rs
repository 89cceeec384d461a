//! Bodies that anybody can send: how much memory they get, and which are not read at all.

use echostr::hooks::Hooks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Answer, Log, TestServer,
    http::read_answer,
    platform::WeChat,
    server::{ACCOUNTS, BOT, COMPAT, IM, KF, MINI, MP, OPEN, PLAIN, SUITE, WECOM, text_message},
    until,
};

/// The time of every test, as it stands in a query, and a time too long ago.
const T: &str = "1735689600";
const STALE: &str = "1735680000";

/// No body that is slow ends by itself within the time of a test.
const TIGHT: &str = "body_limit = \"256KiB\"\nbody_memory = \"1MiB\"\nbody_timeout = \"300s\"";

const HELD: &str = "echostr_body_memory_bytes";

/// The head of a POST, up to its framing.
fn head(target: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: test\r\n")
}

/// A request that anybody can make: its signature covers the body, so only the whole body tells that it is wrong.
fn unsigned() -> String {
    head(&format!("/wecom/sales?msg_signature={}&timestamp={T}&nonce=n", "0".repeat(40)))
}

/// A delivery of a text of about this length, as head and body.
fn text(id: u64, length: usize) -> (String, String) {
    let signed = PLAIN.plain(&text_message(id, &"a".repeat(length)), &format!("n{id}"));
    (head(&format!("/mp/plain?{}", signed.query)), signed.body)
}

/// Sends a body of known length in two pieces.
async fn in_two(server: &TestServer, (head, body): &(String, String)) -> Answer {
    let mut stream = server.http.open(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await;
    for piece in body.as_bytes().chunks(body.len() / 2 + 1) {
        // Many turns of the runtime: the head is read long before.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let _ = stream.write_all(piece).await;
    }
    read_answer(&mut stream).await.unwrap()
}

/// Sends a body in chunks of this size.
async fn in_chunks(server: &TestServer, (head, body): &(String, String), size: usize) -> Answer {
    let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.as_bytes().chunks(size) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    server.http.send(&request).await
}

async fn held(server: &TestServer, bytes: f64) {
    until(async || server.metric(HELD).await == bytes).await;
}

#[tokio::test]
async fn bodies_that_are_read_hold_no_more_than_their_budget_and_small_ones_need_none() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with(TIGHT, ACCOUNTS, Hooks::default()).await;
    let kib = |kib: usize| "a".repeat(kib * 1024);
    let mut slow = Vec::new();
    for at in 1..=3_u32 {
        let framing = match at {
            2 => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", 255 * 1024),
            _ => format!("Content-Length: {}\r\n\r\n", 256 * 1024),
        };
        slow.push(server.http.open(format!("{}{framing}{}", unsigned(), kib(200)).as_bytes()).await);
        // The first 16 KiB of each are its own.
        held(&server, f64::from(at * (256 - 16) * 1024)).await;
    }
    let refused = |answer: Answer| {
        assert_eq!((answer.status, answer.body.as_str()), (503, "body_memory"));
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    };
    let length = 200 * 1024;
    refused(server.http.send(format!("{}Content-Length: {length}\r\n\r\n{}", unsigned(), kib(200)).as_bytes()).await);
    refused(in_two(&server, &text(1, length)).await);
    refused(in_chunks(&server, &text(1, length), 100_000).await);
    refused(in_chunks(&server, &text(1, length), 1_000).await);
    // Others are taken: the usual ones whatever happens, larger ones for as long as there is room.
    for (id, length) in (2..).zip([10, 5_000, 15_000, 60_000]) {
        let delivery = text(id, length);
        assert_eq!(in_two(&server, &delivery).await.body, "success", "{length} bytes in two");
        assert_eq!(in_chunks(&server, &delivery, 700).await.body, "success", "{length} bytes in chunks");
        let whole = format!("{}Content-Length: {}\r\n\r\n{}", delivery.0, delivery.1.len(), delivery.1);
        assert_eq!(server.http.send(whole.as_bytes()).await.body, "success", "{length} bytes");
    }
    let counted =
        |account| format!("echostr_deliveries_total{{{account},outcome=\"unavailable\",reason=\"body_memory\"}}");
    assert_eq!(server.metric(&counted("platform=\"mp\",account=\"plain\"")).await, 3.0);
    assert_eq!(server.metric(&counted("platform=\"wecom\",account=\"sales\"")).await, 1.0);
    held(&server, f64::from(3 * (256 - 16) * 1024)).await;
    drop(slow);
    held(&server, 0.0).await;
    assert_eq!(in_two(&server, &text(1, length)).await.body, "success");
    held(&server, 0.0).await;
    let lines = log.text();
    assert_eq!(lines.matches("body_memory (1048576 bytes) reached").count(), 1, "{lines}");
}

#[tokio::test]
async fn bodies_that_are_announced_take_nothing_from_those_that_come() {
    let server = TestServer::start_with(TIGHT, ACCOUNTS, Hooks::default()).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        for sent in [0, 1, 10_000] {
            let request = format!("{}Content-Length: {}\r\n\r\n{}", unsigned(), 256 * 1024, "a".repeat(sent));
            slow.push(server.http.open(request.as_bytes()).await);
        }
    }
    until(async || server.metric("echostr_connections").await >= 300.0).await;
    assert_eq!(in_two(&server, &text(1, 200 * 1024)).await.body, "success");
    assert_eq!(in_chunks(&server, &text(2, 200 * 1024), 5_000).await.body, "success");
    assert_eq!(slow.len(), 300);
}

/// A head with a part of its body, and the answer that comes although the rest does not.
async fn early(server: &TestServer, target: &str, body: &str) -> (Answer, TcpStream) {
    let request = format!("{}Content-Length: 100000\r\n\r\n{body}", head(target));
    let mut stream = server.http.open(request.as_bytes()).await;
    (read_answer(&mut stream).await.unwrap(), stream)
}

#[tokio::test]
async fn what_the_query_alone_refuses_is_refused_before_the_body_is_read() {
    let server = TestServer::start_with("body_timeout = \"5s\"", ACCOUNTS, Hooks::default()).await;
    let wrong = |query: &str| query.replacen("nature=", "nature=0", 1);
    let plain = |account: WeChat, time: &str| account.plain_query(time, "n");
    let sealed = |account: WeChat, time: &str| account.sealed_query("x", time, "n");
    let im = |time: &str| IM.query("State.StateChange", time);
    let encrypted = [
        ("/mp/shop", MP),
        ("/mp/compat", COMPAT),
        ("/miniprogram/game", MINI),
        ("/wecom/sales", WECOM),
        ("/wecom_kf/support", KF),
        ("/openplatform/agency", OPEN),
        ("/openplatform/agency/wx0000000000000007", OPEN),
        ("/wecom_suite/crm", SUITE),
        ("/wecom_bot/helper", BOT),
    ];
    let mut rows = vec![
        ("/mp/plain", String::new(), 403, "missing_parameter"),
        ("/mp/plain", wrong(&plain(PLAIN, T)), 403, "wrong_signature"),
        ("/mp/plain", plain(PLAIN, STALE), 403, "stale"),
        ("/mp/plain", plain(PLAIN, "soon"), 403, "bad_timestamp"),
        ("/mp/plain", plain(PLAIN, T).replace("&nonce=n", ""), 403, "missing_parameter"),
        ("/mp/plain", format!("{}&nonce=n", plain(PLAIN, T)), 400, "repeated_parameter"),
        ("/mp/plain", format!("{}&x=%FF", plain(PLAIN, T)), 400, "bad_query"),
        ("/mp/plain", format!("{}&encrypt_type=aes", plain(PLAIN, T)), 403, "no_key"),
        ("/mp/compat", wrong(&plain(COMPAT, T)), 403, "wrong_signature"),
        ("/mp/compat", plain(COMPAT, STALE), 403, "stale"),
        ("/mp/shop", plain(MP, T), 403, "plaintext"),
        ("/mp/shop", wrong(&plain(MP, T)), 403, "missing_parameter"),
        ("/miniprogram/game", plain(MINI, T), 403, "plaintext"),
        ("/wecom/sales", plain(WECOM, T), 403, "missing_parameter"),
        ("/im/chat", String::new(), 403, "missing_parameter"),
        ("/im/chat", im(T).replace("Sign=", "Sign=0"), 403, "wrong_signature"),
        ("/im/chat", im(STALE), 403, "stale"),
        ("/im/chat", im("1735689539"), 403, "stale"),
        ("/im/chat", im(T).replace("1400000001", "1400000002"), 403, "wrong_sdk_app_id"),
        ("/im/open", im(T), 403, "wrong_sdk_app_id"),
    ];
    for (path, account) in encrypted {
        rows.push((path, sealed(account, STALE), 403, "stale"));
        rows.push((path, sealed(account, "1735699600"), 403, "stale"));
        rows.push((path, sealed(account, "-1"), 403, "bad_timestamp"));
        rows.push((path, sealed(account, T).replace("&nonce=n", ""), 403, "missing_parameter"));
        rows.push((path, sealed(account, T).replace("timestamp", "time"), 403, "missing_parameter"));
    }
    for (path, query, status, reason) in rows {
        for body in ["", "<xml>"] {
            let (answer, mut stream) = early(&server, &format!("{path}?{query}"), body).await;
            assert_eq!((answer.status, answer.body.as_str()), (status, reason), "{path}?{query}");
            assert_eq!(answer.header("connection"), Some("close"), "{path}?{query}");
            assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0, "{path}?{query}");
        }
    }
    // A refused client that asks whether to send its body is not told to.
    let asking = format!(
        "{}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
        head(&format!("/mp/plain?{}", plain(PLAIN, STALE)))
    );
    let mut answers = String::new();
    server.http.open(asking.as_bytes()).await.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 403 ") && answers.ends_with("stale"), "{answers}");
    let counted = "echostr_deliveries_total{platform=\"im\",account=\"chat\",outcome=\"refused\",reason=\"stale\"}";
    assert_eq!(server.metric(counted).await, 4.0);
}

/// Neither the `signature` beside `msg_signature` nor an unknown encryption type was a reason before.
#[tokio::test]
async fn what_the_whole_check_takes_is_taken_when_the_body_comes_late() {
    let server = TestServer::start(Hooks::default()).await;
    let sealed = MP.safe(&text_message(1, "hi"), "n");
    let compat = COMPAT.safe(&text_message(1, "hi"), "n");
    for (path, query, body) in [
        ("/mp/shop", sealed.query.clone(), &sealed.body),
        ("/mp/shop", format!("signature=0&{}", sealed.query), &sealed.body),
        ("/mp/shop", sealed.query.replace("encrypt_type=aes", "encrypt_type=other"), &sealed.body),
        ("/mp/shop", sealed.query.replace("&encrypt_type=aes", ""), &sealed.body),
        ("/mp/compat", compat.query.replace("&encrypt_type=aes", ""), &compat.body),
    ] {
        let answer = in_two(&server, &(head(&format!("{path}?{query}")), body.clone())).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{path}?{query}");
    }
}

/// A client that writes all of its request before it reads must find an answer, not a reset.
#[tokio::test]
async fn who_is_refused_while_sending_can_send_to_the_end_and_gets_the_answer() {
    let server = TestServer::start_with("body_timeout = \"300s\"", ACCOUNTS, Hooks::default()).await;
    let stale = format!("/wecom/sales?{}", WECOM.sealed_query("x", STALE, "n"));
    for (request, length, expected) in [
        (unsigned(), 9_000_000, "413 Payload Too Large"),
        (head(&stale), 900_000, "403 Forbidden"),
        (head("/nobody"), 900_000, "404 Not Found"),
        (head("/mp/shop").replace("POST", "PUT"), 900_000, "405 Method Not Allowed"),
        (head("/mp/shop").replace("POST", "GET"), 900_000, "403 Forbidden"),
    ] {
        let mut stream = server.http.open(format!("{request}Content-Length: {length}\r\n\r\n").as_bytes()).await;
        stream.write_all(&vec![b'a'; length]).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{request}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request}: {answer:?}");
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0, "{request}");
    }
}

#[tokio::test]
async fn a_small_body_in_chunks_does_not_end_its_connection_when_it_is_refused() {
    let server = TestServer::start(Hooks::default()).await;
    let mut stream = server.http.open(b"").await;
    for (target, status) in [
        (format!("/mp/plain?{}", PLAIN.plain_query(STALE, "n")), 403),
        ("/nobody".to_owned(), 404),
        (format!("/mp/plain?{}", PLAIN.plain_query(T, "n")), 200),
    ] {
        let body = text_message(1, "hi");
        let request =
            format!("{}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", head(&target), body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status, status, "{target}");
    }
}
