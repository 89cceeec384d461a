//! What a forward is doing, for those who look.

use serde::Serialize;

/// What a forward is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ForwardStatus {
    pub(crate) name: String,
    /// Where it sends to, without user, password and query.
    pub(crate) to: String,
    pub(crate) state: ForwardState,
    /// Why it is in this state, if it is not `ok`.
    pub(crate) why: Option<String>,
    /// Since when, RFC 3339.
    pub(crate) since: Option<String>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// When the target took an event for the last time, since the start of the process.
    pub(crate) last_success: Option<String>,
}

/// The state of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForwardState {
    /// It sends.
    Ok,
    /// It waits, because the target asked for it.
    Slowed,
    /// It sends one event at a time, because the target fails.
    Open,
    /// It sends nothing until somebody resumes it, because the target is gone.
    Paused,
}

impl ForwardState {
    /// Every state, in the order of the metrics.
    pub(crate) const ALL: [Self; 4] = [Self::Ok, Self::Slowed, Self::Open, Self::Paused];

    /// Name, as in `slowed`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slowed => "slowed",
            Self::Open => "open",
            Self::Paused => "paused",
        }
    }
}
