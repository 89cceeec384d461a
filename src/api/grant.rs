//! Credentials of third-party platforms and applications: tickets, and the authorisations of accounts and companies.

use serde_json::json;

use super::{Api, ApiError, token::What, vault::PrivateJson};
use crate::{journal::JournalError, platform::Credential};

impl Api {
    /// Stores the latest ticket (`component_verify_ticket`, `suite_ticket`), sealed, for all nodes.
    ///
    /// # Errors
    /// When the journal cannot store it.
    pub async fn keep_ticket(&self, ticket: &str) -> Result<(), JournalError> {
        self.0.tokens.keep(What::Ticket, ticket).await
    }

    /// Redeems an authorisation code, and stores the credential. Returns the AppID or CorpID of the authorizer.
    ///
    /// # Errors
    /// [`ApiError`]; a code can be redeemed once.
    pub async fn redeem(&self, code: &str) -> Result<String, ApiError> {
        let credential = self.0.platform.protocol().api().map(|api| api.credential);
        let (path, mut answer) = match credential {
            Some(Credential::Component) => {
                let path = "cgi-bin/component/api_query_auth";
                let body = json!({ "component_appid": self.0.tokens.id(), "authorization_code": code });
                (path, PrivateJson::new(self.call_once(path, &body).await?["authorization_info"].take()))
            }
            Some(Credential::Suite) => {
                let path = "cgi-bin/service/get_permanent_code";
                (path, PrivateJson::new(self.call_once(path, &json!({ "auth_code": code })).await?))
            }
            _ => return Err(ApiError::NotGranted { account: self.account().to_owned(), id: String::new() }),
        };
        let (id, grant) = match credential {
            Some(Credential::Component) => (&answer.get()["authorizer_appid"], "authorizer_refresh_token"),
            _ => (&answer.get()["auth_corp_info"]["corpid"], "permanent_code"),
        };
        let (Some(id), Some(grant)) = (id.as_str().map(str::to_owned), answer.take(grant)) else {
            return Err(ApiError::bad_answer(self.account(), path, "it names no authorizer"));
        };
        self.keep_grant(&id, grant.expose()).await?;
        Ok(id)
    }

    /// Removes the authorisation of an account or a company: it was withdrawn.
    ///
    /// # Errors
    /// When the journal cannot remove it.
    pub async fn forget(&self, id: &str) -> Result<(), ApiError> {
        self.keep_grant(id, "").await
    }

    async fn keep_grant(&self, id: &str, grant: &str) -> Result<(), ApiError> {
        let kept = self.0.tokens.keep(What::Grant(id), grant).await;
        kept.map_err(|failure| ApiError::not_kept(&failure))
    }
}
