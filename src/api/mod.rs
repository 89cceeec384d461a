//! The platforms' own API, as far as receiving needs it: pull announced messages, send late replies.
//!
//! ```text
//! handlers, pull, late replies ──▶ Api::call ──▶ token (cached, shared, refreshed early) ──▶ the platform
//!                                     ▲                                                        │
//!                                     └──── once more with a new token, later when limited ────┘
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `token` | access tokens: one refresh at a time, on all nodes |
//! | `vault` | what the journal keeps of them, sealed with the account's secret |
//! | `grant` | credentials of third-party platforms and applications: tickets, authorisations of accounts and companies |
//! | `error` | what the platforms' codes mean, and what to do about them |
//! | `addresses` | the addresses that the platform calls from |
//! | `kf` | the calls of WeCom customer service |

mod addresses;
mod error;
mod grant;
mod kf;
mod token;
mod vault;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::time;
use tracing::warn;

use self::token::{Token, Tokens};
pub use self::{
    error::{ApiError, meaning},
    kf::Page,
};
use crate::{
    config::{self, Account, Config},
    event::Platform,
    http,
    journal::{Journal, Millis},
    log::seconds,
    metrics::{ApiMetrics, Metrics},
    payload, platform,
    supervisor::{Supervisor, TaskGroup},
};

/// The longest answer that is read: a thousand messages of a customer-service account are less than half of it.
const LONGEST_ANSWER: usize = 16 << 20;

/// How often a call is made when the platform is busy, cannot be reached, or limits it.
const MAX_ATTEMPTS: u32 = 4;

/// A pause that is waited for even by callers that do not wait for long ones.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// The pause after a system failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Authorizers whose tokens are cached, at most; those of others are in the journal.
const MAX_AUTHORIZERS: usize = 10_000;

/// Paths that can be paused at one time, at most.
const MAX_PAUSED_PATHS: usize = 256;

/// The API of every account that has a `secret`.
#[derive(Clone, Debug, Default)]
pub struct Apis(Arc<HashMap<Arc<str>, Api>>);

impl Apis {
    /// Those of a configuration; access tokens are kept in the journal.
    ///
    /// # Errors
    /// [`ApiError::Client`] when the HTTP client cannot be set up.
    pub fn new(
        config: &Config,
        journal: &Arc<dyn Journal>,
        metrics: &Metrics,
        supervisor: &Supervisor,
    ) -> Result<Self, ApiError> {
        let tasks = supervisor.group("api.tokens");
        let with_secret = || config.accounts.iter().filter(|account| account.secret.is_some());
        if with_secret().next().is_none() {
            return Ok(Self::default());
        }
        let http = client(&config.api)?;
        let mut apis = HashMap::new();
        for account in with_secret() {
            if let Some(api) = Api::of(account, &config.api, http.clone(), journal, metrics.api(&account.id()), &tasks)?
            {
                apis.insert(Arc::clone(&api.0.account), api);
            }
        }
        Ok(Self(Arc::new(apis)))
    }

    /// The same, without keeping it.
    pub(crate) fn downgrade(&self) -> WeakApis {
        WeakApis(Arc::downgrade(&self.0))
    }

    /// That of an account, `mp/shop`.
    pub fn get(&self, account: &str) -> Option<&Api> {
        self.0.get(account)
    }

    /// The one for an event: of the account or the company that it is about, where the configured account acts for others.
    pub fn of_event(&self, account: &str, payload: &payload::Value<'_>, authorizer: Option<&str>) -> Option<Api> {
        // Most configurations have none.
        if self.0.is_empty() {
            return None;
        }
        let api = self.0.get(account)?;
        let of_authorizer =
            platform::acts_for(api.0.platform, payload, authorizer).and_then(|id| api.of_authorizer(id));
        Some(of_authorizer.unwrap_or_else(|| api.clone()))
    }
}

/// The API of every account, for whoever must not keep the journal open.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeakApis(Weak<HashMap<Arc<str>, Api>>);

impl WeakApis {
    /// That of an account, while the server runs.
    pub(crate) fn get(&self, account: &str) -> Option<Api> {
        self.upgrade()?.get(account).cloned()
    }

