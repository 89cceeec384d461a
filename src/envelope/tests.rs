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
        let request = sender.deliver(&payload, Form::Xml, None, NOW, "n", random);
        let opened = keys.open(&Query::parse(&request.query).unwrap(), request.body.as_bytes(), NOW).unwrap();
        prop_assert_eq!(opened.payload(), payload.as_str());
        let sealed = keys.seal(opened.seal().unwrap(), &text, NOW, "m", random);
        prop_assert_eq!(sender.open_reply(&sealed).unwrap(), text);
    }

    #[test]
    fn one_flipped_bit_never_gives_another_event(keys in every_kind(), at: prop::sample::Index, bit in 0_u8..7) {
        let payload = "<xml><MsgType>text</MsgType></xml>";
        let request = Sender::new(&keys).deliver(payload, Form::Xml, None, NOW, "nonce", [7; 16]);
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
        let signed = Sender::new(&keys).deliver(&xml, Form::Xml, None, NOW, "n", [0; 16]).query;
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

/// What `explain` finds first, and what it says of it.
#[test]
fn explain_names_the_first_fault_and_its_cause() {
    let keys = keys(Platform::WeCom, Mode::Safe);
    let request = Sender::new(&keys).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]);
    let other = |change: &dyn Fn(&mut Keys)| {
        let mut keys = keys.clone();
        change(&mut keys);
        keys
    };
    let wrong_token = other(&|keys| keys.tokens = vec![Secret::new("other")]);
    let wrong_key = other(&|keys| keys.aes_keys = vec![EncodingKey::parse(&"Z".repeat(43)).unwrap()]);
    let wrong_id = other(&|keys| keys.receive_ids = ReceiveIds::OneOf(vec!["ww2".to_owned()]));
    for (keys, name, cause) in [
        (&wrong_token, "signature", "the token of the console differs"),
        (&wrong_key, "decryption", "the EncodingAESKey of the console differs"),
        (&wrong_id, "receive id", "configured: ww2"),
    ] {
        let steps = keys.explain(&Query::parse(&request.query).unwrap(), Some(request.body.as_bytes()), NOW);
        let failed: Vec<_> = steps.iter().filter(|step| step.result == StepResult::Failed).collect();
        assert_eq!(failed.len(), 1, "{steps:?}");
        assert_eq!(failed[0].name, name, "{steps:?}");
        assert!(failed[0].detail.contains(cause), "{}", failed[0].detail);
        assert_eq!(steps.last().unwrap().name, name, "the walk ends at the fault");
    }
    // An old request is explained all the same.
    let steps = keys.explain(&Query::parse(&request.query).unwrap(), Some(request.body.as_bytes()), NOW + 86_400);
    assert!(steps.iter().all(|step| step.result == StepResult::Passed), "{steps:?}");
    assert!(steps.iter().any(|step| step.detail.contains("86400 s old, limit 600 s")), "{steps:?}");
    // Spaces where there was a plus.
    let echo = Sender::new(&keys).url_check("echo", NOW, "n", [9; 16]).unwrap().query;
    let spaced = echo.replace("%2B", "%20");
    if spaced != echo {
        let steps = keys.explain(&Query::parse(&spaced).unwrap(), None, NOW);
        assert!(steps.last().unwrap().detail.contains("decoded `+` as a space"), "{steps:?}");
    }
}

#[test]
fn the_replay_guard_is_bounded_and_exact() {
    let guard = ReplayGuard::default();
    let query = |number: u32| format!("signature=s{number}&timestamp=1&nonce=2");
    let first = query(0);
    let first = Query::parse(&first).unwrap();
    assert_eq!(guard.check("mp/a", &first, "body"), Ok(()));
    assert_eq!(guard.check("mp/a", &first, "body"), Ok(()));
    assert_eq!(guard.check("mp/a", &first, "other"), Err(Refusal::ReplayedQuery));
    assert_eq!(guard.check("mp/b", &first, "other"), Ok(()), "accounts are apart");
    for number in 1..=300_000 {
        let text = query(number);
        assert_eq!(guard.check("mp/a", &Query::parse(&text).unwrap(), "body"), Ok(()));
    }
    assert_eq!(guard.check("mp/a", &first, "other"), Ok(()), "the oldest is forgotten");
}
