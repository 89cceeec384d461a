//! An account, ready to receive.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    config,
    crypto::{EncodingKey, KeyError},
    envelope::{Guarded, Keys, Neighbour, Query, ReceiveIds, Refusal, Step, StepResult},
    in_flight::Load,
    metrics::{AccountMetrics, Metrics, Outcome},
    secret::Secret,
    source::Source,
    stats::AccountStats,
    throttle::{AccountLines, LineKind},
};

use super::{Refused, Response};

/// The largest body whose refusal is explained.
const MAX_EXPLAINED: usize = 64 << 10;

/// Explanations in one period: anybody can be refused, and to walk through a request again takes a while.
const MAX_EXPLANATIONS: u32 = 20;
const PERIOD: Duration = Duration::from_secs(5);

/// How many refusals were explained, and since when.
#[derive(Debug, Default)]
struct Explaining(Mutex<Option<(Instant, u32)>>);

impl Explaining {
    fn allow(&self) -> bool {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *period {
            Some((since, count)) if since.elapsed() < PERIOD => {
                *count += u32::from(*count < MAX_EXPLANATIONS + 1);
                *count <= MAX_EXPLANATIONS
            }
            other => {
                *other = Some((Instant::now(), 1));
                true
            }
        }
    }
}

/// Other accounts whose keys are tried with a refused request, at most.
const MAX_NEIGHBOURS: usize = 200;

/// All accounts of a server with their keys: a request that one of them refuses may be of another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(Arc<[(Arc<str>, Keys)]>);

impl Neighbours {
    /// These, and their keys.
    pub fn of<'e>(endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Self {
        Self(endpoints.into_iter().map(|endpoint| (Arc::clone(&endpoint.id), endpoint.keys.clone())).collect())
    }

    /// Those but one.
    fn but<'n>(&'n self, id: &'n str) -> impl Iterator<Item = Neighbour<'n>> {
        let others = self.0.iter().filter(move |(other, _)| **other != *id).take(MAX_NEIGHBOURS);
        others.map(|(id, keys)| Neighbour { id, keys })
    }
}

/// One configured account, ready to receive.
#[derive(Debug)]
pub struct Endpoint {
    /// The account as it is configured.
    pub account: config::Account,
    /// As in `mp/shop`.
    pub id: Arc<str>,
    /// The keys that its requests are checked with.
    pub keys: Keys,
    /// Which of its queries are remembered.
    pub(super) guarded: Guarded,
    pub(super) metrics: AccountMetrics,
    /// What it has in flight.
    pub(super) load: Arc<Load>,
    explaining: Explaining,
    neighbours: Neighbours,
    /// From which addresses its requests come, if that is looked at.
    pub(crate) source: Option<Arc<Source>>,
    /// Which lines about it were written lately.
    pub(crate) lines: AccountLines,
}

impl Endpoint {
    /// Prepares an account.
    ///
    /// # Errors
    /// When one of its AES keys is not valid; the configuration checks that before.
    pub fn new(account: config::Account, metrics: &Metrics) -> Result<Self, KeyError> {
        let aes_keys = account.aes_keys.iter().map(|key| EncodingKey::parse(key.expose())).collect::<Result<_, _>>()?;
        let keys = Keys {
            platform: account.platform,
            tokens: account.tokens.clone(),
            aes_keys,
            receive_ids: match account.receives_for_any {
                true => ReceiveIds::Any,
                false => ReceiveIds::OneOf(account.receive_ids.clone()),
            },
            mode: account.mode,
            max_age: account.max_age,
            sdk_app_id: account.sdk_app_id,
        };
        let (id, platform): (Arc<str>, _) = (account.id().into(), account.platform.as_str());
        let load = Arc::new(Load::new(Arc::clone(&id), account.share));
        metrics.watch(platform, &account.name, &load);
        let source = Source::of(&account, &id, metrics).map(Arc::new);
        let metrics = metrics.account(platform, &account.name);
        Ok(Self {
            id,
            guarded: Guarded::of(&keys, &[]),
            keys,
            metrics,
            load,
            source,
            lines: AccountLines::default(),
            explaining: Explaining::default(),
            neighbours: Neighbours::default(),
            account,
        })
    }

    /// Counts on where an earlier configuration of the same account counts.
    #[must_use]
    pub(crate) fn continuing(mut self, earlier: &Self) -> Self {
        self.metrics.stats = Arc::clone(&earlier.metrics.stats);
        if let (Some(source), Some(earlier)) = (&self.source, &earlier.source) {
            source.know_as(earlier);
        }
        self
    }

    /// Guards queries with tokens that open clear text on other accounts, too.
    #[must_use]
    pub fn guarding(self, clear: &[Secret]) -> Self {
        Self { guarded: Guarded::of(&self.keys, clear), ..self }
    }

    /// Knows the other accounts of its server.
    #[must_use]
    pub fn among(self, neighbours: &Neighbours) -> Self {
        Self { neighbours: neighbours.clone(), ..self }
    }

    /// Walks through the verification of a request up to its fault, which names other accounts that fit.
    pub(crate) fn explain(&self, query: &Query<'_>, body: Option<&[u8]>, now: i64) -> Vec<Step> {
        self.keys.explain_among(query, body, now, self.neighbours.but(&self.id))
    }

    /// Counts a delivery that ended before it was a request.
    pub fn count(&self, outcome: Outcome) {
        self.metrics.count(outcome);
    }

    /// Logs how many lines were suppressed whose minute is over, or of `all`.
    pub(crate) fn log_omitted(&self, all: bool) {
        for (kind, reason, omitted) in self.lines.take_omitted(all) {
            let (account, what) = (
                &*self.id,
                match kind {
                    LineKind::Refused => "refused a request",
                    LineKind::Defaulted => "gave the default answer to a request that was not read",
                    LineKind::Unexpected => "a request came from an address that is not the platform's",
                    LineKind::Limited => "answered a request without a valid signature with 429",
                },
            );
            warn!(account, reason, "{account}: {what}: {reason}{omitted}");
        }
    }

    /// What lately came of it.
    pub(crate) fn stats(&self) -> &AccountStats {
        &self.metrics.stats
    }

    /// Deliveries in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.load.used()
    }

    /// A delivery that arrived then has its answer.
    pub(crate) fn answered(&self, arrived: Instant) {
        self.metrics.stats.answered(arrived, Instant::now());
    }

    pub(super) fn refused(&self, refusal: Refusal) -> Response {
        self.metrics.count_refusal(&refusal);
        Response::Refused(Refused { refusal, step: None })
    }

    /// The same, with the step that failed. A GET has no body.
    pub(super) fn refused_request(&self, refusal: Refusal, query: &str, body: Option<&[u8]>, now: i64) -> Response {
        self.metrics.count_refusal(&refusal);
        let is_small = body.is_none_or(|body| body.len() <= MAX_EXPLAINED);
        // There is no more to be said of a time that is too long ago.
        let is_explained = is_small && !matches!(refusal, Refusal::Stale(_)) && self.explaining.allow();
        let query = Query::parse(query).ok().filter(|_| is_explained);
        let steps = query.map(|query| self.explain(&query, body, now)).unwrap_or_default();
        let step = steps.into_iter().find(|step| step.result == StepResult::Failed).map(Box::new);
        Response::Refused(Refused { refusal, step })
    }
}
