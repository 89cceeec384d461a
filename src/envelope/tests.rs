//! The platforms' published vectors, every refusal once, and both ends of the protocol against each other.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Class, Form, Keys, MalformedEnvelope, Method, Mode, Outcome, Query, QueryError, ReceiveIds, Refusal, ReplayGuard,
    SealError, Stamp, Step, Verified, diagnose, open,
    platform_side::{Request, open_reply, seal_request, sign_url},
    seal_reply, verify_url,
};
use crate::{
    crypto::{EncodingKey, OpenError},
    event::Platform,
    secret::Secret,
};

const NOW: i64 = 1_714_112_445;
const TEXT: &str = "<xml><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好]]></Content></xml>";
const JSON: &str = r#"{"MsgType":"text","Content":"你好"}"#;
const DEMO_APP: &str = "wxba5fad812f8e6fb9";
const DEMO_QUERY: &str = "signature=6c5c811b55cc85e0e1b54100749188c20beb3f5d&timestamp=1714112445&nonce=415670741\
    &openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3";
const DEMO_ENCRYPT: &str = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcv\
    ZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFI\
    ZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04=";
const WECOM_CORP: &str = "wx5823bf96d3bd56c7";
const WECOM_QUERY: &str = "msg_signature=5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3&timestamp=1409659589&nonce=263014780\
    &echostr=P9nAzCzyDtyTWESHep1vC5X9xho%2FqYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp%2B4RPcs8TgAE7OaBO%2BFZXvnaqQ%3D%3D";

fn key(letter: &str) -> EncodingKey {
    EncodingKey::parse(&letter.repeat(43)).expect("a good key")
}

fn one(id: &str) -> ReceiveIds {
    ReceiveIds::OneOf(vec![id.to_owned()])
}

fn account(platform: Platform) -> Keys {
    let id = if platform == Platform::WeComBot { "" } else { DEMO_APP };
    Keys::new(platform)
        .with_tokens([Secret::new("AAAAA")])
        .with_aes_keys([key("A")])
        .with_receive_ids(one(id))
        .with_max_age(Some(Duration::from_secs(600)))
        .with_sdk_app_id(1_400_000_000)
}

fn wecom() -> Keys {
    Keys::new(Platform::WeCom)
        .with_tokens([Secret::new("QDG6eK")])
        .with_aes_keys([EncodingKey::parse("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C").expect("a good key")])
        .with_receive_ids(one(WECOM_CORP))
}

fn stamp() -> Stamp {
    Stamp { now: NOW, nonce: "415670741".to_owned(), random: *b"707722b803182950" }
}

fn query(text: &str) -> Query<'_> {
    Query::parse(text).expect("a good query")
}

fn id_of(platform: Platform) -> &'static str {
    if platform == Platform::WeComBot { "" } else { DEMO_APP }
}

fn payload_of(platform: Platform) -> &'static str {
    if matches!(platform, Platform::WeComBot | Platform::Im) { JSON } else { TEXT }
}

/// A request as the platform makes it, and what `receiver` says to it.
fn deliver(sender: &Keys, receiver: &Keys, payload: &str, id: &str) -> Result<Verified, Refusal> {
    let request = Request { payload, receive_id: id, extra: &[("openid", "o 1")] };
    let sent = seal_request(sender, &request, &stamp()).expect("sealed");
    open(receiver, &query(&sent.query), sent.body.as_bytes(), NOW)
}

fn demo_xml() -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName><Encrypt><![CDATA[{DEMO_ENCRYPT}]]></Encrypt></xml>"
    )
}

mod vectors {
    use super::*;

    #[test]
    fn official_account_url_check() {
        for (signature, timestamp, nonce) in [
            ("f464b24fc39322e44b38aa78f5edd27bd1441696", 1_714_036_504, "1514711492"),
            ("899cf89e464efb63f54ddac96b0a0a235f53aa78", 1_714_037_059, "486452656"),
        ] {
            let text = format!("signature={signature}&timestamp={timestamp}&nonce={nonce}&echostr=4375120948345356249");
            let echo = verify_url(&account(Platform::Mp), &query(&text), timestamp);
            assert_eq!(echo.as_deref(), Ok("4375120948345356249"));
        }
    }

