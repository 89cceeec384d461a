//! A message that is answered with a late reply to an earlier one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;
use tracing::{info, warn};

use super::{Delivery, PushedEvent, Receiver, reply::Reply};
use crate::{
    blocking::Timed,
    config::NextMessage,
    event::{EventSpec, Platform, ReplyKind},
    hooks::Responded,
    journal::{self, EventRecord, JournalError, Recipient, ReplyRecord, ReplySender, TakenReply, Wait, WaitingReply},
    metrics::Outcome,
    next_message::OBSERVER,
    payload::Form,
    platform::{self, Address, Body},
    replies,
};

/// How often a reply that is still to come is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(150);

/// What the looking leaves of the deadline at most, so that the answer is recorded in time.
const MARGIN: Duration = Duration::from_millis(500);

/// What answers an event without any other reply.
pub(super) enum Own {
    /// Its responder.
    Responder(Timed<Responded>),
    /// The default answer, as it has none.
    Default(Outcome, Body),
}

/// What was found for a message.
enum Found {
    Nothing,
    /// A late reply is still to come.
    Coming,
    Reply(TakenReply),
}

impl Receiver {
    /// Whose late replies answer an event: those of the user, if it is a message.
    pub(super) fn recipient(
        &self,
        delivery: &Delivery<'_>,
        event: &PushedEvent<'_>,
        spec: Option<&EventSpec>,
    ) -> Option<Recipient> {
        let endpoint = delivery.request.endpoint;
        endpoint.account.next_message.as_ref()?;
        spec.filter(|spec| spec.is_message() && spec.reply == ReplyKind::Passive)?;
        let user = platform::correspondents(event.tree)?;
        Some(Recipient { observer: OBSERVER.into(), account: Arc::clone(&endpoint.id), user })
    }

    /// What a repeat is answered whose recorded answer says nothing, while a reply waits for the user: it may be that of the
    /// late message, and the platform has not taken the first answer.
    pub(super) async fn answer_repeat(&self, delivery: &Delivery<'_>, event: &PushedEvent<'_>) -> Option<Body> {
        let (account, user) = (Arc::clone(&delivery.request.endpoint.id), platform::correspondents(event.tree)?);
        let recipient = Recipient { observer: OBSERVER.into(), account, user };
        match self.journal.waiting_reply(&recipient, None).await {
            Ok(WaitingReply::Coming | WaitingReply::Ready) => answer_late(delivery, event),
            Ok(WaitingReply::Nothing) | Err(_) => None,
        }
    }

    /// Answers a message with the late reply that waits for it, or as any other.
    pub(super) fn answer_next(&self, own: Own, reply: Reply, recipient: Recipient) {
        let started = Instant::now();
        reply.entry.begin(started);
        self.tasks.spawn(async move {
            let next = reply.endpoint.account.next_message.clone();
            let body = match reply.find_late(&recipient, started).await {
                Found::Nothing => return reply.answer_itself(own, started).await,
                Found::Coming => reply.still_coming(next.as_ref()),
                Found::Reply(taken) => reply.answered_with(taken),
            };
            reply.record(ReplyRecord { body, failure: None, sender: None });
            if let Own::Responder(running) = own
                && next.is_some_and(|next| next.runs_responder)
            {
                // What it does is wanted, what it says is not.
                drop(running.await);
            }
        });
    }
}

impl Reply {
    /// Looks for a late reply, and takes it; waits for one that is still to come as long as the deadline allows.
    async fn find_late(&self, recipient: &Recipient, started: Instant) -> Found {
        let Some(journal) = &self.journal else { return Found::Nothing };
        let deadline = self.context.deadline();
        let margin = deadline.saturating_duration_since(started).div_f64(4.0).min(MARGIN);
        let until = deadline.checked_sub(margin).unwrap_or(deadline);
        loop {
            let may_wait = Instant::now() < until;
            match journal.waiting_reply(recipient, Some(self.entry.id)).await {
                Ok(WaitingReply::Nothing) => return Found::Nothing,
                Ok(WaitingReply::Coming) if !may_wait => return Found::Coming,
                Ok(WaitingReply::Coming) => {}
                // The platform was answered without it.
                Ok(WaitingReply::Ready) if !self.entry.claim() => return Found::Coming,
                Ok(WaitingReply::Ready) => match journal.take_reply(recipient, &self.entry).await {
                    Ok(Some(taken)) => return Found::Reply(taken),
                    taken => {
                        self.entry.unclaim();
                        if let Err(failure) = taken {
                            return self.not_found(&failure);
                        }
                        // Another message was faster. There may be a second one.
                        if !may_wait {
                            return Found::Nothing;
                        }
                    }
                },
                Err(failure) => return self.not_found(&failure),
            }
            // The event must be durable before its default answer is given.
            self.store();
            let rest = until.saturating_duration_since(Instant::now());
            time::sleep(LOOK_INTERVAL.min(rest)).await;
        }
    }

