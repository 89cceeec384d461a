mod causes;
mod explain;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    crypto::EncodingKey,
    event::Platform,
    payload::{self, Form},
    secret::Secret,
};

const NOW: i64 = 1_735_689_600;

fn keys(platform: Platform, mode: Mode) -> Keys {
    Keys {
        platform,
        tokens: vec![Secret::new("token"), Secret::new("previous")],
        aes_keys: vec![
            EncodingKey::parse(&"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHI"[..43]).unwrap(),
            EncodingKey::parse(&"K".repeat(43)).unwrap(),
        ],
        receive_ids: ReceiveIds::OneOf(vec![if platform == Platform::WeComBot { "" } else { "wx1" }.to_owned()]),
        mode,
        max_age: Some(Duration::from_secs(600)),
        sdk_app_id: Some(1_400_000_000),
    }
}

fn explained(keys: &Keys, query: &str, body: Option<&str>) -> Option<(&'static str, String)> {
    let steps = keys.explain(&Query::parse(query).unwrap(), body.map(str::as_bytes), NOW);
    let failed = steps.iter().position(|step| step.result == StepResult::Failed)?;
    assert_eq!(failed + 1, steps.len(), "the walk ends at the fault: {steps:?}");
    let shown = format!("{steps:?}");
    for hidden in ["previous\"", "KKKK", "abcdefgh"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    steps.into_iter().next_back().map(|step| (step.name, step.detail))
}

fn every_kind() -> impl Strategy<Value = Keys> {
    prop_oneof![
        Just(keys(Platform::Mp, Mode::Safe)),
        Just(keys(Platform::Mp, Mode::Compat)),
        Just(keys(Platform::MiniProgram, Mode::Safe)),
        Just(keys(Platform::WeCom, Mode::Safe)),
        Just(keys(Platform::WeComKf, Mode::Safe)),
        Just(keys(Platform::WeComBot, Mode::Safe)),
        Just(keys(Platform::OpenPlatform, Mode::Safe)),
    ]
}

proptest! {
    #[test]
    fn what_the_platform_sends_opens_and_its_reply_too(keys in every_kind(), text in "[^\u{0}]*", random: [u8; 16]) {
        let payload = format!("<xml>{text}</xml>");
        let sender = Sender::new(&keys);
        let request = sender.deliver(&payload, Form::Xml, None, NOW, "n", random).unwrap();
        let opened = keys.open(&Query::parse(&request.query).unwrap(), request.body.as_bytes(), NOW).unwrap();
        prop_assert_eq!(opened.payload(), payload.as_str());
        let sealed = keys.answer(opened.seal().unwrap(), &text, NOW, "m", random).unwrap();
        prop_assert_eq!(sender.open_reply(&sealed).unwrap(), text);
    }

    #[test]
    fn one_flipped_bit_never_gives_another_event(keys in every_kind(), at: prop::sample::Index, bit in 0_u8..7) {
        let payload = "<xml><MsgType>text</MsgType></xml>";
        let request = Sender::new(&keys).deliver(payload, Form::Xml, None, NOW, "nonce", [7; 16]).unwrap();
        let (query, body) = (request.query.into_bytes(), request.body.into_bytes());
        let at = at.index(query.len() + body.len());
        let (mut query, mut body) = (query, body);
        match at.checked_sub(query.len()) {
            None => query[at] ^= 1 << bit,
            Some(at) => body[at] ^= 1 << bit,
        }
        let Ok(query) = std::str::from_utf8(&query) else { return Ok(()) };
        if let Ok(opened) = Query::parse(query).and_then(|query| keys.open(&query, &body, NOW)) {
            prop_assert_eq!(opened.payload(), payload);
        }
    }

    #[test]
    fn no_input_panics(keys in every_kind(), query in ".*", body: Vec<u8>, xml in "(<[a-zA-Z!/\\[\\]]{0,8}>?|[a-z&;#]{0,4}){0,20}") {
        let signed = Sender::new(&keys).deliver(&xml, Form::Xml, None, NOW, "n", [0; 16]).unwrap().query;
        for query in [query.as_str(), signed.as_str()] {
            let Ok(query) = Query::parse(query) else { continue };
            for body in [&body[..], xml.as_bytes()] {
                let _ = keys.open(&query, body, NOW);
                let _ = keys.explain(&query, Some(body), NOW);
            }
            let _ = keys.verify_url(&query, NOW);
            let _ = keys.explain(&query, None, NOW);
        }
        let _ = Sender::new(&keys).open_reply(&xml);
    }

    #[test]
    fn no_payload_panics_and_what_is_written_reads_back(text in ".*", xml in "(<[a-zA-Z!/\\[\\]]{0,8}>?|[a-z&;#]{0,4}){0,40}", json in "[\\[\\]{}:,\"a-z0-9.eE+-]{0,40}") {
        for (form, input) in [(Form::Xml, &text), (Form::Json, &text), (Form::Xml, &xml), (Form::Json, &json)] {
            let Ok(payload::Value::Object(tree)) = payload::parse(form, input) else { continue };
            let written = payload::write_json(&tree);
            prop_assert!(payload::parse(Form::Json, &written).is_ok(), "{}", written);
        }
        let mut object = payload::Object::default();
        object.push("Content", payload::Value::Text(text.clone().into()));
        let written = payload::write_xml(&object);
        let Ok(payload::Value::Object(read)) = payload::parse(Form::Xml, &written) else { panic!("{written}") };
        let kept: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{7f}'..)).collect();
        let kept: String = kept.chars().filter(|c| !matches!(c, '\u{FFFE}' | '\u{FFFF}')).collect();
        prop_assert_eq!(read.text("Content"), Some(kept.as_str()));
    }
}

#[test]
fn the_replay_guard_is_bounded_and_exact() {
    let guard = ReplayGuard::default();
    let used = |number: u32, body| {
        let mut signature = [0; 20];
        // Its last bytes are the hash in a table.
        signature[12..].copy_from_slice(&u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_ne_bytes());
        UsedQuery { signature, body, term: Duration::ZERO }
    };
    let check = |number, body| guard.check(&used(number, body));
    assert_eq!(check(0, 1), Ok(()));
    assert_eq!(check(0, 1), Ok(()));
    assert_eq!(check(0, 2), Err(Refusal::ReplayedQuery));
    guard.remember(&used(0, 2));
    assert_eq!((check(0, 1), check(0, 2)), (Err(Refusal::ReplayedQuery), Ok(())), "another node was first");
    // As many as are remembered, twice.
    const QUERIES: u32 = 229_376;
    assert_eq!(UsedQuery::MAX, 2 * QUERIES as usize);
    for number in 1..=2 * QUERIES {
        assert_eq!(check(number, 1), Ok(()));
    }
    for number in QUERIES..2 * QUERIES {
        assert_eq!(check(number, 2), Err(Refusal::ReplayedQuery), "{number}");
    }
    assert_eq!(check(0, 3), Ok(()), "the oldest are removed");
}

/// The parts of a signature are sorted before they are hashed, so it does not say which is the time. Here is what that
/// gives whoever has captured a plain query.
#[test]
fn time_and_nonce_can_be_swapped_and_what_bounds_it() {
    let (keys, guard) = (keys(Platform::Mp, Mode::Plain), ReplayGuard::default());
    let guarded = Guarded::of(&keys, &[]);
    let nonce = NOW + 1_000_000;
    let captured =
        Sender::new(&keys).deliver("<xml/>", Form::Xml, None, NOW, &nonce.to_string(), [0; 16]).unwrap().query;
    let swapped = captured.replace(&NOW.to_string(), "T").replace(&nonce.to_string(), &NOW.to_string());
    let swapped = swapped.replace('T', &nonce.to_string());
    let take = |query: &str, body: &str, now| {
        let query = Query::parse(query)?;
        let verified = keys.open(&query, body.as_bytes(), now)?;
        guard.check(&guarded.used(&keys, &query, Some(&verified)).unwrap())
    };
    assert_eq!(take(&captured, "<xml/>", NOW), Ok(()));
    assert_eq!(take(&swapped, "<xml/>", NOW), Err(Refusal::Stale(-1_000_000)), "the nonce must be a fresh time");
    assert_eq!(take(&captured, "<xml/>", nonce), Err(Refusal::Stale(1_000_000)));
    assert_eq!(take(&swapped, "<xml/>", nonce), Ok(()), "the protocol has nothing against it");
    assert_eq!(take(&swapped, "<xml>2</xml>", nonce), Err(Refusal::ReplayedQuery), "but for the first body only");
}

#[test]
fn a_query_is_decoded_once_and_a_plus_stays_a_plus() {
    for (text, name, value) in [
        ("a=1", "a", Some("1")),
        ("&&a=1&&", "a", Some("1")),
        ("a=%31%2B+%20", "a", Some("1++ ")),
        ("a=%2525", "a", Some("%25")),
        ("%61=1", "a", Some("1")),
        ("a=b=c", "a", Some("b=c")),
        ("a=%e4%bd%a0", "a", Some("你")),
        ("a=1&a=2", "a", Some("1")),
        ("a=%", "a", Some("%")),
        ("a=%zz", "a", Some("%zz")),
        ("A=1", "a", None),
        ("a=", "a", None),
        ("a", "a", None),
        ("=1", "a", None),
        ("", "a", None),
    ] {
        assert_eq!(Query::parse(text).unwrap().get(name), value, "{text}");
    }
    assert_eq!(Query::parse("a=").unwrap().require("a"), Err(Refusal::MissingParameter("a")));
    for text in ["a=%FF", "%FF=1", "a=%ed%a0%80", &"a=1&".repeat(65)] {
        assert!(matches!(Query::parse(text), Err(Refusal::BadQuery)), "{text}");
    }
    assert!(Query::parse(&"a=1&".repeat(64)).is_ok());
    for name in ["signature", "msg_signature", "timestamp", "nonce", "echostr", "encrypt_type", "Sign", "SdkAppid"] {
        for text in [
            format!("{name}=1&{name}=1"),
            format!("{name}&x=1&{name}=1"),
            format!("{name}=&%{:02x}{}=1", name.as_bytes()[0], &name[1..]),
        ] {
            assert!(matches!(Query::parse(&text), Err(Refusal::RepeatedParameter(it)) if it == name), "{text}");
        }
    }
}

#[test]
fn what_is_data_of_a_query_reads_the_same_alone() {
    for (text, data) in [
        ("", ""),
        ("Sign=1&CallbackCommand=a&SdkAppid=2&RequestTime=3", "CallbackCommand=a&RequestTime=3"),
        ("C%61llbackCommand=a%20b&%53ign=1", "C%61llbackCommand=a%20b"),
        ("Callback%ffCommand=a&&=&OptPlatform", "OptPlatform"),
    ] {
        assert_eq!(Query::data(text), data, "{text}");
    }
    let query = "%43allbackCommand=a&Sign=1";
    let data = Query::data(query);
    let command = |text: &str| Query::parse(text).unwrap().get("CallbackCommand").map(str::to_owned);
    assert_eq!(command(&data), command(query));
}

#[test]
fn freshness_is_measured_to_the_second_in_either_direction() {
    let mut keys = keys(Platform::Mp, Mode::Safe);
    for (time, expected) in [
        (NOW - 600, Ok(())),
        (NOW + 600, Ok(())),
        (NOW - 601, Err(Refusal::Stale(601))),
        (NOW + 601, Err(Refusal::Stale(-601))),
        (0, Err(Refusal::Stale(NOW))),
        (999_999_999_999_999_999, Err(Refusal::Stale(NOW - 999_999_999_999_999_999))),
    ] {
        assert_eq!(keys.check_age("timestamp", &time.to_string(), NOW), expected, "{time}");
    }
    for time in [
        "",
        " 1735689600",
        "1735689600 ",
        "+1735689600",
        "-1",
        "1e9",
        "1735689600.0",
        "１７３５６８９６００",
        "1000000000000000000",
    ] {
        assert_eq!(keys.check_age("timestamp", time, NOW), Err(Refusal::BadTimestamp("timestamp")), "{time}");
        keys.max_age = None;
        assert_eq!(keys.check_age("timestamp", time, NOW), Err(Refusal::BadTimestamp("timestamp")), "{time}");
        keys.max_age = Some(Duration::from_secs(600));
    }
    keys.max_age = None;
    assert_eq!(keys.check_age("timestamp", "0", NOW), Ok(()));
}

/// Metrics are registered by the list, and operators look the codes up in the documentation.
#[test]
fn every_refusal_has_a_code_that_is_listed_and_documented() {
    let all = [
        Refusal::MissingParameter("a"),
        Refusal::RepeatedParameter("a"),
        Refusal::BadQuery,
        Refusal::WrongSignature("a"),
        Refusal::BadNonce,
        Refusal::BadTimestamp("a"),
        Refusal::Stale(1),
        Refusal::Plaintext,
        Refusal::NoKey,
        Refusal::ReplayedQuery,
        Refusal::BadEcho,
        Refusal::ReflectedAnswer,
        Refusal::Undecryptable(crate::crypto::OpenError::Base64),
        Refusal::WrongReceiveId("a".to_owned()),
        Refusal::WrongSdkAppId,
        Refusal::BadEnvelope,
        Refusal::NotUtf8,
        Refusal::NotXmlOrJson,
        Refusal::Payload(payload::PayloadError::DocType),
    ];
    assert_eq!(all.each_ref().map(Refusal::reason), Refusal::REASONS);
    let documented = include_str!("../../../../docs/refusals.md");
    for refusal in all {
        let status = match refusal.kind() {
            RefusalKind::Forbidden => 403,
            RefusalKind::Malformed => 400,
        };
        let row = format!("| `{}` | {status} |", refusal.reason());
        assert!(documented.contains(&row), "docs/refusals.md has no row {row}");
        assert!(refusal.wechat_code().is_none_or(|code| (-40011..=-40001).contains(&code)), "{refusal}");
    }
}

#[test]
fn the_url_check_of_every_platform_is_answered_and_explained() {
    const ECHO: &str = "1616140317555161061";
    for platform in Platform::ALL {
        let keys = keys(platform, Mode::Safe);
        let request = Sender::new(&keys).url_check(ECHO, NOW, "n", [9; 16]).unwrap();
        assert_eq!(request.is_some(), keys.has_url_check(), "{platform}");
        let Some(Request { query, .. }) = request else { continue };
        assert_eq!(keys.verify_url(&Query::parse(&query).unwrap(), NOW).as_deref(), Ok(ECHO), "{platform}: {query}");
        assert_eq!(explained(&keys, &query, None), None, "{platform}");
    }
}

#[test]
fn a_reply_is_sealed_with_what_opened_the_request_or_not_at_all() {
    let all = keys(Platform::WeCom, Mode::Safe);
    let previous = Keys { tokens: all.tokens[1..].to_vec(), aes_keys: all.aes_keys[1..].to_vec(), ..all.clone() };
    let request = Sender::new(&previous).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
    let opened = all.open(&Query::parse(&request.query).unwrap(), request.body.as_bytes(), NOW).unwrap();
    let seal = opened.seal().unwrap();
    assert!(all.answer(seal, "<xml></xml>", NOW, "m", [7; 16]).is_ok());
    // Another account has no such token, and an empty text would be taken for an answer.
    for fewer in [
        Keys { tokens: all.tokens[..1].to_vec(), ..all.clone() },
        Keys { aes_keys: all.aes_keys[..1].to_vec(), ..all.clone() },
    ] {
        assert_eq!(fewer.answer(seal, "<xml></xml>", NOW, "m", [7; 16]), Err(SealError::OtherKeys));
        assert_eq!(fewer.seal(seal, "<xml></xml>", NOW, "m", [7; 16]), Err(SealError::OtherKeys));
    }
}
