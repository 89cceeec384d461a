//! How our own sealed answers are recognised.
//!
//! Requests and answers are sealed and signed in one way, with one key and one token, so that an answer that somebody sends
//! back opens as a request does. Our answers therefore carry a mark, at the end of the random bytes that begin each sealed
//! text. The signature covers it and the cipher hides it: nobody can take it out without the token, whatever is done to
//! time and nonce, which are joined before they are signed, so that digits can be moved from one to the other. (A mark in
//! the nonce would be visible, and would not survive a new signature.) It needs no state: it holds
//! on every node, after a restart, with a previous token or key, and on any account that has the same ones. The platforms
//! skip the random bytes.

use crate::crypto::TooLong;

/// Why a reply cannot be sealed. Who answers is at fault; the platform retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The request was opened with the keys of another account.
    #[error("the request was opened with other keys, or with a token or key that is no longer there")]
    OtherKeys,
    /// The reply is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Bytes that are not text, as the random bytes of the platforms are letters and digits. If those were any bytes, one
/// request in 2^48 would be taken for an answer.
const MARK: [u8; 6] = [0xE5, 0x9B, 0x9E, 0xF8, 0xA3, 0x91];

/// Random bytes for an answer; ten of the sixteen remain.
pub(super) fn mark(mut random: [u8; 16]) -> [u8; 16] {
    random[10..].copy_from_slice(&MARK);
    random
}

/// Whether a text that begins with these bytes is an answer of ours.
pub(super) fn is_marked(random: [u8; 16]) -> bool {
    random.ends_with(&MARK)
}
