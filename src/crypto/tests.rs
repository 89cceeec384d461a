//! The platforms' published vectors, every way a ciphertext can be wrong, and OpenSSL as a second opinion.

use base64::{Engine, engine::general_purpose::STANDARD};
use openssl::symm::{Cipher, Crypter, Mode};
use proptest::prelude::*;

use super::{
    EncodingKey, KeyError, OpenError,
    signature::{hex_lower, sha1_sorted, sha256_concat, verify_hex},
};

const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";

fn key(text: &str) -> EncodingKey {
    EncodingKey::parse(text).expect("a good key")
}

/// The raw key, by another base64 path than the one under test.
fn raw(text: &str) -> [u8; 32] {
    let bytes = openssl::base64::decode_block(&format!("{}=", text)).expect("base64");
    bytes[..32].try_into().expect("32 bytes")
}

/// What a platform without our code would make of `padded`.
fn openssl_encrypt(padded: &[u8]) -> String {
    let raw = raw(KEY);
    let mut crypter = Crypter::new(Cipher::aes_256_cbc(), Mode::Encrypt, &raw, Some(&raw[..16])).expect("cipher");
    crypter.pad(false);
    let mut out = vec![0; padded.len() + 16];
    let mut written = crypter.update(padded, &mut out).expect("update");
    written += crypter.finalize(&mut out[written..]).expect("finalize");
    STANDARD.encode(&out[..written])
}

/// random, length, message and id without padding.
fn clear(announced: u32, rest: &[u8]) -> Vec<u8> {
    [&[b'r'; 16], announced.to_be_bytes().as_slice(), rest].concat()
}

fn padded(mut text: Vec<u8>) -> Vec<u8> {
    let pad = 32 - text.len() % 32;
    text.resize(text.len() + pad, pad as u8);
    text
}

#[test]
fn sha1_matches_the_published_vectors() {
    for (timestamp, nonce, expected) in [
        ("1714036504", "1514711492", "f464b24fc39322e44b38aa78f5edd27bd1441696"),
        ("1714037059", "486452656", "899cf89e464efb63f54ddac96b0a0a235f53aa78"),
        ("1714112445", "415670741", "6c5c811b55cc85e0e1b54100749188c20beb3f5d"),
    ] {
        let digest = sha1_sorted(&[b"AAAAA", timestamp.as_bytes(), nonce.as_bytes()]);
        assert_eq!(hex_lower(&digest), expected);
        assert!(verify_hex(&digest, expected.as_bytes()));
    }
}

#[test]
fn sha1_takes_any_number_of_parts() {
    assert_eq!(hex_lower(&sha1_sorted(&[])), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_eq!(sha1_sorted(&[b"e", b"d", b"c", b"b", b"a"]), sha1_sorted(&[b"abc", b"de"]));
}

#[test]
fn sha256_matches_the_published_vector() {
    let digest = sha256_concat(b"xxxxyyyy", b"1669872112");
    assert!(verify_hex(&digest, b"17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"));
}

#[test]
fn hex_is_one_spelling_only() {
    let every: Vec<u8> = (0..=255).collect();
    let spelled: String = every.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex_lower(&every), spelled);
    assert!(verify_hex(&every, spelled.as_bytes()));
    for wrong in ["ABCD", "abc", "abcde", "abcdef", "abcg", "", " bcd", "ab\u{0}d"] {
        assert!(!verify_hex(&[0xab, 0xcd], wrong.as_bytes()), "{wrong}");
    }
}

#[test]
fn keys_say_what_is_wrong_with_them() {
    for (text, error) in [
        (&KEY[1..], KeyError::Length(42)),
        (&format!("{KEY}="), KeyError::Length(44)),
        ("", KeyError::Length(0)),
        (&KEY.replace('m', "é"), KeyError::Charset { position: 3 }),
        (&KEY.replace('C', "="), KeyError::Charset { position: 43 }),
        (&KEY.replace('j', " "), KeyError::Charset { position: 1 }),
    ] {
        let given = EncodingKey::parse(text).expect_err(text);
        assert_eq!(given, error);
        assert!(!given.to_string().contains("Wm"), "{given}");
    }
    assert_eq!(format!("{:?}", key(KEY)), "EncodingKey(…)");
}

#[test]
fn bits_of_a_key_that_do_not_count_are_ignored() {
    // The last character carries four bits of key; B and C differ in the other two.
    let (a, b) = (format!("{}A", "A".repeat(42)), format!("{}B", "A".repeat(42)));
    let sealed = key(&a).seal([0; 16], b"x", b"");
    assert_eq!(sealed, key(&b).seal([0; 16], b"x", b""));
}

