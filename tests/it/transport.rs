//! HTTP: what a proxy may make of a request that is right, and what a client may try with one that is not.

use echostr::hooks::{Context, Hooks, RawEvent};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::support::{
    TestServer,
    http::read_answer,
    server::{IM, MP, PLAIN, text_message},
};

/// The server's end of everything that comes in.
fn everything() -> (Hooks, mpsc::UnboundedReceiver<String>) {
    let (seen, events) = mpsc::unbounded_channel();
    let hooks = Hooks::default().observe_any("all", "*", move |event: RawEvent, _: Context| {
        seen.send(event.payload.text().to_owned()).unwrap();
        std::future::ready(Ok(()))
    });
    (hooks, events)
}

/// The head of a POST of this message, without its end.
fn head(id: u64) -> (String, String) {
    let signed = MP.safe(&text_message(id, "hi"), "n");
    (format!("POST /mp/shop?{} HTTP/1.1\r\nHost: test\r\n", signed.query), signed.body)
}

#[tokio::test]
async fn the_content_type_is_not_believed() {
    let server = TestServer::start(Hooks::default()).await;
    let types = [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: text/xml; charset=gb2312\r\n",
        "Content-Type: text/xml\r\nContent-Type: application/json\r\n",
        "Content-Type: \u{e9}\r\n",
    ];
    for (id, content_type) in (1..).zip(types) {
        let (head, body) = head(id);
        let request = format!("{head}{content_type}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let answer = server.http.send(request.as_bytes()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{content_type}");
    }
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_in_pieces() {
    let server = TestServer::start(Hooks::default()).await;
    let (first, body) = head(1);
    let (one, two) = body.split_at(body.len() / 2);
    let chunked = format!(
        "{first}Transfer-Encoding: Chunked\r\nConnection: close\r\n\r\n{:x};ext=1\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nX: 1\r\n\r\n",
        one.len(),
        two.len()
    );
    assert_eq!(server.http.send(chunked.as_bytes()).await.body, "success");
    let (second, body) = head(2);
    let whole = format!("{second}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut stream = server.http.open(b"").await;
    for piece in whole.as_bytes().chunks(97) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_answer(&mut stream).await.unwrap().body, "success");
}

#[tokio::test]
async fn one_connection_carries_many_requests_also_after_a_refused_one() {
    let server = TestServer::start(Hooks::default()).await;
    let mut stream = server.http.open(b"").await;
    for (id, refused) in (1..).zip([false, true, false, true, true, false]) {
        let (mut head, body) = head(id);
        if refused {
            head = head.replacen("msg_signature=", "msg_signature=0", 1);
        }
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        let expected = if refused { (403, "wrong_signature") } else { (200, "success") };
        assert_eq!((answer.status, answer.body.as_str()), expected);
    }
    // Sent at once they are answered in their order.
    let (first, one) = head(7);
    let (second, two) = head(8);
    let second = second.replacen("msg_signature=", "msg_signature=0", 1);
    let both = format!(
        "{first}Content-Length: {}\r\n\r\n{one}{second}Content-Length: {}\r\nConnection: close\r\n\r\n{two}",
        one.len(),
        two.len()
    );
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let (good, bad) = (answers.find("success").unwrap(), answers.find("wrong_signature").unwrap());
    assert!(good < bad && answers.matches("HTTP/1.1 ").count() == 2, "{answers}");
}

/// Where the body ends is what a proxy and a server may see differently: nothing behind a doubtful one is a request.
#[tokio::test]
async fn nothing_is_smuggled_behind_a_body_of_doubtful_length() {
    let (hooks, mut events) = everything();
    let server = TestServer::start(hooks).await;
    let (outer, _) = head(1);
    let (inner, body) = head(2);
    let smuggled = format!("{inner}Content-Length: {}\r\n\r\n{body}", body.len());
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5 + smuggled.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n", 5 + smuggled.len()),
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "Content-Length: 0, 5\r\n\r\n".to_owned(),
        "Content-Length: +0\r\n\r\n".to_owned(),
        "Content-Length: 0x0\r\n\r\n".to_owned(),
        "Content-Length : 0\r\n\r\n".to_owned(),
        "Content-Length:\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n\r\n".to_owned(),
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n0\n\n".to_owned(),
        "X: 1\r\n Content-Length: 0\r\n\r\n".to_owned(),
        "X: 1\rTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "X\0: 1\r\n\r\n".to_owned(),
        ": 1\r\n\r\n".to_owned(),
    ] {
        let mut stream = server.http.open(format!("{outer}{framing}{smuggled}").as_bytes()).await;
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers).await;
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {answers}");
        assert!(answers.starts_with("HTTP/1.1 4"), "{framing:?}: {answers}");
        assert!(events.try_recv().is_err(), "{framing:?} let an event in");
    }
    // The same bytes without the trick are a request.
    assert_eq!(server.http.send(smuggled.as_bytes()).await.body, "success");
    assert!(events.recv().await.unwrap().contains("<MsgId>2</MsgId>"));
}

