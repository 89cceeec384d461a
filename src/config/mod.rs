//! The configuration file: read once at start, checked as a whole, every problem reported with its line.
//!
//! `config/echostr.toml` in the repository describes every key. Invariant: no message of this module, error or warning,
//! has a value of the file in it - keys, lines and the names of variables and files only -, so that a secret in the
//! wrong place is safe, too.

mod accounts;
mod admin;
mod answer;
mod api;
mod fixed;
mod forward;
mod handlers;
mod journal;
mod late_reply;
mod log;
mod mistakes;
mod needs;
mod observers;
mod problem;
#[cfg_attr(not(feature = "queues"), allow(dead_code, reason = "each system has a part of it for itself"))]
mod queue;
mod reader;
mod routes;
mod server;
mod source;
mod tables;
mod target;
#[cfg(test)]
mod tests;
mod values;
mod websocket;

use std::{
    env::{self, VarError},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::DeTable;
use zeroize::Zeroizing;

#[cfg_attr(not(feature = "queues"), allow(unused_imports, reason = "each system has a part of it for itself"))]
pub(crate) use self::queue::{Credentials, Host, Place, Sasl, Tls};
use self::reader::{Reader, kind, name};
pub use self::{
    accounts::{Account, Backlog, LateReply, LongText, Mode, NextMessage, Share, Verdict},
    admin::Admin,
    answer::Answer,
    api::Api,
    forward::{Destination, Format, Forward, Original, Rate},
    journal::{Journal, JournalUrl},
    log::{Log, LogFormat},
    observers::{Backoff, Observers, Policy},
    problem::{ConfigError, Problem},
    queue::{Queue, System},
    server::Server,
    source::SourceCheck,
    target::Target,
    values::{IpRange, secret},
    websocket::WebSocket,
};
pub(crate) use self::{
    answer::{Rule, Said, Source, Test},
    needs::{Needs, UnreadAccount, UnreadForward},
    reader::{nearest, suggestion},
};
use crate::{event::Platform, secret::Secret, webhook::Guard};

/// Where the file is looked for when none is named.
const PLACES: [&str; 2] = ["config/echostr.toml", "/etc/echostr/echostr.toml"];

/// Names the file where no argument does.
const VARIABLE: &str = "ECHOSTR_CONFIG";

/// A whole configuration, valid and with its secrets read. `Debug` shows none of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[log]`.
    pub log: Log,
    /// `[admin]`.
    pub admin: Admin,
    /// `[journal]`.
    pub journal: Journal,
    /// `[observers]`.
    pub observers: Observers,
    /// `[api]`.
    pub api: Api,
    /// `[PLATFORM.NAME]`, in the order of [`Platform::ALL`], then by name.
    pub accounts: Vec<Account>,
    /// `[[answer]]`, in the order of the file.
    pub answers: Vec<Answer>,
    /// `[[forward]]`, in the order of the file.
    pub forwards: Vec<Forward>,
    /// Accounts with secrets that were not read; none where all are needed.
    pub(crate) unread_accounts: Vec<UnreadAccount>,
    /// The same of forwards.
    pub(crate) unread_forwards: Vec<UnreadForward>,
    handlers: Vec<handlers::Table>,
    warnings: Vec<Problem>,
    origin: Arc<str>,
    /// The text itself, for [`Config::handler`].
    source: Secret,
}

