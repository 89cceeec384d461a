//! The responder of a new event: runs it, and records its reply, or the default answer in its place.

use std::{
    mem,
    sync::Arc,
    task::{self, Poll, Waker},
    time::Instant,
};

use futures_util::FutureExt as _;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    Delivery, Endpoint, PushedEvent, Receiver,
    admit::{Admitted, wait},
    answer::{allows, default_answer, default_of, late_advice},
};
use crate::{
    config::{self, LongText},
    dispatch::Call,
    event::{Answer, AnswerStream, EventSpec, ReplyKind, StreamError},
    hooks::{Context, RespondError, Responded, Running},
    in_flight::Permit,
    journal::{self, Entry, Journal, Millis},
    late,
    metrics::Outcome,
    panics::Panicked,
    payload::PayloadError,
    platform::{self, Address, Body},
    replies,
    streams::{NoAnswer, Streams},
};

/// What has to be known once a responder is done.
struct Reply {
    endpoint: Arc<Endpoint>,
    entry: Arc<Entry>,
    /// Where the reply is recorded; nowhere, when the event is not stored.
    journal: Option<Arc<dyn Journal>>,
    /// The time of day, Unix seconds, for the reply.
    now: i64,
    /// What the platform expects of the answer.
    answered_as: Option<&'static EventSpec>,
    /// Whether a permission of the responder counts: not that of one which has not seen all of the question, on an account
    /// that denies what fails.
    permits: bool,
    address: Address,
    context: Context,
    /// What takes the chunks of a streamed answer.
    streams: Option<Arc<Streams>>,
    /// The observer that sends a late reply.
    sender: Option<&'static str>,
    /// Whether a text that is too long for the response is sent through the API.
    can_split: bool,
    subject: Option<Box<str>>,
    received: Millis,
    permit: Arc<Permit>,
}

impl Receiver {
    /// Has the responder answer, if there is one.
    pub(super) fn respond(
        &self,
        delivery: &Delivery<'_>,
        event: &PushedEvent<'_>,
        call: Call<Responded>,
        entry: Arc<Entry>,
        received: Millis,
        journal: Option<Arc<dyn Journal>>,
    ) -> Admitted {
        call.log_unreadable();
        let endpoint = delivery.request.endpoint;
        if let Some(fault) = delivery.fault {
            log_fault(endpoint, entry.id, call.context.raw().event_type, fault);
        }
        let Call { spec, context, running, is_partial, .. } = call;
        let answered_as = spec.or_else(|| delivery.identity.answered_as(endpoint.account.platform));
        let is_question = answered_as.is_some_and(|spec| spec.reply == ReplyKind::Verdict);
        let permits = !(is_partial && is_question) || allows(endpoint);
        let wait = wait(delivery, spec, entry.deliveries());
        match running {
            Ok(running) => {
                let can_split = can_split(&endpoint.account, spec);
                let needs_subject = wait.sender.is_some() || can_split;
                let subject = needs_subject.then(|| platform::subject(endpoint.account.platform, event.tree)).flatten();
                let reply = Reply {
                    endpoint: Arc::clone(endpoint),
                    entry: Arc::clone(&entry),
                    journal,
                    now: delivery.now,
                    answered_as,
                    permits,
                    address: Address::of(event.tree),
                    context: context.clone(),
                    streams: self.streams.clone(),
                    sender: wait.sender,
                    can_split,
                    subject: subject.map(Into::into),
                    received,
                    permit: Arc::clone(delivery.request.permit),
                };
                self.run(running, reply);
            }
            Err(_) => {
                endpoint.metrics.count(match (spec, delivery.fault) {
                    _ if is_partial && is_question => Outcome::Undecided,
                    (Some(_), _) => Outcome::Acknowledged,
                    (None, Some(_)) => Outcome::Unreadable,
                    (None, None) => Outcome::Unknown,
                });
                let body = default_of(permits, answered_as, endpoint.account.platform, event.tree);
                entry.mark_replied();
                record(journal.as_deref(), &entry, journal::ReplyRecord { body, failure: None, sender: None });
            }
        }
        Admitted { entry, wait, event: Some((answered_as, context)) }
    }

