mod odd;

use proptest::prelude::*;

use super::{section::Ends, *};

fn json(form: Form, text: &str) -> Result<String, PayloadError> {
    parse(form, text).map(|value| to_json(&value))
}

#[test]
fn xml_becomes_a_tree() {
    for (text, expected) in [
        ("<xml></xml>", "{}"),
        ("<xml/>", "{}"),
        ("<anything><a>1</a></anything>", r#"{"a":"1"}"#),
        ("\r\n <?xml version='1.0' encoding='GBK'?><!-- c --><xml>\n<a>1</a>\n</xml>\n<!-- c -->", r#"{"a":"1"}"#),
        ("<xml><a b='1' b='2' c=3>1</a></xml>", r#"{"a":"1"}"#),
        ("<xml><a/><b></b><c><![CDATA[]]></c></xml>", r#"{"a":"","b":"","c":""}"#),
        ("<xml><a><![CDATA[<b>&amp;</b>]]></a></xml>", r#"{"a":"<b>&amp;</b>"}"#),
        ("<xml><a>\n  <![CDATA[ x ]]>\n </a></xml>", r#"{"a":" x "}"#),
        ("<xml><a><![CDATA[x]]><![CDATA[y]]></a></xml>", r#"{"a":"x]]><![CDATA[y"}"#),
        ("<xml><a><![CDATA[x]]><![CDATA[y]]>z</a></xml>", r#"{"a":"xyz"}"#),
        ("<xml><a><![CDATA[]]]]><![CDATA[>]]></a></xml>", r#"{"a":"]]>"}"#),
        ("<xml><a>x<![CDATA[y]]>z</a></xml>", r#"{"a":"xyz"}"#),
        ("<xml><a>&lt;&gt;&amp;&quot;&apos;</a></xml>", r#"{"a":"<>&\"'"}"#),
        ("<xml><a>&#20320;&#x597D;</a></xml>", r#"{"a":"你好"}"#),
        ("<xml><a>&amp;lt;</a></xml>", r#"{"a":"&lt;"}"#),
        ("<xml><a>1<!-- c -->2<?pi?>3</a></xml>", r#"{"a":"123"}"#),
        ("<xml><l>1</l><b>2</b><l>3</l></xml>", r#"{"l":["1","3"],"b":"2"}"#),
        ("<xml><l><i>1</i><i>2</i></l></xml>", r#"{"l":{"i":["1","2"]}}"#),
        ("<xml><a>text<b>1</b>text</a></xml>", r#"{"a":{"b":"1"}}"#),
        ("<xml><名>值</名><x:y>1</x:y><a-b.c>2</a-b.c></xml>", r#"{"名":"值","x:y":"1","a-b.c":"2"}"#),
        ("<xml><a >1</a ></xml >", r#"{"a":"1"}"#),
        ("<xml><a\n>1</a\n></xml>", r#"{"a":"1"}"#),
        ("<xml>text</xml>", "{}"),
    ] {
        assert_eq!(json(Form::Xml, text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn xml_that_is_not_well_formed_or_more_than_data_is_refused() {
    for text in [
        "",
        " ",
        "text",
        "<xml>",
        "<xml",
        "<",
        "</xml>",
        "<xml></other>",
        "<xml></XML>",
        "<xml><a></xml></a>",
        "<xml></xml></xml>",
        "<xml></xml><xml></xml>",
        "<xml/><xml/>",
        "<xml></xml>tail",
        "head<xml></xml>",
        "<![CDATA[x]]><xml></xml>",
        "<xml></xml>&amp;",
        "<xml><![CDATA[x</xml>",
        "<xml><!-- x</xml>",
        "<xml><a>&lt</a></xml>",
        "<xml><a>a & b</a></xml>",
        "<xml><a>&#xD800;</a></xml>",
        "<xml><a>&#;</a></xml>",
        "<xml><a>&#x;</a></xml>",
        "<xml><a>&#-1;</a></xml>",
        "<xml><a>\0</a></xml>",
        "<xml><></></xml>",
        "<xml>< a>1</a></xml>",
        "<xml><a\"b>\"></a\"b>\"></xml>",
        "<xml><a/b>1</a/b></xml>",
        "<xml><\u{17}/></xml>",
        "<xml><]/></xml>",
    ] {
        let error = json(Form::Xml, text).unwrap_err();
        assert!(matches!(error, PayloadError::Malformed { form: Form::Xml, .. }), "{text}: {error}");
    }
    for text in ["<!DOCTYPE xml><xml/>", "<!DOCTYPE x [<!ENTITY a 'b'>]><xml>&a;</xml>", "<!doctype xml><xml/>"] {
        assert_eq!(json(Form::Xml, text), Err(PayloadError::DocType), "{text}");
    }
    for text in ["<xml><a>&nbsp;</a></xml>", "<xml><a>&a;</a></xml>", "<xml><a>&LT;</a></xml>"] {
        assert_eq!(json(Form::Xml, text), Err(PayloadError::Entity), "{text}");
    }
}

/// Pieces of which documents are made, simple and not.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => Just("<a>"), 8 => Just("</a>"), 3 => Just("<b>"), 3 => Just("</b>"), 4 => Just("<a>1</a>"),
        4 => Just("<b><![CDATA[x]]></b>"), 2 => Just("<![CDATA["), 2 => Just("]]>"), 2 => Just(" "), 1 => Just("\r\n"),
        1 => Just("\u{c}"), 1 => Just("\u{a0}"), 1 => Just("\u{feff}"), 1 => Just("]"), 1 => Just(">"), 1 => Just("<"),
        1 => Just("</"), 1 => Just("&lt;"), 1 => Just("&"), 1 => Just("<a/>"), 1 => Just("<a b='1>'>"), 1 => Just("<a >"),
        1 => Just("</a >"), 1 => Just("<!-- c -->"), 1 => Just("<?pi?>"), 1 => Just("<!DOCTYPE a>"), 1 => Just("<x:y>"),
        1 => Just("<1>"), 1 => Just("</1>"), 1 => Just("名"), 1 => Just("<名>"), 1 => Just("text"), 1 => Just("<![cdata["),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// The short way takes nothing that the whole way would not take, and gives the same.
    #[test]
    fn what_is_simple_is_what_any_xml_would_be(inner in pieces(), bare in pieces()) {
        for text in [format!("<a>{inner}</a>"), format!(" <xml>{inner}</xml>\n"), format!("<a><b>{inner}</b></a>"), bare] {
            if let Some(value) = simple::parse(&text, MAX_NODES) {
                prop_assert_eq!(Ok(value), xml::parse_any(&text, MAX_NODES, Ends::OfElement), "{}", text);
            }
        }
    }
}

#[test]
fn what_the_platforms_write_is_simple() {
    let depth = |levels: usize| format!("{}1{}", "<a>".repeat(levels), "</a>".repeat(levels));
    let nodes = |count: usize| format!("<xml>{}</xml>", "<a></a>".repeat(count - 1));
    for text in [
        "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><CreateTime>1</CreateTime></xml>",
        "<xml> <List>\n<item><a>1</a></item><item>\t<![CDATA[]]]>\r\n</item>\n</List></xml>\n",
        "<xml></xml>",
        &depth(MAX_DEPTH),
        &nodes(simple::MAX_ELEMENTS),
        &format!("<xml><![CDATA[{0}]a{0}]]]]></xml>", "]".repeat(30)),
    ] {
        let any = xml::parse_any(text, MAX_NODES, Ends::OfElement).unwrap();
        assert_eq!(simple::parse(text, MAX_NODES), Some(any), "{text}");
    }
    assert_eq!(simple::parse(&nodes(3), 2), None);
    assert!(xml::parse_any(&nodes(simple::MAX_ELEMENTS + 1), MAX_NODES, Ends::OfElement).is_ok());
    for text in [depth(MAX_DEPTH + 1), nodes(MAX_NODES + 1), nodes(simple::MAX_ELEMENTS + 1)] {
        assert_eq!(simple::parse(&text, MAX_NODES), None);
    }
    for text in [depth(MAX_DEPTH + 1), nodes(MAX_NODES + 1)] {
        assert!(xml::parse_any(&text, MAX_NODES, Ends::OfElement).is_err());
    }
}

#[test]
fn json_becomes_a_tree() {
    for (text, expected) in [
        ("{}", "{}"),
        (" \r\n{ \"a\" : 1 } ", r#"{"a":1}"#),
        (r#"{"a":[1,"2",true,null,[],{}]}"#, r#"{"a":[1,"2",true,null,[],{}]}"#),
        (
            r#"{"a":9223372036854775807,"b":9223372036854775808}"#,
            r#"{"a":9223372036854775807,"b":9223372036854775808}"#,
        ),
        (r#"{"a":-1,"b":0.5,"c":4294967295}"#, r#"{"a":-1,"b":0.5,"c":4294967295}"#),
        // To the last digit, which a quick reader of numbers gets wrong.
        (r#"{"a":4444444444444440000000000000000000000850116270.32}"#, r#"{"a":4.44444444444444e+45}"#),
        (r#"{"\u0061":"\ud83d\ude00\n"}"#, r#"{"a":"😀\n"}"#),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":[1,3],"b":2}"#),
        (r#"{"":""}"#, r#"{"":""}"#),
        (r#"{"a":"\u0000"}"#, r#"{"a":"\u0000"}"#),
    ] {
        assert_eq!(json(Form::Json, text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn json_that_is_no_object_is_refused() {
    for text in ["[]", "[{}]", "1", "null", "\"a\"", "true"] {
        assert_eq!(json(Form::Json, text), Err(PayloadError::NotAnObject), "{text}");
    }
    for text in [
        "",
        "{",
        "{\"a\"",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1}{}",
        "{\"a\":1} x",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1/*c*/}",
        "\u{FEFF}{}",
    ] {
        let error = json(Form::Json, text).unwrap_err();
        assert!(matches!(error, PayloadError::Malformed { form: Form::Json, .. }), "{text}: {error}");
    }
}

/// An error is logged: what users wrote must not be in it.
#[test]
fn no_error_quotes_the_payload() {
    for (form, text) in [
        (Form::Xml, "<xml><hush>hush</hush2></xml>"),
        (Form::Xml, "<xml><a>&hush;</a></xml>"),
        (Form::Xml, "<xml><a hush"),
        (Form::Xml, "<!DOCTYPE hush><xml/>"),
        (Form::Json, "{\"hush\":hush}"),
        (Form::Json, "{\"a\":\"hush\" \"hush\"}"),
        (Form::Json, "[\"hush\"]"),
    ] {
        let error = parse(form, text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn depth_and_size_are_limited_to_the_last_one() {
    let xml = |depth: usize| format!("{}1{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let lists = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    for (form, nested) in [
        (Form::Xml, &xml as &dyn Fn(usize) -> String),
        (Form::Json, &objects as &dyn Fn(usize) -> String),
        (Form::Json, &lists as &dyn Fn(usize) -> String),
    ] {
        assert!(parse(form, &nested(MAX_DEPTH)).is_ok(), "{form:?}");
        for depth in [MAX_DEPTH + 1, 100, 1000, 100_000] {
            assert_eq!(json(form, &nested(depth)), Err(PayloadError::TooDeep), "{form:?} {depth}");
        }
    }
    // The root is a value, too.
    let many = |count: usize| format!("<xml>{}</xml>", "<a/>".repeat(count - 1));
    assert!(parse(Form::Xml, &many(MAX_NODES)).is_ok());
    assert_eq!(json(Form::Xml, &many(MAX_NODES + 1)), Err(PayloadError::TooMany(MAX_NODES)));
    // The root, the list, and its items.
    let many = |count: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(count - 3));
    assert!(parse(Form::Json, &many(MAX_NODES)).is_ok());
    assert_eq!(json(Form::Json, &many(MAX_NODES + 1)), Err(PayloadError::TooMany(MAX_NODES)));
}

/// What is no element and takes time all the same has the limit of the elements, and an envelope a narrower one.
#[test]
fn sections_references_comments_and_fractions_count() {
    // Behind the last section there is text: so each of them has an end.
    let xml = |unit: &str, count: usize| format!("<xml><a>x{}x</a></xml>", unit.repeat(count));
    for (unit, first) in [("&amp;", 0), ("&#65;", 0), ("<!---->", 0), ("<?a?>", 0), ("<![CDATA[ ]]>", 1)] {
        for (parse, most) in [(parse as Parse, MAX_NODES), (parse_envelope as Parse, MAX_ENVELOPE_NODES)] {
            let read = |count| parse(Form::Xml, &xml(unit, count)).map(|tree| payload_text(&tree).len());
            let text = read(most - 2 + first).unwrap_or_else(|error| panic!("{unit}: {error}"));
            assert!(text == 2 || text >= most - 2, "{unit}: {text}");
            assert_eq!(read(most - 1 + first), Err(PayloadError::TooMany(most)), "{unit}");
        }
    }
    let json = |unit: &str, count: usize| format!("{{\"a\":[{}]}}", vec![unit; count].join(","));
    for (unit, nodes) in
        [("0.5", json::FLOAT_NODES), ("1e9", json::FLOAT_NODES), ("18446744073709551616", json::FLOAT_NODES), ("7", 1)]
    {
        let most = (MAX_ENVELOPE_NODES - 2) / nodes;
        assert!(parse_envelope(Form::Json, &json(unit, most)).is_ok(), "{unit}");
        let more = parse_envelope(Form::Json, &json(unit, most + 1)).map(|_| ());
        assert_eq!(more, Err(PayloadError::TooMany(MAX_ENVELOPE_NODES)), "{unit}");
    }
}

type Parse = for<'t> fn(Form, &'t str) -> Result<Value<'t>, PayloadError>;

fn payload_text(tree: &Value<'_>) -> String {
    tree.as_object().and_then(|object| object.text("a")).unwrap_or_default().to_owned()
}

/// One section of spaces was looked through again for each section behind it.
#[test]
fn sections_behind_one_of_spaces_are_joined() {
    let text = format!(
        "<xml><a> <![CDATA[{}]]> {}</a></xml>",
        " ".repeat(3_000),
        "<![CDATA[]]><![CDATA[b]]>\n".repeat(300) + "x"
    );
    let tree = parse(Form::Xml, &text).unwrap();
    assert_eq!(payload_text(&tree), format!("{}{}\nx", " ".repeat(3_000), "b".repeat(300)));
}

#[test]
fn a_long_object_is_as_a_short_one() {
    for count in [1, index::FEW - 1, index::FEW, index::FEW + 1, 500] {
        let mut object = Object::default();
        (0..count).for_each(|at| object.push(format!("name{at}"), Value::Number(Number::Int(at as i64))));
        object.push("name0", Value::Null);
        object.append(Object::default());
        object.set("last", Value::Bool(true));
        object.set("name0", Value::Bool(false));
        let mut hint = count;
        assert_eq!(object.read("name0", &mut hint), Some(&Value::Bool(false)));
        assert_eq!(object.read_all("name0").collect::<Vec<_>>(), [&Value::Bool(false), &Value::Null]);
        assert_eq!(object.read_all("name").count(), 0);
        assert_eq!((object.get("last"), object.get("none")), (Some(&Value::Bool(true)), None));
        let copy = object.clone();
        assert_eq!(copy, object);
        assert_eq!(copy.get("last"), Some(&Value::Bool(true)));
        let json: serde_json::Value = serde_json::from_str(&write_json(&object)).unwrap();
        assert_eq!(json["name0"], serde_json::json!([false, null]));
        assert_eq!(json.as_object().unwrap().len(), count + 1);
        let unread = Value::Object(object).unread();
        assert_eq!(unread.len(), count, "all but the one that was read: {unread:?}");
    }
}

/// A number is short, however large it is; what is written reads as the same.
#[test]
fn a_number_is_written_short() {
    for (number, written) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (0.5, "0.5"),
        (1e-7, "0.0000001"),
        (9.9e-8, "9.9e-8"),
        (1e20, "100000000000000000000"),
        (1e21, "1e21"),
        (-1.797_693_134_862_315_7e308, "-1.7976931348623157e308"),
        (5e-324, "5e-324"),
    ] {
        let text = Number::Float(number).to_string();
        assert_eq!(text, written);
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
    }
}

#[test]
fn what_nobody_reads_is_told_by_its_path() {
    let tree = parse(Form::Json, r#"{"a":1,"b":{"c":1,"d":2},"e":[{"f":1,"g":2},{"f":1,"g":2}]}"#).unwrap();
    assert_eq!(tree.unread(), ["a", "b", "e"]);
    let Value::Object(object) = &tree else { panic!("no object") };
    let read = |object: &Object<'_>, name: &str| assert!(object.read(name, &mut 0).is_some(), "{name}");
    read(object, "a");
    read(object, "b");
    read(object.get("b").and_then(Value::as_object).unwrap(), "c");
    read(object, "e");
    let Some(Value::List(items)) = object.get("e") else { panic!("no list") };
    items.iter().for_each(|item| read(item.as_object().unwrap(), "f"));
    assert_eq!(tree.unread(), ["b.d", "e[].g"]);
    tree.read_whole();
    assert_eq!(tree.unread(), [""; 0]);
}

#[test]
fn members_are_replaced_and_reached() {
    let mut object = Object::default();
    object.set("a", Value::Null);
    object.push("b", Value::List(vec![Value::Object(Object::default()), Value::Null]));
    object.push("a", Value::Bool(true));
    object.set("a", Value::Bool(false));
    assert_eq!(object.get("a"), Some(&Value::Bool(false)));
    object.object_mut("b").unwrap().set("c", Value::Text("d".into()));
    assert!(object.object_mut("a").is_none());
    assert!(object.object_mut("c").is_none());
    assert_eq!(write_json(&object), r#"{"a":[false,true],"b":[{"c":"d"},null]}"#);
    assert_eq!((object.text("a"), object.text("z")), (None, None));
}

#[test]
fn xml_is_written_as_the_platforms_write_theirs() {
    for (text, expected) in [
        (r#"{"a":"x","b":1,"c":true,"d":null,"e":0.5}"#, "<a><![CDATA[x]]></a><b>1</b><c>true</c><d></d><e>0.5</e>"),
        (r#"{"l":["1",2,{"i":3}],"m":[]}"#, "<l><![CDATA[1]]></l><l>2</l><l><i>3</i></l>"),
        (r#"{"a":"]]>"}"#, "<a><![CDATA[]]]]><![CDATA[>]]></a>"),
        (r#"{"a":"]]]>]]>"}"#, "<a><![CDATA[]]]]]><![CDATA[>]]]]><![CDATA[>]]></a>"),
        (r#"{"a":"x\u0000\u0008\ufffe\uffffy\ufeff\t\r\n"}"#, "<a><![CDATA[xy\u{FEFF}\t\r\n]]></a>"),
        (r#"{"a":"]\u0000]\u0000>"}"#, "<a><![CDATA[]]]]><![CDATA[>]]></a>"),
        (r#"{"a":{}}"#, "<a></a>"),
    ] {
        let Ok(Value::Object(object)) = parse(Form::Json, text) else { panic!("{text}") };
        assert_eq!(write_xml(&object), format!("<xml>{expected}</xml>"), "{text}");
    }
}

fn value() -> impl Strategy<Value = Value<'static>> {
    let text = prop_oneof!["[\\PC\\s]{0,8}", "[\\]>\u{0}\u{1f}\u{FFFE}\u{FEFF}é]{0,6}", " *[0-9]{1,3} *"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(Number::Int(number))),
        (i64::MAX as u64 + 1..).prop_map(|number| Value::Number(Number::UInt(number))),
        (-8_000_i32..8_000).prop_map(|eighths| Value::Number(Number::Float(f64::from(eighths * 2 + 1) / 8.0))),
        text.prop_map(|text| Value::Text(Cow::Owned(text))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            object(inner).prop_map(Value::Object)
        ]
    })
}

fn object(value: impl Strategy<Value = Value<'static>>) -> impl Strategy<Value = Object<'static>> {
    // Only ids repeat.
    prop::collection::vec(("[a-c]id", value), 0..5).prop_map(|members| {
        let mut object = Object::default();
        members.into_iter().for_each(|(name, value)| object.push(name, value));
        object
    })
}

/// What XML keeps of an object: text, and repeated elements in the place of lists.
fn as_xml(object: &Object<'_>) -> Object<'static> {
    fn add(to: &mut Object<'static>, name: &str, value: &Value<'_>) {
        let text = match value {
            Value::List(items) => return items.iter().for_each(|item| add(to, name, item)),
            Value::Object(object) => {
                let object = as_xml(object);
                let value = if object.is_empty() { Value::Text("".into()) } else { Value::Object(object) };
                return to.push(name.to_owned(), value);
            }
            Value::Null => String::new(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.chars().filter(|character| write::is_xml_character(*character)).collect(),
        };
        to.push(name.to_owned(), Value::Text(text.into()));
    }
    let mut written = Object::default();
    object.iter().for_each(|(name, value)| add(&mut written, name, value));
    written
}

proptest! {
    #[test]
    fn written_xml_reads_back(object in object(value())) {
        let text = write_xml(&object);
        prop_assert_eq!(parse(Form::Xml, &text), Ok(Value::Object(as_xml(&object))), "{}", text);
    }

    #[test]
    fn written_json_reads_back(object in object(value())) {
        let text = write_json(&object);
        let read = parse(Form::Json, &text).unwrap();
        // Members of one name have become one list; from there on nothing changes.
        prop_assert_eq!(to_json(&read), text.as_str());
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&object).unwrap());
    }

    /// Where a search starts must not decide what it finds.
    #[test]
    fn the_hint_changes_no_answer(names in prop::collection::vec("[a-e]", 0..8), asked in prop::collection::vec("[a-f]", 0..12)) {
        let mut object = Object::default();
        for (at, name) in (0_i64..).zip(&names) {
            object.push(name.clone(), Value::Number(Number::Int(at)));
        }
        let mut hint = 0;
        for name in asked {
            prop_assert_eq!(object.read(&name, &mut hint), object.get(&name));
        }
    }

    #[test]
    fn no_text_panics(text in "(<[a-z!/?\\[\\]]{0,9}>?|&[#a-z0-9]{0,4};?|\\]\\]>|[ -~]{0,4}|\\PC){0,24}") {
        for form in [Form::Xml, Form::Json] {
            if let Some(repaired) = repair(form, &text) {
                prop_assert!(parse(form, &repaired).is_ok());
            }
            if let Ok(tree) = parse(form, &text) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&to_json(&tree)).is_ok());
            }
        }
    }
}
