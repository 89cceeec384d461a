//! The platform of AI bots over WebSocket, played: one connection for each bot, of which a newer one ends the older.
//!
//! It repeats what has no answer when a connection subscribes, and misbehaves when it is told to.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// How it misbehaves from now on.
#[derive(Clone, Debug, Default)]
pub struct BotFaults {
    /// Pings have no answer, and nothing else is sent either: a zombie.
    pub silent: bool,
    /// Acknowledgements of answers come so much later.
    pub acknowledge_after: Duration,
    /// Answers are taken, and their connection is cut instead of an acknowledgement: so many times.
    pub cut_on_answer: u32,
    /// So many answers are refused as busy.
    pub busy: u32,
    /// An answer by the `req_id` of an earlier connection is refused.
    pub forgets_requests: bool,
    /// What has no answer is not repeated to a new connection.
    pub never_repeats: bool,
    /// A newer connection does not end the older.
    pub keeps_older: bool,
}

/// A frame that a client has sent, apart from pings.
#[derive(Clone, Debug, PartialEq)]
pub struct BotFrame {
    /// Which connection, from 1.
    pub connection: u64,
    /// Its command.
    pub command: String,
    /// Its `req_id`.
    pub request_id: String,
    /// Its body.
    pub body: Value,
    /// Whether it was done.
    pub is_done: bool,
}

/// When a connection was subscribed.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed {
    /// Which connection, from 1.
    pub connection: u64,
    /// From when.
    pub from: Instant,
    /// Until when; it still is, without.
    pub until: Option<Instant>,
    /// When the connection itself had ended.
    pub closed: Option<Instant>,
}

impl Subscribed {
    /// For how long it was open while a later one was, too.
    pub fn overlap(&self, later: &Self) -> Duration {
        let until = self.closed.unwrap_or_else(Instant::now);
        until.saturating_duration_since(later.from)
    }
}

/// A server that plays the platform; it ends when this is dropped.
pub struct FakeBots {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl fmt::Debug for FakeBots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBots").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for FakeBots {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified of everything that changes.
    news: Notify,
}

#[derive(Default)]
struct State {
    faults: BotFaults,
    secrets: HashMap<String, String>,
    connections: u64,
    requests: u64,
    pings: u64,
    /// The subscribed connection of each bot.
    current: HashMap<String, Current>,
    subscribed: Vec<Subscribed>,
    pushed: Vec<Pushed>,
    frames: Vec<BotFrame>,
    uploads: HashMap<String, Vec<u8>>,
    media: HashMap<String, Vec<u8>>,
}

struct Current {
    connection: u64,
    outgoing: mpsc::UnboundedSender<Outgoing>,
}

/// A message or an event.
struct Pushed {
    bot: String,
    command: &'static str,
    body: Value,
    /// The `req_id`s under which it was sent, with the connection of each.
    requests: Vec<(u64, String)>,
    is_answered: bool,
}

