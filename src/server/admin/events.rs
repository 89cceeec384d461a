//! `/v1/events`: what is in the journal.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    Admin,
    auth::Caller,
    error::{ApiError, CommonErrors, EventErrors, InputErrors},
    filter::{filtered, limit},
    json::{Json, Name, Parameters},
    model::{EventDetail, EventPage},
    shown::View,
};
use crate::journal::{Archive, Filter, Stored};

/// Events of a page, and of the largest one.
const PAGE_SIZE: usize = 50;
const MAX_PAGE: usize = 200;

/// Events that are looked at for a page; fewer where each payload is searched.
const SCAN: usize = 100_000;
const SCAN_TEXTS: usize = 50_000;

/// Digits of an id that may stand for it.
const SHORTEST_PREFIX: usize = 8;

filtered! {
    /// Which events of which page.
    ListQuery {
        /// How many, from 1 to 200; 50.
        limit: Option<u32>,
        /// `next` of the page before.
        before: Option<String>,
        /// The oldest first, behind the event with this id; `next` is its `after` then.
        after: Option<String>,
        /// `summary`, or `full` with payload and reply; `summary`.
        view: Option<String>,
    }
}

/// What is shown of an event.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Show the values that are masked; the log has a line of it.
    #[serde(default)]
    reveal: bool,
}

/// Lists events, the newest first
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(ListQuery),
    responses((status = 200, description = "A page.", body = EventPage), InputErrors, CommonErrors),
)]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<EventPage>, ApiError> {
    let filter = query.filter()?;
    let limit = limit(query.limit, PAGE_SIZE, MAX_PAGE)?;
    let before = query.before.as_deref().map(cursor).transpose()?;
    let after = query.after.as_deref().map(cursor).transpose()?;
    if before.is_some() && after.is_some() {
        return Err(ApiError::bad_request("expected either `before` or `after`"));
    }
    let view = View { full: is_full(query.view.as_deref())?, ..admin.view().await };
    let archive = admin.store.archive().await?;
    if let Some(after) = after {
        let page = archive.events(&filter, Some(after), limit).await?;
        let next = page.last().filter(|_| page.len() >= limit).map(|last| last.id.simple().to_string());
        let page = page.iter().filter(|stored| view.has_text(stored, filter.text.as_deref()));
        return Ok(Json(EventPage { events: page.map(|stored| view.listed(stored)).collect(), next }));
    }
    let scan = if filter.text.is_some() { SCAN_TEXTS } else { SCAN };
    let (page, next) = archive.page(&filter, before, limit, scan).await?;
    let page = page.iter().filter(|stored| view.has_text(stored, filter.text.as_deref()));
    let events = page.map(|stored| view.listed(stored)).collect();
    Ok(Json(EventPage { events, next: next.map(|next| next.simple().to_string()) }))
}

/// Shows one event
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "events",
    params(ShowQuery, ("id" = String, Path, description = "The id, or its beginning of 8 or more digits.")),
    responses(
        (status = 200, description = "The event.", body = EventDetail),
        EventErrors, InputErrors, CommonErrors,
    ),
)]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Name(id): Name,
    Parameters(ShowQuery { reveal }): Parameters<ShowQuery>,
) -> Result<Json<EventDetail>, ApiError> {
    let archive = admin.store.archive().await?;
    let stored = find(&*archive, &id).await?;
    if reveal && !admin.mask.is_empty() {
        caller.audit("reveal", &format!("event {} of {}", stored.id, stored.record.account));
    }
    let observations = archive.observations(stored.id).await?;
    let view = View { reveal, ..admin.view().await };
    Ok(Json(view.detail(&stored, &observations)))
}

/// Whether a list has payloads and replies.
pub(super) fn is_full(view: Option<&str>) -> Result<bool, ApiError> {
    match view {
        None | Some("" | "summary") => Ok(false),
        Some("full") => Ok(true),
        Some(_) => Err(ApiError::bad_request("`view` must be summary or full")),
    }
}

/// Where a page begins.
pub(super) fn cursor(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| ApiError::bad_request("`before` and `after` must be `next` of a page"))
}

/// The event with an id, or whose id begins so.
pub(super) async fn find(archive: &dyn Archive, id: &str) -> Result<Stored, ApiError> {
    let digits: String = id.chars().filter(|digit| *digit != '-').map(|digit| digit.to_ascii_lowercase()).collect();
    let is_id = (SHORTEST_PREFIX..=32).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let no_event = || ApiError::not_found(format!("no event {digits}"));
    if !is_id {
        return Err(ApiError::bad_request("an id has from 8 to 32 hexadecimal digits"));
    }
    let first = Uuid::try_parse(&format!("{digits:0<32}")).map_err(|_| no_event())?;
    if digits.len() == 32 {
        return archive.event(first).await?.ok_or_else(no_event);
    }
    /// Nodes may make as many at one time.
    const FEW: usize = 64;
    // Stores order by time and counter of an identity at least, which its version is between.
    let (high, _) = first.as_u64_pair();
    let before = match (high >> 16, high & 0xFFF) {
        (0, 0) => None,
        (time, 0) => Some(((time - 1) << 16) | 0x7FFF),
        (time, counter) => Some((time << 16) | 0x7000 | (counter - 1)),
    };
    let before = before.map(|before| Uuid::from_u64_pair(before, u64::MAX));
    let behind = archive.events(&Filter::default(), before, FEW).await?;
    let mut found = behind.into_iter().filter(|stored| stored.id.simple().to_string().starts_with(&digits));
    match (found.next(), found.next()) {
        (Some(event), None) => Ok(event),
        (None, _) => Err(no_event()),
        (Some(_), Some(_)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "ambiguous",
            format!("several events begin with {digits}; give more of the id"),
        )),
    }
}
