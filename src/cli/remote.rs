//! The journal of a running server, through its event API.

use std::{error::Error, fmt, time::Duration};

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response, StatusCode, header::LOCATION};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokio::{sync::Mutex, time};
use uuid::Uuid;

use crate::{
    http,
    journal::{
        Archive, DeadLetter, EventRecord, Filter, JournalError, Millis, Observation, ObservationState, ObserverState,
        Page, Place, State, Stored, Task,
    },
    payload::{Form, Payload},
    secret::Secret,
    server::model::{
        DeadLetterDetail, DeadPage, Dropped, ErrorBody, EventDetail, EventPage, Listed, ObservationDetail,
        ObserverDetail, ObserverList, Queued, Retried,
    },
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stream is read before what has come is given out.
const STREAM_WAIT: Duration = Duration::from_millis(500);

/// How often a stream that broke is asked for again, and how long to wait before that.
const RECONNECTS: u32 = 60;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Most that a page of the API has, and a change.
const MAX_PAGE: usize = 200;
const MAX_LETTERS: usize = 1000;

/// A server that runs.
pub(super) struct RemoteArchive {
    client: reqwest::Client,
    base: String,
    token: Option<Secret>,
    /// Whether whoever follows answers what nobody else does.
    answers: bool,
    /// The stream that is followed.
    stream: Mutex<Option<Stream>>,
}

/// Events that have come, and where to go on.
type Followed = (Vec<(Stored, Place)>, Option<Place>);

/// Server-sent events that are being read.
struct Stream {
    response: Response,
    rest: Vec<u8>,
}

impl fmt::Debug for RemoteArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteArchive").field("base", &self.base).finish_non_exhaustive()
    }
}

