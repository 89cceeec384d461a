//! Replies that come later, through the event API: whoever was asked has said that it goes on by itself.
//!
//! Who waits says so in the journal, and a reply is kept there before anybody is told that it was taken. So any node on one
//! journal takes it, and it is not lost with the process that waits: the responder that runs again finds it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::{sync::Notify, time};
use uuid::Uuid;

use super::{
    route::Route,
    service::{STREAM_TIMEOUT, reply_to},
};
use crate::{
    event::{Answer, AnswerStream},
    hooks::{Context, HandlerError, RawEvent},
    journal::{Journal, JournalError, LeaseWrite, Millis, millis},
    log::seconds,
};

/// How long a reply is kept for the responder of a process that has ended, which runs again up to three times.
const RETENTION: Duration = Duration::from_secs(600);

/// How long a change of what is kept may take, and how long one waits for that of another node.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
const CHANGE_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How often one that waits looks whether another node has the reply: the longer it has waited, the more seldom.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A reply that another node takes at the last moment is found this long after.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Responders that wait for a reply. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deferred(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The journal knows the handlers, and they know who waits.
    journal: OnceLock<Weak<dyn Journal>>,
    /// Those of this node, by their events. Each holds the permit of its delivery, which bounds them.
    waiting: Mutex<HashMap<Uuid, Awaited>>,
}

#[derive(Clone, Debug)]
struct Awaited {
    event: RawEvent,
    is_stream: bool,
    /// Notified when the reply is kept.
    replied: Arc<Notify>,
}

/// What the journal keeps: the value of a named lease.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    /// A reply is waited for.
    Awaited {
        /// Whether the answer has begun as a stream, so that only a text can follow.
        is_stream: bool,
        /// How long, by the time of the journal. The lease ends then, too, unless a process ended while it changed it.
        until: Millis,
    },
    /// It has come.
    Replied { reply: Json },
}

/// Why a reply is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Nobody waits for it: it came before, too late, or the event has another responder.
    #[error("no answer waits for a reply to this event")]
    NotAwaited,
    /// It is none to this event. It can be mended and sent again.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be kept now.
    #[error("{0}")]
    Journal(#[from] JournalError),
}

/// Why it is not written that a reply is waited for.
enum NotWritten {
    /// It has come already.
    Replied,
    Journal(JournalError),
}

impl From<JournalError> for NotWritten {
    fn from(failure: JournalError) -> Self {
        Self::Journal(failure)
    }
}

/// A responder that waits on this node, until it is dropped.
#[derive(Debug)]
struct Waiting<'d> {
    deferred: &'d Deferred,
    id: Uuid,
    replied: Arc<Notify>,
}

impl Deferred {
    /// From now on replies are kept in this journal.
    pub(crate) fn attach(&self, journal: &Arc<dyn Journal>) {
        // A server has one journal, which is opened once.
        let _ = self.0.journal.set(Arc::downgrade(journal));
    }

    /// The event that a responder of this node waits for a reply to.
    pub(crate) fn event(&self, id: Uuid) -> Option<RawEvent> {
        self.lock().get(&id).map(|awaited| awaited.event.clone())
    }

    /// Takes a reply to an event, written as JSON, for whoever waits for it.
    ///
    /// # Errors
    /// [`NotTaken`] when nobody waits, it is no reply to the event, or it cannot be kept.
    pub(crate) async fn reply(&self, id: Uuid, event: &RawEvent, reply: Json) -> Result<(), NotTaken> {
        let (here, now) = (self.lock().get(&id).map(|awaited| awaited.is_stream), self.journal()?.now());
        let take = |kept| {
            let is_stream = match (kept, here) {
                (Some(Kept::Replied { .. }), _) => return Err(NotTaken::NotAwaited),
                (Some(Kept::Awaited { is_stream, until }), _) if until > now => is_stream,
                // It could not be written until now that it is waited for.
                (_, Some(is_stream)) => is_stream,
                (_, None) => return Err(NotTaken::NotAwaited),
            };
            let answer = reply_to(event, reply.clone()).map_err(|wrong| NotTaken::Invalid(wrong.to_string()))?;
            if is_stream && !matches!(answer, Answer::Stream(_)) {
                let wrong = "the answer has begun as a stream: the reply has to be a text";
                return Err(NotTaken::Invalid(wrong.to_owned()));
            }
            Ok((Kept::Replied { reply: reply.clone() }, RETENTION))
        };
        self.change(id, take).await?;
        if let Some(awaited) = self.lock().get(&id) {
            awaited.replied.notify_one();
        }
        Ok(())
    }

