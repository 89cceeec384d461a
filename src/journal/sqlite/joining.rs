//! Admissions that memory cannot decide: the file is asked for the key, by one delivery at a time, and others with the key wait
//! for the outcome. Else one of them could run, and be answered, between what another reads and what it enters.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    super::{
        Admission, Entry, JournalError, NewEvent,
        core::{Admitted, Running},
        id,
    },
    shared::{Pending, Shared},
};
use crate::{
    event::Platform,
    platform::{Body, DedupeKey},
};

/// A delivery that is to be admitted under a key.
pub(super) struct Arriving<'e> {
    pub(super) key: DedupeKey,
    pub(super) platform: Platform,
    /// Why the journal takes nothing new, if it does not.
    pub(super) refused: Option<JournalError>,
    /// The event, once it is decoded.
    event: Option<NewEvent>,
    decode: Option<&'e mut (dyn FnMut() -> NewEvent + Send)>,
}

impl<'e> Arriving<'e> {
    pub(super) fn decoded(key: DedupeKey, event: NewEvent) -> Self {
        Self { key, platform: event.record.platform, refused: None, event: Some(event), decode: None }
    }

    pub(super) fn undecoded(
        key: DedupeKey,
        platform: Platform,
        decode: &'e mut (dyn FnMut() -> NewEvent + Send),
        refused: Option<JournalError>,
    ) -> Self {
        Self { key, platform, refused, event: None, decode: Some(decode) }
    }

    /// Decodes the event, unless that was done.
    fn decode(&mut self) {
        if let Some(decode) = self.decode.take() {
            self.event = Some(decode());
        }
    }

    /// The event, after it was decoded.
    pub(super) fn into_event(mut self) -> Option<NewEvent> {
        self.decode();
        self.event
    }
}

/// How a delivery is joined with what is known of its key.
pub(super) enum Step {
    Admitted(Admission),
    /// It is new, and the journal takes nothing new.
    Refused(JournalError),
    /// Another delivery asks the file. If it hangs up there is no outcome.
    Wait(oneshot::Receiver<Admitted>),
    AskFile(Asking),
}

/// An event in the file, for a repeat.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) deliveries: u32,
    /// None yet: its responder ran in a process that has ended.
    pub(super) reply: Option<Body>,
}

/// Takes one step.
pub(super) fn step(shared: &Arc<Shared>, arriving: &mut Arriving<'_>) -> Step {
    let key = arriving.key;
    loop {
        let mut pending = shared.lock();
        let Pending { in_flight, index, .. } = &mut *pending;
        match in_flight.running(&key) {
            Some(Running::Entry(entry)) => {
                let entry = Arc::clone(entry);
                entry.delivered_again();
                shared.repeated(pending, entry.id);
                return Step::Admitted(Admission::Known(entry));
            }
            Some(Running::Asking(waiting)) => {
                let (respond, outcome) = oneshot::channel();
                waiting.push(respond);
                return Step::Wait(outcome);
            }
            None if index.may_have(&key, shared.now()) => {
                in_flight.ask(&key);
                return Step::AskFile(Asking { shared: Arc::clone(shared), key, ended: false });
            }
            None => {}
        }
        if let Some(trouble) = &arriving.refused {
            return Step::Refused(trouble.clone());
        }
        if let Some(event) = arriving.event.take() {
            let entry = pending.enter(event);
            pending.in_flight.run(&key, &entry);
            return Step::Admitted(Admission::Run(entry));
        }
        // Handlers are called here, so nothing may be locked; it may be known by the time they return.
        drop(pending);
        arriving.decode();
    }
}

impl Pending {
    /// Adds an event that is new.
    pub(super) fn enter(&mut self, event: NewEvent) -> Arc<Entry> {
        let entry = Entry::new(event.id, event.key, 1);
        self.admit(event, &entry);
        entry
    }
}

/// A delivery asks the file for a key. When it is dropped, because its client has hung up, the next one asks.
pub(super) struct Asking {
    shared: Arc<Shared>,
    key: DedupeKey,
    ended: bool,
}

impl Asking {
    /// The file has the key.
    pub(super) fn found(mut self, Found { id, deliveries, reply }: Found) -> Admission {
        let mut pending = self.shared.lock();
        self.ended = true;
        let (entry, waiting, runs) = match reply {
            Some(reply) => {
                pending.index.remember(self.key.bytes, self.key.until(id::millis_of(id)));
                let waiting = pending.in_flight.release(&self.key);
                (Entry::answered_with(id, deliveries + 1, reply), waiting, false)
            }
            None => {
                let entry = Entry::new(id, Some(self.key), deliveries + 1);
                entry.mark_stored();
                let waiting = pending.in_flight.run(&self.key, &entry);
                (entry, waiting, true)
            }
        };
        self.shared.repeated(pending, id);
        self.tell(waiting, &entry);
        if runs { Admission::Run(entry) } else { Admission::Known(entry) }
    }

    /// The file does not have it: the event is new.
    pub(super) fn new_event(mut self, event: NewEvent) -> Admission {
        let mut pending = self.shared.lock();
        self.ended = true;
        let entry = pending.enter(event);
        let waiting = pending.in_flight.run(&self.key, &entry);
        drop(pending);
        self.tell(waiting, &entry);
        Admission::Run(entry)
    }

    /// The file cannot be read.
    pub(super) fn failed(mut self, failure: &JournalError) {
        self.ended = true;
        let waiting = self.shared.lock().in_flight.release(&self.key);
        for waiter in waiting {
            let _ = waiter.send(Err(failure.clone()));
        }
    }

    /// The deliveries that waited are repeats of the event.
    fn tell(&self, waiting: Vec<oneshot::Sender<Admitted>>, entry: &Arc<Entry>) {
        for waiter in waiting {
            entry.delivered_again();
            self.shared.repeated(self.shared.lock(), entry.id);
            let _ = waiter.send(Ok(Admission::Known(Arc::clone(entry))));
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended {
            // Those who wait take the next step.
            let waiting = self.shared.lock().in_flight.release(&self.key);
            drop(waiting);
        }
    }
}
