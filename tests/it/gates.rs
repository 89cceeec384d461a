//! Questions of Tencent IM: whatever is wrong with a question, an account that denies what fails lets nothing through.

use echostr::{
    event::{self, Event as _, EventSpec, Platform, ReplyKind},
    events::im::{self, MsgElement},
    hooks::{Context, HandlerError, Hooks, RawEvent},
    payload::Form,
    replies::{
        RawReply,
        im::{BeforeGroupMessageSendResp, BeforePrivateMessageSendResp},
    },
};
use serde_json::{Value as Json, json};

use crate::{
    catalogue::samples,
    support::{Answer, NOW, TestServer, http::request, server::IM},
};

fn account(on_error: &str) -> String {
    format!("[im.chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\non_error = \"{on_error}\"\n")
}

/// Every command that decides, with a body of the catalogue.
pub fn questions() -> impl Iterator<Item = (&'static EventSpec, &'static str, String)> {
    let questions = event::table(Platform::Im).events.iter().filter(|spec| spec.reply == ReplyKind::Verdict);
    questions.map(|spec| {
        let sample = samples().into_iter().find(|sample| sample.id == spec.id && sample.form == Form::Json);
        (*spec, spec.select[0][0], sample.expect("a sample").text)
    })
}

/// Responders of every question.
macro_rules! on_every {
    ($hooks:expr, $handler:expr, $($event:ident),*) => { $hooks$(.on(|event: im::$event, _: Context| $handler(event)))* };
}

macro_rules! hooks {
    ($handler:expr) => {
        on_every!(
            Hooks::default(),
            $handler,
            BeforeFriendAdd,
            BeforeFriendResponse,
            BeforePrivateMessageSend,
            BeforeGroupCreate,
            BeforeApplyJoinGroup,
            BeforeInviteJoinGroup,
            BeforeGroupMessageSend,
            BeforeTopicCreate,
            BeforeLiveGiftSend,
            ChatbotSignalMessage,
            BeforeOfficialAccountCreate,
            BeforeOfficialAccountSubscribe,
            BeforeOfficialAccountMessageSend
        )
    };
}

async fn fail<E, R>(_: E) -> Result<R, HandlerError> {
    Err("no database".into())
}

async fn permit<E, R: Default>(_: E) -> Result<R, HandlerError> {
    Ok(R::default())
}

async fn ask(server: &TestServer, command: &str, body: &[u8]) -> Answer {
    let target = format!("/im/chat?{}", IM.query(command, &NOW.to_string()));
    let answer = server.http.send(&request(&target, body)).await;
    assert_eq!(answer.status, 200, "{command}: {}", String::from_utf8_lossy(body));
    answer
}

/// Whether an answer refuses all of it.
pub fn is_denied(answer: &Answer) -> bool {
    let answer: Json = serde_json::from_str(&answer.body).unwrap();
    let accounts = answer["ResultItem"].as_array();
    let all_refused = accounts.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one["ResultCode"] != 0));
    answer["ErrorCode"] != 0 || all_refused
}

/// Bodies that are wrong as a whole.
fn broken(sample: &str) -> Vec<Vec<u8>> {
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let many = format!("{{\"a\":[{}1]}}", "1,".repeat(60_000));
    let open = sample.trim_end().strip_suffix('}').unwrap();
    let mut all: Vec<Vec<u8>> = ["", " ", "[]", "null", "7", "\"text\"", "<xml></xml>", "a=1&b=2", &deep, &many]
        .map(|text| text.as_bytes().to_vec())
        .into();
    all.push(format!("[{sample}]").into_bytes());
    all.push(format!("{sample}{sample}").into_bytes());
    all.push(format!("{open},}}").into_bytes());
    all.push(format!("{open},\"x\":\"\\x\"}}").into_bytes());
    all.push(format!("{open},\"x\":1e999}}").into_bytes());
    all.extend((1..8).map(|part| sample.as_bytes()[..sample.len() * part / 8].to_vec()));
    all
}

/// Bodies that are not JSON to the letter and can be read in one way only.
fn odd(sample: &str) -> Vec<Vec<u8>> {
    let open = sample.trim_end().strip_suffix('}').unwrap().as_bytes();
    let with = |text: &[u8]| [open, b",\"odd\":\"", text, b"\"}"].concat();
    let mut all: Vec<_> =
        ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83dx", "\\uD83D\\u0041", "\n", "\t", "\u{1}\u{1f}"]
            .map(|text| with(text.as_bytes()))
            .into();
    all.push(with(b"\xFF\xFE"));
    all.push(with(b"\xF0\x9F\x98"));
    all.push([b"\xEF\xBB\xBF", sample.as_bytes()].concat());
    all
}

