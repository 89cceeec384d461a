//! The catalogue, proven: every sample is its own type, nothing is lost or invented, and the generated code is current.

use std::{collections::BTreeMap, fs, path::Path, sync::LazyLock};

use echostr::{
    event::{self, Platform},
    events::mp,
    hooks::Hooks,
    payload::{self, Form, Number, Object, Value},
    platform,
    simulate::Push,
};
use serde_json::Value as Json;

use crate::support::{
    NOW, TestServer,
    platform::Signed,
    server::{ACCOUNTS, BOT, IM, KF, MINI, MP, OPEN, SUITE, WECOM},
};

pub(crate) const PLATFORMS: [(Platform, usize); 8] = [
    (Platform::Mp, 85),
    (Platform::MiniProgram, 186),
    (Platform::OpenPlatform, 17),
    (Platform::WeCom, 168),
    (Platform::WeComSuite, 101),
    (Platform::WeComKf, 24),
    (Platform::WeComBot, 11),
    (Platform::Im, 85),
];

/// Where a payload goes, and as what.
fn delivery(platform: Platform, form: Form, payload: &str, command: Option<&str>) -> (&'static str, Signed) {
    match (platform, form) {
        (Platform::Mp, _) => ("/mp/shop", MP.safe(payload, "n")),
        (Platform::MiniProgram, Form::Xml) => ("/miniprogram/game", MINI.safe(payload, "n")),
        (Platform::MiniProgram, Form::Json) => ("/miniprogram/game", MINI.safe_json(payload, "n")),
        (Platform::OpenPlatform, _) => ("/openplatform/agency", OPEN.safe(payload, "n")),
        (Platform::WeCom, _) => ("/wecom/sales", WECOM.safe(payload, "n")),
        (Platform::WeComSuite, Form::Xml) => ("/wecom_suite/crm", SUITE.safe(payload, "n")),
        (Platform::WeComSuite, Form::Json) => ("/wecom_suite/crm", SUITE.safe_json(payload, "n")),
        (Platform::WeComKf, _) => ("/wecom_kf/support", KF.safe_json(payload, "n")),
        (Platform::WeComBot, _) => ("/wecom_bot/helper", BOT.safe_bot(payload, "n")),
        _ => ("/im/chat", IM.command(command.unwrap(), payload)),
    }
}

/// A sample as the catalogue has it.
pub(crate) struct Sample {
    pub(crate) platform: Platform,
    pub(crate) id: String,
    pub(crate) form: Form,
    pub(crate) text: String,
}

impl Sample {
    pub(crate) fn tree(&self) -> Value<'_> {
        payload::parse(self.form, self.text.trim()).unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (platform, _) in PLATFORMS {
        for entry in echostr::catalog::entries(platform).unwrap() {
            let more = entry.samples_more.iter().map(String::as_str);
            for text in entry.sample_xml.as_deref().into_iter().chain(entry.sample_json.as_deref()).chain(more) {
                let form = if text.trim_start().starts_with('<') { Form::Xml } else { Form::Json };
                samples.push(Sample { platform, id: entry.id.clone(), form, text: text.to_owned() });
            }
        }
    }
    samples
}

#[test]
fn the_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, expected) in xtask::generate().unwrap() {
        let found = fs::read_to_string(root.join(&file)).unwrap_or_default();
        assert!(found == expected, "{file} is stale: run `cargo run -p xtask`");
    }
}

#[test]
fn every_entry_has_a_row() {
    let mut total = 0;
    for (platform, count) in PLATFORMS {
        let entries = echostr::catalog::entries(platform).unwrap();
        let of_fork = entries.iter().filter(|entry| entry.is_of_fork).count();
        assert_eq!(entries.len(), count + of_fork, "{platform}");
        assert_eq!(event::table(platform).events.len(), count + of_fork, "{platform}");
        total += count + of_fork;
        for entry in entries {
            let spec = event::by_id(&entry.id).unwrap_or_else(|| panic!("{} has no row", entry.id));
            assert_eq!((spec.rust_type, spec.family), (entry.type_name.as_str(), entry.family.as_str()));
        }
    }
    assert_eq!(event::all().count(), total);
}

