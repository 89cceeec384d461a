//! Requests to a target, and what is read of its answers.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};

use super::{Guard, Signer};
use crate::{config::Target, http};

/// Under whose span whoever is asked puts its own (W3C Trace Context).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The largest answer that is read.
pub(crate) const BODY_LIMIT: usize = 1 << 20;

/// The longest `Retry-After` that is waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Idle connections that are kept to a target.
const IDLE_CONNECTIONS: usize = 256;

/// Sends to one target, over connections that it keeps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    proxy: Option<Url>,
    headers: HeaderMap,
    signer: Option<Signer>,
    guard: Guard,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &shown_url(&self.url)).finish_non_exhaustive()
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Message<'m> {
    /// Identity of the event: the same on every attempt.
    pub(crate) id: &'m str,
    /// The time of the attempt, Unix seconds.
    pub(crate) now: i64,
    pub(crate) content_type: &'m str,
    /// Beside those of Standard Webhooks and those of the target.
    pub(crate) headers: HeaderMap,
    /// More parameters of the query, as `a=1&b=2`.
    pub(crate) query: Option<&'m str>,
    pub(crate) body: Bytes,
}

/// Why there is no answer, or not all of it. Has no header and no query in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SendError(pub(crate) String);

impl From<reqwest::Error> for SendError {
    fn from(failure: reqwest::Error) -> Self {
        Self(http::causes(failure))
    }
}

/// An answer whose head is there.
#[derive(Debug)]
pub(crate) struct Received(reqwest::Response);

impl Client {
    /// # Errors
    /// When the system's certificates cannot be read.
    pub(crate) fn new(target: &Target, guard: &Guard) -> Result<Self, SendError> {
        let mut builder = http::builder()
            .timeout(target.timeout)
            .connect_timeout(target.timeout.min(Duration::from_secs(5)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .dns_resolver(guard.resolver(target.proxy.as_ref().unwrap_or(&target.url)));
        builder = match &target.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone())?),
            // One of the environment would be connected to unguarded.
            None => builder.no_proxy(),
        };
        let (url, proxy) = (target.url.clone(), target.proxy.clone());
        let headers = target.headers.iter().cloned().collect();
        let (signer, guard) = (target.signer.clone(), guard.clone());
        Ok(Self { http: builder.build()?, url, proxy, headers, signer, guard })
    }

    /// Sends a message, signed, and waits for the head of the answer. All of it has the timeout of the target, unless a shorter
    /// one is given.
    ///
    /// # Errors
    /// [`SendError`] when there is no answer, or where nothing may be sent.
    pub(crate) async fn post(&self, message: Message<'_>, timeout: Option<Duration>) -> Result<Received, SendError> {
        self.check_literals()?;
        let Message { id, now, content_type, mut headers, query, body } = message;
        headers.extend(self.headers.clone());
        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|_| SendError("a header cannot be sent".to_owned()));
        headers.insert(CONTENT_TYPE, value(content_type)?);
        headers.insert(HeaderName::from_static("webhook-id"), value(id)?);
        headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now));
        if let Some(signer) = &self.signer {
            headers.insert(HeaderName::from_static("webhook-signature"), value(&signer.sign(id, now, &body))?);
        }
        let mut url = self.url.clone();
        if let Some(more) = query {
            let query = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{more}"));
            url.set_query(Some(query.as_deref().unwrap_or(more)));
        }
        let mut request = self.http.post(url).headers(headers).body(body);
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        Ok(Received(request.send().await?))
    }

    /// Connects and asks what the target takes, which changes nothing; returns the status.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub(crate) async fn reach(&self) -> Result<u16, SendError> {
        self.check_literals()?;
        let request = self.http.request(Method::OPTIONS, self.url.clone()).headers(self.headers.clone());
        Ok(request.send().await?.status().as_u16())
    }

    fn check_literals(&self) -> Result<(), SendError> {
        let mut literals = std::iter::once(&self.url).chain(&self.proxy);
        literals.try_for_each(|url| self.guard.check_literal(url)).map_err(|refused| SendError(refused.to_string()))
    }

    /// Where it sends to, as it may be shown.
    pub(crate) fn shown(&self) -> String {
        shown_url(&self.url)
    }
}

impl Received {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// Whether the status is 2xx.
    pub(crate) fn is_success(&self) -> bool {
        self.0.status().is_success()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    #[allow(dead_code, reason = "for answers of services")]
    /// The type of the body, without parameters, in lower case.
    pub(crate) fn content_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// For how long the target wants to be left alone; a day at most.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(RETRY_AFTER.as_str())?, SystemTime::now())
    }

    /// The next part of the body.
    ///
    /// # Errors
    /// When the connection ends before the body does, or the time is over.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        Ok(self.0.chunk().await?)
    }

    #[allow(dead_code, reason = "for answers of services")]
    /// The body as a whole.
    ///
    /// # Errors
    /// As [`Received::chunk`], and when it is larger than 1 MiB.
    pub(crate) async fn body(mut self) -> Result<Vec<u8>, SendError> {
        match self.start_of_body(BODY_LIMIT).await? {
            (body, true) => Ok(body),
            (_, false) => Err(SendError("the answer is larger than 1 MiB".to_owned())),
        }
    }

    /// As much of the body as there is, up to a limit, and whether that is all of it.
    ///
    /// # Errors
    /// As [`Received::chunk`].
    pub(crate) async fn start_of_body(&mut self, limit: usize) -> Result<(Vec<u8>, bool), SendError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let room = limit - body.len();
            if chunk.len() > room {
                body.extend_from_slice(&chunk[..room]);
                return Ok((body, false));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, true))
    }
}

/// Seconds, or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let after = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(after.min(LONGEST_RETRY_AFTER))
}

/// A URL as it may be shown: without user, password, query and fragment.
pub(crate) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // They fail where there is none to be removed.
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_no_longer_than_a_day() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = httpdate::parse_http_date(date).unwrap();
        let minute = Duration::from_secs(60);
        for (value, now, expected) in [
            ("0", now, Some(Duration::ZERO)),
            (" 60 ", now, Some(minute)),
            ("99999999999999999999999", now, Some(LONGEST_RETRY_AFTER)),
            ("86401", now, Some(LONGEST_RETRY_AFTER)),
            (date, now - minute, Some(minute)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", now - minute, Some(minute)),
            (date, now + minute, Some(Duration::ZERO)),
            (date, SystemTime::UNIX_EPOCH, Some(LONGEST_RETRY_AFTER)),
            ("", now, None),
            ("-1", now, None),
            ("1.5", now, None),
            ("soon", now, None),
        ] {
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn nothing_secret_of_a_url_is_shown() {
        let url = Url::parse("https://me:pass@crm.example.com:8443/in?key=secret#part").unwrap();
        assert_eq!(shown_url(&url), "https://crm.example.com:8443/in");
    }
}
