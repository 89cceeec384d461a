//! What is the same in every store of events: written once, over traits that a store implements.
//!
//! ```text
//! health       trouble and recovery, sizes and counts
//! in_flight    running responders, and the repeats that join them
//! commit       group commit: a batch, whose operations fail one by one
//! maintenance  retention, making room: which steps, when
//! row          numbers of states, and rows ──▶ events
//! session      statements with values, in the dialect of a store
//! steps        transactions over observations: retention, missing observers, backfill, replays
//! archive      filter ──▶ conditions ──▶ the statements of the command line
//! schema       versions of the tables, and who works with them
//! inspect      what must be true of every journal
//! ```

pub(super) mod archive;
pub(super) mod commit;
pub(super) mod health;
pub(super) mod in_flight;
pub(super) mod inspect;
pub(super) mod maintenance;
pub(super) mod missing;
pub(super) mod row;
pub(super) mod schema;
pub(super) mod session;
pub(super) mod steps;

pub(super) use self::{
    archive::{ArchiveStore, Conditions},
    commit::{Commit, Failure, at_once},
    health::{Counts, Health},
    in_flight::{Admitted, InFlight, Running, Waiter},
    maintenance::{
        KEY_RETENTION, LONGEST_PAUSE, MAX_ROWS, Maintain, ROUND_INTERVAL, UNANSWERED_AFTER, UNANSWERED_UNTIL, Which,
    },
    missing::Left,
    row::{EVENT_COLUMNS, Row, RowError, event_columns, form_number, reply_text, state_number},
    schema::{Fit, Misfit, Version},
    session::{Dialect, Read, Session, Value},
    steps::{Change, Old, Outcome, Step},
};
