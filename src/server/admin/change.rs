//! What changes the state of observers: replay, retry, drop. Each has a line in the log.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, BodyErrors, CommonErrors, EventErrors},
    events::find,
    filter::written,
    json::{Json, Name},
};
use crate::journal::Archive;

/// Dead letters of one request.
const MAX_LETTERS: usize = 1000;

/// Dead letters that are named in the log.
const MAX_NAMED: usize = 20;

/// To whom an event is given again: to one observer, or to all that it was for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// The observer.
    #[serde(default)]
    pub(crate) observer: Option<String>,
    /// All that the event was for, but internal ones and absent ones.
    #[serde(default)]
    pub(crate) all_observers: bool,
}

/// How much is to do now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Queued {
    /// Observations that are pending now and were not before.
    pub(crate) queued: u64,
}

/// Which dead letters.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Letters {
    /// From 1 to 1000.
    pub(crate) letters: Vec<Letter>,
}

/// A dead letter.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Letter {
    /// The event.
    pub(crate) event: String,
    /// The observer.
    pub(crate) observer: String,
}

/// How many dead letters are pending again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Retried {
    /// Those that were dead letters.
    pub(crate) retried: u64,
}

/// How many dead letters were removed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Dropped {
    /// Those that were dead letters.
    pub(crate) dropped: u64,
}

/// Gives an event to observers again, as if it were new; responders do not run
#[utoipa::path(
    post, path = "/v1/events/{id}/replay", tag = "events", request_body = Replay,
    params(("id" = String, Path, description = "The id, or its beginning of 8 or more digits.")),
    responses((status = 200, description = "How much is to do now.", body = Queued), EventErrors, BodyErrors, CommonErrors),
)]
pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Name(id): Name,
    Json(Replay { observer, all_observers }): Json<Replay>,
) -> Result<Json<Queued>, ApiError> {
    let observer = written("observer", observer.as_deref())?;
    let archive = admin.store.archive().await?;
    let stored = find(&*archive, &id).await?;
    let (id, account) = (stored.id, &stored.record.account);
    let queued = match (observer, all_observers) {
        (Some(observer), false) => {
            check_observer(&*archive, observer).await?;
            caller.audit("replay", &format!("event {id} of {account} to observer {observer}"));
            archive.replay(observer, vec![id]).await?
        }
        (None, true) => {
            caller.audit("replay", &format!("event {id} of {account} to all of its observers"));
            archive.replay_to_all(vec![id]).await?
        }
        _ => return Err(ApiError::bad_request("expected either `observer`, or `all_observers`: true")),
    };
    Ok(Json(Queued { queued }))
}

async fn check_observer(archive: &dyn Archive, name: &str) -> Result<(), ApiError> {
    let known = archive.observers().await?;
    match known.iter().any(|known| known == name) {
        true => Ok(()),
        false => Err(ApiError::bad_request(format!("there is no observer {name}"))),
    }
}

/// Gives dead letters to their observers again
#[utoipa::path(
    post, path = "/v1/dead/retry", tag = "dead letters", request_body = Letters,
    responses((status = 200, description = "How many are pending again.", body = Retried), BodyErrors, CommonErrors),
)]
pub(super) async fn retry(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(letters): Json<Letters>,
) -> Result<Json<Retried>, ApiError> {
    let letters = checked(&letters)?;
    let archive = admin.store.archive().await?;
    caller.audit("retry", &named(&letters));
    Ok(Json(Retried { retried: archive.revive(letters).await? }))
}

/// Removes dead letters; their events stay for the retention
#[utoipa::path(
    post, path = "/v1/dead/drop", tag = "dead letters", request_body = Letters,
    responses((status = 200, description = "How many were removed.", body = Dropped), BodyErrors, CommonErrors),
)]
pub(super) async fn discard(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Json(letters): Json<Letters>,
) -> Result<Json<Dropped>, ApiError> {
    let letters = checked(&letters)?;
    let archive = admin.store.archive().await?;
    caller.audit("drop", &named(&letters));
    Ok(Json(Dropped { dropped: archive.drop_dead(letters).await? }))
}

fn checked(Letters { letters }: &Letters) -> Result<Vec<(Uuid, String)>, ApiError> {
    if !(1..=MAX_LETTERS).contains(&letters.len()) {
        return Err(ApiError::bad_request(format!("`letters` must have from 1 to {MAX_LETTERS} members")));
    }
    let letter = |Letter { event, observer }: &Letter| {
        let event = Uuid::try_parse(event).map_err(|_| ApiError::bad_request("`event` must be a whole id"))?;
        let observer = written("observer", Some(observer))?;
        let observer = observer.ok_or_else(|| ApiError::bad_request("`observer` is empty"))?;
        Ok((event, observer.to_owned()))
    };
    letters.iter().map(letter).collect()
}

fn named(letters: &[(Uuid, String)]) -> String {
    let names: Vec<_> = letters.iter().take(MAX_NAMED).map(|(event, observer)| format!("{event}/{observer}")).collect();
    let more = match letters.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("dead letters {}{more}", names.join(", "))
}
