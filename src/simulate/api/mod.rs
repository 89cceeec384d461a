//! The platforms' API, played: tokens that expire and are revoked, pages of customer service, messages that are sent.
//!
//! It checks requests as the platforms do, counts them, and misbehaves when it is told to. `echostr demo` has one, and
//! so have the tests; it listens on loopback only.

//! | file | what it plays |
//! |---|---|
//! | `calls` | the faults, and which call it is |
//! | `tokens` | access tokens, of third parties, too |
//! | `kf` | WeCom customer service |
//! | `messages` | messages that are sent, and calls whose answer is given |
//! | `bots` | AI bots over WebSocket, a server of its own |

mod bots;
mod calls;
mod kf;
mod messages;
mod tokens;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::Router;
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

pub use self::bots::{BotFaults, BotFrame, FakeBots, Subscribed};
use self::{
    kf::{Code, Desk},
    tokens::AccessToken,
};
use crate::config::Config;

/// How it misbehaves: how likely each is, per call, from 0 to 1.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// HTTP 502, and nothing was done.
    pub bad_gateway: f64,
    /// `-1`, the system is busy.
    pub busy: f64,
    /// 45009, called too often.
    pub limited: f64,
    /// An answer that is no JSON, and nothing was done.
    pub garbage: f64,
    /// The connection is cut when everything was done.
    pub cut: f64,
    /// No answer at all, and nothing was done.
    pub silent: f64,
    /// A page without entries, while there is more.
    pub empty_page: f64,
    /// A page begins with entries of the one before.
    pub duplicates: f64,
    /// The entries of a page are in another order.
    pub shuffled: f64,
    /// All access tokens are revoked.
    pub revoked: f64,
}

/// What it has been asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests by path.
    pub calls: HashMap<String, u64>,
    /// Access tokens that were made.
    pub tokens: u64,
    /// Revocations.
    pub revocations: u64,
    /// Messages that were refused because their id was used before.
    pub repeats: u64,
}

/// A message that was sent, or another call whose answer was [given](FakeApi::set_answer).
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Path of the API.
    pub path: String,
    /// To whom; empty for a call that names nobody.
    pub to: String,
    /// The whole body.
    pub body: Value,
}

/// A server that plays the API; it ends when this is dropped.
pub struct FakeApi {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    /// Notified of every message that is sent.
    news: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl fmt::Debug for FakeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeApi").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Shared {
    rng: StdRng,
    faults: Faults,
    counts: Counts,
    /// AppID or CorpID and secret.
    accounts: HashSet<(String, String)>,
    /// How long an access token is good.
    lifetime: Duration,
    tokens: HashMap<String, AccessToken>,
    /// The one that the account is given while it is good.
    current: HashMap<(String, String), String>,
    made: u64,
    page: usize,
    barred_agent: Option<u64>,
    barred_address: bool,
    desks: HashMap<String, Desk>,
    sent: Vec<Sent>,
    /// By path: what calls are answered with that nothing else is played for.
    answers: HashMap<String, Value>,
    /// Of third-party platforms and applications.
    tickets: HashMap<String, String>,
    /// Authorisation codes, with who has authorised.
    authorised: HashMap<String, String>,
    /// Refresh tokens and permanent codes, with who has given them.
    grants: HashMap<String, String>,
    codes: HashMap<String, Code>,
    news: Arc<Notify>,
}
/// What the platform says instead of doing something.
struct Refused(i64, &'static str);

type Answer = Result<Value, Refused>;

impl FakeApi {
    /// Listens on a free port of loopback; `seed` decides the faults.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let news = Arc::new(Notify::new());
        let shared = Arc::new(Mutex::new(Shared {
            news: Arc::clone(&news),
            rng: StdRng::seed_from_u64(seed),
            faults: Faults::default(),
            counts: Counts::default(),
            accounts: HashSet::new(),
            lifetime: Duration::from_secs(7200),
            tokens: HashMap::new(),
            current: HashMap::new(),
            made: 0,
            page: 1000,
            barred_agent: None,
            barred_address: false,
            desks: HashMap::new(),
            sent: Vec::new(),
            answers: HashMap::new(),
            tickets: HashMap::new(),
            authorised: HashMap::new(),
            grants: HashMap::new(),
            codes: HashMap::new(),
        }));
        let app = Router::new().fallback(calls::answer).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            // It ends by being aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, shared, news, serving })
    }

    /// What an account's `api_base` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plays the API of the accounts of a configuration that have a `secret` and no `api_base` of their own: knows them, and
    /// has them call this address.
    pub fn play_for(&self, config: &mut Config) {
        let accounts = config.accounts.iter_mut().filter(|account| account.api_base.is_none());
        for account in accounts {
            if let (Some(secret), Some(id)) = (&account.secret, account.receive_ids.first()) {
                self.add_account(id, secret.expose());
                account.api_base = Some(self.url());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// Misbehaves from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }
    /// A page has at most so many entries.
    pub fn set_page(&self, entries: usize) {
        self.lock().page = entries;
    }

    /// An application that may call nothing.
    pub fn bar_agent(&self, agent_id: u64) {
        self.lock().barred_agent = Some(agent_id);
    }

    /// The caller's address is in no allow list.
    pub fn bar_address(&self) {
        self.lock().barred_address = true;
    }
    /// What it has been asked for.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
