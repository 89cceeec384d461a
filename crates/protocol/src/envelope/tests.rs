mod causes;

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

/// What `explain` finds first, and what it says of it.
#[test]
fn explain_names_the_first_fault_and_its_cause() {
    let keys = keys(Platform::WeCom, Mode::Safe);
    let request = Sender::new(&keys).deliver("<xml></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
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
    let failed: Vec<_> = steps.iter().filter(|step| step.result == StepResult::Failed).collect();
    assert!(failed.len() == 1 && failed[0].detail.starts_with("1 day old; the server takes 10 minutes"), "{steps:?}");
    assert_eq!(steps.last().unwrap().name, "payload", "the walk goes on");
    // Spaces where there was a plus.
    let echo = Sender::new(&keys).url_check("echo", NOW, "n", [9; 16]).unwrap().unwrap().query;
    let spaced = echo.replace("%2B", "%20");
    if spaced != echo {
        let steps = keys.explain(&Query::parse(&spaced).unwrap(), None, NOW);
        assert!(steps.last().unwrap().detail.contains("decoded `+` as a space"), "{steps:?}");
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

/// The step that `explain` finds at fault, and a part of what it says; `None`: all is well.
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

#[test]
fn explain_knows_each_kind_of_mistake() {
    let safe = keys(Platform::Mp, Mode::Safe);
    let plain = Keys { aes_keys: Vec::new(), ..keys(Platform::Mp, Mode::Plain) };
    let im = Keys { aes_keys: Vec::new(), ..keys(Platform::Im, Mode::Plain) };
    let wecom = keys(Platform::WeCom, Mode::Safe);
    let deliver = |keys: &Keys, payload: &str, command| {
        let form = if payload.starts_with('<') { Form::Xml } else { Form::Json };
        let request = Sender::new(keys).deliver(payload, form, command, NOW, "n", [0; 16]).unwrap();
        (request.query, request.body)
    };
    let other_id = |id: &str| Keys { receive_ids: ReceiveIds::OneOf(vec![id.to_owned()]), ..safe.clone() };
    let (query, body) = deliver(&safe, "<xml></xml>", None);
    let (plain_query, plain_body) = deliver(&plain, "<xml></xml>", None);
    let (im_query, im_body) = deliver(&im, "{}", Some("State.StateChange"));
    let im_query = im_query.as_str();
    let without = |query: &str, name: &str| {
        query.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect::<Vec<_>>().join("&")
    };
    let upper = |query: &str, name: &str| {
        let value = Query::parse(query).unwrap().get(name).unwrap().to_owned();
        query.replace(&value, &value.to_uppercase())
    };
    let for_id = |id: &str| deliver(&other_id(id), "<xml></xml>", None);
    /// Keys, query, body, and the step that fails with a part of what is said of it.
    type Row<'r> = (&'r Keys, String, Option<String>, Option<(&'r str, &'r str)>);
    let compat = Keys { mode: Mode::Compat, ..safe.clone() };
    let bot = Keys { tokens: vec![Secret::new("botToken")], ..keys(Platform::WeComBot, Mode::Safe) };
    let of_bot = Keys { receive_ids: ReceiveIds::OneOf(vec![String::new()]), ..keys(Platform::WeComBot, Mode::Safe) };
    let other_wecom = Keys { tokens: vec![Secret::new("botToken")], ..wecom.clone() };
    let (query_of_application, body_of_application) = deliver(&wecom, "<xml></xml>", None);
    let (query_of_bot, body_of_bot) = deliver(&of_bot, "{}", None);
    let encoded = |query: &str| query.replace('%', "%25").replace('&', "%26").replace('=', "%3D");
    let rows: Vec<Row<'_>> = vec![
        (&safe, query.clone(), Some(body.clone()), None),
        (&plain, plain_query.clone(), Some(plain_body.clone()), None),
        (&im, im_query.to_owned(), Some(im_body.clone()), None),
        (&plain, format!("{plain_query}&msg_signature=0"), Some(plain_body.clone()), None),
        (
            &plain,
            format!("{plain_query}&encrypt_type=aes"),
            Some(plain_body.clone()),
            Some(("body", "the console encrypts")),
        ),
        (
            &compat,
            without(&without(&query, "msg_signature"), "encrypt_type"),
            Some(body.clone()),
            Some(("signature", "`msg_signature` is missing")),
        ),
        (
            &safe,
            without(&query, "msg_signature"),
            Some(body.clone()),
            Some(("signature", "`msg_signature` is missing")),
        ),
        (&safe, without(&query, "nonce"), Some(body.clone()), Some(("signature", "`nonce` is missing"))),
        (&safe, upper(&query, "msg_signature"), Some(body.clone()), Some(("signature", "it matches in lower case"))),
        (
            &safe,
            query.clone(),
            Some(deliver(&safe, "<xml>2</xml>", None).1),
            Some(("signature", "the body is not the one that was signed")),
        ),
        (&safe, query.clone(), Some("<xml></xml>".to_owned()), Some(("body", "明文模式"))),
        (&safe, query.clone(), Some("<xml>".to_owned()), Some(("body", "is the file complete?"))),
        (&safe, query.clone(), Some("hello".to_owned()), Some(("body", "neither XML nor JSON"))),
        (&wecom, query.clone(), Some("<xml></xml>".to_owned()), Some(("body", "exactly one `Encrypt`"))),
        (
            &plain,
            plain_query.replace("nonce=n", "nonce=m"),
            Some(plain_body),
            Some(("signature", "differs from the configured")),
        ),
        (&plain, plain_query, Some("<xml>".to_owned()), None),
        (&safe, for_id("wx0123456789abcdef").0, Some(for_id("wx0123456789abcdef").1), Some(("receive id", "an AppID"))),
        (&safe, for_id("ww0123456789abcdef").0, Some(for_id("ww0123456789abcdef").1), Some(("receive id", "a CorpID"))),
        (&safe, for_id("").0, Some(for_id("").1), Some(("receive id", "it is empty"))),
        (&safe, for_id("x").0, Some(for_id("x").1), Some(("receive id", "looks like no id"))),
        (&im, without(im_query, "Sign"), Some(im_body.clone()), Some(("signature", "回调鉴权"))),
        (
            &im,
            im_query.replace("Sign=", "Sign=0"),
            Some(im_body.clone()),
            Some(("signature", "differs from the configured")),
        ),
        (
            &im,
            im_query.replace("1400000000", "1400000001"),
            Some(im_body),
            Some(("application", "another application")),
        ),
        (&im, im_query.to_owned(), Some("<xml></xml>".to_owned()), None),
        (&im, im_query.to_owned(), Some("{".to_owned()), None),
        (&safe, query.replace('&', "&amp;"), Some(body.clone()), Some(("signature", "`&amp;` for `&`"))),
        (&safe, encoded(&query), Some(body.clone()), Some(("signature", "encodes it twice"))),
        (&im, encoded(im_query), Some("{}".to_owned()), Some(("signature", "encodes it twice"))),
        (&bot, query_of_application, Some(body_of_application), Some(("signature", "XML is what applications send"))),
        (&other_wecom, query_of_bot.clone(), Some(body_of_bot.clone()), Some(("signature", "`encrypt` in JSON"))),
        (&wecom, query_of_bot, Some(body_of_bot), Some(("receive id", "`encrypt` in JSON"))),
    ];
    for (keys, query, body, expected) in rows {
        let found = explained(keys, &query, body.as_deref());
        match (&found, expected) {
            (None, None) => {}
            (Some((step, detail)), Some((name, cause))) => {
                assert_eq!((*step, detail.contains(cause)), (name, true), "{query} {body:?}: {found:?}");
            }
            _ => panic!("{query} {body:?}: {found:?}, expected {expected:?}"),
        }
        // What explain finds, the server refuses, and the other way round.
        let opened = keys.open(&Query::parse(&query).unwrap(), body.as_deref().unwrap_or_default().as_bytes(), NOW);
        assert_eq!(opened.is_ok(), expected.is_none(), "{query} {body:?}");
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

/// What nobody but a forger sends: `explain` names it as the server does.
#[test]
fn explain_names_what_was_captured() {
    let (wecom, mp) = (keys(Platform::WeCom, Mode::Safe), keys(Platform::Mp, Mode::Compat));
    let request =
        Sender::new(&wecom).deliver("<xml><Content>hush</Content></xml>", Form::Xml, None, NOW, "n", [0; 16]).unwrap();
    let opened = wecom.open(&Query::parse(&request.query).unwrap(), request.body.as_bytes(), NOW).unwrap();
    let answer = wecom.answer(opened.seal().unwrap(), "<xml></xml>", NOW, "1372623149", [7; 16]).unwrap();
    let part = |text: &str, name: &str| {
        let rest = text.split_once(&format!("<{name}>")).unwrap().1.split_once(&format!("</{name}>")).unwrap().0;
        rest.trim_start_matches("<![CDATA[").trim_end_matches("]]>").to_owned()
    };
    let escaped = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let reflected = format!(
        "msg_signature={}&timestamp={}&nonce={}",
        part(&answer, "MsgSignature"),
        part(&answer, "TimeStamp"),
        part(&answer, "Nonce")
    );
    let echo = |query: &str, body: &str| format!("{query}&echostr={}", escaped(&part(body, "Encrypt")));
    let number = Sender::new(&wecom).url_check("1616140317555161061", NOW, "n", [9; 16]).unwrap().unwrap().query;
    let long = Sender::new(&mp).deliver("<xml></xml>", Form::Xml, None, NOW, &"9".repeat(41), [0; 16]).unwrap();
    for (keys, query, body, refusal, name, cause) in [
        (&wecom, reflected.clone(), Some(&answer), Refusal::ReflectedAnswer, "origin", "captured an answer"),
        (&wecom, echo(&reflected, &answer), None, Refusal::ReflectedAnswer, "origin", "captured an answer"),
        (&wecom, echo(&request.query, &request.body), None, Refusal::BadEcho, "answer", "captured a message"),
        (&mp, long.query, Some(&long.body), Refusal::BadNonce, "signature", "moved a cipher text"),
    ] {
        let (step, detail) = explained(keys, &query, body.map(String::as_str)).unwrap();
        assert_eq!(step, name, "{detail}");
        assert!(detail.contains(&refusal.to_string()) && detail.contains(cause), "{detail}");
        assert!(!detail.contains("hush"), "{detail}");
        let query = Query::parse(&query).unwrap();
        let found = match body {
            Some(body) => keys.open(&query, body.as_bytes(), NOW).map(drop),
            None => keys.verify_url(&query, NOW).map(drop),
        };
        assert_eq!(found, Err(refusal));
    }
    assert_eq!(explained(&wecom, &number, None), None);
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
