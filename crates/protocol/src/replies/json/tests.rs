use serde_json::{Value as Json, json};

use super::{Asked, reply};
use crate::{
    event::{self, Answer, Platform, ReplyError},
    payload::{self, Form, Object},
};

/// What a reply to an event of this type comes to, as JSON.
fn answer(event_type: &str, event: &str, given: Json) -> Result<Option<Json>, ReplyError> {
    let spec = event::by_id(event_type);
    let platform = spec.map_or_else(|| event_type.split('.').next().unwrap().parse().unwrap(), |spec| spec.platform);
    let tree = payload::parse(Form::Json, event).unwrap();
    let asked = Asked { platform, spec, event: tree.as_object().unwrap() };
    reply(&asked, given).map(|answer| match answer {
        Answer::Default => None,
        Answer::Passive(document) | Answer::Body(document) => Some(serde_json::to_value(&document).unwrap()),
        Answer::Written(document) => Some(serde_json::from_str(&document).unwrap()),
        Answer::Stream(_) => Some(json!("stream")),
    })
}

#[test]
fn a_short_form_becomes_the_document_of_the_platform() {
    let status = |code: i64, info: &str| json!({"ActionStatus": "OK", "ErrorCode": code, "ErrorInfo": info});
    let with = |mut body: Json, name: &str, value: Json| {
        body[name] = value;
        body
    };
    let text = |content: &str| json!({"MsgType": "text", "Content": content});
    let item = json!({"Title": "t", "Description": "", "PicUrl": "p", "Url": "u"});
    let news = json!({"MsgType": "news", "ArticleCount": 1, "Articles": {"item": [item]}});
    let card = json!({"card_type": "text_notice"});
    let group = crate::events::im::TABLE.find(&["Group.CallbackBeforeSendMsg"]).unwrap().id;
    for (event_type, given, expected) in [
        ("mp.message.text", json!({"text": "hi"}), Some(text("hi"))),
        ("mp.message.text", json!("hi"), Some(text("hi"))),
        ("mp.message.text", json!({"text": 42}), Some(text("42"))),
        ("mp.message.text", json!({"text": "hi", "news": null}), Some(text("hi"))),
        ("mp.message.text", json!({}), None),
        ("mp.message.text", Json::Null, None),
        ("mp.message.unknown", json!({"text": "hi"}), Some(text("hi"))),
        ("mp.event.click", json!({"news": [{"title": "t", "url": "u", "pic_url": "p"}]}), Some(news.clone())),
        ("mp.event.click", json!({"news": {"title": "t", "url": "u", "picurl": "p"}}), Some(news)),
        ("mp.message.text", json!({"transfer": true}), Some(json!({"MsgType": "transfer_customer_service"}))),
        (
            "miniprogram.message.text",
            json!({"transfer": "kf1@mp"}),
            Some(json!({"MsgType": "transfer_customer_service", "TransInfo": {"KfAccount": "kf1@mp"}})),
        ),
        ("wecom.message.text", json!({"image": "m1"}), Some(json!({"MsgType": "image", "Image": {"MediaId": "m1"}}))),
        (
            "wecom.message.text",
            json!({"video": {"media_id": "m1", "title": "t"}}),
            Some(json!({"MsgType": "video", "Video": {"MediaId": "m1", "Title": "t"}})),
        ),
        // The platform's own documents, with or without what follows from the event.
        (
            "mp.message.text",
            json!({"ToUserName": "a", "FromUserName": "b", "CreateTime": 1, "MsgType": "text", "Content": "hi"}),
            Some(text("hi")),
        ),
        ("wecom_bot.message.text", json!({"text": "**hi**"}), Some(json!("stream"))),
        (
            "wecom_bot.message.text",
            json!({"card": card}),
            Some(json!({"msgtype": "template_card", "template_card": card})),
        ),
        (
            "wecom_bot.event.enter_chat",
            json!({"text": "hi"}),
            Some(json!({"msgtype": "text", "text": {"content": "hi"}})),
        ),
        (
            "wecom_bot.event.template_card_event",
            json!({"card": card, "userids": ["u1"]}),
            Some(json!({"response_type": "update_template_card", "userids": ["u1"], "template_card": card})),
        ),
        (
            "wecom_kf.message.text",
            json!({"text": "bye", "transfer": true}),
            Some(json!({"msgtype": "text", "text": {"content": "bye"}, "transfer": {"service_state": 2}})),
        ),
        (
            "wecom_kf.event.enter_session",
            json!({"transfer": "zhang"}),
            Some(json!({"transfer": {"service_state": 3, "servicer_userid": "zhang"}})),
        ),
        (
            "wecom_kf.message.text",
            json!({"msgtype": "text", "text": {"content": "bye"}, "transfer": true}),
            Some(json!({"msgtype": "text", "text": {"content": "bye"}, "transfer": {"service_state": 2}})),
        ),
        ("wecom_kf.message.text", json!({"text": "hi"}), Some(json!({"msgtype": "text", "text": {"content": "hi"}}))),
        (
            "wecom_kf.event.enter_session",
            json!({"menu": {"head": "h", "items": [{"id": "1", "content": "c"}, "line"]}}),
            Some(json!({"msgtype": "msgmenu", "msgmenu": {"head_content": "h", "list": [
                {"type": "click", "click": {"id": "1", "content": "c"}}, {"type": "text", "text": {"content": "line"}}
            ]}})),
        ),
        (group, json!({"allow": true}), Some(status(0, ""))),
        (group, json!({"allow": false}), Some(status(1, ""))),
        (group, json!({"deny": true}), Some(status(1, ""))),
        (group, json!({"deny": 10101, "info": "no"}), Some(status(10101, "no"))),
        (group, json!({"drop": true}), Some(status(2, ""))),
        (
            group,
            json!({"text": "***"}),
            Some(with(status(0, ""), "MsgBody", json!([{"MsgType": "TIMTextElem", "MsgContent": {"Text": "***"}}]))),
        ),
        (group, with(status(10102, "own"), "More", json!(1)), Some(with(status(10102, "own"), "More", json!(1)))),
    ] {
        let answer = answer(event_type, "{}", given.clone());
        assert_eq!(answer, Ok(expected), "{event_type} {given}");
    }
}

