//! Backups of the file, and files from backups.
//!
//! A file finds an event by the number of its identity, which is unique while one process makes identities. Nodes that share a
//! PostgreSQL database make theirs side by side, so that two may have one number. In a backup each event has a number of its
//! own and its identity as it was; restored into a file, an event whose number is another one gets a new identity.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    super::{
        JournalError,
        backup::{Partial, Summary, folder, with_end},
        core::Fit,
        id::{number, with_number},
        now_millis,
    },
    create_folder,
    db::{self, to_sql},
    lock::{self, ServerLock},
    schema::{self, KNOWN},
};

/// Events whose identities are looked at in one go.
const MAX_EVENTS: usize = 5_000;

/// Copies the journal as it is at one moment. Servers go on writing meanwhile; their log grows until this is done.
///
/// # Errors
/// When it is not there or cannot be read, or the copy cannot be written.
pub(in super::super) fn copy(journal: &Path, to: &Path) -> Result<(), JournalError> {
    if !journal.exists() {
        return Err(db::absent(journal));
    }
    let explain = |failure| db::explain(journal, &failure);
    let db = db::open_known(journal).map_err(explain)?;
    // An older one is copied as it is: an update is to be preceded by a backup.
    schema::version(&db).map_err(explain)?.fit(KNOWN).map_err(|misfit| schema::explain(journal, misfit.into()))?;
    vacuum(&db, to).map_err(explain)
}

fn vacuum(db: &Connection, to: &Path) -> rusqlite::Result<()> {
    let to = to.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(to.to_owned()))?;
    db.execute("VACUUM INTO ?1", [to]).map(drop)
}

/// Makes a copy a backup: without access tokens, and with its time. Returns what is in it.
///
/// # Errors
/// When it cannot be written.
pub(in super::super) fn seal(copy: &Path) -> Result<Summary, JournalError> {
    let run = || {
        let db = db::open_plain(copy)?;
        // What is removed must not be in the file.
        db.pragma_update(None, "secure_delete", true)?;
        if has_table(&db, "slot")? {
            // Access tokens: a server asks the platform for new ones. What else is named is kept: authorisations of third parties,
            // for example, are given once.
            db.execute("DELETE FROM slot WHERE name LIKE 'token/%'", [])?;
        }
        db.execute_batch(
            "DROP TABLE IF EXISTS backup; CREATE TABLE backup (taken INTEGER NOT NULL, program TEXT NOT NULL)",
        )?;
        db.execute("INSERT INTO backup VALUES (?1, ?2)", params![now_millis(), env!("CARGO_PKG_VERSION")])?;
        summary(&db)
    };
    run().map_err(|failure| db::explain(copy, &failure))
}

