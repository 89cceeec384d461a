//! A server that is asked to stop answers what has been sent to it.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use echostr::hooks::Hooks;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Http, TestServer,
    http::{read_answer, request},
    server::{ACCOUNTS, PLAIN, text_message},
    until,
};

/// Nothing that waits for one of these would end within the time of a test.
const PATIENT: &str =
    "shutdown_grace = \"60s\"\nheader_timeout = \"60s\"\nbody_timeout = \"60s\"\nkeep_alive = \"60s\"";

/// A delivery whose connection is kept.
fn kept(id: usize) -> Vec<u8> {
    let signed = PLAIN.plain(&text_message(id as u64, "hi"), &format!("n{id}"));
    let whole = request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes());
    String::from_utf8(whole).unwrap().replace("Connection: close\r\n", "").into_bytes()
}

#[tokio::test]
async fn requests_in_the_queue_of_the_system_are_answered() {
    let server = TestServer::start_with(PATIENT, ACCOUNTS, Hooks::default()).await;
    // The runtime does not run meanwhile: nobody accepts.
    let waiting: Vec<_> = (0..100)
        .map(|id| {
            let mut stream = TcpStream::connect(server.http.0).unwrap();
            stream.write_all(&kept(id)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let stopping = server.stop();
    for stream in waiting {
        let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let answer = read_answer(&mut stream).await.expect("an answer");
        assert_eq!((answer.body.as_str(), answer.header("connection")), ("success", Some("close")));
    }
    assert!(stopping.await.unwrap());
}

#[tokio::test]
async fn a_request_on_a_connection_that_was_idle_is_answered() {
    let server = TestServer::start_with(PATIENT, ACCOUNTS, Hooks::default()).await;
    let mut idle = Vec::new();
    for id in 0..20 {
        let mut stream = server.http.open(&kept(id)).await;
        assert_eq!(read_answer(&mut stream).await.unwrap().body, "success");
        idle.push(stream);
    }
    for (id, stream) in idle.iter().enumerate() {
        let bytes = kept(100 + id);
        assert_eq!(stream.try_write(&bytes).unwrap(), bytes.len());
    }
    let stopping = server.stop();
    for mut stream in idle {
        let answer = read_answer(&mut stream).await.expect("an answer");
        assert_eq!((answer.body.as_str(), answer.header("connection")), ("success", Some("close")));
    }
    assert!(stopping.await.unwrap());
}

/// What the clients of a burst have seen.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    /// Sent as a whole, and not answered.
    lost: AtomicUsize,
}

/// Sends requests until nobody listens, each on a connection of its own or all on one for as long as it is kept.
async fn send(http: Http, first: usize, is_kept: bool, seen: Arc<Seen>) {
    let mut stream = None;
    for id in first.. {
        let mut open = match stream.take() {
            Some(open) => open,
            None => match tokio::net::TcpStream::connect(http.0).await {
                Ok(open) => open,
                Err(_) => return,
            },
        };
        if open.write_all(&kept(id)).await.is_err() {
            continue;
        }
        let Some(answer) = read_answer(&mut open).await else {
            seen.lost.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        assert_eq!(answer.body, "success");
        seen.answered.fetch_add(1, Ordering::SeqCst);
        stream = Some(open).filter(|_| is_kept && answer.header("connection") != Some("close"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_in_a_burst_leaves_nothing_unanswered_that_was_sent() {
    for round in 0..10 {
        let server = TestServer::start_with(PATIENT, ACCOUNTS, Hooks::default()).await;
        let seen = Arc::new(Seen::default());
        let clients: Vec<_> =
            (0..32).map(|at| tokio::spawn(send(server.http, at * 1_000_000, at % 4 == 0, Arc::clone(&seen)))).collect();
        until(async || seen.answered.load(Ordering::SeqCst) >= 50 * (round + 1)).await;
        assert!(server.stop().await.unwrap(), "everything finished");
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(seen.lost.load(Ordering::SeqCst), 0, "round {round}: {seen:?}");
    }
}
