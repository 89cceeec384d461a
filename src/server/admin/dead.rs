//! `/v1/dead`: events that an observer permanently failed on.

use std::sync::Arc;

use axum::extract::State;
use uuid::Uuid;

use super::{
    Admin,
    error::{ApiError, CommonErrors, InputErrors},
    events::{cursor, is_full},
    filter::{filtered, limit, written},
    json::{Json, Parameters},
    model::DeadPage,
    shown::View,
};
use crate::journal::Filter;

/// Dead letters of a page, and of the largest one.
const PAGE_SIZE: usize = 50;
const MAX_PAGE: usize = 200;

filtered! {
    /// Which dead letters of which page.
    DeadQuery {
        /// Only dead letters of this observer.
        observer: Option<String>,
        /// How many, from 1 to 200; 50.
        limit: Option<u32>,
        /// `next` of the page before.
        before: Option<String>,
        /// The oldest event first, behind this dead letter; `next` is its `after` then.
        after: Option<String>,
        /// `summary`, or `full` with payload and reply; `summary`.
        view: Option<String>,
    }
}

/// Lists dead letters, the newest event first
#[utoipa::path(
    get, path = "/v1/dead", tag = "dead letters", params(DeadQuery),
    responses((status = 200, description = "A page.", body = DeadPage), InputErrors, CommonErrors),
)]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(query): Parameters<DeadQuery>,
) -> Result<Json<DeadPage>, ApiError> {
    let observer = written("observer", query.observer.as_deref())?.map(str::to_owned);
    let filter = Filter { observer, ..query.filter()? };
    let limit = limit(query.limit, PAGE_SIZE, MAX_PAGE)?;
    let (before, after) = (letter("before", query.before.as_deref())?, letter("after", query.after.as_deref())?);
    let view = View { full: is_full(query.view.as_deref())?, ..admin.view().await };
    let archive = admin.store.archive().await?;
    let page = match (before, after) {
        (Some(_), Some(_)) => return Err(ApiError::bad_request("expected either `before` or `after`")),
        (before, None) => archive.newest_dead(&filter, before, limit).await?,
        (None, after) => archive.dead(&filter, after, limit).await?,
    };
    let next = page.last().filter(|_| page.len() >= limit);
    let next = next.map(|last| format!("{}/{}", last.event.id.simple(), last.observer));
    let page = page.iter().filter(|letter| view.has_text(&letter.event, filter.text.as_deref()));
    Ok(Json(DeadPage { letters: page.map(|letter| view.letter(letter)).collect(), next }))
}

/// A dead letter by event and observer.
fn letter(name: &str, text: Option<&str>) -> Result<Option<(Uuid, String)>, ApiError> {
    let Some(text) = written(name, text)? else { return Ok(None) };
    let (event, observer) = text.split_once('/').unwrap_or((text, ""));
    Ok(Some((cursor(event)?, observer.to_owned())))
}
