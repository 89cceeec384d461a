//! The target of forwards, which survives the kills. It fails now and then, and leaves a trace of what it takes.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time,
};

use crate::{deliveries::name_of, effects::Effects};

/// The observer of the forward whose events come as they are.
pub const FORWARD: &str = "forward.loose";

/// The observer of the forward that keeps the order of a subject.
pub const ORDERED_FORWARD: &str = "forward.ordered";

/// The longest request: the messages are short.
const MAX_REQUEST: usize = 1 << 20;

/// Where the servers forward to.
pub struct Target(SocketAddr);

impl Target {
    /// # Errors
    /// When no port can be bound, or the trace cannot be written.
    pub fn start(runtime: &Runtime, effects: &Path) -> io::Result<Self> {
        let effects = Arc::new(Effects::open(effects)?);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let count = Arc::new(AtomicU64::new(0));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (effects, count) = (Arc::clone(&effects), Arc::clone(&count));
                tokio::spawn(async move {
                    // A server that is killed leaves its connections behind.
                    let _ = serve(stream, &effects, &count).await;
                });
            }
        });
        Ok(Self(address))
    }

    /// The forwards, as a configuration: a kill ends many attempts, and these are many kills.
    pub fn forwards(&self) -> String {
        let retry = vec!["\"100ms\""; 100].join(", ");
        let forward = |observer: &str, more: &str| {
            let name = observer.trim_start_matches("forward.");
            format!(
                "[[forward]]\nname = \"{name}\"\nmatch = \"*\"\nformat = \"raw\"\nto = \"http://{}/{observer}\"\ntimeout = \"2s\"\n\
                 retry = [{retry}]\n{more}",
                self.0
            )
        };
        forward(FORWARD, "") + &forward(ORDERED_FORWARD, "order = \"subject\"\n")
    }
}

/// Takes the requests of a connection. One of so many is refused, taken without an answer, or told to come later.
async fn serve(mut stream: TcpStream, effects: &Effects, count: &AtomicU64) -> io::Result<()> {
    const BAD: &str = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 429 X\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    const TAKEN: &str = "HTTP/1.1 204 X\r\n\r\n";
    let mut bytes = Vec::new();
    while let Some((observer, id, body)) = read(&mut stream, &mut bytes).await? {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let answer = match number % 97 {
            13 => BAD,
            29 => BUSY,
            _ => {
                effects.sighting(&observer, name_of(&body).unwrap_or("?"), &id)?;
                TAKEN
            }
        };
        match number % 97 {
            // Taken, and the server does not know it.
            41 => return Ok(()),
            53 => time::sleep(Duration::from_millis(50)).await,
            _ => {}
        }
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The observer, the identity of the event, and the body of the next request.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<(String, String, String)>> {
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(bytes);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let found = head.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                });
                found.unwrap_or_default()
            };
            let length: usize = header("content-length").parse().unwrap_or_default();
            let end = head.len() + 4;
            if bytes.len() >= end + length {
                let path = head.split(' ').nth(1).unwrap_or_default();
                let observer = path.rsplit('/').next().unwrap_or_default().to_owned();
                let id = header("webhook-id");
                let body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
                bytes.drain(..end + length);
                return Ok(Some((observer, id, body)));
            }
        }
        if bytes.len() > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
