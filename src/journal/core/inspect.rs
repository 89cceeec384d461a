//! What must be true of every journal, whatever its store: looked for by statements that are the same in each.

use super::{
    super::inspect::{Contents, Report},
    archive::observer_states,
    row::{self, Row, platform_of},
    session::{Dialect, Session},
};
use crate::platform::KEY;

/// Accounts that are looked at.
const MAX_ACCOUNTS: usize = 10_000;

/// Statements that count what must not be there, and what that is.
fn rules(dialect: &Dialect) -> Vec<(String, &'static str)> {
    let Dialect { event, of_event, .. } = dialect;
    let mut rules = Vec::new();
    for (table, of_events, of_observers) in [
        ("delivery", "pending observations of events that are not there", "pending observations of unknown observers"),
        ("dead", "dead letters of events that are not there", "dead letters of unknown observers"),
    ] {
        rules.push((
            format!(
                "SELECT count(*) FROM {table}
                 WHERE NOT EXISTS (SELECT 1 FROM event WHERE event.{event} = {table}.{of_event})"
            ),
            of_events,
        ));
        rules.push((
            format!(
                "SELECT count(*) FROM {table}
                 WHERE NOT EXISTS (SELECT 1 FROM observer WHERE observer.id = {table}.observer)"
            ),
            of_observers,
        ));
    }
    let joined = format!("FROM delivery JOIN event ON event.{event} = delivery.{of_event}");
    rules.push((
        format!("SELECT count(*) {joined} WHERE delivery.account <> event.account"),
        "pending observations have another account than their event",
    ));
    rules.push((
        format!(
            "SELECT count(*) FROM delivery JOIN dead
                 ON dead.observer = delivery.observer AND dead.{of_event} = delivery.{of_event}"
        ),
        "observations are pending and dead letters at the same time",
    ));
    rules.push((
        "SELECT count(*) FROM delivery JOIN observer ON observer.id = delivery.observer
         WHERE observer.in_order AND delivery.lane IS NULL"
            .to_owned(),
        "pending observations of an observer in order have no ordering key, so it never gets them",
    ));
    rules.push((
        format!(
            "SELECT count(*) FROM (SELECT observer, {of_event} FROM delivery GROUP BY observer, {of_event}
                                   HAVING count(*) > 1) AS double"
        ),
        "observations are pending more than once",
    ));
    for (condition, what) in [
        ("form NOT IN (0, 1)", "events are in a form that this version does not know"),
        ("state NOT IN (0, 1, 2, 3)", "events are in a state that this version does not know"),
        ("deliveries < 1", "events have a count of deliveries that is no count"),
    ] {
        rules.push((format!("SELECT count(*) FROM event WHERE {condition}"), what));
    }
    for (table, what) in [
        ("delivery", "pending observations have a number of attempts that is no number of attempts"),
        ("dead", "dead letters have a number of attempts that is no number of attempts"),
    ] {
        rules.push((format!("SELECT count(*) FROM {table} WHERE attempts < 0"), what));
    }
    rules.push((
        format!("SELECT count(*) FROM dedupe WHERE length(key) <> {KEY}"),
        "keys of events have another length than a key has",
    ));
    rules
}

/// Looks for what must not be there, and counts what is there.
pub(crate) async fn inspect<S: Session>(session: &mut S, report: &mut Report) -> Result<(), S::Failure> {
    for (statement, what) in rules(&S::DIALECT) {
        let count = number(session, &statement).await?;
        report.found(count, what);
    }
    let accounts = format!("SELECT DISTINCT account FROM event LIMIT {MAX_ACCOUNTS}");
    for account in session.query(&accounts, &[], |row| row.string(0)).await? {
        if platform_of(uuid::Uuid::nil(), &account).is_err() {
            report
                .problems
                .push(format!("events are of the account `{account}`, whose platform this version does not know"));
        }
    }
    let event = S::DIALECT.event;
    let received = |order| format!("SELECT received FROM event ORDER BY {event} {order} LIMIT 1");
    let read = |row: &dyn Row| row.integer(0);
    report.contents = Some(Contents {
        events: number(session, "SELECT count(*) FROM event").await?,
        unanswered: number(session, "SELECT count(*) FROM event WHERE state = 0").await?,
        oldest: session.query(&received("ASC"), &[], read).await?.pop(),
        newest: session.query(&received("DESC"), &[], read).await?.pop(),
        keys: number(session, "SELECT count(*) FROM dedupe").await?,
        leases: number(session, "SELECT count(*) FROM slot").await?,
        observers: session.query(&observer_states(&S::DIALECT, ""), &[], row::observer_state).await?,
    });
    Ok(())
}

/// The number that a statement returns.
pub(crate) async fn number<S: Session>(session: &mut S, statement: &str) -> Result<u64, S::Failure> {
    let found = session.query(statement, &[], |row| row.integer(0)).await?;
    Ok(found.first().copied().unwrap_or_default().cast_unsigned())
}
