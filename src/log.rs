//! Text for people: lines of the log, and what commands print. What comes from outside (errors of handlers and of
//! platforms, addresses, what users wrote) can neither begin a line of its own nor send commands to a terminal.
//!
//! The log of `echostr serve` is written with [`fields`], so no line has to take care of it. A subscriber of one's own
//! takes it the same way. One that writes JSON, which escapes line ends by itself, writes through [`EscapedJson`].
//!
//! ```
//! use tracing_subscriber::util::SubscriberInitExt as _;
//!
//! let log = tracing_subscriber::fmt().fmt_fields(echostr::internals::log::fields()).finish();
//! # let _guard = log.set_default();
//! tracing::warn!("no stock: {}", "the warehouse said\nERROR forged");
//! ```

#[cfg(test)]
mod tests;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    error::Error,
    fmt::{self, Debug, Write as _},
    io::{self, Write as _},
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    time::Duration,
};

use serde_json::json;
use tracing::{
    dispatcher, error,
    field::{Field, Visit},
    subscriber::NoSubscriber,
    warn,
};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

use crate::config::LogFormat;

/// Writes the message of a line and its fields as `tracing_subscriber` does, with what is no text [escaped](escape), and
/// without the fields whose values the message has already.
pub fn fields() -> impl for<'w> FormatFields<'w> + Clone + Send + Sync + 'static {
    Fields
}

#[derive(Clone, Copy, Debug)]
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        let (italic, dimmed, plain) =
            if writer.has_ansi_escapes() { ("\x1b[3m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let mut gap = "";
        if let Some(message) = &line.message {
            writer.write_str(message)?;
            gap = " ";
        }
        for (name, value) in &line.fields {
            if line.message.as_ref().is_none_or(|message| !says(message, name, value)) {
                write!(writer, "{gap}{italic}{name}{plain}{dimmed}={plain}{value}")?;
                gap = " ";
            }
        }
        Ok(())
    }
}

/// What a line has, escaped.
#[derive(Default)]
struct Line {
    message: Option<String>,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = escape(&format!("{value:?}")).into_owned();
        match field.name() {
            "message" => self.message = Some(text),
            name => self.fields.push((name.strip_prefix("r#").unwrap_or(name), text)),
        }
    }
}

/// Whether a message has the value of a field, as a word of its own. What is short may stand there for something else.
fn says(message: &str, name: &str, value: &str) -> bool {
    const SHORT: usize = 4;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    // A plain word may be part of the sentence, and mean something else there.
    if value.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return false;
    }
    let is_word = |at: usize, length: usize| {
        let (before, behind) = (&message[..at], &message[at + length..]);
        let joins = |sign: Option<char>| sign.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
        // A dot at the end of a sentence joins nothing.
        let goes_on = behind.starts_with(['-', '/', '.', ':']) && joins(behind.chars().nth(1));
        !joins(before.chars().next_back()) && !before.ends_with(['/', '-']) && !joins(behind.chars().next()) && !goes_on
    };
    let has = |text: &str| message.match_indices(text).any(|(at, _)| is_word(at, text.len()));
    if value.len() < SHORT { !value.is_empty() && has(&format!("{name} {value}")) } else { has(value) }
}

/// A duration as lines of the log have it: `5.0 s`.
pub fn seconds(duration: Duration) -> impl fmt::Display {
    struct Seconds(Duration);
    impl fmt::Display for Seconds {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                // With one decimal nothing would be left of it.
                short if short < Duration::from_millis(10) && !short.is_zero() => {
                    write!(f, "{:.3} s", short.as_secs_f64())
                }
                short if short < Duration::from_millis(100) && !short.is_zero() => {
                    write!(f, "{:.2} s", short.as_secs_f64())
                }
                long => write!(f, "{:.1} s", long.as_secs_f64()),
            }
        }
    }
    Seconds(duration)
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
/// logged: they hold secrets, and what users write. Nor is what clients of queues say: names that are made of events; what went wrong is a
/// line of the forward.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, Box<dyn Error>> {
    const QUIET: [&str; 8] = [
        "tungstenite=warn",
        "tungstenite::protocol=warn",
        "tungstenite::protocol::frame=warn",
        "tungstenite::protocol::frame::frame=warn",
        "async_nats=off",
        "lapin=off",
        "redis=off",
        "rskafka=off",
    ];
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).map_err(|wrong| format!("RUST_LOG is no filter: {wrong}"))?,
        Err(_) => EnvFilter::try_new(level)?,
    };
    QUIET.iter().try_fold(filter, |filter, quiet| Ok(filter.add_directive(quiet.parse()?)))
}

/// Panics become lines of the log from now on: what they say may come from outside, as everything else may. A trace of the
/// stack, where `RUST_BACKTRACE` asks for one, has lines of its own behind that.
pub fn take_panics() {
    panic::set_hook(Box::new(|panic| log_panic(panic, LogFormat::Text)));
}

/// The same for a log whose every line is a JSON object: a trace of the stack is a field of it.
pub fn take_panics_as_json() {
    panic::set_hook(Box::new(|panic| log_panic(panic, LogFormat::Json)));
}

/// Characters of a panic's message that are logged.
const MAX_PANIC: usize = 4096;

fn log_panic(panic: &PanicHookInfo<'_>, format: LogFormat) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let message = match message.char_indices().nth(MAX_PANIC) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    };
    let text = match panic.location() {
        Some(place) => format!("panic at {place}: {message}"),
        None => format!("panic: {message}"),
    };
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    // Nobody takes the line of a panic that happens while another line is written.
    let is_taken = dispatcher::get_default(|current| !current.is::<NoSubscriber>());
    match (format, &trace) {
        (LogFormat::Json, Some(trace)) if is_taken => error!(backtrace = trace, "{text}"),
        _ if is_taken => error!("{text}"),
        (LogFormat::Json, _) => {
            let line = json!({ "level": "ERROR", "message": text, "backtrace": trace });
            let _ = writeln!(io::stderr(), "{}", escape_json(&line.to_string()));
        }
        (LogFormat::Text, _) => {
            let _ = writeln!(io::stderr(), "ERROR {}", escape(&text));
        }
    }
    if let (LogFormat::Text, Some(trace)) = (format, trace) {
        let _ = writeln!(io::stderr(), "{trace}");
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
