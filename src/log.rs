//! Text for people: lines of the log, and what commands print. What comes from outside (errors of handlers and of
//! platforms, addresses, what users wrote) can neither begin a line of its own nor send commands to a terminal.
//!
//! The log of `echostr serve` is written with [`fields`], so no line has to take care of it. A subscriber of one's own
//! takes it the same way. One that writes JSON, which escapes line ends by itself, writes through [`EscapedJson`].
//!
//! ```
//! use tracing_subscriber::util::SubscriberInitExt as _;
//!
//! let log = tracing_subscriber::fmt().fmt_fields(echostr::log::fields()).finish();
//! # let _guard = log.set_default();
//! tracing::warn!("no stock: {}", "the warehouse said\nERROR forged");
//! ```

#[cfg(test)]
mod tests;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    error::Error,
    fmt::{self, Debug, Write},
    io,
    panic::{self, PanicHookInfo},
    sync::OnceLock,
};

use tracing::{error, field::Field, warn};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

/// Writes the fields of a line as `tracing_subscriber` does, with what is no text [escaped](escape).
pub fn fields() -> impl for<'w> FormatFields<'w> + Clone + Send + Sync + 'static {
    debug_fn(write_field).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let name = field.name();
    if name == "message" {
        return write!(Escaping(writer), "{value:?}");
    }
    let name = name.strip_prefix("r#").unwrap_or(name);
    let (italic, dimmed, plain) =
        if writer.has_ansi_escapes() { ("\x1b[3m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    write!(writer, "{italic}{name}{plain}{dimmed}={plain}")?;
    write!(Escaping(writer), "{value:?}")
}

/// Writes lines of JSON with what acts in them as JSON escapes, also what JSON leaves as it is: no collector sees a
/// difference, and a terminal does nothing.
#[derive(Debug)]
pub struct EscapedJson<W>(pub W);

impl<W: io::Write> io::Write for EscapedJson<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match str::from_utf8(line) {
            Ok(json) => self.0.write_all(escape_json(json).as_bytes())?,
            // Not from a subscriber, which writes whole lines.
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Sets the level of the log that [`let_level_change`] was told of.
type SetLevel = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Whoever has started the log of the process says how its level is changed.
pub(crate) fn let_level_change(set: impl Fn(EnvFilter) -> bool + Send + Sync + 'static) {
    let _ = SET_LEVEL.set(Box::new(set));
}

/// The level of `[log]` is another one now. Where `RUST_LOG` is set, that stays; where somebody else has started the log, they
/// look after it.
pub(crate) fn set_level(level: &str) {
    let Some(set) = SET_LEVEL.get() else { return };
    if let Ok(filter) = filter(level)
        && !set(filter)
    {
        warn!("the level of the log cannot be changed");
    }
}

/// What is logged: as `RUST_LOG` says, else of this level. Whatever is asked for, the frames of WebSocket connections are not
/// logged: they hold secrets, and what users write.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, Box<dyn Error>> {
    const FRAMES: [&str; 4] = [
        "tungstenite=warn",
        "tungstenite::protocol=warn",
        "tungstenite::protocol::frame=warn",
        "tungstenite::protocol::frame::frame=warn",
    ];
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter)?,
        Err(_) => EnvFilter::try_new(level)?,
    };
    FRAMES.iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
}

/// Panics become lines of the log from now on: what they say may come from outside, as everything else may.
pub fn take_panics() {
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    match panic.location() {
        Some(place) => error!("panic at {place}: {message}"),
        None => error!("panic: {message}"),
    }
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{trace}\n"));
    }
}

/// Whether a character does something instead of being seen: begins a line, moves the cursor, turns the direction.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
        )
}

/// A text in one line, with nothing in it that a terminal would take for a command: `\n`, `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    replaced(text, acts, |character, out| out.extend(character.escape_default()))
}

/// As [`escape`], in as many lines as the text has.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    let other = |character| character != '\n' && acts(character);
    replaced(text, other, |character, out| out.extend(character.escape_default()))
}

/// JSON as it was, with what is left in it that acts written as JSON escapes: JSON itself asks for those of ASCII only.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let left = |character| character > '~' && acts(character);
    replaced(json, left, |character, out| {
        let _ = write!(out, "\\u{:04x}", u32::from(character));
    })
}

fn replaced(text: &str, is_such: impl Fn(char) -> bool, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&is_such) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_such(character) { replace(character, &mut out) } else { out.push(character) }
    }
    Cow::Owned(out)
}

/// Escapes what is written.
struct Escaping<'w, 'o>(&'w mut Writer<'o>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&escape(text))
    }
}
