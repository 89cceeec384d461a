//! Access tokens: cached in the process, shared by the nodes through the journal, refreshed ahead of their end.
//!
//! Only the holder of the account's lease asks the platform for a token, so that one revocation brings one refresh, on
//! however many nodes. Without the journal an account still gets a token: both kinds of API return the same token while
//! it is valid.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::Mutex as AsyncMutex, time};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    ApiError, error, receive,
    vault::{PrivateJson, Vault, VaultError},
    with_query,
};
use crate::{
    config::Account,
    journal::{Journal, JournalError, LeaseWrite, Millis, NamedLease},
    metrics::ApiMetrics,
    platform::Credential,
    secret::Secret,
    supervisor::TaskGroup,
};

/// A token is refreshed this long before its end, or in the last tenth of a shorter life.
const REFRESH_AHEAD: Millis = 600_000;

/// How long a node may take to request a token.
const LEASE_DURATION: Duration = Duration::from_secs(30);

/// How often the token of another node is polled for, and for how long.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const LEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a refusal stands. Platforms block an address that repeats a wrong secret.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// An access token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    value: Secret,
    renew: Millis,
    expires: Millis,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("renew", &self.renew).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Token {
    fn new(value: Secret, lives: Duration, now: Millis) -> Self {
        let lives = Millis::try_from(lives.as_millis()).unwrap_or(Millis::MAX);
        let expires = now.saturating_add(lives);
        Self { value, renew: expires - REFRESH_AHEAD.min(lives / 10), expires }
    }

    pub(super) fn expose(&self) -> &str {
        self.value.expose()
    }

    fn is_valid(&self, bad: Option<&Self>, now: Millis) -> bool {
        now < self.expires && bad.is_none_or(|bad| bad.value != self.value)
    }

    fn is_fresh(&self, bad: Option<&Self>, now: Millis) -> bool {
        now < self.renew && self.is_valid(bad, now)
    }
}

/// Whose token it is, and so how it is asked for.
#[derive(Debug)]
pub(super) enum Source {
    /// Of an Official Account or a Mini Program.
    Account,
    /// Of an application of the own company.
    Application,
    /// Of a third-party platform (`component_access_token`), from its ticket.
    Component,
    /// Of an account that has authorised a third-party platform.
    Authorizer(Tokens),
    /// Of a third-party application (`suite_access_token`), from its ticket.
    Suite,
    /// Of a company that has installed a third-party application.
    Company(Tokens),
}

/// A token as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    token: T,
    renew: Millis,
    expires: Millis,
}

type Renewing<'t> = Pin<Box<dyn Future<Output = Result<Arc<Token>, ApiError>> + Send + 't>>;

/// The token of one account.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account: String,
    source: Source,
    /// AppID, CorpID, SuiteID.
    id: String,
    secret: Secret,
    base: String,
    http: reqwest::Client,
    journal: Arc<dyn Journal>,
    lease_name: String,
    vault: Arc<Vault>,
    cached: Mutex<Option<Arc<Token>>>,
    refusal: Mutex<Option<(ApiError, Instant)>>,
    renewing: AsyncMutex<()>,
    metrics: ApiMetrics,
    tasks: TaskGroup,
}

impl Tokens {
    pub(super) fn new(
        account: &Account,
        credential: Credential,
        base: String,
        http: reqwest::Client,
        journal: Arc<dyn Journal>,
        metrics: ApiMetrics,
        tasks: TaskGroup,
    ) -> Result<Option<Self>, VaultError> {
        let source = match credential {
            Credential::Account => Source::Account,
            Credential::Application => Source::Application,
            Credential::Component => Source::Component,
            Credential::Suite => Source::Suite,
        };
        let (Some(secret), Some(id)) = (account.secret.clone(), account.receive_ids.first()) else { return Ok(None) };
        Ok(Some(Self(Arc::new(Inner {
            account: account.id(),
            source,
            id: id.clone(),
            base,
            http,
            journal,
            lease_name: format!("token/{}", account.id()),
            vault: Arc::new(Vault::new(&secret)?),
            secret,
            cached: Mutex::default(),
            refusal: Mutex::default(),
            renewing: AsyncMutex::default(),
            metrics,
            tasks,
        }))))
    }

