//! Admission: an event is entered into the journal once, and its responder is called if it is new.

use std::{
    future::ready,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Delivery, PushedEvent, Receiver};
use crate::{
    blocking::{Handler, Timed},
    config::LateReply,
    dispatch::{Attempt, Call, Incoming, Source},
    event::{Answer, EventSpec, ReplyKind},
    hooks::{Context, Responded, Running},
    journal::{self, Admission, Entry, JournalError, Millis, NewEvent, Undecoded},
    late, next_message,
    observers::Candidate,
    panics::Caught,
    platform::{self, DedupeKey},
    thirdparty::ReleaseTest,
};

/// When the platforms close the connection of an attempt; a held attempt waits no longer.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(5);

/// How often WeChat and WeCom deliver an event that is not answered.
const MAX_DELIVERIES: u32 = 3;

/// An event of a delivery, in the journal.
pub(super) struct Admitted {
    pub(super) entry: Arc<Entry>,
    pub(super) wait: Wait,
    /// The event, and as what it is answered, for the default answer; a repeat needs none.
    pub(super) event: Option<(Option<&'static EventSpec>, Context)>,
}

/// How long a delivery waits for the reply.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub(super) until: Instant,
    /// The time of the responder: that of the account, or less where the platform waits less for the event.
    pub(super) deadline: Duration,
    /// The platform retries when it gets no answer, and may wait for that.
    pub(super) is_held: bool,
    /// A reply that comes later is sent by this observer, or waits there for the next message of the user.
    pub(super) sender: Option<&'static str>,
}

impl Wait {
    /// Whether a reply that comes later waits for the next message of the user.
    pub(super) fn waits(&self) -> bool {
        self.sender == Some(next_message::OBSERVER)
    }
}

impl Receiver {
    /// Enters an event, and has it answered if it is new.
    pub(super) async fn admit(
        &self,
        delivery: &Delivery<'_>,
        event: &PushedEvent<'_>,
    ) -> Result<Admitted, JournalError> {
        let Delivery { request, identity, .. } = *delivery;
        let endpoint = request.endpoint;
        let query = |name: &str| delivery.query.get(name).map(str::to_owned);
        let (platform, text) = (endpoint.account.platform, event.payload.text());
        let key = platform::dedupe_key(platform, &endpoint.id, identity.spec, event.tree, text, &query);
        let received = journal::now_millis();
        let (call, admission) = match key {
            Some(key) => {
                let mut call = None;
                let mut decode = || {
                    let (decoded, new) = self.decode(delivery, event, Some(key), received);
                    call = Some(decoded);
                    new
                };
                let undecoded = Undecoded { key, platform, decode: &mut decode };
                let admission = self.journal.admit_undecoded(undecoded).await?;
                (call, admission)
            }
            None => {
                let (call, new) = self.decode(delivery, event, None, received);
                // Who listens sees what is in the journal.
                let is_listened_to = self.dispatcher.hooks.is_listened_to(&new.record.account, &new.record.event_type);
                if new.observers.is_empty() && !is_listened_to {
                    // A question about this moment that nobody observes: there is nothing to store.
                    let entry = Entry::new(new.id, None, 1);
                    entry.mark_stored();
                    return Ok(self.respond(delivery, event, call, entry, received, None));
                }
                (Some(call), self.journal.admit(new).await?)
            }
        };
        let entry = match admission {
            Admission::Known(entry) => {
                let wait = wait(delivery, identity.spec, entry.deliveries());
                return Ok(Admitted { entry, wait, event: None });
            }
            Admission::Run(entry) => entry,
        };
        // One whose node has stopped has an identity already, with which its responder is called.
        let call = call.filter(|call| call.context.event_id() == entry.id);
        let call = call.unwrap_or_else(|| self.call(delivery, event, entry.id));
        Ok(self.respond(delivery, event, call, entry, received, Some(Arc::clone(&self.journal))))
    }

    /// Decodes an event that may be new: the call of its responder, and what is stored.
    fn decode(
        &self,
        delivery: &Delivery<'_>,
        event: &PushedEvent<'_>,
        key: Option<DedupeKey>,
        received: Millis,
    ) -> (Call<Responded>, NewEvent) {
        let id = self.journal.next_id(received);
        let call = self.call(delivery, event, id);
        let candidate = Candidate { id, key, raw: call.context.raw(), spec: call.spec, tree: event.tree, received };
        let new = self.subscribers.new_event(candidate, &[]);
        (call, new)
    }

    /// Decodes an event, and calls its responder.
    fn call(&self, delivery: &Delivery<'_>, event: &PushedEvent<'_>, id: Uuid) -> Call<Responded> {
        let Delivery { request, identity, form, .. } = *delivery;
        let endpoint = request.endpoint;
        let source = Source {
            platform: endpoint.account.platform,
            account: &endpoint.id,
            form,
            payload: &event.payload,
            query: delivery.data.as_ref(),
        };
        let incoming = Incoming { source, tree: event.tree, identity, authorizer: request.authorizer };
        let deadline = request.arrived + deadline(delivery, identity.spec);
        let mut call = self.dispatcher.respond(incoming, Attempt { id, number: 1, deadline });
        if endpoint.account.release_test
            && request.authorizer.is_some()
            && let Some(step) = ReleaseTest::of(event.tree)
        {
            let running = self.answer_release_test(&endpoint.id, step);
            let handler = Handler::Responder(call.context.raw().event_type);
            call.running = Ok(Timed::new(running, self.dispatcher.blocking.clone(), Arc::clone(&endpoint.id), handler));
        }
        call
    }

    /// Answers the platform that tests its third-party platform.
    fn answer_release_test(&self, account: &str, step: ReleaseTest) -> Running<Responded> {
        let (code, user) = match step {
            ReleaseTest::Answer(answer) => return Caught::new(Box::pin(ready(Ok(answer)))),
            ReleaseTest::Message { code, user } => (code, user),
        };
        let (api, tasks) = (self.dispatcher.apis.get(account).cloned(), self.tasks.clone());
        Caught::new(Box::pin(async move {
            if let Some(api) = api {
                tasks.spawn(ReleaseTest::send(api, code, user));
            }
            Ok(Answer::Default)
        }))
    }
}

/// How long a delivery waits for the reply. A held one waits until the platform retries, and the last attempt is
/// answered in time whatever happens.
pub(super) fn wait(delivery: &Delivery<'_>, spec: Option<&EventSpec>, attempt: u32) -> Wait {
    let account = &delivery.request.endpoint.account;
    let reaches_user = spec.is_some_and(|spec| spec.reply == ReplyKind::Passive);
    let is_brief = spec.is_some_and(|spec| spec.timeout.is_some());
    let is_held = account.late_reply == LateReply::Hold && reaches_user && !is_brief && attempt < MAX_DELIVERIES;
    let deadline = deadline(delivery, spec);
    let longest = if is_held { deadline.max(PLATFORM_TIMEOUT) } else { deadline };
    let sender = match account.late_reply {
        LateReply::Hold | LateReply::Send => (reaches_user && account.secret.is_some()).then_some(late::OBSERVER),
        LateReply::Next => spec.is_some_and(EventSpec::is_awaited).then_some(next_message::OBSERVER),
        LateReply::Drop => None,
    };
    Wait { until: delivery.request.arrived + longest, deadline, is_held, sender }
}

/// How long the responder may take, from the arrival of the delivery.
fn deadline(delivery: &Delivery<'_>, spec: Option<&EventSpec>) -> Duration {
    let of_account = delivery.request.endpoint.account.deadline;
    spec.map_or(of_account, |spec| spec.deadline(of_account))
}