    /// All of them, while the server runs.
    pub(crate) fn upgrade(&self) -> Option<Apis> {
        self.0.upgrade().map(Apis)
    }
}

/// What calls the platform.
pub(crate) fn client(settings: &config::Api) -> Result<reqwest::Client, ApiError> {
    let client =
        http::builder().timeout(settings.timeout).connect_timeout(settings.timeout.min(Duration::from_secs(5)));
    client.build().map_err(|failure| ApiError::Client(failure.to_string()))
}

/// The API of one account. Cheap to clone.
///
/// Handlers have it from [`Context::api`](crate::hooks::Context::api).
#[derive(Clone)]
pub struct Api(Arc<Inner>, OnLimit);

/// What is done while the platform limits a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnLimit {
    /// The call waits.
    Wait,
    /// The call fails with [`ApiError::Limited`].
    Fail,
}

struct Inner {
    account: Arc<str>,
    platform: Platform,
    agent_id: Option<u64>,
    base: String,
    http: reqwest::Client,
    tokens: Tokens,
    /// Of the authorizers of this account, by AppID or CorpID.
    authorizers: Mutex<HashMap<String, Api>>,
    /// Paths that the platform limits.
    limited: Mutex<HashMap<String, Pause>>,
    limit_pause: Duration,
    metrics: ApiMetrics,
    /// Whether it acts for an account or a company that has authorised this one.
    is_of_authorizer: bool,
}

/// How long a path is paused, and the code that caused it.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    code: i64,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("account", &self.0.account).field("base", &self.0.base).finish_non_exhaustive()
    }
}

/// Whether a call may be repeated when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may: it is idempotent.
    Safe,
    /// It must not: only a call that was surely not executed is repeated.
    Never,
}

/// What is sent.
enum Sent<'c> {
    Get(&'c [(&'c str, &'c str)]),
    /// `GET` with whatever token the account has as `access_token`.
    GetWithAnyToken,
    Post(Vec<u8>),
}

impl Api {
    fn of(
        account: &Account,
        settings: &config::Api,
        http: reqwest::Client,
        journal: &Arc<dyn Journal>,
        metrics: ApiMetrics,
        tasks: &TaskGroup,
    ) -> Result<Option<Self>, ApiError> {
        let Some(rules) = account.platform.protocol().api() else { return Ok(None) };
        let base = account.api_base.clone().unwrap_or_else(|| rules.base.to_owned());
        let (http, journal) = (http.clone(), Arc::clone(journal));
        let tokens =
            Tokens::new(account, rules.credential, base.clone(), http.clone(), journal, metrics.clone(), tasks.clone());
        let Some(tokens) = tokens.map_err(|failure| ApiError::NotKept(failure.to_string()))? else { return Ok(None) };
        Ok(Some(Self(
            Arc::new(Inner {
                account: account.id().into(),
                platform: account.platform,
                agent_id: account.agent_id,
                base,
                http,
                tokens,
                authorizers: Mutex::default(),
                limited: Mutex::default(),
                limit_pause: settings.limit_pause,
                metrics,
                is_of_authorizer: false,
            }),
            OnLimit::Wait,
        )))
    }

    /// The same, for callers that have better things to do than to wait while the platform limits a call for long.
    pub(crate) fn without_waiting(&self) -> Self {
        Self(Arc::clone(&self.0), OnLimit::Fail)
    }

    /// Whether it acts for an account or a company that has authorised the configured one.
    pub(crate) fn is_of_authorizer(&self) -> bool {
        self.0.is_of_authorizer
    }

    /// The API of an account that has authorised this third-party platform (by AppID), or of a company that has installed
    /// this third-party application (by CorpID). Other accounts act for nobody.
    pub fn of_authorizer(&self, id: &str) -> Option<Self> {
        let inner = &*self.0;
        let mut authorizers = inner.authorizers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = authorizers.get(id) {
            return Some(known.clone());
        }
        let api = Self(
            Arc::new(Inner {
                account: Arc::clone(&inner.account),
                platform: inner.platform,
                agent_id: inner.agent_id,
                base: inner.base.clone(),
                http: inner.http.clone(),
                tokens: inner.tokens.of_authorizer(id)?,
                authorizers: Mutex::default(),
                limited: Mutex::default(),
                limit_pause: inner.limit_pause,
                metrics: inner.metrics.clone(),
                is_of_authorizer: true,
            }),
            OnLimit::Wait,
        );
        if authorizers.len() >= MAX_AUTHORIZERS {
            authorizers.clear();
        }
        authorizers.insert(id.to_owned(), api.clone());
        Some(api)
    }