    /// The token for an authorizer of this account.
    pub(super) fn of_authorizer(&self, id: &str) -> Option<Self> {
        let inner = &*self.0;
        let source = match inner.source {
            Source::Component => Source::Authorizer(self.clone()),
            Source::Suite => Source::Company(self.clone()),
            _ => return None,
        };
        Some(Self(Arc::new(Inner {
            account: inner.account.clone(),
            source,
            id: id.to_owned(),
            base: inner.base.clone(),
            http: inner.http.clone(),
            journal: Arc::clone(&inner.journal),
            lease_name: format!("token/{}/{id}", inner.account),
            vault: Arc::clone(&inner.vault),
            secret: inner.secret.clone(),
            cached: Mutex::default(),
            refusal: Mutex::default(),
            renewing: AsyncMutex::default(),
            metrics: inner.metrics.clone(),
            tasks: inner.tasks.clone(),
        })))
    }

    /// Name of the parameter that carries the token.
    pub(super) fn parameter(&self) -> &'static str {
        match self.0.source {
            Source::Component => "component_access_token",
            Source::Suite => "suite_access_token",
            _ => "access_token",
        }
    }

    /// AppID, CorpID or SuiteID.
    pub(super) fn id(&self) -> &str {
        &self.0.id
    }

    /// How far it is, in a word, and when it expires.
    pub(super) fn state(&self) -> (&'static str, Option<Millis>) {
        match self.0.cached() {
            Some(token) if token.is_valid(None, self.0.journal.now()) => ("valid", Some(token.expires)),
            token if self.0.still_refused().is_ok() => (token.map_or("none", |_| "expired"), None),
            _ => ("refused", None),
        }
    }

    /// Keeps a text in a named lease of the journal, sealed.
    pub(super) async fn keep(&self, what: What<'_>, text: &str) -> Result<(), JournalError> {
        self.0.keep(what, text).await
    }

    /// A valid token, other than the `bad` one that the platform no longer accepts.
    pub(super) async fn get(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let inner = &self.0;
        let now = inner.journal.now();
        if let Some(token) = inner.cached().filter(|token| token.is_valid(bad, now)) {
            if !token.is_fresh(bad, now) && inner.renewing.try_lock().is_ok() {
                let this = self.clone();
                inner.tasks.spawn(async move {
                    if let Err(failure) = this.renew(None).await {
                        warn!("{failure}; the present access token is still valid, so nothing is lost yet");
                    }
                });
            }
            return Ok(token);
        }
        self.renew(bad).await
    }

    /// Gets a fresh token: another node's, or a new one. Boxed, as a token may be requested with another one.
    fn renew<'t>(&'t self, bad: Option<&'t Token>) -> Renewing<'t> {
        Box::pin(self.renew_now(bad))
    }

    async fn renew_now(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let inner = &*self.0;
        let _only = inner.renewing.lock().await;
        if let Some(token) = inner.cached().filter(|token| token.is_fresh(bad, inner.journal.now())) {
            return Ok(token);
        }
        inner.still_refused()?;
        let began = Instant::now();
        let held = loop {
            match inner.journal.acquire_lease(&inner.lease_name, LEASE_DURATION).await {
                Ok(Some(held)) => break Some(held),
                Ok(None) if began.elapsed() < LEASE_TIMEOUT => {}
                Ok(None) => break None,
                Err(failure) => {
                    warn!("{}: cannot read the shared access token from the journal: {failure}", inner.account);
                    break None;
                }
            }
            if let Ok(Some(kept)) = inner.journal.read_lease(&inner.lease_name).await
                && let Some(token) = inner.usable(&kept, bad)
            {
                return Ok(token);
            }
            time::sleep(POLL_INTERVAL).await;
        };
        if let Some(held) = &held
            && let Some(token) = held.value.as_deref().and_then(|kept| inner.usable(kept, bad))
        {
            inner.release(held, None).await;
            return Ok(token);
        }
        let fetched = inner.fetch(bad).await;
        if let Some(held) = &held {
            inner.release(held, fetched.as_deref().ok()).await;
        }
        match &fetched {
            Ok(token) => *inner.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(token)),
            Err(failure) if !failure.is_passing() => {
                let refusal = Some((failure.clone(), Instant::now()));
                *inner.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
            }
            Err(_) => {}
        }
        fetched
    }
}

