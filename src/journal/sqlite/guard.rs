//! Whether the files are still those that were opened, and still whole.
//!
//! SQLite goes on writing to a file that was moved away, removed or truncated, and reports success. What it wrote is lost
//! to the next process, and a checkpoint of a log with a hole in it destroys what was safe. So the writer checks before and
//! after each commit, and nothing is acknowledged unless both checks pass.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::db;

/// Bytes before the first frame of the log, and of the head of a frame.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The index of the log, which is mapped into memory.
const INDEX: &str = "its -shm";

/// How often a log that looks damaged is read again: another process may just have restarted it.
const MAX_READS: usize = 3;

/// Device and inode.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(file: &fs::Metadata) -> Identity {
    (file.dev(), file.ino())
}

/// The path of a file that belongs to the database.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The database, its log and the index of the log, as they were opened.
pub(super) struct FileGuard {
    files: [Watched; 3],
    log: Log,
    /// What is permanently wrong with the log or its index: SQLite does not notice, and what it adds is lost too.
    damage: Option<&'static str>,
}

struct Watched {
    path: PathBuf,
    opened: Option<Identity>,
    /// How long it has been, for those that are never made shorter.
    length: Option<u64>,
    name: &'static str,
}

impl FileGuard {
    /// The files of a database that is open.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn of(path: &Path, db: &Connection) -> rusqlite::Result<Self> {
        let page: i64 = db.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let watched = |end: &str, name, length| {
            let path = beside(path, end);
            let opened = fs::metadata(&path).ok().as_ref().map(identity);
            Watched { path, opened, length, name }
        };
        // The log is kept when it restarts, unless a process asks SQLite to truncate it: see `Log`.
        let files =
            [watched("", "the database", Some(0)), watched("-wal", "its -wal", None), watched("-shm", INDEX, Some(0))];
        let log = File::open(beside(path, "-wal")).map_err(|_| db::moved("its -wal cannot be read"))?;
        let frame = FRAME_HEADER + usize::try_from(page).unwrap_or_default();
        Ok(Self { files, log: Log { file: log, frame, last: None, spare: Vec::new() }, damage: None })
    }

    /// Whether the log must no longer be moved into the database.
    pub(super) const fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// Fails when the files are not those that were opened, or were truncated: before a commit or a checkpoint.
    pub(super) fn check(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.check_files().map_err(db::moved)?;
        if self.log.is_intact() { Ok(()) } else { self.check_log(db) }
    }

    /// Fails when a successful commit is not in the files.
    pub(super) fn check_committed(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.check_files().map_err(db::moved)?;
        self.check_log(db)
    }

    fn check_files(&mut self) -> Result<(), &'static str> {
        if let Some(what) = self.damage {
            return Err(what);
        }
        for Watched { path, opened, length, name } in &mut self.files {
            let found = fs::metadata(path).ok();
            let found = found.filter(|found| opened.is_none_or(|opened| opened == identity(found))).ok_or(*name)?;
            if let Some(length) = length {
                if found.len() < *length {
                    // To touch what is missing of the index, even to close it in order, would end the process.
                    self.damage = (*name == INDEX).then_some(INDEX);
                    return Err(*name);
                }
                *length = found.len();
            }
        }
        Ok(())
    }

    fn check_log(&mut self, db: &Connection) -> rusqlite::Result<()> {
        const WHAT: &str = "its -wal was truncated or overwritten";
        for _ in 0..MAX_READS {
            let mut query = db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
            let frames: i64 = query.query_row([], |row| row.get(1))?;
            if self.log.is_as_long_as(usize::try_from(frames).unwrap_or_default()) {
                return Ok(());
            }
        }
        self.damage = Some(WHAT);
        Err(db::moved(WHAT))
    }
}

/// The log, as the file has it. A file that is cut and written on has a hole, so its length alone proves nothing; its last
/// frame does, since a cut takes that first.
struct Log {
    file: File,
    /// Bytes of a frame.
    frame: usize,
    last: Option<Last>,
    spare: Vec<u8>,
}

/// The end of the log at the last check.
struct Last {
    header: [u8; LOG_HEADER],
    frames: usize,
    frame: Vec<u8>,
}

impl Log {
    /// Whether the end of the log at the last check is still there.
    fn is_intact(&mut self) -> bool {
        let Some(last) = self.last.take() else { return false };
        let intact = self.header().is_ok_and(|header| header == last.header) && self.has(&last);
        self.last = Some(last);
        intact
    }

    fn has(&mut self, last: &Last) -> bool {
        self.read(last.frames).is_ok() && self.spare == last.frame
    }

    /// Whether the log has so many frames, after those of the last check or, where it was restarted, instead of them.
    fn is_as_long_as(&mut self, frames: usize) -> bool {
        if frames == 0 {
            // All of it is in the database: a checkpoint has truncated it.
            self.last = None;
            return true;
        }
        let Ok(header) = self.header() else { return false };
        if !is_log(&header) {
            return false;
        }
        let mut last = self.last.take();
        let goes_on = last.as_ref().is_some_and(|last| last.header == header);
        let intact = !goes_on || last.as_ref().is_none_or(|last| last.frames <= frames && self.has(last));
        // A frame has the two salts of its log behind its page number and its commit mark.
        let is_there = intact && self.read(frames).is_ok() && self.spare[8..16] == header[16..24];
        if is_there {
            let frame = last.take().map(|last| last.frame).unwrap_or_default();
            let frame = std::mem::replace(&mut self.spare, frame);
            last = Some(Last { header, frames, frame });
        }
        self.last = last;
        is_there
    }

    fn header(&self) -> io::Result<[u8; LOG_HEADER]> {
        let mut header = [0; LOG_HEADER];
        self.file.read_exact_at(&mut header, 0)?;
        Ok(header)
    }

    /// Reads a frame, which are counted from 1.
    fn read(&mut self, frame: usize) -> io::Result<()> {
        self.spare.resize(self.frame, 0);
        let place = LOG_HEADER + (frame - 1) * self.frame;
        self.file.read_exact_at(&mut self.spare, place as u64)
    }
}

/// Whether a header is one that SQLite wrote: its checksum is right.
fn is_log(header: &[u8; LOG_HEADER]) -> bool {
    const MAGIC: u32 = 0x377F_0682;
    let word = |at: usize, big_endian: bool| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let magic = word(0, true);
    let big_endian = magic & 1 == 1;
    let (mut first, mut second) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        first = first.wrapping_add(word(at, big_endian)).wrapping_add(second);
        second = second.wrapping_add(word(at + 4, big_endian)).wrapping_add(first);
    }
    magic & !1 == MAGIC && (first, second) == (word(24, true), word(28, true))
}
