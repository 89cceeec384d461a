#![allow(unreachable_pub, reason = "the macros make public types")]

use proptest::prelude::*;

use super::*;
use crate::payload::{self, Number};

wire! {
    pub struct Sample {
        pub text: String = "Text" | "text",
        pub maybe_text: Option<String> = "MaybeText",
        pub verbatim: String = verbatim "Verbatim",
        pub int: i64 = "Int",
        pub maybe_int: Option<i64> = "MaybeInt",
        pub uint: u64 = "UInt",
        pub float: Option<f64> = "Float",
        pub boolean: Option<bool> = "Bool",
        pub flag: bool = flag "Flag",
        pub maybe_flag: Option<bool> = flag "MaybeFlag",
        pub csv: Vec<String> = csv "Csv",
        pub maybe_csv: Option<Vec<String>> = csv "MaybeCsv",
        pub texts: Vec<String> = "Texts" | "TextList",
        pub ints: Vec<i64> = "Ints",
        pub maybe_ints: Vec<i64> = "MaybeInts" | "IntList",
        pub items: Vec<Item> = "Items",
        pub item: Item = "Item",
        pub maybe_item: Option<Item> = "MaybeItem",
        pub wrapped: Wrapped = wrapper "Wrapper",
        pub flat: Flat = flatten,
        pub color: Color = "Color",
        pub maybe_color: Option<Color> = "MaybeColor",
        pub code: Option<Code> = "Code",
        pub unions: Vec<Union> = "Unions",
        pub any: serde_json::Value = "Any",
    }

    pub struct Item {
        pub id: i64 = "Id",
    }

    pub struct Wrapped {
        pub inner: String = "Inner",
    }

    pub struct Flat {
        pub outer: Option<String> = "Outer",
    }
}

open_enum! {
    pub enum Color: str {
        Red = "red" | "rouge",
        Blue = "blue",
    }

    pub enum Code: i64 {
        One = 1,
        Two = 2 | 20,
    }
}

tagged! {
    pub enum Union: "Kind" / "Body" {
        Item(Item) = "item",
    }
}

fn read_as(form: Form, text: &str) -> (Result<Sample, Unreadable>, Vec<String>) {
    let tree = payload::parse(form, text).unwrap();
    let mut reading = Reading::new(form);
    let read = Sample::read(&tree, &mut reading);
    (read, reading.into_unreadable().iter().map(ToString::to_string).collect())
}

/// Reads members, which must be readable without a remark.
fn read(members: &str) -> Sample {
    let (read, unreadable) = read_as(Form::Json, &format!("{{{members}}}"));
    assert!(unreadable.is_empty(), "{members}: {unreadable:?}");
    read.unwrap_or_else(|error| panic!("{members}: {error}"))
}

fn xml(elements: &str) -> Sample {
    let (read, unreadable) = read_as(Form::Xml, &format!("<xml>{elements}</xml>"));
    assert!(unreadable.is_empty(), "{elements}: {unreadable:?}");
    read.unwrap_or_else(|error| panic!("{elements}: {error}"))
}

