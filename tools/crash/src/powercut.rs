//! Cuts the power in a trace of a server: what was not synced is lost, and what was answered has to be there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    io::BufReader,
    path::Path,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::runtime::Runtime;

use crash::{Failure, check, deliveries::name_of};
use echostr::internals::journal::State;

use crate::trace::{Call, Moment, Trace};

/// What is looked for in the log of SQLite.
const WAL: &str = "-wal";

/// Returns whether nothing that was answered would have been lost.
pub(crate) fn run(path: &Path, cuts: usize, seed: Option<u64>, without_syncs: bool) -> Result<bool, Failure> {
    let mut trace = Trace::read(BufReader::new(fs::File::open(path)?))?;
    if without_syncs {
        doctor(&mut trace);
    }
    let seed = seed.unwrap_or_else(rand::random);
    let walk = Walk::new(&trace, None);
    let total = walk.answers.len();
    if total == 0 {
        return Err("the trace has no answer of a delivery".into());
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut places: BTreeSet<usize> = (0..cuts).map(|_| random.random_range(0..total)).collect();
    places.insert(total - 1);
    let runtime = Runtime::new()?;
    let mut report = Report { answers: total, violations: walk.violations, ..Report::default() };
    let mut look = |number: usize, disk: &Disk| -> Result<(), Failure> {
        // Nothing of what was not synced, and any part of it.
        let mut some = disk.clone();
        some.keep_some(&mut random);
        for (disk, what) in [(disk, "nothing"), (&some, "some")] {
            let there = runtime.block_on(survivors(disk))?;
            let answered = &walk.answers[..=number];
            report.cuts += 1;
            report.kept_at_last = there.len();
            let lost = answered.iter().filter(|name| !there.contains(*name));
            report.lost.extend(lost.map(|name| format!("{name}, cut at answer {number} with {what} of the rest kept")));
        }
        Ok(())
    };
    let mut failed = Ok(());
    let mut at_answer = |number: usize, disk: &Disk| {
        if places.contains(&number) && failed.is_ok() {
            failed = look(number, disk);
        }
    };
    Walk::new(&trace, Some(&mut at_answer));
    failed?;
    println!("seed {seed}, {} calls", trace.calls.len());
    report.print();
    Ok(report.violations.is_empty() && report.lost.is_empty())
}

/// Takes the syncs of the log out.
fn doctor(trace: &mut Trace) {
    for call in &mut trace.calls {
        if is_sync(call) && call.file.ends_with(WAL) {
            call.name = "forgotten".to_owned();
        }
    }
}

fn is_sync(call: &Call) -> bool {
    matches!(call.name.as_str(), "fdatasync" | "fsync")
}

#[derive(Debug, Default)]
struct Report {
    answers: usize,
    cuts: usize,
    kept_at_last: usize,
    violations: Vec<String>,
    lost: Vec<String>,
}

impl Report {
    fn print(&self) {
        println!("{:<58} {:>8}", "deliveries answered with 200", self.answers);
        println!("{:<58} {:>8}", "power cuts, each at an answer", self.cuts);
        println!("{:<58} {:>8}", "events in the journal after the last one", self.kept_at_last);
        let (early, lost) = (&self.violations, &self.lost);
        println!("{:<58} {:>8}   must be 0", "answers before the log was synced", early.len());
        println!("{:<58} {:>8}   must be 0", "answered events lost by a power cut", lost.len());
        early.iter().chain(lost.iter()).take(10).for_each(|what| eprintln!("  {what}"));
    }
}

/// The files of the journal, as the disk has them.
#[derive(Clone, Debug, Default)]
struct Disk(BTreeMap<String, File>);

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// What is not synced, with the place where the call ended.
    pending: Vec<(usize, Change)>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate(usize),
}

impl File {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Write { at, data } => {
                if self.durable.len() < at + data.len() {
                    self.durable.resize(at + data.len(), 0);
                }
                self.durable[at..at + data.len()].copy_from_slice(&data);
            }
            Change::Truncate(length) => self.durable.resize(length, 0),
        }
    }

    /// A sync covers what had been written when it began.
    fn sync(&mut self, began: usize) {
        for (ended, change) in std::mem::take(&mut self.pending) {
            if ended < began { self.apply(change) } else { self.pending.push((ended, change)) }
        }
    }
}

