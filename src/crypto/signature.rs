//! The two signatures of the platforms, and their comparison in constant time.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

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
    bytes.iter().flat_map(|byte| digits(*byte)).map(char::from).collect()
}

fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Whether `given` is `digest` in lower-case hexadecimal. Takes the same time wherever they differ.
pub fn matches_hex<const N: usize>(digest: [u8; N], given: &str) -> bool {
    let given = given.as_bytes();
    if given.len() != 2 * N {
        return false;
    }
    let pairs = digest.iter().zip(given.chunks_exact(2));
    pairs.fold(Choice::from(1), |equal, (byte, pair)| equal & digits(*byte).as_slice().ct_eq(pair)).into()
}
