//! The pull: `kf/sync_msg` until there is no more, from a cursor that outlives the process.
//!
//! Callbacks come in bursts, and several may announce the same messages. Those that come during a pull share the next
//! one: what each announces was there before that one began.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time};
use tracing::{debug, warn};

use super::{REPLY, REPLY_AT_ONCE};
use crate::{
    api::{Api, Apis, Page},
    config::Backlog,
    event::Platform,
    hooks::{Hooks, Payload},
    journal::{self, Facts, Held, Journal, JournalError, Leased, Millis, NewEvent, Pulled, WriteSlot, now_millis},
    late,
    observers::{Failed, Run},
    payload::{self, Form, Value},
    platform,
};

/// Longer than a call with its pauses. A process that is gone lets go before.
const TERM: Duration = Duration::from_secs(300);

/// How often it is looked whether another node has done with an account.
const LOOK: Duration = Duration::from_millis(200);

/// The pause between calls without a token, which the platform limits narrowly.
const PACE: Duration = Duration::from_secs(5);

/// How long the token of a callback is good, in milliseconds; a little less than the platform says.
const TOKEN_GOOD: Millis = 590_000;

/// Messages are from "now on" if they were sent this long before the first callback, in milliseconds: that one may have
/// been delivered late.
const NOW_ON: Millis = 60_000;

/// Pages in a row without an entry and without a new cursor, after which the platform is asked again later.
const EMPTY: u32 = 20;

/// `bad or expired token`.
const BAD_CALLBACK_TOKEN: i64 = 95007;

/// A customer-service account: of which configured account, and its `open_kfid`.
type Desk = (Arc<str>, String);

/// Pulls, once at a time for each desk.
pub(super) struct Puller {
    accounts: HashMap<Arc<str>, Backlog>,
    hooks: Arc<Hooks>,
    /// The server's own observers.
    own: Vec<journal::Observer>,
    apis: Apis,
    journal: Arc<dyn Journal>,
    desks: Mutex<HashMap<Desk, Waiting>>,
}

/// Callbacks that wait for the next pull of a desk. There is an entry as long as one runs.
#[derive(Default)]
struct Waiting {
    callbacks: Vec<oneshot::Sender<Result<(), Failed>>>,
    notice: Option<Notice>,
}

/// What a callback says beside the desk.
#[derive(Clone, Debug)]
struct Notice {
    token: Option<String>,
    received: Millis,
}

/// What the slot of a desk holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    cursor: Option<String>,
    /// Entries from before are left out: Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<i64>,
}

impl Puller {
    pub(super) fn new(
        accounts: HashMap<Arc<str>, Backlog>,
        hooks: Arc<Hooks>,
        own: Vec<journal::Observer>,
        apis: Apis,
        journal: Arc<dyn Journal>,
    ) -> Self {
        Self { accounts, hooks, own, apis, journal, desks: Mutex::default() }
    }

    pub(super) fn run(self: Arc<Self>) -> Run {
        Arc::new(move |leased, _| {
            let puller = Arc::clone(&self);
            Box::pin(async move { puller.announced(leased).await })
        })
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<Desk, Waiting>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A callback has come; ready when a pull that began after it is done.
    async fn announced(self: Arc<Self>, leased: Leased) -> Result<(), Failed> {
        let Facts { account, form, payload, received, .. } = leased.facts;
        let (open_kfid, token) = {
            let tree = payload::parse(form, payload.text()).map_err(|failure| Failed::ForGood(failure.to_string()))?;
            let text = |name| tree.as_object().and_then(|object| object.text(name)).map(str::to_owned);
            let open_kfid =
                text("OpenKfId").ok_or_else(|| Failed::ForGood("the callback has no OpenKfId".to_owned()))?;
            (open_kfid, text("Token"))
        };
        let (tell, told) = oneshot::channel();
        let desk = (account, open_kfid);
        let begins = {
            let mut desks = self.desks();
            let begins = !desks.contains_key(&desk);
            let waiting = desks.entry(desk.clone()).or_default();
            waiting.callbacks.push(tell);
            if waiting.notice.as_ref().is_none_or(|notice| notice.received <= received) {
                waiting.notice = Some(Notice { token, received });
            }
            begins
        };
        if begins {
            tokio::spawn(Arc::clone(&self).pull_until_quiet(desk));
        }
        told.await.unwrap_or_else(|_| Err(Failed::Again("the pull ended without a word".to_owned())))
    }

    /// Pulls as long as callbacks come.
    async fn pull_until_quiet(self: Arc<Self>, desk: Desk) {
        /// Whoever waits for a pull that panics is told by its end.
        struct Clear<'p>(&'p Puller, &'p Desk);
        impl Drop for Clear<'_> {
            fn drop(&mut self) {
                self.0.desks().remove(self.1);
            }
        }
        let clear = Clear(&self, &desk);
        loop {
            let (callbacks, notice) = {
                let mut desks = self.desks();
                match desks.get_mut(&desk) {
                    Some(waiting) if !waiting.callbacks.is_empty() => {
                        (std::mem::take(&mut waiting.callbacks), waiting.notice.take())
                    }
                    // Under the lock, so that no callback comes in between.
                    _ => {
                        desks.remove(&desk);
                        std::mem::forget(clear);
                        return;
                    }
                }
            };
            let pulled = self.pull(&desk, notice).await;
            for callback in callbacks {
                let _ = callback.send(pulled.clone());
            }
        }
    }

