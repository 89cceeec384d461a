use std::collections::BTreeSet;

use super::{
    Article, Body, MAX_TEXT_BYTES, RawReply,
    im::BeforeGroupCreateResp,
    mp::{self, Reply},
};
use crate::{
    event::{self, Answer},
    payload::{Form, Object, Value, parse, write_xml},
};

/// The passive reply without what the platform layer puts in front of it.
pub(super) fn document(reply: impl event::Reply) -> Object<'static> {
    match reply.into_answer() {
        Ok(Answer::Passive(document)) => document,
        other => panic!("{other:?} is no passive reply"),
    }
}

pub(super) fn refusal(reply: impl event::Reply) -> String {
    reply.into_answer().expect_err("the reply is refused").to_string()
}

/// The replies of the catalogue whose id starts with `prefix`: id and document.
pub(super) fn samples(prefix: &str) -> Vec<(String, String)> {
    let replies = echostr_catalog::passive_replies().expect("the catalogue").event.into_iter();
    let replies = replies.filter(|reply| reply.id.starts_with(prefix));
    replies.map(|reply| (reply.id, reply.sample_xml.expect("xml").trim().to_owned())).collect()
}

/// Each reply is the sample of its id, in the order of the wire, and no sample is left out.
pub(super) fn check_samples(prefix: &str, replies: Vec<(&str, Object<'static>)>) {
    let samples = samples(prefix);
    for (id, sample) in &samples {
        let (_, reply) = replies.iter().find(|(known, _)| known == id).unwrap_or_else(|| panic!("no reply for {id}"));
        let Ok(Value::Object(sample)) = parse(Form::Xml, sample) else { panic!("{id}") };
        let mut expected = Object::default();
        let envelope = ["ToUserName", "FromUserName", "CreateTime"];
        sample.iter().filter(|(name, _)| !envelope.contains(name)).for_each(|(name, value)| {
            expected.push(name.to_owned(), value.clone());
        });
        assert_eq!(parse(Form::Xml, &write_xml(reply)), Ok(Value::Object(expected)), "{id}");
    }
    let known: BTreeSet<_> = samples.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(known, replies.iter().map(|(id, _)| *id).collect());
}

const MEDIA_ID: &str = "mZ3xQp7LrT_1aVd8KsWc0nYb";
const DEVICE: (&str, &str) = ("gh_3c884a361561", "dev-000173");

pub(super) fn article() -> Article {
    Article::new("Opening hours")
        .description("Hours of all shops")
        .pic_url("https://img.example/a.jpg")
        .url("https://shop.example/hours")
}

#[test]
fn the_builders_make_the_samples() {
    let music = Reply::music("mT9vRk2HsX_4bNe6JqUf1oZc")
        .title("Song")
        .description("Demo song")
        .url("https://music.example/a.mp3")
        .hq_url("https://music.example/a-hq.mp3");
    let video = Reply::video(MEDIA_ID).title("Tour").description("Shop tour");
    let (device_type, device_id) = DEVICE;
    let rows = [
        ("mp.reply.text", Reply::text("Thanks, we are open 9-18.")),
        ("mp.reply.image", Reply::image(MEDIA_ID)),
        ("mp.reply.voice", Reply::voice(MEDIA_ID)),
        ("mp.reply.video", video.into()),
        ("mp.reply.music", music.into()),
        ("mp.reply.news", Reply::news([article()])),
        ("mp.reply.transfer_customer_service", Reply::transfer_to("kf2001@demo_mp")),
        ("mp.reply.device_text", Reply::device_text(device_type, device_id, 7712, "hello")),
        ("mp.reply.device_event", Reply::device_bind(device_type, device_id, 7712, "hello")),
        ("mp.reply.device_status", Reply::device_status(device_type, device_id, true)),
        ("mp.reply.hardware", Reply::hardware("myrank", "ranklist")),
    ];
    check_samples("mp.reply.", rows.map(|(id, reply)| (id, document(reply))).into());
}

#[test]
fn optional_parts_are_left_out() {
    let rows: [(Reply, &str); 4] = [
        (
            Reply::video("m").into(),
            "<MsgType><![CDATA[video]]></MsgType><Video><MediaId><![CDATA[m]]></MediaId></Video>",
        ),
        (
            Reply::music("t").into(),
            "<MsgType><![CDATA[music]]></MsgType><Music><ThumbMediaId><![CDATA[t]]></ThumbMediaId></Music>",
        ),
        (Reply::transfer_customer_service(), "<MsgType><![CDATA[transfer_customer_service]]></MsgType>"),
        (
            Reply::news([Article::new("a"), Article::new("b")]),
            "<MsgType><![CDATA[news]]></MsgType><ArticleCount>2</ArticleCount><Articles>\
             <item><Title><![CDATA[a]]></Title><Description><![CDATA[]]></Description><PicUrl><![CDATA[]]></PicUrl>\
             <Url><![CDATA[]]></Url></item>\
             <item><Title><![CDATA[b]]></Title><Description><![CDATA[]]></Description><PicUrl><![CDATA[]]></PicUrl>\
             <Url><![CDATA[]]></Url></item></Articles>",
        ),
    ];
    for (reply, expected) in rows {
        assert_eq!(write_xml(&document(reply)), format!("<xml>{expected}</xml>"));
    }
}

#[test]
fn what_the_platform_refuses_is_an_error() {
    let rows: [(Reply, &str); 14] = [
        (Reply::text(""), "the text is empty"),
        (Reply::text(" \n"), "the text is empty"),
        (Reply::text("\u{1}"), "the text is empty"),
        (Reply::image(""), "MediaId is empty"),
        (Reply::voice(""), "MediaId is empty"),
        (Reply::video("").title("Tour").into(), "MediaId is empty"),
        (Reply::music("").title("Song").into(), "ThumbMediaId is empty"),
        (Reply::news([]), "no articles, at least one is needed"),
        (Reply::news(vec![article(); 9]), "9 articles, at most 8 are allowed"),
        (Reply::news([article(), Article::new("")]), "the title of an article is empty"),
        (Reply::transfer_to("kf2001"), "KfAccount is not a full account such as `kf2001@demo_mp`"),
        (Reply::device_text("", "d", 1, ""), "DeviceType is empty"),
        (Reply::device_status("t", "", true), "DeviceID is empty"),
        (Reply::hardware("myrank", ""), "MessageAction is empty"),
    ];
    for (reply, rule) in rows {
        assert_eq!(refusal(reply), rule);
    }
    document(Reply::text("x".repeat(MAX_TEXT_BYTES)));
    document(Reply::news(vec![article(); 8]));
}

#[test]
fn a_section_end_in_the_text_arrives_as_it_is() {
    for text in ["]]>", "a]]>b]]]>>c", "<![CDATA[x]]>", "]]]]>>", "&amp; <b> \"q\""] {
        let xml = write_xml(&document(Reply::text(text)));
        let Ok(Value::Object(tree)) = parse(Form::Xml, &xml) else { panic!("{xml}") };
        assert_eq!(tree.text("Content"), Some(text), "{xml}");
    }
}

#[test]
fn saying_nothing_is_the_plain_success() {
    for answer in [
        event::Reply::into_answer(Reply::default()),
        event::Reply::into_answer(Reply::none()),
        event::Reply::into_answer(super::wecom::Reply::none()),
        event::Reply::into_answer(Body::new()),
        event::Reply::into_answer(RawReply::default()),
    ] {
        assert_eq!(answer, Ok(Answer::Default));
    }
}

pub(super) fn json(reply: impl event::Reply) -> serde_json::Value {
    match reply.into_answer() {
        Ok(Answer::Body(body)) => serde_json::to_value(body).expect("JSON"),
        Ok(Answer::Written(document)) => serde_json::from_str(&document).expect("JSON"),
        other => panic!("{other:?} is no body"),
    }
}

#[test]
fn a_body_keeps_the_order_and_the_last_value_of_a_name() {
    let body = Body::new().field("resultcode", 1).field("a", [1, 2]).field("resultcode", 0).field("none", None::<i64>);
    let Ok(Answer::Body(body)) = event::Reply::into_answer(body) else { panic!("a body") };
    assert_eq!(serde_json::to_string(&body).expect("JSON"), r#"{"resultcode":0,"a":[1,2],"none":null}"#);

    let serde_json::Value::Object(members) = serde_json::json!({ "b": { "c": 1.5 } }) else { panic!("a map") };
    assert_eq!(json(Body::from(members.clone())), serde_json::Value::Object(members));
}

#[test]
fn a_raw_reply_says_what_a_typed_one_would() {
    let object = serde_json::json!({ "ErrorCode": 0, "Items": [1] });
    assert_eq!(json(RawReply::json(object.clone())), object);
    assert_eq!(document(RawReply::passive(Reply::video("m"))), document(mp::Reply::from(Reply::video("m"))));
    assert_eq!(document(RawReply::wecom(super::wecom::Reply::text("a"))), document(Reply::text("a")));
    assert_eq!(json(RawReply::from_reply(BeforeGroupCreateResp::refuse())), json(BeforeGroupCreateResp::refuse()));
    assert_eq!(refusal(RawReply::passive(Reply::text(""))), "the text is empty");
    for value in [serde_json::Value::Null, serde_json::json!([1]), "text".into()] {
        assert_eq!(refusal(RawReply::json(value)), "the answer is not a JSON object");
    }
}