enum Outgoing {
    Text(String),
    /// Part of a frame, and then the end of the connection.
    Cut(Vec<u8>),
    Close,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeBots {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, serving })
    }

    /// What an account's `websocket_url` is to be.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Knows a bot.
    pub fn add_bot(&self, bot_id: &str, secret: &str) {
        self.shared.lock().secrets.insert(bot_id.to_owned(), secret.to_owned());
    }

    /// Misbehaves from now on.
    pub fn set_faults(&self, faults: BotFaults) {
        self.shared.lock().faults = faults;
    }

    /// Sends a message or an event to a bot, now or when it subscribes.
    pub fn push(&self, bot_id: &str, body: Value) {
        let command = if body["msgtype"] == "event" { "aibot_event_callback" } else { "aibot_msg_callback" };
        let mut state = self.shared.lock();
        let requests = Vec::new();
        state.pushed.push(Pushed { bot: bot_id.to_owned(), command, body, requests, is_answered: false });
        let at = state.pushed.len() - 1;
        state.deliver(at);
    }

    /// Sends what was pushed under this `msgid` once more, with a `req_id` of its own.
    pub fn push_again(&self, msgid: &str) {
        let mut state = self.shared.lock();
        if let Some(at) = state.pushed.iter().position(|pushed| pushed.body["msgid"] == msgid) {
            state.deliver(at);
        }
    }

    /// Sends a text as it is to the connection of a bot.
    pub fn send_raw(&self, bot_id: &str, text: &str) {
        self.shared.lock().send(bot_id, Outgoing::Text(text.to_owned()));
    }

    /// Sends the first bytes of a frame to a bot, and ends its connection.
    pub fn cut(&self, bot_id: &str) {
        // A text of 1000 bytes is announced.
        self.shared.lock().send(bot_id, Outgoing::Cut(vec![0x81, 126, 0x03, 0xE8, b'{', b'"']));
    }

    /// Every frame that clients have sent, apart from pings.
    pub fn frames(&self) -> Vec<BotFrame> {
        self.shared.lock().frames.clone()
    }

    /// Frames that answered a message, by any of its `req_id`s.
    pub fn answers(&self, msgid: &str) -> Vec<BotFrame> {
        let state = self.shared.lock();
        let pushed = state.pushed.iter().filter(|pushed| pushed.body["msgid"] == msgid);
        let ids: HashSet<&String> = pushed.flat_map(|pushed| &pushed.requests).map(|(_, id)| id).collect();
        state.frames.iter().filter(|frame| ids.contains(&frame.request_id)).cloned().collect()
    }

    /// Messages that were sent without being asked for.
    pub fn sent(&self) -> Vec<BotFrame> {
        self.frames().into_iter().filter(|frame| frame.command == "aibot_send_msg" && frame.is_done).collect()
    }

    /// When connections were subscribed, in order.
    pub fn subscriptions(&self) -> Vec<Subscribed> {
        self.shared.lock().subscribed.clone()
    }

    /// How many pings have come.
    pub fn pings(&self) -> u64 {
        self.shared.lock().pings
    }

    /// What was uploaded, by `media_id`.
    pub fn media(&self, media_id: &str) -> Option<Vec<u8>> {
        self.shared.lock().media.get(media_id).cloned()
    }

    /// Waits until something holds of what has come.
    pub async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        loop {
            let news = self.shared.news.notified();
            if holds(self) {
                return;
            }
            news.await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // All end with this one.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let limits = WebSocketConfig::default().max_message_size(Some(2 << 20)).max_frame_size(Some(2 << 20));
    let Ok(mut socket) = accept_async_with_config(stream, Some(limits)).await else { return };
    let (outgoing, mut queue) = mpsc::unbounded_channel();
    let connection = {
        let mut state = shared.lock();
        state.connections += 1;
        state.connections
    };
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str(&text) else { break };
                    if !take(&shared, connection, &outgoing, &frame) {
                        break;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            message = queue.recv() => match message {
                Some(Outgoing::Text(text)) => {
                    if socket.send(Message::text(text)).await.is_err() {
                        break;
                    }
                }
                Some(Outgoing::Cut(bytes)) => {
                    cut(&mut socket, &bytes).await;
                    break;
                }
                _ => break,
            },
        }
    }
    shared.lock().unsubscribe(connection);
    shared.news.notify_waiters();
    let _ = time::timeout(Duration::from_secs(1), socket.close(None)).await;
}

async fn cut(socket: &mut WebSocketStream<TcpStream>, bytes: &[u8]) {
    let stream = socket.get_mut();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
}

/// Takes a frame; returns whether the connection goes on.
fn take(shared: &Arc<Shared>, connection: u64, outgoing: &mpsc::UnboundedSender<Outgoing>, frame: &Value) -> bool {
    let (command, id) = (frame["cmd"].as_str().unwrap_or_default(), frame["headers"]["req_id"].as_str());
    let id = id.unwrap_or_default().to_owned();
    let mut state = shared.lock();
    let (silent, delay) = (state.faults.silent, state.faults.acknowledge_after);
    let (result, goes_on) = match command {
        "ping" => {
            state.pings += 1;
            (Ok(Value::Null), true)
        }
        "aibot_subscribe" => (state.subscribe(connection, outgoing, &frame["body"]), true),
        _ => state.answered(connection, command, &id, &frame["body"]),
    };
    let is_subscribed = command == "aibot_subscribe" && result.is_ok();
    let acknowledgement = match result {
        Ok(body) => json!({ "headers": { "req_id": id }, "errcode": 0, "errmsg": "ok", "body": body }),
        Err((code, text)) => json!({ "headers": { "req_id": id }, "errcode": code, "errmsg": text }),
    };
    if goes_on && !silent {
        let text = Outgoing::Text(acknowledgement.to_string());
        if delay.is_zero() || command == "ping" || command == "aibot_subscribe" {
            let _ = outgoing.send(text);
        } else {
            let outgoing = outgoing.clone();
            tokio::spawn(async move {
                time::sleep(delay).await;
                let _ = outgoing.send(text);
            });
        }
    }
    if is_subscribed {
        state.repeat(&frame["body"]["bot_id"]);
    }
    drop(state);
    shared.news.notify_waiters();
    goes_on
}