    /// The account, `mp/shop`.
    pub fn account(&self) -> &str {
        &self.0.account
    }

    /// How far its access token is, in a word, and when that expires.
    pub(crate) fn token_state(&self) -> (&'static str, Option<Millis>) {
        self.0.tokens.state()
    }

    /// The application that sends messages, of a WeCom account.
    pub fn agent_id(&self) -> Option<u64> {
        self.0.agent_id
    }

    /// Calls an API with a JSON body: `call("cgi-bin/user/info/updateremark", &json!({…}))`. The access token is added,
    /// and renewed when the platform no longer takes it.
    ///
    /// System failures and limits are retried, within reason; the platform may then have executed the call more than
    /// once. See [`Api::call_once`].
    ///
    /// # Errors
    /// [`ApiError`], with the platform's code and what it means.
    pub async fn call(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Result<Value, ApiError> {
        self.post(path, body, Repeat::Safe).await
    }

    /// As [`Api::call`], but never repeated once the platform may have executed it.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::is_uncertain`] returns whether it may have been executed.
    pub async fn call_once(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Result<Value, ApiError> {
        self.post(path, body, Repeat::Never).await
    }

    /// Calls an API that takes its parameters in the query.
    ///
    /// # Errors
    /// [`ApiError`], with the platform's code and what it means.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ApiError> {
        self.value(path, &Sent::Get(query), Repeat::Safe).await
    }

    async fn post(&self, path: &str, body: &(impl Serialize + ?Sized), repeat: Repeat) -> Result<Value, ApiError> {
        let body = serde_json::to_vec(body).map_err(|failure| ApiError::NotJson(failure.to_string()))?;
        self.value(path, &Sent::Post(body), repeat).await
    }

    async fn value(&self, path: &str, sent: &Sent<'_>, repeat: Repeat) -> Result<Value, ApiError> {
        let body = self.answer(path, sent, repeat).await?;
        serde_json::from_slice(&body).map_err(|_| ApiError::bad_answer(&self.0.account, path, "it is not JSON"))
    }

    /// Checks that the secret works; requests a token from the platform if there is none yet.
    ///
    /// # Errors
    /// [`ApiError`], with what to do.
    pub async fn check(&self) -> Result<(), ApiError> {
        self.0.tokens.get(None).await.map(drop)
    }

    /// The body of an answer without an error code.
    async fn answer(&self, path: &str, sent: &Sent<'_>, repeat: Repeat) -> Result<Vec<u8>, ApiError> {
        let inner = &*self.0;
        let path = path.trim_start_matches('/');
        let mut renewed = false;
        let mut bad: Option<Arc<Token>> = None;
        let mut attempt = 1;
        loop {
            self.wait_for_limit(path).await?;
            let token = inner.tokens.get(bad.as_deref()).await.map_err(|failure| self.paused(failure))?;
            let failure = match self.exchange(path, sent, &token).await {
                Ok(body) => {
                    inner.metrics.calls.increment(1);
                    return Ok(body);
                }
                Err(failure) => failure,
            };
            inner.metrics.failed.increment(1);
            if failure.is_bad_token() && !renewed {
                (renewed, bad) = (true, Some(token));
                continue;
            }
            let surely_not_done = !failure.is_uncertain();
            if failure.is_limit() {
                let rest = self.limit(path, &failure);
                if self.1 == OnLimit::Fail && (attempt == MAX_ATTEMPTS || rest > SHORT_PAUSE) {
                    return Err(self.limited(path, failure.code().unwrap_or_default(), rest));
                }
            } else if !failure.is_passing() || (repeat == Repeat::Never && !surely_not_done) {
                return Err(failure);
            }
            if attempt == MAX_ATTEMPTS {
                return Err(failure);
            }
            if !failure.is_limit() {
                time::sleep(FIRST_PAUSE.saturating_mul(1 << attempt).mul_f64(rand::random_range(0.5..=1.0))).await;
            }
            attempt += 1;
        }
    }

    /// One request and its answer.
    async fn exchange(&self, path: &str, sent: &Sent<'_>, token: &Token) -> Result<Vec<u8>, ApiError> {
        let inner = &*self.0;
        let url = format!("{}/{path}", inner.base);
        let secret = [(inner.tokens.parameter(), token.expose())];
        let request = match sent {
            Sent::GetWithAnyToken => inner.http.get(with_query(&url, [("access_token", token.expose())].iter())),
            Sent::Get(query) => inner.http.get(with_query(&url, secret.iter().chain(*query))),
            Sent::Post(body) => inner
                .http
                .post(with_query(&url, secret.iter()))
                .header("content-type", "application/json; charset=utf-8")
                .body(body.clone()),
        };
        let body = receive(&inner.account, path, request).await?;
        error::refused(&inner.account, path, &body).map_or(Ok(body), Err)
    }

    /// Pauses a path for a while; returns how long.
    fn limit(&self, path: &str, failure: &ApiError) -> Duration {
        let pause = if failure.code() == Some(error::TOO_MANY_AT_ONCE) {
            Duration::from_millis(500).mul_f64(rand::random_range(0.2..=1.0))
        } else {
            self.0.limit_pause
        };
        let now = Instant::now();
        let mut limited = self.0.limited.lock().unwrap_or_else(PoisonError::into_inner);
        limited.retain(|_, rest| rest.until > now);
        let is_new = !limited.contains_key(path);
        if limited.len() < MAX_PAUSED_PATHS {
            let pausing = Pause { until: now + pause, code: failure.code().unwrap_or_default() };
            limited.insert(path.to_owned(), pausing);
        }
        drop(limited);
        if is_new && pause > SHORT_PAUSE {
            let account = &*self.0.account;
            warn!(account, "{failure}; no calls of it for {}, what needs it waits and is not lost", seconds(pause));
        }
        pause
    }

    /// A request for an access token that the platform limits: that is over after the same pause as other limits.
    fn paused(&self, failure: ApiError) -> ApiError {
        match &failure {
            ApiError::Refused { path, code, .. } if failure.is_limit() => {
                self.limited(path, *code, self.limit(path, &failure))
            }
            _ => failure,
        }
    }

    fn limited(&self, path: &str, code: i64, rest: Duration) -> ApiError {
        ApiError::Limited { account: self.0.account.to_string(), path: path.to_owned(), code, rest }
    }

    /// Waits while a path is paused.
    ///
    /// # Errors
    /// [`ApiError::Limited`] for callers that do not wait.
    async fn wait_for_limit(&self, path: &str) -> Result<(), ApiError> {
        let limited = self.0.limited.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        let Some(Pause { until, code }) = limited else { return Ok(()) };
        let rest = until.saturating_duration_since(Instant::now());
        if self.1 == OnLimit::Fail && rest > SHORT_PAUSE {
            return Err(self.limited(path, code, rest));
        }
        time::sleep(rest).await;
        Ok(())
    }
}

fn with_query<'p>(url: &str, parameters: impl Iterator<Item = &'p (&'p str, &'p str)>) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let mut url = url.to_owned();
    for (at, (name, value)) in parameters.enumerate() {
        url.push(if at == 0 && !url.contains('?') { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    url
}

/// Sends a request and reads its answer, which is a status of 200 and not too long.
async fn receive(account: &str, path: &str, request: reqwest::RequestBuilder) -> Result<Vec<u8>, ApiError> {
    let unreachable = |failure: reqwest::Error| {
        let (account, path, uncertain) = (account.to_owned(), path.to_owned(), !failure.is_connect());
        ApiError::Unreachable { account, path, cause: http::causes(failure), uncertain }
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        return Err(ApiError::Status { account: account.to_owned(), path: path.to_owned(), status: status.as_u16() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(ApiError::bad_answer(account, path, "it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
