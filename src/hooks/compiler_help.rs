//! What the compiler says of a function that is no handler.

/// A type that a handler has to return, as what it does return. It is a bound of its own, and not one type in the bound of the
/// future, so that what is returned can be named where it is wrong.
#[diagnostic::on_unimplemented(
    message = "the handler returns `Ok({Returned})`, where `Ok({Self})` is expected",
    label = "has to return `Result<{Self}, HandlerError>`",
    note = "a responder (`on`) returns the reply of its event, `<E as Event>::Reply`; an observer (`observe`) returns `Ok(())`"
)]
pub trait ReturnedAs<Returned> {
    /// The same value.
    fn same(returned: Returned) -> Self;
}

impl<T> ReturnedAs<T> for T {
    fn same(returned: T) -> T {
        returned
    }
}
