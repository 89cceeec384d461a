//! Signatures of Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What a key begins with.
const KEY_PREFIX: &str = "whsec_";

/// How many bytes a key has.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signs. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SigningKeyError {
    #[error("must begin with `whsec_`: a key of Standard Webhooks; `echostr keygen --webhook` makes one")]
    Prefix,
    #[error("must be Base64 behind `whsec_`; `echostr keygen --webhook` makes one")]
    NotBase64,
    #[error("must be 24 to 64 bytes in Base64 behind `whsec_`; `echostr keygen --webhook` makes one")]
    Length,
}

impl SigningKey {
    /// Reads `whsec_…`.
    ///
    /// # Errors
    /// [`SigningKeyError`] when it is no key.
    pub(crate) fn parse(text: &Secret) -> Result<Self, SigningKeyError> {
        let encoded = text.expose().strip_prefix(KEY_PREFIX).ok_or(SigningKeyError::Prefix)?;
        // Room for all of it: a list that grows leaves copies behind.
        let mut key = Zeroizing::new(Vec::with_capacity(encoded.len()));
        STANDARD.decode_vec(encoded, &mut key).map_err(|_| SigningKeyError::NotBase64)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(SigningKeyError::Length) }
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// A new key, `whsec_…`.
pub(crate) fn new_key(random: &[u8; 32]) -> Secret {
    Secret::new(format!("{KEY_PREFIX}{}", STANDARD.encode(random)))
}

/// What signs for one receiver: its key, and the previous one while that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signer {
    /// The key.
    pub(crate) key: SigningKey,
    /// The one before.
    pub(crate) previous: Option<SigningKey>,
}

impl Signer {
    /// The value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        let keys = std::iter::once(&self.key).chain(&self.previous);
        keys.filter_map(|key| key.sign(id, &timestamp, body)).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    fn key(text: &str) -> Result<SigningKey, SigningKeyError> {
        SigningKey::parse(&Secret::new(text))
    }

    #[test]
    fn a_key_is_24_to_64_bytes_in_base64() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            assert!(key(&of(bytes)).is_ok());
        }
        for (text, expected) in [
            (of(23), SigningKeyError::Length),
            (of(65), SigningKeyError::Length),
            ("whsec_".to_owned(), SigningKeyError::Length),
            ("whsec_äöü".to_owned(), SigningKeyError::NotBase64),
            (of(24)[6..].to_owned(), SigningKeyError::Prefix),
            ("WHSEC_x".to_owned(), SigningKeyError::Prefix),
        ] {
            assert_eq!(key(&text), Err(expected), "{text}");
        }
        assert_eq!(format!("{:?}", key(&of(24)).unwrap()), "SigningKey(…)");
        assert!(SigningKey::parse(&new_key(&[3; 32])).is_ok());
    }

    #[test]
    fn the_published_library_verifies_what_is_signed() {
        let (current, previous, other) = (new_key(&[1; 32]), new_key(&[2; 32]), new_key(&[3; 32]));
        let signer = |previous: Option<&Secret>| Signer {
            key: SigningKey::parse(&current).unwrap(),
            previous: previous.map(|key| SigningKey::parse(key).unwrap()),
        };
        let now = jiff::Timestamp::now().as_second();
        let body = r#"{"text":"你好"}"#.as_bytes();
        let verifies = |signature: &str, key: &Secret, body: &[u8]| {
            let headers =
                [("webhook-id", "e1"), ("webhook-timestamp", &now.to_string()), ("webhook-signature", signature)];
            let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Webhook::new(key.expose()).unwrap().verify(body, &headers.collect()).is_ok()
        };
        let alone = signer(None).sign("e1", now, body);
        assert!(alone.starts_with("v1,") && !alone.contains(' '));
        assert!(verifies(&alone, &current, body));
        assert!(!verifies(&alone, &previous, body) && !verifies(&alone, &current, b"{}"));
        let both = signer(Some(&previous)).sign("e1", now, body);
        assert!(verifies(&both, &current, body) && verifies(&both, &previous, body) && !verifies(&both, &other, body));
    }
}
