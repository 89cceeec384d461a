//! The pull: `kf/sync_msg` until there is no more, from a cursor that outlives the process.
//!
//! Callbacks come in bursts, and several may announce the same messages. What each announces is there before a pull that
//! begins after it. So while a desk is pulled, the latest callback waits for the next pull, and is enough: the earlier
//! ones that wait are done, for it is in the journal until a pull has begun after all of them. However many callbacks come,
//! two of a desk are in memory, and only the one that pulls takes room of its account.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::Gauge;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{sync::oneshot, time};
use tracing::{debug, warn};

use super::{LONGEST_PULL, PulledAccount, REPLY, REPLY_AT_ONCE};
use crate::{
    api::{Api, Apis, Page},
    config::Backlog,
    hooks::RawEvent,
    journal::{EventRecord, Journal, JournalError, LeaseWrite, Leased, Millis, NamedLease, Pulled, now_millis},
    late,
    metrics::Metrics,
    observers::{Candidate, Failed, Permit, Run, Subscribers},
    payload::{self, Form, Payload, Value},
    platform,
};

/// Longer than a call with its pauses. The lease of a process that has stopped is released earlier.
const LEASE_DURATION: Duration = Duration::from_secs(300);

/// How often the lease of a desk that another node pulls is tried.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The pause between calls without a token, which the platform limits narrowly.
const TOKENLESS_PAUSE: Duration = Duration::from_secs(5);

/// How long the token of a callback is valid, in milliseconds; a little less than the platform documents.
const TOKEN_LIFETIME: Millis = 590_000;

/// Messages are from "now on" if they were sent this long before the first callback, in milliseconds: that one may have
/// been delivered late.
const BACKLOG_TOLERANCE: Millis = 60_000;

/// Pages in a row without an entry and without a new cursor, after which the pull is retried later.
const MAX_EMPTY_PAGES: u32 = 20;

/// The observers that answer.
const REPLIERS: [&str; 2] = [REPLY, REPLY_AT_ONCE];

/// `bad or expired token`.
const BAD_CALLBACK_TOKEN: i64 = 95007;

/// A customer-service account: of which configured account, and its `open_kfid`.
type Desk = (Arc<str>, String);

/// Pulls, once at a time for each desk.
pub(super) struct Puller {
    accounts: HashMap<Arc<str>, PulledAccount>,
    /// How far each is behind.
    lags: HashMap<Arc<str>, Gauge>,
    subscribers: Subscribers,
    apis: Apis,
    journal: Arc<dyn Journal>,
    /// Desks that are pulled, with the callback that waits for the next pull.
    desks: Mutex<HashMap<Desk, Option<Next>>>,
}

/// The latest callback that came during a pull.
struct Next {
    received: Millis,
    turn: oneshot::Sender<Turn>,
}

/// What becomes of a callback.
enum Turn {
    /// It pulls.
    Pull(Pulling),
    /// A later one will.
    Done,
}

/// The right to pull a desk, which one callback has at a time. It is handed on when this is dropped.
struct Pulling {
    puller: Arc<Puller>,
    desk: Desk,
}

impl Drop for Pulling {
    fn drop(&mut self) {
        let next = {
            let mut desks = self.puller.desks();
            let next = desks.get_mut(&self.desk).and_then(Option::take);
            if next.is_none() {
                // Under the lock, so that no callback comes in between.
                desks.remove(&self.desk);
            }
            next
        };
        if let Some(next) = next {
            // A waiter that was dropped drops it, and so hands it on.
            drop(next.turn.send(Turn::Pull(Self { puller: Arc::clone(&self.puller), desk: self.desk.clone() })));
        }
    }
}

/// What a callback holds beside the desk.
#[derive(Clone, Debug)]
struct Notice {
    token: Option<String>,
    received: Millis,
}

/// The value of a desk's lease.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    cursor: Option<String>,
    /// Entries from before are left out: Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<i64>,
}

impl Puller {
    pub(super) fn new(
        accounts: HashMap<Arc<str>, PulledAccount>,
        subscribers: Subscribers,
        apis: Apis,
        journal: Arc<dyn Journal>,
        metrics: &Metrics,
    ) -> Self {
        let lags = accounts.keys().map(|account| (Arc::clone(account), metrics.kf_lag(account))).collect();
        Self { accounts, lags, subscribers, apis, journal, desks: Mutex::default() }
    }

