//! The message cipher: AES-256-CBC with the 32-byte padding of the platforms.
//!
//! Plain text: 16 random bytes, the length of the message (4 bytes, big endian), the message, the receive id; padded to
//! a multiple of 32 with bytes that hold their own count (1..=32). The IV is the first 16 bytes of the key.

use std::{fmt, ops::Range, sync::LazyLock};

use aes::{
    Aes256,
    cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit, block_padding::NoPadding},
};
use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{
        DecodePaddingMode, GeneralPurpose,
        general_purpose::{NO_PAD, PAD},
    },
};
use zeroize::Zeroizing;

const RANDOM: usize = 16;
const HEADER: usize = RANDOM + 4;
const PADDING: usize = 32;

/// The 43rd character of a key carries two bits that belong to no byte, and the consoles hand out keys that have them.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    NO_PAD.with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Cipher texts, by the vector instructions that the processor has.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::standard(PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<GeneralPurpose> = LazyLock::new(|| GeneralPurpose::new(&ALPHABET, PAD));

/// An EncodingAESKey, ready to use: its round keys are computed once.
#[derive(Clone)]
pub struct EncodingKey {
    /// Zeroes its round keys when dropped.
    pub(super) cipher: Aes256,
    iv: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for EncodingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodingKey(…)")
    }
}

/// A message is too long to be encrypted: it has so many bytes. Its sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes cannot be sealed; its length has 32 bits")]
pub struct TooLong(pub usize);

/// The text is no EncodingAESKey; the configuration is at fault. Never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 43 characters long.
    #[error("an EncodingAESKey has 43 characters, this one {0}")]
    Length(usize),
    /// A character other than A-Z, a-z, 0-9 (and the two more of Base64).
    #[error("an EncodingAESKey consists of A-Z, a-z and 0-9; character {0} is something else")]
    Character(usize),
}

/// Why a cipher text could not be opened. Only for the operator: the sender learns no more than that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not canonical Base64.
    #[error("the cipher text is not Base64")]
    Base64,
    /// Not a positive multiple of the block size.
    #[error("the cipher text is not a whole number of blocks")]
    Blocks,
    /// The last bytes do not hold their own count, 1 to 32: the sign of a wrong key.
    #[error("it does not end with its padding")]
    Padding,
    /// Shorter than its fixed part, or a message length that exceeds it.
    #[error("the decrypted message has no valid length")]
    Length,
    /// What stands behind the message is not UTF-8, and so is no receive id.
    #[error("what is decrypted ends with no receive id")]
    ReceiveId,
}

/// A message that was opened, in the buffer it was decrypted in.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    random: [u8; RANDOM],
    text: String,
    message: Range<usize>,
}

impl Opened {
    /// A message that is not UTF-8, of a sender who has the key: what is none of it is replaced.
    fn lossy(random: [u8; RANDOM], opened: &[u8], length: usize) -> Result<Self, OpenError> {
        let (message, receive_id) = opened.split_at_checked(length).ok_or(OpenError::Length)?;
        let receive_id = std::str::from_utf8(receive_id).map_err(|_| OpenError::ReceiveId)?;
        let mut text = String::from_utf8_lossy(message).into_owned();
        let message = 0..text.len();
        text.push_str(receive_id);
        Ok(Self { random, text, message })
    }

    /// The random bytes before the message.
    pub const fn random(&self) -> [u8; RANDOM] {
        self.random
    }

    /// The message.
    pub fn message(&self) -> &str {
        self.text.get(self.message.clone()).unwrap_or_default()
    }

    /// What stands behind the message: whom it is for.
    pub fn receive_id(&self) -> &str {
        self.text.get(self.message.end..).unwrap_or_default()
    }

    /// The message alone, in the same buffer.
    pub fn into_message(mut self) -> String {
        self.text.truncate(self.message.end);
        self.text.drain(..self.message.start);
        self.text
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.message.len())
    }
}

