//! More connections than the server may have: those that wait for their clients give way to new ones.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use echostr::{
    clock::Clock,
    config::Config,
    events::mp,
    hooks::{Context, Hooks},
    replies::mp::Reply,
    server::Server,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Semaphore, oneshot},
};

use crate::support::{
    Log, NOW, TestServer,
    http::{read_answer, request},
    server::{ACCOUNTS, PLAIN, text_message},
    until,
};

/// Four connections, none of which ends by itself within the time of a test.
const FOUR: &str = "max_connections = 4\nkeep_alive = \"1h\"\nheader_timeout = \"300s\"\nbody_timeout = \"300s\"";

/// A delivery whose connection is kept.
fn kept(id: u64) -> Vec<u8> {
    let signed = PLAIN.plain(&text_message(id, "hi"), &format!("n{id}"));
    let whole = request(&format!("/mp/plain?{}", signed.query), signed.body.as_bytes());
    String::from_utf8(whole).unwrap().replace("Connection: close\r\n", "").into_bytes()
}

async fn connections(server: &TestServer, count: f64) {
    until(async || server.metric("echostr_connections").await == count).await;
}

#[tokio::test]
async fn the_connection_that_has_been_idle_for_longest_gives_way() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with(FOUR, ACCOUNTS, Hooks::default()).await;
    let mut idle = Vec::new();
    for count in 1..=4_u32 {
        idle.push(server.http.open(b"").await);
        connections(&server, count.into()).await;
    }
    // The first is used, and so the second is the one that has been idle for longest.
    idle[0].write_all(&kept(1)).await.unwrap();
    assert_eq!(read_answer(&mut idle[0]).await.unwrap().body, "success");
    for id in 2..=3 {
        let mut new = server.http.open(&kept(id)).await;
        assert_eq!(read_answer(&mut new).await.unwrap().body, "success");
        let mut closed = idle.remove(1);
        assert_eq!(closed.read(&mut [0; 9]).await.unwrap(), 0);
        idle.push(new);
    }
    // The others still work.
    for (id, stream) in (4..).zip(&mut idle) {
        stream.write_all(&kept(id)).await.unwrap();
        assert_eq!(read_answer(stream).await.unwrap().body, "success");
    }
    let lines = log.text();
    assert_eq!(lines.matches("max_connections (4) reached").count(), 1, "{lines}");
}

#[tokio::test]
async fn a_part_of_a_request_does_not_keep_good_clients_out() {
    let server = TestServer::start_with(FOUR, ACCOUNTS, Hooks::default()).await;
    let (whole, body_at) = (kept(1), kept(1).windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 9);
    let mut slow = Vec::new();
    for count in 1..=4_u32 {
        slow.push(server.http.open(&whole[..if count > 2 { body_at } else { 20 }]).await);
        connections(&server, count.into()).await;
    }
    let mut good = Vec::new();
    for id in 2..=4 {
        let mut new = server.http.open(&kept(id)).await;
        assert_eq!(read_answer(&mut new).await.unwrap().body, "success");
        // It is not idle when the next one comes.
        new.write_all(&whole[..20]).await.unwrap();
        good.push(new);
    }
}

#[tokio::test]
async fn a_request_in_progress_does_not_give_way() {
    let (log, _guard) = Log::begin();
    let go = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&go);
    let (started, mut is_started) = tokio::sync::mpsc::unbounded_channel();
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let wait = Arc::clone(&wait);
        started.send(()).unwrap();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(Reply::text("done"))
        }
    });
    let server = TestServer::start_with(FOUR, ACCOUNTS, hooks).await;
    let mut busy = Vec::new();
    for id in 1..=4 {
        busy.push(server.http.open(&kept(id)).await);
        is_started.recv().await.unwrap();
    }
    let mut waits = server.http.open(&kept(5)).await;
    until(async || log.text().contains("max_connections (4) reached: all are in use, new connections wait")).await;
    go.add_permits(5);
    for stream in &mut busy {
        assert!(read_answer(stream).await.unwrap().body.contains("done"));
    }
    assert!(read_answer(&mut waits).await.unwrap().body.contains("done"));
}

#[tokio::test]
async fn idle_connections_do_not_keep_probes_out() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start_with("keep_alive = \"1h\"\nheader_timeout = \"300s\"", "", Hooks::default()).await;
    let mut idle = Vec::new();
    for at in 0..200 {
        let bytes: &[u8] = if at % 2 == 0 { b"" } else { b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n" };
        idle.push(server.admin.open(bytes).await);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.admin.get(path).await.status, 200, "{path}");
    }
    assert_eq!(idle.len(), 200);
    let lines = log.text();
    assert_eq!(lines.matches("the limit of admin connections (64) reached").count(), 1, "{lines}");
}

/// Asks from a thread without a runtime.
fn ask(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // A server that does not answer at all must not hold up the tests.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    ask(address, request.as_bytes()).read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn responders_that_block_every_worker_do_not_keep_probes_from_being_answered() {
    const WORKERS: usize = 2;
    let (started, is_started) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        started.send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        std::future::ready(Ok(Reply::text("done")))
    });
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nurl = \"memory:\"\n{ACCOUNTS}"
    );
    let config = Config::parse(&text, "test", |name| std::env::var(name)).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, addresses) = mpsc::channel();
    let running = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind(&config, hooks, Clock::fixed(NOW)).await.unwrap();
            bound.send((server.address().unwrap(), server.admin_address().unwrap())).unwrap();
            server.run(async { stopped.await.unwrap() }).await.is_ok()
        })
    });
    let (http, admin) = addresses.recv().unwrap();
    let mut blocked = Vec::new();
    for id in 1..=WORKERS {
        blocked.push(ask(http, &kept(u64::try_from(id).unwrap())));
        is_started.recv().unwrap();
    }
    for _ in 0..3 {
        assert!(get(admin, "/healthz").ends_with("\r\n\r\nok\n"));
        assert!(get(admin, "/metrics").contains("\nechostr_in_flight 2\n"));
    }
    let unready = get(admin, "/readyz");
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.ends_with("every worker is blocked by a handler\n"));
    blocked.iter().for_each(|_| go.send(()).unwrap());
    for mut stream in blocked {
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
    assert!(get(admin, "/readyz").ends_with("\r\n\r\nready\n"));
    stop.send(()).unwrap();
    assert!(running.join().unwrap());
    assert!(TcpStream::connect(admin).is_err(), "nobody listens");
}
