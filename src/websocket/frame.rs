//! Frames of the connection: `{cmd, headers: {req_id}, body}`; an acknowledgement has `errcode` and `errmsg`, and no `cmd`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, value::RawValue};

/// Names this process as the one that receives for the bot.
pub(super) const SUBSCRIBE: &str = "aibot_subscribe";
/// A sign of life.
pub(super) const PING: &str = "ping";
/// Answers a message, by its `req_id`.
pub(super) const RESPOND: &str = "aibot_respond_msg";
/// Welcomes a user, by the `req_id` of the event.
pub(super) const WELCOME: &str = "aibot_respond_welcome_msg";
/// Replaces a card, by the `req_id` of the event.
pub(super) const UPDATE: &str = "aibot_respond_update_msg";
/// Sends a message to a chat that nobody asked for.
pub(super) const SEND: &str = "aibot_send_msg";
/// Uploads a file in pieces.
pub(super) const UPLOAD_INIT: &str = "aibot_upload_media_init";
pub(super) const UPLOAD_CHUNK: &str = "aibot_upload_media_chunk";
pub(super) const UPLOAD_FINISH: &str = "aibot_upload_media_finish";

/// A message of a user.
const MESSAGE: &str = "aibot_msg_callback";
/// An event.
const EVENT: &str = "aibot_event_callback";

/// How much of what the platform says is kept for the log.
const MAX_SAID: usize = 200;

/// A frame that came.
#[derive(Debug)]
pub(super) enum Frame<'f> {
    /// A message or an event, which is answered by this id.
    Callback { request_id: String, body: &'f str },
    /// What became of a frame that was sent.
    Acknowledgement { request_id: String, acknowledged: Acknowledged },
    /// Something else, which nobody waits for.
    Other,
}

/// What became of a frame that was sent.
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// 0 when it was done.
    pub(super) code: i64,
    /// What the platform says.
    pub(super) says: String,
    /// What it returns.
    pub(super) body: Json,
}

#[derive(Deserialize)]
struct Wire<'f> {
    #[serde(borrow, default)]
    cmd: Option<Cow<'f, str>>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    errcode: Option<Json>,
    #[serde(default)]
    errmsg: Option<Json>,
    #[serde(borrow, default)]
    body: Option<&'f RawValue>,
}

#[derive(Deserialize, Default)]
struct Headers {
    #[serde(default)]
    req_id: String,
}

/// Reads a frame.
///
/// # Errors
/// When it is none.
pub(super) fn read(text: &str) -> Result<Frame<'_>, serde_json::Error> {
    let Wire { cmd, headers, errcode, errmsg, body } = serde_json::from_str(text)?;
    let request_id = headers.req_id;
    match (cmd.as_deref().unwrap_or_default(), body) {
        (MESSAGE | EVENT, Some(body)) => Ok(Frame::Callback { request_id, body: body.get() }),
        // Some acknowledgements of pings name the command.
        (MESSAGE | EVENT, None) => Ok(Frame::Other),
        _ => match errcode {
            None => Ok(Frame::Other),
            Some(code) => {
                let code = code.as_i64().or_else(|| code.as_str()?.parse().ok()).unwrap_or(-1);
                let says = errmsg.as_ref().and_then(Json::as_str).unwrap_or_default().chars().take(MAX_SAID).collect();
                let body = body.and_then(|body| serde_json::from_str(body.get()).ok()).unwrap_or_default();
                Ok(Frame::Acknowledgement { request_id, acknowledged: Acknowledged { code, says, body } })
            }
        },
    }
}

/// Writes a frame.
///
/// # Errors
/// When the body is no JSON.
pub(super) fn write(
    command: &str,
    request_id: &str,
    body: Option<&impl Serialize>,
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Wire<'f, B> {
        cmd: &'f str,
        headers: Headers<'f>,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'f B>,
    }
    #[derive(Serialize)]
    struct Headers<'f> {
        req_id: &'f str,
    }
    serde_json::to_string(&Wire { cmd: command, headers: Headers { req_id: request_id }, body })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_read_and_nothing_else() {
        let text = r#"{"cmd":"aibot_msg_callback","headers":{"req_id":"r1"},"body":{"msgid":"m1","n":1.0}}"#;
        let Frame::Callback { request_id, body } = read(text).unwrap() else { panic!() };
        assert_eq!((&*request_id, body), ("r1", r#"{"msgid":"m1","n":1.0}"#), "as it was written");
        for (text, code) in [
            (r#"{"headers":{"req_id":"p"},"errcode":0,"errmsg":"ok"}"#, 0),
            (r#"{"cmd":"ping","headers":{"req_id":"p"},"errcode":"846609"}"#, 846_609),
            (r#"{"headers":{"req_id":"p"},"errcode":{},"errmsg":7,"body":[]}"#, -1),
        ] {
            let Frame::Acknowledgement { request_id, acknowledged } = read(text).unwrap() else { panic!("{text}") };
            assert_eq!((&*request_id, acknowledged.code), ("p", code));
        }
        for other in ["{}", r#"{"cmd":"new"}"#, r#"{"cmd":"aibot_msg_callback"}"#] {
            assert!(matches!(read(other), Ok(Frame::Other)), "{other}");
        }
        for wrong in ["", "null", "1", r#"{"headers":{"req_id":1}}"#, &"[".repeat(100_000)] {
            assert!(read(wrong).is_err(), "{wrong:.20}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_comes_panics(text in "\\PC*", member in "cmd|headers|errcode|errmsg|body|other", value in "[\\[\\]{}\"0-9a-z:,]*") {
            let _ = read(&text);
            let _ = read(&format!("{{\"{member}\":{value}}}"));
        }
    }

    #[test]
    fn a_frame_without_a_body_has_none() {
        assert_eq!(write(PING, "p", None::<&Json>).unwrap(), r#"{"cmd":"ping","headers":{"req_id":"p"}}"#);
        let frame = write(SEND, "s", Some(&json!({"chatid": "c"}))).unwrap();
        assert_eq!(frame, r#"{"cmd":"aibot_send_msg","headers":{"req_id":"s"},"body":{"chatid":"c"}}"#);
    }
}
