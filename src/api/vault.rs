//! Access tokens in the journal: sealed, so that reading the journal reveals none.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Bytes of the nonce before a sealed text.
const NONCE: usize = 12;

/// Seals texts with a key that follows from an account's secret. With another secret they cannot be opened, which is
/// right: they were made for the old one.
pub(crate) struct Vault(Aes256Gcm);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    pub(crate) fn new(secret: &Secret) -> Self {
        let mut hash = Sha256::new_with_prefix("echostr vault 1\0");
        hash.update(secret.expose());
        let key = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        Self(Aes256Gcm::new((&*key).into()))
    }

    /// Seals a text for a place; it can be opened there only.
    pub(crate) fn seal(&self, place: &str, text: &str) -> String {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: text.as_bytes(), aad: place.as_bytes() };
        let mut sealed = nonce.to_vec();
        // Only a text of 64 GiB cannot be sealed.
        sealed.extend(self.0.encrypt(&nonce.into(), payload).unwrap_or_default());
        STANDARD.encode(sealed)
    }

    /// Opens what was sealed for this place, by this account.
    pub(crate) fn open(&self, place: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let sealed = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let opened = self.0.decrypt(nonce.into(), Payload { msg: sealed, aad: place.as_bytes() }).ok()?;
        String::from_utf8(opened).ok().map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Vault;
    use crate::secret::Secret;

    #[test]
    fn only_the_same_secret_and_place_open_it() {
        let (vault, other) = (Vault::new(&Secret::new("one")), Vault::new(&Secret::new("two")));
        let sealed = vault.seal("token/mp/shop", "令牌");
        assert_eq!(vault.open("token/mp/shop", &sealed).as_deref().map(String::as_str), Some("令牌"));
        assert!(vault.open("token/mp/other", &sealed).is_none());
        assert!(other.open("token/mp/shop", &sealed).is_none());
        assert_ne!(vault.seal("token/mp/shop", "令牌"), sealed);
    }

    #[test]
    fn what_is_damaged_reads_as_nothing() {
        let vault = Vault::new(&Secret::new("one"));
        let sealed = vault.seal("p", "text");
        for cut in 0..sealed.len() {
            assert!(vault.open("p", &sealed[..cut]).is_none(), "{cut}");
        }
        assert!(vault.open("p", "not base64 !").is_none());
    }
}
