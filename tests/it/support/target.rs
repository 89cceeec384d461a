//! A server that events are forwarded to, by hand, so that its answers can be as broken as a test wants them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
    time,
};

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Path and query.
    pub path: String,
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Identity of the event.
    pub fn id(&self) -> String {
        self.header("webhook-id").unwrap().to_owned()
    }

    /// The part of the URL behind `?`.
    pub fn query(&self) -> &str {
        self.path.split_once('?').unwrap().1
    }
}

/// What the target does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status, these lines of the head, and this body.
    Answer(u16, &'static str, &'static str),
    /// Closes the connection in the middle of its answer.
    Cut,
    /// Does not answer.
    Hang,
    /// Answers with 200 once it is let go.
    Wait(Arc<Notify>),
}

/// Decides by the request and the number of requests before it.
type Behaviour = Arc<dyn Fn(&Request, usize) -> Act + Send + Sync>;

/// A target that listens; it is down when it is dropped.
pub struct Target {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Request>>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/in")
}

/// The address of a target that does not listen yet: connections are refused, and nobody else gets the port.
pub struct Away {
    socket: socket2::Socket,
    pub address: SocketAddr,
}

impl Away {
    pub fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Listens from now on.
    pub fn start(self, behaviour: impl Fn(&Request, usize) -> Act + Send + Sync + 'static) -> Target {
        let Self { socket, address } = self;
        socket.listen(128).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        Target::serving(listener, address, behaviour)
    }
}

impl Target {
    pub async fn start(behaviour: impl Fn(&Request, usize) -> Act + Send + Sync + 'static) -> Self {
        Away::new().start(behaviour)
    }

    fn serving(
        listener: TcpListener,
        address: SocketAddr,
        behaviour: impl Fn(&Request, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { behaviour: Mutex::new(Arc::new(behaviour)), requests: Mutex::default() });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared, serving }
    }

    pub fn url(&self) -> String {
        url(self.address)
    }

    /// From now on it does something else.
    pub fn behave(&self, behaviour: impl Fn(&Request, usize) -> Act + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    /// What has come in.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until so many requests have come in, and returns them.
    pub async fn received(&self, count: usize) -> Vec<Request> {
        super::wait_for(&format!("{count} requests"), async || self.requests().len() >= count).await;
        self.requests()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    while let Some(request) = read(&mut stream).await {
        let act = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(request.clone());
            let behaviour = Arc::clone(&shared.behaviour.lock().unwrap());
            behaviour(&request, requests.len() - 1)
        };
        let text = match act {
            Act::Status(status) => answer(status, "", ""),
            Act::Answer(status, head, body) => answer(status, head, body),
            Act::Cut => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
            Act::Hang => {
                time::sleep(Duration::from_secs(60)).await;
                String::new()
            }
            Act::Wait(go) => {
                go.notified().await;
                answer(200, "", "")
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err() || text.contains("Content-Length: 100\r\n") {
            return;
        }
    }
}

fn answer(status: u16, head: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let mut request = Request { path, head, body: String::new() };
            let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                request.body = String::from_utf8(bytes[end + 4..end + 4 + length].to_vec()).unwrap();
                return Some(request);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
