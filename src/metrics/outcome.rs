//! How deliveries end, for the metrics.

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A responder's reply was given.
    Answered,
    /// The event has no responder; it was acknowledged.
    Acknowledged,
    /// The event is not in the catalogue, or its shape differs; it was acknowledged.
    Unknown,
    /// The payload could not be parsed; it was acknowledged.
    Unreadable,
    /// Not all of a question could be read, and the default answer was given.
    Undecided,
    /// A repeat was given the reply of its event.
    Repeated,
    /// The responder failed, and the default answer was given.
    Failed,
    /// The responder panicked, and the default answer was given.
    Panicked,
    /// The responder's reply broke a rule of the platform, and the default answer was given.
    BadReply,
    /// The responder was late, and the default answer was given.
    Late,
    /// The responder is not done; the platform retries, and gets its reply then.
    Held,
    /// A URL check was answered.
    Verified,
    /// The journal could not store the event; the platform retries.
    NotStored,
    /// A handler blocked its thread, and the time was over when the journal could answer; the platform retries.
    Blocked,
    /// Too many deliveries in flight; the platform retries.
    Overloaded,
    /// The bodies that are being read fill `body_memory`; the platform retries.
    BodyMemory,
    /// The body was too large.
    TooLarge,
    /// The body did not come in time, or not whole.
    Incomplete,
    /// The request came from an address that is not among the platform's.
    UnexpectedSource,
}

impl Outcome {
    /// In the order of their declaration: [`AccountMetrics::count`] goes by it.
    pub(super) const ALL: [Self; 19] = [
        Self::Answered,
        Self::Acknowledged,
        Self::Unknown,
        Self::Unreadable,
        Self::Undecided,
        Self::Repeated,
        Self::Failed,
        Self::Panicked,
        Self::BadReply,
        Self::Late,
        Self::Held,
        Self::Verified,
        Self::NotStored,
        Self::Blocked,
        Self::Overloaded,
        Self::BodyMemory,
        Self::TooLarge,
        Self::Incomplete,
        Self::UnexpectedSource,
    ];

    /// Those of requests that were not read, or whose reading failed.
    pub(super) const UNREAD: [Self; 5] =
        [Self::Overloaded, Self::BodyMemory, Self::TooLarge, Self::Incomplete, Self::Panicked];

    /// The values of label `outcome`, but for those of refused requests.
    pub(crate) const NAMES: [&'static str; 6] =
        ["answered", "acknowledged", "repeated", "defaulted", "unavailable", "verified"];

    /// Where its name is; none of a refused request is there.
    pub(crate) const fn number(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Acknowledged | Self::Unknown | Self::Unreadable => 1,
            Self::Repeated => 2,
            Self::Undecided | Self::Failed | Self::Panicked | Self::BadReply | Self::Late => 3,
            Self::Held | Self::NotStored | Self::Blocked | Self::Overloaded | Self::BodyMemory => 4,
            Self::Verified => 5,
            Self::TooLarge | Self::Incomplete | Self::UnexpectedSource => Self::NAMES.len(),
        }
    }

    /// Label `reason`.
    pub(crate) const fn reason(self) -> &'static str {
        self.labels().1
    }

    /// Labels `outcome` and `reason`.
    pub(super) const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Answered => ("answered", ""),
            Self::Acknowledged => ("acknowledged", ""),
            Self::Unknown => ("acknowledged", "unknown"),
            Self::Unreadable => ("acknowledged", "unreadable"),
            Self::Undecided => ("defaulted", "unreadable"),
            Self::Repeated => ("repeated", ""),
            Self::Failed => ("defaulted", "error"),
            Self::Panicked => ("defaulted", "panic"),
            Self::BadReply => ("defaulted", "bad_reply"),
            Self::Late => ("defaulted", "timeout"),
            Self::Held => ("unavailable", "held"),
            Self::Verified => ("verified", ""),
            Self::NotStored => ("unavailable", "not_stored"),
            Self::Blocked => ("unavailable", "blocked"),
            Self::Overloaded => ("unavailable", "overloaded"),
            Self::BodyMemory => ("unavailable", "body_memory"),
            Self::TooLarge => ("refused", "too_large"),
            Self::Incomplete => ("refused", "incomplete"),
            Self::UnexpectedSource => ("refused", "unexpected_source"),
        }
    }
}
