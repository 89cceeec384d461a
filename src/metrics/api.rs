//! What is counted of the platforms' API, by account.

use metrics::{Counter, Gauge, Key, Label, Recorder as _};

use super::{METADATA, Metrics, counter};

pub(super) const CALLS: &str = "echostr_api_calls_total";
pub(super) const TOKENS: &str = "echostr_api_tokens_total";
pub(super) const TOKEN: &str = "echostr_api_token_state";
pub(super) const KF_LAG: &str = "echostr_kf_lag_seconds";

/// States of an access token, as the event API names them.
const TOKEN_STATES: [&str; 4] = ["none", "valid", "expired", "refused"];

/// The counters of one account's API, registered once. Each request is counted by one.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    /// Calls that succeeded, without those for access tokens.
    pub calls: Counter,
    /// Those that were refused or had no answer.
    pub failed: Counter,
    /// Requests for access tokens.
    pub refreshed: Counter,
}

fn labels(account: &str) -> Vec<Label> {
    let (platform, name) = account.split_once('/').unwrap_or((account, ""));
    vec![Label::new("platform", platform.to_owned()), Label::new("account", name.to_owned())]
}

fn labels_with(account: &str, key: &'static str, value: &'static str) -> Vec<Label> {
    let mut labels = labels(account);
    labels.push(Label::from_static_parts(key, value));
    labels
}

impl Metrics {
    /// Registers the counters of an account's API.
    pub fn api(&self, account: &str) -> ApiMetrics {
        let calls = |result| counter(&self.recorder, CALLS, labels_with(account, "result", result));
        ApiMetrics {
            calls: calls("succeeded"),
            failed: calls("failed"),
            refreshed: counter(&self.recorder, TOKENS, labels(account)),
        }
    }

    /// Shows the state of an account's access token.
    pub(crate) fn show_token(&self, account: &str, state: &str) {
        for known in TOKEN_STATES {
            let key = Key::from_parts(TOKEN, labels_with(account, "state", known));
            self.recorder.register_gauge(&key, &METADATA).set(if known == state { 1.0 } else { 0.0 });
        }
    }

    /// How old the newest message of the last pull was when it was pulled.
    pub(crate) fn kf_lag(&self, account: &str) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(KF_LAG, labels(account)), &METADATA)
    }
}