/// The body with each of its values in turn replaced by each of these, and left out.
fn mutated(sample: &str) -> Vec<(String, String)> {
    let original: Json = serde_json::from_str(sample).unwrap();
    let mut paths = Vec::new();
    collect_paths(&original, "", &mut paths);
    let values = [json!({ "x": [1] }), json!([[1], "a"]), json!("N/A"), json!(-1), json!(1.5), json!(""), json!(null)];
    let mut all = Vec::new();
    for path in paths {
        for value in &values {
            let mut body = original.clone();
            *body.pointer_mut(&path).unwrap() = value.clone();
            all.push((format!("{path} = {value}"), body.to_string()));
        }
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut body = original.clone();
        if let Some(Json::Object(object)) = body.pointer_mut(parent) {
            object.remove(name);
            all.push((format!("without {path}"), body.to_string()));
        }
    }
    all
}

fn collect_paths(value: &Json, path: &str, paths: &mut Vec<String>) {
    let members: Vec<(String, &Json)> = match value {
        Json::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Json::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in members {
        let path = format!("{path}/{name}");
        collect_paths(value, &path, paths);
        paths.push(path);
    }
}

#[tokio::test]
async fn a_question_that_is_wrong_in_any_way_is_denied() {
    let refusing = TestServer::start_with("", &account("deny"), hooks!(fail)).await;
    let permitting = hooks!(permit).on_any("*", async |_: RawEvent, _: Context| Ok(RawReply::none()));
    let permitting = TestServer::start_with("", &account("deny"), permitting).await;
    let silent = TestServer::start_with("", &account("deny"), Hooks::default()).await;
    for (_, command, sample) in questions() {
        for body in broken(&sample) {
            for server in [&refusing, &permitting, &silent] {
                let answer = ask(server, command, &body).await;
                assert!(is_denied(&answer), "{command}: {}: {}", String::from_utf8_lossy(&body), answer.body);
            }
        }
        for body in odd(&sample) {
            assert!(is_denied(&ask(&refusing, command, &body).await), "{command}: {}", String::from_utf8_lossy(&body));
            assert!(!is_denied(&ask(&permitting, command, &body).await), "{command} was read");
        }
        for (what, body) in mutated(&sample) {
            let answer = ask(&refusing, command, body.as_bytes()).await;
            assert!(is_denied(&answer), "{command}, {what}: {}", answer.body);
        }
        assert!(!is_denied(&ask(&permitting, command, sample.as_bytes()).await), "{command}");
    }
}

/// What a responder cannot see it cannot permit, however it decides.
#[tokio::test]
async fn a_permission_of_who_has_not_seen_all_does_not_count() {
    let server = TestServer::start_with("", &account("deny"), hooks!(permit)).await;
    // The answer to a signal is data, and permits nothing.
    let questions = questions().filter(|(spec, ..)| *spec != im::ChatbotSignalMessage::SPEC);
    for (spec, command, sample) in questions {
        for (what, body) in mutated(&sample) {
            let tree = echostr::payload::parse(Form::Json, &body).unwrap();
            let has_lost = spec.decode(&tree, Form::Json).unwrap().has_lost;
            let answer = ask(&server, command, body.as_bytes()).await;
            // What is absent, or kept as an unknown element, is seen.
            assert_eq!(is_denied(&answer), has_lost, "{command}, {what}: {}", answer.body);
            let is_promised_text = what.starts_with("/From_Account = {") || what.starts_with("/GroupId = [");
            assert!(has_lost || !is_promised_text, "{command}, {what}");
        }
    }
}

#[tokio::test]
async fn an_unknown_question_is_answered_as_one() {
    for (on_error, denies) in [("deny", true), ("allow", false)] {
        let server = TestServer::start_with("", &account(on_error), Hooks::default()).await;
        for command in [
            "Group.CallbackBeforeNobodyKnows",
            "Live.CallbackBeforeCreateRoom",
            "group.callbackbeforesendmsg",
            "Sns.CallbackPrevNobodyKnows",
        ] {
            for body in ["{\"a\":1}", "", "<xml>"] {
                let answer = ask(&server, command, body.as_bytes()).await;
                assert_eq!(is_denied(&answer), denies, "{command} {body}: {}", answer.body);
            }
        }
        // Nothing is decided by what has happened.
        for command in ["Group.CallbackAfterSendMsg", "Group.CallbackAfterNobodyKnows"] {
            for body in ["{\"a\":1}", "", "<xml>"] {
                assert!(!is_denied(&ask(&server, command, body.as_bytes()).await), "{command}");
            }
        }
        // The command may stand in the body alone.
        let query = IM.query("", &NOW.to_string()).replace("&CallbackCommand=", "");
        let bytes = request(&format!("/im/chat?{query}"), br#"{"CallbackCommand":"Group.CallbackBeforeNobodyKnows"}"#);
        assert_eq!(is_denied(&server.http.send(&bytes).await), denies);
    }
}

#[tokio::test]
async fn the_configured_verdict_is_given_and_counted() {
    let server = TestServer::start_with("", &account("allow"), Hooks::default()).await;
    for (_, command, sample) in questions() {
        for body in broken(&sample) {
            assert!(!is_denied(&ask(&server, command, &body).await), "{command}");
        }
    }
    let line = r#"echostr_deliveries_total{platform="im",account="chat",outcome="defaulted",reason="unreadable"}"#;
    assert!(server.metric(line).await > 0.0);
}

/// A handler that looks for a word in the texts.
fn without_badword() -> Hooks {
    fn has_word(body: &[MsgElement]) -> bool {
        MsgElement::texts(body).any(|text| text.contains("badword"))
    }
    Hooks::default()
        .on(async |event: im::BeforeGroupMessageSend, _: Context| {
            let found = has_word(&event.msg_body);
            Ok(if found { BeforeGroupMessageSendResp::refuse() } else { BeforeGroupMessageSendResp::allow() })
        })
        .on(async |event: im::BeforePrivateMessageSend, _: Context| {
            let found = has_word(&event.msg_body);
            Ok(if found { BeforePrivateMessageSendResp::refuse() } else { BeforePrivateMessageSendResp::allow() })
        })
}

#[tokio::test]
async fn an_element_that_cannot_be_read_hides_no_other() {
    let servers = [
        TestServer::start_with("", &account("deny"), without_badword()).await,
        TestServer::start_with("", &account("allow"), without_badword()).await,
    ];
    let odd = [
        json!({ "MsgType": "TIMFaceElem", "MsgContent": { "Index": "smile" } }),
        json!({ "MsgType": "TIMLocationElem", "MsgContent": { "Desc": "a", "Latitude": "N/A", "Longitude": 1 } }),
        json!({ "MsgType": "TIMFileElem", "MsgContent": { "FileSize": "12KB" } }),
        json!({ "MsgType": "TIMImageElem", "MsgContent": { "ImageInfoArray": [7] } }),
        json!({ "MsgType": "TIMTextElem", "MsgContent": "text" }),
        json!({ "MsgType": "TIMCustomElem", "MsgContent": [] }),
        json!({ "MsgType": 7 }),
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
    ];
    let of = |elements: Json| json!({ "GroupId": "g", "From_Account": "a", "To_Account": "b", "MsgBody": elements, "Random": 1, "MsgSeq": 1 });
    for server in &servers {
        for command in ["Group.CallbackBeforeSendMsg", "C2C.CallbackBeforeSendMsg"] {
            for element in &odd {
                let text = |text: &str| json!({ "MsgType": "TIMTextElem", "MsgContent": { "Text": text } });
                for (elements, expected) in [
                    (json!([text("a badword"), element]), true),
                    (json!([element, text("a badword")]), true),
                    (json!([element, text("hello")]), false),
                ] {
                    let body = of(elements);
                    let answer = ask(server, command, body.to_string().as_bytes()).await;
                    assert_eq!(is_denied(&answer), expected, "{command}: {body}: {}", answer.body);
                }
            }
            // The word in a text that is none.
            for hidden in [
                json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": ["badword"] } }]),
                json!([{ "MsgType": "TIMTextElem", "MsgContent": "badword" }]),
                json!(["badword"]),
                json!({ "Text": "badword" }),
                json!("badword"),
            ] {
                assert!(is_denied(&ask(server, command, of(hidden).to_string().as_bytes()).await), "{command}");
            }
            let mut body = of(json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": "badword" } }]));
            body["MsgSeq"] = json!(-1);
            body["Random"] = json!("many");
            assert!(is_denied(&ask(server, command, body.to_string().as_bytes()).await), "{command}");
        }
    }
}

/// What is rewritten has the other elements as they came.
#[tokio::test]
async fn an_element_that_cannot_be_read_is_written_back_as_it_came() {
    let hooks = Hooks::default().on(async |event: im::BeforeGroupMessageSend, _: Context| {
        Ok(BeforeGroupMessageSendResp::allow().with_msg_body(event.msg_body))
    });
    let server = TestServer::start_with("", &account("deny"), hooks).await;
    let elements = json!([
        { "MsgType": "TIMTextElem", "MsgContent": { "Text": "a" } },
        { "MsgType": "TIMFaceElem", "MsgContent": { "Index": "smile", "More": [1.5, null] } },
        { "MsgType": "TIMNewElem", "MsgContent": { "x": {} } },
        { "Type": "x" },
    ]);
    let body = json!({ "GroupId": "g", "From_Account": "a", "MsgBody": elements });
    let answer = ask(&server, "Group.CallbackBeforeSendMsg", body.to_string().as_bytes()).await;
    let answer: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&answer["ErrorCode"], &answer["MsgBody"]), (&json!(0), &elements));
}
