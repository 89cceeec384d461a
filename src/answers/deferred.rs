//! Replies that come later, through the event API: whoever was asked has said that it goes on by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::event::Answer;

/// Responders that wait for a reply on this node, by their events. Each holds the permit of its delivery, which bounds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deferred(Arc<Mutex<HashMap<Uuid, oneshot::Sender<Answer>>>>);

/// A responder that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    deferred: Deferred,
    event: Uuid,
    reply: oneshot::Receiver<Answer>,
}

impl Deferred {
    /// Waits for the reply to an event. Of two that wait for one, the later gets it: the earlier one's delivery was given up.
    pub(crate) fn wait(&self, event: Uuid) -> Waiting {
        let (sender, reply) = oneshot::channel();
        self.lock().insert(event, sender);
        Waiting { deferred: self.clone(), event, reply }
    }

    /// Gives a reply to whoever waits for it; returns it when nobody does.
    pub(crate) fn reply(&self, event: Uuid, answer: Answer) -> Result<(), Answer> {
        let waiting = self.lock().remove(&event);
        match waiting {
            Some(waiting) => waiting.send(answer),
            None => Err(answer),
        }
    }

    /// Whether somebody waits for the reply to an event.
    pub(crate) fn is_awaited(&self, event: Uuid) -> bool {
        self.lock().get(&event).is_some_and(|waiting| !waiting.is_closed())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Answer>>> {
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
        if waiting.get(&self.event).is_some_and(oneshot::Sender::is_closed) {
            waiting.remove(&self.event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reply_reaches_who_waits_once() {
        let (deferred, event) = (Deferred::default(), Uuid::from_u128(1));
        assert!(deferred.reply(event, Answer::Default).is_err());
        let first = deferred.wait(event);
        let second = deferred.wait(event);
        drop(first);
        assert!(deferred.is_awaited(event));
        assert!(deferred.reply(event, Answer::Default).is_ok());
        assert!(deferred.reply(event, Answer::Default).is_err());
        assert_eq!(second.reply().await, Some(Answer::Default));
        drop(deferred.wait(event));
        assert!(!deferred.is_awaited(event) && deferred.lock().is_empty());
    }
}
