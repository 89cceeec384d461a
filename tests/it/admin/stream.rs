//! Events as they come.

use std::sync::{Arc, atomic::AtomicBool};

use echostr::hooks::Hooks;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Duration, timeout},
};

use super::{
    Client, auth,
    read::{hooks, journals, send},
};
use crate::support::{Http, TestServer, server::ACCOUNTS, until};

/// A stream of events that is being read.
pub struct Events {
    stream: TcpStream,
    text: String,
    /// Where it goes on.
    pub last: String,
}

impl Events {
    pub async fn open(http: Http, query: &str, headers: &str) -> Self {
        let head = format!("GET /v1/events/stream?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        let stream = http.open(head.as_bytes()).await;
        let mut events = Self { stream, text: String::new(), last: String::new() };
        events.frame().await.expect("the first frame");
        events
    }

    /// The data of the next frame, which may have none; `None` at the end.
    async fn frame(&mut self) -> Option<String> {
        loop {
            // Chunks of HTTP have their lengths in lines of their own.
            if let Some(end) = self.text.find("\n\n") {
                let frame: String = self.text.drain(..end + 2).collect();
                let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                let Some(id) = line("id: ") else { continue };
                self.last = id;
                return Some(line("data: ").unwrap_or_default());
            }
            let mut buffer = [0; 4096];
            let count =
                timeout(Duration::from_secs(60), self.stream.read(&mut buffer)).await.expect("a frame").unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Json {
        loop {
            let data = self.frame().await.expect("an event");
            if !data.is_empty() {
                return serde_json::from_str(&data).unwrap();
            }
        }
    }

    /// What is left, once it has ended.
    async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }
}

fn word(event: &Json) -> &str {
    event["data"]["Content"].as_str().unwrap()
}

#[tokio::test]
async fn events_come_as_they_are_stored_and_go_on_after_a_restart_of_the_client() {
    for (url, _kept) in journals().await {
        let works = Arc::new(AtomicBool::new(true));
        let server = TestServer::start_on(&url, "", ACCOUNTS, hooks(&works)).await;
        send(&server, 1, &["before"]).await;
        let mut stream = Events::open(server.admin, "view=cloudevent", "").await;
        send(&server, 2, &["one", "two"]).await;
        assert_eq!((word(&stream.next().await), word(&stream.next().await)), ("one", "two"), "{url}");
        let last = stream.last.clone();
        drop(stream);
        send(&server, 4, &["three"]).await;
        let header = format!("Last-Event-ID: {last}\r\n");
        let mut by_header = Events::open(server.admin, "view=cloudevent", &header).await;
        let mut by_query = Events::open(server.admin, &format!("view=cloudevent&last_event_id={last}"), "").await;
        send(&server, 5, &["four"]).await;
        for stream in [&mut by_header, &mut by_query] {
            assert_eq!((word(&stream.next().await), word(&stream.next().await)), ("three", "four"), "{url}");
        }
        let mut filtered = Events::open(server.admin, "account=mp/shop&text=seven&view=summary", "").await;
        send(&server, 6, &["five", "six", "seven"]).await;
        let seven = filtered.next().await;
        assert_eq!((&seven["type"], &seven["state"]), (&"mp.message.text".into(), &"answered".into()), "{url}");
        assert!(seven.get("payload").is_none(), "{seven}");
        // It ends with the server, at once.
        let stopping = server.stop();
        filtered.ended().await;
        assert!(stopping.await.unwrap(), "{url}");
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_a_restart_of_the_server() {
    let folder = TempDir::new().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    let server = TestServer::start_in(folder.path(), "", hooks(&works)).await;
    let mut stream = Events::open(server.admin, "view=cloudevent", "").await;
    send(&server, 1, &["one"]).await;
    assert_eq!(word(&stream.next().await), "one");
    send(&server, 2, &["two"]).await;
    let stopping = server.stop();
    stream.ended().await;
    assert!(stopping.await.unwrap());
    let last = stream.last.clone();
    let server = TestServer::start_in(folder.path(), "", hooks(&works)).await;
    send(&server, 3, &["three"]).await;
    let mut again = Events::open(server.admin, "view=cloudevent", &format!("Last-Event-ID: {last}\r\n")).await;
    let mut seen = vec![word(&again.next().await).to_owned()];
    // The last one before the end may have been sent already.
    if seen[0] == "two" {
        seen.push(word(&again.next().await).to_owned());
    }
    assert_eq!(seen.last().unwrap(), "three");
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_one_ends_with_its_session() {
    let server = auth::start("token = \"adminTokenOfSomeLength\"", Hooks::default()).await;
    let api = Client::new(server.admin);
    let cookie = auth::sign_in(api).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(Events::open(server.admin, "", &cookie).await);
    }
    let api = api.with("Authorization: Bearer adminTokenOfSomeLength\r\n");
    assert_eq!(api.error("GET", "/v1/events/stream", None).await, (429, "too_many_streams".to_owned()));
    assert_eq!(api.request("GET", "/v1/info", None).await.status, 200, "there is room for everything else");
    open.pop();
    until(async || {
        let head =
            "GET /v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer adminTokenOfSomeLength\r\n\r\n";
        let mut stream = server.admin.open(head.as_bytes()).await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        start == *b"HTTP/1.1 200"
    })
    .await;
    let foreign = format!("{cookie}Origin: http://evil.example\r\n");
    let api = Client::new(server.admin).with(&foreign);
    assert_eq!(api.error("GET", "/v1/events/stream", None).await, (403, "forbidden_origin".to_owned()));
}

#[tokio::test]
async fn a_stream_on_which_nothing_comes_is_not_idle() {
    let works = Arc::new(AtomicBool::new(true));
    let server = TestServer::start_with("keep_alive = \"1s\"", ACCOUNTS, hooks(&works)).await;
    let mut stream = Events::open(server.admin, "view=cloudevent", "").await;
    let mut idle = server.admin.open(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    // A connection that came after the stream is closed, as nothing is asked on it any more.
    let mut rest = Vec::new();
    timeout(Duration::from_secs(60), idle.read_to_end(&mut rest)).await.expect("the end").unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 200"));
    send(&server, 1, &["one"]).await;
    assert_eq!(word(&stream.next().await), "one");
}
