//! The platforms' API, played: tokens that expire and are revoked, pages of customer service, messages that are sent.
//!
//! It checks requests as the platforms do, counts them, and misbehaves when it is told to. `echostr demo` has one, and
//! so have the tests; it listens on loopback only.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State as Extract},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Limited};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

use crate::envelope::Query;

/// How long a customer's message may be answered, and how often.
const WINDOW: Duration = Duration::from_secs(48 * 3600);
const MESSAGES: u32 = 5;

/// How long the token of a callback and a welcome code are good.
const CALLBACK_TOKEN: Duration = Duration::from_secs(600);
const WELCOME_CODE: Duration = Duration::from_secs(20);

/// The code of a `msgid` that was used before. What the platform says is not documented.
const USED_BEFORE: i64 = 40058;

const LONGEST_BODY: usize = 1 << 20;

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

/// A message that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Path of the API.
    pub path: String,
    /// To whom.
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
    /// Of third-party platforms and applications.
    tickets: HashMap<String, String>,
    /// Authorisation codes, with who has authorised.
    authorised: HashMap<String, String>,
    /// Refresh tokens and permanent codes, with who has given them.
    grants: HashMap<String, String>,
    codes: HashMap<String, Code>,
    news: Arc<Notify>,
}

struct AccessToken {
    until: Instant,
    is_revoked: bool,
}

/// A customer-service account.
#[derive(Default)]
struct Desk {
    entries: Vec<Value>,
    tokens: HashMap<String, Instant>,
    ids: HashSet<String>,
    /// When each customer wrote last, and how often that was answered.
    customers: HashMap<String, (Instant, u32)>,
}

