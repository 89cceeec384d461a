//! A log that a test can read.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use echostr::internals::log::EscapedJson;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

/// A log in memory. It has what this thread writes, and every task of a test runs on the thread of the test.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// While there is one subscriber, whoever comes to a line first decides for all whether it is logged, and that may be the
/// thread of another test, which has none. So there is a second one, which is never used.
static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

impl Log {
    /// Everything that is said from now on, written as `echostr serve` writes it.
    pub fn begin() -> (Self, DefaultGuard) {
        LazyLock::force(&SECOND);
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        let subscriber = subscriber.fmt_fields(echostr::internals::log::fields()).with_writer(log.clone()).finish();
        (log, set_default(subscriber))
    }

    /// The same in JSON.
    pub fn begin_json() -> (Self, DefaultGuard) {
        LazyLock::force(&SECOND);
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).json().flatten_event(true);
        let writer = log.clone();
        let subscriber = subscriber.with_writer(move || EscapedJson(writer.clone())).finish();
        (log, set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