#[test]
fn an_absent_field_is_the_empty_value() {
    assert_eq!(read(""), Sample { any: serde_json::Value::Null, ..Sample::default() });
    let all = ["Text", "MaybeText", "Int", "MaybeInt", "Flag", "Csv", "Texts", "Items", "Item", "MaybeItem", "Wrapper"];
    let nulls: Vec<_> = all.iter().map(|name| format!("\"{name}\":null")).collect();
    assert_eq!(read(&nulls.join(",")), read(""));
    let empty: Vec<_> = all.iter().map(|name| format!("<{name}></{name}>")).collect();
    let empty = xml(&empty.join(""));
    let nothing: Vec<_> = ["MaybeInt", "Float", "Texts", "Items", "MaybeColor", "Code"]
        .iter()
        .flat_map(|name| [format!("\"{name}\":{{}}"), format!("\"{name}\":[]")])
        .collect();
    assert_eq!(read(r#""MaybeItem":{}"#).maybe_item, Some(Item::default()));
    assert_eq!(read(r#""MaybeItem":[]"#).maybe_item, None);
    nothing.iter().for_each(|members| assert_eq!(read(members), read(""), "{members}"));
    assert_eq!(empty, Sample { maybe_text: Some(String::new()), ..read("") }, "only text can be empty and there");
}

#[test]
fn text_is_read_from_every_scalar() {
    for (value, expected) in [
        (r#""a""#, "a"),
        ("12", "12"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.5", "1.5"),
        ("true", "true"),
        ("{}", ""),
        (r#"" a ""#, " a "),
    ] {
        assert_eq!(read(&format!("\"Text\":{value}")).text, expected, "{value}");
    }
    let spaced = xml("<Text>\n a b </Text><Verbatim> a </Verbatim><MaybeText><![CDATA[ x ]]></MaybeText>");
    assert_eq!((spaced.text.as_str(), spaced.verbatim.as_str()), ("a b", " a "));
    assert_eq!(spaced.maybe_text.as_deref(), Some("x"));
    assert_eq!(read(r#""text":"other spelling""#).text, "other spelling");
    assert_eq!(read(r#""text":"other","Text":"first""#).text, "first");
}

#[test]
fn whole_numbers_are_read_from_text() {
    for (value, expected) in [
        ("7", 7),
        ("-7", -7),
        ("7.0", 7),
        (r#""7""#, 7),
        (r#"" 7\n""#, 7),
        (r#""7.00""#, 7),
        (r#""-9223372036854775808""#, i64::MIN),
        (r#""""#, 0),
        (r#"" ""#, 0),
        ("{}", 0),
        ("true", 1),
    ] {
        assert_eq!(read(&format!("\"Int\":{value}")).int, expected, "{value}");
    }
    assert_eq!(read(r#""UInt":18446744073709551615"#).uint, u64::MAX);
    assert_eq!(read(r#""UInt":"4294967295""#).uint, 4_294_967_295);
    assert_eq!(read(r#""MaybeInt":"""#).maybe_int, None);
    assert_eq!(read(r#""MaybeInt":"0""#).maybe_int, Some(0));
}

#[test]
fn numbers_booleans_and_flags() {
    for (value, expected) in [("0.5", 0.5), (r#""0.5""#, 0.5), ("2", 2.0), (r#"" -1e3 ""#, -1000.0)] {
        assert_eq!(read(&format!("\"Float\":{value}")).float, Some(expected), "{value}");
    }
    for (value, expected) in [
        ("true", true),
        ("false", false),
        ("1", true),
        ("0", false),
        (r#""1""#, true),
        ("3", true),
        (r#""-1""#, true),
        ("0.0", false),
        (r#""TRUE""#, true),
        (r#"" False ""#, false),
    ] {
        let read = read(&format!("\"Bool\":{value},\"Flag\":{value},\"MaybeFlag\":{value}"));
        assert_eq!((read.boolean, read.flag, read.maybe_flag), (Some(expected), expected, Some(expected)), "{value}");
    }
}

#[test]
fn lists_come_in_every_way() {
    for members in [r#""Texts":["a","b"]"#, r#""Texts":"a","Texts":"b""#, r#""Texts":["a"],"TextList":["b"]"#] {
        assert_eq!(read(members).texts, ["a", "b"], "{members}");
    }
    assert_eq!(read(r#""Texts":"one""#).texts, ["one"]);
    assert_eq!(read(r#""Ints":["1",2,3.0]"#).ints, [1, 2, 3]);
    assert_eq!(xml("<Ints>1</Ints><Text>a</Text><Ints> 2 </Ints>").ints, [1, 2]);
    assert_eq!(read(r#""MaybeInts":[1],"IntList":"2""#).maybe_ints, [1, 2]);
    assert!(read(r#""MaybeInts":null"#).maybe_ints.is_empty());
    assert_eq!(read(r#""Items":{"Id":1}"#).items, [Item { id: 1 }]);
    assert_eq!(read(r#""Item":[{"Id":1}],"MaybeItem":[]"#).item, Item { id: 1 });
    for (value, expected) in
        [(r#""a,b""#, &["a", "b"][..]), (r#"" a , ,b,""#, &["a", "b"]), (r#"["a","b"]"#, &["a", "b"]), (r#""""#, &[])]
    {
        assert_eq!(read(&format!("\"Csv\":{value}")).csv, expected, "{value}");
    }
}

#[test]
fn an_optional_list_of_text_may_be_absent() {
    for (value, expected) in [
        (r#""a,b""#, Some(vec!["a", "b"])),
        (r#"["a, b","c"]"#, Some(vec!["a", "b", "c"])),
        (r#""""#, None),
        ("[]", None),
    ] {
        let expected = expected.map(|items| items.into_iter().map(str::to_owned).collect());
        assert_eq!(read(&format!("\"MaybeCsv\":{value}")).maybe_csv, expected, "{value}");
    }
}

#[test]
fn what_xml_wraps_json_does_not() {
    assert_eq!(read(r#""Inner":"x","Outer":"y""#), read(r#""Wrapper":{"Inner":"x"},"Outer":"y""#));
    assert_eq!(xml("<Wrapper><Inner>x</Inner></Wrapper>").wrapped.inner, "x");
    assert_eq!(xml("<Wrapper></Wrapper>").wrapped.inner, "");
}

#[test]
fn values_that_are_not_listed_are_kept() {
    for (value, expected) in [
        (r#""red""#, Color::Red),
        (r#"" rouge ""#, Color::Red),
        (r#""RED""#, Color::Unknown("RED".into())),
        ("7", Color::Unknown("7".into())),
    ] {
        assert_eq!(read(&format!("\"Color\":{value}")).color, expected, "{value}");
    }
    assert_eq!((Color::Red.as_str(), Color::from("green").as_str()), ("red", "green"));
    for (value, expected) in [("1", Code::One), (r#""20""#, Code::Two), ("-5", Code::Unknown(-5))] {
        assert_eq!(read(&format!("\"Code\":{value}")).code, Some(expected), "{value}");
    }
    assert_eq!((Code::Two.code(), Code::Unknown(9).code()), (2, 9));
    assert_eq!(read(r#""Any":{"a":[1,"b",null]}"#).any, serde_json::json!({ "a": [1, "b", null] }));
}

#[test]
fn an_item_that_cannot_be_read_as_what_it_says_is_kept_whole() {
    use serde_json::{Value::Null, json};
    let unknown = |tag: &str, content| Union::Unknown { tag: tag.into(), content };
    for (item, expected, unreadable) in [
        (r#"{"Kind":"item","Body":{"Id":1}}"#, Union::Item(Item { id: 1 }), ""),
        (r#"{"Kind":"new","Body":{"a":[1]}}"#, unknown("new", json!({ "a": [1] })), ""),
        (r#"{"Kind":"item","Body":{"Id":"x","y":1}}"#, unknown("item", json!({ "Id": "x", "y": 1 })), "Unions.Body.Id"),
        (r#"{"Kind":"item","Body":"text"}"#, unknown("item", json!("text")), "Unions.Body"),
        (r#"{"Kind":"item","Body":[1]}"#, unknown("item", json!([1])), "Unions.Body"),
        (r#"{"Kind":"item","x":1}"#, unknown("", json!({ "Kind": "item", "x": 1 })), ""),
        (r#"{"Kind":7,"Body":{"Id":1}}"#, unknown("", json!({ "Kind": 7, "Body": { "Id": 1 } })), ""),
        (r#""text""#, unknown("", json!("text")), ""),
        ("[[]]", unknown("", json!([[]])), ""),
        ("{}", unknown("", json!({})), ""),
        ("null", unknown("", Null), ""),
    ] {
        let (read, paths) =
            read_as(Form::Json, &format!(r#"{{"Unions":[{item},{{"Kind":"item","Body":{{"Id":2}}}}]}}"#));
        let read = read.unwrap();
        assert_eq!(read.unions, [expected, Union::Item(Item { id: 2 })], "{item}");
        assert!(paths.iter().all(|path| path.starts_with(&format!("`{unreadable}` is not "))), "{item}: {paths:?}");
        assert_eq!(paths.is_empty(), unreadable.is_empty(), "{item}: {paths:?}");
        let written = read.write().unwrap();
        let items = &serde_json::to_value(&written).unwrap()["Unions"];
        assert_eq!(items[0], serde_json::from_str::<serde_json::Value>(item).unwrap(), "as it came");
    }
}

#[test]
fn what_is_kept_is_not_lost() {
    for (members, expected) in [
        (r#""Unions":[{"Kind":"item","Body":{"Id":"x"}}]"#, false),
        (r#""Unions":"text""#, false),
        (r#""Any":[1]"#, false),
        (r#""Int":"x""#, true),
        (r#""Int":"x","Unions":[{"Kind":"item","Body":{"Id":"x"}}]"#, true),
        (r#""Items":[7]"#, true),
    ] {
        let text = format!("{{{members}}}");
        let mut reading = Reading::new(Form::Json);
        Sample::read(&payload::parse(Form::Json, &text).unwrap(), &mut reading).unwrap();
        assert_eq!(reading.has_lost(), expected, "{members}");
    }
}

#[test]
fn a_field_of_another_shape_is_absent_and_named() {
    for (members, path) in [
        (r#""MaybeText":{"a":1}"#, "`MaybeText` is not text"),
        (r#""MaybeText":["a"]"#, "`MaybeText` is not text"),
        (r#""MaybeInt":"many""#, "`MaybeInt` is not a whole number"),
        (r#""MaybeInt":1.5"#, "`MaybeInt` is not a whole number"),
        (r#""MaybeInt":9223372036854775808"#, "`MaybeInt` is not a whole number"),
        (r#""Float":"NaN""#, "`Float` is not a number"),
        (r#""Float":"inf""#, "`Float` is not a number"),
        (r#""Bool":1.5"#, "`Bool` is not true or false"),
        (r#""MaybeFlag":"yes""#, "`MaybeFlag` is not a flag"),
        (r#""MaybeItem":"text""#, "`MaybeItem` is not an object"),
        (r#""MaybeItem":[{},{}]"#, "`MaybeItem` is not an object"),
        (r#""Code":"x""#, "`Code` is not a whole number"),
        (r#""MaybeInts":{"a":1}"#, "`MaybeInts` is not a whole number"),
        (r#""Text":{"a":1}"#, "`Text` is not text"),
        (r#""text":[]"#, "`Text` is not text"),
        (r#""Int":"hush""#, "`Int` is not a whole number"),
        (r#""UInt":-1"#, "`UInt` is not a whole number from 0"),
        (r#""Flag":[]"#, "`Flag` is not a flag"),
        (r#""Csv":{"a":1}"#, "`Csv` is not text"),
        (r#""Csv":[{"a":1}]"#, "`Csv` is not text"),
        (r#""Texts":[{"a":1}]"#, "`Texts` is not text"),
        (r#""Items":7"#, "`Items` is not an object"),
        (r#""Item":"text""#, "`Item` is not an object"),
        (r#""Wrapper":{"Inner":[1]}"#, "`Wrapper.Inner` is not text"),
        (r#""Wrapper":"text""#, "`Wrapper` is not an object"),
        (r#""Color":{"a":1}"#, "`Color` is not text"),
    ] {
        let (read, unreadable) = read_as(Form::Json, &format!("{{{members}}}"));
        assert_eq!(read.unwrap(), self::read(""), "{members}");
        assert_eq!(unreadable, [path], "{members}");
    }
}

#[test]
fn what_stands_beside_it_is_read() {
    let read = |members: &str| {
        let (read, unreadable) = read_as(Form::Json, &format!(r#"{{{members},"Text":"a"}}"#));
        let read = read.unwrap();
        assert_eq!(read.text, "a");
        (read, unreadable)
    };
    let (sample, unreadable) = read(r#""Items":[{"Id":1},{"Id":"x"},7,{"Id":4},{"Id":"y"},"z"]"#);
    assert_eq!(sample.items, [1, 0, 4, 0].map(|id| Item { id }), "a field of an item, or the item");
    assert_eq!(unreadable, ["`Items.Id` is not a whole number", "`Items` is not an object"], "each once");
    let (sample, unreadable) = read(r#""MaybeInts":[1,"x",3],"IntList":{"a":1}"#);
    assert_eq!((sample.maybe_ints, unreadable.len()), (vec![1, 3], 1));
    let (sample, unreadable) = read(r#""MaybeItem":{"Id":"x"}"#);
    assert_eq!(sample.maybe_item, Some(Item { id: 0 }));
    assert_eq!(unreadable, ["`MaybeItem.Id` is not a whole number"]);
}

#[test]
fn what_is_no_object_is_no_event() {
    for value in [Value::Text("hush".into()), Value::Bool(true), Value::List(vec![Value::Null, Value::Null])] {
        let error = Sample::read(&value, &mut Reading::new(Form::Json)).unwrap_err();
        assert_eq!(error.to_string(), "the event is not an object");
    }
}

/// Any value that a payload can have.
fn any_value() -> impl Strategy<Value = Value<'static>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(Number::Int(number))),
        any::<f64>().prop_filter("JSON", |number| number.is_finite()).prop_map(|it| Value::Number(Number::Float(it))),
        "( ?[0-9]{1,4}(\\.0)?|[a-z,]{0,4}| |true|red|item)".prop_map(|text| Value::Text(text.into())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let names = prop_oneof![Just("Id"), Just("Inner"), Just("Kind"), Just("Body"), Just("x")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            prop::collection::vec((names, inner), 0..3).prop_map(|members| {
                let mut object = Object::default();
                members.into_iter().for_each(|(name, value)| object.push(name, value));
                Value::Object(object)
            })
        ]
    })
}

const NAMES: [&str; 23] = [
    "Text",
    "MaybeText",
    "Verbatim",
    "Int",
    "MaybeInt",
    "UInt",
    "Float",
    "Bool",
    "Flag",
    "MaybeFlag",
    "Csv",
    "Texts",
    "TextList",
    "Ints",
    "Items",
    "Item",
    "MaybeItem",
    "Wrapper",
    "Color",
    "MaybeColor",
    "Code",
    "Unions",
    "Any",
];

proptest! {
    /// Whatever the wire has, it is read or refused; and what was read is written so that it reads the same again.
    #[test]
    fn what_was_read_is_stable(members in prop::collection::vec((0..NAMES.len(), any_value()), 0..6), is_xml: bool) {
        let form = if is_xml { Form::Xml } else { Form::Json };
        let mut object = Object::default();
        members.into_iter().for_each(|(name, value)| object.push(NAMES[name], value));
        if let Ok(first) = Sample::read(&Value::Object(object), &mut Reading::new(form)) {
            let written = first.write().unwrap();
            let mut reading = Reading::new(form);
            let second = Sample::read(&written, &mut reading).unwrap();
            prop_assert_eq!(reading.into_unreadable(), []);
            prop_assert_eq!(&second, &first, "{}", payload::to_json(&written));
            prop_assert_eq!(written.unread(), [""; 0], "it reads all that it writes");
        }
    }
}
