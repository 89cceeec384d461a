//! `/v1/events/stream`: what comes from now on, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::{
    select,
    sync::OwnedSemaphorePermit,
    time::{self, Instant},
};
use tracing::warn;

use super::{
    Admin,
    auth::{By, Caller},
    error::{ApiError, CommonErrors, InputErrors},
    filter::filtered,
    json::Parameters,
    shown::View,
};
use crate::journal::{Archive, Filter, Place, Stored};

/// Streams at one time, so that there are connections left for everything else.
pub(super) const MAX_STREAMS: usize = 16;

/// How often the journal is asked for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How often something is sent, so that nobody in between takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that are sent at one time.
const PAGE_SIZE: usize = 100;

/// Marks an answer that goes on for as long as its client wants it to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

filtered! {
    /// Which events are sent, and how.
    StreamQuery {
        /// `summary`, `full` with payload and reply, or `cloudevent`; `summary`.
        view: Option<String>,
        /// The id of the last event that was received, for those who cannot send the header `Last-Event-ID`.
        last_event_id: Option<String>,
    }
}

/// Sends events as they come: `event: event`, `data:` a summary or a CloudEvent, `id:` where to go on
///
/// It begins with what comes from now on, or behind `Last-Event-ID`. An event that is sent may not have its reply yet.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(StreamQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received.")),
    responses(
        (status = 200, description = "Server-sent events.", content_type = "text/event-stream", body = String),
        InputErrors, CommonErrors,
    ),
)]
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Parameters(query): Parameters<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let filter = query.filter()?;
    let (is_cloud_event, full) = match query.view.as_deref() {
        None | Some("" | "summary") => (false, false),
        Some("full") => (false, true),
        Some("cloudevent") => (true, false),
        Some(_) => return Err(ApiError::bad_request("`view` must be summary, full or cloudevent")),
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let last = last.or(query.last_event_id.as_deref()).filter(|last| !last.is_empty());
    let last = last.map(str::parse::<Place>).transpose();
    let last = last.map_err(|_| ApiError::bad_request("`Last-Event-ID` must be the id of an event of this stream"))?;
    let permit = Arc::clone(&admin.streams).try_acquire_owned().map_err(|_| {
        let message = format!("there are {MAX_STREAMS} streams already");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message).retry_after(5)
    })?;
    let archive = admin.store.archive().await?;
    let place = match last {
        Some(place) => place,
        None => archive.place().await?,
    };
    let stream = Stream { admin, caller, archive, filter, place, is_cloud_event, full, sent: None, _permit: permit };
    let body = stream::unfold(stream, |mut stream| async move {
        let frames = stream.next().await?;
        Some((Ok::<_, Infallible>(frames), stream))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some proxies collect an answer before they pass it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.extensions_mut().insert(Endless);
    Ok(response)
}

/// One client that follows.
struct Stream {
    admin: Arc<Admin>,
    caller: Caller,
    archive: Arc<dyn Archive>,
    filter: Filter,
    place: Place,
    is_cloud_event: bool,
    full: bool,
    /// When something was sent last.
    sent: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    /// What is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let stopping = self.admin.stopping.clone();
        select! {
            biased;
            () = stopping.cancelled() => None,
            frames = self.wait() => frames,
        }
    }

    async fn wait(&mut self) -> Option<Bytes> {
        loop {
            if self.sent.is_none_or(|sent| sent.elapsed() >= HEARTBEAT) {
                self.sent = Some(Instant::now());
                // Whoever signs out has seen enough.
                if let By::Session(session) = &self.caller.by
                    && !self.admin.gate.sessions.has(session)
                {
                    return None;
                }
                // A frame without data is no event; it moves the place where the client goes on.
                return Some(format!(": \nid: {}\n\n", self.place).into());
            }
            let page = self.archive.follow(&self.filter, self.place.clone(), PAGE_SIZE).await;
            let (page, place) = page
                .inspect_err(|failure| warn!("a stream of the event API ended; its client goes on later: {failure}"))
                .ok()?;
            self.place = place;
            let mut frames = String::new();
            for (stored, place) in &page {
                self.write(&mut frames, stored, place).await;
            }
            if !frames.is_empty() {
                self.sent = Some(Instant::now());
                return Some(frames.into());
            }
            if page.len() < PAGE_SIZE {
                time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    async fn write(&self, frames: &mut String, stored: &Stored, place: &Place) {
        let view = View { full: self.full, ..self.admin.view().await };
        if !view.has_text(stored, self.filter.text.as_deref()) {
            return;
        }
        let data = if self.is_cloud_event {
            Ok(view.mask.show(stored, false).cloud_event().to_string())
        } else {
            serde_json::to_string(&view.listed(stored))
        };
        match data {
            Ok(data) => frames.push_str(&format!("id: {place}\nevent: event\ndata: {data}\n\n")),
            Err(failure) => warn!(event = %stored.id, "an event cannot be sent by the event API: {failure}"),
        }
    }
}
