//! Whatever an authentic payload says, it is taken for some event, and an event that can be read is written so that it
//! reads the same.
//!
//! Input: a byte for the platform, a byte for the command of the query (0: none), the payload.

#![no_main]

use std::time::Duration;

use echostr::{
    event::{Answer, Platform, table},
    payload::{self, Form, Object, Value},
    platform::{self, Body},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u8, &str)| {
    let (at, command, text) = input;
    let of = Platform::ALL[usize::from(at) % Platform::ALL.len()];
    let events = table(of).events;
    let command = usize::from(command).checked_sub(1).and_then(|at| events.get(at % events.len().max(1)));
    let command = command.and_then(|spec| spec.select.first()?.first().copied());
    let form = if text.trim_start().starts_with('<') { Form::Xml } else { Form::Json };
    let Ok(tree) = payload::parse(form, text) else { return };

    let identity = platform::identify(of, &tree, command);
    let _ = identity.event_type(of);
    let mut admitted = 0;
    for event in platform::events_of(&tree, identity.spec) {
        admitted += 1;
        let _ = (platform::subject(of, event), platform::time(event));
        let query = |name: &str| command.filter(|_| name == "CallbackCommand").map(str::to_owned);
        let key = platform::dedupe_key(of, "account", identity.spec, event, text, &query);
        assert!(key.is_none_or(|key| key.window.is_none_or(|window| window > Duration::ZERO)));
        let mut answer = Object::default();
        answer.push("Content", Value::Text(text.to_owned().into()));
        let address = platform::Address::of(event);
        let Body::Document(answer) = platform::write_answer(of, form, Answer::Passive(answer), address, 0) else {
            panic!("a passive reply is a document");
        };
        assert!(payload::parse(form, &answer).is_ok(), "{answer}");
        let (_, spec) = platform::classify(of, event, form, command);
        let Some(spec) = spec else { continue };
        let decoded = spec.decode(event, form).expect("what was classified as a type can be read as it");
        let _ = event.unread();
        let written = decoded.to_value();
        let again = spec.decode(&written, form).unwrap_or_else(|error| panic!("{}: {error}", spec.id));
        assert!(!again.has_lost, "{}: {:?}", spec.id, again.unreadable);
        assert_eq!(again.to_value(), written, "{}", spec.id);
        if let Value::Object(object) = &written {
            let _ = payload::write_xml(object);
        }
        // As the journal and whoever is forwarded to get it.
        let json = payload::to_json(&written);
        let tree = payload::parse(Form::Json, &json).unwrap_or_else(|error| panic!("{}: {error}: {json}", spec.id));
        let read = spec.decode(&tree, Form::Json).unwrap_or_else(|error| panic!("{}: {error}: {json}", spec.id));
        assert_eq!(read.to_value(), written, "{}", spec.id);
    }
    assert!((1..=platform::MAX_EVENTS).contains(&admitted));
});
