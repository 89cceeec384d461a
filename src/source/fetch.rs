//! Gets the lists of the accounts: from the journal, and once a day from the platform.

use std::{sync::Arc, time::Duration};

use tokio::time;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{AddressList, Source, list::NoList};
use crate::{
    api::{Api, ApiError, Apis},
    delivery::Endpoint,
    journal::{Journal, JournalError, LeaseWrite, NamedLease, millis},
    log::seconds,
    supervisor::Supervisor,
};

/// How long a list is fresh. The platforms ask for once a day, and keep old addresses beside new ones for longer.
const FRESH: Duration = Duration::from_secs(86_400);

/// One that was fetched every day would be younger.
const OLD: Duration = Duration::from_secs(3 * 86_400);

/// How often it is looked whether a list is still fresh: timers stand still while a machine sleeps.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);

/// The pause after a failure, twice as long each time. A refused secret is not tried again sooner than that of other calls.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long a node may take to fetch a list; longer than a call with its attempts.
const LEASE_DURATION: Duration = Duration::from_secs(120);

/// How often it is looked for what another node fetches.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How long a start waits for the lists in the journal.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Fetches the lists of all accounts of a configuration.
#[derive(Debug)]
pub(crate) struct Sources {
    fetchers: Vec<Arc<Fetcher>>,
    stopping: CancellationToken,
    running: TaskTracker,
}

#[derive(Debug)]
struct Fetcher {
    source: Arc<Source>,
    api: Api,
    journal: Arc<dyn Journal>,
    lease_name: String,
    stopping: CancellationToken,
}

/// Why there is no new list.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    NoList(#[from] NoList),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Sources {
    /// Those of the accounts that look at addresses. Nothing is fetched yet.
    pub(crate) fn new(endpoints: &[Arc<Endpoint>], apis: &Apis, journal: &Arc<dyn Journal>) -> Self {
        let stopping = CancellationToken::new();
        let fetchers = endpoints.iter().filter_map(|endpoint| {
            let (source, api) = (endpoint.source.clone()?, apis.get(&endpoint.id)?.without_waiting());
            let lease_name = format!("source/{}", endpoint.id);
            let (journal, stopping) = (Arc::clone(journal), stopping.clone());
            Some(Arc::new(Fetcher { source, api, journal, lease_name, stopping }))
        });
        Self { fetchers: fetchers.collect(), stopping, running: TaskTracker::new() }
    }

    /// Reads what the journal has of them, if it can be read now: what it has holds from the first request on.
    pub(crate) async fn load(&self) {
        let unknown = self.fetchers.iter().filter(|fetcher| fetcher.source.list().is_none());
        let all = futures_util::future::join_all(unknown.map(|fetcher| fetcher.load()));
        let _ = time::timeout(LOAD_TIMEOUT, all).await;
    }

    /// Keeps them fresh.
    pub(crate) fn start(&self, supervisor: &Supervisor) {
        for fetcher in &self.fetchers {
            let keep = {
                let fetcher = Arc::clone(fetcher);
                move || {
                    let fetcher = Arc::clone(&fetcher);
                    async move { fetcher.keep().await }
                }
            };
            self.running.spawn(supervisor.keep(&format!("source {}", fetcher.source.account), keep));
        }
        self.running.close();
    }

    /// Nothing is fetched any more.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until nothing is.
    pub(crate) async fn drain(&self) {
        self.stop();
        self.running.close();
        self.running.wait().await;
    }
}

