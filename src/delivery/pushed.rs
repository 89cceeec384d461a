//! Events that the platform pushes over a connection of the account's own, instead of a request.
//!
//! From admission on they are as all others. Only the way back differs: there is no response. The answer is what whoever
//! has the connection sends, and a platform that gets none does not retry.

use std::{sync::Arc, time::Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::{Endpoint, Receiver, Request, Response, open::Opened};
use crate::{
    envelope::{Query, Refusal},
    in_flight::Permit,
    journal::JournalError,
    metrics::Outcome,
    platform::Body,
    streams::Seen,
};

/// The parameter that keeps by which id an event is answered.
const REQUEST_ID: &str = "req_id";

/// What a push is answered.
pub(crate) struct Answered {
    /// The event; `None` where the push is none.
    pub(crate) event: Option<Uuid>,
    pub(crate) body: Body,
    /// It is in flight until its answer is sent.
    pub(crate) permit: Arc<Permit>,
}

/// Why a push has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReceived {
    /// For now: too many are in flight, or the journal cannot store.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The account takes none.
    #[error("refused: {0}")]
    Refused(&'static str),
}

/// What is stored of the id by which an event is answered.
pub(super) fn data(request_id: &str) -> Arc<str> {
    format!("{REQUEST_ID}={}", utf8_percent_encode(request_id, NON_ALPHANUMERIC)).into()
}

/// The id by which a stored event is answered, where it came over a connection.
pub(crate) fn request_id(query: Option<&str>) -> Option<String> {
    Query::parse(query?).ok()?.get(REQUEST_ID).map(str::to_owned)
}

impl Receiver {
    /// Handles what was pushed, from its arrival to its answer. One that is known joins its event, or gets its recorded
    /// reply.
    pub(crate) async fn receive_pushed(
        &self,
        endpoint: &Arc<Endpoint>,
        request_id: &str,
        body: &str,
        arrived: Instant,
    ) -> Result<Answered, NotReceived> {
        let Some(permit) = endpoint.load.enter(&self.in_flight) else {
            endpoint.metrics.count(Outcome::Overloaded);
            return Err(NotReceived::Unavailable("overloaded"));
        };
        let permit = Arc::new(permit);
        let refused = |refusal: Refusal| NotReceived::Refused(refusal.reason());
        let (text, form, seal) = endpoint.keys.open_pushed(body).map_err(refused)?.into_parts();
        let query = Query::parse("").map_err(refused)?;
        let opened = Opened { query, text, form, seal, used: None };
        let request_id = Some(request_id);
        let request = Request { endpoint, query: "", authorizer: None, request_id, arrived, permit: &permit };
        match self.handle(request, &opened, self.dispatcher.clock.now()).await {
            Ok(handled) => {
                endpoint.answered(arrived);
                if let Some(event) = handled.event {
                    self.memory.deliveries.answered(event, arrived);
                }
                Ok(Answered { event: handled.event, body: handled.body, permit })
            }
            Err(Response::Unavailable(reason)) => Err(NotReceived::Unavailable(reason)),
            Err(Response::Refused(refused)) => Err(NotReceived::Refused(refused.refusal.reason())),
            Err(Response::Answer { .. }) => Err(NotReceived::Unavailable("not_stored")),
        }
    }

    /// The text so far of a streamed answer; `None` when there is none.
    pub(crate) async fn stream_so_far(
        &self,
        account: &Arc<str>,
        event: Uuid,
        permit: &Arc<Permit>,
    ) -> Result<Option<Seen>, JournalError> {
        match &self.streams {
            Some(streams) => streams.so_far(account, event, permit).await,
            None => Ok(None),
        }
    }
}