#[tokio::test]
async fn only_the_methods_of_the_platform_are_taken() {
    let server = TestServer::start(Hooks::default()).await;
    let mp = format!("/mp/plain?{}&echostr=1", PLAIN.plain_query("1735689600", "n"));
    let im = format!("/im/chat?{}", IM.query("State.StateChange", "1735689600"));
    for (target, methods, allow) in [
        (&mp, &["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "get", "PROPFIND"][..], "GET, POST"),
        (&im, &["GET", "HEAD", "PUT", "OPTIONS"], "POST"),
    ] {
        for method in methods {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let mut stream = server.http.open(request.as_bytes()).await;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let answer = answer.to_lowercase();
            assert!(answer.starts_with("http/1.1 405 "), "{method} {target}: {answer}");
            assert!(
                answer.contains(&format!("\r\nallow: {}\r\n", allow.to_lowercase())),
                "{method} {target}: {answer}"
            );
            assert_eq!(answer.ends_with("wrong_method"), *method != "HEAD", "{method} {target}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_target_is_taken_literally() {
    let server = TestServer::start(Hooks::default()).await;
    let query = format!("{}&echostr=1", PLAIN.plain_query("1735689600", "n"));
    for (target, status) in [
        (format!("/mp/plain?{query}"), 200),
        (format!("/mp/plain/?{query}"), 200),
        (format!("http://elsewhere/mp/plain?{query}"), 200),
        (format!("/mp/plain?{query}#fragment"), 200),
        (format!("/mp/plain//?{query}"), 404),
        (format!("//mp/plain?{query}"), 404),
        (format!("/mp/./plain?{query}"), 404),
        (format!("/mp/x/../plain?{query}"), 404),
        (format!("/%6dp/plain?{query}"), 404),
        (format!("/MP/PLAIN?{query}"), 404),
        (format!("/mp/plain;x=1?{query}"), 404),
        (format!("/mp/plain%3F{query}"), 404),
        (format!("/mp/plain%00?{query}"), 404),
        ("*".to_owned(), 404),
    ] {
        let answer = server.http.get(&target).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_asked_for() {
    let server = TestServer::start(Hooks::default()).await;
    let (head, body) = head(1);
    let mut stream =
        server.http.open(format!("{head}Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n").as_bytes()).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too_large"), "{answer}");
    let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = server.http.open(expecting.as_bytes()).await;
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().body, "success");
}

#[tokio::test]
async fn the_body_limit_is_exact() {
    let server =
        TestServer::start_with("body_limit = \"4KiB\"", crate::support::server::ACCOUNTS, Hooks::default()).await;
    let message = text_message(1, "");
    for (size, status) in [(4096, 200), (4097, 413)] {
        let body = text_message(1, &"a".repeat(size - message.len()));
        let query = PLAIN.plain_query("1735689600", &size.to_string());
        let answer = server.http.post(&format!("/mp/plain?{query}"), &body).await;
        assert_eq!((body.len(), answer.status), (size, status));
        let chunked = format!(
            "POST /mp/plain?{query} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
        );
        assert_eq!(server.http.send(chunked.as_bytes()).await.status, status, "{size} in chunks");
    }
}

#[tokio::test]
async fn old_http_is_answered_and_new_http_is_not() {
    let server = TestServer::start(Hooks::default()).await;
    let target = format!("/mp/plain?{}&echostr=1", PLAIN.plain_query("1735689600", "n"));
    let mut stream = server.http.open(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\n1"), "{answer}");
    for bytes in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0"] {
        let mut stream = server.http.open(bytes.as_bytes()).await;
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
}