impl Fetcher {
    async fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.stopping.is_cancelled() {
            let rest = match self.refresh().await {
                Ok(rest) => {
                    pause = FIRST_PAUSE;
                    rest.min(LOOK_INTERVAL)
                }
                Err(failure) => {
                    let rest = pause.mul_f64(rand::random_range(0.75..=1.0));
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    self.log_failure(&failure, rest);
                    rest
                }
            };
            self.stopping.run_until_cancelled(time::sleep(rest)).await;
        }
    }

    /// Fetches the list, unless it is fresh or another node does; returns when to look again.
    async fn refresh(&self) -> Result<Duration, NotFetched> {
        if let Some(rest) = self.rest() {
            return Ok(rest);
        }
        let Some(held) = self.journal.acquire_lease(&self.lease_name, LEASE_DURATION).await? else {
            self.load().await;
            return Ok(self.rest().unwrap_or(POLL_INTERVAL));
        };
        if self.learn(held.value.as_deref())
            && let Some(rest) = self.rest()
        {
            self.release(&held, None).await?;
            return Ok(rest);
        }
        let fetched = self.stopping.run_until_cancelled(self.fetch()).await;
        let list = fetched.transpose();
        let text = list.as_ref().ok().and_then(Option::as_ref).map(AddressList::text);
        let released = self.release(&held, text).await;
        if let Some(list) = list? {
            self.take(list);
        }
        released?;
        Ok(self.rest().unwrap_or_default())
    }

    async fn fetch(&self) -> Result<AddressList, NotFetched> {
        let answer = self.api.callback_ips().await?;
        Ok(AddressList::read(&answer, self.journal.now())?)
    }

    /// Without a list the lease is released as it was.
    async fn release(&self, held: &NamedLease, text: Option<String>) -> Result<(), JournalError> {
        let write = LeaseWrite { value: text, ..LeaseWrite::default() };
        match self.journal.write_lease(held, write).await {
            // Another node took too long for ours, and has one.
            Ok(_) | Err(JournalError::Lost) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Reads what the journal has.
    async fn load(&self) {
        // It is read again; the journal logs what is wrong with it.
        let kept = self.journal.read_lease(&self.lease_name).await.ok().flatten();
        self.learn(kept.as_deref());
    }

    /// Uses what the journal has, if that is a list.
    fn learn(&self, kept: Option<&str>) -> bool {
        let list = kept.and_then(AddressList::parse);
        let is_known = list.is_some();
        if let Some(list) = list.filter(|list| self.source.list().is_none_or(|known| known.fetched() < list.fetched()))
        {
            self.source.list.store(Some(Arc::new(list)));
        }
        is_known
    }

    /// Uses a list that was just fetched.
    fn take(&self, list: AddressList) {
        let account = &*self.source.account;
        if list.unreadable() > 0 {
            warn!(
                account,
                "{account}: {} entries of the platform's list of its addresses cannot be read, and are left out; if requests \
                 are refused, set source = \"warn\", and report it",
                list.unreadable()
            );
        }
        let known = self.source.list();
        if known.is_none_or(|known| known.len() != list.len()) {
            info!(account, "{account}: the platform calls from {} addresses and ranges", list.len());
        }
        self.source.list.store(Some(Arc::new(list)));
    }

    /// How long the list is still fresh; none where there is none, or it is not.
    fn rest(&self) -> Option<Duration> {
        let (list, now) = (self.source.list()?, self.journal.now());
        // One from the future was written with another clock.
        let is_past = list.fetched() <= now.saturating_add(millis(FRESH));
        FRESH.checked_sub(list.age(now)).filter(|rest| is_past && !rest.is_zero())
    }

    fn log_failure(&self, failure: &NotFetched, pause: Duration) {
        let account = &*self.source.account;
        let meanwhile = match self.source.list().map(|list| list.age(self.journal.now())) {
            None => "none is known, so every address is accepted".to_owned(),
            Some(age) if age < OLD => format!("the one of {} ago is used", hours(age)),
            Some(age) => format!("the one of {} ago is used, which is OLD: addresses may have changed", hours(age)),
        };
        warn!(
            account,
            "{account}: cannot fetch the list of the platform's addresses: {failure}; {meanwhile}; next attempt in {}",
            seconds(pause)
        );
    }
}

fn hours(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    if hours < 48 { format!("{hours} h") } else { format!("{} days", hours / 24) }
}