    /// One pull: page after page.
    async fn pull(&self, desk: &Desk, notice: Option<Notice>) -> Result<(), Failed> {
        let (account, open_kfid) = desk;
        let Some(api) = self.apis.get(account) else {
            return Err(Failed::Again(format!("{account} has no `secret`, so nothing can be pulled")));
        };
        let now = now_millis();
        let notice = notice.unwrap_or(Notice { token: None, received: now });
        let token = notice.token.filter(|_| now.saturating_sub(notice.received) < TOKEN_GOOD);
        let slot = format!("kf/{account}/{open_kfid}");
        let held = loop {
            match self.journal.hold_slot(&slot, TERM).await {
                Ok(Some(held)) => break held,
                Ok(None) => time::sleep(LOOK).await,
                Err(failure) => return Err(Failed::Again(failure.to_string())),
            }
        };
        let place = held.value.as_deref().and_then(|value| serde_json::from_str(value).ok());
        let place = place.unwrap_or_else(|| {
            let from = match self.accounts.get(account) {
                Some(Backlog::ThreeDays) => None,
                _ => Some((notice.received - NOW_ON).div_euclid(1000)),
            };
            Place { cursor: None, from }
        });
        let pulled = self.pages(api, desk, &held, place, token).await;
        if pulled.is_err() {
            // Another node may go on at once. If this fails the hold ends by itself.
            let _ = self.journal.write_slot(&held, WriteSlot::default()).await;
        }
        pulled
    }

    async fn pages(
        &self,
        api: &Api,
        (account, open_kfid): &Desk,
        held: &Held,
        mut place: Place,
        mut token: Option<String>,
    ) -> Result<(), Failed> {
        let mut empty = 0;
        loop {
            let page = match api.kf_sync(open_kfid, place.cursor.as_deref(), token.as_deref()).await {
                Ok(page) => page,
                Err(failure) if failure.code() == Some(BAD_CALLBACK_TOKEN) && token.is_some() => {
                    debug!(account = &**account, "{account}: the callback's token is no longer good, going on without");
                    token = None;
                    continue;
                }
                Err(failure) => return Err(late::failed(&failure)),
            };
            let has_more = page.has_more();
            let stands_still = page.entries.is_empty()
                && (page.next_cursor.is_empty() || Some(&page.next_cursor) == place.cursor.as_ref());
            let count = page.entries.len();
            let events = self.events(account, &page, place.from);
            if !page.next_cursor.is_empty() {
                place.cursor = Some(page.next_cursor);
            }
            let value = serde_json::to_string(&place).map_err(|failure| Failed::ForGood(failure.to_string()))?;
            let write = WriteSlot { value: Some(value), keep: has_more.then_some(TERM), expires: None, events };
            let admitted = match self.journal.write_slot(held, write).await {
                Ok(admitted) => admitted,
                Err(JournalError::Lost) => return Err(Failed::Again("another node pulls this account".to_owned())),
                Err(failure) => return Err(Failed::Again(failure.to_string())),
            };
            debug!(
                account = &**account,
                open_kfid, count, admitted, "{account}: pulled {count}, {admitted} of them new"
            );
            if !has_more {
                return Ok(());
            }
            empty = if stands_still { empty + 1 } else { 0 };
            if empty >= EMPTY {
                return Err(Failed::Again("the platform says that there is more, and gives nothing".to_owned()));
            }
            if token.is_none() {
                time::sleep(PACE).await;
            } else if stands_still {
                time::sleep(LOOK).await;
            }
        }
    }

    fn events(&self, account: &Arc<str>, page: &Page, from: Option<i64>) -> Vec<Pulled> {
        page.entries.iter().filter_map(|entry| self.event(account, entry, from)).collect()
    }

    /// An entry as an event; nothing if it is from before the beginning. What cannot be read is kept as it came.
    fn event(&self, account: &Arc<str>, entry: &RawValue, from: Option<i64>) -> Option<Pulled> {
        const FORM: Form = Form::Json;
        let (platform, text) = (Platform::WeComKf, entry.get());
        let tree = payload::parse(FORM, text).unwrap_or_else(|failure| {
            warn!(account = &**account, "{account}: an entry cannot be read: {failure}");
            Value::Null
        });
        if platform::time(&tree).zip(from).is_some_and(|(sent, from)| sent < from) {
            return None;
        }
        let (event_type, spec) = platform::classify(platform, &tree, FORM, None);
        let received = now_millis();
        let is_own = is_of_servicer(&tree);
        let own = self.own.iter().filter(|own| (own.wants)(account, event_type));
        let own = own.filter(|own| !is_own || ![REPLY, REPLY_AT_ONCE].contains(&&*own.name)).map(|own| &own.name);
        let observers: Vec<_> = self.hooks.observers(account, event_type, spec).chain(own).map(Arc::clone).collect();
        let responds = observers.iter().any(|name| [REPLY, REPLY_AT_ONCE].contains(&&**name));
        let event = NewEvent {
            id: self.journal.next_id(received),
            key: platform::dedupe_key(platform, account, spec, &tree, text, &|_| None),
            facts: Facts {
                platform,
                account: Arc::clone(account),
                event_type: event_type.into(),
                subject: platform::subject(platform, &tree).map(Into::into),
                form: FORM,
                payload: Payload::new(text),
                query: None,
                received,
            },
            observers,
        };
        Some(Pulled { event, responds })
    }
}

/// Whether a servicer wrote it: it is to be seen, and not to be answered.
fn is_of_servicer(tree: &Value<'_>) -> bool {
    const SERVICER: &str = "5";
    tree.as_object().and_then(|object| platform::scalar(object, "origin")).is_some_and(|origin| origin == SERVICER)
}
