//! Walks the TOML document by hand, so that every problem has its line and one run reports them all.
//!
//! Serde would stop at the first problem and quote the value it disliked. Nothing here prints a value.

use std::{
    cell::{OnceCell, RefCell},
    env::VarError,
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    mistakes,
    needs::{Needs, Secrets},
    problem::Problem,
    values::{self, Source},
};
use crate::secret::Secret;

/// How environment variables are looked up: `std::env::var`, or a table in tests.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// Line numbers of byte offsets.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// Line of the byte at `offset`, from 1.
    pub(super) fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|&newline| newline < offset) + 1
    }
}

/// What the reading of one file shares: its name and lines, the environment, which secrets are read, what was found.
pub(super) struct Reader<'a> {
    origin: Arc<str>,
    lines: Lines,
    env: Env<'a>,
    pub(super) needs: Needs<'a>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &str, origin: &str, env: Env<'a>, needs: Needs<'a>) -> Self {
        let (problems, warnings) = Default::default();
        Self { origin: origin.into(), lines: Lines::new(text), env, needs, problems, warnings }
    }

    pub(super) fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.lines.of(at.span().start)
    }

    pub(super) fn offset_line(&self, offset: usize) -> usize {
        self.lines.of(offset)
    }

    pub(super) fn problem(&self, line: Option<usize>, text: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { origin: self.origin.clone(), line, text: text.into() });
    }

    pub(super) fn warning(&self, line: Option<usize>, text: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem { origin: self.origin.clone(), line, text: text.into() });
    }

    pub(super) fn failed(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Problems and warnings, each in the order of the file.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: RefCell<Vec<Problem>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|problem| problem.line);
            list
        };
        (sorted(self.problems), sorted(self.warnings))
    }

    /// The table `key` of `parent`, which may be absent; its keys must be among `known`.
    pub(super) fn section<'s>(&'s self, parent: &'s DeTable<'s>, key: &str, known: &[&str]) -> Section<'s> {
        let label = format!("[{key}]");
        let (secrets, unread) = (self.needs.of_section(key), Rc::default());
        let Some((at, value)) = parent.get_key_value(key) else {
            return Section { reader: self, label, line: None, table: None, secrets, unread };
        };
        let line = Some(self.line(at));
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.problem(line, format!("`{key}` must be a table, not {}", kind(value.get_ref())));
        }
        let section = Section { reader: self, label, line, table, secrets, unread };
        section.only(known);
        section
    }
}

