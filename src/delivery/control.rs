//! Pushes that are not events: tickets, and polls of a streamed answer.

use tracing::warn;

use super::{Receiver, Request, Response};
use crate::{
    metrics::Outcome,
    payload::Value,
    platform::{self, Body, Control},
};

impl Receiver {
    /// What such a push is answered.
    pub(super) async fn control(
        &self,
        request: Request<'_>,
        tree: &Value<'_>,
        control: Control<'_>,
    ) -> Result<Body, Response> {
        match control {
            Control::Poll => self.poll_stream(request, tree).await,
            Control::Ticket(ticket) => self.keep_ticket(request, ticket).await,
        }
    }

    /// Answers a poll of a bot's platform with the text of a streamed answer so far.
    async fn poll_stream(&self, request: Request<'_>, tree: &Value<'_>) -> Result<Body, Response> {
        let endpoint = request.endpoint;
        let polled = match &self.streams {
            Some(streams) => streams.poll(&endpoint.id, tree, request.permit).await,
            None => Ok(Body::Plain(platform::plain_success(endpoint.account.platform))),
        };
        let body = polled.map_err(|failure| self.not_stored(endpoint, &failure))?;
        endpoint.metrics.count(Outcome::Answered);
        Ok(body)
    }

    /// Stores the ticket that access tokens of a third-party platform or application are requested with.
    async fn keep_ticket(&self, request: Request<'_>, ticket: &str) -> Result<Body, Response> {
        let endpoint = request.endpoint;
        match self.dispatcher.apis.get(&endpoint.id) {
            Some(api) => api.keep_ticket(ticket).await.map_err(|failure| self.not_stored(endpoint, &failure))?,
            None => warn!(
                account = &*endpoint.id,
                "{}: ignored a ticket, as the account has no `secret`: set it to call the API", endpoint.id
            ),
        }
        endpoint.metrics.count(Outcome::Acknowledged);
        Ok(Body::Plain(platform::plain_success(endpoint.account.platform)))
    }
}
