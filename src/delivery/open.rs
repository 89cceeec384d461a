//! From bytes to a verified request.

use std::sync::Arc;

use tracing::debug;

use super::{Content, Endpoint, Receiver, Response};
use crate::{
    envelope::{Query, Refusal, Seal, UsedQuery},
    journal::JournalError,
    metrics::Outcome,
    payload::Form,
};

/// A request that was opened.
pub(super) struct Opened<'q> {
    pub(super) query: Query<'q>,
    pub(super) text: Arc<str>,
    pub(super) form: Form,
    /// How the answer is sealed, if the request was.
    pub(super) seal: Option<Seal>,
    /// What is stored of the query, against replays.
    pub(super) used: Option<UsedQuery>,
}

impl Receiver {
    /// Answers a GET, which checks the URL.
    pub async fn verify_url(&self, endpoint: &Endpoint, query: &str) -> Response {
        if !endpoint.keys.has_url_check() {
            return endpoint.refused(Refusal::BadQuery);
        }
        let verified = Query::parse(query).and_then(|query| {
            let echo = endpoint.keys.verify_url(&query, self.dispatcher.clock.now())?;
            let used = endpoint.guarded.used(&endpoint.keys, &query, None);
            used.iter().try_for_each(|used| self.memory.replays.check(used))?;
            Ok((echo, used))
        });
        let verified = match verified {
            Ok((echo, used)) => match self.use_query(used.as_ref()).await {
                Ok(used) => used.map(|()| echo),
                Err(failure) => return self.not_stored(endpoint, &failure),
            },
            Err(refusal) => Err(refusal),
        };
        match verified {
            Ok(echo) => {
                endpoint.metrics.count(Outcome::Verified);
                debug!(account = &*endpoint.id, "url check of {} answered", endpoint.id);
                Response::Answer { body: echo.into(), content: Content::Text }
            }
            Err(refusal) => endpoint.refused_request(refusal, query, None, self.dispatcher.clock.now()),
        }
    }

    /// Refuses a POST before its body is read, if its query is enough to decide.
    pub fn refuse_early(&self, endpoint: &Endpoint, query: &str) -> Option<Response> {
        let now = self.dispatcher.clock.now();
        let checked = Query::parse(query).and_then(|query| endpoint.keys.check_query(&query, now));
        checked.err().map(|refusal| endpoint.refused(refusal))
    }

    /// Opens a POST, and refuses a query that this process has seen with another body.
    pub(super) fn open<'q>(
        &self,
        endpoint: &Endpoint,
        query: &'q str,
        body: &[u8],
        now: i64,
    ) -> Result<Opened<'q>, Refusal> {
        let query = Query::parse(query)?;
        let verified = endpoint.keys.open(&query, body, now)?;
        let used = endpoint.guarded.used(&endpoint.keys, &query, Some(&verified));
        used.iter().try_for_each(|used| self.memory.replays.check(used))?;
        let (text, form, seal) = verified.into_parts();
        Ok(Opened { query, text, form, seal, used })
    }

    /// Stores a query in the journal, and asks it whether another node has seen the query.
    pub(super) async fn use_query(&self, used: Option<&UsedQuery>) -> Result<Result<(), Refusal>, JournalError> {
        let Some(used) = used else { return Ok(Ok(())) };
        let Some(asked) = self.journal.use_query(used) else { return Ok(Ok(())) };
        let body = asked.await?;
        if body == used.body {
            return Ok(Ok(()));
        }
        // What came first stands, here as there.
        self.memory.replays.remember(&UsedQuery { body, ..*used });
        Ok(Err(Refusal::ReplayedQuery))
    }
}
