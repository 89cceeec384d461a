//! Tables, and the steps from one version of them to the next.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Result, Transaction};

use super::{
    super::{
        JournalError,
        core::{Fit, Misfit, Version},
    },
    db,
};

/// Each step is one version; a step that was released never changes. One that only adds (tables, columns with a default) says in
/// `echostr_version` that programs of the version before still work with it: they name the columns that they write.
const STEPS: [&str; 3] = [
    "
    -- In the order of arrival: `seq` is time and counter of the identity (see `id.rs`), so new rows go to the end.
    CREATE TABLE event (
        seq        INTEGER PRIMARY KEY,
        id         BLOB NOT NULL,
        account    TEXT NOT NULL,
        type       TEXT NOT NULL,
        subject    TEXT,
        form       INTEGER NOT NULL,  -- 0 XML, 1 JSON
        payload    TEXT NOT NULL,
        query      TEXT,
        received   INTEGER NOT NULL,  -- milliseconds
        deliveries INTEGER NOT NULL,
        state      INTEGER NOT NULL,  -- 0 responding, 1 answered, 2 defaulted, 3 late
        reply      TEXT,              -- NULL: the plain success
        failure    TEXT,
        observers  TEXT               -- ids of those that wanted it, with commas; not of one whose dead letter was dropped
    );
    -- Keys begin with the time in the payload, so that those of today are neighbours.
    CREATE TABLE dedupe (
        key   BLOB PRIMARY KEY,
        seq   INTEGER NOT NULL,
        until INTEGER                 -- NULL: for good
    ) WITHOUT ROWID;
    CREATE TABLE observer (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        name     TEXT NOT NULL UNIQUE,
        in_order INTEGER NOT NULL,
        -- Events up to `backfill_to` that it has still to be given, from `backfill` on.
        backfill    INTEGER,
        backfill_to INTEGER
    );
    -- What is not done. `due` is when it may be taken: at once, after a pause, or when a lease is over.
    CREATE TABLE delivery (
        observer INTEGER NOT NULL,
        due      INTEGER NOT NULL,    -- milliseconds
        seq      INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        leased   INTEGER NOT NULL,
        lane     TEXT,                -- for observers in order: the subject
        error    TEXT,
        PRIMARY KEY (observer, due, seq)
    ) WITHOUT ROWID;
    CREATE INDEX delivery_lane ON delivery (observer, lane, seq) WHERE lane IS NOT NULL;
    CREATE INDEX delivery_leased ON delivery (observer, lane) WHERE leased = 1 AND lane IS NOT NULL;
    CREATE TABLE dead (
        seq      INTEGER NOT NULL,
        observer INTEGER NOT NULL,
        died     INTEGER NOT NULL,    -- milliseconds
        attempts INTEGER NOT NULL,
        error    TEXT NOT NULL,
        PRIMARY KEY (seq, observer)
    ) WITHOUT ROWID;
    CREATE TABLE probe (id INTEGER PRIMARY KEY, count INTEGER NOT NULL);
    INSERT INTO probe VALUES (1, 0);
",
    "
    -- What outlives a process and is no event.
    CREATE TABLE slot (
        name    TEXT PRIMARY KEY,
        value   TEXT,
        fence   INTEGER NOT NULL,     -- number of the latest hold
        until   INTEGER NOT NULL,     -- milliseconds: when the hold is over
        expires INTEGER               -- milliseconds; NULL: never
    ) WITHOUT ROWID;
",
    "
    -- Signed queries that were used, those of a commit in a row.
    CREATE TABLE used_query (
        count   INTEGER PRIMARY KEY,  -- of the queries up to this row: new rows go to the end
        until   INTEGER NOT NULL,     -- milliseconds: when they may be forgotten
        queries BLOB NOT NULL         -- 28 bytes each: the signature, and the hash of the body
    );
    -- By account, so that what waits of one is passed over at no cost while there is no room for more of it. Lanes are of
    -- one account, too: two may know different users by one name.
    CREATE TABLE delivery_by_account (
        observer INTEGER NOT NULL,
        account  TEXT NOT NULL,
        due      INTEGER NOT NULL,    -- milliseconds
        seq      INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        leased   INTEGER NOT NULL,
        lane     TEXT,                -- for observers in order: the subject
        error    TEXT,
        PRIMARY KEY (observer, account, due, seq)
    ) WITHOUT ROWID;
    INSERT INTO delivery_by_account
        SELECT observer, coalesce((SELECT account FROM event WHERE event.seq = delivery.seq), ''), due, seq, attempts,
               leased, lane, error
        FROM delivery;
    DROP TABLE delivery;
    ALTER TABLE delivery_by_account RENAME TO delivery;
    CREATE INDEX delivery_lane ON delivery (observer, account, lane, seq) WHERE lane IS NOT NULL;
    CREATE INDEX delivery_leased ON delivery (observer, account, lane) WHERE leased = 1 AND lane IS NOT NULL;
    -- Milliseconds: when a server first started without it. What is left of it is kept for the retention.
    ALTER TABLE observer ADD COLUMN missing_since INTEGER;
",
];

