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

/// Of a signature; capitals are none.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Whether `given` is `digest` in lower-case hexadecimal. Takes the same time wherever they differ.
pub fn matches_hex<const N: usize>(digest: [u8; N], given: &str) -> bool {
    parse_hex::<N>(given).is_some_and(|bytes| digest.ct_eq(&bytes).into())
}

/// Reads lower-case hexadecimal of so many bytes.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let (mut bytes, mut all) = ([0; N], 0);
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        *byte = high << 4 | low;
        all |= high | low;
    }
    (all < 16).then_some(bytes)
}

/// The value of each lower-case digit; of anything else 16, which no digit has. A table rather than a comparison, which
/// the processor would mispredict for every second digit.
const VALUES: [u8; 256] = {
    let mut values = [16; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    values
};
