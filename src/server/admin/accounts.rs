//! `/v1/accounts`: what is configured, and how each account does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Admin,
    error::{ApiError, CommonErrors},
    json::Json,
    shown::time,
};
use crate::{
    config::{LateReply, Mode},
    delivery::Endpoint,
    journal::{Filter, Millis},
    server::generation::View,
};

/// Events that are looked at for the last one of accounts that had none since the start.
const SCAN: usize = 200;

/// The accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountList {
    /// In the order of the configuration.
    accounts: Vec<AccountDetail>,
}

/// An account. What is counted is of this process since it started.
#[derive(Debug, Serialize, ToSchema)]
struct AccountDetail {
    /// As in `mp/shop`.
    id: String,
    /// As in `mp`.
    platform: String,
    /// As in `shop`.
    name: String,
    /// Where it receives; null over a WebSocket.
    path: Option<String>,
    /// What to enter in the platform's console, with the name of this server in place of `HOST`; null over a WebSocket.
    url_path_hint: Option<String>,
    /// `plain`, `compat` or `safe`.
    mode: String,
    /// Whether it has a secret, so that its API can be called.
    has_secret: bool,
    /// What becomes of a late reply: `drop`, `hold`, `send` or `next`.
    late_reply: String,
    /// When its last delivery was answered, or its last event was received; null when it is not known.
    #[schema(format = "date-time")]
    last_event: Option<String>,
    /// How many deliveries ended in each way.
    deliveries: BTreeMap<String, u64>,
    /// Requests that were refused.
    refused: u64,
    /// Deliveries in flight.
    in_flight: usize,
    /// The access token; null without a secret.
    token: Option<TokenDetail>,
    /// The connection of a bot over WebSocket; null for others.
    connection: Option<ConnectionDetail>,
    /// From which addresses requests are taken; null where that is not looked at.
    source: Option<SourceDetail>,
    /// Deliveries answered in each of the last 60 minutes, the present one last.
    rates: Vec<u64>,
    /// How long the deliveries of the last hour took until they were answered; null when there were none.
    latencies_ms: Option<Latencies>,
}

/// An access token.
#[derive(Debug, Serialize, ToSchema)]
struct TokenDetail {
    /// `none` (not needed yet), `valid`, `expired` or `refused`.
    state: String,
    /// When it expires.
    #[schema(format = "date-time")]
    expires: Option<String>,
}

/// The platform's list of the addresses that it calls from.
#[derive(Debug, Serialize, ToSchema)]
struct SourceDetail {
    /// What becomes of requests from other addresses: `warn` or `enforce`.
    check: String,
    /// Its entries; null while no list is known, and all addresses are accepted.
    addresses: Option<usize>,
    /// When it was fetched.
    #[schema(format = "date-time")]
    fetched: Option<String>,
}

/// A connection over WebSocket.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectionDetail {
    /// `standby`, `connecting`, `connected`, `disconnected`, `refused` or `kicked`.
    state: String,
    /// For people.
    text: String,
}

/// Times that so many of a hundred deliveries do not exceed, in milliseconds, within a quarter.
#[derive(Debug, Serialize, ToSchema)]
struct Latencies {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Lists accounts with their health
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts",
    responses((status = 200, description = "The accounts.", body = AccountList), CommonErrors),
)]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<AccountList>, ApiError> {
    let (now, mut stored) = (Instant::now(), HashMap::new());
    let view = admin.view.load_full();
    if view.endpoints.iter().any(|endpoint| endpoint.stats().last().is_none()) {
        let newest = admin.store.archive().await?.newest(&Filter::default(), SCAN).await?;
        stored.extend(newest.into_iter().map(|stored| (stored.record.account, stored.record.received)));
    }
    let accounts = view.endpoints.iter().map(|endpoint| {
        let last = endpoint.stats().last().or_else(|| stored.get(&endpoint.id).copied());
        detail(&view, endpoint, last, now)
    });
    Ok(Json(AccountList { accounts: accounts.collect() }))
}

fn detail(view: &View, endpoint: &Endpoint, last: Option<Millis>, now: Instant) -> AccountDetail {
    let (account, stats) = (&endpoint.account, endpoint.stats());
    let path = account.websocket.is_none().then(|| account.path.clone());
    let token = account.secret.as_ref().and_then(|_| view.apis.get(&endpoint.id)).map(|api| {
        let (state, expires) = api.token_state();
        TokenDetail { state: state.to_owned(), expires: expires.map(time) }
    });
    let connection = view.connections.of(&endpoint.id);
    let source = endpoint.source.as_ref().map(|source| {
        let list = source.list();
        SourceDetail {
            check: source.check().as_str().to_owned(),
            addresses: list.as_ref().map(|list| list.len()),
            fetched: list.map(|list| time(list.fetched())),
        }
    });
    let latencies = stats.percentiles(now);
    AccountDetail {
        id: endpoint.id.to_string(),
        platform: account.platform.as_str().to_owned(),
        name: account.name.clone(),
        url_path_hint: path.as_ref().map(|path| format!("https://HOST{path}")),
        path,
        mode: match account.mode {
            Mode::Plain => "plain",
            Mode::Compat => "compat",
            Mode::Safe => "safe",
        }
        .to_owned(),
        has_secret: account.secret.is_some(),
        late_reply: match account.late_reply {
            LateReply::Drop => "drop",
            LateReply::Hold => "hold",
            LateReply::Send => "send",
            LateReply::Next => "next",
        }
        .to_owned(),
        last_event: last.map(time),
        deliveries: stats.outcomes().map(|(name, count)| (name.to_owned(), count)).collect(),
        refused: stats.refused(),
        in_flight: endpoint.in_flight(),
        token,
        connection: connection.map(|(state, text)| ConnectionDetail { state: state.to_owned(), text }),
        source,
        rates: stats.rates(now),
        latencies_ms: latencies.map(|it| Latencies { p50: it.p50, p95: it.p95, p99: it.p99 }),
    }
}