    /// The reply to an event that has come already.
    ///
    /// # Errors
    /// When it cannot be read now whether there is one.
    pub(super) async fn kept(&self, id: Uuid) -> Result<Option<Json>, JournalError> {
        Ok(match self.read(id).await? {
            Some(Kept::Replied { reply }) => Some(reply),
            Some(Kept::Awaited { .. }) | None => None,
        })
    }

    /// Waits for the reply to an event as a responder does.
    pub(super) async fn answer(
        &self,
        event: &RawEvent,
        context: &Context,
        route: Route,
        within: Duration,
    ) -> Result<Answer, HandlerError> {
        let (this, event, id) = (self.clone(), event.clone(), context.event_id());
        if route == Route::Chunks {
            // The platform asks again and again until the text is there.
            let reply = async move {
                let reply = this.wait(id, &event, true, within.min(STREAM_TIMEOUT)).await;
                text_of(reply.ok_or("no reply came through the event API")?).await
            };
            return Ok(Answer::Stream(AnswerStream::new(stream::once(reply))));
        }
        let within = match route {
            // Whoever replies later is to be told.
            Route::Response => within.min(route.due(context).saturating_duration_since(Instant::now())),
            Route::Later | Route::Chunks => within,
        };
        self.wait(id, &event, false, within).await.ok_or_else(|| {
            let waited = seconds(within);
            format!("no reply came through the event API within {waited} (`reply_within`)").into()
        })
    }

    /// Waits for the reply to an event. Of two that wait for one on this node, the later is told first: the delivery of the earlier one
    /// was given up.
    async fn wait(&self, id: Uuid, event: &RawEvent, is_stream: bool, within: Duration) -> Option<Answer> {
        let waiting = Waiting::new(self, id, event, is_stream);
        let until = Instant::now() + within;
        let is_shared = self.journal().is_ok_and(|journal| journal.is_remote());
        let (mut is_written, mut pause) = (false, FIRST_POLL_INTERVAL);
        loop {
            if !is_written {
                let left = until.saturating_duration_since(Instant::now());
                is_written = self.announce(id, is_stream, left).await.is_ok();
            }
            // What cannot be written or read is tried again; the journal logs it.
            let kept = self.kept(id).await;
            let polls = is_shared || !is_written || kept.is_err();
            if let Ok(Some(reply)) = kept {
                // It was checked when it was taken.
                return reply_to(event, reply).ok();
            }
            let now = Instant::now();
            if now >= until + LAST_LOOK {
                return None;
            }
            // Who takes a reply on this node tells it.
            let next = if now >= until {
                until + LAST_LOOK
            } else if polls {
                until.min(now + pause)
            } else {
                until
            };
            pause = (pause * 2).min(LONGEST_POLL_INTERVAL);
            let _ = time::timeout_at(next.into(), waiting.replied.notified()).await;
        }
    }

    /// Writes that a reply is waited for, unless there is one.
    async fn announce(&self, id: Uuid, is_stream: bool, within: Duration) -> Result<(), JournalError> {
        let until = self.journal()?.now().saturating_add(millis(within));
        let written = self.change(id, |kept| match kept {
            Some(Kept::Replied { .. }) => Err(NotWritten::Replied),
            Some(Kept::Awaited { .. }) | None => Ok((Kept::Awaited { is_stream, until }, within)),
        });
        match written.await {
            Ok(()) | Err(NotWritten::Replied) => Ok(()),
            Err(NotWritten::Journal(failure)) => Err(failure),
        }
    }

    async fn read(&self, id: Uuid) -> Result<Option<Kept>, JournalError> {
        Ok(parse(self.journal()?.read_lease(&lease_name(id)).await?.as_deref()))
    }

    /// Changes what is kept, and for how long. What is refused changes nothing.
    async fn change<E: From<JournalError>>(
        &self,
        id: Uuid,
        decide: impl Fn(Option<Kept>) -> Result<(Kept, Duration), E>,
    ) -> Result<(), E> {
        decide(self.read(id).await?)?;
        let (journal, name, until) = (self.journal()?, lease_name(id), Instant::now() + CHANGE_TIMEOUT);
        let held = loop {
            match journal.acquire_lease(&name, CHANGE_TIMEOUT).await? {
                Some(held) => break held,
                None if Instant::now() > until => return Err(JournalError::Lost.into()),
                None => time::sleep(CHANGE_POLL_INTERVAL).await,
            }
        };
        // Another may have changed it meanwhile.
        let decided = decide(parse(held.value.as_deref()));
        let (value, expires, decided) = match decided {
            Ok((kept, expires)) => (serde_json::to_string(&kept).ok(), expires, Ok(())),
            Err(refused) => (None, RETENTION, Err(refused)),
        };
        let write = LeaseWrite { value, keep: None, expires: Some(expires), events: Vec::new() };
        journal.write_lease(&held, write).await?;
        decided
    }

