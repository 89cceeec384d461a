//! Tencent Cloud Chat: a command word in the query, mostly repeated in the body.

use std::{borrow::Cow, time::Duration};

use super::{
    AccountRules, EnvelopeRules, Keyed, Kind, Platform, Protocol, Repeat, Scheme, UrlCheck, account::RULES,
    envelope::ENCRYPTED, object, repeat::part, scalar,
};
use crate::{
    event::{Answer, EventSpec, ReplyError, ReplyKind, Table},
    events::im::TABLE,
    payload::{Object, Value},
    replies::{
        im::STATUS,
        json::{self, Asked},
    },
    wire::Unreadable,
};

#[derive(Debug)]
pub(super) struct Im;

const ACCOUNT: AccountRules = AccountRules {
    keys: &["sdk_app_id"],
    token_is_optional: true,
    token_is_alphanumeric: false,
    refused_in_paths: Some('_'),
    decides: true,
    deadline: Duration::from_millis(1500),
    timeout: Duration::from_secs(2),
    // As the manual asks.
    max_age: Some(Duration::from_secs(60)),
    ..RULES
};

const ENVELOPE: EnvelopeRules = EnvelopeRules { scheme: Scheme::SignedTime, url_check: UrlCheck::Absent, ..ENCRYPTED };

const COMMAND: &str = "CallbackCommand";

/// Begin the commands that tell what happened in a room.
const ROOMS: [&str; 3] = ["Live.CallbackAfter", "Room.CallbackAfter", "Mic.CallbackAfter"];

const UNKNOWN: &str = "im.command.unknown";

/// A command that the catalogue does not know, and whose answer decides all the same.
static UNKNOWN_QUESTION: EventSpec = EventSpec {
    id: UNKNOWN,
    platform: Platform::Im,
    family: "unknown",
    rust_type: "",
    select: &[],
    reply: ReplyKind::Verdict,
    timeout: None,
    fan_out: None,
    body_keys: &[],
    decode: |_, _| Err(Unreadable::expected("known")),
};

/// How long two callbacks that are alike to the letter and carry no time are one: the platform repeats at once or not
/// at all, and a friend who is added, removed and added again is two events.
const WINDOW: Duration = Duration::from_secs(60);

impl Protocol for Im {
    fn account(&self) -> &AccountRules {
        &ACCOUNT
    }

    fn envelope(&self) -> &EnvelopeRules {
        &ENVELOPE
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    /// The command of the query; of the body, or of the first event in it; else what the body's keys show. Queries of rooms
    /// name other callbacks than their bodies: there the body counts, but for commands that decide.
    fn key<'p>(&self, payload: &'p Object<'_>, command: Option<&'p str>) -> Vec<Cow<'p, str>> {
        let first_event = || match payload.get("Events")? {
            Value::List(items) => items.first()?.as_object().and_then(|event| scalar(event, COMMAND)),
            _ => None,
        };
        let by_keys = || {
            let has = |spec: &&&EventSpec| {
                !spec.body_keys.is_empty() && spec.body_keys.iter().all(|key| payload.get(key).is_some())
            };
            let spec = TABLE.events.iter().find(has)?;
            spec.select.first()?.first().map(|command| Cow::Borrowed(*command))
        };
        let is_of_room = |command: &str| ROOMS.iter().any(|rooms| command.starts_with(rooms));
        let of_room =
            || scalar(payload, COMMAND).filter(|body| is_of_room(body) && TABLE.find(&[body.as_ref()]).is_some());
        let of_query = command.map(|command| {
            let of_body = if is_of_room(command) { of_room() } else { None };
            of_body.unwrap_or(Cow::Borrowed(command))
        });
        of_query.or_else(|| scalar(payload, COMMAND)).or_else(first_event).or_else(by_keys).into_iter().collect()
    }

    fn unknown(&self, _: Kind) -> &'static str {
        UNKNOWN
    }

    /// Those that the platform asks before something happens say so in their names.
    fn question(&self, key: &[Cow<'_, str>]) -> Option<&'static EventSpec> {
        const BEFORE: [&str; 2] = ["callbackbefore", "callbackprev"];
        let command = key.first()?.to_ascii_lowercase();
        BEFORE.iter().any(|before| command.contains(before)).then_some(&UNKNOWN_QUESTION)
    }

    /// The account that acted.
    fn subject<'p>(&self, payload: &'p Object<'_>) -> Option<&'p str> {
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
        let info = || super::object(payload, "Info")?.text("To_Account");
        ACTORS.into_iter().find_map(|name| payload.text(name)).or_else(info)
    }

    fn has_data_in_query(&self) -> bool {
        true
    }

    fn is_exact(&self, _: &EventSpec) -> bool {
        true
    }

    /// Commands that decide have no key: each is asked once and answered afresh.
    fn repeat(&self, key: &mut Vec<u8>, event: &Keyed<'_>) -> Option<Repeat> {
        let Keyed { spec, payload, text, query } = *event;
        let object = payload.as_object();
        let command = || {
            let of_body = || object.and_then(|object| scalar(object, COMMAND)).map(Cow::into_owned);
            query(COMMAND).or_else(of_body).unwrap_or_default()
        };
        let is_question = match spec {
            Some(spec) => spec.reply == ReplyKind::Verdict,
            None => self.question(&[command().into()]).is_some(),
        };
        if is_question {
            return None;
        }
        // A push of several events has one id for all of them.
        let carries_several = spec.is_some_and(|spec| spec.fan_out.is_some());
        let id = if carries_several { None } else { query("RequestID") };
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            return Some(Repeat::by_id(key, &id));
        }
        let command = command();
        part(key, &command);
        if let Some(values) = object.and_then(|object| identifying(&command, object)) {
            values.iter().for_each(|value| part(key, value));
            return Some(Repeat::by_parts(Some(payload), None));
        }
        part(key, text);
        let is_timed = object.is_some_and(|it| ["EventTime", "Timestamp"].iter().any(|name| it.get(name).is_some()));
        Some(Repeat::by_parts(is_timed.then_some(payload), (!is_timed).then_some(WINDOW)))
    }

    fn success(&self) -> &'static str {
        r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#
    }

    /// The text elements of a message, a line each.
    fn text_of<'p>(&self, payload: &'p Object<'_>) -> Option<Cow<'p, str>> {
        let Value::List(elements) = payload.get("MsgBody")? else { return None };
        let texts = elements.iter().filter_map(|element| object(element.as_object()?, "MsgContent")?.text("Text"));
        let texts: Vec<_> = texts.collect();
        (!texts.is_empty()).then(|| texts.join("\n").into())
    }

    fn reply_from_json(&self, asked: &Asked<'_>, members: json::Members) -> Result<Answer, ReplyError> {
        json::im(asked, members)
    }

    fn answer_members(&self) -> &'static [&'static str] {
        &STATUS
    }
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
