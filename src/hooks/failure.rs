//! What an observer says of its failure: that another attempt is of no use, or when to make it.

use std::{error::Error, fmt, time::Duration};

use super::HandlerError;

/// The longest time that [`RetryAfter`] can ask for; more is taken for this.
pub(crate) const LONGEST_RETRY: Duration = Duration::from_secs(86_400);

/// An error that another attempt cannot help: the event becomes a dead letter at once.
///
/// ```
/// use echostr::hooks::{HandlerError, Permanent};
///
/// fn amount(text: &str) -> Result<u32, HandlerError> {
///     Ok(text.parse().map_err(Permanent::new)?)
/// }
///
/// assert_eq!(amount("7").unwrap(), 7);
/// assert!(amount("seven").unwrap_err().is::<Permanent>());
/// ```
///
/// It is found behind other errors, too, as their [source](Error::source). To a responder it is an error like others.
#[derive(Debug)]
pub struct Permanent(HandlerError);

impl Permanent {
    /// Says it of an error, or of a text.
    pub fn new(error: impl Into<HandlerError>) -> Self {
        Self(error.into())
    }
}

/// An error that says when to try again, instead of the pauses of `backoff`: what an API asks for that is overloaded.
///
/// ```
/// use std::time::Duration;
///
/// use echostr::hooks::{HandlerError, RetryAfter};
///
/// fn stored(status: u16) -> Result<(), HandlerError> {
///     if status == 429 {
///         return Err(RetryAfter::new(Duration::from_secs(30), "the CRM is overloaded").into());
///     }
///     Ok(())
/// }
/// # assert!(stored(429).is_err() && stored(200).is_ok());
/// ```
///
/// The attempt counts, so that `max_attempts` still ends them. A day is the longest pause. It is found behind other errors,
/// too, as their [source](Error::source). To a responder it is an error like others.
#[derive(Debug)]
pub struct RetryAfter {
    after: Duration,
    error: HandlerError,
}

impl RetryAfter {
    /// Says it of an error, or of a text.
    pub fn new(after: Duration, error: impl Into<HandlerError>) -> Self {
        Self { after, error: error.into() }
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Permanent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl Error for RetryAfter {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// How an observer failed. The error is text, which is made while the handler runs, as it is code of the handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObserveError {
    pub(crate) retry: Retry,
    pub(crate) error: String,
}

/// Whether there is another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// After the pause of its policy.
    Usual,
    After(Duration),
    Never,
}

impl ObserveError {
    /// One that is retried as usual.
    pub(crate) const fn usual(error: String) -> Self {
        Self { retry: Retry::Usual, error }
    }

    /// What a handler says, in the error or in one behind it: the first that says something counts.
    pub(super) fn of(failure: &HandlerError) -> Self {
        let mut next: Option<&(dyn Error + 'static)> = Some(&**failure);
        let mut retry = Retry::Usual;
        while let Some(error) = next {
            if error.is::<Permanent>() {
                retry = Retry::Never;
                break;
            }
            if let Some(RetryAfter { after, .. }) = error.downcast_ref() {
                retry = Retry::After((*after).min(LONGEST_RETRY));
                break;
            }
            next = error.source();
        }
        Self { retry, error: failure.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the import failed")]
    struct Import(#[source] HandlerError);

    #[test]
    fn what_an_error_says_is_found_wherever_it_is() {
        let minute = Duration::from_secs(60);
        let of = |error: HandlerError| ObserveError::of(&error);
        let error = |retry, error: &str| ObserveError { retry, error: error.to_owned() };
        for (failure, expected) in [
            ("no luck".into(), error(Retry::Usual, "no luck")),
            (io::Error::other("no disk").into(), error(Retry::Usual, "no disk")),
            (Permanent::new("no such user").into(), error(Retry::Never, "no such user")),
            (Permanent::new(io::Error::other("no disk")).into(), error(Retry::Never, "no disk")),
            (RetryAfter::new(minute, "busy").into(), error(Retry::After(minute), "busy")),
            (RetryAfter::new(Duration::MAX, "busy").into(), error(Retry::After(LONGEST_RETRY), "busy")),
            (Import(Permanent::new("no such user").into()).into(), error(Retry::Never, "the import failed")),
            (
                Import(Import(RetryAfter::new(minute, "busy").into()).into()).into(),
                error(Retry::After(minute), "the import failed"),
            ),
            // The outer one knows more.
            (
                RetryAfter::new(minute, Import(Permanent::new("").into())).into(),
                error(Retry::After(minute), "the import failed"),
            ),
        ] {
            assert_eq!(of(failure), expected);
        }
    }
}
