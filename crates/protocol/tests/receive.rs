//! A request in, an answer out, with [`Keys`] alone: every platform, each way its requests come.

#![allow(clippy::unwrap_used)]

use echostr_catalog::Entry;
use echostr_protocol::{
    Event, Keys, Platform, Push, ReceiveError, Received, Refusal, Unique,
    envelope::{Mode, Sender},
    event::Reply,
    events::{im, miniprogram, mp, openplatform, wecom, wecom_bot, wecom_kf, wecom_suite},
    payload::Form,
    replies,
};

const NOW: i64 = 1_735_689_600;
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// What a request of an account of the platform is checked with: encrypted, but for IM.
fn keys(platform: Platform) -> Keys {
    let keys = Keys::new(platform, "fakeToken");
    match platform {
        Platform::Im => keys.with_sdk_app_id(1_400_000_000),
        _ => keys.with_aes_key(AES_KEY).unwrap().for_id(if platform == Platform::WeComBot { "" } else { "wx1" }),
    }
}

fn entry<E: Event>() -> Entry {
    let catalog = echostr_catalog::platform(E::SPEC.platform.as_str()).unwrap();
    catalog.event.into_iter().find(|entry| entry.id == E::SPEC.id).unwrap()
}

fn push(received: Received) -> Push {
    match received {
        Received::Push(push) => push,
        other => panic!("{other:?}"),
    }
}

fn unique() -> Unique {
    Unique { now: NOW, nonce: "n2".to_owned(), random: [9; 16] }
}

/// A sample of the event, sent to an account as the platform does, and read.
fn sent<E: Event>(keys: &Keys, form: Form) -> Push {
    let entry = entry::<E>();
    let sample = match form {
        Form::Xml => entry.sample_xml.clone(),
        Form::Json => entry.sample_json.clone(),
    };
    let command = entry.select.get("CallbackCommand").map(String::as_str);
    let request = Sender::new(keys).deliver(&sample.unwrap(), form, command, NOW, "n1", [7; 16]).unwrap();
    let push = push(keys.receive_at(&request.query, request.body.as_bytes(), NOW).unwrap());
    assert_eq!((push.event_type(), push.form()), (E::SPEC.id, form));
    assert!(push.event::<E>().is_some());
    push
}

/// The opened answer.
fn answered(keys: &Keys, push: &Push, reply: impl Reply) -> String {
    let response = keys.reply_with(push, reply, unique()).unwrap();
    if keys.aes_keys.is_empty() || response.body == push.success().body {
        return response.body;
    }
    Sender::new(keys).open_reply(&response.body).unwrap()
}

#[test]
fn every_platform_is_read_and_answered() {
    let mp = keys(Platform::Mp);
    let plain = Keys { mode: Mode::Plain, aes_keys: Vec::new(), ..mp.clone() };
    for keys in [mp, plain] {
        let push = sent::<mp::TextMessage>(&keys, Form::Xml);
        assert!(answered(&keys, &push, replies::mp::Reply::text("你好")).contains("<![CDATA[你好]]>"));
        assert_eq!(answered(&keys, &push, replies::mp::Reply::none()), "success");
        assert!(keys.reply_with(&push, replies::mp::Reply::text(""), unique()).is_err());
        assert!(push.repeat_key("mp/a").is_some() && push.repeat_key("mp/a") != push.repeat_key("mp/b"));
    }
    let mini = keys(Platform::MiniProgram);
    for form in [Form::Xml, Form::Json] {
        assert_eq!(answered(&mini, &sent::<miniprogram::UserEnterTempSession>(&mini, form), ()), "success");
    }
    let wecom = keys(Platform::WeCom);
    let push = sent::<wecom::TextMessage>(&wecom, Form::Xml);
    assert!(answered(&wecom, &push, replies::wecom::Reply::text("hi")).contains("<![CDATA[hi]]>"));
    let kf = keys(Platform::WeComKf);
    let notice = sent::<wecom::CustomerServiceNotify>(&kf, Form::Xml);
    assert!(notice.event::<wecom_kf::TextMessage>().is_none(), "it is pulled");
    let suite = keys(Platform::WeComSuite);
    sent::<wecom_suite::CreateAuth>(&suite, Form::Xml);
    let agency = keys(Platform::OpenPlatform);
    sent::<openplatform::Authorized>(&agency, Form::Xml);
    let bot = keys(Platform::WeComBot);
    let push = sent::<wecom_bot::TextMessage>(&bot, Form::Json);
    assert!(answered(&bot, &push, replies::wecom_bot::Reply::markdown("hi")).contains("\"hi\""));
    let im = keys(Platform::Im);
    let push = sent::<im::BeforeFriendAdd>(&im, Form::Json);
    let reply = replies::im::BeforeFriendAddResp::for_event(&push.event::<im::BeforeFriendAdd>().unwrap());
    assert!(answered(&im, &push, reply).contains("\"ResultCode\":0"));
}

