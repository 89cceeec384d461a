//! The responder of a new event: runs it, if there is one.

use std::{sync::Arc, time::Instant};

use tracing::warn;
use uuid::Uuid;

use super::{
    Delivery, Endpoint, PushedEvent, Receiver,
    admit::{Admitted, wait},
    answer::{allows, default_of},
    next_message::{Own, wait_of},
    reply::{Reply, record},
};
use crate::{
    blocking::Timed,
    config::{self, LongText},
    dispatch::Call,
    event::{EventSpec, ReplyKind},
    hooks::Responded,
    journal::{Entry, Journal, Millis, ReplyRecord},
    metrics::Outcome,
    payload::PayloadError,
    platform::{self, Address},
};

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
        let own = running.map_or_else(
            |_| {
                let outcome = match (spec, delivery.fault) {
                    _ if is_partial && is_question => Outcome::Undecided,
                    (Some(_), _) => Outcome::Acknowledged,
                    (None, Some(_)) => Outcome::Unreadable,
                    (None, None) => Outcome::Unknown,
                };
                Own::Default(outcome, default_of(permits, answered_as, endpoint.account.platform, event.tree))
            },
            Own::Responder,
        );
        let reply = |context| {
            let can_split = can_split(&endpoint.account, spec);
            let needs_subject = wait.sender.is_some() || can_split;
            let subject = needs_subject.then(|| platform::subject(endpoint.account.platform, event.tree)).flatten();
            let waits = wait.waits().then(|| wait_of(delivery, event)).flatten();
            Reply {
                endpoint: Arc::clone(endpoint),
                entry: Arc::clone(&entry),
                journal: journal.clone(),
                now: delivery.now,
                answered_as,
                permits,
                address: Address::of(event.tree),
                context,
                streams: self.streams.clone(),
                // Who is not named is not told later.
                sender: wait.sender.filter(|_| !wait.waits() || waits.is_some()),
                waits,
                can_split,
                subject: subject.map(Into::into),
                received,
                permit: Arc::clone(delivery.request.permit),
            }
        };
        match (own, self.recipient(delivery, event, spec)) {
            (own, Some(recipient)) => self.answer_next(own, reply(context.clone()), recipient),
            (Own::Responder(running), None) => self.run(running, reply(context.clone())),
            (Own::Default(outcome, body), None) => {
                endpoint.metrics.count(outcome);
                entry.mark_replied();
                record(journal.as_deref(), &entry, ReplyRecord { body, failure: None, sender: None });
            }
        }
        Admitted { entry, wait, event: Some((answered_as, context)) }
    }

    /// Runs the responder. One that is ready at once needs no task; any other becomes a task of its own, which survives
    /// a client that hangs up. Either way its panic is only its own.
    fn run(&self, running: Timed<Responded>, reply: Reply) {
        let started = Instant::now();
        reply.entry.begin(started);
        if let Some((reply, running)) = reply.poll(running, started) {
            self.tasks.spawn(reply.wait_for(running, started));
        }
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