fn summary(db: &Connection) -> rusqlite::Result<Summary> {
    let count = |table: &str| {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    let made = match has_table(db, "backup")? {
        true => {
            db.query_row("SELECT taken, program FROM backup", [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
        }
        false => None,
    };
    let (taken, program) = made.unzip();
    Ok(Summary {
        events: count("event")?,
        pending: count("delivery")?,
        dead: count("dead")?,
        taken,
        program,
        renamed: 0,
    })
}

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

/// Restores a backup to a place where there is no journal, or an empty one.
///
/// # Errors
/// When there is another one, a server runs on it, or the file is no backup that this version can read.
pub(in super::super) fn restore(path: &Path, from: &Path) -> Result<Summary, JournalError> {
    create_folder(path)?;
    let path = &lock::resolve(path);
    let backup = Backup::open(from)?;
    let _lock = ServerLock::take(path)?;
    refuse_content(path)?;
    let partial = Partial::create(path)?;
    for file in [partial.path.clone(), with_end(path, ".lock")] {
        give_away(&file, folder(path));
    }
    let explain = |failure| db::explain(&partial.path, &failure);
    vacuum(&backup.db, &partial.path).map_err(|failure| db::explain(from, &failure))?;
    let mut db = db::open_plain(&partial.path).map_err(explain)?;
    schema::migrate(&mut db).map_err(|failure| schema::explain(&partial.path, failure))?;
    let renamed = rename(&mut db).map_err(explain)?;
    let summary = Summary { renamed, ..summary(&db).map_err(explain)? };
    db.execute_batch("DROP TABLE IF EXISTS backup").map_err(explain)?;
    db.close().map_err(|(_, failure)| explain(failure))?;
    partial.finish()?;
    Ok(summary)
}

/// The server of the folder has to be able to use what root has restored.
fn give_away(file: &Path, folder: &Path) {
    if let (Ok(file_now), Ok(folder)) = (fs::metadata(file), fs::metadata(folder))
        && (file_now.uid(), file_now.gid()) != (folder.uid(), folder.gid())
    {
        // Only root may; for others it is theirs already.
        let _ = chown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

/// A journal that has something in it is not replaced.
fn refuse_content(path: &Path) -> Result<(), JournalError> {
    if fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        let explain = |failure| db::explain(path, &failure);
        let db = db::open_known(path).map_err(explain)?;
        schema::check(&db).map_err(|failure| schema::explain(path, failure))?;
        if !is_empty(&db).map_err(explain)? {
            return Err(not_empty(&path.display().to_string(), "move its files (the file, -wal and -shm) away"));
        }
        // Nothing of it may be left beside the new file.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(explain)?;
        db.close().map_err(|(_, failure)| explain(failure))?;
    }
    for end in ["-wal", "-shm", "-journal"] {
        let left = with_end(path, end);
        if left.exists() {
            let (path, left) = (path.display(), left.display());
            return Err(JournalError::storage(format!(
                "{left} is there, which belongs to a journal {path}: move it away"
            )));
        }
    }
    Ok(())
}

/// The refusal to restore into a journal that is used.
pub(in super::super) fn not_empty(journal: &str, way: &str) -> JournalError {
    JournalError::storage(format!(
        "the journal {journal} is not empty, and a restore replaces nothing: {way}, or set another [journal] url"
    ))
}

/// What makes a journal one that is used. A server that only started has entered its observers, and may have got access tokens
/// and lists of addresses.
pub(in super::super) const CONTENT: &str = "
    SELECT EXISTS (SELECT 1 FROM event) OR EXISTS (SELECT 1 FROM dedupe) OR EXISTS (SELECT 1 FROM delivery)
        OR EXISTS (SELECT 1 FROM dead)
        OR EXISTS (SELECT 1 FROM slot WHERE value IS NOT NULL AND value <> '' AND name NOT LIKE 'token/%'
            AND name NOT LIKE 'source/%')";

fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(CONTENT, [], |row| row.get::<_, bool>(0)).map(|used| !used)
}

/// Gives each event the identity that its number is of; returns how many have got another one.
fn rename(db: &mut Connection) -> rusqlite::Result<u64> {
    let changes = db.transaction()?;
    let mut leases: HashMap<Uuid, Vec<String>> = HashMap::new();
    {
        let mut query = changes.prepare("SELECT name FROM slot")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if let Some(event) = name.rsplit('/').next().and_then(|end| Uuid::try_parse(end).ok()) {
                leases.entry(event).or_default().push(name);
            }
        }
    }
    // The latest first: a number is only ever higher than that of the identity, so that none is given to two at any time.
    let (mut renamed, mut before) = (0, i64::MAX);
    loop {
        let mut page = changes.prepare_cached("SELECT seq, id FROM event WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")?;
        let rows = page.query_map(params![before, MAX_EVENTS as i64], |row| Ok((row.get(0)?, db::uuid(row, 1)?)))?;
        let events: Vec<(i64, Uuid)> = rows.collect::<rusqlite::Result<_>>()?;
        let Some((last, _)) = events.last() else { break };
        before = *last;
        for (seq, id) in events.into_iter().filter(|(seq, id)| to_sql(number(*id)) != *seq) {
            let new = with_number(id, seq.cast_unsigned());
            changes
                .prepare_cached("UPDATE event SET id = ?2 WHERE seq = ?1")?
                .execute(params![seq, &new.as_bytes()[..]])?;
            for name in leases.remove(&id).unwrap_or_default() {
                let place = name.rfind('/').map_or(0, |at| at + 1);
                let end =
                    if name[place..].contains('-') { new.hyphenated().to_string() } else { new.simple().to_string() };
                let new = format!("{}{end}", &name[..place]);
                changes.prepare_cached("UPDATE slot SET name = ?2 WHERE name = ?1")?.execute([name, new])?;
            }
            renamed += 1;
        }
    }
    changes.commit()?;
    Ok(renamed)
}

/// A backup that is read. An older one is migrated in a copy.
pub(in super::super) struct Backup {
    pub(in super::super) db: Connection,
    /// Removed after the connection is closed.
    _copy: Option<Partial>,
}

impl Backup {
    /// Opens a file for reading; it stays as it is.
    ///
    /// # Errors
    /// When it is not there, is no journal, or one of a version that this one does not work with.
    pub(in super::super) fn open(path: &Path) -> Result<Self, JournalError> {
        let explain = |failure| db::explain(path, &failure);
        let name = path.display();
        if !path.is_file() {
            return Err(JournalError::storage(format!("{name} is not a file")));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(explain)?;
        let version = schema::version(&db).map_err(explain)?;
        if version.number == 0 || !has_table(&db, "event").map_err(explain)? {
            return Err(JournalError::storage(format!("{name} is not a backup of a journal")));
        }
        version.fit(KNOWN).map_err(|misfit| schema::explain(path, misfit.into()))?;
        let damage: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(explain)?;
        if damage != "ok" {
            return Err(JournalError::storage(format!("{name} is damaged: {damage}")));
        }
        Ok(Self { db, _copy: None })
    }

    /// The same with the tables of this version.
    ///
    /// # Errors
    /// The same, and when a copy cannot be made in the folder of temporary files.
    #[cfg(feature = "postgres")]
    pub(in super::super) fn open_current(path: &Path) -> Result<Self, JournalError> {
        let opened = Self::open(path)?;
        let explain = |failure| db::explain(path, &failure);
        if schema::version(&opened.db).map_err(explain)?.fit(KNOWN) != Ok(Fit::Older) {
            return Ok(opened);
        }
        let copy = Partial::create(&std::env::temp_dir().join(format!("echostr-{}.db", Uuid::now_v7())))?;
        vacuum(&opened.db, &copy.path).map_err(explain)?;
        let mut db = db::open_plain(&copy.path).map_err(explain)?;
        schema::migrate(&mut db).map_err(|failure| schema::explain(&copy.path, failure))?;
        Ok(Self { db, _copy: Some(copy) })
    }

    /// What is in it.
    #[cfg(feature = "postgres")]
    pub(in super::super) fn summary(&self) -> rusqlite::Result<Summary> {
        summary(&self.db)
    }
}
