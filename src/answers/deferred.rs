//! Replies that come later, through the event API: whoever was asked has said that it goes on by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::stream;
use serde_json::Value as Json;
use tokio::{sync::oneshot, time};
use uuid::Uuid;

use super::{
    route::Route,
    service::{STREAM_TIMEOUT, reply_to},
};
use crate::{
    event::{Answer, AnswerStream},
    hooks::{Context, HandlerError, RawEvent},
    log::seconds,
};

/// Responders that wait for a reply on this node, by their events. Each holds the permit of its delivery, which bounds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deferred(Arc<Mutex<HashMap<Uuid, Awaited>>>);

#[derive(Debug)]
struct Awaited {
    event: RawEvent,
    /// Whether the answer has begun as a stream, so that only a text can follow.
    is_stream: bool,
    reply: oneshot::Sender<Answer>,
}

/// Why a reply is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Nobody waits for it on this node: it came before, too late, or the event has another responder.
    #[error("no answer waits for a reply to this event on this node")]
    NotAwaited,
    /// It is none to this event. It can be mended and sent again.
    #[error("{0}")]
    Invalid(String),
}

/// A responder that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    deferred: Deferred,
    id: Uuid,
    reply: oneshot::Receiver<Answer>,
}

impl Deferred {
    /// Waits for the reply to an event. Of two that wait for one, the later gets it: the delivery of the earlier one was given up.
    pub(crate) fn wait(&self, id: Uuid, event: RawEvent, is_stream: bool) -> Waiting {
        let (sender, reply) = oneshot::channel();
        self.lock().insert(id, Awaited { event, is_stream, reply: sender });
        Waiting { deferred: self.clone(), id, reply }
    }

    /// Gives a reply, written as JSON, to whoever waits for it. Returns the event's account and type.
    ///
    /// # Errors
    /// [`NotTaken`] when nobody waits, or it is no reply to the event.
    pub(crate) fn reply(&self, id: Uuid, reply: Json) -> Result<(Arc<str>, &'static str), NotTaken> {
        let (event, is_stream) = {
            let waiting = self.lock();
            let awaited = waiting.get(&id).filter(|awaited| !awaited.reply.is_closed());
            let Awaited { event, is_stream, .. } = awaited.ok_or(NotTaken::NotAwaited)?;
            (event.clone(), *is_stream)
        };
        let answer = reply_to(&event, reply).map_err(|wrong| NotTaken::Invalid(wrong.to_string()))?;
        if is_stream && !matches!(answer, Answer::Stream(_)) {
            return Err(NotTaken::Invalid("the answer has begun as a stream: the reply has to be a text".to_owned()));
        }
        let awaited = self.lock().remove(&id).ok_or(NotTaken::NotAwaited)?;
        awaited.reply.send(answer).map_err(|_| NotTaken::NotAwaited)?;
        Ok((event.account, event.event_type))
    }

    /// Waits for the reply to an event as a responder does.
    pub(super) async fn answer(
        &self,
        event: &RawEvent,
        context: &Context,
        route: Route,
        within: Duration,
    ) -> Result<Answer, HandlerError> {
        let waiting = self.wait(context.event_id(), event.clone(), route == Route::Chunks);
        if route == Route::Chunks {
            // The platform asks again and again until the text is there.
            let reply = async move {
                match time::timeout(within.min(STREAM_TIMEOUT), waiting.reply()).await {
                    Ok(Some(answer)) => text_of(answer).await,
                    Ok(None) | Err(_) => Err("no reply came through the event API".into()),
                }
            };
            return Ok(Answer::Stream(AnswerStream::new(stream::once(reply))));
        }
        match time::timeout(within, waiting.reply()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => {
                let waited = seconds(within);
                Err(format!("no reply came through the event API within {waited} (`reply_within`)").into())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The reply, when it comes.
    pub(crate) async fn reply(mut self) -> Option<Answer> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.reply.close();
        let mut waiting = self.deferred.lock();
        // It may be of another that waits for the same event.
        if waiting.get(&self.id).is_some_and(|awaited| awaited.reply.is_closed()) {
            waiting.remove(&self.id);
        }
    }
}

/// The text of a reply to a bot's message, which comes as a stream.
async fn text_of(answer: Answer) -> Result<String, HandlerError> {
    let Answer::Stream(mut chunks) = answer else {
        return Err("the answer has begun as a stream: the reply has to be a text".into());
    };
    let mut text = String::new();
    while let Some(chunk) = chunks.next().await {
        text.push_str(&chunk?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        event::Platform,
        payload::{Form, Payload},
    };

    fn event() -> RawEvent {
        RawEvent {
            platform: Platform::ALL[0],
            account: "mp/shop".into(),
            event_type: "mp.message.text",
            form: Form::Xml,
            payload: Payload::new("<xml><MsgType>text</MsgType></xml>"),
            query: None,
        }
    }

    #[tokio::test]
    async fn a_reply_reaches_who_waits_once() {
        let (deferred, id) = (Deferred::default(), Uuid::from_u128(1));
        let hi = || json!({ "text": "hi" });
        assert!(matches!(deferred.reply(id, hi()), Err(NotTaken::NotAwaited)));
        let first = deferred.wait(id, event(), false);
        let second = deferred.wait(id, event(), false);
        drop(first);
        assert!(matches!(deferred.reply(id, json!({ "txet": "hi" })), Err(NotTaken::Invalid(_))));
        assert_eq!(deferred.reply(id, hi()).unwrap(), ("mp/shop".into(), "mp.message.text"));
        assert!(matches!(deferred.reply(id, hi()), Err(NotTaken::NotAwaited)));
        assert!(matches!(second.reply().await, Some(Answer::Passive(_))));
        drop(deferred.wait(id, event(), false));
        assert!(deferred.lock().is_empty());
    }

    #[tokio::test]
    async fn what_has_begun_as_a_stream_goes_on_as_text() {
        let (deferred, id) = (Deferred::default(), Uuid::from_u128(1));
        let _waiting = deferred.wait(id, event(), true);
        assert!(matches!(deferred.reply(id, json!({ "text": "hi" })), Err(NotTaken::Invalid(_))));
    }
}
