//! Events whose process ended before there was a reply, and which the platform does not retry any more: the responder runs
//! again, and what it says is sent as a late reply is, or waits for the next message of the user.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::info;

use crate::{
    config::LongText,
    dispatch::{Attempt, Dispatcher},
    event::Answer,
    journal::{Entry, EventRecord, Journal, Leased, ReplyRecord, ReplySender, Wait},
    next_message,
    observers::{self, Failed},
    payload,
    platform::{self, Address, Body},
    replies,
};

/// How often a responder is run for one event, the run of its delivery included: one that ends the process every time must
/// not do so for ever.
const MAX_RUNS: u32 = 3;

/// How such events are answered.
pub(super) struct Unanswered {
    /// What happens to long texts, by account.
    pub(super) long_texts: HashMap<Arc<str>, LongText>,
    /// How long late replies wait for the next message, by account.
    pub(super) next: HashMap<Arc<str>, Duration>,
    pub(super) dispatcher: Dispatcher,
    pub(super) journal: Arc<dyn Journal>,
}

impl Unanswered {
    /// Whether late replies of an account wait for the next message.
    pub(super) fn waits(&self, account: &str) -> bool {
        self.next.contains_key(account)
    }

    /// Runs the responder, and records its reply as a late one. The next lease of the event has it.
    pub(super) async fn respond(&self, leased: Leased, deadline: Instant) -> Result<(), Failed> {
        let Leased { lease, record, .. } = leased;
        let number = lease.attempt + 1;
        if number > MAX_RUNS {
            return Err(Failed::Permanent(format!("no reply after {MAX_RUNS} runs: its process ended, or it failed")));
        }
        let (account, event, kind) = (&*record.account, lease.id, &*record.event_type);
        info!(account, %event, kind, "{account}: {kind} has no reply, for its process ended: running its responder again");
        let answer = observers::respond(&self.dispatcher, &record, Attempt { id: event, number, deadline }).await?;
        let reply = match answer {
            Answer::Passive(_) => self.late(answer, &record)?,
            _ => {
                ReplyRecord { body: Body::Plain(platform::plain_success(record.platform)), failure: None, sender: None }
            }
        };
        let is_late = reply.sender.is_some();
        let entry = Entry::pulled(event);
        entry.mark_replied();
        self.journal.record(&entry, reply);
        match entry.answered().await {
            Ok(_) if !is_late || self.waits(&record.account) => Ok(()),
            Ok(_) => Err(Failed::NotYet {
                after: Duration::ZERO,
                of_account: false,
                reason: "its reply is recorded".to_owned(),
            }),
            Err(failure) => Err(Failed::Retry(failure.to_string())),
        }
    }

    /// What is recorded of a reply.
    fn late(&self, mut answer: Answer, record: &EventRecord) -> Result<ReplyRecord, Failed> {
        let keep = self.next.get(&record.account).copied();
        if let Some(bytes) = replies::long_text(&answer) {
            match self.long_texts.get(&record.account) {
                Some(LongText::Error) => return Err(Failed::Permanent(replies::too_long(bytes).to_string())),
                Some(LongText::Split) if keep.is_none() => {}
                Some(LongText::Split | LongText::Cut) | None => replies::cut_text(&mut answer),
            }
        }
        let (address, waits) = {
            let tree = payload::parse(record.form, record.payload.text());
            let tree = tree.map_err(|failure| Failed::Permanent(failure.to_string()))?;
            let user = keep.map(|_| platform::correspondents(&tree).ok_or_else(nobody)).transpose()?;
            (Address::of(&tree), user.zip(keep).map(|(user, keep)| Wait { user, keep }))
        };
        let body = platform::write_answer(record.platform, record.form, answer, address, self.dispatcher.clock.now());
        let observer = if waits.is_some() { next_message::OBSERVER } else { super::OBSERVER };
        let sender = ReplySender { observer: observer.into(), is_due: true, record: record.clone(), waits };
        Ok(ReplyRecord { body, failure: None, sender: Some(Box::new(sender)) })
    }
}

fn nobody() -> Failed {
    Failed::Permanent("the message names no user for whom its reply could wait".to_owned())
}
