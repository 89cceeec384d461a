use proptest::prelude::*;

use super::*;

const KEY: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";

fn key() -> EncodingKey {
    EncodingKey::parse(KEY).unwrap()
}

/// The same layout by an independent implementation: plain text of any shape, encrypted by OpenSSL.
fn openssl_seal(plain: &[u8]) -> String {
    use openssl::{
        base64::encode_block,
        symm::{Cipher, Crypter, Mode},
    };
    let key = openssl::base64::decode_block(&format!("{KEY}=")).unwrap();
    let mut crypter = Crypter::new(Cipher::aes_256_cbc(), Mode::Encrypt, &key[..32], Some(&key[..16])).unwrap();
    crypter.pad(false);
    let mut sealed = vec![0; plain.len() + 16];
    let count = crypter.update(plain, &mut sealed).unwrap();
    let rest = crypter.finalize(&mut sealed[count..]).unwrap();
    encode_block(&sealed[..count + rest])
}

fn plain(length: u32, rest: &[u8], padding: usize, value: u8) -> Vec<u8> {
    let mut plain = vec![b'r'; 16];
    plain.extend(length.to_be_bytes());
    plain.extend(rest);
    plain.extend(std::iter::repeat_n(value, padding));
    plain
}

#[test]
fn signatures_match_the_published_vectors() {
    let sign = |parts: [&str; 3]| hex(&sorted_sha1(parts.map(str::as_bytes)));
    assert_eq!(sign(["AAAAA", "1714036504", "1514711492"]), "f464b24fc39322e44b38aa78f5edd27bd1441696");
    assert_eq!(sign(["AAAAA", "1714037059", "486452656"]), "899cf89e464efb63f54ddac96b0a0a235f53aa78");
    let sign = hex(&im_sign(b"xxxxyyyy", b"1669872112"));
    assert_eq!(sign, "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061");
    assert!(matches_hex(im_sign(b"xxxxyyyy", b"1669872112"), &sign));
    assert!(!matches_hex(im_sign(b"xxxxyyyy", b"1669872112"), &sign.to_uppercase()));
    assert!(!matches_hex(im_sign(b"xxxxyyyy", b"1669872112"), &sign[1..]));
    for (at, right) in sign.char_indices() {
        for wrong in (0..=127).map(char::from).filter(|wrong| *wrong != right) {
            let given = format!("{}{wrong}{}", &sign[..at], &sign[at + 1..]);
            assert!(!matches_hex(im_sign(b"xxxxyyyy", b"1669872112"), &given), "{given:?}");
        }
    }
}

#[test]
fn the_published_wecom_echostr_opens() {
    let opened =
        key().open("P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==").unwrap();
    assert_eq!(opened.message(), "1616140317555161061");
    assert_eq!(opened.receive_id(), "wx5823bf96d3bd56c7");
    assert_eq!(opened.into_message(), "1616140317555161061");
}

#[test]
fn a_key_is_refused_with_its_fault_and_never_shown() {
    for (text, expected) in [
        ("", KeyError::Length(0)),
        (&KEY[1..], KeyError::Length(42)),
        ("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C=", KeyError::Length(44)),
        ("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B-C", KeyError::Character(42)),
        ("密Wm Ym7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2", KeyError::Character(1)),
    ] {
        assert_eq!(EncodingKey::parse(text).unwrap_err(), expected, "{text}");
    }
    assert_eq!(format!("{:?}", key()), "EncodingKey(…)");
    // The last character has two bits too many; three more keys are the same key.
    for last in ["C", "D", "A", "B"] {
        assert_eq!(
            EncodingKey::parse(&format!("{}{last}", &KEY[..42])).unwrap().seal([0; 16], "m", "id").unwrap(),
            key().seal([0; 16], "m", "id").unwrap()
        );
    }
}

#[test]
fn what_openssl_seals_opens_and_the_other_way_round() {
    let body = "<xml><Content>你好</Content></xml>";
    let rest = [body.as_bytes(), b"wx5823bf96d3bd56c7"].concat();
    let padding = 32 - (20 + rest.len()) % 32;
    let plain = plain(body.len() as u32, &rest, padding, padding as u8);
    let sealed = openssl_seal(&plain);
    assert_eq!(key().seal([b'r'; 16], body, "wx5823bf96d3bd56c7").unwrap(), sealed);
    let opened = key().open(&sealed).unwrap();
    assert_eq!((opened.message(), opened.receive_id()), (body, "wx5823bf96d3bd56c7"));
}