    pub(super) fn run(self: Arc<Self>) -> Run {
        Arc::new(move |leased, deadline, permit| {
            let puller = Arc::clone(&self);
            Box::pin(async move { puller.announced(leased, deadline, permit).await })
        })
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<Desk, Option<Next>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A callback has come; ready when a pull that began after it is done, or when a later callback sees to that.
    async fn announced(self: Arc<Self>, leased: Leased, deadline: Instant, mut permit: Permit) -> Result<(), Failed> {
        let EventRecord { account, form, payload, received, .. } = leased.record;
        let (open_kfid, token) = {
            let tree =
                payload::parse(form, payload.text()).map_err(|failure| Failed::Permanent(failure.to_string()))?;
            let text = |name| tree.as_object().and_then(|object| object.text(name)).map(str::to_owned);
            let open_kfid =
                text("OpenKfId").ok_or_else(|| Failed::Permanent("the callback has no OpenKfId".to_owned()))?;
            (open_kfid, text("Token"))
        };
        let turn = match self.turn((account, open_kfid), received) {
            Ok(turn) => turn,
            Err(given) => {
                // Only to wait takes no room.
                permit.release();
                given.await.map_err(|_| Failed::Retry("the pull ended without a result".to_owned()))?
            }
        };
        let Turn::Pull(pulling) = turn else { return Ok(()) };
        permit.acquire().await;
        if deadline.saturating_duration_since(Instant::now()) < LONGEST_PULL / 2 {
            let reason = "it has waited for long, and takes as much time again".to_owned();
            return Err(Failed::NotYet { after: Duration::ZERO, of_account: false, reason });
        }
        self.pull(&pulling.desk, Notice { token, received }, deadline).await
    }

    /// What becomes of a callback, or where that will be known.
    fn turn(self: &Arc<Self>, desk: Desk, received: Millis) -> Result<Turn, oneshot::Receiver<Turn>> {
        let (turn, given) = oneshot::channel();
        let mut desks = self.desks();
        match desks.entry(desk) {
            hash_map::Entry::Vacant(free) => {
                let desk = free.key().clone();
                free.insert(None);
                Ok(Turn::Pull(Pulling { puller: Arc::clone(self), desk }))
            }
            hash_map::Entry::Occupied(mut pulled) => {
                if pulled.get().as_ref().is_some_and(|next| next.received > received) {
                    return Ok(Turn::Done);
                }
                let earlier = pulled.get_mut().replace(Next { received, turn });
                drop(desks);
                if let Some(earlier) = earlier {
                    let _ = earlier.turn.send(Turn::Done);
                }
                Err(given)
            }
        }
    }

    /// One pull: page after page.
    async fn pull(&self, desk: &Desk, notice: Notice, deadline: Instant) -> Result<(), Failed> {
        let (account, open_kfid) = desk;
        let (Some(api), Some(pulled)) = (self.apis.get(account), self.accounts.get(account)) else {
            return Err(Failed::NoSecret);
        };
        let now = now_millis();
        let token = notice.token.filter(|_| now.saturating_sub(notice.received) < TOKEN_LIFETIME);
        let lease_name = format!("kf/{account}/{open_kfid}");
        let held = match self.journal.acquire_lease(&lease_name, LEASE_DURATION).await {
            Ok(Some(held)) => held,
            Ok(None) => {
                let reason = "another node is pulling this customer-service account".to_owned();
                return Err(Failed::NotYet { after: POLL_INTERVAL, of_account: false, reason });
            }
            Err(failure) => return Err(Failed::Retry(failure.to_string())),
        };
        let progress = held.value.as_deref().and_then(|value| serde_json::from_str(value).ok());
        let progress = progress.unwrap_or_else(|| {
            let from = match pulled.backlog {
                Backlog::ThreeDays => None,
                Backlog::None => Some((notice.received - BACKLOG_TOLERANCE).div_euclid(1000)),
            };
            Progress { cursor: None, from }
        });
        let done = self.pages(&api.without_waiting(), desk, &held, progress, token, deadline).await;
        if done.is_err() {
            // Another node may go on at once. If this fails the lease expires.
            let _ = self.journal.write_lease(&held, LeaseWrite::default()).await;
        }
        done
    }

    async fn pages(
        &self,
        api: &Api,
        (account, open_kfid): &Desk,
        held: &NamedLease,
        mut progress: Progress,
        mut token: Option<String>,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let mut empty = 0;
        loop {
            if Instant::now() + LEASE_DURATION > deadline {
                // What there is so far is kept, and it has not failed.
                let reason = "more messages than one pull takes".to_owned();
                return Err(Failed::NotYet { after: Duration::ZERO, of_account: false, reason });
            }
            let page = match api.kf_sync(open_kfid, progress.cursor.as_deref(), token.as_deref()).await {
                Ok(page) => page,
                Err(failure) if failure.code() == Some(BAD_CALLBACK_TOKEN) && token.is_some() => {
                    debug!(account = &**account, "{account}: the callback's token has expired, pulling without it");
                    token = None;
                    continue;
                }
                Err(failure) => return Err(late::failed(api, &failure)),
            };
            let has_more = page.has_more();
            let stands_still = page.entries.is_empty()
                && (page.next_cursor.is_empty() || Some(&page.next_cursor) == progress.cursor.as_ref());
            let count = page.entries.len();
            let events = self.events(account, &page, progress.from);
            if !page.next_cursor.is_empty() {
                progress.cursor = Some(page.next_cursor);
            }
            let value = serde_json::to_string(&progress).map_err(|failure| Failed::Permanent(failure.to_string()))?;
            let write =
                LeaseWrite { value: Some(value), keep: has_more.then_some(LEASE_DURATION), expires: None, events };
            let admitted = match self.journal.write_lease(held, write).await {
                Ok(admitted) => admitted,
                Err(JournalError::Lost) => {
                    return Err(Failed::Retry("another node is pulling this customer-service account".to_owned()));
                }
                Err(failure) => return Err(Failed::Retry(failure.to_string())),
            };
            debug!(
                account = &**account,
                open_kfid, count, admitted, "{account}: pulled {count}, {admitted} of them new"
            );
            if !has_more {
                return Ok(());
            }
            empty = if stands_still { empty + 1 } else { 0 };
            if empty >= MAX_EMPTY_PAGES {
                return Err(Failed::Retry("the platform reports more messages and returns none".to_owned()));
            }
            if token.is_none() {
                time::sleep(TOKENLESS_PAUSE).await;
            } else if stands_still {
                time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    fn events(&self, account: &Arc<str>, page: &Page, from: Option<i64>) -> Vec<Pulled> {
        let mut newest = None;
        let events = page.entries.iter().filter_map(|entry| self.event(account, entry, from, &mut newest)).collect();
        if let (Some(newest), Some(lag)) = (newest, self.lags.get(account)) {
            lag.set((now_millis() / 1000).saturating_sub(newest).max(0) as f64);
        }
        events
    }

    /// An entry as an event; nothing if it is from before the beginning. `newest` is when the latest was sent. What cannot be read is kept as it came.
    fn event(
        &self,
        account: &Arc<str>,
        entry: &RawValue,
        from: Option<i64>,
        newest: &mut Option<i64>,
    ) -> Option<Pulled> {
        const FORM: Form = Form::Json;
        let (platform, text) = (self.accounts.get(account)?.platform, entry.get());
        let tree = payload::parse(FORM, text).unwrap_or_else(|failure| {
            warn!(account = &**account, "{account}: skipped a message that cannot be read: {failure}");
            Value::Null
        });
        let sent = platform::time(&tree);
        *newest = sent.max(*newest);
        if sent.zip(from).is_some_and(|(sent, from)| sent < from) {
            return None;
        }
        let (event_type, spec) = platform::classify(platform, &tree, FORM, None);
        let received = now_millis();
        let id = self.journal.next_id(received);
        let key = platform::dedupe_key(platform, account, spec, &tree, text, &|_| None);
        let (account, payload) = (Arc::clone(account), Payload::new(text));
        let raw = &RawEvent { platform, account, event_type, form: FORM, payload, query: None };
        let candidate = Candidate { id, key, raw, spec, tree: &tree, received };
        let left_out: &[&str] = if is_of_servicer(&tree) { &REPLIERS } else { &[] };
        let event = self.subscribers.new_event(candidate, left_out);
        let responds = event.observers.iter().any(|name| REPLIERS.contains(&&**name));
        Some(Pulled { event, responds })
    }
}

/// Whether a servicer wrote it: it is to be seen, and not to be answered.
fn is_of_servicer(tree: &Value<'_>) -> bool {
    const SERVICER: &str = "5";
    tree.as_object().and_then(|object| platform::scalar(object, "origin")).is_some_and(|origin| origin == SERVICER)
}
