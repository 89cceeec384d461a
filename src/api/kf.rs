//! The calls of WeCom customer service (微信客服).

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Api, ApiError, Repeat, Sent};

const SYNC: &str = "cgi-bin/kf/sync_msg";
const SEND: &str = "cgi-bin/kf/send_msg";
const TRANSFER: &str = "cgi-bin/kf/service_state/trans";
const SEND_ON_EVENT: &str = "cgi-bin/kf/send_msg_on_event";

/// Entries of one page; the platform gives no more.
const LIMIT: u32 = 1000;

/// One answer of `kf/sync_msg`.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: String,
    /// 1 while there is more, also after a page without entries.
    #[serde(default)]
    has_more: u8,
    /// Messages and events as the platform wrote them.
    #[serde(default, rename = "msg_list")]
    pub entries: Vec<Box<RawValue>>,
}

impl Page {
    /// Whether another page follows.
    pub const fn has_more(&self) -> bool {
        self.has_more != 0
    }
}

impl Api {
    /// Messages and events of a customer-service account from `cursor` on; without one from the oldest of the last three
    /// days on. `token` is that of the callback, valid for 10 minutes; calls without one are limited narrowly.
    ///
    /// # Errors
    /// [`ApiError`]; 95007 when the token is no longer valid.
    pub async fn kf_sync(&self, open_kfid: &str, cursor: Option<&str>, token: Option<&str>) -> Result<Page, ApiError> {
        let mut body = json!({ "open_kfid": open_kfid, "limit": LIMIT });
        for (name, value) in [("cursor", cursor), ("token", token)] {
            if let Some(value) = value {
                body[name] = Value::from(value);
            }
        }
        let answer = self.answer(SYNC, &Sent::Post(body.to_string().into_bytes()), Repeat::Safe).await?;
        let not_a_page = |failure: serde_json::Error| {
            let where_ = format!("line {}, column {}", failure.line(), failure.column());
            ApiError::bad_answer(self.account(), SYNC, &format!("it is no page of messages ({where_})"))
        };
        serde_json::from_slice(&answer).map_err(not_a_page)
    }

    /// Sends a message to a customer within 48 hours and 5 messages of the customer's last one. `message` has `msgtype`
    /// and the member it names; `id` keeps a repeated call from sending twice: 1 to 32 letters, digits, `_` and `-`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn kf_send(
        &self,
        open_kfid: &str,
        customer: &str,
        id: &str,
        message: &serde_json::Map<String, Value>,
    ) -> Result<Value, ApiError> {
        let mut body = message.clone();
        body.insert("touser".to_owned(), customer.into());
        body.insert("open_kfid".to_owned(), open_kfid.into());
        body.insert("msgid".to_owned(), id.into());
        self.call_once(SEND, &body).await
    }

    /// Sends a message with the one-time code of an event: text or a menu.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn kf_send_on_event(
        &self,
        code: &str,
        id: &str,
        message: &serde_json::Map<String, Value>,
    ) -> Result<Value, ApiError> {
        let mut body = message.clone();
        body.insert("code".to_owned(), code.into());
        body.insert("msgid".to_owned(), id.into());
        self.call_once(SEND_ON_EVENT, &body).await
    }

    /// Changes who has the session of a customer. `to` has `service_state`, and `servicer_userid` where that needs one.
    ///
    /// # Errors
    /// [`ApiError`]; 95016 when the session cannot change to that state, or has it already.
    pub async fn kf_transfer(
        &self,
        open_kfid: &str,
        customer: &str,
        to: &serde_json::Map<String, Value>,
    ) -> Result<Value, ApiError> {
        let mut body = to.clone();
        body.insert("external_userid".to_owned(), customer.into());
        body.insert("open_kfid".to_owned(), open_kfid.into());
        self.call_once(TRANSFER, &body).await
    }
}
