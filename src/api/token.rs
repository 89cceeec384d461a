//! Access tokens: cached in the process, shared by the nodes through the journal, renewed ahead of their end.
//!
//! Only the holder of the account's slot asks the platform for a token, so that one revocation brings one refresh, on
//! however many nodes. A journal that is away does not keep an account from its token: both kinds of API give the same
//! token to whoever asks while it is good.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::Mutex as AsyncMutex, time};
use tracing::{info, warn};

use super::{ApiError, error, receive, vault::Vault, with_query};
use crate::{
    config::Account,
    event::Platform,
    journal::{Held, Journal, Millis, WriteSlot, now_millis},
    metrics::ApiMetrics,
    secret::Secret,
};

/// A token is renewed this long before its end, or in the last tenth of a shorter life.
const AHEAD: Millis = 600_000;

/// How long a node may take to ask for a token.
const TERM: Duration = Duration::from_secs(30);

/// How often it is looked whether another node has a token, and for how long.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a refusal stands. Asking again and again with a wrong secret gets the address blocked.
const REFUSED: Duration = Duration::from_secs(60);

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
    fn new(value: &str, lives: Duration, now: Millis) -> Self {
        let lives = Millis::try_from(lives.as_millis()).unwrap_or(Millis::MAX);
        let expires = now.saturating_add(lives);
        Self { value: Secret::new(value), renew: expires - AHEAD.min(lives / 10), expires }
    }

    pub(super) fn expose(&self) -> &str {
        self.value.expose()
    }

    fn is_good(&self, bad: Option<&Self>, now: Millis) -> bool {
        now < self.expires && bad.is_none_or(|bad| bad.value != self.value)
    }

    fn is_fresh(&self, bad: Option<&Self>, now: Millis) -> bool {
        now < self.renew && self.is_good(bad, now)
    }
}

/// A token as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Kept<'t> {
    token: std::borrow::Cow<'t, str>,
    renew: Millis,
    expires: Millis,
}

/// The token of one account.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account: String,
    platform: Platform,
    /// AppID or CorpID.
    id: String,
    secret: Secret,
    base: String,
    http: reqwest::Client,
    journal: Arc<dyn Journal>,
    slot: String,
    vault: Vault,
    cached: Mutex<Option<Arc<Token>>>,
    refusal: Mutex<Option<(ApiError, Instant)>>,
    renewing: AsyncMutex<()>,
    metrics: ApiMetrics,
}

impl Tokens {
    pub(super) fn new(
        account: &Account,
        base: String,
        http: reqwest::Client,
        journal: Arc<dyn Journal>,
        metrics: ApiMetrics,
    ) -> Option<Self> {
        let secret = account.secret.clone()?;
        Some(Self(Arc::new(Inner {
            account: account.id(),
            platform: account.platform,
            id: account.receive_ids.first()?.clone(),
            base,
            http,
            journal,
            slot: format!("token/{}", account.id()),
            vault: Vault::new(&secret),
            secret,
            cached: Mutex::default(),
            refusal: Mutex::default(),
            renewing: AsyncMutex::default(),
            metrics,
        })))
    }

    /// A token that is good, and not the `bad` one that the platform no longer takes.
    pub(super) async fn get(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let inner = &self.0;
        let now = now_millis();
        if let Some(token) = inner.cached().filter(|token| token.is_good(bad, now)) {
            if !token.is_fresh(bad, now) && inner.renewing.try_lock().is_ok() {
                let this = self.clone();
                tokio::spawn(async move {
                    if let Err(failure) = this.renew(None).await {
                        warn!("{failure}; the token is good for a while yet");
                    }
                });
            }
            return Ok(token);
        }
        self.renew(bad).await
    }

