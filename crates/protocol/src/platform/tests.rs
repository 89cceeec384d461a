use super::*;
use crate::{
    event::{Answer, by_id},
    payload,
};

fn tree(text: &str) -> Value<'_> {
    let form = if text.starts_with('<') { Form::Xml } else { Form::Json };
    payload::parse(form, text).unwrap()
}

/// Who has no list of the platform's addresses has no key for what is done with it.
#[test]
fn addresses_are_looked_at_where_there_is_a_list_of_them() {
    for platform in Platform::ALL {
        let protocol = platform.protocol();
        let has_list = protocol.api().is_some_and(|api| api.callback_ips.is_some());
        assert_eq!(protocol.account().has("source"), has_list, "{platform}");
        assert!(!has_list || protocol.account().has("secret"), "{platform}");
    }
}

#[test]
fn a_payload_says_which_event_it_is() {
    use Platform::{Im, MiniProgram, Mp, OpenPlatform, WeCom, WeComBot, WeComKf, WeComSuite};
    for (platform, text, expected) in [
        (Mp, "<xml><MsgType>text</MsgType></xml>", "mp.message.text"),
        (Mp, "<xml><MsgType><![CDATA[ TEXT ]]></MsgType></xml>", "mp.message.text"),
        (Mp, "<xml><msgtype>text</msgtype></xml>", "mp.message.unknown"),
        (Mp, "<xml><MsgType>event</MsgType><Event>SUBSCRIBE</Event></xml>", "mp.event.subscribe"),
        (Mp, "<xml><MsgType>event</MsgType></xml>", "mp.event.unknown"),
        (Mp, "<xml><MsgType>event</MsgType><Event></Event></xml>", "mp.event.unknown"),
        (Mp, "<xml><MsgType>event</MsgType><Event>new_one</Event></xml>", "mp.event.unknown"),
        (Mp, "<xml><MsgType>hologram</MsgType></xml>", "mp.message.unknown"),
        (Mp, "<xml><MsgType><a>text</a></MsgType></xml>", "mp.message.unknown"),
        (Mp, "<xml></xml>", "mp.message.unknown"),
        // Some events reach either kind of account.
        (
            Mp,
            "<xml><MsgType>event</MsgType><Event>weapp_audit_success</Event></xml>",
            "miniprogram.event.weapp_audit_success",
        ),
        (MiniProgram, "<xml><MsgType>event</MsgType><Event>CLICK</Event></xml>", "mp.event.click"),
        (MiniProgram, r#"{"MsgType":"event","Event":"WEAPP_audit_SUCCESS"}"#, "miniprogram.event.weapp_audit_success"),
        (MiniProgram, r#"{"Event":"weapp_audit_success"}"#, "miniprogram.event.weapp_audit_success"),
        (MiniProgram, r#"{"MsgType":1}"#, "miniprogram.message.unknown"),
        (WeCom, "<xml><MsgType>text</MsgType></xml>", "wecom.message.text"),
        (WeCom, "<xml><MsgType>event</MsgType><Event>LOCATION</Event></xml>", "wecom.event.location"),
        (WeComKf, "<xml><MsgType>event</MsgType><Event>kf_msg_or_event</Event></xml>", "wecom.event.kf_msg_or_event"),
        (WeComKf, r#"{"msgtype":"text"}"#, "wecom_kf.message.text"),
        (WeComKf, r#"{"msgtype":"event","event":{"event_type":"enter_session"}}"#, "wecom_kf.event.enter_session"),
        (WeComKf, r#"{"msgtype":"event","event":{"event_type":"new"}}"#, "wecom_kf.event.unknown"),
        (WeComKf, r#"{"msgtype":"hologram"}"#, "wecom_kf.message.unknown"),
        // Who serves others gets notices, and their messages and events.
        (OpenPlatform, "<xml><InfoType>authorized</InfoType></xml>", "openplatform.info.authorized"),
        (OpenPlatform, "<xml><InfoType>Authorized</InfoType></xml>", "openplatform.info.unknown"),
        (OpenPlatform, "<xml><InfoType>new</InfoType></xml>", "openplatform.info.unknown"),
        (OpenPlatform, "<xml><InfoType>text</InfoType></xml>", "openplatform.info.unknown"),
        (OpenPlatform, "<xml><MsgType>authorized</MsgType></xml>", "openplatform.info.unknown"),
        (OpenPlatform, "<xml><MsgType>Text</MsgType></xml>", "mp.message.text"),
        (
            OpenPlatform,
            "<xml><MsgType>event</MsgType><Event>BetaApp_verify_event</Event></xml>",
            "openplatform.event.betaapp_verify_event",
        ),
        (
            OpenPlatform,
            "<xml><MsgType>event</MsgType><Event>subscribe</Event><EventKey>qrscene_1</EventKey></xml>",
            "mp.event.subscribe_scan",
        ),
        (
            OpenPlatform,
            "<xml><MsgType>event</MsgType><Event>weapp_audit_success</Event></xml>",
            "miniprogram.event.weapp_audit_success",
        ),
        (OpenPlatform, "<xml><MsgType>event</MsgType><Event>new</Event></xml>", "openplatform.event.unknown"),
        (WeComSuite, "<xml><InfoType>suite_ticket</InfoType></xml>", "wecom_suite.info.suite_ticket"),
        (
            WeComSuite,
            "<xml><InfoType>change_external_tag</InfoType><ChangeType>create</ChangeType></xml>",
            "wecom_suite.info.change_external_tag.create",
        ),
        (
            WeComSuite,
            "<xml><InfoType>change_external_chat</InfoType><ChangeType>create</ChangeType></xml>",
            "wecom_suite.info.change_external_chat.create",
        ),
        (
            WeComSuite,
            "<xml><InfoType>change_school_contact</InfoType><ChangeType>create_deparmtment</ChangeType></xml>",
            "wecom_suite.info.change_school_contact.create_department",
        ),
        (WeComSuite, "<xml><InfoType>change_external_chat</InfoType></xml>", "wecom_suite.info.unknown"),
        (WeComSuite, "<xml><ChangeType>create</ChangeType></xml>", "wecom_suite.info.unknown"),
        (WeComSuite, "<xml><InfoType>event</InfoType><ChangeType>x</ChangeType></xml>", "wecom_suite.event.unknown"),
        (
            WeComSuite,
            "<xml><MsgType>event</MsgType><Event>change_app_admin</Event></xml>",
            "wecom_suite.event.change_app_admin",
        ),
        (
            WeComSuite,
            "<xml><MsgType>event</MsgType><Event>change_external_tag</Event><ChangeType>create</ChangeType></xml>",
            "wecom.event.change_external_tag.create",
        ),
        (WeComSuite, "<xml><MsgType>text</MsgType></xml>", "wecom.message.text"),
        (WeCom, r#"{"event_type":"TRANSACTION.SUCCESS"}"#, "wecom.event.transaction_success"),
        (WeCom, "<xml><event_type>REFUND.ABNORMAL</event_type></xml>", "wecom.event.refund_abnormal"),
        // What has a type is what the type says.
        (WeCom, "<xml><event_type>REFUND.CLOSED</event_type><MsgType>text</MsgType></xml>", "wecom.message.text"),
        (WeComSuite, r#"{"event_type":"REFUND.CLOSED","resource":{}}"#, "wecom.event.refund_closed"),
        (WeComSuite, r#"{"event_type":"conversation_new_message"}"#, "wecom_suite.info.conversation_new_message"),
        (WeComSuite, r#"{"event_type":"nobody_knows"}"#, "wecom_suite.info.unknown"),
        (WeComSuite, "<xml><MsgType>event</MsgType><Event>new</Event></xml>", "wecom_suite.event.unknown"),
        (WeComBot, r#"{"msgtype":"text"}"#, "wecom_bot.message.text"),
        (WeComBot, r#"{"msgtype":"event","event":{"eventtype":"enter_chat"}}"#, "wecom_bot.event.enter_chat"),
        (WeComBot, r#"{"msgtype":"event","event":{"event_type":"enter_chat"}}"#, "wecom_bot.event.unknown"),
        (WeComBot, r#"{"msgtype":"hologram"}"#, "wecom_bot.message.unknown"),
        (WeComBot, r#"{"MsgType":"text"}"#, "wecom_bot.message.unknown"),
        (Im, r#"{"CallbackCommand":"State.StateChange"}"#, "im.command.state.state_change"),
        (Im, r#"{"CallbackCommand":"state.statechange"}"#, "im.command.unknown"),
        (Im, r#"{"Events":[{"CallbackCommand":"Push.OfflinePush"}]}"#, "im.command.push.offline_push"),
        (Im, r#"{"Events":[]}"#, "im.command.unknown"),
        (Im, "{}", "im.command.unknown"),
    ] {
        let tree = tree(text);
        assert_eq!(identify(platform, &tree, None).event_type(platform), expected, "{platform} {text}");
    }
    // The command of the query counts before the one of the body.
    let tree = tree(r#"{"CallbackCommand":"State.StateChange"}"#);
    assert_eq!(identify(Im, &tree, Some("Nobody.Knows")).event_type(Im), "im.command.unknown");
    let identity = identify(Im, &tree, None);
    assert_eq!(identity.key, ["State.StateChange"]);
    // But for what happened in a room, whose queries name other callbacks. No body changes a question into a report.
    for (query, body, expected) in [
        ("Live.CallbackAfterSetMetadata", "Live.CallbackAfterDelMetadata", "im.command.live.after_del_metadata"),
        ("Live.CallbackAfterSetMetadata", "Live.CallbackAfterSetMetadata", "im.command.live.after_set_metadata"),
        (
            "Live.CallbackMemberStateChanged",
            "Live.CallbackAfterMemberStateChanged",
            "im.command.live.after_member_state_changed",
        ),
        ("Live.CallbackAfterSetMetadata", "Live.CallbackAfterNobodyKnows", "im.command.live.after_set_metadata"),
        ("Live.CallbackAfterNobodyKnows", "Room.CallbackAfterDestroyRoom", "im.command.room.after_destroy_room"),
        ("Live.CallbackBeforeNobodyKnows", "Live.CallbackAfterSetMetadata", "im.command.unknown"),
        ("Live.CallbackBeforeSendGift", "Live.CallbackAfterSetMetadata", "im.command.live.before_send_gift"),
        ("Live.CallbackAfterNobodyKnows", "Mic.CallbackAfterSeatInfoChanged", "im.command.mic.after_seat_info_changed"),
        ("Group.CallbackBeforeSendMsg", "Live.CallbackAfterSetMetadata", "im.command.group.before_send_msg"),
        ("Live.CallbackAfterSetMetadata", "Group.CallbackBeforeSendMsg", "im.command.live.after_set_metadata"),
    ] {
        let text = format!(r#"{{"CallbackCommand":"{body}"}}"#);
        assert_eq!(identify(Im, &self::tree(&text), Some(query)).event_type(Im), expected, "{query} {body}");
    }
}

#[test]
fn a_push_of_several_events_is_taken_apart() {
    let push = by_id("im.command.push.offline_push").unwrap();
    let events = |text: &str, spec: &EventSpec| {
        let tree = tree(text);
        let events = events_of(&tree, Some(spec));
        events.iter().map(|event| (payload::to_json(event), is_wrapper(event, spec))).collect::<Vec<_>>()
    };
    let event = |text: &str| (text.to_owned(), false);
    let wrapper = |text: &str| vec![(text.to_owned(), true)];
    assert_eq!(events(r#"{"Events":[{"a":1},{"a":2}]}"#, push), [event(r#"{"a":1}"#), event(r#"{"a":2}"#)]);
    assert_eq!(events(r#"{"Events":[{"a":1}]}"#, push), [event(r#"{"a":1}"#)]);
    assert_eq!(events(r#"{"Events":{"a":1}}"#, push), [event(r#"{"a":1}"#)]);
    assert_eq!(events(r#"{"a":1}"#, push), [event(r#"{"a":1}"#)], "an event without its wrapper");
    for text in [r#"{"Events":[]}"#, r#"{"Events":[{"a":1},7]}"#, r#"{"Events":"x"}"#, r#"{"Events":null}"#] {
        assert_eq!(events(text, push), wrapper(text));
    }
    let list_of = |count: usize| format!(r#"{{"Events":[{}]}}"#, vec![r#"{"a":1}"#; count].join(","));
    assert_eq!(events(&list_of(MAX_EVENTS), push), vec![event(r#"{"a":1}"#); MAX_EVENTS]);
    assert_eq!(events(&list_of(MAX_EVENTS + 1), push), wrapper(&list_of(MAX_EVENTS + 1)));
    // Other events may have a list of that name.
    let other = by_id("im.command.state.state_change").unwrap();
    assert_eq!(events(r#"{"Events":[{"a":1},{"a":2}]}"#, other), [event(r#"{"Events":[{"a":1},{"a":2}]}"#)]);
}

#[test]
fn every_platform_has_a_type_for_what_nobody_knows() {
    for platform in Platform::ALL {
        for key in [&[][..], &["event".into()], &["event".into(), "x".into()], &["text".into()]] {
            let event_type = unknown_type(platform, key);
            assert!(event_type.starts_with(platform.as_str()) && event_type.ends_with(".unknown"), "{event_type}");
            assert_eq!(by_id(event_type), None);
        }
        let tree = Value::List(Vec::new());
        assert_eq!(identify(platform, &tree, None), Identity { key: Vec::new(), spec: None });
    }
}

#[test]
fn an_event_is_about_somebody() {
    use Platform::{Im, Mp, OpenPlatform, WeCom, WeComBot, WeComKf, WeComSuite};
    for (platform, text, expected) in [
        (Mp, "<xml><FromUserName> openid </FromUserName></xml>", Some("openid")),
        (Mp, "<xml><FromUserName></FromUserName><OpenID>o</OpenID></xml>", Some("o")),
        (Mp, "<xml></xml>", None),
        (WeCom, "<xml><FromUserName>sys</FromUserName><UserID>u</UserID></xml>", Some("u")),
        (WeCom, "<xml><FromUserName>sys</FromUserName></xml>", None),
        (
            WeCom,
            "<xml><FromUserName>sys</FromUserName><UserID>u</UserID><ExternalUserID>e</ExternalUserID></xml>",
            Some("e"),
        ),
        (WeComKf, r#"{"external_userid":"e"}"#, Some("e")),
        (WeComKf, r#"{"event":{"external_userid":"e"}}"#, Some("e")),
        (OpenPlatform, "<xml><AppId>p</AppId><AuthorizerAppid>wx1</AuthorizerAppid></xml>", Some("wx1")),
        (OpenPlatform, "<xml><AppId>p</AppId><appid>wx1</appid></xml>", Some("wx1")),
        (OpenPlatform, "<xml><AppId>p</AppId></xml>", None),
        (OpenPlatform, "<xml><ToUserName>gh</ToUserName><FromUserName>o</FromUserName></xml>", Some("o")),
        (WeComSuite, "<xml><SuiteId>s</SuiteId></xml>", None),
        (WeComSuite, "<xml><SuiteId>s</SuiteId><AuthCorpId>c</AuthCorpId></xml>", Some("c")),
        (WeComSuite, "<xml><AuthCorpId>c</AuthCorpId><UserID>u</UserID></xml>", Some("u")),
        (
            WeComSuite,
            "<xml><AuthCorpId>c</AuthCorpId><UserID>u</UserID><ExternalUserID>e</ExternalUserID></xml>",
            Some("e"),
        ),
        (WeComSuite, "<xml><PaidCorpId>c</PaidCorpId></xml>", Some("c")),
        (WeComBot, r#"{"from":{"userid":"u","corpid":"c"},"chatid":"g"}"#, Some("u")),
        (WeComBot, r#"{"from":"u"}"#, None),
        (Im, r#"{"To_Account":"b","From_Account":"a"}"#, Some("a")),
        (Im, r#"{"Info":{"To_Account":"a"}}"#, Some("a")),
        (Im, r#"{"To_Account":["a"]}"#, None),
    ] {
        assert_eq!(subject(platform, &tree(text)), expected, "{platform} {text}");
    }
}

#[test]
fn an_event_has_a_time() {
    for (text, expected) in [
        ("<xml><CreateTime>1735689600</CreateTime></xml>", Some(1_735_689_600)),
        ("<xml><TimeStamp> 1735689600 </TimeStamp></xml>", Some(1_735_689_600)),
        ("<xml><TimeStamp>1</TimeStamp><CreateTime>2</CreateTime></xml>", Some(2)),
        (r#"{"create_time":1735689600}"#, Some(1_735_689_600)),
        (r#"{"EventTime":1735689600123}"#, Some(1_735_689_600)),
        (r#"{"create_time":0}"#, None),
        (r#"{"create_time":"now"}"#, None),
        ("{}", None),
    ] {
        assert_eq!(time(&tree(text)), expected, "{text}");
    }
}

fn key(platform: Platform, account: &str, text: &str, query: &[(&str, &str)]) -> Option<DedupeKey> {
    let tree = tree(text);
    let query = |name: &str| query.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    let command = query("CallbackCommand");
    let spec: Option<&'static EventSpec> = identify(platform, &tree, command.as_deref()).spec;
    dedupe_key(platform, account, spec, &tree, text, &query)
}

#[test]
fn messages_and_events_are_told_apart_by_all_they_say() {
    let mp = |account, text: &str| key(Platform::Mp, account, text, &[]).unwrap();
    let message = |from: &str, id: &str, more: &str| {
        format!("<xml><MsgType>text</MsgType><FromUserName>{from}</FromUserName><MsgId>{id}</MsgId>{more}</xml>")
    };
    let one = mp("mp/a", &message("u", "1", ""));
    assert_eq!(one, mp("mp/a", &message("u", "1", "")));
    assert_eq!((one.bytes[0], one.window), (Order::MessageId as u8, None));
    // Some tools give all messages one id.
    let again = message("u", "1", "<Content>b</Content>");
    for other in [message("u", "2", ""), message("v", "1", ""), message("u1", "", ""), message("", "u1", ""), again] {
        assert_ne!(one, mp("mp/a", &other), "{other}");
    }
    assert_ne!(one, mp("mp/b", &message("u", "1", "")));
    assert_ne!(Some(one), key(Platform::WeCom, "mp/a", &message("u", "1", ""), &[]));
    // Two events of one second.
    let event =
        |key: &str| format!("<xml><MsgType>event</MsgType><Event>CLICK</Event><EventKey>{key}</EventKey></xml>");
    assert_eq!(mp("mp/a", &event("A")), mp("mp/a", &event("A")));
    assert_ne!(mp("mp/a", &event("A")), mp("mp/a", &event("B")));
}

#[test]
fn notices_are_told_apart_by_all_they_say_and_callbacks_of_bots_by_their_id() {
    let notice = |platform, name: &str, time: i64| {
        let text = format!("<xml><InfoType>suite_ticket</InfoType><{name}>{time}</{name}></xml>");
        key(platform, "a", &text, &[]).unwrap()
    };
    for (platform, name) in [(Platform::WeComSuite, "TimeStamp"), (Platform::OpenPlatform, "CreateTime")] {
        let one = notice(platform, name, 1_735_689_600);
        assert_eq!(one, notice(platform, name, 1_735_689_600));
        assert_ne!(one, notice(platform, name, 1_735_689_601));
        assert_eq!((one.bytes[0], one.window), (Order::Time as u8, None));
    }
    let bot = |text: &str| key(Platform::WeComBot, "a", text, &[]);
    let message = bot(r#"{"msgid":"1","msgtype":"text","text":{"content":"a"}}"#);
    assert!(message.is_some());
    assert_eq!(message, bot(r#"{"msgid":"1","msgtype":"text","text":{"content":"b"}}"#));
    assert_ne!(message, bot(r#"{"msgid":"2","msgtype":"text","text":{"content":"a"}}"#));
    assert!(bot(r#"{"msgtype":"text"}"#).is_some());
    // A poll asks for what there is by now.
    assert_eq!(bot(r#"{"msgid":"1","msgtype":"stream","stream":{"id":"s"}}"#), None);
}

#[test]
fn callbacks_of_im_are_told_apart_by_what_identifies_their_family() {
    let im = |command: &str, text: &str| key(Platform::Im, "im/a", text, &[("CallbackCommand", command)]);
    // What decides is asked each time.
    assert_eq!(im("Sns.CallbackPrevFriendAdd", "{}"), None);
    assert_eq!(im("C2C.CallbackBeforeSendMsg", r#"{"MsgKey":"1"}"#), None);
    for (command, one, same, other) in [
        ("C2C.CallbackAfterSendMsg", r#"{"MsgKey":"1"}"#, r#"{"MsgKey":"1","SendMsgResult":0}"#, r#"{"MsgKey":"2"}"#),
        (
            "Group.CallbackAfterSendMsg",
            r#"{"GroupId":"g","MsgSeq":1}"#,
            r#"{"GroupId":"g","MsgSeq":"1","x":1}"#,
            r#"{"GroupId":"h","MsgSeq":1}"#,
        ),
        (
            "Push.OfflinePush",
            r#"{"To_Account":"a","PushStage":1,"PushPlatform":"x","PushID":"1"}"#,
            r#"{"PushID":"1","To_Account":"a","PushPlatform":"x","PushStage":1}"#,
            r#"{"To_Account":"b","PushStage":1,"PushPlatform":"x","PushID":"1"}"#,
        ),
        (
            "ContentCallback.ResultNotify",
            r#"{"CtxcbRequestId":"1"}"#,
            r#"{"CtxcbRequestId":"1","a":1}"#,
            r#"{"CtxcbRequestId":"2"}"#,
        ),
    ] {
        let key = im(command, one).unwrap();
        assert_eq!(key.window, None, "{command}");
        assert_eq!(Some(key), im(command, same), "{command}");
        assert_ne!(Some(key), im(command, other), "{command}");
    }
    // Without a time a friend who is removed and added again is two events, so the key holds for a moment only.
    let friend = r#"{"From_Account":"a","To_Account":"b"}"#;
    assert!(im("Sns.CallbackFriendAdd", friend).unwrap().window.is_some());
    assert_ne!(im("Sns.CallbackFriendAdd", friend), im("Sns.CallbackFriendDelete", friend));
    assert_eq!(im("Group.CallbackAfterGroupFull", r#"{"EventTime":1}"#).unwrap().window, None);
}

#[test]
fn a_request_id_is_the_key_of_a_request_and_not_of_each_event_in_it() {
    let im = |command: &str, id: &str, text: &str| {
        key(Platform::Im, "im/a", text, &[("CallbackCommand", command), ("RequestID", id)]).unwrap()
    };
    assert_eq!(im("Desk.Any", "1", r#"{"a":1}"#), im("Desk.Any", "1", r#"{"a":2}"#));
    assert_ne!(im("Desk.Any", "1", "{}"), im("Desk.Any", "2", "{}"));
    let push = |account: &str| im("Push.OfflinePush", "1", &format!(r#"{{"To_Account":"{account}"}}"#));
    assert_eq!(push("a"), push("a"));
    assert_ne!(push("a"), push("b"), "one push carries many events");
}

#[test]
fn answers_are_written_in_the_form_that_was_asked_in() {
    let mut body = Object::default();
    body.push("MsgType", Value::Text("text".into()));
    let asked = tree("<xml><ToUserName>account</ToUserName><FromUserName>user</FromUserName></xml>");
    let write = |form, answer| write_answer(Platform::Mp, form, answer, Address::of(&asked), 7);
    assert_eq!(
        write(Form::Xml, Answer::Passive(body.clone())),
        Body::Document(
            "<xml><ToUserName><![CDATA[user]]></ToUserName><FromUserName><![CDATA[account]]></FromUserName>\
             <CreateTime>7</CreateTime><MsgType><![CDATA[text]]></MsgType></xml>"
                .to_owned()
        )
    );
    assert_eq!(
        write(Form::Json, Answer::Passive(body.clone())),
        Body::Document(r#"{"ToUserName":"user","FromUserName":"account","CreateTime":7,"MsgType":"text"}"#.to_owned())
    );
    assert_eq!(write(Form::Json, Answer::Body(body)), Body::Document(r#"{"MsgType":"text"}"#.to_owned()));
    assert_eq!(write(Form::Xml, Answer::Default), Body::Plain("success"));
}

#[test]
fn what_a_user_wrote_chose_or_scanned_is_found_where_the_platform_has_it() {
    use Platform::{Im, MiniProgram, Mp, OpenPlatform, WeCom, WeComBot, WeComKf, WeComSuite};
    let im = r#"{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a"}},{"MsgType":"TIMFaceElem","MsgContent":"x"},
        {"MsgType":"TIMTextElem","MsgContent":{"Text":"b"}}]}"#;
    let menu = "<xml><MsgType>event</MsgType><Event>CLICK</Event><EventKey>V1</EventKey></xml>";
    let follow = "<xml><MsgType>event</MsgType><Event>subscribe</Event><EventKey>qrscene_12</EventKey></xml>";
    let scan = "<xml><MsgType>event</MsgType><Event>SCAN</Event><EventKey>qr</EventKey></xml>";
    let button =
        r#"{"msgtype":"event","event":{"eventtype":"template_card_event","template_card_event":{"event_key":"k"}}}"#;
    for (platform, payload, text, choice, scene) in [
        (Mp, "<xml><MsgType>text</MsgType><Content>您好</Content></xml>", Some("您好"), None, None),
        (Mp, "<xml><MsgType>text</MsgType><Content>42</Content></xml>", Some("42"), None, None),
        (MiniProgram, r#"{"MsgType":"text","Content":"hi"}"#, Some("hi"), None, None),
        (Mp, "<xml><MsgType>voice</MsgType><Recognition>r</Recognition></xml>", Some("r"), None, None),
        (Mp, "<xml><MsgType>event</MsgType><Content>no</Content></xml>", None, None, None),
        (WeCom, menu, None, Some("V1"), None),
        (WeComSuite, menu, None, Some("V1"), None),
        (Mp, follow, None, Some("qrscene_12"), Some("12")),
        (OpenPlatform, follow, None, Some("qrscene_12"), Some("12")),
        (Mp, scan, None, Some("qr"), Some("qr")),
        (Mp, "<xml><MsgType>event</MsgType><Event>subscribe</Event></xml>", None, None, None),
        (WeComBot, r#"{"msgtype":"text","text":{"content":"hi"}}"#, Some("hi"), None, None),
        (WeComBot, button, None, Some("k"), None),
        (WeComKf, r#"{"msgtype":"text","text":{"content":"hi","menu_id":"7"}}"#, Some("hi"), Some("7"), None),
        (Im, im, Some("a\nb"), None, None),
        (Im, "{}", None, None, None),
    ] {
        let tree = tree(payload);
        let (protocol, object) = (platform.protocol(), tree.as_object().unwrap());
        let found = (protocol.text_of(object), protocol.choice_of(object), protocol.scene_of(object));
        let found = (found.0.as_deref(), found.1.as_deref(), found.2.as_deref());
        assert_eq!(found, (text, choice, scene), "{platform} {payload}");
    }
}
