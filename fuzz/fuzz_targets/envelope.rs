//! Requests of anybody are refused or opened without a panic. The key is known here, so that the input gets behind
//! signature and cipher.
//!
//! Input: a byte for the platform, one for the mode, one for what the rest is.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use aes::{
    Aes256,
    cipher::{BlockModeEncrypt as _, KeyIvInit as _, block_padding::NoPadding},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use echostr::{
    crypto::{EncodingKey, hex, im_sign, sorted_sha1},
    envelope::{Guarded, Keys, Mode, Query, ReceiveIds, ReplayGuard, Sender},
    event::Platform,
    payload::Form,
    secret::Secret,
};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_735_689_600;
const TOKEN: &str = "token";
/// 43 times `A`: a key of zeros, and so is its IV.
static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::parse(&"A".repeat(43)).expect("43 characters"));

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (at, mode, what, rest) = input;
    let platform = Platform::ALL[usize::from(at) % Platform::ALL.len()];
    let either = matches!(platform, Platform::Mp | Platform::MiniProgram);
    let keys = Keys {
        platform,
        tokens: vec![Secret::new("other"), Secret::new(TOKEN)],
        aes_keys: vec![KEY.clone()],
        receive_ids: if mode & 4 == 0 { ReceiveIds::OneOf(vec!["wx1".to_owned()]) } else { ReceiveIds::Any },
        mode: match mode % 3 {
            0 if either => Mode::Plain,
            1 if either => Mode::Compat,
            _ => Mode::Safe,
        },
        max_age: Some(Duration::from_secs(300)),
        sdk_app_id: Some(1_400_000_000),
    };
    match what % 5 {
        0 => anything(&keys, rest),
        1 => signed(&keys, rest),
        2 => sealed(&keys, &BASE64.encode(rest)),
        3 => sealed(&keys, &encrypted(rest)),
        _ => delivered(&keys, rest),
    }
});

/// A query, a line break, a body.
fn anything(keys: &Keys, rest: &[u8]) {
    let (query, body) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    let Ok(query) = std::str::from_utf8(query) else { return };
    let Ok(query) = Query::parse(query) else { return };
    let _ = keys.verify_url(&query, NOW);
    open(keys, &query, body);
    let _ = keys.explain(&query, Some(body), NOW);
    let _ = keys.explain(&query, None, NOW);
}

/// Any body, with the signature that does not cover it.
fn signed(keys: &Keys, body: &[u8]) {
    let time = NOW.to_string();
    let plain = hex(&sorted_sha1([TOKEN.as_bytes(), time.as_bytes(), b"nonce"]));
    let im = hex(&im_sign(TOKEN.as_bytes(), time.as_bytes()));
    let query = format!(
        "signature={plain}&timestamp={time}&nonce=nonce&Sign={im}&RequestTime={time}&SdkAppid=1400000000&CallbackCommand=a"
    );
    let query = Query::parse(&query).expect("a query");
    open(keys, &query, body);
    if let Ok(reply) = std::str::from_utf8(body) {
        let _ = Sender::new(keys).open_reply(reply);
    }
}

/// A cipher text, signed.
fn sealed(keys: &Keys, sealed: &str) {
    let time = NOW.to_string();
    let signature = hex(&sorted_sha1([TOKEN.as_bytes(), time.as_bytes(), b"nonce", sealed.as_bytes()]));
    let escaped = sealed.replace('+', "%2B");
    let query = format!("msg_signature={signature}&timestamp={time}&nonce=nonce&encrypt_type=aes&echostr={escaped}");
    let query = Query::parse(&query).expect("a query");
    let name = if keys.platform == Platform::WeComBot { "encrypt" } else { "Encrypt" };
    let _ = keys.verify_url(&query, NOW);
    open(keys, &query, format!("<xml><{name}>{sealed}</{name}></xml>").as_bytes());
    let body = format!("{{\"{name}\":\"{sealed}\"}}");
    open(keys, &query, body.as_bytes());
    let _ = keys.explain(&query, Some(body.as_bytes()), NOW);
}

/// Blocks of any content, as the platform would encrypt them: what the cipher uncovers is the input.
fn encrypted(rest: &[u8]) -> String {
    let mut blocks = rest.to_vec();
    let length = blocks.len() / 16 * 16;
    blocks.truncate(length);
    let cipher = cbc::Encryptor::<Aes256>::new(&[0; 32].into(), &[0; 16].into());
    BASE64.encode(cipher.encrypt_padded::<NoPadding>(&mut blocks, length).expect("whole blocks"))
}

/// What the platform would send opens as what it sent.
fn delivered(keys: &Keys, rest: &[u8]) {
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let form = if text.trim_start().starts_with('<') { Form::Xml } else { Form::Json };
    let mut keys = keys.clone();
    keys.tokens.reverse();
    let request =
        Sender::new(&keys).deliver(text, form, Some("State.StateChange"), NOW, "nonce", [7; 16]).expect("it is short");
    let query = Query::parse(&request.query).expect("a query");
    let first = text.trim_start_matches(|c: char| c.is_ascii_whitespace()).bytes().next();
    let opened = keys.open(&query, request.body.as_bytes(), NOW + 1);
    match &opened {
        // A mark of the byte order is taken off; whoever writes two of them has one left.
        Ok(verified) => {
            assert_eq!(verified.payload().trim_start_matches('\u{FEFF}'), text.trim_start_matches('\u{FEFF}'));
        }
        // In compatible mode a clear body never has `Encrypt`; IM is JSON.
        Err(refusal) => assert!(!matches!(first, Some(b'{')) || keys.mode != Mode::Safe, "{refusal}"),
    }
    seal(&keys, opened.ok());
}

fn open(keys: &Keys, query: &Query<'_>, body: &[u8]) {
    let opened = keys.open(query, body, NOW);
    if let Ok(verified) = &opened {
        let guard = ReplayGuard::default();
        if let Some(used) = Guarded::of(keys, &keys.tokens).used(keys, query, Some(verified)) {
            assert!(guard.check(&used).is_ok());
            assert!(guard.check(&used).is_ok());
        }
    }
    seal(keys, opened.ok());
}

/// A reply is sealed so that the platform opens it.
fn seal(keys: &Keys, opened: Option<echostr::envelope::Verified>) {
    let Some(verified) = opened else { return };
    let Some(seal) = verified.seal() else { return };
    let reply = keys.answer(seal, verified.payload(), NOW, "nonce", [9; 16]).expect("the keys that opened it");
    assert_eq!(Sender::new(keys).open_reply(&reply).as_deref(), Ok(verified.payload()));
}
