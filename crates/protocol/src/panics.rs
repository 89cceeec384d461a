//! Panics of handlers are caught wherever their code runs: when it is called, when it is polled, and when it is dropped.
//!
//! A panic that is caught at one of these and not at another still ends the task it happens in, with the delivery that
//! waits for it. So whatever belongs to a handler is kept in [`Caught`], and everything else that may run its code goes
//! through [`catch`].

use std::{
    any::Any,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
};

/// Characters of a panic's text that are kept.
const MAX_TEXT: usize = 300;

/// The message of a handler's panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(Box<str>);

impl Panicked {
    /// What it said.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What was thrown.
    pub fn of(payload: Box<dyn Any + Send>) -> Self {
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => *text,
            (_, Some(text)) => text,
            (None, None) => "without a message",
        };
        // It is written into one line of the log, and stored.
        let mut kept = String::with_capacity(text.len().min(MAX_TEXT));
        for character in text.chars().take(MAX_TEXT) {
            if character.is_control() { kept.extend(character.escape_default()) } else { kept.push(character) }
        }
        // The payload of a panic may itself panic when it is dropped. That second payload is leaked, a few bytes.
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(second);
        }
        Self(kept.into())
    }
}

/// Runs code of a handler.
///
/// # Errors
/// With the text of its panic.
pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(Panicked::of)
}

/// Something of a handler, such as its future or its stream. It is dropped as soon as it has panicked, and wherever it
/// is dropped a panic stays inside.
#[derive(Debug)]
pub struct Caught<T>(Option<T>);

impl<T> Caught<T> {
    pub const fn new(inner: T) -> Self {
        Self(Some(inner))
    }

    /// Runs its code; `None` if it was dropped.
    ///
    /// # Errors
    /// With the text of its panic.
    pub fn run<R>(&mut self, run: impl FnOnce(&mut T) -> R) -> Option<Result<R, Panicked>> {
        let done = catch(|| self.0.as_mut().map(run)).transpose()?;
        if done.is_err() {
            let _ = self.end();
        }
        Some(done)
    }

    /// Drops it.
    ///
    /// # Errors
    /// With the text of its panic.
    pub fn end(&mut self) -> Result<(), Panicked> {
        let inner = self.0.take();
        catch(move || drop(inner))
    }
}

impl<T> Drop for Caught<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _ = self.end();
        }
    }
}

impl<T: Send + 'static> Caught<Pin<Box<dyn Future<Output = T> + Send>>> {
    /// A future that panicked before there was one.
    pub fn panicked(Panicked(text): Panicked) -> Self {
        Self::new(Box::pin(async move { panic::resume_unwind(Box::new(String::from(text))) }))
    }
}

/// A future of a handler. One that panics when it is dropped after its last poll has panicked.
impl<T> Future for Caught<Pin<Box<dyn Future<Output = T> + Send + '_>>> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.run(|future| future.as_mut().poll(context)) {
            Some(Ok(Poll::Pending)) => Poll::Pending,
            Some(Ok(Poll::Ready(output))) => Poll::Ready(match self.end() {
                Ok(()) => Ok(output),
                Err(panicked) => {
                    let _ = catch(move || drop(output));
                    Err(panicked)
                }
            }),
            Some(Err(panicked)) => Poll::Ready(Err(panicked)),
            None => Poll::Ready(Err(Panicked("it was polled after its end".into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, pending, poll_fn, ready},
        panic::panic_any,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::{Caught, catch};

    type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

    fn poll<T>(caught: &mut Caught<Boxed<T>>) -> Poll<Result<T, String>> {
        let polled = Pin::new(caught).poll(&mut Context::from_waker(Waker::noop()));
        polled.map(|output| output.map_err(|panicked| panicked.to_string()))
    }

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("when it was dropped");
        }
    }

    #[test]
    fn a_panic_is_caught_wherever_it_happens() {
        let mut fine = Caught::new(Box::pin(ready(1)) as Boxed<i32>);
        assert_eq!(poll(&mut fine), Poll::Ready(Ok(1)));
        assert!(matches!(poll(&mut fine), Poll::Ready(Err(_))));

        let mut polled = Caught::new(Box::pin(poll_fn(|_| -> Poll<i32> { panic!("when\nit was polled") })) as Boxed<_>);
        assert_eq!(poll(&mut polled), Poll::Ready(Err("panicked: when\\nit was polled".to_owned())));

        // Captured, and so dropped with the future rather than by a poll.
        let bomb = Bomb;
        let held = poll_fn(move |_| {
            let _ = &bomb;
            Poll::Ready(2)
        });
        let mut held = Caught::new(Box::pin(held) as Boxed<i32>);
        assert_eq!(poll(&mut held), Poll::Ready(Err("panicked: when it was dropped".to_owned())));

        let bomb = Bomb;
        let mut never = Caught::new(Box::pin(async move {
            let _bomb = bomb;
            pending::<i32>().await
        }) as Boxed<_>);
        assert_eq!(poll(&mut never), Poll::Pending);
        drop(never);
    }

    #[test]
    fn what_is_thrown_may_be_anything() {
        assert_eq!(catch(|| panic_any(7)).unwrap_err().to_string(), "panicked: without a message");
        assert_eq!(catch(|| panic_any(Bomb)).unwrap_err().to_string(), "panicked: without a message");
        let long = catch(|| panic!("{}", "好".repeat(1000))).unwrap_err().to_string();
        assert_eq!(long.chars().count(), "panicked: ".len() + super::MAX_TEXT);
    }
}
