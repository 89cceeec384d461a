//! Late replies that wait for the next message of a user.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    super::{Entry, Millis, Recipient, ReplySender, TakenReply, Wait, WaitingReply, millis},
    room::{of_observed, of_waiter},
    state::{Observation, Origin, State, Wanted},
};
use crate::platform::Body;

/// The events of a user whose replies wait.
pub(super) type Waiting = BTreeSet<Uuid>;

/// Whose replies wait, by account and user.
#[derive(Debug, Default)]
pub(super) struct Waiters(HashMap<Arc<str>, HashMap<Box<str>, Waiting>>);

impl Waiters {
    fn insert(&mut self, account: &Arc<str>, user: &str, event: Uuid) {
        self.0.entry(Arc::clone(account)).or_default().entry(user.into()).or_default().insert(event);
    }

    pub(super) fn remove(&mut self, account: &str, user: &str, event: Uuid) {
        let Some(users) = self.0.get_mut(account) else { return };
        if let Some(events) = users.get_mut(user)
            && events.remove(&event)
            && events.is_empty()
        {
            users.remove(user);
        }
    }

    fn of<'w>(&'w self, recipient: &Recipient) -> impl Iterator<Item = Uuid> + use<'w> {
        let users = self.0.get(&recipient.account);
        users.and_then(|users| users.get(&recipient.user)).into_iter().flatten().copied()
    }
}

impl Wanted {
    /// What it takes to wait for a reply.
    pub(super) fn of_waiting(sender: &ReplySender) -> Self {
        let user = sender.waits.as_ref().map(|wait| &*wait.user);
        Self { observed: of_observed(&sender.record, true, 1) + of_waiter(user), remembered: 0 }
    }
}

impl Observation {
    /// Whether its reply is late, and there.
    pub(super) fn is_late(&self) -> bool {
        self.event.origin == Origin::Late
    }
}

impl State {
    /// Whether it is known already that the reply of an event is waited for.
    pub(super) fn is_awaited(&self, sender: &ReplySender, event: Uuid) -> bool {
        self.observations.get(&sender.observer).is_some_and(|observations| observations.contains_key(&event))
    }

    /// A reply, or one that is still to come, waits for the next message of a user.
    pub(super) fn wait_for_next(&mut self, sender: &ReplySender, wait: &Wait, entry: &Arc<Entry>, now: Millis) {
        let due = now.saturating_add(millis(wait.keep));
        let observers = vec![Arc::clone(&sender.observer)];
        // A late reply has an entry of its own, without a key; what is still to come has that of its event.
        let origin = if entry.key.is_none() { Origin::Late } else { Origin::Delivery };
        self.offer_to(sender.record.clone(), entry, observers, due, origin, Some(&wait.user));
        self.waiters.insert(&sender.record.account, &wait.user, entry.id);
    }

    pub(super) fn waiting_reply(&self, recipient: &Recipient, except: Option<Uuid>, now: Millis) -> WaitingReply {
        let mut waiting = WaitingReply::Nothing;
        for (_, observation) in self.waiting_of(recipient, except, now) {
            if observation.is_late() {
                return WaitingReply::Ready;
            }
            if observation.event.entry.reply().is_none() {
                waiting = WaitingReply::Coming;
            }
        }
        waiting
    }

    /// The oldest late reply of a user no longer waits.
    pub(super) fn take_reply(&mut self, recipient: &Recipient, event: Uuid, now: Millis) -> Option<TakenReply> {
        let taken = self.waiting_of(recipient, Some(event), now).find(|(_, observation)| observation.is_late());
        let (late, observation) = taken?;
        let body: Body = observation.event.entry.reply()?.clone().ok()?;
        self.remove(&recipient.observer, late);
        Some(TakenReply { event: late, body })
    }

    /// What waits of a user, but for an event, the oldest first.
    fn waiting_of<'s>(
        &'s self,
        recipient: &'s Recipient,
        except: Option<Uuid>,
        now: Millis,
    ) -> impl Iterator<Item = (Uuid, &'s Observation)> {
        let observations = self.observations.get(&recipient.observer);
        let of_user = self.waiters.of(recipient).filter(move |id| Some(*id) != except);
        let found = of_user.filter_map(move |id| Some((id, observations?.get(&id)?)));
        found.filter(move |(_, observation)| !observation.leased && observation.due > now)
    }
}
