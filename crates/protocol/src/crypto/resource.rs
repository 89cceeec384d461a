//! What is encrypted once more inside of a message: AES-256-GCM with the same key.

use aes::Aes256;
use aes_gcm::{
    AesGcm, Nonce,
    aead::{Aead as _, Payload, consts::U12},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::EncodingKey;

/// Why a resource could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// Another cipher than AEAD_AES_256_GCM.
    #[error("the resource is not encrypted with AEAD_AES_256_GCM")]
    Algorithm,
    /// The nonce does not have 12 bytes.
    #[error("the nonce has {0} bytes instead of 12")]
    Nonce(usize),
    /// Not canonical Base64.
    #[error("the cipher text is not Base64")]
    Base64,
    /// Another key, or changed on the way.
    #[error("the tag does not fit: another key, or the resource was changed")]
    Tag,
    /// What is decrypted is not UTF-8.
    #[error("what is decrypted is no text")]
    Text,
}

impl EncodingKey {
    /// Decrypts the resource of a notice of a payment: Base64 of the cipher text and its tag.
    ///
    /// # Errors
    /// [`ResourceError`] for the first check that fails.
    pub fn open_resource(&self, sealed: &str, nonce: &str, associated_data: &str) -> Result<String, ResourceError> {
        let nonce = Nonce::<U12>::try_from(nonce.as_bytes()).map_err(|_| ResourceError::Nonce(nonce.len()))?;
        let sealed = STANDARD.decode(sealed).map_err(|_| ResourceError::Base64)?;
        let cipher = AesGcm::<Aes256, U12>::from(self.cipher.clone());
        let payload = Payload { msg: &sealed, aad: associated_data.as_bytes() };
        let opened = cipher.decrypt(&nonce, payload).map_err(|_| ResourceError::Tag)?;
        String::from_utf8(opened).map_err(|_| ResourceError::Text)
    }
}
