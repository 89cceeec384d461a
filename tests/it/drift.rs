//! Platforms change fields without a word. Every field of every sample is removed, emptied and given every other shape:
//! nothing panics, no event is lost, and a field costs nothing but itself.

use std::collections::BTreeMap;

use echostr::{
    catalog::{Catalog, Entry, Field},
    event::{self, EventSpec, Platform},
    payload::{self, Form, Number, Object, Value},
    platform,
};

use crate::catalogue::{Sample, catalogues, leaves, owned, samples};

/// What a field becomes; `None`: it is gone.
fn drifts() -> Vec<Option<Value<'static>>> {
    let mut object = Object::default();
    object.push("drift", Value::Text("x".into()));
    let text = || Value::Text("drift".into());
    vec![
        None,
        Some(Value::Null),
        Some(Value::Text("".into())),
        Some(text()),
        Some(Value::Number(Number::Int(-7))),
        Some(Value::Number(Number::Float(1.5))),
        Some(Value::Bool(true)),
        Some(Value::List(Vec::new())),
        Some(Value::List(vec![text(), Value::Object(object.clone())])),
        Some(Value::Object(Object::default())),
        Some(Value::Object(object)),
    ]
}

/// A member of an object or an item of a list: where it is, and what the catalogue calls it.
struct Place {
    /// The index at each level.
    steps: Vec<usize>,
    /// Names alone; an item has the path of its list.
    path: String,
}

fn places(value: &Value<'_>, steps: &[usize], path: &str, found: &mut Vec<Place>) {
    let children: Vec<(String, &Value<'_>)> = match value {
        Value::Object(object) => {
            let dot = if path.is_empty() { "" } else { "." };
            object.iter().map(|(name, value)| (format!("{path}{dot}{name}"), value)).collect()
        }
        Value::List(items) => items.iter().map(|item| (path.to_owned(), item)).collect(),
        _ => Vec::new(),
    };
    for (at, (path, value)) in children.into_iter().enumerate() {
        let steps = [steps, &[at]].concat();
        places(value, &steps, &path, found);
        found.push(Place { steps, path });
    }
}

/// A copy with something else in one place.
fn drifted(value: &Value<'_>, steps: &[usize], drift: Option<&Value<'static>>) -> Option<Value<'static>> {
    let Some((here, below)) = steps.split_first() else { return drift.cloned() };
    let copy = |at, value: &Value<'_>| if at == *here { drifted(value, below, drift) } else { Some(owned(value)) };
    Some(match value {
        Value::Object(object) => {
            let mut changed = Object::default();
            for (at, (name, value)) in object.iter().enumerate() {
                if let Some(value) = copy(at, value) {
                    changed.push(name.to_owned(), value);
                }
            }
            Value::Object(changed)
        }
        Value::List(items) => Value::List(items.iter().enumerate().filter_map(|(at, item)| copy(at, item)).collect()),
        other => owned(other),
    })
}

/// What the catalogue says of the fields of an event, its envelope included.
struct Fields<'c> {
    by_path: BTreeMap<String, &'c Field>,
    /// The paths that select the event, or hold it.
    naming: Vec<String>,
    /// The list that holds the event and others.
    prefix: String,
}

impl<'c> Fields<'c> {
    fn new(catalog: &'c Catalog, entry: &'c Entry, form: Form) -> Self {
        let envelope = &catalog.envelope;
        let variant = match &entry.envelope_variant {
            Some(name) => Some(&envelope.variants[name]),
            None => envelope.event.as_ref().filter(|_| entry.kind == echostr_catalog::Kind::Event),
        };
        let envelope = variant.map_or(&envelope.fields, |variant| &variant.fields);
        let path = |field: &Field| match form {
            Form::Xml => bare(field.path()),
            Form::Json => bare(field.json_path()),
        };
        // What the entry says counts before what the envelope says.
        let by_path = envelope.iter().chain(&entry.fields).map(|field| (path(field), field)).collect();
        let prefix = entry.fan_out.as_deref().map(bare).unwrap_or_default();
        let mut naming: Vec<_> = entry.select.keys().cloned().collect();
        naming.extend(entry.fan_out.iter().map(|_| prefix.clone()));
        naming.extend(catalog.platform.keys.iter().filter_map(|keys| keys.first().cloned()));
        naming.push("Event".to_owned());
        Self { by_path, naming, prefix }
    }

    fn names_the_event(&self, path: &str) -> bool {
        self.naming.iter().any(|naming| naming == path || naming.starts_with(&format!("{path}.")))
    }

    /// The nearest field that holds this one, or is it.
    fn nearest(&self, path: &str) -> Option<&'c Field> {
        let mut ends = [path.len()].into_iter().chain(path.rmatch_indices('.').map(|(at, _)| at));
        ends.find_map(|end| self.by_path.get(&path[..end]).copied())
    }
}

fn bare(path: &str) -> String {
    path.replace("[]", "")
}

