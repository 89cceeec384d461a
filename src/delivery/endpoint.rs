//! An account, ready to receive.

use std::sync::Arc;

use tracing::warn;

use crate::{
    config,
    crypto::{EncodingKey, KeyError},
    envelope::{Guarded, Keys, ReceiveIds, Refusal},
    in_flight::Load,
    metrics::{AccountMetrics, Metrics, Outcome},
    secret::Secret,
    throttle::{AccountLines, LineKind},
};

use super::Response;

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
        let metrics = metrics.account(platform, &account.name);
        Ok(Self { id, guarded: Guarded::of(&keys, &[]), keys, metrics, load, lines: AccountLines::default(), account })
    }

    /// Guards queries with tokens that open clear text on other accounts, too.
    #[must_use]
    pub fn guarding(self, clear: &[Secret]) -> Self {
        Self { guarded: Guarded::of(&self.keys, clear), ..self }
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
                },
            );
            warn!(account, reason, "{account}: {what}: {reason}{omitted}");
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) -> Response {
        self.metrics.count_refusal(&refusal);
        Response::Refused(refusal)
    }
}