    /// If it was taken all the same, the journal has it as the reply of the event, and that stands.
    fn not_found(&self, failure: &JournalError) -> Found {
        let (account, event) = (&*self.endpoint.id, self.entry.id);
        warn!(account, %event, "{account}: could not look for a late reply, so the message has its own: {failure}");
        Found::Nothing
    }

    /// The responder answers, if there is one.
    async fn answer_itself(self, own: Own, started: Instant) {
        match own {
            Own::Responder(running) => {
                if let Some((reply, running)) = self.poll(running, started) {
                    reply.wait_for(running, started).await;
                }
            }
            Own::Default(outcome, body) => {
                self.endpoint.metrics.count(outcome);
                self.entry.mark_replied();
                self.record(ReplyRecord { body, failure: None, sender: None });
            }
        }
    }

    /// The message is answered as the one before was.
    fn still_coming(&self, next: Option<&NextMessage>) -> Body {
        let (account, event, raw) = (&*self.endpoint.id, self.entry.id, self.context.raw());
        let kind = raw.event_type;
        info!(
            account,
            %event,
            kind,
            "{account}: {kind}: the late reply for the user is still to come; answered `late_text`"
        );
        self.endpoint.metrics.count(Outcome::Late);
        self.entry.mark_replied();
        match next {
            Some(next) => late_text(next, raw.platform, raw.form, self.address.clone(), self.now),
            None => Body::Plain(platform::plain_success(raw.platform)),
        }
    }

    fn answered_with(&self, TakenReply { event: late, body }: TakenReply) -> Body {
        let (account, event, kind) = (&*self.endpoint.id, self.entry.id, self.context.raw().event_type);
        info!(account, %event, kind, %late, "{account}: {kind}: answered with the late reply of event {late}");
        self.endpoint.metrics.count(Outcome::Answered);
        body
    }
}

/// What a user is answered whose reply is still to come.
fn late_text(next: &NextMessage, platform: Platform, form: Form, to: Address, now: i64) -> Body {
    platform::write_answer(platform, form, replies::text_answer(next.text.as_ref().to_owned()), to, now)
}

/// What a delivery is answered whose reply waits for the next message.
pub(super) fn answer_late(delivery: &Delivery<'_>, event: &PushedEvent<'_>) -> Option<Body> {
    let account = &delivery.request.endpoint.account;
    let next = account.next_message.as_ref()?;
    Some(late_text(next, account.platform, delivery.form, Address::of(event.tree), delivery.now))
}

/// For whom a reply waits that the platform was answered without.
pub(super) fn wait_of(delivery: &Delivery<'_>, event: &PushedEvent<'_>) -> Option<Wait> {
    let keep = delivery.request.endpoint.account.next_message.as_ref()?.keep;
    Some(Wait { user: platform::correspondents(event.tree)?, keep })
}

/// What the journal is told of a reply that is given up, so that the next message waits for it.
pub(super) fn sender_of(delivery: &Delivery<'_>, event: &PushedEvent<'_>) -> Option<Box<ReplySender>> {
    let waits = wait_of(delivery, event)?;
    let endpoint = delivery.request.endpoint;
    let platform = endpoint.account.platform;
    let record = EventRecord {
        platform,
        account: Arc::clone(&endpoint.id),
        event_type: delivery.identity.event_type(platform).into(),
        subject: platform::subject(platform, event.tree).map(Into::into),
        form: delivery.form,
        payload: event.payload.clone(),
        query: delivery.data.clone(),
        received: journal::now_millis(),
    };
    Some(Box::new(ReplySender { observer: OBSERVER.into(), is_due: true, record, waits: Some(waits) }))
}