impl RemoteArchive {
    /// The server whose admin listener is there.
    ///
    /// # Errors
    /// When it is no URL.
    pub(super) fn new(url: &str, token: Option<Secret>) -> Result<Self, Box<dyn Error>> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("--url must be the address of the admin listener, as in http://127.0.0.1:9180".into());
        }
        let client = http::builder().connect_timeout(CONNECT_TIMEOUT).build().map_err(http::causes)?;
        Ok(Self { client, base: url.trim_end_matches('/').to_owned(), token, answers: false, stream: Mutex::default() })
    }

    /// One that answers, as long as it follows, what nobody else does.
    pub(super) fn answering(self) -> Self {
        Self { answers: true, ..self }
    }

    fn failed(&self, what: impl fmt::Display) -> JournalError {
        JournalError::storage(format!("{}: {what}", self.base))
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        ends: bool,
    ) -> Result<Response, JournalError> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if ends {
            request = request.timeout(TIMEOUT);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await;
        response.map_err(|failure| self.failed(http::causes(failure)))
    }

    /// Why there is no answer of use.
    pub(super) async fn refused(&self, response: Response) -> JournalError {
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(redirected) = http::redirected(status.as_u16(), location.as_deref()) {
            return self.failed(redirected);
        }
        let body = response.text().await.unwrap_or_default();
        match (status, serde_json::from_str::<ErrorBody>(&body)) {
            (StatusCode::UNAUTHORIZED, _) => self.failed(
                "401: the admin token is missing or wrong; give `token` of [admin] in ECHOSTR_ADMIN_TOKEN or with --token",
            ),
            (status, Ok(ErrorBody { error })) => {
                self.failed(format_args!("{} {}: {}", status.as_u16(), error.code, error.message))
            }
            (status, Err(_)) => self.failed(format_args!("{status}; is this the admin listener of an echostr server?")),
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, JournalError> {
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let body = response.bytes().await.map_err(|failure| self.failed(http::causes(failure)))?;
        serde_json::from_slice(&body)
            .map_err(|failure| self.failed(format_args!("an answer cannot be read: {failure}")))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, JournalError> {
        self.read(self.send(Method::GET, path, None, true).await?).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Json) -> Result<T, JournalError> {
        self.read(self.send(Method::POST, path, Some(body), true).await?).await
    }

    /// Ids of the accounts that the server has.
    pub(super) async fn accounts(&self) -> Result<Vec<String>, JournalError> {
        let list: Json = self.get("/v1/accounts").await?;
        let accounts = list.get("accounts").and_then(Json::as_array).into_iter().flatten();
        Ok(accounts.filter_map(|account| account.get("id")?.as_str().map(str::to_owned)).collect())
    }

    /// The requests that the server has refused, the newest first.
    pub(super) async fn refusals(&self) -> Result<Vec<Json>, JournalError> {
        let list: Json = self.get("/v1/refusals").await?;
        Ok(list.get("refusals").and_then(Json::as_array).cloned().unwrap_or_default())
    }

    async fn detail(&self, id: Uuid) -> Result<Option<EventDetail>, JournalError> {
        let response = self.send(Method::GET, &format!("/v1/events/{id}"), None, true).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(response).await.map(Some)
    }

    async fn list(&self, query: &str) -> Result<(Vec<Stored>, Option<Uuid>), JournalError> {
        let page: EventPage = self.get(&format!("/v1/events?view=full{query}")).await?;
        let next = page.next.map(|next| Uuid::try_parse(&next)).transpose();
        let next = next.map_err(|_| self.failed("a page has no cursor that can be read"))?;
        let events = page.events.into_iter().map(|listed| self.stored(listed)).collect::<Result<_, _>>()?;
        Ok((events, next))
    }

    async fn letters(&self, query: &str) -> Result<Vec<DeadLetter>, JournalError> {
        let page: DeadPage = self.get(&format!("/v1/dead?view=full{query}")).await?;
        let letter = |DeadLetterDetail { event, observer, attempts, error, died }| {
            Ok::<_, JournalError>(DeadLetter {
                event: self.stored(event)?,
                observer,
                attempts,
                error,
                died: self.millis(&died)?,
            })
        };
        page.letters.into_iter().map(letter).collect()
    }

    fn millis(&self, time: &str) -> Result<Millis, JournalError> {
        let time = time.parse::<Timestamp>().map_err(|_| self.failed("an answer has a time that cannot be read"))?;
        Ok(time.as_millisecond())
    }

    fn stored(&self, listed: Listed) -> Result<Stored, JournalError> {
        let unread = |what: &str| self.failed(format_args!("an event has {what} that this version cannot read"));
        let Listed { summary, form: Some(form), payload: Some(payload), query, reply } = listed else {
            return Err(unread("no payload"));
        };
        let state = State::ALL.into_iter().find(|state| state.as_str() == summary.state);
        let record = EventRecord {
            platform: summary.platform.parse().map_err(|_| unread("a platform"))?,
            account: summary.account.into(),
            event_type: summary.r#type.into(),
            subject: summary.subject.map(Into::into),
            form: if form == "xml" { Form::Xml } else { Form::Json },
            payload: Payload::new(payload),
            query: query.map(Into::into),
            received: self.millis(&summary.time)?,
        };
        Ok(Stored {
            id: Uuid::try_parse(&summary.id).map_err(|_| unread("an id"))?,
            record,
            deliveries: summary.deliveries,
            state: state.ok_or_else(|| unread("a state"))?,
            reply,
            failure: summary.failure,
        })
    }

    fn observation(&self, detail: ObservationDetail) -> Result<Observation, JournalError> {
        let ObservationDetail { observer, state, due, attempts, error } = detail;
        let due = due.map(|due| self.millis(&due)).transpose()?.unwrap_or_default();
        let state = match &*state {
            "waiting" => ObservationState::Waiting(due),
            "leased" => ObservationState::Leased(due),
            "dead" => ObservationState::Dead(due),
            _ => ObservationState::Done,
        };
        Ok(Observation { observer, state, attempts, error })
    }

    async fn open(&self, filter: &Filter, since: Option<&Place>) -> Result<Stream, JournalError> {
        let since = since.map_or_else(String::new, |since| parameter("last_event_id", &since.to_string()));
        let answers = if self.answers { "&answers=true" } else { "" };
        let path = format!("/v1/events/stream?view=full{answers}{}{since}", parameters(filter));
        let response = self.send(Method::GET, &path, None, false).await?;
        match response.status() {
            StatusCode::OK => Ok(Stream { response, rest: Vec::new() }),
            _ => Err(self.refused(response).await),
        }
    }

    /// What comes of a stream within a moment; `None` when it has ended.
    async fn frames(&self, stream: &mut Stream) -> Result<Option<Followed>, JournalError> {
        let (mut events, mut last) = (Vec::new(), None);
        let until = time::Instant::now() + STREAM_WAIT;
        loop {
            let chunk = match time::timeout_at(until, stream.response.chunk()).await {
                Err(_elapsed) => return Ok(Some((events, last))),
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None) | Err(_)) if events.is_empty() && last.is_none() => return Ok(None),
                Ok(Ok(None) | Err(_)) => return Ok(Some((events, last))),
            };
            stream.rest.extend_from_slice(&chunk);
            while let Some(end) = stream.rest.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = stream.rest.drain(..end + 2).collect();
                let frame = String::from_utf8_lossy(&frame);
                let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
                let Some(place) = line("id: ").and_then(|id| id.parse::<Place>().ok()) else { continue };
                if let Some(data) = line("data: ") {
                    let listed = serde_json::from_str(data);
                    let listed =
                        listed.map_err(|failure| self.failed(format_args!("an event cannot be read: {failure}")))?;
                    events.push((self.stored(listed)?, place.clone()));
                }
                last = Some(place);
            }
            if !events.is_empty() {
                return Ok(Some((events, last)));
            }
        }
    }
}

