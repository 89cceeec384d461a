//! What is said of captured requests.

use super::*;

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

/// The step that `explain` finds at fault, and a part of what it says; `None`: all is well.
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
