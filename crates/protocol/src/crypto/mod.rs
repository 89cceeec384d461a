//! Signatures and the message cipher of the platforms: bytes in, bytes out.

mod aes;
mod resource;
mod signature;
#[cfg(test)]
mod tests;

pub use self::{
    aes::{EncodingKey, KeyError, OpenError, Opened, TooLong},
    resource::ResourceError,
    signature::{hex, im_sign, matches_hex, parse_hex, sorted_sha1},
};