impl Config {
    /// Reads and checks the file at `path`, its secrets included.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is wrong: then with every problem in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_for(path, Needs::ALL)
    }

    /// The same with only the secrets that somebody needs.
    pub(crate) fn load_for(path: &Path, needs: Needs<'_>) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| ConfigError::one(&origin, None, format!("cannot be read: {}", values::reason(&error))))?;
        Self::parse_for(&text, &origin, |name| env::var(name), needs)
    }

    /// Reads and checks `text`; problems call it `origin`, `{ env = "NAME" }` asks `env` (usually [`std::env::var`]).
    ///
    /// # Errors
    ///
    /// The text is not TOML, or no configuration: then with every problem in it.
    pub fn parse(
        text: &str,
        origin: &str,
        env: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Self, ConfigError> {
        Self::parse_for(text, origin, env, Needs::ALL)
    }

    /// The same with only the secrets that somebody needs.
    fn parse_for(
        text: &str,
        origin: &str,
        env: impl Fn(&str) -> Result<String, VarError>,
        needs: Needs<'_>,
    ) -> Result<Self, ConfigError> {
        let reader = Reader::new(text, origin, &env, needs);
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What was recovered is a guess: problems in it would be noise.
            for error in errors {
                let line = error.span().map(|span| reader.offset_line(span.start));
                let twice = line.filter(|_| error.message().starts_with("duplicate"));
                let twice = twice.and_then(|line| mistakes::defined_twice(text, line));
                reader.problem(line, twice.unwrap_or_else(|| format!("not TOML: {}", syntax(error.message()))));
            }
            return Err(ConfigError { problems: reader.finish().0 });
        }
        let root = root.get_ref();
        check_tables(&reader, root);
        let server = Server::read(&reader, root);
        let log = log::Log::read(&reader, root);
        let admin = Admin::read(&reader, root, server.listen);
        let journal = Journal::read(&reader, root);
        let observers = Observers::read(&reader, root);
        let api = Api::read(&reader, root);
        let (mut accounts, unread) = accounts::read(&reader, root, &server);
        let guard = Guard::default();
        guard.protect([server.listen, admin.listen].into_iter().filter(|address| address.port() != 0));
        let (forwards, unread_forwards) = forward::read(&reader, root, &accounts, &guard);
        let mut answers = answer::read(&reader, root, &accounts, &guard);
        answers.extend(answer::of_forwards(&forwards));
        let handlers = handlers::read(&reader, root);
        // What they match does not depend on secrets.
        let unread_accounts = accounts::set_apart(&mut accounts, unread);
        let (problems, warnings) = reader.finish();
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let (origin, source) = (origin.into(), Secret::new(text));
        Ok(Self {
            server,
            log,
            admin,
            journal,
            observers,
            api,
            accounts,
            answers,
            forwards,
            unread_accounts,
            unread_forwards,
            handlers,
            warnings,
            origin,
            source,
        })
    }

    /// What is allowed and may still be a mistake, for the log at start: accounts without authentication, clear text,
    /// a journal in memory.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The account with this [id](Account::id), `mp/shop`.
    pub fn account(&self, id: &str) -> Option<&Account> {
        let (platform, name) = id.split_once('/')?;
        self.accounts.iter().find(|account| account.platform.as_str() == platform && account.name == name)
    }

    /// All accounts of the file, also those whose secrets were not read, and with which nothing can be signed or opened.
    pub(crate) fn known_accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().chain(self.unread_accounts.iter().map(|unread| &unread.account))
    }

    /// Deliveries in flight that are reserved for no account.
    pub(crate) fn shared_in_flight(&self) -> usize {
        let reserved = self.accounts.iter().map(|account| account.share.reserved).sum();
        self.server.max_in_flight.saturating_sub(reserved)
    }

    /// Name of the file, or of the text it was parsed from.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Which file to read: `explicit`, else `$ECHOSTR_CONFIG`, else the first of `./config/echostr.toml` and
/// `/etc/echostr/echostr.toml` that exists. A file that was named is not looked for: [`Config::load`] reports it.
///
/// # Errors
///
/// None was named and none exists.
pub fn find_config(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    find_among(explicit, env::var_os(VARIABLE).map(PathBuf::from), &PLACES.map(Path::new))
}

fn find_among(explicit: Option<&Path>, named: Option<PathBuf>, places: &[&Path]) -> Result<PathBuf, ConfigError> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(path);
    }
    places.iter().find(|place| place.exists()).map(|place| place.to_path_buf()).ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        let text = format!("no configuration: {VARIABLE} is not set, and there is no {}", looked.join(" and no "));
        ConfigError::one("echostr", None, text)
    })
}

/// The parser's message, which quotes nothing of the file; it takes `info` and `0.0.0.0:80` for attempts at a number.
fn syntax(message: &str) -> String {
    let guess = ["invalid float", "invalid integer", "invalid boolean", "invalid datetime"]
        .into_iter()
        .find(|kind| message.starts_with(kind));
    guess.map_or_else(|| message.to_owned(), |kind| format!("{kind}; a string has quotes"))
}

/// Reports unknown tables.
fn check_tables(reader: &Reader<'_>, root: &DeTable<'_>) {
    /// Tables of earlier versions, and what they are called now.
    const RENAMED: [(&str, &str); 1] = [("delivery", "observers")];
    const SECTIONS: [&str; 9] =
        ["server", "log", "admin", "journal", "observers", "api", "handlers", "forward", "answer"];
    let known: Vec<&str> = SECTIONS.into_iter().chain(Platform::ALL.map(Platform::as_str)).collect();
    for (at, value) in root {
        let (key, line): (&str, _) = (at.get_ref(), Some(reader.line(at)));
        if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
            reader.problem(line, format!("[{key}] is now called [{new}]; rename the table, its keys are the same"));
        } else if !known.contains(&key) {
            let what = if value.get_ref().is_table() { "table" } else { "key" };
            let hint = suggestion(key, &known);
            let hint = match value.get_ref().is_table() {
                false if hint.is_empty() => format!("; it is {} outside of any table", kind(value.get_ref())),
                false => hint,
                true => format!("{hint}; tables are {}", known.join(", ")),
            };
            reader.problem(line, format!("unknown {what} {}{hint}", name(key)));
        }
    }
}
