//! Access tokens: of accounts, of third-party platforms and applications, and of those who have authorised them.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Answer, FakeApi, Refused, Shared};

pub(super) struct AccessToken {
    until: Instant,
    is_revoked: bool,
}

impl FakeApi {
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

    /// New access tokens are good for so long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lock().lifetime = lifetime;
    }

    /// No access token made so far is good any longer.
    pub fn revoke_tokens(&self) {
        self.lock().revoke();
    }
}

impl Shared {
    pub(super) fn revoke(&mut self) {
        self.counts.revocations += 1;
        self.current.clear();
        self.tokens.values_mut().for_each(|token| token.is_revoked = true);
    }

    pub(super) fn token(&mut self, id: &str, secret: &str, force: bool) -> Answer {
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

    pub(super) fn new_token(&mut self) -> String {
        self.made += 1;
        self.counts.tokens += 1;
        let token = format!("ACCESS_{}_{:016x}", self.made, self.rng.random::<u64>());
        self.tokens.insert(token.clone(), AccessToken { until: Instant::now() + self.lifetime, is_revoked: false });
        token
    }

    pub(super) fn third_party(&mut self, body: &Value, id: &str, secret: &str, ticket: &str) -> Answer {
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

    pub(super) fn redeem(&mut self, code: &Value) -> Result<(String, String), Refused> {
        let code = code.as_str().unwrap_or_default();
        let id = self.authorised.remove(code).ok_or(Refused(61010, "code is expired"))?;
        self.made += 1;
        let grant = format!("GRANT_{}", self.made);
        self.grants.insert(grant.clone(), id.clone());
        Ok((id, grant))
    }

    pub(super) fn component(&mut self, path: &str, body: &Value) -> Answer {
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

    pub(super) fn service(&mut self, path: &str, body: &Value) -> Answer {
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

    pub(super) fn check_token(&self, token: Option<&str>) -> Result<(), Refused> {
        let token = token.ok_or(Refused(41001, "access_token missing"))?;
        match self.tokens.get(token) {
            None => Err(Refused(40014, "invalid access_token")),
            Some(known) if known.is_revoked => Err(Refused(40001, "access_token is invalid or not latest")),
            Some(known) if known.until <= Instant::now() => Err(Refused(42001, "access_token expired")),
            Some(_) => Ok(()),
        }
    }
}
