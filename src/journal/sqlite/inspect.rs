//! Whether the file is whole.

use std::path::Path;

use rusqlite::Connection;

use super::{
    super::{
        JournalError,
        core::{at_once, inspect},
        id::number,
        inspect::Report,
        now_millis,
    },
    db::{self, File},
    queries::QUERY_BYTES,
    schema,
};

/// Faults of the file that are named, at most.
const MAX_FAULTS: usize = 20;

/// Checks the file, and changes nothing; a server may run on it.
///
/// # Errors
/// When it is not there, or is not a database.
pub(in super::super) fn inspect(path: &Path) -> Result<Report, JournalError> {
    if !path.exists() {
        return Err(db::absent(path));
    }
    let explain = |failure| db::explain(path, &failure);
    let connection = db::open_known(path).map_err(explain)?;
    connection.pragma_update(None, "query_only", true).map_err(explain)?;
    let mut report = Report::default();
    // All of it at one moment.
    let moment = connection.unchecked_transaction().map_err(explain)?;
    report.problems.extend(faults(&moment).map_err(explain)?);
    let version = schema::version(&moment).map_err(explain)?;
    report.schema = Some(version.number);
    if let Err(misfit) = version.check(schema::KNOWN) {
        let list = if version.number > schema::KNOWN { &mut report.problems } else { &mut report.notes };
        list.push(format!("{misfit}; only the file itself was checked"));
        return Ok(report);
    }
    if let Err(failure) = look(&moment, &mut report) {
        report.problems.push(explain(failure).to_string());
    }
    Ok(report)
}

/// What SQLite finds.
fn faults(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = db.prepare(&format!("PRAGMA integrity_check({MAX_FAULTS})"))?;
    let rows = check.query_map([], |row| row.get::<_, String>(0))?;
    let faults: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(faults.into_iter().filter(|fault| fault != "ok").map(|fault| format!("the file is damaged: {fault}")).collect())
}

fn look(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    at_once(inspect::inspect(&mut File { db, now: now_millis() }, report))?;
    let cut = format!("SELECT count(*) FROM used_query WHERE length(queries) % {QUERY_BYTES} <> 0");
    report.found(db.query_row(&cut, [], |row| row.get(0)).map(i64::cast_unsigned)?, "rows of used queries are cut off");
    report.found(misplaced(db)?, "events are at another place than their identity says");
    Ok(())
}

/// Events are found by the number that follows from their identity.
fn misplaced(db: &Connection) -> rusqlite::Result<u64> {
    let mut query = db.prepare("SELECT seq, id FROM event")?;
    let mut rows = query.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let id = db::uuid(row, 1)?;
        count += u64::from(db::to_sql(number(id)) != row.get::<_, i64>(0)?);
    }
    Ok(count)
}