    /// Runs the responder. One that is ready at once needs no task; any other becomes a task of its own, which survives
    /// a client that hangs up. Either way its panic is only its own.
    fn run(&self, mut running: Running<Responded>, mut reply: Reply) {
        let started = Instant::now();
        reply.entry.begin(started);
        // Whoever polls next brings a waker of its own.
        match running.poll_unpin(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => reply.finish(result, started),
            Poll::Pending => {
                // The event must be durable before its default answer is given.
                if let Some(journal) = &reply.journal {
                    journal.store(&reply.entry);
                }
                self.tasks.spawn(async move {
                    let event_type = reply.context.raw().event_type;
                    let permit = Arc::clone(&reply.permit);
                    let run = permit.run(event_type, started);
                    let result = running.await;
                    drop(run);
                    reply.now = reply.context.clock().now();
                    reply.finish(result, started);
                });
            }
        }
    }
}

impl Reply {
    /// Records the responder's reply, or the default answer in its place.
    fn finish(mut self, result: Result<Responded, Panicked>, started: Instant) {
        self.endpoint.metrics.responder.record(started.elapsed().as_secs_f64());
        let (result, is_split) = self.fit(result);
        let address = mem::take(&mut self.address);
        let (raw, spec) = (self.context.raw(), self.answered_as);
        let (mut is_passive, mut says) = (false, false);
        let (body, failure, outcome) = match result {
            Ok(Ok(Answer::Stream(chunks))) if let Some(streams) = self.streams.clone() => {
                return self.stream(streams, chunks, started);
            }
            Ok(Ok(answer)) if !self.permits && replies::im::is_bare_permission(&answer) => {
                (default_answer(false, spec, raw), None, Outcome::Undecided)
            }
            Ok(Ok(Answer::Default)) => (default_answer(true, spec, raw), None, Outcome::Answered),
            Ok(Ok(answer)) => {
                (is_passive, says) = (matches!(answer, Answer::Passive(_)), true);
                let body = platform::write_answer(raw.platform, raw.form, answer, address, self.now);
                (body, None, Outcome::Answered)
            }
            Ok(Err(failure)) => self.failed(&failure),
            Err(panicked) => self.panicked(&panicked),
        };
        self.endpoint.metrics.count(outcome);
        let is_late = self.entry.mark_replied();
        // What is late and would not be sent is not sent because it is long.
        let is_split = is_split && !(is_late && self.sender.is_none());
        let is_due = is_late || is_split;
        let sender = self.sender.or(is_split.then_some(late::OBSERVER)).filter(|_| is_passive).map(|observer| {
            let record = raw.record(self.subject.take(), self.received);
            Box::new(journal::ReplySender { observer: observer.into(), is_due, record })
        });
        let is_dropped = says && is_late && sender.is_none();
        let failure = failure.or_else(|| is_dropped.then(|| self.dropped(started)));
        record(self.journal.as_deref(), &self.entry, journal::ReplyRecord { body, failure, sender });
    }

    /// Has the text of a reply fit. Returns whether it does not, and is sent through the API instead.
    fn fit(&self, mut result: Result<Responded, Panicked>) -> (Result<Responded, Panicked>, bool) {
        let Ok(Ok(answer)) = &mut result else { return (result, false) };
        let Some((long_text, bytes)) = self.endpoint.account.long_text.zip(replies::long_text(answer)) else {
            return (result, false);
        };
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        match long_text {
            LongText::Error => return (Ok(Err(RespondError::Reply(replies::too_long(bytes)))), false),
            LongText::Split if self.can_split => {
                info!(account, %event, kind, "{account}: {kind}: the text has {bytes} bytes: sending it in parts through the API");
                return (result, true);
            }
            LongText::Split | LongText::Cut => {
                replies::cut_text(answer);
                warn!(
                    account,
                    %event,
                    kind,
                    "{account}: {kind}: cut a text of {bytes} bytes to {}: set `secret` and `long_text = \"split\"` to \
                     have it sent in parts through the API",
                    replies::MAX_TEXT_BYTES
                );
            }
        }
        (result, false)
    }

