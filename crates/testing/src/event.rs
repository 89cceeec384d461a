//! Events from the catalogue's samples, and back into the payload that a platform would send.

use std::sync::{
    OnceLock,
    atomic::{AtomicI64, Ordering},
};

use echostr::{
    catalog::{self, Entry},
    event::{Event, EventSpec, Platform, table},
    payload::{self, Form, Object, Value},
    platform,
    simulate::Push,
    wire::Reading,
};

use crate::NOW;

/// The catalogue of each platform, read when it is first needed.
static CATALOGUES: [OnceLock<Vec<Entry>>; Platform::ALL.len()] = [const { OnceLock::new() }; Platform::ALL.len()];

/// What the catalogue says of an event.
pub(crate) fn entry(spec: &EventSpec) -> &'static Entry {
    let at = Platform::ALL.into_iter().position(|platform| platform == spec.platform);
    let entries = at.map(|at| CATALOGUES[at].get_or_init(|| entries(spec.platform)));
    let entry = entries.and_then(|entries| entries.iter().find(|entry| entry.id == spec.id));
    entry.unwrap_or_else(|| panic!("the catalogue has no `{}`", spec.id))
}

fn entries(platform: Platform) -> Vec<Entry> {
    catalog::entries(platform).unwrap_or_else(|failure| panic!("{failure}"))
}

/// An event as the catalogue's sample has it, with a message id of its own; each happens a second after the one before,
/// so that two of them are never repeats of one event.
///
/// ```
/// use echostr::events::{im, mp};
///
/// let message: mp::TextMessage = echostr_testing::sample();
/// assert!(!message.content.is_empty());
/// let request: im::BeforeFriendAdd = echostr_testing::sample();
/// assert!(!request.friend_item.is_empty());
/// ```
///
/// # Panics
/// Never: the tests of the crate read every sample.
#[track_caller]
pub fn sample<E: Event>() -> E {
    let push = sample_push(E::SPEC, &[]);
    let read = payload::parse(push.form, &push.payload).map_err(|failure| failure.to_string()).and_then(|tree| {
        let event = platform::events_of(&tree, Some(E::SPEC)).first().unwrap_or(&tree);
        E::read(event, &mut Reading::new(push.form)).map_err(|failure| failure.to_string())
    });
    read.unwrap_or_else(|failure| panic!("the sample of `{}`: {failure}", E::SPEC.id))
}

/// The sample of an event with some fields set, as if it happened now.
pub(crate) fn sample_push(spec: &EventSpec, set: &[(String, String)]) -> Push {
    static SAMPLES: AtomicI64 = AtomicI64::new(0);
    let now = NOW + SAMPLES.fetch_add(1, Ordering::Relaxed);
    Push::sample(entry(spec), None, set, now).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The payload that the platform would send for an event, for [`TestAccount::deliver`](crate::TestAccount::deliver) and for
/// tests of what reads payloads.
///
/// ```
/// use echostr::events::mp;
///
/// let mut message: mp::TextMessage = echostr_testing::sample();
/// message.content = "hello".to_owned();
/// let push = echostr_testing::push(&message);
/// assert!(push.payload.contains("<Content><![CDATA[hello]]></Content>"));
/// ```
///
/// # Panics
/// When the event, as the test has made it, is no event of its type any more.
#[track_caller]
pub fn push<E: Event>(event: &E) -> Push {
    of_tree(E::SPEC, event.write())
}

/// The same, of an event that has been written as a tree.
#[track_caller]
pub(crate) fn of_tree(spec: &'static EventSpec, tree: Option<Value<'static>>) -> Push {
    let Some(Value::Object(mut tree)) = tree else { panic!("`{}` is not written as an object", spec.id) };
    let entry = entry(spec);
    let command = entry.select.get("CallbackCommand").cloned();
    name(&mut tree, spec);
    let form = if entry.sample_xml.is_some() { Form::Xml } else { Form::Json };
    let payload = match form {
        Form::Xml => payload::write_xml(&tree),
        Form::Json => payload::write_json(&tree),
    };
    let read = payload::parse(form, &payload).unwrap_or_else(|failure| panic!("`{}`: {failure}", spec.id));
    let (found, _) = platform::classify(spec.platform, &read, form, command.as_deref());
    assert!(
        found == spec.id,
        "the event would arrive as `{found}`, not as `{}`: a field that names it or that the platform promises was changed; \
         begin with `echostr_testing::sample()`",
        spec.id
    );
    Push { payload, form, command, reply: spec.reply }
}

/// Sets the members that name the event where they are empty, as in an event that was built from nothing.
fn name(tree: &mut Object<'static>, spec: &EventSpec) {
    let names = table(spec.platform).keys.iter().flat_map(|names| {
        let select = spec.select.first().filter(|select| select.len() <= names.len()).copied().unwrap_or_default();
        names.iter().zip(select)
    });
    for (path, value) in names.filter(|(_, value)| !value.ends_with('*')) {
        let (object, member) = match path.split_once('.') {
            None => (Some(&mut *tree), *path),
            Some((outer, inner)) => (tree.object_mut(outer), inner),
        };
        if let Some(object) = object
            && object.text(member) == Some("")
        {
            object.set(member, Value::Text((*value).to_owned().into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use echostr::{event, events::mp};

    use super::*;

    #[test]
    fn every_event_is_sent_as_what_it_is() {
        for spec in event::all() {
            let push = sample_push(spec, &[]);
            let tree = payload::parse(push.form, &push.payload).unwrap();
            let event = platform::events_of(&tree, Some(spec)).first().unwrap();
            let value = spec.decode(event, push.form).unwrap().to_value();
            let sent = of_tree(spec, Some(value.clone()));
            let read = payload::parse(sent.form, &sent.payload).unwrap();
            assert_eq!(spec.decode(&read, sent.form).unwrap().to_value(), value, "{}", spec.id);
            assert_eq!((sent.command, sent.reply), (push.command, push.reply), "{}", spec.id);
        }
    }

    #[test]
    fn samples_are_events_of_their_own_and_nothing_is_needed_of_them() {
        let (one, other): (mp::Subscribe, mp::Subscribe) = (sample(), sample());
        assert_ne!(one.create_time(), other.create_time());
        let mut bare = mp::Subscribe::default();
        bare.envelope.event = Some(String::new());
        assert!(push(&bare).payload.contains("<Event><![CDATA[subscribe]]></Event>"));
    }

    #[test]
    #[should_panic(expected = "would arrive as `mp.message.image`, not as `mp.message.text`")]
    fn an_event_that_became_another_is_not_sent() {
        let mut message: mp::TextMessage = sample();
        message.envelope.msg_type = "image".to_owned();
        push(&message);
    }
}