/// The version that this program knows.
pub(super) const KNOWN: usize = STEPS.len();

/// Migrates the tables.
///
/// # Errors
/// When the file was written by a later version that this one does not work with, or SQLite fails.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Migration> {
    // A reader must not wait for a server that writes.
    if version(db)?.fit(KNOWN)? != Fit::Older {
        return Ok(());
    }
    let steps = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version = version(&steps)?;
    version.fit(KNOWN)?;
    for (at, step) in STEPS.iter().enumerate().skip(version.number) {
        apply(&steps, at + 1, step)?;
    }
    steps.commit()?;
    Ok(())
}

/// Checks that this program works with the tables, and changes nothing.
///
/// # Errors
/// When it does not, or there are none.
pub(super) fn check(db: &Connection) -> Result<(), Migration> {
    Ok(version(db)?.check(KNOWN)?)
}

/// The version of the tables. The step that needs it makes the table `echostr_version (compatible)`, with the version of the
/// oldest program that works with what it has made; without it that is the version itself.
pub(super) fn version(db: &Connection) -> Result<Version> {
    let number: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let is_said = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'echostr_version'";
    let compatible = match db.prepare(is_said)?.exists([])? {
        true => db.query_row("SELECT compatible FROM echostr_version", [], |row| row.get::<_, u32>(0)).optional()?,
        false => None,
    };
    Ok(Version { number, compatible: compatible.map_or(number, |version| version as usize) })
}

fn apply(db: &Transaction<'_>, version: usize, step: &str) -> Result<()> {
    db.execute_batch(step)?;
    db.pragma_update(None, "user_version", version as i64)
}

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Migration {
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The error for the operator.
pub(super) fn explain(path: &Path, failure: Migration) -> JournalError {
    match failure {
        Migration::Sqlite(failure) => db::explain(path, &failure),
        Migration::Misfit(misfit) => misfit.explain(&format!("{}: ", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rusqlite::Connection;

    use super::{STEPS, apply, migrate, version};

    #[test]
    fn what_waits_is_kept_and_has_its_account() {
        let mut db = Connection::open_in_memory().unwrap();
        let steps = db.transaction().unwrap();
        apply(&steps, 1, STEPS[0]).unwrap();
        apply(&steps, 2, STEPS[1]).unwrap();
        steps.commit().unwrap();
        db.execute_batch(
            "INSERT INTO event VALUES (7, x'00', 'mp/shop', 't', 'anna', 0, '', NULL, 0, 1, 0, NULL, NULL, '1');
             INSERT INTO delivery VALUES (1, 100, 7, 3, 1, 'anna', 'no luck');
             INSERT INTO delivery VALUES (2, 200, 7, 0, 0, NULL, NULL);
             INSERT INTO delivery VALUES (1, 300, 8, 0, 0, ' 8', NULL);",
        )
        .unwrap();
        migrate(&mut db).unwrap();
        assert_eq!(version(&db).unwrap().number, STEPS.len());
        let mut query = db
            .prepare(
                "SELECT observer || ' ' || account || ' ' || due || ' ' || seq || ' ' || attempts || ' ' || leased
                             || ' ' || coalesce(lane, '-') || ' ' || coalesce(error, '-')
                      FROM delivery ORDER BY due",
            )
            .unwrap();
        let rows: Vec<String> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows, ["1 mp/shop 100 7 3 1 anna no luck", "2 mp/shop 200 7 0 0 - -", "1  300 8 0 0  8 -"]);
    }
}
