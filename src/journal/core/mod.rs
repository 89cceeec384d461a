//! What is the same in every store of events: written once, over traits that a store implements.
//!
//! ```text
//! row          numbers of states, and rows ──▶ events
//! archive      filter ──▶ conditions ──▶ the statements of the command line
//! ```

pub(super) mod archive;
pub(super) mod missing;
pub(super) mod row;