#[test]
fn every_broken_buffer_is_refused_for_its_reason() {
    let sealed = |length, rest: &[u8], padding, value| openssl_seal(&plain(length, rest, padding, value));
    let good = key().seal([0; 16], "message", "id").unwrap();
    for (text, expected) in [
        (String::new(), OpenError::Blocks),
        ("AAAA".to_owned(), OpenError::Blocks),
        (good.trim_end_matches('=').to_owned(), OpenError::Base64),
        (format!("{good}\n"), OpenError::Base64),
        (format!(" {good}"), OpenError::Base64),
        (good.replace('=', "-"), OpenError::Base64),
        (good[..good.len() - 4].to_owned(), OpenError::Blocks),
        // Padding bytes of 0, of 33, and of more than there is.
        (sealed(4, b"textid", 6, 0), OpenError::Padding),
        (sealed(4, b"textid", 6, 33), OpenError::Padding),
        (openssl_seal(&[32; 16]), OpenError::Padding),
        // Nothing left, less than the fixed part, a length beyond the end.
        (openssl_seal(&[32; 32]), OpenError::Length),
        (openssl_seal(&[16; 32]), OpenError::Length),
        (sealed(7, b"textid", 6, 6), OpenError::Length),
        (sealed(u32::MAX, b"textid", 6, 6), OpenError::Length),
        // The last byte alone is right.
        (sealed(4, b"textid\x06\x05\x06\x06\x06", 1, 6), OpenError::Padding),
        (sealed(4, b"textidabcdef\x00", 31, 32), OpenError::Padding),
        // What is behind the message is not text, also because the length is in the middle of a character.
        (sealed(4, &[b't', b'e', b'x', b't', 0xFF, 0xFE], 6, 6), OpenError::ReceiveId),
        (sealed(1, "你id!".as_bytes(), 6, 6), OpenError::ReceiveId),
    ] {
        assert_eq!(key().open(&text).map_err(|error| (error, text.clone())).unwrap_err().0, expected, "{text}");
    }
    // A message that is not text is no sign of a wrong key.
    let opened = key().open(&sealed(4, &[0xFF, b'a', 0xFE, b'b', b'i', b'd'], 6, 6)).unwrap();
    assert_eq!((opened.message(), opened.receive_id()), ("\u{FFFD}a\u{FFFD}b", "id"));
    assert_eq!(opened.into_message(), "\u{FFFD}a\u{FFFD}b");
    // An empty message for nobody is valid: bots have an empty receive id.
    let opened = key().open(&key().seal([0; 16], "", "").unwrap()).unwrap();
    assert_eq!((opened.message(), opened.receive_id()), ("", ""));
}

proptest! {
    #[test]
    fn what_is_sealed_opens(random: [u8; 16], message in ".*", id in "[a-z0-9]{0,30}") {
        let opened = key().open(&key().seal(random, &message, &id).unwrap()).unwrap();
        prop_assert_eq!((opened.message(), opened.receive_id()), (message.as_str(), id.as_str()));
    }

    /// Long texts are read by vector instructions, and must be as canonical as short ones.
    #[test]
    fn one_odd_character_is_seen_wherever_it_stands(
        message in "[a-z]{0,400}", at: prop::sample::Index, odd in "[-_=\\n +/é\u{0}]",
    ) {
        let sealed = key().seal([7; 16], &message, "id").unwrap();
        let at = at.index(sealed.len());
        let text = format!("{}{odd}{}", &sealed[..at], &sealed[at + 1..]);
        let plain = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &text);
        prop_assert_eq!(plain.is_err(), key().open(&text) == Err(OpenError::Base64), "{}", text);
    }

    #[test]
    fn no_text_panics(text in ".*", bytes: Vec<u8>) {
        let _ = key().open(&text);
        let _ = key().open(&openssl::base64::encode_block(&bytes));
        let _ = EncodingKey::parse(&text);
        let mut whole = bytes;
        whole.resize(whole.len().next_multiple_of(16).max(16), 7);
        let _ = key().open(&openssl_seal(&whole));
    }
}

/// A resource by an independent implementation.
fn openssl_resource(text: &[u8], nonce: &str, associated_data: &str) -> String {
    use openssl::{
        base64::{decode_block, encode_block},
        symm::{Cipher, encrypt_aead},
    };
    let key = decode_block(&format!("{KEY}=")).unwrap();
    let mut tag = [0; 16];
    let (nonce, associated_data) = (nonce.as_bytes(), associated_data.as_bytes());
    let sealed = encrypt_aead(Cipher::aes_256_gcm(), &key[..32], Some(nonce), associated_data, text, &mut tag).unwrap();
    encode_block(&[sealed, tag.to_vec()].concat())
}

#[test]
fn a_resource_opens_with_the_key_of_the_account() {
    let nonce = "fdasflkja484";
    for (text, associated_data) in [(r#"{"out_trade_no":"A1"}"#, "transaction"), ("退款", ""), ("", "refund")] {
        let sealed = openssl_resource(text.as_bytes(), nonce, associated_data);
        assert_eq!(key().open_resource(&sealed, nonce, associated_data).as_deref(), Ok(text));
        assert_eq!(key().open_resource(&sealed, nonce, "other"), Err(ResourceError::Tag));
        assert_eq!(key().open_resource(&sealed, "fdasflkja485", associated_data), Err(ResourceError::Tag));
        let other = EncodingKey::parse("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG").unwrap();
        assert_eq!(other.open_resource(&sealed, nonce, associated_data), Err(ResourceError::Tag));
        assert_eq!(key().open_resource(&sealed, "short", associated_data), Err(ResourceError::Nonce(5)));
    }
    for (sealed, expected) in [("", ResourceError::Tag), ("AAAA", ResourceError::Tag), ("no!", ResourceError::Base64)] {
        assert_eq!(key().open_resource(sealed, nonce, ""), Err(expected), "{sealed}");
    }
    let sealed = openssl_resource(b"\xff", nonce, "");
    assert_eq!(key().open_resource(&sealed, nonce, ""), Err(ResourceError::Text));
}
