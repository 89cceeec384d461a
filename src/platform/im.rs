//! Tencent Cloud Chat: a command word in the query, mostly repeated in the body.

use std::{borrow::Cow, time::Duration};

use super::{part, scalar};
use crate::{
    event::{EventSpec, Platform, ReplyKind, table},
    payload::{Object, Value},
};

const COMMAND: &str = "CallbackCommand";

/// How long two callbacks that are alike to the letter and carry no time are one: the platform repeats at once or not
/// at all, and a friend who is added, removed and added again is two events.
const WINDOW: Duration = Duration::from_secs(60);

/// The command of the query; of the body, or of the first event in it; else what the body's keys tell.
pub(super) fn key<'p>(object: &'p Object<'_>, command: Option<&'p str>) -> Vec<Cow<'p, str>> {
    let first_event = || match object.get("Events")? {
        Value::List(items) => items.first()?.as_object().and_then(|event| scalar(event, COMMAND)),
        _ => None,
    };
    let by_keys = || {
        let has = |spec: &&&EventSpec| {
            !spec.body_keys.is_empty() && spec.body_keys.iter().all(|key| object.get(key).is_some())
        };
        let spec = table(Platform::Im).events.iter().find(has)?;
        spec.select.first()?.first().map(|command| Cow::Borrowed(*command))
    };
    let command = command.map(Cow::Borrowed);
    command.or_else(|| scalar(object, COMMAND)).or_else(first_event).or_else(by_keys).into_iter().collect()
}

/// The account that acted.
pub(super) fn subject<'p>(object: &'p Object<'_>) -> Option<&'p str> {
    const ACTORS: [&str; 9] = [
        "From_Account",
        "Requester_Account",
        "Requestor_Account",
        "Operator_Account",
        "Report_Account",
        "Fans_Account",
        "Owner_Account",
        "To_Account",
        "UserId",
    ];
    let info = object.get("Info").and_then(|info| info.as_object());
    ACTORS.into_iter().find_map(|name| object.text(name)).or_else(|| info?.text("To_Account"))
}

/// Adds what tells two callbacks apart; `None` for commands that decide: each is asked once and answered afresh. Says
/// whether the time of the payload is a part of it, and how long it holds.
pub(super) fn dedupe(
    key: &mut Vec<u8>,
    spec: Option<&EventSpec>,
    object: Option<&Object<'_>>,
    text: &str,
    query: &dyn Fn(&str) -> Option<String>,
) -> Option<(bool, Option<Duration>)> {
    if spec.is_some_and(|spec| spec.reply == ReplyKind::Verdict) {
        return None;
    }
    // A push of several events has one id for all of them.
    let carries_several = spec.is_some_and(|spec| spec.fan_out.is_some());
    let id = if carries_several { None } else { query("RequestID") };
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        part(key, &id);
        return Some((false, None));
    }
    let command = query(COMMAND).or_else(|| object.and_then(|object| scalar(object, COMMAND)).map(Cow::into_owned));
    part(key, command.as_deref().unwrap_or_default());
    let identifying = object.and_then(|object| identifying(command.as_deref().unwrap_or_default(), object));
    if let Some(values) = identifying {
        values.iter().for_each(|value| part(key, value));
        return Some((true, None));
    }
    part(key, text);
    let timed = object.is_some_and(|object| ["EventTime", "Timestamp"].iter().any(|name| object.get(name).is_some()));
    Some((timed, (!timed).then_some(WINDOW)))
}

/// The fields that identify a callback, where its family has some and all of them are there.
fn identifying<'o>(command: &str, object: &'o Object<'_>) -> Option<Vec<Cow<'o, str>>> {
    let required: &[&str] = match command.split_once('.')? {
        ("C2C", name) if name.contains("MsgReport") || name.contains("Read") => {
            &["Report_Account", "Peer_Account", "LastReadTime"]
        }
        ("C2C", _) => &["MsgKey"],
        ("Group", name) if name.contains("SendMsg") || name.contains("Recall") || name.contains("ModifyMsg") => {
            &["GroupId", "MsgSeq"]
        }
        ("ContentCallback", _) => &["CtxcbRequestId"],
        ("Call", _) => &["CallId", "EventTime"],
        ("Push", _) => &["To_Account", "PushStage", "PushPlatform"],
        _ => return None,
    };
    // Edits and extensions of one message differ in these, and so do pushes and topics.
    const OPTIONAL: [&str; 6] = ["TopicId", "EventTime", "Seq", "PushID", "TaskId", "MsgTime"];
    let mut values: Vec<_> = required.iter().map(|name| scalar(object, name)).collect::<Option<_>>()?;
    values.extend(OPTIONAL.iter().map(|name| scalar(object, name).unwrap_or_default()));
    Some(values)
}