type Done = Result<Value, (i64, &'static str)>;

impl State {
    fn subscribe(&mut self, connection: u64, outgoing: &mpsc::UnboundedSender<Outgoing>, body: &Value) -> Done {
        let bot = body["bot_id"].as_str().unwrap_or_default().to_owned();
        if body["secret"].as_str() != self.secrets.get(&bot).map(String::as_str) {
            return Err((40_001, "invalid bot_id or secret"));
        }
        let now = Instant::now();
        if let Some(older) = self.current.insert(bot.clone(), Current { connection, outgoing: outgoing.clone() }) {
            let body = json!({
                "msgtype": "event", "aibotid": bot, "chattype": "single", "from": { "userid": "" },
                "msgid": format!("kick{connection}"), "event": { "eventtype": "disconnected_event" },
            });
            let frame = json!({ "cmd": "aibot_event_callback", "headers": { "req_id": "kick" }, "body": body });
            if !self.faults.keeps_older {
                let _ = older.outgoing.send(Outgoing::Text(frame.to_string()));
                let _ = older.outgoing.send(Outgoing::Close);
            }
            self.end(older.connection, now);
        }
        self.subscribed.push(Subscribed { connection, from: now, until: None, closed: None });
        Ok(Value::Null)
    }

    fn end(&mut self, connection: u64, now: Instant) {
        let subscribed = self.subscribed.iter_mut().find(|it| it.connection == connection && it.until.is_none());
        if let Some(subscribed) = subscribed {
            subscribed.until = Some(now);
        }
    }

    fn unsubscribe(&mut self, connection: u64) {
        let now = Instant::now();
        self.end(connection, now);
        self.subscribed.iter_mut().filter(|it| it.connection == connection).for_each(|it| it.closed = Some(now));
        self.current.retain(|_, current| current.connection != connection);
    }

    fn send(&self, bot: &str, what: Outgoing) {
        if let Some(current) = self.current.get(bot) {
            let _ = current.outgoing.send(what);
        }
    }

    /// Sends a message to the connection of its bot, if there is one.
    fn deliver(&mut self, at: usize) {
        let Self { current, pushed, requests, faults, .. } = self;
        let Some(pushed) = pushed.get_mut(at) else { return };
        let Some(current) = current.get(&pushed.bot).filter(|_| !faults.silent) else { return };
        *requests += 1;
        let id = format!("req{requests}");
        let frame = json!({ "cmd": pushed.command, "headers": { "req_id": id }, "body": pushed.body });
        pushed.requests.push((current.connection, id));
        let _ = current.outgoing.send(Outgoing::Text(frame.to_string()));
    }

    /// Sends what has no answer to a new connection.
    fn repeat(&mut self, bot: &Value) {
        let never = self.faults.never_repeats;
        let open = |it: &Pushed| it.bot == *bot && !it.is_answered && (it.requests.is_empty() || !never);
        let open: Vec<_> = (0..self.pushed.len()).filter(|at| open(&self.pushed[*at])).collect();
        open.into_iter().for_each(|at| self.deliver(at));
    }

    /// Takes an answer, a message or a piece of a file; returns whether the connection goes on.
    fn answered(&mut self, connection: u64, command: &str, id: &str, body: &Value) -> (Done, bool) {
        let is_current = self.current.values().any(|current| current.connection == connection);
        let done = match is_current {
            false => Err((846_609, "aibot websocket not subscribed")),
            true if command.starts_with("aibot_respond") && self.faults.busy > 0 => {
                self.faults.busy -= 1;
                Err((-1, "system busy"))
            }
            true => self.done(connection, command, id, body),
        };
        let is_done = done.is_ok();
        let (command, request_id) = (command.to_owned(), id.to_owned());
        self.frames.push(BotFrame { connection, command, request_id, body: body.clone(), is_done });
        let is_cut = is_done && self.faults.cut_on_answer > 0;
        self.faults.cut_on_answer -= u32::from(is_cut);
        (done, !is_cut)
    }

    fn done(&mut self, connection: u64, command: &str, id: &str, body: &Value) -> Done {
        match command {
            "aibot_send_msg" => match body["chatid"].as_str() {
                Some(_) if body[body["msgtype"].as_str().unwrap_or_default()].is_object() => Ok(Value::Null),
                _ => Err((40_008, "invalid message type")),
            },
            "aibot_upload_media_init" => {
                self.requests += 1;
                let upload = format!("upload{}", self.requests);
                self.uploads.insert(upload.clone(), Vec::new());
                Ok(json!({ "upload_id": upload }))
            }
            "aibot_upload_media_chunk" => {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let upload = self.uploads.get_mut(body["upload_id"].as_str().unwrap_or_default());
                let upload = upload.ok_or((40_007, "invalid upload_id"))?;
                let piece = STANDARD.decode(body["base64_data"].as_str().unwrap_or_default());
                let piece = piece.ok().filter(|piece| piece.len() <= 512 << 10).ok_or((40_009, "invalid piece"))?;
                upload.extend(piece);
                Ok(Value::Null)
            }
            "aibot_upload_media_finish" => {
                let upload = self.uploads.remove(body["upload_id"].as_str().unwrap_or_default());
                let upload = upload.ok_or((40_007, "invalid upload_id"))?;
                let media = format!("media{}", self.media.len());
                self.media.insert(media.clone(), upload);
                Ok(json!({ "type": "file", "media_id": media }))
            }
            "aibot_respond_msg" | "aibot_respond_welcome_msg" | "aibot_respond_update_msg" => {
                let forgets = self.faults.forgets_requests;
                let known = |request: &(u64, String)| request.1 == id && (!forgets || request.0 == connection);
                let pushed = self.pushed.iter_mut().find(|pushed| pushed.requests.iter().any(known));
                let pushed = pushed.ok_or((846_605, "invalid req_id"))?;
                pushed.is_answered |= body["msgtype"] != "stream" || body["stream"]["finish"] == true;
                Ok(Value::Null)
            }
            _ => Err((40_066, "invalid cmd")),
        }
    }
}
