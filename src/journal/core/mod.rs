//! What is the same in every store of events: written once, over traits that a store implements.
//!
//! ```text
//! health       trouble and recovery, sizes and counts
//! in_flight    which responders run, and who joins them
//! commit       group commit: a batch, whose operations fail one by one
//! maintenance  retention, making room, the past for new observers; missing observers
//! row          numbers of states, and rows ──▶ events
//! archive      filter ──▶ conditions ──▶ the statements of the command line
//! ```

pub(super) mod archive;
pub(super) mod commit;
pub(super) mod health;
pub(super) mod in_flight;
pub(super) mod maintenance;
pub(super) mod missing;
pub(super) mod row;
