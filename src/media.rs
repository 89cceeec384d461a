//! Pictures, files and videos of messages to bots: downloaded from the platform, and decrypted.
//!
//! A message has a link to each, which works for minutes. What it leads to is encrypted: with the account's EncodingAESKey,
//! or with a key of its own (`aeskey`) beside the link, which is how it comes over WebSocket.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::Url;

use crate::{
    config::Account,
    crypto::{EncodingKey, KeyError, OpenError},
    payload::{Object, Value},
};

/// How long a download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Why media could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Messages to the account have no media.
    #[error("messages to {0} have no media that can be downloaded")]
    NoMedia(String),
    /// The link is no absolute URL, or has a user in it.
    #[error("the link is no URL of a file")]
    BadUrl,
    /// The link does not lead to the platform: it is not followed.
    #[error("the link does not lead to the platform but to `{0}`; add the host to `media_hosts` if it is right")]
    ForeignHost(String),
    /// The link is not `https`.
    #[error("the link is not https")]
    NotHttps,
    /// The platform did not answer, or not in time.
    #[error("the download failed: {0}")]
    Unreachable(String),
    /// The platform answered with another status than 200: the link works for minutes only.
    #[error("the download failed with status {0}: a link works for a few minutes only")]
    Status(u16),
    /// Larger than `media_limit`.
    #[error("the file is larger than `media_limit`, {0} bytes")]
    TooLarge(usize),
    /// There is neither an `aeskey` beside the link nor a key of the account.
    #[error("there is no key: neither `aeskey` beside the link, nor `aes_key` of the account")]
    NoKey,
    /// The `aeskey` beside the link is none.
    #[error("`aeskey` beside the link: {0}")]
    BadKey(#[from] KeyError),
    /// The key does not open the file.
    #[error("the file cannot be decrypted: {0}")]
    Undecryptable(#[from] OpenError),
}

/// Where an account's media come from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Media(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    /// Hosts of the platform; one `*` stands for any characters.
    platform: &'static [&'static str],
    /// Others, with their ports where they have one.
    configured: Vec<String>,
    /// The host of an address other than the platform's that the account connects to, and whether that is without TLS.
    gateway: Option<(String, bool)>,
    keys: Vec<EncodingKey>,
    limit: usize,
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").field("configured", &self.0.configured).finish_non_exhaustive()
    }
}

impl Media {
    /// Those of an account; `None` where its messages have none.
    pub(crate) fn of(account: &Account, http: &reqwest::Client) -> Option<Self> {
        let platform = account.platform.protocol().media_hosts();
        if platform.is_empty() {
            return None;
        }
        // The configuration has checked the keys.
        let keys = account.aes_keys.iter().filter_map(|key| EncodingKey::parse(key.expose()).ok()).collect();
        let (configured, limit) = (account.media_hosts.clone(), account.media_limit);
        let usual = account.platform.protocol().account().websocket;
        let gateway = account.websocket.as_ref().filter(|it| Some(&*it.url) != usual).and_then(|it| gateway(&it.url));
        Some(Self(Arc::new(Inner { http: http.clone(), platform, configured, gateway, keys, limit })))
    }

    /// Downloads and decrypts. `event` is the payload in which the link may have a key beside it.
    pub(crate) async fn get(&self, url: &str, event: Option<&Value<'_>>) -> Result<Vec<u8>, MediaError> {
        let inner = &*self.0;
        let keys = match event.and_then(|event| key_beside(event, url)) {
            Some(key) => vec![EncodingKey::parse(key.trim_end_matches('='))?],
            None if inner.keys.is_empty() => return Err(MediaError::NoKey),
            None => inner.keys.clone(),
        };
        let sealed = inner.download(inner.checked(url)?).await?;
        let (last, earlier) = keys.split_last().ok_or(MediaError::NoKey)?;
        for key in earlier {
            if let Ok(opened) = key.open_file(sealed.clone()) {
                return Ok(opened);
            }
        }
        Ok(last.open_file(sealed)?)
    }
}

impl Inner {
    /// The link, if it leads to where media may come from.
    fn checked(&self, url: &str) -> Result<Url, MediaError> {
        let url = Url::parse(url).map_err(|_| MediaError::BadUrl)?;
        let host = url.host_str().ok_or(MediaError::BadUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(MediaError::BadUrl);
        }
        let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
        let is_named = |known: &String| known == host && url.port().is_none() || Some(known) == with_port.as_ref();
        if self.configured.iter().any(is_named) && matches!(url.scheme(), "https" | "http") {
            return Ok(url);
        }
        // What is sent by a gateway of one's own may lead there.
        if let Some((gateway, is_plain)) = &self.gateway
            && gateway == host
        {
            let is_right = url.scheme() == "https" || (*is_plain && url.scheme() == "http");
            return if is_right { Ok(url) } else { Err(MediaError::NotHttps) };
        }
        if !self.platform.iter().any(|pattern| is_like(host, pattern)) || url.port().is_some() {
            return Err(MediaError::ForeignHost(host.chars().take(100).collect()));
        }
        if url.scheme() == "https" { Ok(url) } else { Err(MediaError::NotHttps) }
    }