fn parameter(name: &str, value: &str) -> String {
    format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
}

/// A filter as parameters of the API.
fn parameters(filter: &Filter) -> String {
    let Filter { platform, account, event_type, subject, since, until, state, text, observer } = filter;
    let time = |time: &Option<Millis>| time.map(|time| time.to_string());
    let values = [
        ("platform", platform.map(|platform| platform.as_str().to_owned())),
        ("account", account.clone()),
        ("type", event_type.clone()),
        ("subject", subject.clone()),
        ("since", time(since)),
        ("until", time(until)),
        ("state", state.map(|state| state.as_str().to_owned())),
        ("text", text.clone()),
        ("observer", observer.clone()),
    ];
    values.into_iter().filter_map(|(name, value)| Some(parameter(name, &value?))).collect()
}

/// A dead letter as a cursor of the API.
fn letter(name: &str, letter: Option<(Uuid, String)>) -> String {
    letter.map_or_else(String::new, |(event, observer)| parameter(name, &format!("{event}/{observer}")))
}

/// Why named leases are out of reach.
const LEASES: &str = "named leases are read and changed on the journal itself, without --url";

impl Archive for RemoteArchive {
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>> {
        let filter = parameters(filter);
        Box::pin(async move {
            let (mut events, mut after) = (Vec::new(), after.unwrap_or(Uuid::nil()));
            while events.len() < limit {
                let wanted = MAX_PAGE.min(limit - events.len());
                let (page, _) = self.list(&format!("{filter}&limit={wanted}&after={after}")).await?;
                after = page.last().map_or(after, |last| last.id);
                let is_last = page.len() < wanted;
                events.extend(page);
                if is_last {
                    break;
                }
            }
            Ok(events)
        })
    }

