//! A reply that comes later, from a service that was asked and has answered 202.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, BodyErrors, CommonErrors, ErrorBody},
    json::{Json, Name},
};
use crate::{answers::NotTaken, dispatch};

/// A reply that was taken.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Taken {
    /// The account of the event.
    pub(crate) account: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
}

/// What a reply may be answered, too.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "its variants are documentation")]
pub(super) enum ReplyErrors {
    /// No answer waits for it: it has come before, it is too late, or nobody was asked: `not_awaited`.
    #[response(status = 409)]
    NotAwaited(ErrorBody),
    /// It is no reply to this event; a mended one is taken: `invalid_reply`.
    #[response(status = 422)]
    Invalid(ErrorBody),
}

/// Gives the reply to an event whose service has answered 202; the first one counts
///
/// The body is the reply in a short form, such as `{"text": "hi"}`, or the platform's own document; `null` says nothing.
#[utoipa::path(
    post, path = "/v1/events/{id}/reply", tag = "events", request_body = serde_json::Value,
    params(("id" = String, Path, description = "The whole id.")),
    responses((status = 200, description = "It is taken.", body = Taken), ReplyErrors, BodyErrors, CommonErrors),
)]
pub(super) async fn reply(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Name(id): Name,
    Json(reply): Json<serde_json::Value>,
) -> Result<Json<Taken>, ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_| ApiError::bad_request("expected the whole id of an event"))?;
    let event = match admin.deferred.event(id) {
        Some(event) => event,
        None => {
            let stored = admin.store.archive().await?.event(id).await?;
            dispatch::stored(&stored.ok_or_else(|| refused(NotTaken::NotAwaited))?.record)
        }
    };
    admin.deferred.reply(id, &event, reply).await.map_err(refused)?;
    caller.audit("reply", &format!("event {id} of {}", event.account));
    Ok(Json(Taken { account: (*event.account).to_owned(), event_type: event.event_type.to_owned() }))
}

fn refused(reason: NotTaken) -> ApiError {
    let text = reason.to_string();
    match reason {
        NotTaken::NotAwaited => ApiError::new(StatusCode::CONFLICT, "not_awaited", text),
        NotTaken::Invalid(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_reply", text),
        NotTaken::Journal(failure) => failure.into(),
    }
}