impl EncodingKey {
    /// Reads the 43 characters that the console shows.
    ///
    /// # Errors
    /// [`KeyError`] when they are no key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let length = text.chars().count();
        if length != 43 {
            return Err(KeyError::Length(length));
        }
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '+' | '/');
        if let Some(at) = text.chars().position(|character| !allowed(character)) {
            return Err(KeyError::Character(at + 1));
        }
        let mut key = Zeroizing::new([0; 32]);
        KEY_BASE64.decode_slice(text, key.as_mut_slice()).map_err(|_| KeyError::Length(length))?;
        let mut iv = Zeroizing::new([0; 16]);
        iv.copy_from_slice(&key[..16]);
        Ok(Self { cipher: Aes256::new((&*key).into()), iv })
    }

    /// Encrypts a message for `receive_id`, as Base64.
    ///
    /// # Errors
    /// [`TooLong`] when its length cannot be written, which no platform reads either.
    pub fn seal(&self, random: [u8; RANDOM], message: &str, receive_id: &str) -> Result<String, TooLong> {
        let length = u32::try_from(message.len()).map_err(|_| TooLong(message.len()))?;
        let unpadded = HEADER + message.len() + receive_id.len();
        let padding = PADDING - unpadded % PADDING;
        let mut buffer = Vec::with_capacity(unpadded + padding);
        buffer.extend_from_slice(&random);
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(message.as_bytes());
        buffer.extend_from_slice(receive_id.as_bytes());
        // From 1 to 32.
        buffer.resize(unpadded + padding, padding as u8);
        // Padded to twice the size of a block, so nothing is left over.
        let (blocks, _) = Array::slice_as_chunks_mut(&mut buffer);
        cbc::Encryptor::inner_iv_init(&self.cipher, (&*self.iv).into()).encrypt_blocks(blocks);
        Ok(BASE64.encode(buffer))
    }

    /// Decrypts a Base64 text. The buffer comes from outside: nothing in it is used before it is checked.
    ///
    /// # Errors
    /// [`OpenError`] for the first check that fails.
    pub fn open(&self, sealed: &str) -> Result<Opened, OpenError> {
        let mut buffer = self.open_file(BASE64.decode(sealed).map_err(|_| OpenError::Base64)?)?;
        let (random, rest) = buffer.split_first_chunk::<RANDOM>().ok_or(OpenError::Length)?;
        let random = *random;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(OpenError::Length)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenError::Length)?;
        if length > rest.len() {
            return Err(OpenError::Length);
        }
        buffer.drain(..HEADER);
        match String::from_utf8(buffer) {
            Ok(text) if text.is_char_boundary(length) => Ok(Opened { random, text, message: 0..length }),
            Ok(text) => Opened::lossy(random, text.as_bytes(), length),
            Err(error) => Opened::lossy(random, error.as_bytes(), length),
        }
    }

    /// Decrypts a file: it is padded as a message is, and nothing stands before or behind it.
    ///
    /// # Errors
    /// [`OpenError`] for the first check that fails.
    pub fn open_file(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        if sealed.is_empty() || !sealed.len().is_multiple_of(16) {
            return Err(OpenError::Blocks);
        }
        cbc::Decryptor::inner_iv_init(&self.cipher, (&*self.iv).into())
            .decrypt_padded::<NoPadding>(&mut sealed)
            .map_err(|_| OpenError::Blocks)?;
        let padding = sealed.last().copied().map_or(0, usize::from);
        let unpadded = sealed.len().checked_sub(padding).filter(|_| (1..=PADDING).contains(&padding));
        let unpadded = unpadded.ok_or(OpenError::Padding)?;
        if sealed.iter().skip(unpadded).any(|byte| usize::from(*byte) != padding) {
            return Err(OpenError::Padding);
        }
        sealed.truncate(unpadded);
        Ok(sealed)
    }
}
