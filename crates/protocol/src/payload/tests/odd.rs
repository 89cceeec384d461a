//! What no writer of XML or JSON would write, and users and platforms do.

use super::*;

/// A document of the platform, which escapes nothing, with a text of a user.
fn with_content(content: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh]]></ToUserName><FromUserName><![CDATA[user]]></FromUserName><CreateTime>1</CreateTime>\
         <MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{content}]]></Content><MsgId>7</MsgId></xml>"
    )
}

#[test]
fn a_text_is_what_the_user_wrote_whatever_that_is() {
    for content in [
        "<status><![CDATA[abc]]></status>",
        "<![CDATA[<status><![CDATA[abc]]></status>]]>",
        "</xml>",
        "]]></xml>",
        "a]]>b",
        "]]>",
        "a]]>",
        "]",
        "]]",
        "]]></Content><Content><![CDATA[evil",
        "]]></Content><MsgType><![CDATA[event]]></MsgType><Content><![CDATA[evil",
        "]]></Content><FromUserName><![CDATA[boss]]></FromUserName><MsgId>8</MsgId><Content><![CDATA[evil",
        "]]></Content>\r\n<Content>\r\n<![CDATA[a]]></Content><Content><![CDATA[evil",
        "]]></Content>",
        "]]></Content><b>",
        "]]></Content></xml>",
        "a]]></Content>b",
        "a]]></Content>&b;",
        "]]></Content><!DOCTYPE x>",
        "<![CDATA[",
        "]]><![CDATA[",
        "]]></ Content>",
        "]]></Contents>",
        "&amp; <b/> &#0; <!-- -->",
    ] {
        let text = with_content(content);
        let tree = parse(Form::Xml, &text).unwrap_or_else(|error| panic!("{content}: {error}"));
        let object = tree.as_object().unwrap();
        assert_eq!(object.text("Content"), Some(content));
        let names = ["ToUserName", "FromUserName", "CreateTime", "MsgType", "Content", "MsgId"];
        assert_eq!(object.iter().map(|(name, _)| name).collect::<Vec<_>>(), names, "{content}");
        let values = ["FromUserName", "MsgType", "MsgId"].map(|name| object.text(name).unwrap());
        assert_eq!(values, ["user", "text", "7"], "{content}");
    }
    // One that knows of the end of a section splits it.
    let text = with_content("a]]]]><![CDATA[>b");
    assert_eq!(parse(Form::Xml, &text).unwrap().as_object().unwrap().text("Content"), Some("a]]>b"));
}

#[test]
fn elements_that_repeat_stay_a_list() {
    for (text, expected) in [
        ("<DocId><![CDATA[a]]></DocId><DocId><![CDATA[b]]></DocId>", r#"{"DocId":["a","b"]}"#),
        ("<List><![CDATA[a]]></List><List>b</List>", r#"{"List":["a","b"]}"#),
        ("<Item><a><![CDATA[1]]></a></Item><Item><a><![CDATA[2]]></a></Item>", r#"{"Item":[{"a":"1"},{"a":"2"}]}"#),
        ("<l><i><![CDATA[a]]></i><i><![CDATA[b]]></i></l>", r#"{"l":{"i":["a","b"]}}"#),
        ("<a><![CDATA[x]]></a><l><a><![CDATA[y]]></a></l>", r#"{"a":"x","l":{"a":"y"}}"#),
    ] {
        assert_eq!(json(Form::Xml, &format!("<xml>{text}</xml>")).as_deref(), Ok(expected), "{text}");
    }
}

/// The document around a cipher text is read as XML has it.
#[test]
fn sections_of_an_envelope_end_at_their_first_end() {
    let read = |text: &str| parse_envelope(Form::Xml, text).map(|tree| to_json(&tree));
    assert_eq!(read("<xml><a><![CDATA[x]]><![CDATA[y]]></a></xml>").as_deref(), Ok(r#"{"a":"xy"}"#));
    assert_eq!(read("<xml><a><![CDATA[x]]></a><a><![CDATA[y]]></a></xml>").as_deref(), Ok(r#"{"a":["x","y"]}"#));
    assert!(read("<xml><a><![CDATA[x]]></xml>]]></a></xml>").is_err());
}

#[test]
fn what_can_be_read_in_one_way_only_is_repaired() {
    for (form, text, expected) in [
        (Form::Json, "{\"a\":\"\\ud83d\"}", "{\"a\":\"\u{FFFD}\"}"),
        (Form::Json, "{\"a\":\"x\\ude00\\ud83dy\"}", "{\"a\":\"x\u{FFFD}\u{FFFD}y\"}"),
        (Form::Json, "{\"a\":\"\\ud83d\\ud83d\\ude00\"}", "{\"a\":\"\u{FFFD}😀\"}"),
        (Form::Json, "{\"a\":\"\\\\ud83d\n\"}", "{\"a\":\"\\\\ud83d\\n\"}"),
        (Form::Json, "{\"a\":\"1\n2\t\u{1}\u{1f}\\\"\",\n\"b\":1}", "{\"a\":\"1\\n2\\t\\u0001\\u001f\\\"\",\"b\":1}"),
        (Form::Xml, "<xml><a>b & c &amp; &d; &#0; &#65;</a></xml>", "{\"a\":\"b & c & &d; &#0; A\"}"),
        (Form::Xml, "<xml><a>&<![CDATA[& ]]></a></xml>", "{\"a\":\"&& \"}"),
        (Form::Xml, "<xml><a>\0</a><b><![CDATA[\0]]></b></xml>", "{\"a\":\"\u{FFFD}\",\"b\":\"\u{FFFD}\"}"),
    ] {
        assert!(parse(form, text).is_err(), "{text}");
        let repaired = repair(form, text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(json(form, &repaired).as_deref(), Ok(expected), "{text}");
    }
    for (form, text) in [
        (Form::Json, "{\"a\":\"\n\""),
        (Form::Json, "{\"a\":\"\\x\"}"),
        (Form::Json, "{\"a\":\"\\"),
        (Form::Json, "{\"a\":\"\\ud8"),
        (Form::Json, "{\"a\":1}\u{1}"),
        (Form::Json, ""),
        (Form::Xml, "<!DOCTYPE a><xml>&</xml>"),
        (Form::Xml, "<xml>&"),
        (Form::Xml, "<xml>&<![CDATA["),
    ] {
        assert_eq!(repair(form, text), None, "{text}");
    }
}
