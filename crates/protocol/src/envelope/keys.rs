//! What an account checks its requests with.

use std::time::Duration;

use crate::{
    crypto::{EncodingKey, im_sign, matches_hex, sorted_sha1},
    event::Platform,
    platform::{EnvelopeRules, Scheme},
    secret::Secret,
};

use super::{Query, Refusal};

/// Characters of a nonce, at most; the platforms send some ten, their libraries up to 32.
///
/// The parts of a signature are joined before they are hashed. Were a nonce of any length taken, the signature of a cipher
/// text would also be that of clear text whose nonce ends with the cipher text, which has 44 characters at least. And the
/// beginning of a cipher text could be moved to the nonce: what is left is whole blocks where 64 characters are moved.
pub(super) const MAX_NONCE: usize = 40;

/// Whether bodies are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never; the account has no key.
    Plain,
    /// Either way; an encrypted body wins.
    Compat,
    /// Always.
    #[default]
    Safe,
}

/// How a body comes, as far as platform, mode and query say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// JSON in the clear, with a signed time in the query.
    SignedTime,
    /// In the clear; the signature covers no body.
    Clear,
    /// In the clear, unless it turns out to be encrypted.
    Either,
    /// Encrypted.
    Encrypted,
}

/// For whom an encrypted body may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveIds {
    /// For one of these; a bot of the own company has an empty id.
    OneOf(Vec<String>),
    /// For anybody.
    Any,
}

impl ReceiveIds {
    fn allow(&self, id: &str) -> bool {
        match self {
            Self::OneOf(ids) => ids.iter().any(|other| other == id),
            Self::Any => true,
        }
    }
}

/// The tokens, keys and ids of an account.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Whose rules apply.
    pub platform: Platform,
    /// The current token, then the previous one while it is being replaced. Only IM may have none.
    pub tokens: Vec<Secret>,
    /// The current key, then the previous one.
    pub aes_keys: Vec<EncodingKey>,
    /// For whom bodies may be.
    pub receive_ids: ReceiveIds,
    /// Whether bodies are encrypted.
    pub mode: Mode,
    /// How old a request may be, or how far ahead; `None`: any.
    pub max_age: Option<Duration>,
    /// The IM application.
    pub sdk_app_id: Option<u64>,
}

impl Keys {
    pub(super) fn rules(&self) -> &'static EnvelopeRules {
        self.platform.protocol().envelope()
    }

    /// Whether the mode of the account decides how bodies come.
    pub(super) fn has_modes(&self) -> bool {
        self.rules().scheme == Scheme::ByMode
    }

    /// Whether clear text is taken whose signature covers no body.
    pub(super) fn takes_clear_text(&self) -> bool {
        self.has_modes() && self.mode != Mode::Safe
    }

    /// How the body of a request has to come.
    pub(super) fn expected(&self, query: &Query<'_>) -> Result<Expected, Refusal> {
        match (self.rules().scheme, self.mode) {
            (Scheme::SignedTime, _) => Ok(Expected::SignedTime),
            (Scheme::ByMode, Mode::Plain) if says_aes(query) => Err(Refusal::NoKey),
            (Scheme::ByMode, Mode::Plain) => Ok(Expected::Clear),
            (Scheme::ByMode, Mode::Compat) if !says_encrypted(query) => Ok(Expected::Either),
            (Scheme::ByMode | Scheme::Encrypted, _) => Ok(Expected::Encrypted),
        }
    }

    /// Which token signed a time, a nonce and, for encrypted bodies, the cipher text. Every token is tried, so that
    /// the time it takes tells nothing.
    pub(super) fn signed_by(&self, given: &str, time: &str, nonce: &str, sealed: Option<&str>) -> Option<usize> {
        self.token_that(|token| matches_hex(signature(token, time, nonce, sealed), given))
    }

    pub(super) fn im_signed_by(&self, given: &str, request_time: &str) -> Option<usize> {
        self.token_that(|token| matches_hex(im_sign(token, request_time.as_bytes()), given))
    }

    fn token_that(&self, matches: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let mut found = None;
        for (at, token) in self.tokens.iter().enumerate() {
            let matched = matches(token.expose().as_bytes());
            found = found.or(matched.then_some(at));
        }
        found
    }

    /// Whether a time of the query is within `max_age` of `now`.
    pub(super) fn check_age(&self, name: &'static str, time: &str, now: i64) -> Result<(), Refusal> {
        let digits = time.len() <= 18 && time.bytes().all(|digit| digit.is_ascii_digit());
        let time: i64 =
            Some(time).filter(|_| digits).and_then(|time| time.parse().ok()).ok_or(Refusal::BadTimestamp(name))?;
        let age = now - time;
        match self.max_age {
            Some(max) if age.unsigned_abs() > max.as_secs() => Err(Refusal::Stale(age)),
            _ => Ok(()),
        }
    }

    pub(super) fn check_receive_id(&self, id: &str) -> Result<(), Refusal> {
        if self.receive_ids.allow(id) { Ok(()) } else { Err(Refusal::WrongReceiveId(printable(id))) }
    }

    /// IM: the query says for which application it is.
    pub(super) fn check_sdk_app_id(&self, query: &Query<'_>) -> Result<(), Refusal> {
        let given = query.require("SdkAppid")?;
        let expected = self.sdk_app_id.map(|id| id.to_string());
        if expected.as_deref() == Some(given) { Ok(()) } else { Err(Refusal::WrongSdkAppId) }
    }
}

fn says_aes(query: &Query<'_>) -> bool {
    query.get("encrypt_type") == Some("aes")
}

/// Whether a query belongs to an encrypted body.
pub(super) fn says_encrypted(query: &Query<'_>) -> bool {
    says_aes(query) || query.get("msg_signature").is_some()
}

/// Time and nonce of a query, which its signature covers.
pub(super) fn signed_parts<'q>(query: &'q Query<'_>) -> Result<(&'q str, &'q str), Refusal> {
    let (time, nonce) = (query.require("timestamp")?, query.require("nonce")?);
    if nonce.len() > MAX_NONCE { Err(Refusal::BadNonce) } else { Ok((time, nonce)) }
}

/// The SHA-1 signature of WeChat and WeCom, over three parts or four.
pub(super) fn signature(token: &[u8], time: &str, nonce: &str, sealed: Option<&str>) -> [u8; 20] {
    match sealed {
        None => sorted_sha1([token, time.as_bytes(), nonce.as_bytes()]),
        Some(sealed) => sorted_sha1([token, time.as_bytes(), nonce.as_bytes(), sealed.as_bytes()]),
    }
}

/// An id as it may be shown: short, and nothing that a terminal would take for a command.
fn printable(id: &str) -> String {
    id.chars().take(64).map(|character| if character.is_control() { '\u{FFFD}' } else { character }).collect()
}
