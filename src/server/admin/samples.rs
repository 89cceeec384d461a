//! `/v1/samples`: plays the platform against the server's own route, with a sample of the catalogue.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::task;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, BodyErrors, CommonErrors},
    json::Json,
};
use crate::{
    catalog::{self, Entry},
    delivery::Endpoint,
    event::Platform,
    journal::{Archive, Filter, Place},
    simulate::{self, Player, Push, SimulateError},
};

/// Events that may come while a sample is sent.
const SCAN: usize = 1000;

/// A sample that is to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sample {
    /// The account, as in `mp/shop`.
    account: String,
    /// The event type, as in `mp.message.text`.
    r#type: String,
    /// Values that replace those of the sample, by their dotted paths.
    #[serde(default)]
    set: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sent {
    /// The status of the server's answer.
    status: u16,
    /// The answer, opened; null when it is empty.
    reply: Option<String>,
    /// The id of the event; null when there is none.
    event: Option<String>,
    /// Why the platform would not take the answer; null when it would.
    error: Option<String>,
}

/// Sends a sample, as the platform would
#[utoipa::path(
    post, path = "/v1/samples", tag = "catalogue", request_body = Sample,
    responses(
        (status = 200, description = "What became of it.", body = Sent),
        (status = 404, description = "There is no such account or type: `not_found`.", body = super::error::ErrorBody),
        (status = 502, description = "The server's own route cannot be reached: `not_sent`.", body = super::error::ErrorBody),
        BodyErrors, CommonErrors,
    ),
)]
pub(super) async fn send(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(sample): Json<Sample>,
) -> Result<Json<Sent>, ApiError> {
    let view = admin.view.load_full();
    let endpoint = view.endpoints.iter().find(|endpoint| *endpoint.id == *sample.account);
    let endpoint = endpoint.ok_or_else(|| ApiError::not_found("there is no such account"))?;
    if endpoint.account.websocket.is_some() {
        return Err(ApiError::bad_request("the account receives over a WebSocket: there are no requests to it"));
    }
    let set: Vec<_> = sample.set.into_iter().collect();
    let (receiver, now) = (endpoint.account.platform, admin.clock.now());
    let made = task::spawn_blocking(move || make(receiver, &sample.r#type, set, now)).await;
    let (event_type, of, push) = made.unwrap_or_else(|_| Err(ApiError::internal("the catalogue cannot be read")))?;
    let archive = admin.store.archive().await?;
    let place = archive.place().await?;
    caller.audit("sample", &format!("{event_type} to {}", endpoint.id));
    let answer = play(&admin, endpoint, of, &push).await.map_err(|failure| match failure {
        SimulateError::Unreachable { .. } | SimulateError::Client(_) => {
            ApiError::new(StatusCode::BAD_GATEWAY, "not_sent", failure.to_string())
        }
        other => ApiError::internal(other.to_string()),
    })?;
    let event = match answer.status {
        200 => received(&*archive, place, &endpoint.id, &push).await?,
        _ => None,
    };
    Ok(Json(Sent {
        status: answer.status,
        reply: Some(answer.body).filter(|body| !body.is_empty()),
        event: event.map(|event| event.to_string()),
        error: answer.fault,
    }))
}

/// The push of a type, with the values that are set.
fn make(
    receiver: Platform,
    event_type: &str,
    mut set: Vec<(String, String)>,
    now: i64,
) -> Result<(String, Platform, Push), ApiError> {
    let unknown = || ApiError::not_found(format!("there is no event type of this name that {receiver} receives"));
    let of: Platform = event_type.split('.').next().unwrap_or_default().parse().map_err(|_| unknown())?;
    if of != receiver && !receiver.protocol().receives_of().contains(&of) {
        return Err(unknown());
    }
    let broken = |_| ApiError::internal("the catalogue cannot be read");
    let entries = catalog::entries(of).map_err(broken)?;
    let mut entry: Entry = entries.into_iter().find(|entry| entry.id == event_type).ok_or_else(unknown)?;
    if let Some((notice, more)) = simulate::announcement(&entry).map_err(broken)? {
        entry = notice;
        set.extend(more);
    }
    let push = Push::sample(&entry, None, &set, now).map_err(|failure| ApiError::bad_request(failure.to_string()))?;
    Ok((entry.id, of, push))
}

async fn play(
    admin: &Admin,
    endpoint: &Endpoint,
    of: Platform,
    push: &Push,
) -> Result<simulate::Answer, SimulateError> {
    let base = format!("http://{}", reachable(admin.callback));
    let url = simulate::address(&base, &endpoint.account, of, simulate::AUTHORIZER);
    Player::new(&endpoint.keys, url)?.deliver(push, admin.clock.now()).await
}

/// Where a server that listens there is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// The event that a push has become: the one since then that has its payload.
async fn received(archive: &dyn Archive, since: Place, account: &str, push: &Push) -> Result<Option<Uuid>, ApiError> {
    let filter = Filter { account: Some(account.to_owned()), ..Filter::default() };
    let (page, _) = archive.follow(&filter, since, SCAN).await?;
    Ok(page.iter().find(|(stored, _)| stored.record.payload.text() == push.payload).map(|(stored, _)| stored.id))
}
