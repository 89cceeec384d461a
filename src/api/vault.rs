//! Credentials in the journal: sealed, so that reading the journal reveals none. And in memory: overwritten when they are no
//! longer needed.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hkdf::Hkdf;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::Secret;

/// Bytes of the nonce before a sealed text.
const NONCE: usize = 12;

/// What the key is for.
const PURPOSE: &[u8] = b"echostr vault 2";

/// A text cannot be sealed, or no key follows from the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential cannot be sealed")]
pub(crate) struct VaultError;

/// Seals texts with a key that follows from an account's secret. With another secret they cannot be opened, which is
/// right: they were made for the old one.
pub(crate) struct Vault {
    cipher: Aes256Gcm,
    /// That of versions whose key was a plain hash: what they have stored is opened, and sealed with the new key when it is
    /// written next. Authorisations of third parties are given once, so they must not be lost.
    before: Aes256Gcm,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    pub(crate) fn new(secret: &Secret) -> Result<Self, VaultError> {
        let secret = secret.expose().as_bytes();
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, secret).expand(PURPOSE, key.as_mut_slice()).map_err(|_| VaultError)?;
        let mut hash = Sha256::new_with_prefix("echostr vault 1\0");
        hash.update(secret);
        let before = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        Ok(Self { cipher: Aes256Gcm::new((&*key).into()), before: Aes256Gcm::new((&*before).into()) })
    }

    /// Seals a text for a place; it can be opened there only.
    pub(crate) fn seal(&self, place: &str, text: &str) -> Result<String, VaultError> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        let mut sealed = nonce.to_vec();
        sealed.extend(self.cipher.encrypt(&nonce.into(), payload).map_err(|_| VaultError)?);
        Ok(STANDARD.encode(sealed))
    }

    /// Opens what was sealed for this place, by this account.
    pub(crate) fn open(&self, place: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let open = |cipher: &Aes256Gcm| {
            cipher.decrypt(nonce.into(), Payload { msg: sealed, aad: place.as_bytes() }).map(Zeroizing::new)
        };
        let mut opened = open(&self.cipher).or_else(|_| open(&self.before)).ok()?;
        let text = String::from_utf8(std::mem::take(&mut *opened));
        text.map_err(|bad| Zeroizing::new(bad.into_bytes())).map(Zeroizing::new).ok()
    }
}

/// JSON with credentials in it: its texts are overwritten when it is dropped.
pub(super) struct PrivateJson(Value);

impl PrivateJson {
    pub(super) const fn new(value: Value) -> Self {
        Self(value)
    }

    pub(super) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text).map(Self)
    }

    pub(super) const fn get(&self) -> &Value {
        &self.0
    }

    /// A text of it, which is no longer in there.
    pub(super) fn take(&mut self, name: &str) -> Option<Secret> {
        match self.0.get_mut(name)?.take() {
            Value::String(text) => Some(Secret::new(text)),
            _ => None,
        }
    }

    /// The text of a request.
    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }
}

impl Drop for PrivateJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn vault(secret: &str) -> Vault {
        Vault::new(&Secret::new(secret)).unwrap()
    }

    #[test]
    fn only_the_same_secret_and_place_open_it() {
        let (vault, other) = (vault("one"), vault("two"));
        let sealed = vault.seal("token/mp/shop", "令牌").unwrap();
        assert_eq!(vault.open("token/mp/shop", &sealed).as_deref().map(String::as_str), Some("令牌"));
        assert!(vault.open("token/mp/other", &sealed).is_none());
        assert!(other.open("token/mp/shop", &sealed).is_none());
        assert_ne!(vault.seal("token/mp/shop", "令牌").unwrap(), sealed);
    }

    #[test]
    fn what_is_damaged_reads_as_nothing() {
        let vault = vault("one");
        let sealed = vault.seal("p", "text").unwrap();
        for cut in 0..sealed.len() {
            assert!(vault.open("p", &sealed[..cut]).is_none(), "{cut}");
        }
        assert!(vault.open("p", "not base64 !").is_none());
    }

    #[test]
    fn the_key_is_that_of_hkdf() {
        // RFC 5869: HMAC-SHA256 of the secret under a salt of zeros, then of the purpose and 1 under that.
        let hmac = |key: &[u8], parts: &[&[u8]]| {
            let block = |pad: u8| {
                let mut block = [pad; 64];
                block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
                block
            };
            let mut inner = Sha256::new_with_prefix(block(0x36));
            parts.iter().for_each(|part| inner.update(part));
            <[u8; 32]>::from(Sha256::new_with_prefix(block(0x5c)).chain_update(inner.finalize()).finalize())
        };
        let key = hmac(&hmac(&[0; 32], &[b"one"]), &[PURPOSE, &[1]]);
        let sealed =
            Aes256Gcm::new(&key.into()).encrypt(&[7; NONCE].into(), Payload { msg: b"text", aad: b"p" }).unwrap();
        let sealed = STANDARD.encode([&[7; NONCE][..], &sealed].concat());
        assert_eq!(vault("one").open("p", &sealed).as_deref().map(String::as_str), Some("text"));
    }

    #[test]
    fn what_a_version_before_has_sealed_is_opened() {
        // Made by that version for the secret `one` and the place `grant/openplatform/agency/wx1`.
        let old = Aes256Gcm::new(&<[u8; 32]>::from(Sha256::digest(b"echostr vault 1\0one")).into());
        let payload = Payload { msg: b"refresh", aad: b"grant/openplatform/agency/wx1" };
        let sealed = STANDARD.encode([&[9; NONCE][..], &old.encrypt(&[9; NONCE].into(), payload).unwrap()].concat());
        let opened = vault("one").open("grant/openplatform/agency/wx1", &sealed);
        assert_eq!(opened.as_deref().map(String::as_str), Some("refresh"));
        assert!(vault("two").open("grant/openplatform/agency/wx1", &sealed).is_none());
    }

    #[test]
    fn texts_of_private_json_are_overwritten() {
        let mut value = json!({ "a": "token", "list": ["token", { "b": "token" }], "number": 7 });
        wipe(&mut value);
        assert_eq!(value, json!({ "a": "", "list": ["", { "b": "" }], "number": 7 }));
        let mut json = PrivateJson::new(json!({ "token": "t", "number": 7 }));
        assert_eq!(json.take("token"), Some(Secret::new("t")));
        assert_eq!((json.take("token"), json.take("number"), json.take("other")), (None, None, None));
    }
}
