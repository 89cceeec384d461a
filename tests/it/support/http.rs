//! HTTP/1.1 by hand, so that a request can be as broken as a test wants it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A client of one server; every request has its own connection.
#[derive(Clone, Copy, Debug)]
pub struct Http(pub SocketAddr);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Http {
    pub async fn get(self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    pub async fn post(self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(&request(target, body.as_ref())).await
    }

    /// Sends these bytes and reads until the server closes, or has answered in full.
    pub async fn send(self, bytes: &[u8]) -> Answer {
        let mut stream = self.open(bytes).await;
        read_answer(&mut stream).await.expect("an answer")
    }

    /// Sends these bytes and leaves the connection open.
    pub async fn open(self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        // A server that has refused already may close while the rest is on its way.
        let _ = stream.write_all(bytes).await;
        stream
    }
}

pub fn request(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads one answer; `None` when the connection ends without one.
pub async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(answer) = parse(&bytes) {
            return Some(answer);
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return parse(&bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    (body.len() >= length).then_some(answer)
}