    fn journal(&self) -> Result<Arc<dyn Journal>, JournalError> {
        self.0.journal.get().and_then(Weak::upgrade).ok_or(JournalError::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Awaited>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'d> Waiting<'d> {
    fn new(deferred: &'d Deferred, id: Uuid, event: &RawEvent, is_stream: bool) -> Self {
        let replied = Arc::new(Notify::new());
        let awaited = Awaited { event: event.clone(), is_stream, replied: Arc::clone(&replied) };
        deferred.lock().insert(id, awaited);
        Self { deferred, id, replied }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.deferred.lock();
        // It may be of another that waits for the same event.
        if waiting.get(&self.id).is_some_and(|awaited| Arc::ptr_eq(&awaited.replied, &self.replied)) {
            waiting.remove(&self.id);
        }
    }
}

fn lease_name(event: Uuid) -> String {
    format!("reply/{}", event.simple())
}

fn parse(value: Option<&str>) -> Option<Kept> {
    serde_json::from_str(value?).ok()
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
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::{
        clock::Clock,
        event::Platform,
        journal::{Options, memory::MemoryJournal},
        payload::{Form, Payload},
        supervisor::Supervisor,
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

    /// What another process on the same journal has.
    fn process(journal: &Arc<dyn Journal>) -> Deferred {
        let deferred = Deferred::default();
        deferred.attach(journal);
        deferred
    }

    fn journal() -> Arc<dyn Journal> {
        Arc::new(MemoryJournal::new(&Options {
            retention: Duration::ZERO,
            max_size: 1 << 20,
            observers: Vec::new(),
            supervisor: Supervisor::default(),
            clock: Clock::system(),
            commits: None,
        }))
    }

    const ID: Uuid = Uuid::from_u128(1);
    const LONG: Duration = Duration::from_secs(60);

    /// Gives a reply once somebody waits for one.
    async fn given(deferred: &Deferred, reply: Json) -> Result<(), NotTaken> {
        loop {
            match deferred.reply(ID, &event(), reply.clone()).await {
                Err(NotTaken::NotAwaited) => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    }

    #[tokio::test]
    async fn a_reply_reaches_who_waits_once() {
        let journal = journal();
        let deferred = process(&journal);
        let hi = || json!({ "text": "hi" });
        assert!(matches!(deferred.reply(ID, &event(), hi()).await, Err(NotTaken::NotAwaited)));
        let event = event();
        let giving = async {
            assert!(matches!(given(&deferred, json!({ "txet": "hi" })).await, Err(NotTaken::Invalid(_))));
            given(&deferred, hi()).await.unwrap();
            assert!(matches!(deferred.reply(ID, &event, hi()).await, Err(NotTaken::NotAwaited)));
        };
        let (answer, ()) = tokio::join!(deferred.wait(ID, &event, false, LONG), giving);
        assert!(matches!(answer, Some(Answer::Passive(_))));
        assert!(deferred.lock().is_empty());
    }

    #[tokio::test]
    async fn what_has_begun_as_a_stream_goes_on_as_text() {
        let journal = journal();
        let deferred = process(&journal);
        let event = event();
        tokio::select! {
            _ = deferred.wait(ID, &event, true, LONG) => panic!("there is no reply"),
            refused = given(&deferred, json!({ "text": "hi" })) => assert!(matches!(refused, Err(NotTaken::Invalid(_)))),
        }
        assert!(deferred.lock().is_empty(), "who waits no longer is forgotten");
    }

    #[tokio::test]
    async fn a_reply_waits_for_the_responder_of_a_process_that_ended() {
        let journal = journal();
        let (first, second) = (process(&journal), process(&journal));
        let event = event();
        tokio::select! {
            _ = first.wait(ID, &event, false, LONG) => panic!("there is no reply"),
            taken = given(&second, Json::Null) => taken.unwrap(),
        }
        assert_eq!(second.kept(ID).await, Ok(Some(Json::Null)), "that nothing is said is a reply, too");
        assert!(matches!(second.wait(ID, &event, false, LONG).await, Some(Answer::Default)));
        assert!(matches!(second.reply(ID, &event, Json::Null).await, Err(NotTaken::NotAwaited)));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let journal = journal();
        let deferred = process(&journal);
        assert!(deferred.wait(ID, &event(), false, Duration::ZERO).await.is_none());
        assert!(matches!(deferred.reply(ID, &event(), json!({ "text": "hi" })).await, Err(NotTaken::NotAwaited)));
    }
}
