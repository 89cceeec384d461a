//! What the command line asks, beside running servers or without one.

use std::{fmt, future::Future, sync::Arc};

use tokio_postgres::{Row, Transaction, types::ToSql};
use uuid::Uuid;

use super::{
    super::{Archive, DeadLetter, Delivery, DeliveryState, Filter, JournalError, Stored, Task},
    db::{self, Failure, Pool, event_columns, lane, limited, now},
    schema::{self, LOCK, UPKEEP},
};

/// The database, for looking at and for replays. It connects when it is asked.
pub struct PostgresArchive {
    pool: Arc<Pool>,
}

impl fmt::Debug for PostgresArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresArchive").finish_non_exhaustive()
    }
}

/// The conditions of a filter, and what they are compared with.
struct Conditions {
    text: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    fn of(filter: &Filter) -> Self {
        let Filter { platform, account, event_type, subject, since, until, state, observer } = filter;
        let mut conditions = Self { text: "true".to_owned(), values: Vec::new() };
        if let Some(platform) = platform {
            conditions.add("starts_with(event.account, ?)", format!("{}/", platform.as_str()));
        }
        if let Some(account) = account {
            conditions.add("event.account = ?", db::text(account));
        }
        match event_type.as_deref().map(|wanted| (wanted, wanted.strip_suffix('*'))) {
            Some((_, Some(prefix))) => conditions.add("starts_with(event.type, ?)", db::text(prefix)),
            Some((wanted, None)) => conditions.add("event.type = ?", db::text(wanted)),
            None => {}
        }
        if let Some(subject) = subject {
            conditions.add("event.subject = ?", subject.clone().into_bytes());
        }
        if let Some(since) = *since {
            conditions.add("event.received >= ?", since);
        }
        if let Some(until) = *until {
            conditions.add("event.received < ?", until);
        }
        if let Some(state) = *state {
            conditions.add("event.state = ?", db::state(state));
        }
        if let Some(observer) = observer {
            conditions.add("observer.name = ?", db::text(observer));
        }
        conditions
    }

    /// Adds a condition on one value.
    fn add(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.text.push_str(" AND ");
        self.text.push_str(&condition.replace('?', &format!("${}", self.values.len() + 1)));
        self.values.push(Box::new(value));
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }

    fn events(&self, order: &str, limit: usize) -> String {
        format!("SELECT {} FROM event WHERE {} ORDER BY event.id {order} LIMIT {limit}", event_columns!(), self.text)
    }
}

impl PostgresArchive {
    /// Reads the URL; connects when it is asked.
    ///
    /// # Errors
    /// When the URL cannot be read, or asks for TLS.
    pub fn open(url: &str) -> Result<Self, JournalError> {
        Ok(Self { pool: Arc::new(Pool::new(url)?) })
    }

    /// Runs a query.
    async fn rows(&self, text: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        let mut db = self.pool.get().await?;
        migrate(&mut db).await?;
        let rows = db.client.query(text, values).await?;
        db.done();
        Ok(rows)
    }

    /// Changes one row after the other in a transaction; says how many were changed.
    async fn change(&self, change: Change, letters: Vec<(Uuid, String)>) -> Result<u64, Failure> {
        let mut db = self.pool.get().await?;
        migrate(&mut db).await?;
        let changes = db.client.transaction().await?;
        // Nothing is removed meanwhile that has just been looked at.
        changes.execute("SELECT pg_advisory_xact_lock_shared($1, $2)", &[&LOCK, &UPKEEP]).await?;
        let mut count = 0;
        for (event, name) in letters {
            count += u64::from(change.apply(&changes, event, &name).await?);
        }
        changes.commit().await?;
        db.done();
        Ok(count)
    }
}

/// A database that no server has used yet has no tables.
async fn migrate(db: &mut db::Connection) -> Result<(), Failure> {
    let there = db.client.query_one("SELECT to_regclass('echostr_version') IS NOT NULL", &[]).await?;
    if there.try_get(0)? {
        return Ok(());
    }
    let changes = db.client.transaction().await?;
    schema::migrate(&changes).await?;
    changes.commit().await?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Change {
    Replay,
    Revive,
    DropDead,
}

const OFFER: &str = concat!(
    "WITH told AS (
        UPDATE event SET observers = CASE WHEN event.observers @> ARRAY[observer.id] THEN event.observers
                                          ELSE event.observers || observer.id END
        FROM observer WHERE event.id = $1 AND observer.name = $2
        RETURNING event.id, event.account, event.subject, observer.id AS observer, observer.in_order
    )
    INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
    SELECT told.observer, told.account, ",
    now!(),
    ", told.id, 0, false, CASE WHEN told.in_order THEN ",
    lane!("told"),
    " END FROM told
    ON CONFLICT (event, observer) DO NOTHING"
);