impl Disk {
    /// Any part of what is not synced may have reached the disk.
    fn keep_some(&mut self, random: &mut StdRng) {
        for file in self.0.values_mut() {
            for (_, change) in std::mem::take(&mut file.pending) {
                if random.random() {
                    file.apply(change);
                }
            }
        }
    }

    fn ended(&mut self, call: &Call) {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match call.name.as_str() {
            "unlink" | "unlinkat" => drop(self.0.remove(&*String::from_utf8_lossy(&call.data))),
            _ if call.result < 0 || !is_journal(&call.file) => {}
            "pwrite64" => {
                let mut data = call.data.clone();
                data.truncate(number(call.result.cast_unsigned()));
                let change = Change::Write { at: number(call.last), data };
                self.0.entry(call.file.clone()).or_default().pending.push((call.ended, change));
            }
            "ftruncate" => {
                let change = Change::Truncate(number(call.last));
                self.0.entry(call.file.clone()).or_default().pending.push((call.ended, change));
            }
            _ if is_sync(call) => self.0.entry(call.file.clone()).or_default().sync(call.began),
            _ => {}
        }
    }
}

/// The file and its log; what is shared in memory is not on the disk.
fn is_journal(file: &str) -> bool {
    file.ends_with(".db") || file.ends_with(WAL)
}

/// The names of the answered events in a journal that comes up from this disk.
async fn survivors(disk: &Disk) -> Result<HashSet<String>, Failure> {
    let folder = tempfile::tempdir()?;
    let mut journal = None;
    for (path, file) in &disk.0 {
        let name = Path::new(path).file_name().ok_or("a file without a name")?;
        let path = folder.path().join(name);
        fs::write(&path, &file.durable)?;
        if path.extension().is_some_and(|extension| extension == "db") {
            journal = Some(path);
        }
    }
    let Some(journal) = journal else { return Ok(HashSet::new()) };
    let stored = check::stored(&format!("sqlite://{}", journal.display())).await?;
    let answered = stored.iter().filter(|event| event.state != State::Responding);
    Ok(answered.filter_map(|event| event.name.clone()).collect())
}

/// One walk through a trace.
struct Walk {
    /// The names of what was answered, in order.
    answers: Vec<String>,
    /// Answers whose event was not in the log, or was not synced.
    violations: Vec<String>,
}

/// Is called at each answer, before it is sent.
type AtAnswer<'a> = &'a mut dyn FnMut(usize, &Disk);

impl Walk {
    fn new(trace: &Trace, mut at_answer: Option<AtAnswer<'_>>) -> Self {
        let mut walk = Self { answers: Vec::new(), violations: Vec::new() };
        let mut disk = Disk::default();
        // By connection, the delivery that waits for its answer; by name, where the log had it first; what is synced.
        let mut asked: HashMap<&str, String> = HashMap::new();
        let mut logged: HashMap<String, usize> = HashMap::new();
        let mut synced: HashSet<String> = HashSet::new();
        for moment in &trace.moments {
            match *moment {
                Moment::Began(number) => {
                    let call = &trace.calls[number];
                    let answers = call.file.starts_with("socket:") && call.data.starts_with(b"HTTP/1.1 200");
                    let Some(name) = answers.then(|| asked.remove(call.file.as_str())).flatten() else { continue };
                    if !synced.contains(&name) {
                        let why = if logged.contains_key(&name) { "not synced" } else { "not in the log" };
                        walk.violations.push(format!("{name}: answered in line {}, {why}", call.began + 1));
                    }
                    if let Some(at_answer) = &mut at_answer {
                        at_answer(walk.answers.len(), &disk);
                    }
                    walk.answers.push(name);
                }
                Moment::Ended(number) => {
                    let call = &trace.calls[number];
                    let wal = call.file.ends_with(WAL) && call.result >= 0;
                    match call.name.as_str() {
                        "recvfrom" | "read" if call.data.starts_with(b"POST ") => {
                            let text = String::from_utf8_lossy(&call.data);
                            if let Some(name) = name_of(&text) {
                                asked.insert(&call.file, name.to_owned());
                            }
                        }
                        "pwrite64" if wal => {
                            for name in names(&call.data) {
                                logged.entry(name).or_insert(call.ended);
                            }
                        }
                        _ if wal && is_sync(call) => {
                            let covered = logged.iter().filter(|(_, ended)| **ended < call.began);
                            synced.extend(covered.map(|(name, _)| name.clone()));
                        }
                        _ => {}
                    }
                    if at_answer.is_some() {
                        disk.ended(call);
                    }
                }
            }
        }
        walk
    }
}

