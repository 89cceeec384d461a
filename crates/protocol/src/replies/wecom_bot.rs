//! What a WeCom AI bot (智能机器人) answers.

use futures_util::{Stream, StreamExt as _, future::ready, stream};

use super::rules::{broken, required, text};
use crate::{
    event::{Answer, AnswerStream, ChunkError, ReplyError},
    payload::{Object, Value},
    wire::Wire,
};

/// Most bytes of the Markdown of an answer; what comes after them is left out.
pub const MAX_CONTENT_BYTES: usize = 20_480;

/// Answers a message: Markdown, at once or as it comes, or a card. The default says nothing.
///
/// ```
/// # use echostr_protocol::replies::wecom_bot::Reply;
/// # use futures_util::stream;
/// let at_once = Reply::markdown("**42**");
/// // What a language model writes, piece by piece. The platform asks for the rest until it ends, for six minutes.
/// let pieces = stream::iter(["The answer ".to_owned(), "is **42**.".to_owned()]);
/// let as_it_comes = Reply::stream(pieces);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Reply(Result<Answer, ReplyError>);

impl Default for Reply {
    fn default() -> Self {
        Self::none()
    }
}

impl Reply {
    /// Says nothing.
    pub const fn none() -> Self {
        Self(Ok(Answer::Default))
    }

    /// Markdown, up to [`MAX_CONTENT_BYTES`].
    pub fn markdown(content: impl Into<String>) -> Self {
        let content = content.into();
        match required("the Markdown", &content) {
            Ok(()) => Self::stream(stream::once(ready(content))),
            Err(broken) => Self(Err(broken)),
        }
    }

    /// Markdown that comes in pieces. The handler is done when it returns this; the pieces are taken in the background, and
    /// the platform is given what there is by then whenever it asks. When the process ends meanwhile, the handler is asked
    /// again, by whichever node the platform asks next.
    pub fn stream(pieces: impl Stream<Item = String> + Send + 'static) -> Self {
        Self::try_stream(pieces.map(Ok))
    }

    /// The same, of pieces that may fail: the answer then ends with what there is.
    pub fn try_stream(pieces: impl Stream<Item = Result<String, ChunkError>> + Send + 'static) -> Self {
        Self(Ok(Answer::Stream(AnswerStream::new(pieces))))
    }

    /// A template card (模板卡片), as the platform documents its `template_card`.
    pub fn template_card(card: serde_json::Value) -> Self {
        Self(carded(card, "template_card"))
    }
}

impl crate::event::Reply for Reply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0
    }
}

/// Welcomes a user who opens the chat for the first time today: text or a card. The default says nothing.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct WelcomeReply(Result<Answer, ReplyError>);

impl Default for WelcomeReply {
    fn default() -> Self {
        Self::none()
    }
}

impl WelcomeReply {
    /// Says nothing.
    pub const fn none() -> Self {
        Self(Ok(Answer::Default))
    }

    /// Text.
    pub fn text(content: impl Into<String>) -> Self {
        let content = content.into();
        Self(required("the text", &content).map(|()| {
            let mut inner = Object::with_capacity(1);
            inner.push("content", text(content));
            let mut body = Object::with_capacity(2);
            body.push("msgtype", text("text"));
            body.push("text", Value::Object(inner));
            Answer::Body(body)
        }))
    }

    /// A template card, as the platform documents its `template_card`.
    pub fn template_card(card: serde_json::Value) -> Self {
        Self(carded(card, "template_card"))
    }
}

impl crate::event::Reply for WelcomeReply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0
    }
}

/// Answers a click on a card by replacing the card. The default leaves it as it is.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct CardReply(Result<Answer, ReplyError>);

impl Default for CardReply {
    fn default() -> Self {
        Self::none()
    }
}

impl CardReply {
    /// Leaves the card as it is.
    pub const fn none() -> Self {
        Self(Ok(Answer::Default))
    }

    /// Another card, for everybody; its `task_id` must be that of the event.
    pub fn update(card: serde_json::Value) -> Self {
        Self::update_for(Vec::new(), card)
    }

    /// Another card, in a group for these members only.
    pub fn update_for(userids: Vec<String>, card: serde_json::Value) -> Self {
        Self(object(card).map(|card| {
            let mut body = Object::with_capacity(3);
            body.push("response_type", text("update_template_card"));
            if !userids.is_empty() {
                body.push("userids", Value::List(userids.into_iter().map(text).collect()));
            }
            body.push("template_card", Value::Object(card));
            Answer::Body(body)
        }))
    }
}

impl crate::event::Reply for CardReply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0
    }
}

fn object(card: serde_json::Value) -> Result<Object<'static>, ReplyError> {
    match card.write() {
        Some(Value::Object(card)) if card.get("card_type").is_some() => Ok(card),
        _ => Err(broken("the card is not a JSON object with a card_type")),
    }
}

fn carded(card: serde_json::Value, kind: &'static str) -> Result<Answer, ReplyError> {
    let card = object(card)?;
    let mut body = Object::with_capacity(2);
    body.push("msgtype", text(kind));
    body.push(kind, Value::Object(card));
    Ok(Answer::Body(body))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CardReply, Reply, WelcomeReply};
    use crate::{
        event::{Answer, Reply as _},
        payload,
    };

    fn written(answer: Answer) -> Value {
        match answer {
            Answer::Body(body) => serde_json::from_str(&payload::write_json(&body)).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bodies_are_as_the_platform_documents_them() {
        let card = || json!({"card_type": "text_notice", "main_title": {"title": "Job 7"}});
        let answer = written(Reply::template_card(card()).into_answer().unwrap());
        assert_eq!(answer, json!({"msgtype": "template_card", "template_card": card()}));
        let answer = written(WelcomeReply::text("hello").into_answer().unwrap());
        assert_eq!(answer, json!({"msgtype": "text", "text": {"content": "hello"}}));
        let answer = written(CardReply::update_for(vec!["zhangsan".to_owned()], card()).into_answer().unwrap());
        let expected =
            json!({"response_type": "update_template_card", "userids": ["zhangsan"], "template_card": card()});
        assert_eq!(answer, expected);
    }

    #[test]
    fn what_the_platform_refuses_is_refused_here() {
        assert!(Reply::markdown(" ").into_answer().is_err());
        assert!(WelcomeReply::text("").into_answer().is_err());
        assert!(Reply::template_card(json!("text")).into_answer().is_err());
        assert!(CardReply::update(json!({})).into_answer().is_err());
    }
}
