//! The two signatures of the platforms, and their comparison in constant time.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-1 over the parts, sorted as bytes and joined: `token`, `timestamp`, `nonce`, and for encrypted bodies `Encrypt`.
pub fn sorted_sha1<const N: usize>(mut parts: [&[u8]; N]) -> [u8; 20] {
    parts.sort_unstable();
    let mut hash = Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The `Sign` of Tencent IM: SHA-256 over token and `RequestTime`, joined.
pub fn im_sign(token: &[u8], request_time: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(token).chain_update(request_time).finalize().into()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Whether `given` is `digest` in lower-case hexadecimal. Takes the same time wherever they differ.
pub fn matches_hex<const N: usize>(digest: [u8; N], given: &str) -> bool {
    // What is given is no secret, so reading it may take its time.
    let given = given.as_bytes();
    let mut bytes = [0; N];
    if given.len() != 2 * N {
        return false;
    }
    for (byte, pair) in bytes.iter_mut().zip(given.chunks_exact(2)) {
        match (value(pair[0]), value(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    digest.ct_eq(&bytes).into()
}

/// The value of a digit; capitals are no digits here.
const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
