//! Messages that are sent through the API.

use serde_json::{Value, json};

use super::{Answer, FakeApi, Refused, Sent, Shared};

impl FakeApi {
    /// Answers calls of `path` (`cgi-bin/tags/members/batchtagging`) with `answer` from now on, and keeps them with what
    /// was [sent](FakeApi::sent). An `errcode` other than 0 is a refusal.
    ///
    /// ```
    /// use echostr::simulate::api::FakeApi;
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let api = FakeApi::start(1).await?;
    /// api.set_answer("cgi-bin/user/info", json!({ "nickname": "Wei" }));
    /// # Ok::<_, std::io::Error>(())
    /// # })?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn set_answer(&self, path: &str, answer: Value) {
        self.lock().answers.insert(format!("/{}", path.trim_start_matches('/')), answer);
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

impl Shared {
    pub(super) fn send(&mut self, path: &str, body: &Value) -> Answer {
        let to = body["touser"].as_str().filter(|to| !to.is_empty()).ok_or(Refused(40003, "missing touser"))?;
        check_content(body)?;
        self.note(path, to.to_owned(), body)
    }

    /// Keeps a call whose answer was [given](FakeApi::set_answer).
    pub(super) fn note_answered(&mut self, path: &str, body: &Value, answer: Value) -> Value {
        self.keep(path, body["touser"].as_str().unwrap_or_default().to_owned(), body);
        answer
    }

    fn keep(&mut self, path: &str, to: String, body: &Value) {
        self.sent.push(Sent { path: path.to_owned(), to, body: body.clone() });
        self.news.notify_waiters();
    }

    pub(super) fn note(&mut self, path: &str, to: String, body: &Value) -> Answer {
        self.keep(path, to, body);
        Ok(json!({ "msgid": body["msgid"] }))
    }
}

/// The message has a type, and a member of that name.
pub(super) fn check_content(body: &Value) -> Result<(), Refused> {
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