#[test]
fn openssl_opens_what_we_seal() {
    for length in 0..70 {
        let msg = vec![b'm'; length];
        let sealed = STANDARD.decode(key(KEY).seal([b'r'; 16], &msg, b"ww1")).expect("base64");
        let raw = raw(KEY);
        let mut crypter = Crypter::new(Cipher::aes_256_cbc(), Mode::Decrypt, &raw, Some(&raw[..16])).expect("cipher");
        crypter.pad(false);
        let mut out = vec![0; sealed.len() + 16];
        let mut written = crypter.update(&sealed, &mut out).expect("update");
        written += crypter.finalize(&mut out[written..]).expect("finalize");
        assert_eq!(out[..written], padded(clear(length as u32, &[&msg[..], b"ww1"].concat())));
    }
}

#[test]
fn we_open_what_openssl_seals() {
    let opened = key(KEY).open(openssl_encrypt(&padded(clear(5, b"helloww1"))).as_bytes()).expect("opens");
    assert_eq!(opened.msg(), b"hello");
    assert_eq!(opened.receive_id(), b"ww1");
    assert!(!format!("{opened:?}").contains("hello"));
    assert_eq!(opened.into_msg(), b"hello");
}

#[test]
fn every_wrong_ciphertext_has_its_error() {
    let with_last = |mut text: Vec<u8>, last: u8| {
        *text.last_mut().expect("not empty") = last;
        text
    };
    let block = |byte: u8| vec![byte; 16];
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let rows: Vec<(&str, String, OpenError)> = vec![
        ("empty", String::new(), OpenError::Length(0)),
        ("foreign character", "!!!!".into(), OpenError::Base64),
        ("url alphabet", "-_-_".into(), OpenError::Base64),
        ("no padding", base64(&block(0)).trim_end_matches('=').into(), OpenError::Base64),
        ("too much padding", format!("{}=", base64(&block(0))), OpenError::Base64),
        ("stray bits", "AAAAAAAAAAAAAAAAAAAAAB==".into(), OpenError::Base64),
        ("line break", format!("{}\n", base64(&block(0))), OpenError::Base64),
        ("line break inside", format!("AAAA\nAAAA{}", base64(&block(0))), OpenError::Base64),
        ("one byte", base64(b"x"), OpenError::Length(1)),
        ("a block and a byte", base64(&[0; 17]), OpenError::Length(17)),
        ("pad 0", openssl_encrypt(&with_last(padded(clear(0, b"")), 0)), OpenError::Padding),
        ("pad 33", openssl_encrypt(&with_last(padded(clear(0, b"")), 33)), OpenError::Padding),
        ("pad 255", openssl_encrypt(&with_last(padded(clear(0, b"")), 255)), OpenError::Padding),
        ("pad longer than the text", openssl_encrypt(&block(17)), OpenError::Padding),
        ("nothing but padding", openssl_encrypt(&block(16)), OpenError::TooShort(0)),
        ("pad 32 of 32", openssl_encrypt(&[32; 32]), OpenError::TooShort(0)),
        ("19 bytes", openssl_encrypt(&[13; 32]), OpenError::TooShort(19)),
        (
            "one byte too long",
            openssl_encrypt(&padded(clear(9, b"helloww1"))),
            OpenError::MessageLength { announced: 9, left: 8 },
        ),
        (
            "length of all bits",
            openssl_encrypt(&padded(clear(u32::MAX, b"helloww1"))),
            OpenError::MessageLength { announced: u32::MAX, left: 8 },
        ),
    ];
    for (name, ciphertext, expected) in rows {
        assert_eq!(key(KEY).open(ciphertext.as_bytes()), Err(expected), "{name}");
    }
}

#[test]
fn the_smallest_message_opens() {
    let opened = key(KEY).open(openssl_encrypt(&padded(clear(0, b""))).as_bytes()).expect("opens");
    assert_eq!((opened.msg(), opened.receive_id()), (&b""[..], &b""[..]));
}

proptest! {
    #[test]
    fn open_undoes_seal(random: [u8; 16], msg: Vec<u8>, id in "[a-z0-9]{0,20}") {
        let opened = key(KEY).open(key(KEY).seal(random, &msg, id.as_bytes()).as_bytes()).expect("opens");
        prop_assert_eq!(opened.msg(), &msg[..]);
        prop_assert_eq!(opened.receive_id(), id.as_bytes());
        prop_assert_eq!(opened.into_msg(), msg);
    }

    #[test]
    fn no_text_panics(text: Vec<u8>) {
        let _ = key(KEY).open(&text);
        let _ = key(KEY).open(STANDARD.encode(&text).as_bytes());
        let _ = EncodingKey::parse(&String::from_utf8_lossy(&text));
        let _ = verify_hex(&text, &text);
    }

    #[test]
    fn no_blocks_panic(blocks in proptest::collection::vec(any::<[u8; 16]>(), 1..8)) {
        let _ = key(KEY).open(STANDARD.encode(blocks.concat()).as_bytes());
    }

    #[test]
    fn one_flipped_bit_of_a_signature_is_refused(digest: [u8; 20], bit in 0usize..320) {
        let mut given = hex_lower(&digest).into_bytes();
        given[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify_hex(&digest, &given));
    }
}