impl Inner {
    fn cached(&self) -> Option<Arc<Token>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A refusal stands for a while.
    fn still_refused(&self) -> Result<(), ApiError> {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refusal {
            Some((failure, at)) if at.elapsed() < REFUSED_PAUSE => Err(failure.clone()),
            _ => {
                *refusal = None;
                Ok(())
            }
        }
    }

    /// The journal's token, if it is usable; it is cached then.
    fn usable(&self, kept: &str, bad: Option<&Token>) -> Option<Arc<Token>> {
        let opened = self.vault.open(&self.lease_name, kept)?;
        let Kept { token, renew, expires } = serde_json::from_str::<Kept<String>>(&opened).ok()?;
        let token = Arc::new(Token { value: Secret::new(token), renew, expires });
        if !token.is_fresh(bad, self.journal.now()) {
            return None;
        }
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Some(token)
    }

    async fn release(&self, held: &NamedLease, token: Option<&Token>) {
        let sealed = token.map(|token| self.sealed(token)).transpose();
        // Without a value the lease is released, as it was.
        let value = sealed.as_ref().ok().cloned().flatten();
        let written = self.journal.write_lease(held, LeaseWrite { value, ..LeaseWrite::default() }).await;
        if let Err(failure) = sealed.map_err(JournalError::storage).and(written) {
            warn!("{}: could not publish the access token to other nodes: {failure}", self.account);
        }
    }

    /// A token as the journal keeps it.
    fn sealed(&self, token: &Token) -> Result<String, VaultError> {
        let kept = Kept { token: token.expose(), renew: token.renew, expires: token.expires };
        let kept = Zeroizing::new(serde_json::to_string(&kept).map_err(|_| VaultError)?);
        self.vault.seal(&self.lease_name, &kept)
    }

    /// Requests a token from the platform.
    async fn fetch(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let token = self.ask(false).await?;
        // The stable API gives the same token until it is forced, which it allows 20 times a day.
        let token = if bad.is_some_and(|bad| bad.value == token.value) && self.is_stable() {
            self.ask(true).await?
        } else {
            token
        };
        info!(account = self.account, "{}: access token refreshed", self.account);
        Ok(Arc::new(token))
    }

    /// Whether the account's tokens come from `stable_token`.
    const fn is_stable(&self) -> bool {
        matches!(self.source, Source::Account)
    }