    /// Gets a fresh token: another node's, or a new one.
    async fn renew(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let inner = &*self.0;
        let _only = inner.renewing.lock().await;
        if let Some(token) = inner.cached().filter(|token| token.is_fresh(bad, now_millis())) {
            return Ok(token);
        }
        inner.still_refused()?;
        let began = Instant::now();
        let held = loop {
            match inner.journal.hold_slot(&inner.slot, TERM).await {
                Ok(Some(held)) => break Some(held),
                Ok(None) if began.elapsed() < PATIENCE => {}
                Ok(None) => break None,
                Err(failure) => {
                    warn!("{}: the journal does not tell of access tokens: {failure}", inner.account);
                    break None;
                }
            }
            if let Ok(Some(kept)) = inner.journal.read_slot(&inner.slot).await
                && let Some(token) = inner.usable(&kept, bad)
            {
                return Ok(token);
            }
            time::sleep(LOOK).await;
        };
        if let Some(held) = &held
            && let Some(token) = held.value.as_deref().and_then(|kept| inner.usable(kept, bad))
        {
            inner.let_go(held, None).await;
            return Ok(token);
        }
        let fetched = inner.fetch(bad).await;
        if let Some(held) = &held {
            inner.let_go(held, fetched.as_deref().ok()).await;
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
            Some((failure, at)) if at.elapsed() < REFUSED => Err(failure.clone()),
            _ => {
                *refusal = None;
                Ok(())
            }
        }
    }

    /// What the journal keeps, if it will do; it is cached then.
    fn usable(&self, kept: &str, bad: Option<&Token>) -> Option<Arc<Token>> {
        let opened = self.vault.open(&self.slot, kept)?;
        let Kept { token, renew, expires } = serde_json::from_str(&opened).ok()?;
        let token = Arc::new(Token { value: Secret::new(&*token), renew, expires });
        if !token.is_fresh(bad, now_millis()) {
            return None;
        }
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Some(token)
    }

    async fn let_go(&self, held: &Held, token: Option<&Token>) {
        let value = token.map(|token| {
            let kept = Kept { token: token.expose().into(), renew: token.renew, expires: token.expires };
            self.vault.seal(&self.slot, &serde_json::to_string(&kept).unwrap_or_default())
        });
        if let Err(failure) = self.journal.write_slot(held, WriteSlot { value, ..WriteSlot::default() }).await {
            warn!("{}: other nodes are not told of the access token: {failure}", self.account);
        }
    }

    /// Asks the platform.
    async fn fetch(&self, bad: Option<&Token>) -> Result<Arc<Token>, ApiError> {
        let token = self.ask(false).await?;
        // The stable API gives the same token until it is forced, which it allows 20 times a day.
        let token = if bad.is_some_and(|bad| bad.value == token.value) && self.is_stable() {
            self.ask(true).await?
        } else {
            token
        };
        info!(account = self.account, "{}: has a new access token", self.account);
        Ok(Arc::new(token))
    }

    /// Whether the account's tokens come from `stable_token`.
    const fn is_stable(&self) -> bool {
        matches!(self.platform, Platform::Mp | Platform::MiniProgram)
    }

    async fn ask(&self, force: bool) -> Result<Token, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: String,
            expires_in: u64,
        }
        self.metrics.refreshed.increment(1);
        let asked = now_millis();
        let (path, request) = if self.is_stable() {
            let path = "cgi-bin/stable_token";
            let body = json!({
                "grant_type": "client_credential",
                "appid": self.id,
                "secret": self.secret.expose(),
                "force_refresh": force,
            });
            (path, self.http.post(format!("{}/{path}", self.base)).body(body.to_string()))
        } else {
            let path = "cgi-bin/gettoken";
            let query = [("corpid", &*self.id), ("corpsecret", self.secret.expose())];
            (path, self.http.get(with_query(&format!("{}/{path}", self.base), query.iter())))
        };
        let body = receive(&self.account, path, request).await?;
        if let Some(refused) = error::refused(&self.account, path, &body) {
            return Err(refused);
        }
        let Answer { access_token, expires_in } = serde_json::from_slice(&body)
            .map_err(|_| ApiError::bad_answer(&self.account, path, "it has no access_token"))?;
        Ok(Token::new(&access_token, Duration::from_secs(expires_in), asked))
    }
}