    /// Starts a streamed answer; its first text is the reply.
    fn stream(self, streams: Arc<Streams>, chunks: AnswerStream, started: Instant) {
        // The event must be durable, whenever the first chunk comes.
        if let Some(journal) = &self.journal {
            journal.store(&self.entry);
        }
        let tasks = streams.tasks().clone();
        // What is there and cannot be stored is not late.
        let is_late = self.entry.mark_replied();
        tasks.spawn(async move {
            let begun = streams.begin(&self.context, chunks, Arc::clone(&self.permit)).await;
            let (body, failure, outcome) = match begun {
                Ok(body) => (body, None, Outcome::Answered),
                Err(NoAnswer::Stream(StreamError::Panicked(panicked))) => self.panicked(&panicked),
                Err(NoAnswer::Stream(StreamError::Failed(failure))) => self.failed(&RespondError::Handler(failure)),
                Err(NoAnswer::Journal(failure)) => {
                    let (account, event) = (&*self.endpoint.id, self.context.event_id());
                    warn!(account, %event, "{account}: no reply, gave the default answer: {failure}");
                    (self.default_answer(), Some(failure.to_string()), Outcome::Failed)
                }
            };
            self.endpoint.metrics.count(outcome);
            let is_dropped = is_late && failure.is_none();
            let failure = failure.or_else(|| is_dropped.then(|| self.dropped(started)));
            record(self.journal.as_deref(), &self.entry, journal::ReplyRecord { body, failure, sender: None });
        });
    }

    /// The platform was answered without the reply, which nobody sends. Says so, and returns what is recorded of it.
    fn dropped(&self, started: Instant) -> String {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        let (seconds, advice) = (started.elapsed().as_secs_f64(), late_advice(&self.endpoint.account));
        let dropped =
            format!("the reply was ready after {seconds:.1} s, which was too late, and was DROPPED: {advice}");
        warn!(account, %event, kind, "{account}: {kind}: {dropped}");
        dropped
    }

    fn default_answer(&self) -> Body {
        default_answer(allows(&self.endpoint), self.answered_as, self.context.raw())
    }

    fn failed(&self, failure: &RespondError) -> (Body, Option<String>, Outcome) {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        warn!(account, %event, kind, "{account}: no reply to {kind}, gave the default answer: {failure}");
        let outcome = match failure {
            RespondError::Handler(_) => Outcome::Failed,
            RespondError::Reply(_) => Outcome::BadReply,
        };
        (self.default_answer(), Some(failure.to_string()), outcome)
    }

    fn panicked(&self, panicked: &Panicked) -> (Body, Option<String>, Outcome) {
        let (account, event, kind) = (&*self.endpoint.id, self.context.event_id(), self.context.raw().event_type);
        error!(account, %event, kind, "{account}: no reply to {kind}, gave the default answer: the responder {panicked}");
        (self.default_answer(), Some(format!("the responder {panicked}")), Outcome::Panicked)
    }
}

/// Whether a text that is too long for the response is sent through the API.
fn can_split(account: &config::Account, spec: Option<&EventSpec>) -> bool {
    account.long_text == Some(LongText::Split)
        && account.can_send()
        && spec.is_some_and(|spec| spec.reply == ReplyKind::Passive)
}

fn log_fault(endpoint: &Endpoint, event: Uuid, kind: &str, fault: &PayloadError) {
    let account = &*endpoint.id;
    warn!(account, %event, kind, "{account}: could not read a delivery, stored it as {kind}: {fault}");
}

/// Records a reply, which settles the entry once it is durable.
fn record(journal: Option<&dyn Journal>, entry: &Arc<Entry>, reply: journal::ReplyRecord) {
    match journal {
        Some(journal) => journal.record(entry, reply),
        None => entry.settle(Ok(reply.body)),
    }
}