    async fn ask(&self, force: bool) -> Result<Token, ApiError> {
        self.metrics.refreshed.increment(1);
        let asked = self.journal.now();
        let (path, name, mut answer) = match &self.source {
            Source::Account => {
                let path = "cgi-bin/stable_token";
                let body = PrivateJson::new(json!({
                    "grant_type": "client_credential",
                    "appid": self.id,
                    "secret": self.secret.expose(),
                    "force_refresh": force,
                }));
                (path, "access_token", self.post(path, &[], &body).await?)
            }
            Source::Application => {
                let path = "cgi-bin/gettoken";
                let query = [("corpid", &*self.id), ("corpsecret", self.secret.expose())];
                let request = self.http.get(with_query(&self.url(path), query.iter()));
                (path, "access_token", self.answer(path, request).await?)
            }
            Source::Component => {
                let path = "cgi-bin/component/api_component_token";
                let body = PrivateJson::new(json!({
                    "component_appid": self.id,
                    "component_appsecret": self.secret.expose(),
                    "component_verify_ticket": *self.kept(What::Ticket).await?,
                }));
                (path, "component_access_token", self.post(path, &[], &body).await?)
            }
            Source::Suite => {
                let path = "cgi-bin/service/get_suite_token";
                let body = PrivateJson::new(json!({
                    "suite_id": self.id,
                    "suite_secret": self.secret.expose(),
                    "suite_ticket": *self.kept(What::Ticket).await?,
                }));
                (path, "suite_access_token", self.post(path, &[], &body).await?)
            }
            Source::Authorizer(platform) => {
                let path = "cgi-bin/component/api_authorizer_token";
                // Without a token of its own the platform can do nothing, whoever has authorised it.
                platform.get(None).await?;
                let refresh = self.kept(What::Grant(&self.id)).await?;
                let body = PrivateJson::new(json!({
                    "component_appid": platform.id(),
                    "authorizer_appid": self.id,
                    "authorizer_refresh_token": *refresh,
                }));
                let answer = self.post_as(platform, path, &body).await?;
                if let Some(newer) =
                    answer.get()["authorizer_refresh_token"].as_str().filter(|newer| *newer != &**refresh)
                {
                    self.keep(What::Grant(&self.id), newer).await.map_err(|failure| ApiError::not_kept(&failure))?;
                }
                (path, "authorizer_access_token", answer)
            }
            Source::Company(suite) => {
                let path = "cgi-bin/service/get_corp_token";
                let body = PrivateJson::new(json!({
                    "auth_corpid": self.id,
                    "permanent_code": *self.kept(What::Grant(&self.id)).await?,
                }));
                (path, "access_token", self.post_as(suite, path, &body).await?)
            }
        };
        match (answer.take(name), answer.get()["expires_in"].as_u64()) {
            (Some(token), Some(seconds)) => Ok(Token::new(token, Duration::from_secs(seconds), asked)),
            _ => Err(ApiError::bad_answer(&self.account, path, &format!("`{name}` is missing"))),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn post(&self, path: &str, query: &[(&str, &str)], body: &PrivateJson) -> Result<PrivateJson, ApiError> {
        let request = self.http.post(with_query(&self.url(path), query.iter())).body(body.text());
        self.answer(path, request).await
    }

    /// A call with the platform's own token; repeated once if that token is no longer valid.
    async fn post_as(&self, upper: &Tokens, path: &str, body: &PrivateJson) -> Result<PrivateJson, ApiError> {
        let mut bad: Option<Arc<Token>> = None;
        loop {
            let token = upper.get(bad.as_deref()).await?;
            match self.post(path, &[(upper.parameter(), token.expose())], body).await {
                Err(failure) if failure.is_bad_token() && bad.is_none() => bad = Some(token),
                done => return done,
            }
        }
    }

    async fn answer(&self, path: &str, request: reqwest::RequestBuilder) -> Result<PrivateJson, ApiError> {
        let body = Zeroizing::new(receive(&self.account, path, request).await?);
        if let Some(refused) = error::refused(&self.account, path, &body) {
            return Err(refused);
        }
        PrivateJson::parse(&body).map_err(|_| ApiError::bad_answer(&self.account, path, "it is not JSON"))
    }

    /// A stored credential that the platform pushed.
    async fn kept(&self, what: What<'_>) -> Result<Zeroizing<String>, ApiError> {
        let lease_name = what.lease_name(&self.account);
        let kept = self.journal.read_lease(&lease_name).await.map_err(|failure| ApiError::not_kept(&failure))?;
        let kept = kept.and_then(|kept| self.vault.open(&lease_name, &kept)).filter(|kept| !kept.is_empty());
        kept.ok_or_else(|| match what {
            What::Ticket => ApiError::NoTicket(self.account.clone()),
            What::Grant(id) => ApiError::NotGranted { account: self.account.clone(), id: id.to_owned() },
        })
    }

    async fn keep(&self, what: What<'_>, text: &str) -> Result<(), JournalError> {
        let lease_name = what.lease_name(&self.account);
        let began = Instant::now();
        loop {
            if let Some(held) = self.journal.acquire_lease(&lease_name, LEASE_DURATION).await? {
                let sealed = self.vault.seal(&lease_name, text).map_err(JournalError::storage)?;
                let write = LeaseWrite { value: Some(sealed), ..LeaseWrite::default() };
                return self.journal.write_lease(&held, write).await.map(drop);
            }
            if began.elapsed() > LEASE_TIMEOUT {
                return Err(JournalError::Lost);
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Credentials that platforms push or return once, with which tokens are requested.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'i> {
    /// `component_verify_ticket`, `suite_ticket`: the latest counts.
    Ticket,
    /// The refresh token of an account, the permanent code of a company.
    Grant(&'i str),
}

impl What<'_> {
    fn lease_name(self, account: &str) -> String {
        match self {
            Self::Ticket => format!("ticket/{account}"),
            Self::Grant(id) => format!("grant/{account}/{id}"),
        }
    }
}