    async fn download(&self, url: Url) -> Result<Vec<u8>, MediaError> {
        // The link itself lets whoever has it download the file.
        let unreachable = |failure: reqwest::Error| MediaError::Unreachable(failure.without_url().to_string());
        let request = self.http.get(url).timeout(DOWNLOAD_TIMEOUT);
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(MediaError::Status(response.status().as_u16()));
        }
        let too_large = MediaError::TooLarge(self.limit);
        let announced = response.content_length().unwrap_or_default();
        if usize::try_from(announced).is_ok_and(|length| length > self.limit) {
            return Err(too_large);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.limit {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The host of a `ws://` or `wss://` address, and whether it is without TLS.
fn gateway(url: &str) -> Option<(String, bool)> {
    let parsed = Url::parse(url).ok()?;
    Some((parsed.host_str()?.to_owned(), parsed.scheme() == "ws"))
}

/// Whether a host has the form of a pattern, in which one `*` stands for any characters.
fn is_like(host: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => host.len() > start.len() + end.len() && host.starts_with(start) && host.ends_with(end),
        None => host == pattern,
    }
}

/// The `aeskey` in the same object as a link.
fn key_beside<'v>(value: &'v Value<'_>, url: &str) -> Option<&'v str> {
    match value {
        Value::Object(object) => {
            let own = (object.text("url") == Some(url)).then(|| object.text("aeskey")).flatten();
            own.filter(|key| !key.is_empty()).or_else(|| object_values(object).find_map(|it| key_beside(it, url)))
        }
        Value::List(items) => items.iter().find_map(|item| key_beside(item, url)),
        _ => None,
    }
}

fn object_values<'v, 'p>(object: &'v Object<'p>) -> impl Iterator<Item = &'v Value<'p>> {
    object.iter().map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{http, payload, payload::Form};

    fn media(configured: &[&str]) -> Inner {
        let configured = configured.iter().map(ToString::to_string).collect();
        let platform = &["ww-aibot-*.myqcloud.com", "*.qq.com"];
        http::install_crypto();
        Inner { http: reqwest::Client::new(), platform, configured, gateway: None, keys: Vec::new(), limit: 1 }
    }

    #[test]
    fn only_links_to_the_platform_are_followed() {
        let media = media(&["127.0.0.1:8080", "files.example.com"]);
        for right in [
            "https://ww-aibot-img-1258476243.cos.ap-guangzhou.myqcloud.com/a/b?sign=q",
            "https://wework.qpic.qq.com/1",
            "http://127.0.0.1:8080/1",
            "http://files.example.com/1",
            "https://files.example.com/1",
        ] {
            assert!(media.checked(right).is_ok(), "{right}");
        }
        for wrong in [
            "https://evil.example.com/ww-aibot-img.myqcloud.com",
            "https://ww-aibot-img.myqcloud.com.evil.example.com/",
            "https://evilqq.com/",
            "https://.qq.com@evil.example.com/",
            "https://a.qq.com@evil.example.com/",
            "https://a.qq.com:8443/",
            "https://169.254.169.254/latest",
            "https://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "http://files.example.com:81/",
            "ftp://files.example.com/",
            "file:///etc/passwd",
            "/relative",
            "",
        ] {
            assert!(media.checked(wrong).is_err(), "{wrong}");
        }
        assert_eq!(media.checked("http://a.qq.com/"), Err(MediaError::NotHttps));
    }

    #[test]
    fn links_of_a_gateway_lead_to_its_own_host() {
        let mut media = media(&[]);
        for (url, plain, encrypted) in [("ws://127.0.0.1:9", true, true), ("wss://bots.example.com", false, true)] {
            media.gateway = gateway(url);
            let host = media.gateway.as_ref().unwrap().0.clone();
            assert_eq!(media.checked(&format!("http://{host}:8080/1")).is_ok(), plain, "{url}");
            assert_eq!(media.checked(&format!("https://{host}:8443/1")).is_ok(), encrypted, "{url}");
            assert!(media.checked("https://evil.example.com/").is_err() && media.checked("ftp://127.0.0.1/").is_err());
        }
    }

    #[test]
    fn a_key_belongs_to_the_link_beside_it() {
        let text = r#"{"image":{"url":"u1","aeskey":"k1"},"quote":{"mixed":{"msg_item":[
            {"text":{"content":"u2"}},{"image":{"url":"u2","aeskey":"k2"}}]}},"file":{"url":"u3","aeskey":""}}"#;
        let tree = payload::parse(Form::Json, text).unwrap();
        let keys = ["u1", "u2", "u3", "u4"].map(|url| key_beside(&tree, url));
        assert_eq!(keys, [Some("k1"), Some("k2"), None, None]);
    }
}
