//! `/v1/forwards`: where events are forwarded to, and how that goes.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, CommonErrors, ErrorBody},
    json::{Json, Name},
};
use crate::{
    forward::{ForwardState, lease_name},
    journal::FORWARD_PREFIX,
};

/// The forwards.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ForwardList {
    /// In the order of the configuration, those that are enabled.
    pub(crate) forwards: Vec<Forward>,
}

/// A forward.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Forward {
    /// Its name.
    pub(crate) name: String,
    /// The observer that it is.
    pub(crate) observer: String,
    /// Where it sends to, without user, password and query.
    pub(crate) to: String,
    /// `ok`; `slowed`, for the target asked for it; `open`, one event at a time, for the target fails; `paused`, for the target is
    /// gone.
    pub(crate) state: String,
    /// Why it is in this state, if it is not `ok`.
    pub(crate) why: Option<String>,
    /// Since when.
    pub(crate) since: Option<String>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// When the target took an event for the last time, since the start of the process.
    pub(crate) last_success: Option<String>,
    /// Events that it has still to send.
    pub(crate) pending: u64,
    /// When the oldest of them was received.
    pub(crate) oldest: Option<String>,
    /// How long ago that is, in milliseconds.
    pub(crate) lag_ms: Option<i64>,
    /// Its dead letters.
    pub(crate) dead: u64,
}

/// A forward that sends again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Resumed {
    /// Whether it was paused.
    pub(crate) resumed: bool,
}

/// What a request for one forward may be answered, too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum ForwardErrors {
    /// There is no such forward: `not_found`.
    #[response(status = 404)]
    NotFound(ErrorBody),
}

/// Lists forwards
#[utoipa::path(
    get, path = "/v1/forwards", tag = "forwards",
    responses((status = 200, description = "The forwards.", body = ForwardList), CommonErrors),
)]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<ForwardList>, ApiError> {
    let states = admin.store.archive().await?.observer_states().await?;
    let now = admin.clock.now().saturating_mul(1000);
    let forwards = admin.view.load().forwards.statuses().into_iter().map(|status| {
        let observer = format!("{FORWARD_PREFIX}{}", status.name);
        let left = states.iter().find(|state| state.name == observer);
        let oldest = left.and_then(|state| state.oldest);
        Forward {
            name: status.name,
            observer,
            to: status.to,
            state: ForwardState::as_str(status.state).to_owned(),
            why: status.why,
            since: status.since,
            failures: status.failures,
            last_success: status.last_success,
            pending: left.map_or(0, |state| state.pending),
            oldest: oldest.map(super::shown::time),
            lag_ms: oldest.map(|oldest| now.saturating_sub(oldest).max(0)),
            dead: left.map_or(0, |state| state.dead),
        }
    });
    Ok(Json(ForwardList { forwards: forwards.collect() }))
}

/// Has a forward send again whose target was gone
#[utoipa::path(
    post, path = "/v1/forwards/{name}/resume", tag = "forwards",
    params(("name" = String, Path, description = "The forward.")),
    responses((status = 200, description = "It sends within a moment.", body = Resumed), ForwardErrors, CommonErrors),
)]
pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Name(name): Name,
) -> Result<Json<Resumed>, ApiError> {
    if !admin.view.load().forwards.statuses().iter().any(|status| status.name == name) {
        return Err(ApiError::not_found("there is no such forward"));
    }
    caller.audit("resume", &format!("forward {name}"));
    let resumed = admin.store.archive().await?.clear_lease(&lease_name(&name)).await?;
    Ok(Json(Resumed { resumed }))
}