#[test]
fn every_sample_is_its_own_type_without_unknown_fields() {
    let mut wrong = Vec::new();
    for sample in samples() {
        let tree = sample.tree();
        let Some(spec) = platform::identify(sample.platform, &tree, None).spec else {
            wrong.push(format!("{}: not identified", sample.id));
            continue;
        };
        if spec.id != sample.id {
            wrong.push(format!("{}: identified as {}", sample.id, spec.id));
        }
        for event in platform::events_of(&tree, Some(spec)) {
            match spec.decode(event, sample.form) {
                Ok(decoded) if decoded.unreadable.is_empty() => {
                    wrong.extend(event.unread().iter().map(|path| format!("{}: unknown field {path}", sample.id)));
                }
                Ok(decoded) => wrong.push(format!("{}: {:?}", sample.id, decoded.unreadable)),
                Err(error) => wrong.push(format!("{}: {error}", sample.id)),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_lost_or_invented() {
    let mut wrong = Vec::new();
    let spellings = spellings();
    for sample in samples() {
        let tree = sample.tree();
        let spec = event::by_id(&sample.id).unwrap();
        for event in platform::events_of(&tree, Some(spec)) {
            let written = spec.decode(event, sample.form).unwrap().to_value();
            let (before, after) = (leaves(event), leaves(&written));
            let lost = losses(&before, &after, &spellings[&sample.id]);
            wrong.extend(lost.into_iter().map(|fault| format!("{}: {fault}", sample.id)));
            let before: BTreeMap<String, String> =
                before.into_iter().map(|(path, value)| (spelled(&path, &spellings[&sample.id]), value)).collect();
            let known: Vec<String> = before.keys().map(|path| wrapped(path, &after)).collect();
            for path in after.keys().filter(|path| !before.contains_key(*path) && !known.contains(path)) {
                wrong.push(format!("{}: {path} is invented", sample.id));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What was there `before` and is not, or not the same, `after`. Another spelling is written back in the right one.
pub(crate) fn losses(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    spellings: &[(String, String)],
) -> Vec<String> {
    let mut lost = Vec::new();
    for (path, value) in before {
        let path = spelled(path, spellings);
        match after.get(&path).or_else(|| after.get(&wrapped(&path, after))) {
            Some(other) if same(value, other) => {}
            Some(other) => lost.push(format!("{path} was {value:?} and is {other:?}")),
            None => lost.push(format!("{path} is lost")),
        }
    }
    lost
}

/// Of each event, the other spellings of its fields with the right ones.
pub(crate) fn spellings() -> BTreeMap<String, Vec<(String, String)>> {
    let of_fields = |fields: &[echostr_catalog::Field]| -> Vec<(String, String)> {
        let of_field = |field: &echostr_catalog::Field| {
            field.aliases.iter().map(|alias| (alias.clone(), field.name.clone())).collect::<Vec<_>>()
        };
        fields.iter().flat_map(of_field).collect()
    };
    let mut spellings = BTreeMap::new();
    for (_, catalogue) in catalogues() {
        for entry in catalogue.event {
            let variant = entry.envelope_variant.as_ref().map(|name| &catalogue.envelope.variants[name]);
            let envelope = variant.map_or(&catalogue.envelope.fields, |variant| &variant.fields);
            spellings.insert(entry.id, [of_fields(&entry.fields), of_fields(envelope)].concat());
        }
    }
    spellings
}

pub(crate) fn catalogues() -> Vec<(Platform, echostr_catalog::Catalog)> {
    PLATFORMS.map(|(platform, _)| (platform, echostr_catalog::platform(platform.as_str()).unwrap())).into()
}

fn spelled(path: &str, spellings: &[(String, String)]) -> String {
    let parts = path.split('.').map(|part| {
        let (name, index) = part.split_at(part.find('[').unwrap_or(part.len()));
        let right = spellings.iter().find(|(other, _)| other == name).map_or(name, |(_, right)| right);
        format!("{right}{index}")
    });
    parts.collect::<Vec<_>>().join(".")
}

#[test]
fn xml_and_json_give_the_same_event() {
    let mut both = 0;
    for (platform, _) in PLATFORMS {
        for entry in echostr::catalog::entries(platform).unwrap() {
            let (Some(xml), Some(json)) = (&entry.sample_xml, &entry.sample_json) else { continue };
            assert_eq!(typed(&entry.id, Form::Xml, xml), typed(&entry.id, Form::Json, json), "{}", entry.id);
            both += 1;
        }
    }
    assert!(both > 80, "{both}");
}

#[test]
fn every_event_is_the_same_in_either_form() {
    for sample in samples() {
        let tree = sample.tree();
        let spec = event::by_id(&sample.id).unwrap();
        for event in platform::events_of(&tree, Some(spec)) {
            let written = spec.decode(event, sample.form).unwrap().to_value();
            let Value::Object(object) = &written else { panic!("{} is no object", sample.id) };
            let (xml, json) = (payload::write_xml(object), payload::write_json(object));
            if sample.platform != Platform::Im {
                assert_eq!(typed(&sample.id, Form::Xml, &xml), leaves(&written), "{}", sample.id);
            }
            assert_eq!(typed(&sample.id, Form::Json, &json), leaves(&written), "{}", sample.id);
        }
    }
}

/// A copy whose scalars are text, as in XML.
fn as_text(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Object(object) => {
            let mut copy = Object::default();
            object.iter().for_each(|(name, value)| copy.push(name.to_owned(), as_text(value)));
            Value::Object(copy)
        }
        Value::List(items) => Value::List(items.iter().map(as_text).collect()),
        Value::Number(number) => Value::Text(number.to_string().into()),
        Value::Bool(flag) => Value::Text(flag.to_string().into()),
        other => owned(other),
    }
}

/// The JSON form that is stored and handed on does not depend on the form an event came in.
#[test]
fn every_event_has_one_json_form() {
    for sample in samples() {
        let tree = sample.tree();
        let spec = event::by_id(&sample.id).unwrap();
        for event in platform::events_of(&tree, Some(spec)) {
            let decoded = spec.decode(event, sample.form).unwrap();
            let view = leaves(&decoded.view(event));
            let values = leaves(&decoded.to_value());
            for (path, value) in &values {
                // The type names what it has read by the name of the catalogue.
                assert!(view.get(path).is_none_or(|found| found == value), "{}: {path}: {value}", sample.id);
            }
            let text = as_text(event);
            let again = spec.decode(&text, Form::Json).unwrap();
            let known = |view: BTreeMap<String, String>| -> BTreeMap<_, _> {
                view.into_iter().filter(|(path, _)| values.contains_key(path)).collect()
            };
            assert_eq!(known(leaves(&again.view(&text))), known(view), "{}", sample.id);
        }
    }
    let mut both = 0;
    for (platform, _) in PLATFORMS {
        for entry in echostr::catalog::entries(platform).unwrap() {
            let (Some(xml), Some(json)) = (&entry.sample_xml, &entry.sample_json) else { continue };
            let view = |form, text: &str| {
                let tree = payload::parse(form, text.trim()).unwrap();
                let decoded = event::by_id(&entry.id).unwrap().decode(&tree, form).unwrap();
                leaves(&decoded.view(&tree))
            };
            assert_eq!(view(Form::Xml, xml), view(Form::Json, json), "{}", entry.id);
            both += 1;
        }
    }
    assert!(both > 80, "{both}");
}

fn typed(id: &str, form: Form, text: &str) -> BTreeMap<String, String> {
    let tree = payload::parse(form, text.trim()).unwrap();
    leaves(&event::by_id(id).unwrap().decode(&tree, form).unwrap().to_value())
}

/// Every scalar by its path, items of lists by their number, empty values left out.
pub(crate) fn leaves(value: &Value<'_>) -> BTreeMap<String, String> {
    let json: Json = serde_json::to_value(value).unwrap();
    let mut found = BTreeMap::new();
    collect(&json, String::new(), &mut found);
    found
}

fn collect(value: &Json, path: String, found: &mut BTreeMap<String, String>) {
    match value {
        Json::Null => {}
        Json::Bool(flag) => drop(found.insert(path, u8::from(*flag).to_string())),
        Json::Number(number) => drop(found.insert(path, number.to_string())),
        Json::String(text) if text.trim().is_empty() => {}
        Json::String(text) => drop(found.insert(path, scalar(text.trim()))),
        // One item and a list of it are the same.
        Json::Array(items) if items.len() == 1 => collect(&items[0], path, found),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| collect(item, format!("{path}[{at}]"), found));
        }
        Json::Object(members) => members.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(value, path, found);
        }),
    }
}

/// XML writes a flag as text.
fn scalar(text: &str) -> String {
    match text {
        "true" => "1".to_owned(),
        "false" => "0".to_owned(),
        other => other.to_owned(),
    }
}

/// The path with the wrapper that only XML has.
fn wrapped(path: &str, after: &BTreeMap<String, String>) -> String {
    let end = format!(".{path}");
    after.keys().find(|other| other.ends_with(&end)).cloned().unwrap_or_default()
}

fn same(before: &str, after: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    let list = |text: &str| text.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    before == after
        || before.eq_ignore_ascii_case(after)
        || (number(before).is_some() && number(before) == number(after))
        || list(before) == list(after)
}

fn drifts() -> [Option<Value<'static>>; 8] {
    let mut object = Object::default();
    object.push("drift", Value::Text("x".into()));
    [
        None,
        Some(Value::Null),
        Some(Value::Text("".into())),
        Some(Value::Text("drift".into())),
        Some(Value::Number(Number::Float(1.5))),
        Some(Value::Bool(true)),
        Some(Value::List(vec![Value::Text("a".into()), Value::Object(Object::default())])),
        Some(Value::Object(object)),
    ]
}

fn without<'p>(object: &Object<'p>, name: &str) -> Object<'p> {
    let mut kept = Object::default();
    for (other, value) in object.iter().filter(|(other, _)| *other != name) {
        kept.push(other.to_owned(), value.clone());
    }
    kept
}

#[test]
fn the_tolerances_of_the_wire() {
    let read = |xml: &str| {
        let tree = payload::parse(Form::Xml, xml).unwrap();
        let spec = <mp::SubscribeMsgPopup as event::Event>::SPEC;
        spec.decode(&tree, Form::Xml).unwrap().downcast::<mp::SubscribeMsgPopup>().unwrap()
    };
    let one =
        read("<xml><SubscribeMsgPopupEvent><List><PopupScene> 2 </PopupScene></List></SubscribeMsgPopupEvent></xml>");
    let flat = read("<xml><List><PopupScene>2.0</PopupScene></List></xml>");
    assert_eq!(one, flat);
    assert_eq!(one.subscribe_msg_popup_event.list.len(), 1);
    assert_eq!(read("<xml><SubscribeMsgPopupEvent></SubscribeMsgPopupEvent></xml>").subscribe_msg_popup_event.list, []);
}

#[tokio::test]
async fn every_sample_is_taken_by_a_running_server() {
    let server = TestServer::start_with("", ACCOUNTS, Hooks::default()).await;
    let mut wrong = Vec::new();
    for (platform, _) in PLATFORMS {
        for entry in echostr::catalog::entries(platform).unwrap() {
            let push = Push::sample(&entry, None, &[], NOW).unwrap();
            let (path, signed) = delivery(platform, push.form, &push.payload, push.command.as_deref());
            let answer = server.post(path, &signed).await;
            if answer.status != 200 {
                wrong.push(format!("{}: {} {}", entry.id, answer.status, answer.body));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for (platform, _) in PLATFORMS {
        let account = match platform {
            Platform::Mp => "shop",
            Platform::MiniProgram => "game",
            Platform::WeCom => "sales",
            Platform::WeComKf => "support",
            Platform::OpenPlatform => "agency",
            Platform::WeComSuite => "crm",
            Platform::WeComBot => "helper",
            _ => "chat",
        };
        let line = format!(
            "echostr_deliveries_total{{platform=\"{platform}\",account=\"{account}\",outcome=\"acknowledged\",reason=\"unknown\"}}"
        );
        assert_eq!(server.metric(&line).await, 0.0, "{platform} acknowledged an event it does not know");
    }
}

pub(crate) fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Null => Value::Null,
        Value::Bool(flag) => Value::Bool(*flag),
        Value::Number(number) => Value::Number(*number),
        Value::Text(text) => Value::Text(text.clone().into_owned().into()),
        Value::List(items) => Value::List(items.iter().map(owned).collect()),
        Value::Object(object) => {
            let mut copy = Object::default();
            object.iter().for_each(|(name, value)| copy.push(name.to_owned(), owned(value)));
            Value::Object(copy)
        }
    }
}

/// Whatever an authentic request says, it is received.
#[tokio::test]
async fn a_payload_that_drifts_is_never_refused() {
    let server = TestServer::start(Hooks::default()).await;
    let mut posted = 0_usize;
    let samples = samples();
    for (at, sample) in samples.iter().enumerate() {
        let Value::Object(original) = sample.tree() else { continue };
        let names: Vec<String> = original.iter().map(|(name, _)| name.to_owned()).collect();
        // Every sample once, with another of its fields and another drift each time.
        let name = &names[at % names.len()];
        let changed = match &drifts()[at % drifts().len()] {
            Some(value) => {
                let mut changed = original.clone();
                changed.set(name, value.clone());
                changed
            }
            None => without(&original, name),
        };
        let payload = match sample.form {
            Form::Xml => payload::write_xml(&changed),
            Form::Json => payload::write_json(&changed),
        };
        let tree = sample.tree();
        let command = platform::identify(sample.platform, &tree, None).key.first().map(ToString::to_string);
        let (path, signed) = delivery(sample.platform, sample.form, &payload, command.as_deref());
        let answer = server.post(path, &signed).await;
        assert_eq!(answer.status, 200, "{} without its {name}: {}", sample.id, answer.body);
        posted += 1;
    }
    assert!(posted > 500, "{posted}");
}

/// Read once: a case of a property is short beside it.
static CATALOGUES: LazyLock<Vec<(Platform, echostr_catalog::Catalog)>> = LazyLock::new(catalogues);

proptest::proptest! {
    /// Any shape under the right names, for any type: no panic, and never an event that cannot be written.
    #[test]
    fn no_tree_panics_a_type(
        at: proptest::sample::Index,
        values in proptest::collection::vec(("\\PC{0,6}|[0-9]{1,20}(\\.0)?|[a-z,]{0,6}", 0_u8..7), 24),
        is_xml: bool,
    ) {
        let all: Vec<_> = event::all().collect();
        let spec = all[at.index(all.len())];
        let mut catalogues = CATALOGUES.iter();
        let (_, catalogue) = catalogues.find(|(platform, _)| *platform == spec.platform).unwrap();
        let entry = catalogue.event.iter().find(|entry| entry.id == spec.id).unwrap();
        let text = entry.sample_json.as_deref().or(entry.sample_xml.as_deref()).unwrap();
        let form = if text.trim_start().starts_with('<') { Form::Xml } else { Form::Json };
        let tree = payload::parse(form, text.trim()).unwrap();
        let mut values = values.iter().cycle();
        let changed = reshape(&tree, &mut values, 0);
        let form = if is_xml { Form::Xml } else { Form::Json };
        let identity = platform::identify(spec.platform, &changed, None);
        let _ = platform::subject(spec.platform, &changed);
        let _ = platform::dedupe_key(spec.platform, "a", identity.spec, &changed, "", &|_| None);
        for event in platform::events_of(&changed, Some(spec)) {
            if let Ok(decoded) = spec.decode(event, form) {
                let written = payload::to_json(&decoded.to_value());
                proptest::prop_assert!(payload::parse(Form::Json, &written).is_ok(), "{}", written);
            }
        }
    }
}

/// The same names with other values.
fn reshape<'s>(value: &Value<'_>, values: &mut impl Iterator<Item = &'s (String, u8)>, depth: usize) -> Value<'static> {
    let Some((text, kind)) = values.next() else { return Value::Null };
    match (value, kind) {
        (_, 0) if depth > 0 => Value::Null,
        (_, 1) if depth > 0 => Value::Text(text.clone().into()),
        (_, 2) if depth > 0 => Value::Number(text.parse().map_or(Number::Float(0.5), Number::Int)),
        (_, 3) if depth > 0 => Value::List(vec![owned(value), Value::Text(text.clone().into())]),
        (Value::Object(object), _) => {
            let mut copy = Object::default();
            for (name, value) in object.iter() {
                copy.push(name.to_owned(), reshape(value, values, depth + 1));
            }
            Value::Object(copy)
        }
        (Value::List(items), _) => Value::List(items.iter().map(|item| reshape(item, values, depth + 1)).collect()),
        (_, 4) => Value::Object(Object::default()),
        (other, _) => owned(other),
    }
}
