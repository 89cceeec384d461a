//! What handlers leave behind: files that every server of a run appends to, a line at a time.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use crate::{
    Failure,
    deliveries::{serial_of, unix_nanos},
};

const RUNS: &str = "runs";
const SIGHTINGS: &str = "sightings";

/// Files that are open for appending.
#[derive(Debug)]
pub struct Effects {
    runs: File,
    sightings: File,
}

impl Effects {
    pub fn open(folder: &Path) -> io::Result<Self> {
        let open = |name| File::options().create(true).append(true).open(folder.join(name));
        Ok(Self { runs: open(RUNS)?, sightings: open(SIGHTINGS)? })
    }

    /// A responder begins.
    pub fn run(&self, name: &str) -> io::Result<()> {
        append(&self.runs, format!("run {name} {}\n", unix_nanos()))
    }

    /// An observer begins.
    pub fn sighting(&self, observer: &str, name: &str, event: &str) -> io::Result<()> {
        append(&self.sightings, format!("{observer} {name} {event}\n"))
    }
}

/// One write, so that a kill leaves a whole line or none, and lines of two processes do not mix.
fn append(mut file: &File, line: String) -> io::Result<()> {
    file.write_all(line.as_bytes())
}

/// A responder began to run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub serial: u64,
    pub nanos: u64,
}

/// An observer was given an event.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub observer: String,
    pub serial: u64,
    pub event: String,
}

pub fn runs(folder: &Path) -> Result<Vec<Run>, Failure> {
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some(Run { serial: serial_of(words.next()?)?, nanos: words.next()?.parse().ok()? })
    };
    lines(&folder.join(RUNS), line)
}

/// What the responders ran for, by name.
pub fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    lines(&folder.join(RUNS), |line| line.split(' ').nth(1).map(str::to_owned))
}

pub fn sightings(folder: &Path) -> Result<Vec<Sighting>, Failure> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (observer, name, event) = (words.next()?, words.next()?, words.next()?);
        Some(Sighting { observer: observer.to_owned(), serial: serial_of(name)?, event: event.to_owned() })
    };
    lines(&folder.join(SIGHTINGS), line)
}

fn lines<T>(path: &Path, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Failure> {
    let text = fs::read_to_string(path)?;
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let all = whole.lines().map(|line| read(line).ok_or_else(|| format!("{}: `{line}`", path.display()).into()));
    all.collect()
}
