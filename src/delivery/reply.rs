//! The reply of a new event: what it becomes, and how it is recorded.

use std::{
    mem,
    sync::Arc,
    task::{self, Poll, Waker},
    time::Instant,
};

use futures_util::FutureExt as _;
use tracing::{error, info, warn};

use super::{
    Endpoint,
    answer::{allows, default_answer, late_advice},
};
use crate::{
    blocking::Timed,
    config::LongText,
    event::{Answer, AnswerStream, EventSpec, StreamError},
    hooks::{Context, RespondError, Responded},
    in_flight::Permit,
    journal::{self, Entry, Journal, Millis, ReplyRecord, ReplySender},
    late,
    log::seconds,
    metrics::Outcome,
    panics::Panicked,
    platform::{self, Address, Body},
    replies,
    streams::{NoAnswer, Streams},
};

/// What has to be known once a responder is done.
pub(super) struct Reply {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) entry: Arc<Entry>,
    /// Where the reply is recorded; nowhere, when the event is not stored.
    pub(super) journal: Option<Arc<dyn Journal>>,
    /// The time of day, Unix seconds, for the reply.
    pub(super) now: i64,
    /// What the platform expects of the answer.
    pub(super) answered_as: Option<&'static EventSpec>,
    /// Whether a permission of the responder counts: not that of one which has not seen all of the question, on an account
    /// that denies what fails.
    pub(super) permits: bool,
    pub(super) address: Address,
    pub(super) context: Context,
    /// What takes the chunks of a streamed answer.
    pub(super) streams: Option<Arc<Streams>>,
    /// The observer that sends a late reply, or has it wait.
    pub(super) sender: Option<&'static str>,
    /// For whom and how long it waits there.
    pub(super) waits: Option<journal::Wait>,
    /// Whether a text that is too long for the response is sent through the API.
    pub(super) can_split: bool,
    pub(super) subject: Option<Box<str>>,
    pub(super) received: Millis,
    pub(super) permit: Arc<Permit>,
}

/// What a responder has come to.
struct Written {
    body: Body,
    failure: Option<String>,
    outcome: Outcome,
    /// Whether it is a passive reply, which can be given later.
    is_passive: bool,
    /// Whether something is lost when it is not given.
    says: bool,
}

impl From<(Body, Option<String>, Outcome)> for Written {
    fn from((body, failure, outcome): (Body, Option<String>, Outcome)) -> Self {
        Self { body, failure, outcome, is_passive: false, says: false }
    }
}

