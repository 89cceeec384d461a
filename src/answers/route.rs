//! How a reply can reach the user, and for how long it is of use.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    event::{Answer, ReplyKind},
    hooks::{Context, HandlerError},
    replies::json::Asked,
};

/// The way back to the platform takes time, too.
const WAY_BACK: Duration = Duration::from_millis(300);

/// How a reply can reach the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// With the response alone: what comes later is of no use.
    Response,
    /// Later, too.
    Later,
    /// Chunk by chunk.
    Chunks,
}

impl Route {
    pub(super) fn of(asked: &Asked<'_>, sends_late: bool) -> Self {
        match asked.spec.map(|spec| spec.reply) {
            _ if asked.platform.protocol().is_streamed(asked.spec) => Self::Chunks,
            Some(ReplyKind::ByApi) => Self::Later,
            Some(ReplyKind::Passive) if sends_late => Self::Later,
            _ => Self::Response,
        }
    }

    /// Until when an answer can go out with the response.
    pub(super) fn due(self, context: &Context) -> Instant {
        context.deadline().checked_sub(WAY_BACK).unwrap_or_else(Instant::now)
    }

    /// Waits for an answer as long as it is of use. What comes too late is answered as any delivery that has no reply in time.
    pub(super) async fn in_time(
        self,
        context: &Context,
        answer: impl Future<Output = Result<Answer, HandlerError>>,
        late: impl FnOnce() -> String,
    ) -> Result<Answer, HandlerError> {
        if self != Self::Response {
            return answer.await;
        }
        match time::timeout_at(self.due(context).into(), answer).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                // Behind the deadline: before it, this would be the failure of a responder, and not its lateness.
                time::sleep_until((context.deadline() + WAY_BACK).into()).await;
                Err(late().into())
            }
        }
    }
}
