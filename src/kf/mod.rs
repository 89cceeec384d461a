//! WeCom customer service (微信客服): a callback only announces messages; they are pulled, and answered by API.
//!
//! ```text
//! callback ──▶ journal ──▶ pull: one per (account, open_kfid), cursor and events in one step ──▶ journal
//!                                                                                                 │
//!                    kf/send_msg, kf/send_msg_on_event ◀── reply: responder, recorded, then sent ◀┘
//! ```
//!
//! Both are observers of the journal, so that neither is lost when the process ends. Events whose one-time code is
//! valid for 20 seconds have an observer of their own, so that nothing is queued before them.

mod pull;
mod reply;

use std::{collections::HashMap, sync::Arc, time::Duration};

use self::{pull::Puller, reply::Replier};
use crate::{
    config::{Backlog, Config},
    dispatch::Dispatcher,
    event::{self, Event as _, Platform},
    events::{wecom::CustomerServiceNotify, wecom_kf},
    hooks::Hooks,
    journal::{self, Journal, Wants},
    metrics::Metrics,
    observers::{Job, Run, Scope, Subscribers},
};

/// Pulls what a callback announces.
pub(crate) const PULL: &str = "echostr.kf-pull";
/// Answers messages, those of one customer one after the other.
pub(crate) const REPLY: &str = "echostr.kf-reply";
/// Answers events whose code is valid for seconds only.
pub(crate) const REPLY_AT_ONCE: &str = "echostr.kf-reply-at-once";

/// A backlog of three days at a thousand messages a page, with a platform that limits.
const LONGEST_PULL: Duration = Duration::from_secs(1800);

/// Longer than a call with its pauses, and a slow responder.
const LONGEST_REPLY: Duration = Duration::from_secs(300);

/// Events whose code is soon over.
const AT_ONCE: [&str; 2] = [wecom_kf::EnterSession::SPEC.id, wecom_kf::SessionStatusChange::SPEC.id];

/// An account that can be pulled.
#[derive(Clone, Copy, Debug)]
struct PulledAccount {
    platform: Platform,
    /// What of it at first.
    backlog: Backlog,
}

/// The accounts that can be pulled.
fn pulled(config: &Config) -> HashMap<Arc<str>, PulledAccount> {
    let can =
        config.accounts.iter().filter(|it| it.platform.protocol().announced_by().is_some() && it.secret.is_some());
    let pulled = can.map(|account| {
        let (platform, backlog) = (account.platform, account.backlog);
        (account.id().into(), PulledAccount { platform, backlog })
    });
    pulled.collect()
}

/// The observers, if an account can be pulled.
pub(crate) fn observers(config: &Config, hooks: &Arc<Hooks>) -> Vec<journal::Observer> {
    let accounts = Arc::new(pulled(config));
    if accounts.is_empty() {
        return Vec::new();
    }
    let observer = |name: &str, in_order, wants| journal::Observer {
        name: name.into(),
        in_order,
        from_beginning: false,
        wants,
        unanswered: None,
    };
    let known = Arc::clone(&accounts);
    let notices: Wants = Arc::new(move |account, event_type| {
        event_type == CustomerServiceNotify::SPEC.id && known.contains_key(account)
    });
    let answered = |at_once: bool| -> Wants {
        let (accounts, hooks) = (Arc::clone(&accounts), Arc::clone(hooks));
        Arc::new(move |account, event_type| {
            event_type.starts_with("wecom_kf.")
                && AT_ONCE.contains(&event_type) == at_once
                && accounts.contains_key(account)
                && hooks.responder(account, event_type, event::by_id(event_type)).is_some()
        })
    };
    vec![
        observer(PULL, false, notices),
        observer(REPLY, true, answered(false)),
        observer(REPLY_AT_ONCE, false, answered(true)),
    ]
}

/// What they do.
pub(crate) fn jobs(
    config: &Config,
    dispatcher: &Dispatcher,
    subscribers: &Subscribers,
    journal: &Arc<dyn Journal>,
    metrics: &Metrics,
) -> Vec<Job> {
    let accounts = pulled(config);
    if accounts.is_empty() {
        return Vec::new();
    }
    let puller = Puller::new(accounts, subscribers.clone(), dispatcher.apis.clone(), Arc::clone(journal), metrics);
    let replier = Arc::new(Replier::new(config, dispatcher.clone(), Arc::clone(journal)));
    let job = |name: &str, timeout: Duration, run: Run| Job {
        name: name.into(),
        timeout: Some(timeout),
        scope: Scope::Account,
        gate: None,
        run,
    };
    vec![
        job(PULL, LONGEST_PULL, Arc::new(puller).run()),
        job(REPLY, LONGEST_REPLY, Arc::clone(&replier).run()),
        job(REPLY_AT_ONCE, LONGEST_REPLY, replier.run()),
    ]
}
