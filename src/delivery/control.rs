//! Pushes that are no events: tickets, and questions for the rest of a streamed answer.

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

    /// Answers a bot's platform with what there is by now of a streamed answer.
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

    /// Keeps what tokens of a third-party platform or application are made of.
    async fn keep_ticket(&self, request: Request<'_>, ticket: &str) -> Response {
        let endpoint = request.endpoint;
        let kept = match self.dispatcher.apis.get(&endpoint.id) {
            Some(api) => api.keep_ticket(ticket).await,
            None => {
                warn!(account = &*endpoint.id, "{}: a ticket is not kept, for there is no `secret`", endpoint.id);
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
