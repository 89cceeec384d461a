//! What goes out to other servers, whoever sends it: which events, how they are signed, and where they may go.
//!
//! | module | what it does |
//! |---|---|
//! | `pattern` | `match`: which accounts and event types |
//! | `condition` | `where`: what their fields have to be |
//! | `sign` | signatures of Standard Webhooks |
//! | `guard` | addresses that nothing is sent to |
//! | `template` | names in a queue that are made of an event |
//! | `client` | requests over pooled connections, and what is read of their answers |

mod client;
mod condition;
mod guard;
mod pattern;
mod sign;
#[cfg_attr(not(feature = "queues"), allow(dead_code, reason = "each system has a part of it for itself"))]
mod template;

pub(crate) use self::{
    client::{BODY_LIMIT, Client, Message, Received, SendError, TRACEPARENT, shown_url},
    condition::{Condition, Scalar, Test},
    guard::{Guard, Refused},
    pattern::{PatternError, Patterns, event_types},
    sign::{Signer, SigningKey, new_key},
    template::{Fields, Syntax, Template},
};
