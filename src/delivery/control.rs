//! Pushes that are not events: tickets, and polls of a streamed answer.

use tracing::warn;

use super::{Receiver, Request, Response};
use crate::{
    envelope::Seal,
    metrics::Outcome,
    payload::Value,
    platform::{self, Body, Control},
};

impl Receiver {
    pub(super) async fn control(
        &self,
        request: Request<'_>,
        tree: &Value<'_>,
        control: Control<'_>,
        seal: Option<&Seal>,
    ) -> Response {
        match control {
            Control::Poll => self.poll_stream(request, tree, seal).await,
            Control::Ticket(ticket) => self.keep_ticket(request, ticket).await,
        }
    }

    /// Answers a poll of a bot's platform with the text of a streamed answer so far.
    async fn poll_stream(&self, request: Request<'_>, tree: &Value<'_>, seal: Option<&Seal>) -> Response {
        let endpoint = request.endpoint;
        let polled = match &self.streams {
            Some(streams) => streams.poll(&endpoint.id, tree, request.permit).await,
            None => Ok(Body::Plain(platform::plain_success(endpoint.account.platform))),
        };
        match polled {
            Ok(body) => {
                endpoint.metrics.count(Outcome::Answered);
                self.write(endpoint, body, seal)
            }
            Err(failure) => self.not_stored(endpoint, &failure),
        }
    }

    /// Stores the ticket that access tokens of a third-party platform or application are requested with.
    async fn keep_ticket(&self, request: Request<'_>, ticket: &str) -> Response {
        let endpoint = request.endpoint;
        let kept = match self.dispatcher.apis.get(&endpoint.id) {
            Some(api) => api.keep_ticket(ticket).await,
            None => {
                warn!(
                    account = &*endpoint.id,
                    "{}: ignored a ticket, as the account has no `secret`: set it to call the API", endpoint.id
                );
                Ok(())
            }
        };
        if let Err(failure) = kept {
            return self.not_stored(endpoint, &failure);
        }
        endpoint.metrics.count(Outcome::Acknowledged);
        self.write(endpoint, Body::Plain(platform::plain_success(endpoint.account.platform)), None)
    }
}