/// One table of the file, or its absence: then every key is absent, too.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    label: String,
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
    /// Whether its secrets are read.
    secrets: Secrets,
    /// Why one of them was not; shared with the tables in it.
    unread: Rc<OnceCell<String>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, label: String, line: usize, table: &'a DeTable<'a>) -> Self {
        let (secrets, unread) = (Secrets::Required, Rc::default());
        Self { reader, label, line: Some(line), table: Some(table), secrets, unread }
    }

    /// The same, with its secrets read in this way.
    pub(super) fn reading(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Why a secret that is written there was not read. Then nothing may be done with what the table says.
    pub(super) fn unread(&self) -> Option<&str> {
        self.unread.get().map(String::as_str)
    }

    /// Reports every key that is not among `known`.
    pub(super) fn only(&self, known: &[&str]) {
        self.only_or(known, |_| None);
    }

    /// The same; `elsewhere` may know why a key does not apply.
    pub(super) fn only_or(&self, known: &[&str], elsewhere: impl Fn(&str) -> Option<String>) {
        for (at, _) in self.table.into_iter().flatten() {
            let key: &str = at.get_ref();
            if known.contains(&key) {
                continue;
            }
            let hint = suggestion(key, known);
            let text = match elsewhere(key) {
                Some(why) => format!("{} {why}{hint}", name(key)),
                None => format!("unknown key {}{hint}", name(key)),
            };
            self.at(Some(self.reader.line(at)), text);
        }
    }

    /// Line of the key, of the table where the key is absent.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        self.entry(key).map(|(line, _)| line).or(self.line)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Reports a problem of `key`; `text` goes on after the key: "must be ...".
    pub(super) fn problem(&self, key: &str, text: impl AsRef<str>) {
        self.at(self.line_of(key), format!("`{key}` {}", text.as_ref()));
    }

    /// The same of one value in a list.
    pub(super) fn problem_at(&self, line: usize, key: &str, text: &str) {
        self.at(Some(line), format!("`{key}` {text}"));
    }

    /// Reports a problem of the table as a whole.
    pub(super) fn refuse(&self, text: &str) {
        self.at(self.line, text.to_owned());
    }

    /// Notes a warning at `key`, or at the table where the key is absent.
    pub(super) fn warning(&self, key: &str, text: impl AsRef<str>) {
        self.reader.warning(self.line_of(key), format!("{} {}", self.label, text.as_ref()));
    }

    /// Reports `key` as missing if it is; one that is there but wrong has been reported where it was read.
    pub(super) fn require(&self, key: &str, why: &str) {
        if !self.has(key) {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            self.at(self.line, format!("missing `{key}`{why}"));
        }
    }

    /// A string that `parse` understands; its error goes on after "must be ...".
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        let (_, value) = self.entry(key)?;
        let Some(text) = value.as_str() else {
            self.problem(key, format!("must be {expected}, not {}", kind(value)));
            return None;
        };
        parse(text).map_err(|wrong| self.problem(key, format!("must be {wrong}"))).ok()
    }

    /// Like [`Section::parsed`] where the only thing to say is what was expected.
    pub(super) fn matching<T>(&self, key: &str, expected: &str, parse: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        self.parsed(key, expected, |text| parse(text).ok_or_else(|| expected.to_owned()))
    }

    pub(super) fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (_, value) = self.entry(key)?;
        let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            let not = if value.is_integer() { String::new() } else { format!(", not {}", kind(value)) };
            self.problem(key, format!("must be a whole number from {} to {}{not}", range.start(), range.end()));
        }
        found
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let (_, value) = self.entry(key)?;
        if value.as_bool().is_none() {
            self.problem(key, format!("must be true or false, not {}", kind(value)));
        }
        value.as_bool()
    }

    pub(super) fn size(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let size = self.matching(key, values::SIZE, values::size)?;
        if !range.contains(&size) {
            let (least, most) = (values::size_text(*range.start()), values::size_text(*range.end()));
            self.problem(key, format!("must be from {least} to {most}"));
            return None;
        }
        Some(size)
    }

    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.matching(key, values::DURATION, values::duration)?;
        self.within(key, duration, &range)
    }

    /// A duration or "off", which is `Some(None)`.
    pub(super) fn duration_or_off(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Option<Duration>> {
        let parse = |text: &str| if text == "off" { Some(None) } else { values::duration(text).map(Some) };
        match self.matching(key, values::DURATION_OR_OFF, parse)? {
            None => Some(None),
            Some(duration) => self.within(key, duration, &range).map(Some),
        }
    }

    fn within(&self, key: &str, duration: Duration, range: &RangeInclusive<Duration>) -> Option<Duration> {
        if range.contains(&duration) {
            return Some(duration);
        }
        let (least, most) = (values::duration_text(*range.start()), values::duration_text(*range.end()));
        self.problem(key, format!("must be from {least} to {most}"));
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let expected = match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => quoted.concat(),
        };
        self.parsed(key, &expected, |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| format!("{expected}{}", suggestion(text, &words)))
        })
    }

    /// The strings of an array, with their lines.
    pub(super) fn list<T>(
        &self,
        key: &str,
        expected: &str,
        each: impl Fn(&'a str) -> Option<T>,
    ) -> Option<Vec<(usize, T)>> {
        let (_, value) = self.entry(key)?;
        let Some(items) = value.as_array() else {
            self.problem(key, format!("must be a list of {expected}, not {}", kind(value)));
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let line = self.reader.line(item);
            match item.get_ref().as_str().and_then(&each) {
                Some(found) => list.push((line, found)),
                None => self.at(Some(line), format!("`{key}` must be a list of {expected}")),
            }
        }
        Some(list)
    }

    /// One string, or an array of them, with their lines.
    pub(super) fn one_or_more(&self, key: &str, expected: &str) -> Vec<(usize, &'a str)> {
        match self.entry(key) {
            Some((line, DeValue::String(text))) => vec![(line, text)],
            Some((_, DeValue::Array(_))) => self.list(key, expected, Some).unwrap_or_default(),
            Some((_, value)) => {
                self.problem(key, format!("must be {expected}, or a list of them, not {}", kind(value)));
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// A table in the table, whose keys may be any.
    pub(super) fn table(&self, key: &str, expected: &str) -> Option<Self> {
        let (line, value) = self.entry(key)?;
        let Some(table) = value.as_table() else {
            self.problem(key, format!("must be {expected}, not {}", kind(value)));
            return None;
        };
        Some(self.inner(key, line, table))
    }

    /// The tables of an array, whose keys may be any.
    pub(super) fn tables(&self, key: &str, expected: &str) -> Vec<Self> {
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problem(key, format!("must be {expected}, not {}", kind(value)));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            let line = self.reader.line(item);
            match item.get_ref().as_table() {
                Some(table) => tables.push(self.inner(key, line, table)),
                None => self.problem_at(line, key, &format!("must be {expected}")),
            }
        }
        tables
    }

    /// Its members.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a DeValue<'a>)> + use<'a> {
        self.table.into_iter().flatten().map(|(at, value)| (&**at.get_ref(), value.get_ref()))
    }

    fn inner(&self, key: &str, line: usize, table: &'a DeTable<'a>) -> Self {
        let label = format!("{} `{key}`:", self.label);
        let (secrets, unread) = (self.secrets, Rc::clone(&self.unread));
        Self { reader: self.reader, label, line: Some(line), table: Some(table), secrets, unread }
    }

    /// A string, `{ env = "NAME" }` or `{ file = "path" }`, read at once, where the secrets of the table are needed. One that
    /// is surely a mistake gets a warning.
    pub(super) fn secret(&self, key: &str) -> Option<Secret> {
        let secret = self.any_secret(key)?;
        if let Some(mistake) = mistakes::of_secret(secret.expose()) {
            self.warning(key, format!("`{key}` {mistake}"));
        }
        Some(secret)
    }

    /// The same for what may look like anything.
    pub(super) fn any_secret(&self, key: &str) -> Option<Secret> {
        let (_, value) = self.entry(key)?;
        let source = match value {
            DeValue::String(text) => Some(Source::Text(text)),
            DeValue::Table(table) => {
                let mut entries = table.iter().map(|(at, value)| (at.get_ref().as_ref(), value.get_ref().as_str()));
                match (entries.next(), entries.next()) {
                    (Some(("env", Some(name))), None) => Some(Source::Env(name)),
                    (Some(("file", Some(path))), None) => Some(Source::File(path)),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(source) = source else {
            self.problem(key, format!("must be {}", values::SECRET));
            return None;
        };
        let read = match self.secrets {
            Secrets::Skipped => Err("its secrets were not read".to_owned()),
            Secrets::Required | Secrets::Optional => source.read(self.reader.env),
        };
        match (read, self.secrets) {
            (Ok(secret), _) => Some(secret),
            (Err(wrong), Secrets::Required) => {
                self.problem(key, wrong);
                None
            }
            (Err(why), Secrets::Optional | Secrets::Skipped) => {
                // The first one is enough.
                let why = if self.secrets == Secrets::Optional { format!("`{key}` {why}") } else { why };
                let _ = self.unread.set(why);
                None
            }
        }
    }

    fn at(&self, line: Option<usize>, text: String) {
        self.reader.problem(line, format!("{} {text}", self.label));
    }

    fn entry(&self, key: &str) -> Option<(usize, &'a DeValue<'a>)> {
        let (at, value) = self.table?.get_key_value(key)?;
        Some((self.reader.line(at), value.get_ref()))
    }
}

/// A key as messages show it: on one line whatever is in it, and no longer than a key may reasonably be.
pub(super) fn name(key: &str) -> String {
    let shown: String = key.chars().take(40).collect();
    let more = if shown.len() < key.len() { "…" } else { "" };
    format!("`{}{more}`", shown.escape_debug())
}

/// The type of a value, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The known word that is closest, if it is close enough.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distances = known.map(|key| (strsim::damerau_levenshtein(word, key), key));
    let near = distances.filter(|(distance, key)| *distance <= (key.len().max(word.len()) / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}

/// "; did you mean ...?", where a known word is close enough.
pub(crate) fn suggestion(word: &str, known: &[&str]) -> String {
    /// What the platforms' consoles and other servers call a thing, and what it is called here.
    const ALIASES: [(&str, &str); 22] = [
        ("address", "listen"),
        ("app_id", "sdk_app_id"),
        ("app_id", "corp_id"),
        ("app_secret", "secret"),
        ("appsecret", "secret"),
        ("bind", "listen"),
        ("corp_secret", "secret"),
        ("corpsecret", "secret"),
        ("encoding_aes_key", "aes_key"),
        ("encodingaeskey", "aes_key"),
        ("events", "match"),
        ("filter", "where"),
        ("kf", "wecom_kf"),
        ("old_token", "token_previous"),
        ("port", "listen"),
        ("retries", "retry"),
        ("target", "to"),
        ("timeout", "deadline"),
        ("uri", "to"),
        ("url", "to"),
        ("wechat", "mp"),
        ("work", "wecom"),
    ];
    let plain = word.to_lowercase().replace(['-', ' '], "_");
    if plain.len() > 40 {
        return String::new();
    }
    let alias = ALIASES.iter().find(|(alias, key)| *alias == plain && known.contains(key)).map(|(_, key)| *key);
    alias
        .or_else(|| nearest(&plain, known.iter().copied()))
        .map(|key| format!("; did you mean `{key}`?"))
        .unwrap_or_default()
}
