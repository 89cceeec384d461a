//! Late replies that answer the next message of the user: for accounts that cannot send messages by themselves.
//!
//! ```text
//! deadline ──▶ `late_text`, and from now on the reply is waited for ──▶ reply ──▶ waits ──▶ next message: its reply
//!                                                                                  └─ `late_keep` is over: dropped
//! ```
//!
//! What waits is an observation of this observer, with the user as its ordering key, so it outlives the process and is found by
//! every node. A message takes it in one transaction, in which it becomes the reply of that message
//! ([`Journal::take_reply`](crate::journal::Journal::take_reply)). The observer itself only sees what waited in vain.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    config::Config,
    journal,
    log::seconds,
    observers::{Failed, Job, Run, Scope},
};

/// Name of the observer.
pub(crate) const OBSERVER: &str = "echostr.next-message";

/// Longer than it takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The observer, if an account needs it. Events are offered to it with their late replies only.
pub(crate) fn observer(config: &Config) -> Option<journal::Observer> {
    let is_needed = config.accounts.iter().any(|account| account.next_message.is_some());
    is_needed.then(|| journal::Observer {
        name: OBSERVER.into(),
        // By user.
        in_order: true,
        from_beginning: false,
        wants: Arc::new(|_, _| false),
        unanswered: None,
    })
}

/// What it does with a reply whose time is over.
pub(crate) fn job(config: &Config) -> Job {
    let keeps = config.accounts.iter().filter_map(|account| Some((account.id(), account.next_message.as_ref()?.keep)));
    let keeps: HashMap<String, Duration> = keeps.collect();
    let run: Run = Arc::new(move |leased, _, permit| {
        // Without a reply nobody waited for one so long.
        let dropped = leased.is_late.then(|| {
            let kept = keeps
                .get(&*leased.record.account)
                .map_or_else(String::new, |keep| format!(" within {} (`late_keep`)", seconds(*keep)));
            Failed::Dropped(format!("the reply was late and was DROPPED: no next message of the user{kept}"))
        });
        Box::pin(async move {
            let _permit = permit;
            dropped.map_or(Ok(()), Err)
        })
    });
    Job { name: OBSERVER.into(), timeout: Some(TIMEOUT), scope: Scope::Account, gate: None, run }
}
