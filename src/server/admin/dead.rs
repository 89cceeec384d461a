//! `/v1/dead`: events that an observer permanently failed on.

use std::sync::Arc;

use axum::extract::State;

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
    let before = match written("before", query.before.as_deref())? {
        Some(text) => {
            let (event, observer) = text.split_once('/').unwrap_or((text, ""));
            Some((cursor(event)?, observer.to_owned()))
        }
        None => None,
    };
    let view = View { full: is_full(query.view.as_deref())?, ..admin.view().await };
    let page = admin.store.archive().await?.newest_dead(&filter, before, limit).await?;
    let next = page.last().filter(|_| page.len() >= limit);
    let next = next.map(|last| format!("{}/{}", last.event.id.simple(), last.observer));
    let page = page.iter().filter(|letter| view.has_text(&letter.event, filter.text.as_deref()));
    Ok(Json(DeadPage { letters: page.map(|letter| view.letter(letter)).collect(), next }))
}
