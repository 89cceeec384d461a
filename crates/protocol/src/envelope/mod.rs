//! The envelope of a payload: the signed query, the encrypted body, and the sealed reply.
//!
//! [`Keys::open`] is the only way to a [`Verified`] request, and only a verified one can be read as an event.

mod age;
mod answer;
mod early;
mod explain;
mod keys;
mod open;
mod query;
mod refusal;
mod replay;
mod sender;
#[cfg(test)]
mod tests;

pub use self::{
    answer::SealError,
    explain::{Neighbour, Step, StepResult},
    keys::{Keys, Mode, ReceiveIds},
    open::{Seal, Verified},
    query::Query,
    refusal::{Refusal, RefusalKind},
    replay::{Guarded, ReplayGuard, UsedQuery},
    sender::{Request, Sender},
};
