//! Whether the database is whole.

use tokio_postgres::{IsolationLevel, Transaction};

use super::{
    super::{JournalError, core::inspect, inspect::Report},
    db::Failure,
    pool::Pool,
    schema::{self, KNOWN},
};

/// Statements that count what must not be there, and what that is.
const RULES: [(&str, &str); 3] = [
    (
        "SELECT count(*) FROM pg_index
         WHERE NOT indisvalid AND indrelid IN ('event'::regclass, 'dedupe'::regclass, 'observer'::regclass, 'delivery'::regclass,
                                               'dead'::regclass, 'slot'::regclass, 'used_query'::regclass)",
        "indexes are not valid: REINDEX them",
    ),
    ("SELECT count(*) FROM used_query WHERE length(signature) <> 20", "used queries have no signature"),
    (
        "SELECT count(*) FROM observer
         WHERE id > coalesce(pg_sequence_last_value(pg_get_serial_sequence('observer', 'id')::regclass), 0)",
        "observers have ids that the next observers would get, too",
    ),
];

/// Checks the database, and changes nothing; servers may run on it.
///
/// # Errors
/// When it cannot be reached, or has no journal.
pub(in super::super) async fn inspect(url: &str) -> Result<Report, JournalError> {
    look(url).await.map_err(|failure| failure.explain())
}

async fn look(url: &str) -> Result<Report, Failure> {
    let mut db = Pool::new(url).map_err(Failure::Journal)?.connect().await?;
    // It reads every row.
    db.client.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
    let moment = db.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let mut moment = moment.start().await?;
    let mut report = Report::default();
    let version = schema::version(&moment).await?;
    report.schema = version.map(|version| version.number);
    if let Some(version) = version
        && let Err(misfit) = version.check(KNOWN)
    {
        let list = if version.number > KNOWN { &mut report.problems } else { &mut report.notes };
        list.push(format!("{misfit}; nothing else was checked"));
        return Ok(report);
    }
    schema::check(&moment).await?;
    inspect::inspect(&mut moment, &mut report).await?;
    own(&moment, &mut report).await?;
    Ok(report)
}

async fn own(moment: &Transaction<'_>, report: &mut Report) -> Result<(), Failure> {
    for (statement, what) in RULES {
        let count: i64 = moment.query_one(statement, &[]).await?.try_get(0)?;
        report.found(count.cast_unsigned(), what);
    }
    Ok(())
}