/// The names of all deliveries whose payload is in a page.
fn names(page: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(page);
    text.split("<xml>").skip(1).filter_map(|payload| name_of(payload).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = r#"1 recvfrom(12<socket:[5]>, "POST / HTTP/1.1\r\n\r\n<xml><MsgId>77</MsgId></xml>", 8192, 0, NULL, NULL) = 48"#;
    const LOGGED: &str = r#"2 pwrite64(9</j/a.db-wal>, "..<xml><MsgId>77</MsgId></xml>", 30, 56) = 30"#;
    const SYNCED: &str = "2 fdatasync(9</j/a.db-wal>) = 0";
    const ANSWERED: &str = r#"1 sendto(12<socket:[5]>, "HTTP/1.1 200 OK\r\n\r\n", 19, MSG_NOSIGNAL, NULL, 0) = 19"#;

    fn violations(lines: &[&str]) -> Vec<String> {
        let trace = Trace::read(lines.join("\n").as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
        let walk = Walk::new(&trace, None);
        assert_eq!(walk.answers, ["77"]);
        walk.violations
    }

    #[test]
    fn an_answer_after_the_sync_is_right() {
        assert!(violations(&[ASKED, LOGGED, SYNCED, ANSWERED]).is_empty());
    }

    #[test]
    fn an_answer_before_the_sync_is_found() {
        for lines in [
            [ASKED, LOGGED, ANSWERED, SYNCED].as_slice(),
            &[ASKED, SYNCED, LOGGED, ANSWERED],
            &[ASKED, LOGGED, ANSWERED],
            // The sync began before the write had ended, or had not ended before the answer.
            &[
                ASKED,
                r#"2 pwrite64(9</j/a.db-wal>, "..<xml><MsgId>77</MsgId></xml>", 30, 56 <unfinished ...>"#,
                "3 fdatasync(9</j/a.db-wal> <unfinished ...>",
                "2 <... pwrite64 resumed>) = 30",
                "3 <... fdatasync resumed>) = 0",
                ANSWERED,
            ],
            &[ASKED, LOGGED, "2 fdatasync(9</j/a.db-wal> <unfinished ...>", ANSWERED, "2 <... fdatasync resumed>) = 0"],
            // It failed, or was of another file.
            &[ASKED, LOGGED, "2 fdatasync(9</j/a.db-wal>) = -1 EIO (Input/output error)", ANSWERED],
            &[ASKED, LOGGED, "2 fdatasync(8</j/a.db>) = 0", ANSWERED],
        ] {
            assert_eq!(violations(lines), [violations(lines)[0].clone()], "{lines:?}");
            assert!(violations(lines)[0].contains("not synced"), "{lines:?}");
        }
        assert!(violations(&[ASKED, ANSWERED])[0].contains("not in the log"));
    }

    #[test]
    fn a_disk_has_what_was_written_before_a_sync_began() {
        let lines = [
            r#"1 pwrite64(9</j/a.db>, "abcd", 4, 0) = 4"#,
            "1 fdatasync(9</j/a.db>) = 0",
            r#"1 pwrite64(9</j/a.db>, "XY", 2, 3) = 2"#,
            "1 ftruncate(9</j/a.db>, 1) = 0",
        ];
        let trace = Trace::read(lines.join("\n").as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
        let mut disk = Disk::default();
        trace.calls.iter().for_each(|call| disk.ended(call));
        let file = &disk.0["/j/a.db"];
        assert_eq!((file.durable.as_slice(), file.pending.len()), (&b"abcd"[..], 2));
        let mut all = file.clone();
        all.sync(100);
        assert_eq!(all.durable, b"a");
    }
}