/// The leaves of a typed event that are not a part of `field`.
fn leaves_beside(value: &Value<'_>, field: &Field, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let path = bare(field.path());
    let path = path.strip_prefix(&format!("{}.", fields.prefix)).unwrap_or(&path);
    let is_beside = |leaf: &str| {
        let names: String = leaf.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
        names != path && !names.starts_with(&format!("{path}."))
    };
    leaves(value).into_iter().filter(|(leaf, _)| is_beside(leaf)).collect()
}

fn typed(tree: &Value<'_>, spec: &EventSpec, form: Form) -> Vec<Value<'static>> {
    platform::events_of(tree, Some(spec)).iter().map(|event| spec.decode(event, form).unwrap().to_value()).collect()
}

/// Counts of a sample: read as its type, with fields that cannot be read, compared with what it was.
#[derive(Default)]
struct Seen {
    read: u32,
    unreadable: u32,
    compared: u32,
    /// Numbers and flags that were taken away.
    absent: u32,
}

fn check(sample: &Sample, fields: &Fields<'_>, drifts: &[Option<Value<'static>>], wrong: &mut Vec<String>) -> Seen {
    let mut seen = Seen::default();
    let tree = sample.tree();
    let spec = event::by_id(&sample.id).unwrap();
    let command = (sample.platform == Platform::Im).then(|| spec.select[0][0]);
    let before = typed(&tree, spec, sample.form);
    let mut all = Vec::new();
    places(&tree, &[], "", &mut all);
    for (place, drift) in all.iter().flat_map(|place| drifts.iter().map(move |drift| (place, drift))) {
        let changed = drifted(&tree, &place.steps, drift.as_ref()).unwrap();
        let identity = platform::identify(sample.platform, &changed, command);
        let query = |name: &str| command.filter(|_| name == "CallbackCommand").map(str::to_owned);
        let _ = platform::dedupe_key(sample.platform, "a", identity.spec, &changed, "", &query);
        let _ = (platform::subject(sample.platform, &changed), platform::time(&changed));
        let events = platform::events_of(&changed, identity.spec);
        assert!(!events.is_empty(), "{} is lost", sample.id);
        for event in events {
            let (event_type, known) = platform::classify(sample.platform, event, sample.form, command);
            assert_eq!(known.is_some(), event::by_id(event_type).is_some(), "{event_type}");
        }
        // What can be read is written so that it reads the same; all else is named.
        for event in events {
            let decoded = spec.decode(event, sample.form).unwrap();
            let written = decoded.to_value();
            let again = spec.decode(&written, Form::Json).unwrap();
            assert_eq!(again.to_value(), written, "{}: {}", sample.id, payload::to_json(&changed));
            assert!(!again.has_lost, "{}: {:?}", sample.id, again.unreadable);
            assert!(!decoded.has_lost || !decoded.unreadable.is_empty(), "{}", sample.id);
            seen.read += 1;
            seen.unreadable += u32::from(!decoded.unreadable.is_empty());
        }
        let Some(field) = fields.nearest(&place.path).filter(|_| !fields.names_the_event(&place.path)) else {
            continue;
        };
        seen.compared += 1;
        let told = || format!("{} with {} as {drift:?}", sample.id, place.path);
        if identity.spec != Some(spec) {
            wrong.push(format!("{} is {:?}", told(), identity.spec.map(|spec| spec.id)));
            continue;
        }
        let (mut there_before, mut there) = (0, 0);
        for (event, before) in events.iter().zip(&before) {
            let beside_before = leaves_beside(before, field, fields);
            let decoded = spec.decode(event, sample.form).unwrap().to_value();
            let beside = leaves_beside(&decoded, field, fields);
            if beside != beside_before {
                wrong.push(format!("{} loses more than that", told()));
            }
            there_before += leaves(before).len() - beside_before.len();
            there += leaves(&decoded).len() - beside.len();
        }
        // A number would tell something that the platform has not told: 0 is a result.
        if drift.is_none() && matches!(field.kind.as_str(), "i64" | "u64" | "f64" | "bool" | "bool01") {
            seen.absent += 1;
            if there_before > 0 && there >= there_before {
                wrong.push(format!("{} is invented", told()));
            }
        }
    }
    seen
}

#[test]
fn a_field_that_drifts_costs_only_itself() {
    let catalogues = catalogues();
    let (drifts, mut wrong, mut seen) = (drifts(), Vec::new(), Seen::default());
    let samples = samples();
    for sample in &samples {
        let (_, catalog) = catalogues.iter().find(|(platform, _)| *platform == sample.platform).unwrap();
        let entry = catalog.event.iter().find(|entry| entry.id == sample.id).unwrap();
        let one = check(sample, &Fields::new(catalog, entry, sample.form), &drifts, &mut wrong);
        seen.read += one.read;
        seen.unreadable += one.unreadable;
        seen.compared += one.compared;
        seen.absent += one.absent;
    }
    wrong.truncate(40);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let Seen { read, unreadable, compared, absent } = seen;
    assert!(
        read > 60_000 && unreadable > 10_000 && compared > 40_000 && absent > 500,
        "{read} read, {unreadable} unreadable, {compared} compared, {absent} absent"
    );
}
