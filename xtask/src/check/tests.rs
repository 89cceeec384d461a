use echostr_catalog::text;

use super::*;

/// A file of one entry, which is sound.
const FILE: &str = r#"
[platform]
name = "mp"
variant = "Mp"
title = "Accounts"
doc = "Accounts."
success = "`success`"
keys = [["MsgType", "Event"]]

[envelope]
fields = [
  { name = "ToUserName", type = "string", required = true, doc = "Account." },
  { name = "MsgType", type = "string", required = true, doc = "Kind of push." },
]

[[event]]
id = "mp.message.text"
kind = "message"
select = { MsgType = "text" }
type = "TextMessage"
summary = "Text (文本消息)."
family = "message"
formats = ["xml", "json"]
reply = "success"
fields = [
  { name = "Content", path = "Content", type = "string", required = true, doc = "Text.", aliases = ["content"] },
  { name = "Pics", path = "Pics", type = "object", required = false, doc = "Pictures.", xml_only = true },
  { name = "item", path = "Pics.item[]", json_path = "item[]", type = "list<string>", doc = "Picture.", values = [["a", "A", "first"]] },
]
sample_xml = '''
<xml><ToUserName>gh_1</ToUserName><MsgType>text</MsgType><Content>a</Content><Pics><item>a</item><item/></Pics></xml>'''
sample_json = '''
{"ToUserName":"gh_1","MsgType":"text","Content":"a","item":["a"]}'''
confidence = "high"
"#;

fn findings(text: &str) -> Vec<String> {
    match check_file("mp", text) {
        Ok((_, findings)) => findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn the_catalogue_is_sound() {
    let entries = check().unwrap_or_else(|findings| panic!("{findings}"));
    assert!(entries > 640, "{entries}");
    assert_eq!(findings(FILE), Vec::<String>::new());
}

/// Each row breaks the sound file in one way.
#[test]
fn what_is_wrong_is_said_with_its_place() {
    let rows = [
        ("type = \"TextMessage\"", "type = \"textMessage\"", "mp.message.text: `textMessage` is no name of a type"),
        ("name = \"mp\"", "name = \"im\"", "platform: is called `im`"),
        ("select = { MsgType", "select = { InfoType", "mp.message.text: no list of the platform's keys selects it"),
        ("reply = ", "also = [{ Event = \"a\" }]\nreply = ", "mp.message.text: `also` has other keys than `select`"),
        ("type = \"list<string>\"", "type = \"list<text>\"", "mp.message.text Pics.item[]: `list<text>` is no type"),
        (
            "path = \"Content\"",
            "path = \"Contents\"",
            "mp.message.text Contents: the path does not end in the name `Content`",
        ),
        ("\"A\", \"first\"", "\"a b\", \"first\"", "mp.message.text Pics.item[]: `a b` is no name of a value"),
        ("[[\"a\"", "[[\"a\", \"B\", \"b\"], [\"a\"", "mp.message.text Pics.item[]: the value `a` is listed twice"),
        (
            "doc = \"Pictures.\"",
            "wrapper = true, doc = \"Pictures.\"",
            "mp.message.text Pics: is a wrapper, but not the one required object at the top",
        ),
        ("doc = \"Picture.\"", "doc = \"\"", "mp.message.text Pics.item[]: has no doc"),
        (
            "\"Picture.\"",
            "\"Picture; not confirmed.\"",
            "mp.message.text Pics.item[]: `not confirmed` belongs into `note`",
        ),
        ("\"Text (文本消息).\"", "\"Text, from one SDK.\"", "mp.message.text: `one sdk` belongs into `note`"),
        ("\"Account.\"", "\"Account, says a peer.\"", "envelope ToUserName: `peer` belongs into `note`"),
        ("reply = ", "replies = [\"card\"]\nreply = ", "mp.message.text: there is no reply `card`"),
        ("<Content>a</Content>", "<Text>a</Text>", "mp.message.text: sample_xml: `Text` is no field"),
        ("<Content>a</Content>", "<content>a</content>", "mp.message.text: sample_xml: has no `Content`"),
        ("\"Content\":\"a\",", "", "mp.message.text: sample_json: has no `Content`"),
        ("\"item\":[\"a\"]", "\"Pics\":{\"item\":[\"a\"]}", "mp.message.text: sample_json: `Pics.item` is no field"),
        ("</Pics></xml>", "</xml>", "mp.message.text: sample_xml: ill-formed document"),
        ("<xml><ToUserName>", "<a/><xml><ToUserName>", "mp.message.text: sample_xml: is not one whole element"),
        ("\"item\":[\"a\"]}", "\"item\":[\"a\"]", "mp.message.text: sample_json: EOF while parsing"),
    ];
    for (right, wrong, expected) in rows {
        assert_eq!(FILE.matches(right).count(), 1, "{right}");
        let found = findings(&FILE.replacen(right, wrong, 1));
        let said = found.iter().any(|finding| finding.contains(expected));
        assert!(said, "{wrong}\n{found:#?}");
        let line = FILE.lines().position(|line| line.starts_with("id = ")).expect("an entry") + 1;
        if expected.starts_with("mp.message.text") {
            let place = format!("catalog/mp.toml:{line}: ");
            assert!(found.iter().all(|finding| finding.starts_with(&place)), "{found:#?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    let rows = [
        ("kind = \"message\"", "kind = \"massage\"", "unknown variant `massage`"),
        ("confidence = \"high\"", "confidense = \"high\"", "unknown field `confidense`"),
        ("summary = ", "#", "missing field `summary`"),
        ("[[\"a\", \"A\", \"first\"]]", "[[\"a\", \"A\"]]", "invalid length 2"),
        ("[envelope]", "[envelope", "unclosed table"),
    ];
    for (right, wrong, expected) in rows {
        assert_eq!(FILE.matches(right).count(), 1, "{right}");
        let found = findings(&FILE.replacen(right, wrong, 1)).concat();
        assert!(found.starts_with("catalog/mp.toml: TOML parse error at line "), "{found}");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn an_entry_is_named_once() {
    let entry = &FILE[FILE.find("[[event]]").expect("an entry")..];
    let found = findings(&format!("{FILE}{entry}"));
    let line = FILE.lines().count() + 2;
    let expected = ["another entry has this id", "another entry has the type `TextMessage`"];
    assert_eq!(found, expected.map(|problem| format!("catalog/mp.toml:{line}: mp.message.text: {problem}")));
}

/// A part of the real catalogue, so that the rules fit it: a type, a name, a sample.
#[test]
fn a_real_file_that_is_broken_is_refused() {
    let sound = text("wecom").expect("wecom");
    assert_eq!(check_file("wecom", sound).map(|(_, findings)| findings.len()).ok(), Some(0));
    let broken = sound.replacen("<Content>", "<Contents>", 1).replacen("</Content>", "</Contents>", 1);
    let (_, findings) = check_file("wecom", &broken.replacen("<Content><", "<Contents><", 1)).expect("it can be read");
    assert!(!findings.is_empty());
}