impl Change {
    async fn apply(self, changes: &Transaction<'_>, event: Uuid, name: &str) -> Result<bool, Failure> {
        let drop_letter = "DELETE FROM dead USING observer WHERE event = $1 AND observer = observer.id AND name = $2";
        let name = db::text(name);
        if matches!(self, Self::Replay) {
            let offered = changes.execute(OFFER, &[&event, &name]).await? > 0;
            if offered {
                changes.execute(drop_letter, &[&event, &name]).await?;
            }
            return Ok(offered);
        }
        let dropped = changes.execute(drop_letter, &[&event, &name]).await? > 0;
        if matches!(self, Self::DropDead) && dropped {
            // It has not seen the event, and never will.
            let forget = "UPDATE event SET observers = array_remove(event.observers, observer.id)
                          FROM observer WHERE event.id = $1 AND observer.name = $2";
            changes.execute(forget, &[&event, &name]).await?;
        }
        match self {
            Self::Revive if dropped => Ok(changes.execute(OFFER, &[&event, &name]).await? > 0),
            _ => Ok(dropped),
        }
    }
}

/// A task that is over within the time limit, with an error that says what is wrong.
fn task<'j, T>(work: impl Future<Output = Result<T, Failure>> + Send + 'j) -> Task<'j, T> {
    Box::pin(async move { limited(work).await.map_err(|failure| failure.explain()) })
}

impl Archive for PostgresArchive {
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>> {
        let mut conditions = Conditions::of(filter);
        if let Some(after) = after {
            conditions.add("event.id > ?", after);
        }
        task(async move {
            let rows = self.rows(&conditions.events("ASC", limit), &conditions.values()).await?;
            rows.iter().map(db::stored).collect()
        })
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>> {
        let conditions = Conditions::of(filter);
        task(async move {
            let rows = self.rows(&conditions.events("DESC", limit), &conditions.values()).await?;
            rows.iter().rev().map(db::stored).collect()
        })
    }

    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>> {
        task(async move {
            let text = concat!("SELECT ", event_columns!(), " FROM event WHERE event.id = $1");
            let rows = self.rows(text, &[&id]).await?;
            rows.first().map(db::stored).transpose()
        })
    }

    fn deliveries(&self, id: Uuid) -> Task<'_, Vec<Delivery>> {
        const DELIVERIES: &str = "
            SELECT name, delivery.due, delivery.leased, dead.died,
                   coalesce(delivery.attempts, dead.attempts, 0), coalesce(delivery.error, dead.error)
            FROM observer LEFT JOIN delivery ON delivery.observer = observer.id AND delivery.event = $1
                          LEFT JOIN dead ON dead.observer = observer.id AND dead.event = $1
            WHERE delivery.event IS NOT NULL OR dead.event IS NOT NULL
               OR EXISTS (SELECT 1 FROM event WHERE event.id = $1 AND observer.id = ANY(event.observers))
            ORDER BY name COLLATE \"C\"";
        task(async move {
            let rows = self.rows(DELIVERIES, &[&id]).await?;
            let delivery = |row: &Row| {
                let due: Option<i64> = row.try_get(1)?;
                let state = match (due, row.try_get::<_, Option<bool>>(2)?, row.try_get::<_, Option<i64>>(3)?) {
                    (Some(due), Some(true), _) => DeliveryState::Leased(due),
                    (Some(due), _, _) => DeliveryState::Waiting(due),
                    (None, _, Some(died)) => DeliveryState::Dead(died),
                    _ => DeliveryState::Done,
                };
                let attempts = db::count(row.try_get(4)?);
                Ok(Delivery { observer: row.try_get(0)?, state, attempts, error: row.try_get(5)? })
            };
            rows.iter().map(delivery).collect()
        })
    }

    fn observers(&self) -> Task<'_, Vec<String>> {
        task(async move {
            let rows = self.rows("SELECT name FROM observer ORDER BY name COLLATE \"C\"", &[]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
    }

    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64> {
        let letters = events.into_iter().map(|event| (event, observer.to_owned())).collect();
        task(self.change(Change::Replay, letters))
    }

    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let mut conditions = Conditions::of(filter);
        if let Some((id, name)) = after {
            conditions.add("event.id >= ?", id);
            let condition = format!("(event.id > '{id}' OR observer.name COLLATE \"C\" > ?)");
            conditions.add(&condition, db::text(&name));
        }
        task(async move {
            let text = format!(
                "SELECT {}, observer.name, dead.attempts, dead.error, dead.died
                 FROM dead JOIN event ON event.id = dead.event JOIN observer ON observer.id = dead.observer
                 WHERE {} ORDER BY dead.event, observer.name COLLATE \"C\" LIMIT {limit}",
                event_columns!(),
                conditions.text
            );
            let rows = self.rows(&text, &conditions.values()).await?;
            rows.iter().map(dead_letter).collect()
        })
    }

    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        task(self.change(Change::Revive, letters))
    }

    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        task(self.change(Change::DropDead, letters))
    }
}

fn dead_letter(row: &Row) -> Result<DeadLetter, Failure> {
    let column = |at: usize| db::EVENT_COLUMNS + at;
    Ok(DeadLetter {
        event: db::stored(row)?,
        observer: row.try_get(column(0))?,
        attempts: db::count(row.try_get(column(1))?),
        error: row.try_get(column(2))?,
        died: row.try_get(column(3))?,
    })
}