#[test]
fn every_account_of_a_friend_request_gets_a_verdict() {
    let spec = crate::events::im::TABLE.find(&["Sns.CallbackPrevFriendAdd"]).unwrap();
    let event = r#"{"FriendItem":[{"To_Account":"u1"},{"To_Account":"u2"}]}"#;
    let verdicts = |given: Json| {
        let answer = answer(spec.id, event, given)?.unwrap();
        let items = answer["ResultItem"].as_array().unwrap().iter();
        Ok::<_, ReplyError>(
            items
                .map(|item| (item["To_Account"].as_str().unwrap().to_owned(), item["ResultCode"].as_i64().unwrap()))
                .collect::<Vec<_>>(),
        )
    };
    let expected = |one: i64, two: i64| Ok(vec![("u1".to_owned(), one), ("u2".to_owned(), two)]);
    assert_eq!(verdicts(json!({"allow": true})), expected(0, 0));
    assert_eq!(verdicts(json!({"deny": 38001, "info": "no"})), expected(38001, 38001));
    assert_eq!(verdicts(json!({"accounts": {"u2": 38002}})), expected(0, 38002));
    assert_eq!(verdicts(json!({"deny": 38001, "accounts": {"u2": {"allow": true}}})), expected(38001, 0));
    for wrong in [
        json!({"deny": true}),
        json!({"deny": 5}),
        json!({"accounts": {"u3": 38002}}),
        json!({"accounts": {"u1": "no"}}),
        json!({"accounts": ["u1"]}),
        json!({"drop": true}),
        json!({"ActionStatus": "OK", "ErrorCode": 0}),
    ] {
        assert!(verdicts(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_no_reply_is_rejected_and_named() {
    let group = crate::events::im::TABLE.find(&["Group.CallbackBeforeSendMsg"]).unwrap().id;
    let after = crate::events::im::TABLE.find(&["Group.CallbackAfterSendMsg"]).unwrap().id;
    for (event_type, given, named) in [
        ("mp.message.text", json!([]), "object"),
        ("mp.message.text", json!(true), "object"),
        ("mp.message.text", json!({"txet": "hi"}), "`txet`"),
        ("mp.message.text", json!({"text": "hi", "news": []}), "one thing"),
        ("mp.message.text", json!({"text": "hi", "code": 1}), "`code`"),
        ("mp.message.text", json!({"text": " "}), "empty"),
        ("mp.message.text", json!({"text": ["hi"]}), "`text`"),
        ("mp.message.text", json!({"news": []}), "articles"),
        ("mp.message.text", json!({"news": [{"url": "u"}]}), "`news.title`"),
        ("mp.message.text", json!({"video": {"title": "t"}}), "`video.media_id`"),
        ("mp.message.text", json!({"transfer": false}), "`transfer`"),
        ("mp.message.text", json!({"MsgType": "text"}), "`Content`"),
        ("mp.message.text", json!({"MsgType": 1}), "`MsgType`"),
        ("wecom.message.text", json!({"music": {}}), "`music`"),
        ("wecom_bot.event.enter_chat", json!({"markdown": "x"}), "welcome"),
        ("wecom_bot.message.text", json!({"card": {}}), "card_type"),
        ("wecom_kf.event.enter_session", json!({"image": "m"}), "`image`"),
        ("wecom_kf.message.text", json!({"text": "bye", "transfer": 1}), "`transfer`"),
        ("wecom_kf.message.text", json!({"location": {"latitude": "x"}}), "`location.latitude`"),
        (group, json!({"allow": true, "deny": true}), "one thing"),
        (group, json!({"deny": 5}), "10100"),
        (group, json!({"deny": "10101"}), "`deny`"),
        (group, json!({"deny": false}), "`deny`"),
        (group, json!({"info": "x"}), "`info`"),
        (group, json!({"deny": 10101, "text": "x"}), "rewritten"),
        (group, json!({"text": "x", "msg_body": []}), "`msg_body`"),
        (group, json!({"msg_body": []}), "empty"),
        (group, json!({"ErrorCode": 0}), "`ActionStatus`"),
        (group, json!({"ActionStatus": "OK"}), "`ErrorCode`"),
        (group, json!({"ActionStatus": "OK", "ErrorCode": "0"}), "`ErrorCode`"),
        (group, json!("hi there"), ""),
        (after, json!({"text": "hi"}), "acknowledged"),
        ("mp.event.unsubscribe", json!({"text": "hi"}), ""),
    ] {
        match answer(event_type, "{}", given.clone()) {
            Err(error) => assert!(error.to_string().contains(named), "{event_type} {given}: {error}"),
            // A text is what is delivered in the place of the message.
            Ok(answer) => assert!(event_type == group && given.is_string(), "{event_type} {given}: {answer:?}"),
        }
    }
}

#[test]
fn nothing_of_a_reply_is_in_its_error() {
    let event = Object::new();
    let asked = Asked { platform: Platform::Mp, spec: event::by_id("mp.message.text"), event: &event };
    for given in
        [json!({"text": ["s3cret"]}), json!({"news": ["s3cret"]}), json!({"video": "s3cret", "text": "s3cret"})]
    {
        let error = reply(&asked, given).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn every_question_can_be_allowed_and_denied() {
    let codes = [10101, 38001, 102_100, 120_001];
    let questions =
        event::all().filter(|spec| spec.platform == Platform::Im && spec.reply == event::ReplyKind::Verdict);
    let mut count = 0;
    for spec in questions {
        count += 1;
        let is_signal = spec.id.ends_with("signal_message");
        let allowed = answer(spec.id, "{}", if is_signal { json!({"rsp_data": "x"}) } else { json!({"allow": true}) });
        assert!(allowed.is_ok(), "{}: {allowed:?}", spec.id);
        // Nobody can be refused by a code where the platform passes none on.
        let denied = codes.iter().any(|code| answer(spec.id, "{}", json!({"deny": code, "info": "no"})).is_ok());
        assert_eq!(denied, !spec.id.ends_with("before_add_subscriber"), "{}", spec.id);
    }
    assert!(count >= 13, "{count}");
}