    #[test]
    fn official_account_push_in_both_forms() {
        let json = format!(r#"{{"ToUserName":"gh_97417a04a28d","Encrypt":"{DEMO_ENCRYPT}"}}"#);
        let escaped = format!(r#"{{"ToUserName":"gh_97417a04a28d","Encrypt":"{}"}}"#, DEMO_ENCRYPT.replace('/', "\\/"));
        for body in [demo_xml(), json, escaped] {
            let request =
                open(&account(Platform::MiniProgram), &query(DEMO_QUERY), body.as_bytes(), NOW).expect("opens");
            assert!(request.payload().contains("debug_demo"));
            assert_eq!(request.payload().len(), 167);
            assert_eq!(request.form(), Form::Json);
            assert_eq!(request.receive_id(), DEMO_APP);
            assert_eq!((request.key_index(), request.token_index()), (Some(0), Some(0)));
            assert!(request.encrypted());
        }
    }

    #[test]
    fn official_account_answer() {
        let keys = account(Platform::MiniProgram);
        let json = format!(r#"{{"ToUserName":"gh_97417a04a28d","Encrypt":"{DEMO_ENCRYPT}"}}"#);
        let request = open(&keys, &query(DEMO_QUERY), json.as_bytes(), NOW).expect("opens");
        let stamp = Stamp { now: 1_713_424_427, ..stamp() };
        let reply = seal_reply(&keys, &request, r#"{"demo_resp":"good luck"}"#, &stamp).expect("sealed");
        assert_eq!(
            reply,
            concat!(
                r#"{"Encrypt":"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==","#,
                r#""MsgSignature":"1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1","TimeStamp":1713424427,"Nonce":"415670741"}"#
            )
        );
        assert_eq!(open_reply(&keys, Form::Json, &reply).as_deref(), Ok(r#"{"demo_resp":"good luck"}"#));
    }

    #[test]
    fn wecom_url_check_with_plus_encoded_or_not() {
        for text in [WECOM_QUERY.to_owned(), WECOM_QUERY.replace("%2B", "+"), WECOM_QUERY.replace("%3D", "=")] {
            assert_eq!(verify_url(&wecom(), &query(&text), NOW).as_deref(), Ok("1616140317555161061"));
        }
    }

    #[test]
    fn tencent_im() {
        let keys = Keys::new(Platform::Im).with_tokens([Secret::new("xxxxyyyy")]).with_sdk_app_id(888_888);
        let keys = keys.with_max_age(Some(Duration::from_secs(60)));
        let text = "SdkAppid=888888&CallbackCommand=C2C.CallbackAfterSendMsg&contenttype=json&RequestTime=1669872112\
            &Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061";
        let request = open(&keys, &query(text), JSON.as_bytes(), 1_669_872_172).expect("opens");
        assert_eq!(request.payload(), JSON);
        assert_eq!(open(&keys, &query(text), JSON.as_bytes(), 1_669_872_173), Err(Refusal::Stale { seconds_ago: 61 }));
    }
}

mod both_ends {
    use super::*;

    #[test]
    fn every_platform_is_opened_and_answered() {
        for platform in Platform::ALL {
            for payload in [payload_of(platform), JSON] {
                let keys = account(platform);
                let request =
                    deliver(&keys, &keys, payload, id_of(platform)).unwrap_or_else(|e| panic!("{platform}: {e}"));
                assert_eq!(request.payload(), payload);
                let reply = seal_reply(&keys, &request, "re: <你好>", &stamp()).expect("sealed");
                if platform == Platform::Im {
                    assert_eq!(reply, "re: <你好>");
                } else {
                    assert_eq!(open_reply(&keys, request.form(), &reply).as_deref(), Ok("re: <你好>"), "{platform}");
                }
            }
        }
    }

    #[test]
    fn every_platform_checks_its_url() {
        for platform in Platform::ALL {
            let keys = account(platform);
            let text = sign_url(&keys, "4375120948345356249", id_of(platform), &stamp()).expect("signed");
            let echo = verify_url(&keys, &query(&text), NOW);
            match platform {
                Platform::Im => assert_eq!(echo, Err(Refusal::NoUrlCheck)),
                _ => assert_eq!(echo.as_deref(), Ok("4375120948345356249"), "{platform}"),
            }
        }
    }

    #[test]
    fn the_reply_has_the_platforms_shape() {
        let keys = account(Platform::WeComBot);
        let request = deliver(&keys, &keys, JSON, "").expect("opens");
        let reply = seal_reply(&keys, &request, "{}", &stamp()).expect("sealed");
        let json: serde_json::Value = serde_json::from_str(&reply).expect("JSON");
        let names: Vec<_> = json.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(names, ["encrypt", "msgsignature", "nonce", "timestamp"]);
        assert_eq!(json["timestamp"], NOW);

        let keys = account(Platform::WeCom);
        let request = deliver(&keys, &keys, TEXT, DEMO_APP).expect("opens");
        let odd = Stamp { nonce: "a]]>&<\"b".to_owned(), ..stamp() };
        let reply = seal_reply(&keys, &request, "hello", &odd).expect("sealed");
        assert!(reply.starts_with("<xml><Encrypt><![CDATA["), "{reply}");
        assert!(reply.contains("<TimeStamp>1714112445</TimeStamp>"), "{reply}");
        assert_eq!(open_reply(&keys, Form::Xml, &reply).as_deref(), Ok("hello"));
    }

    #[test]
    fn rotated_keys_and_tokens_answer_with_what_opened() {
        let old = account(Platform::Mp);
        let both = account(Platform::Mp)
            .with_tokens([Secret::new("BBBBB"), Secret::new("AAAAA")])
            .with_aes_keys([key("B"), key("A")]);
        let request = deliver(&old, &both, TEXT, DEMO_APP).expect("opens");
        assert_eq!((request.key_index(), request.token_index()), (Some(1), Some(1)));
        let reply = seal_reply(&both, &request, "hi", &stamp()).expect("sealed");
        assert_eq!(open_reply(&old, Form::Xml, &reply).as_deref(), Ok("hi"));
    }

    #[test]
    fn compat_requests_open_by_what_is_encrypted() {
        let compat = account(Platform::MiniProgram).with_mode(Mode::Compat);
        for payload in [TEXT, JSON] {
            let request = Request { payload, receive_id: DEMO_APP, extra: &[] };
            let mut sent = seal_request(&compat, &request, &stamp()).expect("sealed");
            assert!(sent.body.contains("MsgType") && sent.body.contains("Encrypt"), "{}", sent.body);
            sent.body = sent.body.replace("你好", "forged");
            for mode in [Mode::Compat, Mode::Safe, Mode::Plain] {
                let keys = account(Platform::MiniProgram).with_mode(mode);
                let opened = open(&keys, &query(&sent.query), sent.body.as_bytes(), NOW).expect("opens");
                assert_eq!(opened.payload(), payload);
            }
        }
        let plain = account(Platform::MiniProgram).with_mode(Mode::Plain);
        let opened = deliver(&plain, &compat, TEXT, "").expect("opens");
        assert!(!opened.encrypted());
        assert_eq!(opened.token_index(), Some(0));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_payload() {
        let plain = account(Platform::Mp).with_mode(Mode::Plain);
        for keys in [account(Platform::Mp), plain] {
            let marked = format!("\u{feff}{TEXT}");
            assert_eq!(deliver(&keys, &keys, &marked, DEMO_APP).expect("opens").payload(), TEXT);
        }
    }

    #[test]
    fn fresh_stamps_differ() {
        let (a, b) = (Stamp::fresh(NOW).expect("random"), Stamp::fresh(NOW).expect("random"));
        assert_ne!(a.random, b.random);
        assert_ne!(a.nonce, b.nonce);
    }

    #[test]
    fn nothing_is_sealed_without_key_or_token() {
        let request = Request { payload: TEXT, receive_id: "", extra: &[] };
        let no_key = account(Platform::WeCom).with_aes_keys([]);
        assert_eq!(seal_request(&no_key, &request, &stamp()), Err(SealError::NoKey));
        let no_token = account(Platform::WeCom).with_tokens([Secret::new("")]);
        assert_eq!(seal_request(&no_token, &request, &stamp()), Err(SealError::NoToken));
    }
}

mod refusals {
    use super::*;

    fn refused(keys: &Keys, text: &str, body: &str) -> Refusal {
        open(keys, &query(text), body.as_bytes(), NOW).expect_err("must be refused")
    }

    #[test]
    fn signatures() {
        let keys = account(Platform::Mp);
        let without = |name: &str| {
            DEMO_QUERY.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect::<Vec<_>>().join("&")
        };
        for name in ["msg_signature", "timestamp", "nonce"] {
            assert_eq!(refused(&keys, &without(name), &demo_xml()), Refusal::MissingSignature(name));
        }
        assert!(
            open(&keys, &query(&without("signature")), demo_xml().as_bytes(), NOW).is_ok(),
            "not needed when sealed"
        );
        let empty = DEMO_QUERY.replace("046e02f8204d34f8ba5fa3b1db94908f3df2e9b3", "");
        assert_eq!(refused(&keys, &empty, &demo_xml()), Refusal::MissingSignature("msg_signature"));
        let upper = DEMO_QUERY.replace("046e02f8", "046E02F8");
        assert_eq!(refused(&keys, &upper, &demo_xml()), Refusal::WrongSignature("msg_signature"));
        let other = account(Platform::Mp).with_tokens([Secret::new("AAAAB")]);
        assert_eq!(refused(&other, DEMO_QUERY, &demo_xml()), Refusal::WrongSignature("msg_signature"));
        let none = account(Platform::Mp).with_tokens([]);
        assert_eq!(refused(&none, DEMO_QUERY, &demo_xml()), Refusal::WrongSignature("msg_signature"));
    }

    #[test]
    fn an_empty_token_is_no_token() {
        let sender = account(Platform::Mp).with_mode(Mode::Plain).with_tokens([Secret::new("x")]);
        let receiver = account(Platform::Mp).with_mode(Mode::Plain).with_tokens([Secret::new("")]);
        assert_eq!(deliver(&sender, &receiver, TEXT, ""), Err(Refusal::WrongSignature("signature")));
    }

    #[test]
    fn time_in_both_directions() {
        let keys = account(Platform::Mp);
        let at = |now| open(&keys, &query(DEMO_QUERY), demo_xml().as_bytes(), now).map(drop);
        assert_eq!(at(NOW + 600), Ok(()));
        assert_eq!(at(NOW - 600), Ok(()));
        assert_eq!(at(NOW + 601), Err(Refusal::Stale { seconds_ago: 601 }));
        assert_eq!(at(NOW - 601), Err(Refusal::Stale { seconds_ago: -601 }));
        assert!(at(i64::MIN).is_err() && at(i64::MAX).is_err());
        let any_age = account(Platform::Mp).with_max_age(None);
        assert!(open(&any_age, &query(DEMO_QUERY), demo_xml().as_bytes(), 0).is_ok());
    }

    #[test]
    fn timestamps_are_digits() {
        let keys = account(Platform::Im);
        for time in ["+1714112445", "-1", "1714112445.0", "0x10", "1714112445000", "１７", "1e9"] {
            let sign = crate::crypto::signature::sha256_concat(b"AAAAA", time.as_bytes());
            let sign = crate::crypto::signature::hex_lower(&sign);
            let text = format!("SdkAppid=1400000000&Sign={sign}&RequestTime={time}");
            let refusal = refused(&keys, &text, JSON);
            let odd = matches!(refusal, Refusal::BadTimestamp("RequestTime") | Refusal::Stale { .. });
            assert!(odd, "{time}: {refusal}");
        }
    }

    #[test]
    fn receive_ids() {
        let ids = ReceiveIds::OneOf(vec!["ww1".into(), String::new()]);
        let keys = account(Platform::WeComSuite).with_receive_ids(ids);
        assert!(deliver(&keys, &keys, TEXT, "ww1").is_ok());
        assert!(deliver(&keys, &keys, TEXT, "").is_ok());
        let refusal = deliver(&keys, &keys, TEXT, "ww2\n").expect_err("refused");
        assert_eq!(refusal, Refusal::WrongReceiveId { received: "ww2\n".to_owned() });
        assert!(!refusal.to_string().contains('\n'), "no line of its own in the log");
        let any = keys.clone().with_receive_ids(ReceiveIds::Any);
        assert_eq!(deliver(&keys, &any, TEXT, "ww2").expect("opens").receive_id(), "ww2");
    }

    #[test]
    fn plaintext() {
        let plain = account(Platform::Mp).with_mode(Mode::Plain);
        assert_eq!(deliver(&plain, &account(Platform::Mp), TEXT, ""), Err(Refusal::PlaintextNotAllowed));
        for platform in [Platform::OpenPlatform, Platform::WeCom, Platform::WeComKf, Platform::WeComBot] {
            let keys = account(platform).with_mode(Mode::Plain);
            assert_eq!(refused(&keys, DEMO_QUERY.split('&').next().unwrap_or(""), TEXT), Refusal::PlaintextNotAllowed);
        }
        assert_eq!(deliver(&plain, &plain, "hello", ""), Err(Refusal::NotXmlOrJson));
        assert_eq!(deliver(&plain, &plain, " \n", ""), Err(Refusal::NotXmlOrJson));
        assert_eq!(open(&plain, &query(""), b"<xml>\xff</xml>", NOW), Err(Refusal::NotUtf8));
    }

    #[test]
    fn a_text_that_mentions_encrypt_is_still_plain() {
        let plain = account(Platform::Mp).with_mode(Mode::Plain);
        let text = "<xml><Content><![CDATA[<Encrypt>x</Encrypt>]]></Content><a><Encrypt>x</Encrypt></a></xml>";
        assert_eq!(deliver(&plain, &plain, text, "").expect("opens").payload(), text);
    }

    #[test]
    fn encrypted_without_a_key() {
        for mode in [Mode::Plain, Mode::Compat, Mode::Safe] {
            let keys = account(Platform::Mp).with_mode(mode).with_aes_keys([]);
            assert_eq!(refused(&keys, DEMO_QUERY, &demo_xml()), Refusal::NoKey);
            assert_eq!(refused(&keys, "", &demo_xml()), Refusal::NoKey);
        }
    }

    #[test]
    fn wrong_key_and_wrong_ciphertext() {
        let wrong = account(Platform::Mp).with_aes_keys([key("B")]);
        let refusal = refused(&wrong, DEMO_QUERY, &demo_xml());
        assert_eq!(refusal.reason(), "undecryptable");
        for (ciphertext, reason) in [("x", "bad_base64"), ("AAAA", "undecryptable"), ("AA AA", "bad_base64")] {
            let signed = super::super::checks::sign(b"AAAAA", ["1714112445", "1", ciphertext]);
            let signed = crate::crypto::signature::hex_lower(&signed);
            let text = format!("timestamp=1714112445&nonce=1&msg_signature={signed}");
            let body = format!("<xml><Encrypt>{ciphertext}</Encrypt></xml>");
            assert_eq!(refused(&account(Platform::Mp), &text, &body).reason(), reason, "{ciphertext}");
        }
    }

    #[test]
    fn what_is_inside_must_be_readable() {
        let keys = account(Platform::Mp);
        assert_eq!(deliver(&keys, &keys, "hello", DEMO_APP), Err(Refusal::NotXmlOrJson));
        let encrypt = key("A").seal([0; 16], b"<xml>\xff</xml>", DEMO_APP.as_bytes());
        let signed = super::super::checks::sign(b"AAAAA", ["1714112445", "1", &encrypt]);
        let text =
            format!("timestamp=1714112445&nonce=1&msg_signature={}", crate::crypto::signature::hex_lower(&signed));
        let refusal = refused(&keys, &text, &format!("<xml><Encrypt>{encrypt}</Encrypt></xml>"));
        assert_eq!((refusal.reason(), refusal), ("undecryptable", Refusal::UndecryptableText));
    }

    #[test]
    fn url_checks() {
        let keys = account(Platform::Mp);
        let check = |echo: &str| {
            let text = sign_url(&keys, echo, "", &stamp()).expect("signed");
            verify_url(&keys, &query(&text), NOW)
        };
        assert_eq!(check(""), Err(Refusal::MissingEchostr));
        for echo in ["<b>", "two words", "line\nbreak", "\u{e9}", &"1".repeat(257)] {
            assert_eq!(check(echo), Err(Refusal::BadEchostr), "{echo}");
        }
        let changed = WECOM_QUERY.replace("P9nA", "P9nB");
        assert_eq!(verify_url(&wecom(), &query(&changed), NOW), Err(Refusal::WrongSignature("msg_signature")));
        let other = wecom().with_receive_ids(one("ww1"));
        let refusal = verify_url(&other, &query(WECOM_QUERY), NOW);
        assert_eq!(refusal, Err(Refusal::WrongReceiveId { received: WECOM_CORP.to_owned() }));
    }

    #[test]
    fn tencent_im() {
        let keys = account(Platform::Im);
        assert_eq!(deliver(&keys, &keys, TEXT, ""), Err(Refusal::NotXmlOrJson));
        assert_eq!(deliver(&keys, &keys, "[]", ""), Err(Refusal::NotXmlOrJson));
        assert_eq!(deliver(&keys, &account(Platform::Im).with_sdk_app_id(1), JSON, ""), Err(Refusal::WrongSdkAppId));
        let unsigned = account(Platform::Im).with_tokens([]);
        assert!(deliver(&unsigned, &unsigned, JSON, "").is_ok());
        assert_eq!(deliver(&unsigned, &keys, JSON, ""), Err(Refusal::MissingSignature("Sign")));
        assert_eq!(refused(&unsigned, "sdkappid=1400000000", JSON), Refusal::WrongSdkAppId);
        assert_eq!(refused(&unsigned, "SdkAppid=%2B1400000000", JSON), Refusal::WrongSdkAppId);
        assert_eq!(refused(&Keys::new(Platform::Im), "SdkAppid=0", JSON), Refusal::WrongSdkAppId);
    }

    #[test]
    fn every_reason_is_a_word_and_has_a_class() {
        let undecryptable = [
            OpenError::Length(1),
            OpenError::Padding,
            OpenError::TooShort(1),
            OpenError::MessageLength { announced: 1, left: 0 },
        ];
        for error in undecryptable {
            let refusal = Refusal::Undecryptable(error);
            assert_eq!((refusal.reason(), refusal.class()), ("undecryptable", Class::BadRequest));
        }
        assert_eq!(Refusal::ReplayedQuery.class(), Class::Forbidden);
        assert_eq!(Refusal::WrongSignature("signature").wechat_code(), Some(-40001));
        assert_eq!(Refusal::WrongReceiveId { received: String::new() }.wechat_code(), Some(-40005));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", account(Platform::Mp), query(DEMO_QUERY));
        assert!(!shown.contains("AAAAA") && !shown.contains("046e"), "{shown}");
        let request = open(&account(Platform::Mp), &query(DEMO_QUERY), demo_xml().as_bytes(), NOW).expect("opens");
        assert!(!format!("{request:?}").contains("debug_demo"));
    }
}

mod outer_documents {
    use super::{super::outer::xml_children, *};

    fn encrypt(text: &str) -> Result<Option<String>, MalformedEnvelope> {
        xml_children(text, ["Encrypt"]).map(|[found]| found.map(|text| text.into_owned()))
    }

    #[test]
    fn found() {
        for text in [
            "<xml><Encrypt><![CDATA[a+b=]]></Encrypt></xml>",
            "<xml><Encrypt>a+b=</Encrypt></xml>",
            "<?xml version=\"1.0\"?>\n<xml>\n <ToUserName/><Encrypt>\n a+b=\n</Encrypt>\n</xml>\n",
            "<xml><Encrypt>a<![CDATA[+b]]>=</Encrypt></xml>",
            "<xml><Encrypt>a&#43;b&#x3d;</Encrypt></xml>",
            "<xml><a><Encrypt>no</Encrypt></a><Encrypt>a<!-- no -->+b=</Encrypt></xml>",
            "<xml a='<Encrypt>'><Encrypt b='2'>a+b=</Encrypt></xml >",
        ] {
            assert_eq!(encrypt(text), Ok(Some("a+b=".to_owned())), "{text}");
        }
    }

    #[test]
    fn not_there() {
        for text in [
            "<xml/>",
            "<xml></xml>",
            "<Encrypt>a</Encrypt>",
            "<xml><Encrypt/></xml>",
            "<xml><Encrypt> </Encrypt></xml>",
            "<xml><encrypt>a</encrypt></xml>",
            "<xml><!--<Encrypt>a</Encrypt>--></xml>",
            "<xml><a><Encrypt>a</Encrypt></a></xml>",
            "<xml><n:Encrypt>a</n:Encrypt></xml>",
        ] {
            assert_eq!(encrypt(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn refused() {
        let deep = format!("<xml>{}{}</xml>", "<a>".repeat(40), "</a>".repeat(40));
        for (text, error) in [
            ("<xml><Encrypt>a</Encrypt><Encrypt>a</Encrypt></xml>", MalformedEnvelope::Duplicate("Encrypt")),
            ("<xml><Encrypt/><Encrypt>a</Encrypt></xml>", MalformedEnvelope::Duplicate("Encrypt")),
            ("<xml><Encrypt>a</Encrypt><Encrypt/></xml>", MalformedEnvelope::Duplicate("Encrypt")),
            ("<!DOCTYPE x><xml><Encrypt>a</Encrypt></xml>", MalformedEnvelope::Dtd),
            ("<!DOCTYPE x [<!ENTITY e 'a'>]><xml><Encrypt>&e;</Encrypt></xml>", MalformedEnvelope::Dtd),
            ("<xml><Encrypt>&e;</Encrypt></xml>", MalformedEnvelope::Entity),
            ("<xml><a>&e;</a></xml>", MalformedEnvelope::Entity),
            ("<xml><Encrypt>&#0;</Encrypt></xml>", MalformedEnvelope::Entity),
            ("<xml><Encrypt>a<b/></Encrypt></xml>", MalformedEnvelope::Xml),
            ("<xml><Encrypt>a<b>c</b></Encrypt></xml>", MalformedEnvelope::Xml),
            ("<xml><Encrypt>a</Encrypt>", MalformedEnvelope::Xml),
            ("<xml><Encrypt>a</xml>", MalformedEnvelope::Xml),
            ("<xml></xml><xml><Encrypt>a</Encrypt></xml>", MalformedEnvelope::Xml),
            ("<xml></xml>text", MalformedEnvelope::Xml),
            ("<xml/><xml/>", MalformedEnvelope::Xml),
            ("<", MalformedEnvelope::Xml),
            ("", MalformedEnvelope::Xml),
            (&deep, MalformedEnvelope::Depth),
        ] {
            assert_eq!(encrypt(text), Err(error), "{text}");
        }
    }

    #[test]
    fn json() {
        let keys = account(Platform::Mp);
        let opened = |body: &str| open(&keys, &query(DEMO_QUERY), body.as_bytes(), NOW).map(drop);
        assert_eq!(opened(&format!(r#"{{"Encrypt":"{DEMO_ENCRYPT}"}}"#)), Ok(()));
        assert_eq!(opened(r#"{"Encrypt":""}"#), Err(MalformedEnvelope::Missing("Encrypt").into()));
        assert_eq!(opened(r#"{"encrypt":"x"}"#), Err(MalformedEnvelope::Missing("Encrypt").into()));
        for body in [
            format!(r#"{{"Encrypt":"{DEMO_ENCRYPT}","Encrypt":"x"}}"#),
            format!(r#"{{"Encrypt":"{DEMO_ENCRYPT}","\u0045ncrypt":"x"}}"#),
            format!(r#"{{"Encrypt":"{DEMO_ENCRYPT}"}} x"#),
            r#"{"Encrypt":1}"#.to_owned(),
            r#"{"Encrypt":null}"#.to_owned(),
            r#"{"Encrypt":"#.to_owned(),
            format!(r#"{{"a":{}"#, "[".repeat(100_000)),
        ] {
            assert_eq!(opened(&body), Err(MalformedEnvelope::Json.into()));
        }
        let bot = account(Platform::WeComBot);
        let body = format!(r#"{{"Encrypt":"{DEMO_ENCRYPT}"}}"#);
        assert_eq!(
            open(&bot, &query(DEMO_QUERY), body.as_bytes(), NOW),
            Err(Refusal::NoKey).or(open(&bot, &query(DEMO_QUERY), body.as_bytes(), NOW))
        );
    }
}

mod queries {
    use super::*;

    #[test]
    fn values_are_decoded_once_and_plus_stays() {
        let parsed = query("echostr=a+b%2Bc%252B&&flag&e=&name%5F=%E4%BD%A0");
        assert_eq!(parsed.get("echostr"), Some("a+b+c%2B"));
        assert_eq!(parsed.get("flag"), None);
        assert_eq!(parsed.get("e"), None);
        assert_eq!(parsed.get("name_"), Some("你"));
        assert_eq!(parsed.get("Echostr"), None);
        assert_eq!(parsed.pairs().count(), 4);
        assert_eq!(query("a=b=c").get("a"), Some("b=c"));
        assert_eq!(query("a=100%").get("a"), Some("100%"));
    }

    #[test]
    fn doubtful_ones_are_refused() {
        assert_eq!(Query::parse("nonce=1&nonce=1").map(drop), Err(QueryError::Duplicate("nonce")));
        assert_eq!(Query::parse("nonce=&nonc%65=1").map(drop), Err(QueryError::Duplicate("nonce")));
        assert_eq!(Query::parse("Sign=1&Sign").map(drop), Err(QueryError::Duplicate("Sign")));
        assert!(Query::parse("openid=1&openid=2&sign=1&sign=2").is_ok());
        assert_eq!(Query::parse("a=%ff").map(drop), Err(QueryError::NotUtf8));
        assert!(Query::parse(&["a=1"; 64].join("&")).is_ok());
        assert_eq!(Query::parse(&["a=1"; 65].join("&")).map(drop), Err(QueryError::TooManyParameters));
    }
}

mod replays {
    use super::*;

    fn request(nonce: u32, payload: &str) -> (String, Verified) {
        let keys = account(Platform::Mp).with_mode(Mode::Plain);
        let request = Request { payload, receive_id: "", extra: &[] };
        let sent = seal_request(&keys, &request, &Stamp { nonce: nonce.to_string(), ..stamp() }).expect("sealed");
        let verified = open(&keys, &query(&sent.query), sent.body.as_bytes(), NOW).expect("opens");
        (sent.query, verified)
    }

    fn check(guard: &ReplayGuard, (text, verified): &(String, Verified), now: i64) -> Result<(), Refusal> {
        guard.check(verified, &query(text), now)
    }

    #[test]
    fn the_same_request_passes_and_another_body_does_not() {
        let guard = ReplayGuard::new(Some(Duration::from_secs(600)));
        assert_eq!(check(&guard, &request(1, TEXT), NOW), Ok(()));
        assert_eq!(check(&guard, &request(1, TEXT), NOW), Ok(()));
        assert_eq!(check(&guard, &request(1, JSON), NOW), Err(Refusal::ReplayedQuery));
        assert_eq!(check(&guard, &request(2, JSON), NOW), Ok(()));
        assert_eq!(check(&guard, &request(1, JSON), NOW + 1200), Err(Refusal::ReplayedQuery));
        assert_eq!(check(&guard, &request(1, JSON), NOW + 1201), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let guard = ReplayGuard::with_capacity(None, 2);
        for nonce in 1..=3 {
            assert_eq!(check(&guard, &request(nonce, TEXT), NOW), Ok(()));
        }
        assert_eq!(check(&guard, &request(3, JSON), i64::MAX), Err(Refusal::ReplayedQuery));
        assert_eq!(check(&guard, &request(1, JSON), NOW), Ok(()), "forgotten");
    }

    #[test]
    fn only_plaintext_of_wechat_is_concerned() {
        for platform in [Platform::Mp, Platform::Im, Platform::WeCom] {
            let (guard, keys) = (ReplayGuard::new(None), account(platform));
            for payload in [JSON, r#"{"other":1}"#] {
                let request = Request { payload, receive_id: DEMO_APP, extra: &[] };
                let sent = seal_request(&keys, &request, &stamp()).expect("sealed");
                let parsed = query(&sent.query);
                let verified = open(&keys, &parsed, sent.body.as_bytes(), NOW).expect("opens");
                assert_eq!(guard.check(&verified, &parsed, NOW), Ok(()));
            }
        }
    }
}

mod diagnosis {
    use super::*;

    fn step(steps: &[Step], name: &str) -> (Outcome, String) {
        let step = steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no {name} in {steps:?}"));
        (step.outcome, step.detail.clone())
    }

    fn failed(steps: &[Step], name: &str, hint: &str) {
        let (outcome, detail) = step(steps, name);
        assert_eq!(outcome, Outcome::Failed, "{steps:#?}");
        assert!(detail.contains(hint), "{detail}");
        assert_eq!(step(steps, "verdict").0, Outcome::Failed);
    }

    fn post(keys: &Keys, text: &str) -> Vec<Step> {
        diagnose(keys, text, Method::Post, demo_xml().as_bytes(), NOW)
    }

    #[test]
    fn a_good_request_passes_every_step() {
        for steps in [post(&account(Platform::Mp), DEMO_QUERY), diagnose(&wecom(), WECOM_QUERY, Method::Get, b"", NOW)]
        {
            assert!(steps.iter().all(|step| step.outcome != Outcome::Failed), "{steps:#?}");
        }
    }

    #[test]
    fn likely_causes() {
        let keys = account(Platform::Mp);
        failed(
            &post(&account(Platform::Mp).with_tokens([Secret::new("B")]), DEMO_QUERY),
            "signature",
            "token in the console",
        );
        failed(
            &post(&account(Platform::Mp).with_aes_keys([key("B")]), DEMO_QUERY),
            "decryption",
            "AES key in the console",
        );
        failed(
            &post(&account(Platform::Mp).with_receive_ids(one("wx1")), DEMO_QUERY),
            "receive id",
            "looks like an AppID",
        );
        failed(&post(&keys, &DEMO_QUERY.replace("msg_signature", "m")), "signature", "but a valid `signature`");
        failed(&post(&keys, &DEMO_QUERY.replace("046e", "0000")), "signature", "the token is right");
        failed(&post(&keys, &format!("{DEMO_QUERY}&nonce=1")), "query", "twice");
        let late = diagnose(&keys, DEMO_QUERY, Method::Post, demo_xml().as_bytes(), NOW + 7200);
        failed(&late, "freshness", "7200 seconds ago");
        let early = diagnose(&keys, DEMO_QUERY, Method::Post, demo_xml().as_bytes(), NOW - 7200);
        failed(&early, "freshness", "7200 seconds in the future");
        let spaces = WECOM_QUERY.replace("%2B", "%20");
        failed(&diagnose(&wecom(), &spaces, Method::Get, b"", NOW), "signature", "spaces");
        let twice = WECOM_QUERY.replace('%', "%25");
        failed(&diagnose(&wecom(), &twice, Method::Get, b"", NOW), "signature", "once more");
        failed(&diagnose(&account(Platform::Im), "SdkAppid=7", Method::Post, b"{}", NOW), "receive id", "is 7");
        failed(&diagnose(&keys, "", Method::Post, TEXT.as_bytes(), NOW), "envelope", "plaintext");
    }

    #[test]
    fn no_step_tells_a_secret() {
        let keys = Keys::new(Platform::Mp)
            .with_tokens([Secret::new("s3cretToken")])
            .with_aes_keys([key("K")])
            .with_receive_ids(one("wx1"));
        for method in [Method::Get, Method::Post] {
            let steps = format!("{:?}", diagnose(&keys, DEMO_QUERY, method, demo_xml().as_bytes(), NOW));
            assert!(!steps.contains("s3cretToken") && !steps.contains("KKKK"), "{steps}");
        }
    }
}

fn any_platform() -> impl Strategy<Value = Platform> {
    proptest::sample::select(Platform::ALL.to_vec())
}

proptest! {
    #[test]
    fn nothing_panics(platform in any_platform(), text in ".{0,200}", body: Vec<u8>, now: i64) {
        let keys = account(platform).with_mode(Mode::Compat);
        if let Ok(parsed) = Query::parse(&text) {
            let _ = verify_url(&keys, &parsed, now);
            let _ = open(&keys, &parsed, &body, now);
        }
        let _ = diagnose(&keys, &text, Method::Get, &body, now);
        let _ = diagnose(&keys, &text, Method::Post, &body, now);
    }

    #[test]
    fn nothing_that_looks_right_panics(
        platform in any_platform(),
        pairs in "((signature|msg_signature|timestamp|nonce|echostr|Sign|RequestTime|SdkAppid|encrypt_type)=([a-f0-9%+]{0,12}|aes)&){0,8}",
        body in "(<|>|</|xml|Encrypt|<xml>|<Encrypt>|</Encrypt>|</xml>|<!\\[CDATA\\[|\\]\\]>|&amp;|&#|\\{|\\}|\"Encrypt\"|:|\"|a){0,20}",
    ) {
        let keys = account(platform).with_mode(Mode::Compat);
        if let Ok(parsed) = Query::parse(&pairs) {
            let _ = verify_url(&keys, &parsed, NOW);
            let _ = open(&keys, &parsed, body.as_bytes(), NOW);
        }
        let _ = open_reply(&keys, Form::Xml, &body);
        let _ = open_reply(&keys, Form::Json, &body);
        let _ = diagnose(&keys, &pairs, Method::Post, body.as_bytes(), NOW);
    }

    #[test]
    fn what_is_sealed_opens(platform in any_platform(), content in "[^<>&\"\\\\\\pC]{0,300}") {
        let keys = account(platform);
        let payload = format!("{{\"Content\":\"{content}\"}}");
        let request = deliver(&keys, &keys, &payload, id_of(platform)).expect("opens");
        prop_assert_eq!(request.payload(), payload);
    }

    #[test]
    fn one_flipped_bit_is_refused(byte in 0usize..DEMO_ENCRYPT.len(), bit in 0u8..7) {
        let mut changed = DEMO_ENCRYPT.as_bytes().to_vec();
        changed[byte] ^= 1 << bit;
        let body = demo_xml().replace(DEMO_ENCRYPT, &String::from_utf8_lossy(&changed));
        prop_assert!(open(&account(Platform::Mp), &query(DEMO_QUERY), body.as_bytes(), NOW).is_err());
    }

    #[test]
    fn the_verdict_is_what_open_says(platform in any_platform(), now in NOW - 700..NOW + 700) {
        let keys = account(platform);
        let request = Request { payload: payload_of(platform), receive_id: id_of(platform), extra: &[] };
        let sent = seal_request(&keys, &request, &stamp()).expect("sealed");
        let accepted = open(&keys, &query(&sent.query), sent.body.as_bytes(), now).is_ok();
        let steps = diagnose(&keys, &sent.query, Method::Post, sent.body.as_bytes(), now);
        let failed = steps.iter().any(|step| step.outcome == Outcome::Failed);
        prop_assert_eq!(accepted, !failed);
    }
}
