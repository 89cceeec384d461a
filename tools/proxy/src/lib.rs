//! A TCP proxy that stalls and cuts what goes through it, as a network does that is partitioned.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the client sends does not arrive until the end of the fault; then it does, even if the client has left.
    StallRequests,
    /// What the server sends does not arrive until then.
    StallResponses,
    /// Neither does.
    Stall,
    /// It is closed.
    Cut,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::StallRequests, Self::StallResponses, Self::Stall, Self::Cut];

    const fn stalls(self, way: Way) -> bool {
        match self {
            // What was stalled before a cut never arrives.
            Self::Stall | Self::Cut => true,
            Self::StallRequests => matches!(way, Way::Request),
            Self::StallResponses => matches!(way, Way::Response),
        }
    }
}

#[derive(Clone, Copy)]
enum Way {
    Request,
    Response,
}

/// Listens on the loopback interface, and passes everything on to one address.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    /// The fault of connections to come.
    of_new: Mutex<Option<Fault>>,
    connections: Mutex<Vec<watch::Sender<Option<Fault>>>>,
    opened: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (of_new, connections) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { target, of_new, connections, opened: AtomicUsize::new(0) });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there have been.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// A fault of every connection, and of those to come, begins.
    pub fn begin(&self, fault: Fault) {
        *lock(&self.shared.of_new) = Some(fault);
        self.begin_some(fault, || true);
    }

    /// A fault of those connections begins that are chosen.
    pub fn begin_some(&self, fault: Fault, mut is_chosen: impl FnMut() -> bool) {
        for connection in lock(&self.shared.connections).iter().filter(|_| is_chosen()) {
            connection.send_replace(Some(fault));
        }
    }

    /// Everything passes again.
    pub fn end(&self) {
        *lock(&self.shared.of_new) = None;
        let mut connections = lock(&self.shared.connections);
        connections.retain(|connection| !connection.is_closed());
        for connection in &*connections {
            connection.send_replace(None);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        // Until the connection is known, so that no fault passes it by.
        let of_new = lock(&shared.of_new);
        if *of_new == Some(Fault::Cut) {
            continue;
        }
        let (sender, fault) = watch::channel(*of_new);
        lock(&shared.connections).push(sender);
        shared.opened.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(pass(client, shared.target, fault));
    }
}

/// Passes what one connection has to say, until it is closed or cut.
async fn pass(client: TcpStream, target: SocketAddr, mut fault: watch::Receiver<Option<Fault>>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = copy(from_client, to_server, Way::Request, fault.clone());
    let responses = copy(from_server, to_client, Way::Response, fault.clone());
    tokio::select! {
        // What was said before a side hung up still arrives.
        _ = async { tokio::join!(requests, responses) } => {}
        _ = fault.wait_for(|fault| *fault == Some(Fault::Cut)) => {}
    }
}

/// Ends when a side hangs up.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    mut fault: watch::Receiver<Option<Fault>>,
) -> Option<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut bytes).await.ok().filter(|count| *count > 0);
        fault.wait_for(|fault| !fault.is_some_and(|fault| fault.stalls(way))).await.ok()?;
        to.write_all(bytes.get(..count?)?).await.ok()?;
    }
}