struct Code {
    open_kfid: String,
    customer: String,
    until: Instant,
    is_used: bool,
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
            tickets: HashMap::new(),
            authorised: HashMap::new(),
            grants: HashMap::new(),
            codes: HashMap::new(),
        }));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
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

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// Knows an account: AppID or CorpID, and secret.
    pub fn add_account(&self, id: &str, secret: &str) {
        self.lock().accounts.insert((id.to_owned(), secret.to_owned()));
    }

    /// Knows a third-party platform or application; tokens are made of this ticket only.
    pub fn add_third_party(&self, id: &str, secret: &str, ticket: &str) {
        let mut shared = self.lock();
        shared.accounts.insert((id.to_owned(), secret.to_owned()));
        shared.tickets.insert(id.to_owned(), ticket.to_owned());
    }

    /// An account or a company authorises the third party; gives the code to redeem.
    pub fn authorise(&self, id: &str) -> String {
        let mut shared = self.lock();
        shared.made += 1;
        let code = format!("AUTH_CODE_{}", shared.made);
        shared.authorised.insert(code.clone(), id.to_owned());
        code
    }

    /// Misbehaves from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// New access tokens are good for so long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lock().lifetime = lifetime;
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

    /// No access token made so far is good any longer.
    pub fn revoke_tokens(&self) {
        self.lock().revoke();
    }

    /// Adds an entry to a customer-service account; `entry` lacks `msgid`, `open_kfid` and `send_time`. Gives its id.
    pub fn add_entry(&self, open_kfid: &str, entry: Value) -> String {
        self.lock().add_entry(open_kfid, entry)
    }

    /// A customer writes a text. Gives the message's id.
    pub fn customer_writes(&self, open_kfid: &str, customer: &str, text: &str) -> String {
        let text = json!({ "content": text });
        self.add_entry(open_kfid, json!({ "external_userid": customer, "origin": 3, "msgtype": "text", "text": text }))
    }

    /// A customer's text of so long ago.
    pub fn add_old_entry(&self, open_kfid: &str, ago: Duration, customer: &str) {
        let mut shared = self.lock();
        let text = json!({ "content": "old" });
        let entry = json!({ "external_userid": customer, "origin": 3, "msgtype": "text", "text": text });
        shared.add_entry(open_kfid, entry);
        if let Some(entry) = shared.desks.get_mut(open_kfid).and_then(|desk| desk.entries.last_mut()) {
            let sent = entry["send_time"].as_u64().unwrap_or_default();
            entry["send_time"] = sent.saturating_sub(ago.as_secs()).into();
        }
    }

    /// A customer enters the session, with a code to be greeted. Gives the code.
    pub fn customer_enters(&self, open_kfid: &str, customer: &str) -> String {
        let mut shared = self.lock();
        let code = format!("WELCOME_{}", shared.codes.len() + 1);
        let known = Code {
            open_kfid: open_kfid.to_owned(),
            customer: customer.to_owned(),
            until: Instant::now() + WELCOME_CODE,
            is_used: false,
        };
        shared.codes.insert(code.clone(), known);
        let event = json!({
            "event_type": "enter_session",
            "open_kfid": open_kfid,
            "external_userid": customer,
            "scene": "demo",
            "welcome_code": code,
        });
        shared.add_entry(open_kfid, json!({ "origin": 4, "msgtype": "event", "event": event }));
        code
    }

    /// The token that a callback of a customer-service account carries now.
    pub fn callback_token(&self, open_kfid: &str) -> String {
        let mut shared = self.lock();
        shared.made += 1;
        let token = format!("CALLBACK_{}", shared.made);
        let desk = shared.desks.entry(open_kfid.to_owned()).or_default();
        desk.tokens.insert(token.clone(), Instant::now() + CALLBACK_TOKEN);
        token
    }

    /// How many entries a customer-service account has.
    pub fn entries(&self, open_kfid: &str) -> usize {
        self.lock().desks.get(open_kfid).map_or(0, |desk| desk.entries.len())
    }

    /// What it has been asked for.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// What was sent, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// What was sent, once it is so many messages.
    pub async fn sent_at_least(&self, count: usize) -> Vec<Sent> {
        loop {
            let news = self.news.notified();
            let sent = self.sent();
            if sent.len() >= count {
                return sent;
            }
            news.await;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a call.
enum Fate {
    Normal,
    Refused(Refused),
    BadGateway,
    Garbage,
    Cut,
    Silent,
}

async fn answer(Extract(shared): Extract<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body = body.to_bytes();
    let (fate, answer) = {
        let mut shared = lock(&shared);
        *shared.counts.calls.entry(head.uri.path().to_owned()).or_default() += 1;
        let fate = shared.fate();
        let done = match &fate {
            Fate::Normal | Fate::Cut => shared.call(&head.method, &head.uri, &body),
            Fate::Refused(Refused(code, text)) => Err(Refused(*code, text)),
            _ => Ok(Value::Null),
        };
        (fate, done)
    };
    match fate {
        Fate::BadGateway => StatusCode::BAD_GATEWAY.into_response(),
        Fate::Garbage => "<html>busy</html>".into_response(),
        Fate::Silent => pending().await,
        Fate::Cut => Response::new(Body::from_stream(cut())),
        Fate::Normal | Fate::Refused(_) => {
            let mut answer = answer.unwrap_or_else(|Refused(code, text)| json!({ "errcode": code, "errmsg": text }));
            if let Some(object) = answer.as_object_mut() {
                object.entry("errcode").or_insert_with(|| 0.into());
                object.entry("errmsg").or_insert_with(|| "ok".into());
            }
            answer.to_string().into_response()
        }
    }
}

/// A body that breaks off.
fn cut() -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    futures_util::stream::iter([Ok(Bytes::from_static(b"{\"err")), Err(io::ErrorKind::ConnectionAborted.into())])
}

impl Shared {
    /// Whether something happens to this call.
    fn fate(&mut self) -> Fate {
        let Faults { bad_gateway, busy, limited, garbage, cut, silent, revoked, .. } = self.faults;
        if self.chance(revoked) {
            self.revoke();
        }
        match () {
            () if self.chance(bad_gateway) => Fate::BadGateway,
            () if self.chance(busy) => Fate::Refused(Refused(-1, "system busy")),
            () if self.chance(limited) => Fate::Refused(Refused(45009, "api freq out of limit")),
            () if self.chance(garbage) => Fate::Garbage,
            () if self.chance(cut) => Fate::Cut,
            () if self.chance(silent) => Fate::Silent,
            () => Fate::Normal,
        }
    }

    fn chance(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.rng.random_bool(likely.min(1.0))
    }

    fn revoke(&mut self) {
        self.counts.revocations += 1;
        self.current.clear();
        self.tokens.values_mut().for_each(|token| token.is_revoked = true);
    }

    fn call(&mut self, method: &Method, uri: &Uri, body: &[u8]) -> Answer {
        let query = Query::parse(uri.query().unwrap_or_default()).map_err(|_| Refused(40035, "invalid parameter"))?;
        let body = match *method {
            Method::POST => serde_json::from_slice(body).map_err(|_| Refused(47001, "data format error"))?,
            _ => Value::Null,
        };
        match (method, uri.path()) {
            (&Method::GET, "/cgi-bin/gettoken") => {
                let (id, secret) = (query.get("corpid"), query.get("corpsecret"));
                // WeCom looks at the address when something is called.
                return self.token(id.unwrap_or_default(), secret.unwrap_or_default(), false);
            }
            (&Method::POST, "/cgi-bin/stable_token") => {
                if body["grant_type"] != "client_credential" {
                    return Err(Refused(40002, "invalid grant_type"));
                }
                if self.barred_address {
                    return Err(Refused(40164, "invalid ip 127.0.0.1, not in whitelist"));
                }
                let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                return self.token(&text("appid"), &text("secret"), body["force_refresh"] == true);
            }
            (&Method::POST, "/cgi-bin/component/api_component_token") => {
                return self.third_party(&body, "component_appid", "component_appsecret", "component_verify_ticket");
            }
            (&Method::POST, "/cgi-bin/service/get_suite_token") => {
                return self.third_party(&body, "suite_id", "suite_secret", "suite_ticket");
            }
            (_, path) if path.starts_with("/cgi-bin/component/") => {
                self.check_token(query.get("component_access_token"))?;
                return self.component(path, &body);
            }
            (_, path) if path.starts_with("/cgi-bin/service/") => {
                self.check_token(query.get("suite_access_token"))?;
                return self.service(path, &body);
            }
            _ => self.check_token(query.get("access_token"))?,
        }
        if self.barred_address {
            return Err(Refused(60020, "not allow to access from your ip"));
        }
        match (method, uri.path()) {
            (&Method::POST, "/cgi-bin/kf/sync_msg") => self.sync(&body),
            (&Method::POST, "/cgi-bin/kf/send_msg") => self.kf_send(&body),
            (&Method::POST, "/cgi-bin/kf/send_msg_on_event") => self.kf_send_on_event(&body),
            (&Method::POST, path @ "/cgi-bin/message/custom/send") => self.send(path, &body),
            (&Method::POST, path @ "/cgi-bin/message/send") => {
                if !body["agentid"].is_u64() {
                    return Err(Refused(40056, "invalid agentid"));
                }
                self.send(path, &body)
            }
            (&Method::GET, "/cgi-bin/agent/get") => match query.get("agentid").map(str::parse::<u64>) {
                Some(Ok(agent)) if Some(agent) == self.barred_agent => Err(Refused(48002, "api forbidden")),
                Some(Ok(agent)) => Ok(json!({ "agentid": agent, "name": "demo" })),
                _ => Err(Refused(40056, "invalid agentid")),
            },
            (&Method::GET, "/cgi-bin/getcallbackip") => Ok(json!({ "ip_list": ["127.0.0.1"] })),
            (&Method::POST, "/cgi-bin/kf/account/list") => {
                let desks: Vec<_> =
                    self.desks.keys().map(|desk| json!({ "open_kfid": desk, "name": "demo" })).collect();
                Ok(json!({ "account_list": desks }))
            }
            _ => Err(Refused(40066, "invalid url")),
        }
    }

    fn token(&mut self, id: &str, secret: &str, force: bool) -> Answer {
        let account = (id.to_owned(), secret.to_owned());
        if !self.accounts.iter().any(|(known, _)| known == id) {
            return Err(Refused(40013, "invalid appid"));
        }
        if !self.accounts.contains(&account) {
            return Err(Refused(40001, "invalid credential"));
        }
        let now = Instant::now();
        let good = self.current.get(&account).filter(|_| !force).cloned();
        if let Some(token) = good
            && let Some(known) = self.tokens.get(&token).filter(|known| known.until > now)
        {
            return Ok(json!({ "access_token": token, "expires_in": (known.until - now).as_secs() }));
        }
        let token = self.new_token();
        self.current.insert(account, token.clone());
        Ok(json!({ "access_token": token, "expires_in": self.lifetime.as_secs() }))
    }

    fn new_token(&mut self) -> String {
        self.made += 1;
        self.counts.tokens += 1;
        let token = format!("ACCESS_{}_{:016x}", self.made, self.rng.random::<u64>());
        self.tokens.insert(token.clone(), AccessToken { until: Instant::now() + self.lifetime, is_revoked: false });
        token
    }

    fn third_party(&mut self, body: &Value, id: &str, secret: &str, ticket: &str) -> Answer {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        if self.tickets.get(&text(id)) != Some(&text(ticket)) {
            return Err(Refused(40085, "invalid ticket"));
        }
        if !self.accounts.contains(&(text(id), text(secret))) {
            return Err(Refused(40001, "invalid secret"));
        }
        let name = if id == "suite_id" { "suite_access_token" } else { "component_access_token" };
        let mut answer = json!({ "expires_in": self.lifetime.as_secs() });
        answer[name] = self.new_token().into();
        Ok(answer)
    }

    fn redeem(&mut self, code: &Value) -> Result<(String, String), Refused> {
        let code = code.as_str().unwrap_or_default();
        let id = self.authorised.remove(code).ok_or(Refused(61010, "code is expired"))?;
        self.made += 1;
        let grant = format!("GRANT_{}", self.made);
        self.grants.insert(grant.clone(), id.clone());
        Ok((id, grant))
    }

    fn component(&mut self, path: &str, body: &Value) -> Answer {
        if !self.tickets.contains_key(body["component_appid"].as_str().unwrap_or_default()) {
            return Err(Refused(40013, "invalid appid"));
        }
        match path {
            "/cgi-bin/component/api_query_auth" => {
                let (id, grant) = self.redeem(&body["authorization_code"])?;
                let token = self.new_token();
                Ok(json!({ "authorization_info": {
                    "authorizer_appid": id,
                    "authorizer_access_token": token,
                    "expires_in": self.lifetime.as_secs(),
                    "authorizer_refresh_token": grant,
                } }))
            }
            "/cgi-bin/component/api_authorizer_token" => {
                let grant = body["authorizer_refresh_token"].as_str().unwrap_or_default();
                if self.grants.get(grant).map(String::as_str) != body["authorizer_appid"].as_str() {
                    return Err(Refused(61023, "refresh_token is invalid"));
                }
                Ok(json!({
                    "authorizer_access_token": self.new_token(),
                    "expires_in": self.lifetime.as_secs(),
                    "authorizer_refresh_token": grant,
                }))
            }
            _ => Err(Refused(40066, "invalid url")),
        }
    }

    fn service(&mut self, path: &str, body: &Value) -> Answer {
        match path {
            "/cgi-bin/service/get_permanent_code" => {
                let (id, grant) = self.redeem(&body["auth_code"])?;
                let token = self.new_token();
                Ok(json!({
                    "access_token": token,
                    "expires_in": self.lifetime.as_secs(),
                    "permanent_code": grant,
                    "auth_corp_info": { "corpid": id, "corp_name": "demo" },
                }))
            }
            "/cgi-bin/service/get_corp_token" => {
                let grant = body["permanent_code"].as_str().unwrap_or_default();
                if self.grants.get(grant).map(String::as_str) != body["auth_corpid"].as_str() {
                    return Err(Refused(40084, "invalid permanent_code"));
                }
                Ok(json!({ "access_token": self.new_token(), "expires_in": self.lifetime.as_secs() }))
            }
            _ => Err(Refused(40066, "invalid url")),
        }
    }

    fn check_token(&self, token: Option<&str>) -> Result<(), Refused> {
        let token = token.ok_or(Refused(41001, "access_token missing"))?;
        match self.tokens.get(token) {
            None => Err(Refused(40014, "invalid access_token")),
            Some(known) if known.is_revoked => Err(Refused(40001, "access_token is invalid or not latest")),
            Some(known) if known.until <= Instant::now() => Err(Refused(42001, "access_token expired")),
            Some(_) => Ok(()),
        }
    }

    fn add_entry(&mut self, open_kfid: &str, mut entry: Value) -> String {
        self.made += 1;
        let id = format!("kf_msg_{}", self.made);
        let desk = self.desks.entry(open_kfid.to_owned()).or_default();
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        entry["msgid"] = id.as_str().into();
        entry["send_time"] = sent.into();
        if entry["msgtype"] != "event" {
            entry["open_kfid"] = open_kfid.into();
        }
        if entry["origin"] == 3
            && let Some(customer) = entry["external_userid"].as_str()
        {
            desk.customers.insert(customer.to_owned(), (Instant::now(), 0));
        }
        desk.entries.push(entry);
        id
    }

    /// A cursor is the number of entries before it, and how many empty pages there were at it.
    fn sync(&mut self, body: &Value) -> Answer {
        let open_kfid = body["open_kfid"].as_str().ok_or(Refused(40058, "missing open_kfid"))?.to_owned();
        let limit = body["limit"].as_u64().unwrap_or(1000);
        if !(1..=1000).contains(&limit) {
            return Err(Refused(40058, "limit out of range"));
        }
        let (empty, doubled, shuffled) = {
            let Faults { empty_page, duplicates, shuffled, .. } = self.faults;
            (self.chance(empty_page), self.chance(duplicates), self.chance(shuffled))
        };
        let page = self.page.min(usize::try_from(limit).unwrap_or(usize::MAX));
        let desk = self.desks.get(&open_kfid).ok_or(Refused(95000, "invalid open_kfid"))?;
        if let Some(token) = body["token"].as_str()
            && desk.tokens.get(token).is_none_or(|until| *until <= Instant::now())
        {
            return Err(Refused(95007, "invalid msg token"));
        }
        let at = match body["cursor"].as_str() {
            None => 0,
            Some(cursor) => {
                let number = cursor.strip_prefix("CURSOR_").and_then(|rest| rest.split('_').next()?.parse().ok());
                number.filter(|at| *at <= desk.entries.len()).ok_or(Refused(40058, "invalid cursor"))?
            }
        };
        if empty && at < desk.entries.len() {
            let cursor = format!("CURSOR_{at}_{:04x}", self.rng.random::<u16>());
            return Ok(json!({ "next_cursor": cursor, "has_more": 1, "msg_list": [] }));
        }
        let end = (at + page).min(desk.entries.len());
        let begin = if doubled { at.saturating_sub(3) } else { at };
        let mut entries: VecDeque<_> = desk.entries[begin..end].iter().cloned().collect();
        if shuffled && entries.len() > 1 {
            let turn = self.rng.random_range(1..entries.len());
            entries.rotate_left(turn);
        }
        let has_more = u8::from(end < desk.entries.len());
        Ok(json!({ "next_cursor": format!("CURSOR_{end}_0"), "has_more": has_more, "msg_list": entries }))
    }

    fn kf_send(&mut self, body: &Value) -> Answer {
        let open_kfid = body["open_kfid"].as_str().unwrap_or_default().to_owned();
        let customer = body["touser"].as_str().ok_or(Refused(40003, "missing touser"))?.to_owned();
        check_content(body)?;
        let desk = self.desks.get_mut(&open_kfid).ok_or(Refused(95000, "invalid open_kfid"))?;
        let id = own_id(body)?;
        if desk.ids.contains(id) {
            self.counts.repeats += 1;
            return Err(Refused(USED_BEFORE, "msgid was used before"));
        }
        match desk.customers.get_mut(&customer) {
            Some((wrote, _)) if wrote.elapsed() > WINDOW => return Err(Refused(95002, "48 hours are over")),
            None => return Err(Refused(95002, "the customer wrote nothing")),
            Some((_, answers)) if *answers >= MESSAGES => return Err(Refused(95001, "5 messages were sent")),
            Some((_, answers)) => *answers += 1,
        }
        desk.ids.insert(id.to_owned());
        self.note("/cgi-bin/kf/send_msg", customer, body)
    }

    fn kf_send_on_event(&mut self, body: &Value) -> Answer {
        let code = body["code"].as_str().ok_or(Refused(40058, "missing code"))?;
        check_content(body)?;
        if !["text", "msgmenu"].contains(&body["msgtype"].as_str().unwrap_or_default()) {
            return Err(Refused(40008, "invalid message type"));
        }
        let id = own_id(body)?;
        let code = self.codes.get_mut(code).ok_or(Refused(95023, "invalid code"))?;
        let desk = self.desks.entry(code.open_kfid.clone()).or_default();
        if !desk.ids.insert(id.to_owned()) {
            self.counts.repeats += 1;
            return Err(Refused(USED_BEFORE, "msgid was used before"));
        }
        if code.is_used || code.until <= Instant::now() {
            return Err(Refused(95023, "the code is used or over"));
        }
        code.is_used = true;
        let customer = code.customer.clone();
        self.note("/cgi-bin/kf/send_msg_on_event", customer, body)
    }

    fn send(&mut self, path: &str, body: &Value) -> Answer {
        let to = body["touser"].as_str().filter(|to| !to.is_empty()).ok_or(Refused(40003, "missing touser"))?;
        check_content(body)?;
        self.note(path, to.to_owned(), body)
    }

    fn note(&mut self, path: &str, to: String, body: &Value) -> Answer {
        self.sent.push(Sent { path: path.to_owned(), to, body: body.clone() });
        self.news.notify_waiters();
        Ok(json!({ "msgid": body["msgid"] }))
    }
}

/// The message has a type, and a member of that name.
fn check_content(body: &Value) -> Result<(), Refused> {
    let kind = body["msgtype"].as_str().ok_or(Refused(40008, "invalid message type"))?;
    if !body[kind].is_object() {
        return Err(Refused(44004, "empty content"));
    }
    match body["text"]["content"].as_str() {
        Some("") => Err(Refused(44004, "empty content")),
        Some(text) if text.len() > 2048 => Err(Refused(45002, "content size out of limit")),
        None if kind == "text" => Err(Refused(44004, "empty content")),
        _ => Ok(()),
    }
}

fn own_id(body: &Value) -> Result<&str, Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let id = body["msgid"].as_str().unwrap_or_default();
    let is_good = (1..=32).contains(&id.len()) && id.bytes().all(allowed);
    is_good.then_some(id).ok_or(Refused(40058, "invalid msgid"))
}