impl Reply {
    /// Polls a responder once; one that is ready is done. The others are to be [waited for](Self::wait_for).
    pub(super) fn poll(self, mut running: Timed<Responded>, started: Instant) -> Option<(Self, Timed<Responded>)> {
        // Whoever polls next brings a waker of its own.
        match running.poll_unpin(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                self.finish(result, started);
                None
            }
            Poll::Pending => {
                // The event must be durable before its default answer is given.
                self.store();
                Some((self, running))
            }
        }
    }

    /// Waits for a responder that was not ready.
    pub(super) async fn wait_for(mut self, running: Timed<Responded>, started: Instant) {
        let event_type = self.context.raw().event_type;
        let permit = Arc::clone(&self.permit);
        let run = permit.run(event_type, started);
        let result = running.await;
        drop(run);
        self.now = self.context.clock().now();
        self.finish(result, started);
    }

    /// Makes the event durable before it has a reply.
    pub(super) fn store(&self) {
        if let Some(journal) = &self.journal {
            journal.store(&self.entry);
        }
    }

    /// Records the responder's reply, or the default answer in its place.
    fn finish(mut self, result: Result<Responded, Panicked>, started: Instant) {
        self.endpoint.metrics.responder.record(started.elapsed().as_secs_f64());
        // What is there and cannot be stored is not late.
        let is_late = self.entry.mark_replied();
        let result = match result {
            Ok(Ok(Answer::Stream(chunks))) if let Some(streams) = self.streams.clone() => {
                return self.stream(streams, chunks, started, is_late);
            }
            result => result,
        };
        let (result, is_split) = self.fit(result, is_late);
        let Written { body, failure, outcome, is_passive, says } = self.write(result);
        self.endpoint.metrics.count(outcome);
        let sender = if is_passive { self.sender(is_late, is_split) } else { None };
        let is_dropped = says && is_late && sender.is_none();
        let failure = failure.or_else(|| is_dropped.then(|| self.dropped(started)));
        if let Some(wait) = sender.as_ref().filter(|sender| sender.is_due).and_then(|sender| sender.waits.as_ref()) {
            self.log_waiting(started, wait);
        }
        self.record(ReplyRecord { body, failure, sender });
    }

    /// Writes what the responder has returned, or the default answer in its place.
    fn write(&mut self, result: Result<Responded, Panicked>) -> Written {
        let address = mem::take(&mut self.address);
        let (raw, spec) = (self.context.raw(), self.answered_as);
        match result {
            Ok(Ok(answer)) if !self.permits && replies::im::is_bare_permission(&answer) => {
                (default_answer(false, spec, raw), None, Outcome::Undecided).into()
            }
            Ok(Ok(Answer::Default)) => (default_answer(true, spec, raw), None, Outcome::Answered).into(),
            Ok(Ok(answer)) => {
                let is_passive = matches!(answer, Answer::Passive(_));
                let body = platform::write_answer(raw.platform, raw.form, answer, address, self.now);
                Written { body, failure: None, outcome: Outcome::Answered, is_passive, says: true }
            }
            Ok(Err(failure)) => self.failed(&failure).into(),
            Err(panicked) => self.panicked(&panicked).into(),
        }
    }

    /// Who gives a passive reply that the response does not carry, and whether it is known already that it does not.
    fn sender(&mut self, is_late: bool, is_split: bool) -> Option<Box<ReplySender>> {
        // What is late and would not be sent is not sent because it is long.
        let is_split = is_split && !(is_late && self.sender.is_none());
        let observer = if is_split { late::OBSERVER } else { self.sender? };
        let waits = self.waits.take().filter(|_| !is_split);
        let record = self.context.raw().record(self.subject.take(), self.received);
        Some(Box::new(ReplySender { observer: observer.into(), is_due: is_late || is_split, record, waits }))
    }

    /// Records a reply, which settles the entry once it is durable.
    pub(super) fn record(&self, reply: ReplyRecord) {
        record(self.journal.as_deref(), &self.entry, reply);
    }

    /// Whether the API could send it in parts. What waits for the next message is the response to that.
    fn may_be_split(&self, is_late: bool) -> bool {
        let sends = self.endpoint.account.platform.protocol().account().sends_replies;
        sends && !(is_late && self.waits.is_some())
    }

    /// Has the text of a reply fit. Returns whether it does not, and is sent through the API instead.
    fn fit(&self, mut result: Result<Responded, Panicked>, is_late: bool) -> (Result<Responded, Panicked>, bool) {
        let Ok(Ok(answer)) = &mut result else { return (result, false) };
        let Some((long_text, bytes)) = self.endpoint.account.long_text.zip(replies::long_text(answer)) else {
            return (result, false);
        };
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        match long_text {
            LongText::Error => return (Ok(Err(RespondError::Reply(replies::too_long(bytes)))), false),
            LongText::Split if self.can_split && self.may_be_split(is_late) => {
                info!(account, %event, kind, "{account}: {kind}: the text has {bytes} bytes: sending it in parts through the API");
                return (result, true);
            }
            LongText::Split | LongText::Cut => {
                replies::cut_text(answer);
                let advice = match self.may_be_split(is_late) {
                    true => ": set `secret` and `long_text = \"split\"` to have it sent in parts through the API",
                    false => ", which is all that the response can carry",
                };
                let most = replies::MAX_TEXT_BYTES;
                warn!(account, %event, kind, "{account}: {kind}: cut a text of {bytes} bytes to {most}{advice}");
            }
        }
        (result, false)
    }

    /// Starts a streamed answer; its first text is the reply.
    fn stream(self, streams: Arc<Streams>, chunks: AnswerStream, started: Instant, is_late: bool) {
        // The event must be durable, whenever the first chunk comes.
        self.store();
        let tasks = streams.tasks().clone();
        tasks.spawn(async move {
            let begun = streams.begin(&self.context, chunks, Arc::clone(&self.permit)).await;
            let (body, failure, outcome) = match begun {
                Ok(body) => (body, None, Outcome::Answered),
                Err(NoAnswer::Stream(StreamError::Panicked(panicked))) => self.panicked(&panicked),
                Err(NoAnswer::Stream(StreamError::Failed(failure))) => self.failed(&RespondError::Handler(failure)),
                Err(NoAnswer::Journal(failure)) => {
                    let (account, event) = (&*self.endpoint.id, self.context.event_id());
                    warn!(account, %event, "{account}: cannot keep a streamed answer, user got the default answer: {failure}");
                    (self.default_answer(), Some(failure.to_string()), Outcome::Failed)
                }
            };
            self.endpoint.metrics.count(outcome);
            let is_dropped = is_late && failure.is_none();
            let failure = failure.or_else(|| is_dropped.then(|| self.dropped(started)));
            self.record(ReplyRecord { body, failure, sender: None });
        });
    }

    /// The platform was answered without the reply, which nobody sends. Says so, and returns what is recorded of it.
    fn dropped(&self, started: Instant) -> String {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        let (took, advice) = (seconds(started.elapsed()), late_advice(&self.endpoint.account));
        let dropped = format!("the reply was ready after {took}, which was too late, and was DROPPED: {advice}");
        warn!(account, %event, kind, "{account}: {kind}: {dropped}");
        dropped
    }

    /// The platform was answered without the reply, which the next message of the user is answered with.
    fn log_waiting(&self, started: Instant, wait: &journal::Wait) {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        let (took, keep) = (seconds(started.elapsed()), seconds(wait.keep));
        info!(
            account,
            %event,
            kind,
            "{account}: {kind}: the reply was ready after {took}; it answers the next message of the user, if that comes \
             within {keep}"
        );
    }

    fn default_answer(&self) -> Body {
        default_answer(allows(&self.endpoint), self.answered_as, self.context.raw())
    }

    fn failed(&self, failure: &RespondError) -> (Body, Option<String>, Outcome) {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        let (what, why, outcome) = match failure {
            RespondError::Handler(why) => ("failed", why.clone(), Outcome::Failed),
            RespondError::Reply(why) => ("returned what the platform refuses", why.to_string(), Outcome::BadReply),
        };
        warn!(account, %event, kind, "{account}: responder of {kind} {what}, user got the default answer: {why}");
        (self.default_answer(), Some(failure.to_string()), outcome)
    }

    fn panicked(&self, panicked: &Panicked) -> (Body, Option<String>, Outcome) {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        let said = panicked.text();
        error!(account, %event, kind, "{account}: responder of {kind} panicked, user got the default answer: {said}");
        (self.default_answer(), Some(format!("the responder {panicked}")), Outcome::Panicked)
    }
}

/// Records a reply, which settles the entry once it is durable.
pub(super) fn record(journal: Option<&dyn Journal>, entry: &Arc<Entry>, reply: ReplyRecord) {
    match journal {
        Some(journal) => journal.record(entry, reply),
        None => entry.settle(Ok(reply.body)),
    }
}