#[test]
fn a_follow_through_a_code_is_a_follow_and_what_nobody_knows_has_its_payload() {
    let keys = keys(Platform::Mp);
    let push = sent::<mp::SubscribeScan>(&keys, Form::Xml);
    assert!(push.event::<mp::Subscribe>().is_some() && push.event::<mp::TextMessage>().is_none());
    assert!(push.subject().is_some_and(|subject| push.payload().contains(&subject)));
    let payload = "<xml><MsgType>event</MsgType><Event>brand_new</Event></xml>";
    let request = Sender::new(&keys).deliver(payload, Form::Xml, None, NOW, "n", [1; 16]).unwrap();
    let unknown = self::push(keys.receive_at(&request.query, request.body.as_bytes(), NOW).unwrap());
    assert_eq!((unknown.event_type(), unknown.spec().is_none()), ("mp.event.unknown", true));
    assert!(unknown.payload().contains("brand_new") && !format!("{unknown:?}").contains("brand_new"));
}

#[test]
fn the_console_and_tickets_are_told_from_events() {
    let keys = keys(Platform::WeCom);
    let check = Sender::new(&keys).url_check("1616140317555161061", NOW, "n", [3; 16]).unwrap().unwrap();
    match keys.receive_at(&check.query, b"", NOW).unwrap() {
        Received::UrlCheck(response) => assert_eq!(response.body, "1616140317555161061"),
        other => panic!("{other:?}"),
    }
    let agency = self::keys(Platform::OpenPlatform);
    let ticket = "<xml><AppId>wx1</AppId><CreateTime>1735689600</CreateTime><InfoType>component_verify_ticket</InfoType>\
                  <ComponentVerifyTicket>ticket@@@1</ComponentVerifyTicket></xml>";
    let request = Sender::new(&agency).deliver(ticket, Form::Xml, None, NOW, "n", [3; 16]).unwrap();
    let push = push(agency.receive_at(&request.query, request.body.as_bytes(), NOW).unwrap());
    assert_eq!(push.ticket().unwrap().expose(), "ticket@@@1");
}

#[test]
fn what_is_not_authentic_is_refused() {
    let keys = keys(Platform::Mp);
    let sample = entry::<mp::TextMessage>().sample_xml.unwrap();
    let request = Sender::new(&keys).deliver(&sample, Form::Xml, None, NOW, "n", [1; 16]).unwrap();
    let refusal = |keys: &Keys, now: i64| match keys.receive_at(&request.query, request.body.as_bytes(), now) {
        Err(ReceiveError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let other = Keys::new(Platform::Mp, "other").with_aes_key(AES_KEY).unwrap();
    assert!(matches!(refusal(&other, NOW), Refusal::WrongSignature(_)));
    assert!(matches!(refusal(&keys, NOW + 3600), Refusal::Stale(_)));
    refusal(&Keys::new(Platform::Mp, "fakeToken").with_aes_key(AES_KEY).unwrap().for_id("wx2"), NOW);
    // Without more said, time and random bytes are the system's.
    let now = keys.receive(&request.query, request.body.as_bytes());
    assert!(matches!(now, Err(ReceiveError::Refused(Refusal::Stale(_)))));
    let push = push(keys.receive_at(&request.query, request.body.as_bytes(), NOW).unwrap());
    let answers = [(); 2].map(|()| keys.reply(&push, replies::mp::Reply::text("hi")).unwrap().body);
    assert_ne!(answers[0], answers[1], "no two answers are sealed alike");
}