    fn place(&self) -> Task<'_, Place> {
        Box::pin(async move {
            let mut stream = self.open(&Filter::default(), None).await?;
            // The first frame has it; what comes behind that is to be followed.
            while let Ok(Some(chunk)) = stream.response.chunk().await {
                stream.rest.extend_from_slice(&chunk);
                let text = String::from_utf8_lossy(&stream.rest);
                let first = text.split_once("\n\n").map(|(first, _)| first);
                if let Some(place) = first.and_then(|first| first.lines().find_map(|line| line.strip_prefix("id: "))) {
                    return place
                        .parse()
                        .map_err(|_| self.failed("the stream of events has no place that can be read"));
                }
            }
            Err(self.failed("the stream of events ended before it began"))
        })
    }

    fn follow(&self, filter: &Filter, since: Place, _limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)> {
        let filter = filter.clone();
        Box::pin(async move {
            let mut followed = self.stream.lock().await;
            let mut attempts = 0;
            loop {
                let stream = match followed.as_mut() {
                    Some(stream) => stream,
                    None => match self.open(&filter, Some(&since)).await {
                        Ok(opened) => followed.insert(opened),
                        Err(failure) if attempts >= RECONNECTS => return Err(failure),
                        Err(_) => {
                            attempts += 1;
                            time::sleep(RECONNECT_PAUSE).await;
                            continue;
                        }
                    },
                };
                if let Some((events, place)) = self.frames(stream).await? {
                    return Ok((events, place.unwrap_or(since)));
                }
                // The server restarts, or something in between has closed the connection.
                *followed = None;
            }
        })
    }

    fn page(&self, filter: &Filter, before: Option<Uuid>, limit: usize, _scan: usize) -> Task<'_, Page> {
        let before = before.map_or_else(String::new, |before| parameter("before", &before.to_string()));
        let query = format!("{}&limit={}{before}", parameters(filter), limit.clamp(1, MAX_PAGE));
        Box::pin(async move { self.list(&query).await })
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>> {
        let filter = filter.clone();
        Box::pin(async move {
            let (mut events, mut before) = (Vec::new(), None);
            while events.len() < limit {
                let (page, next) = self.page(&filter, before, limit - events.len(), usize::MAX).await?;
                events.extend(page);
                before = next;
                if before.is_none() {
                    break;
                }
            }
            events.reverse();
            Ok(events)
        })
    }

    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>> {
        Box::pin(async move {
            let Some(EventDetail { summary, content, .. }) = self.detail(id).await? else { return Ok(None) };
            self.stored(Listed::new(summary, Some(content))).map(Some)
        })
    }

    fn observations(&self, id: Uuid) -> Task<'_, Vec<Observation>> {
        Box::pin(async move {
            let observations = self.detail(id).await?.map(|detail| detail.observations).unwrap_or_default();
            observations.into_iter().map(|detail| self.observation(detail)).collect()
        })
    }

    fn observers(&self) -> Task<'_, Vec<String>> {
        Box::pin(async move { Ok(self.observer_states().await?.into_iter().map(|observer| observer.name).collect()) })
    }

    fn observer_states(&self) -> Task<'_, Vec<ObserverState>> {
        Box::pin(async move {
            let list: ObserverList = self.get("/v1/observers").await?;
            let millis = |time: Option<String>| time.map(|time| self.millis(&time)).transpose();
            let state = |ObserverDetail { name, absent_since, pending, oldest, dead, .. }| {
                Ok::<_, JournalError>(ObserverState {
                    name,
                    absent_since: millis(absent_since)?,
                    pending,
                    oldest: millis(oldest)?,
                    dead,
                })
            };
            list.observers.into_iter().map(state).collect()
        })
    }

    fn remove_observer(&self, _name: &str) -> Task<'_, bool> {
        Box::pin(async move { Err(self.failed("observers are removed on the journal itself, without --url")) })
    }

    fn lease_value(&self, _name: &str) -> Task<'_, Option<String>> {
        Box::pin(async move { Err(self.failed(LEASES)) })
    }

    fn clear_lease(&self, _name: &str) -> Task<'_, bool> {
        Box::pin(async move { Err(self.failed(LEASES)) })
    }

    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64> {
        let body = json!({ "observer": observer });
        Box::pin(async move { self.replay_each(events, body).await })
    }

    fn replay_to_all(&self, events: Vec<Uuid>) -> Task<'_, u64> {
        Box::pin(async move { self.replay_each(events, json!({ "all_observers": true })).await })
    }

    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let after = after.unwrap_or((Uuid::nil(), String::new()));
        let query =
            format!("{}&limit={}{}", parameters(filter), limit.clamp(1, MAX_PAGE), letter("after", Some(after)));
        Box::pin(async move { self.letters(&query).await })
    }

    fn newest_dead(&self, filter: &Filter, before: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let query = format!("{}&limit={}{}", parameters(filter), limit.clamp(1, MAX_PAGE), letter("before", before));
        Box::pin(async move { self.letters(&query).await })
    }

    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        Box::pin(async move {
            let mut revived = 0;
            for body in bodies(&letters) {
                revived += self.post::<Retried>("/v1/dead/retry", &body).await?.retried;
            }
            Ok(revived)
        })
    }

    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        Box::pin(async move {
            let mut dropped = 0;
            for body in bodies(&letters) {
                dropped += self.post::<Dropped>("/v1/dead/drop", &body).await?.dropped;
            }
            Ok(dropped)
        })
    }
}

/// Requests to change dead letters.
fn bodies(letters: &[(Uuid, String)]) -> Vec<Json> {
    let letter = |(event, observer): &(Uuid, String)| json!({ "event": event.to_string(), "observer": observer });
    let body = |some: &[(Uuid, String)]| json!({ "letters": some.iter().map(letter).collect::<Vec<_>>() });
    letters.chunks(MAX_LETTERS).map(body).collect()
}

impl RemoteArchive {
    async fn replay_each(&self, events: Vec<Uuid>, body: Json) -> Result<u64, JournalError> {
        let mut queued = 0;
        for event in events {
            queued += self.post::<Queued>(&format!("/v1/events/{event}/replay"), &body).await?.queued;
        }
        Ok(queued)
    }
}
