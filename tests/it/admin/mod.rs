//! The event API and the page on the admin listener.

mod auth;
mod change;
mod cli;
mod mask;
mod read;
mod schema;
mod stream;

use serde_json::Value as Json;

use crate::support::{Answer, Http};

/// A client of the admin listener, with these lines in each head.
#[derive(Clone, Copy, Debug)]
pub struct Client<'h> {
    pub http: Http,
    pub headers: &'h str,
}

impl<'h> Client<'h> {
    pub const fn new(http: Http) -> Self {
        Self { http, headers: "" }
    }

    pub const fn with(self, headers: &'h str) -> Self {
        Self { headers, ..self }
    }

    /// Sends a request with a body, if there is one.
    pub async fn request(self, method: &str, target: &str, body: Option<&str>) -> Answer {
        let host = if self.headers.to_ascii_lowercase().contains("host:") { "" } else { "Host: 127.0.0.1\r\n" };
        let length = body.map_or_else(String::new, |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        });
        let head = format!("{method} {target} HTTP/1.1\r\n{host}{}{length}Connection: close\r\n\r\n", self.headers);
        self.http.send(format!("{head}{}", body.unwrap_or_default()).as_bytes()).await
    }

    /// The JSON of an answer that must be a success.
    #[track_caller]
    pub fn get(self, target: &str) -> impl Future<Output = Json> {
        let caller = std::panic::Location::caller();
        let target = target.to_owned();
        async move {
            let answer = self.request("GET", &target, None).await;
            assert_eq!(answer.status, 200, "{target} ({caller}): {}", answer.body);
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
            serde_json::from_str(&answer.body).unwrap()
        }
    }

    /// The status and the code of an answer that must be an error.
    pub async fn error(self, method: &str, target: &str, body: Option<&str>) -> (u16, String) {
        let answer = self.request(method, target, body).await;
        assert!(answer.status >= 400, "{method} {target}: {answer:?}");
        let error: Json =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{method} {target}: {answer:?}"));
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        (answer.status, error["error"]["code"].as_str().unwrap().to_owned())
    }
}

/// The members of a list that have this name, as texts.
pub fn texts<'j>(list: &'j Json, name: &str) -> Vec<&'j str> {
    list.as_array().unwrap().iter().map(|item| item[name].as_str().unwrap_or("-")).collect()
}
