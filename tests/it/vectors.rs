//! What others know of the pushes (`tests/vectors`), read as the types: everything that a vector has is read, and has its
//! value in the typed event. A wrong name in the catalogue passes every test of its own samples, but not this one.

use std::collections::{BTreeMap, BTreeSet};

use echostr::{
    catalog::Entry,
    event::{self, Platform},
    payload::{self, Form, Number, Object, Value},
    platform,
};
use xtask::vectors::{Known, Member};

use crate::catalogue::{PLATFORMS, leaves, losses, spellings};

/// Makes payloads of member names: every value is a number of its own, which text, numbers, times and lists are read from.
struct Maker {
    /// Names of flags, which are 1.
    flags: BTreeSet<String>,
    next: i64,
}

impl Maker {
    fn object(&mut self, members: &[Member]) -> Object<'static> {
        let mut object = Object::default();
        for member in members {
            let value = if member.members.is_empty() {
                Value::Number(Number::Int(self.scalar(&member.name)))
            } else {
                Value::Object(self.object(&member.members))
            };
            let value = if member.is_list { Value::List(vec![value]) } else { value };
            object.push(member.name.clone(), value);
        }
        object
    }

    fn scalar(&mut self, name: &str) -> i64 {
        self.next += 1;
        if self.flags.contains(name) { 1 } else { self.next }
    }
}

/// Sets the text at a path that has no list.
fn put(object: &mut Object<'static>, path: &str, text: &str) {
    let Some((name, rest)) = path.split_once('.') else {
        return object.set(path, Value::Text(text.to_owned().into()));
    };
    let mut below = object.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    put(&mut below, rest, text);
    object.set(name, Value::Object(below));
}

/// The payloads of a vector, by their form.
fn payloads(known: &Known, entry: &Entry) -> Vec<(Form, String)> {
    let wanted = |form: Form| known.vector.form.as_deref().is_none_or(|only| only == form_name(form));
    if let Some(text) = &known.vector.payload {
        let form = if text.trim_start().starts_with('<') { Form::Xml } else { Form::Json };
        assert!(wanted(form), "{}: {text}", entry.id);
        return vec![(form, text.clone())];
    }
    let flags = entry.fields.iter().filter(|field| matches!(field.kind.as_str(), "bool" | "bool01"));
    let mut maker = Maker { flags: flags.map(|field| field.name.clone()).collect(), next: 0 };
    let mut object = maker.object(&known.members);
    for (path, value) in &entry.select {
        put(&mut object, path, value.trim_end_matches('*'));
    }
    let forms = [Form::Xml, Form::Json].into_iter().filter(|form| wanted(*form));
    let has = |form: Form| entry.formats.iter().any(|other| format!("{other:?}").eq_ignore_ascii_case(form_name(form)));
    let forms: Vec<_> = forms.filter(|form| known.vector.form.is_some() || has(*form)).collect();
    assert!(!forms.is_empty(), "{}: a vector of no form", entry.id);
    let write = |form| match form {
        Form::Xml => payload::write_xml(&object),
        Form::Json => payload::write_json(&object),
    };
    forms.into_iter().map(|form| (form, write(form))).collect()
}

const fn form_name(form: Form) -> &'static str {
    match form {
        Form::Xml => "xml",
        Form::Json => "json",
    }
}

/// What is wrong with a payload as this type.
fn faults(platform: Platform, id: &str, form: Form, text: &str, spellings: &[(String, String)]) -> Vec<String> {
    let tree = match payload::parse(form, text.trim()) {
        Ok(tree) => tree,
        Err(error) => return vec![format!("{error}: {text}")],
    };
    let spec = event::by_id(id).unwrap();
    let command = (platform == Platform::Im).then(|| spec.select[0][0]);
    let found = platform::identify(platform, &tree, command).spec.map(|spec| spec.id);
    if found != Some(id) {
        return vec![format!("is {found:?}: {text}")];
    }
    let mut wrong = Vec::new();
    for event in platform::events_of(&tree, Some(spec)) {
        let decoded = spec.decode(event, form).unwrap();
        wrong.extend(decoded.unreadable.iter().map(ToString::to_string));
        wrong.extend(event.unread().iter().map(|path| format!("{path} is no field")));
        wrong.extend(losses(&leaves(event), &leaves(&decoded.to_value()), spellings));
        // The one JSON form has it, too, by the name it came with.
        let view = leaves(&decoded.view(event));
        wrong.extend(losses(&leaves(event), &view, &[]).into_iter().map(|fault| format!("view: {fault}")));
    }
    wrong
}

#[test]
fn every_vector_is_read() {
    let (vectors, spellings) = (xtask::vectors::all().unwrap(), spellings());
    let (mut wrong, mut held) = (Vec::new(), BTreeMap::new());
    for (platform, _) in PLATFORMS {
        let entries = echostr::catalog::entries(platform).unwrap();
        for known in &vectors[platform.as_str()] {
            let id = &known.vector.id;
            let Some(entry) = entries.iter().find(|entry| entry.id == *id) else {
                wrong.push(format!("{id} is no event"));
                continue;
            };
            for (form, text) in payloads(known, entry) {
                let faults = faults(platform, id, form, &text, &spellings[id]);
                let said = |fault| format!("{id} by {} ({}): {fault}", known.place(), form_name(form));
                wrong.extend(faults.into_iter().map(said));
            }
            *held.entry(platform.as_str()).or_insert(0) += 1;
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let total: i32 = held.values().sum();
    assert!(total > 0 && held.len() == PLATFORMS.len(), "{held:?}");
}

/// The page for readers is generated; here is what it must not become: longer, without anybody's notice.
#[test]
fn what_is_unconfirmed_is_counted() {
    let vectors = xtask::vectors::all().unwrap();
    let open = PLATFORMS.map(|(platform, _)| {
        let mut entries = echostr::catalog::entries(platform).unwrap();
        entries.retain(|entry| !entry.is_of_fork);
        (platform.as_str(), xtask::vectors::unconfirmed(&entries, &vectors[platform.as_str()]).len())
    });
    assert_eq!(
        open,
        [
            ("mp", 8),
            ("miniprogram", 55),
            ("openplatform", 6),
            ("wecom", 20),
            ("wecom_suite", 30),
            ("wecom_kf", 3),
            ("wecom_bot", 0),
            ("im", 14),
        ]
    );
}
