//! Sessions of the page: whoever had the token has a cookie for a while. They end with the process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header::COOKIE};
use sha2::{Digest as _, Sha256};

/// Name of the cookie.
const NAME: &str = "echostr_session";

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Sessions at one time; the oldest one ends for a new one.
const MAX_SESSIONS: usize = 256;

/// By the hash of what is in the cookie, so that a look-up says nothing about it.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Instant>>);

impl Sessions {
    /// Begins a session; returns what the cookie has. `None` when the system gives no random bytes.
    pub(super) fn begin(&self, is_secure: bool) -> Option<String> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok()?;
        let secret = hex(&secret);
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, begun| now.saturating_duration_since(*begun) < LIFETIME);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, begun)| **begun).map(|(hash, _)| *hash)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(hash(&secret), now);
        Some(cookie(&secret, LIFETIME, is_secure))
    }

    /// Ends all.
    pub(super) fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The session of a request, by a name that may be logged.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<String> {
        self.find_at(headers, Instant::now())
    }

    fn find_at(&self, headers: &HeaderMap, now: Instant) -> Option<String> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |begun: &Instant| now.saturating_duration_since(*begun) < LIFETIME;
        let is_alive = |hash: &[u8; 32]| sessions.get(hash).is_some_and(lasts);
        given(headers).into_iter().find(is_alive).map(|hash| hex(&hash[..4]))
    }

    /// Whether the session of this name goes on.
    pub(super) fn has(&self, name: &str) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().any(|(hash, begun)| hex(&hash[..4]) == name && begun.elapsed() < LIFETIME)
    }

    /// Ends the session of a request; returns the cookie that removes its cookie.
    pub(super) fn end(&self, headers: &HeaderMap, is_secure: bool) -> String {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given(headers).iter().for_each(|hash| _ = sessions.remove(hash));
        cookie("", Duration::ZERO, is_secure)
    }
}

fn cookie(value: &str, lifetime: Duration, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lifetime.as_secs())
}

/// The hashes of what the request has in cookies of this name: other services on the same host may set one, too.
fn given(headers: &HeaderMap) -> Vec<[u8; 32]> {
    /// More of one name are of nobody who means well.
    const MAX_COOKIES: usize = 4;
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == NAME).map(|(_, value)| hash(value)).take(MAX_COOKIES).collect()
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap_or(HeaderValue::from_static("")))])
    }

    #[test]
    fn a_session_lasts_for_a_while_and_is_found_among_other_cookies() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let cookie = sessions.begin(true).unwrap_or_default();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
        let pair = cookie.split(';').next().unwrap_or_default();
        let mine = headers(&format!("a=b; {NAME}=of-another-service; {pair}"));
        let name = sessions.find_at(&mine, now);
        assert!(name.as_ref().is_some_and(|name| sessions.has(name) && !pair.contains(&**name)), "{name:?}");
        assert_eq!(sessions.find_at(&mine, now + LIFETIME * 2), None, "it is over");
        for other in ["", NAME, &format!("{NAME}="), &pair.replace('=', "=x"), &pair[..pair.len() - 1]] {
            assert_eq!(sessions.find_at(&headers(other), now), None, "{other}");
        }
        let removed = sessions.end(&mine, false);
        assert!(removed.contains("Max-Age=0") && sessions.find_at(&mine, now).is_none(), "{removed}");
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let sessions = Sessions::default();
        let cookies: Vec<_> = (0..MAX_SESSIONS + 10).filter_map(|_| sessions.begin(false)).collect();
        let alive = |cookie: &&String| sessions.find(&headers(cookie.split(';').next().unwrap_or_default())).is_some();
        assert_eq!(cookies.iter().filter(alive).count(), MAX_SESSIONS);
        assert!(cookies.last().as_ref().is_some_and(alive), "the last one is not the one that ends");
    }
}
