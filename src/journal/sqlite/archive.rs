//! What the command line asks, beside a running server or without one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, TransactionBehavior, params, params_from_iter};
use uuid::Uuid;

use super::{
    super::{
        Archive, DeadLetter, Delivery, DeliveryState, Filter, JournalError, Stored, Task,
        id::{number, number_at},
        now_millis,
    },
    db, read, schema,
    writer::{lane, offer},
};

/// The file, for looking at and for replays.
#[derive(Debug)]
pub struct SqliteArchive {
    path: PathBuf,
    db: Arc<Mutex<Connection>>,
}

impl SqliteArchive {
    /// Opens the file; a server may run on it.
    ///
    /// # Errors
    /// When it is not there, or is no journal of this version.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = db::open_known(path).map_err(|failure| db::explain(path, &failure))?;
        schema::check(&connection).map_err(|failure| schema::explain(path, failure))?;
        Ok(Self { path: path.to_owned(), db: Arc::new(Mutex::new(connection)) })
    }

    fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Task<'_, T> {
        Box::pin(read(Arc::clone(&self.db), self.path.clone(), query))
    }

    /// Changes something in a transaction of its own.
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Task<'_, T> {
        self.query(move |db| {
            let transaction = rusqlite::Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }
}

/// The conditions of a filter, and what they are compared with.
struct Conditions {
    text: String,
    values: Vec<Box<dyn ToSql + Send>>,
}

impl Conditions {
    fn new() -> Self {
        Self { text: "1".to_owned(), values: Vec::new() }
    }

    fn of(filter: &Filter) -> Self {
        let Filter { platform, account, event_type, subject, since, until, state, observer } = filter;
        let mut conditions = Self::new();
        if let Some(platform) = platform {
            conditions.add("substr(account, 1, length(?) + 1) = ? || '/'", platform.as_str());
        }
        if let Some(account) = account {
            conditions.add("account = ?", account.clone());
        }
        match event_type.as_deref().map(|wanted| (wanted, wanted.strip_suffix('*'))) {
            Some((_, Some(prefix))) => conditions.add("substr(type, 1, length(?)) = ?", prefix.to_owned()),
            Some((wanted, None)) => conditions.add("type = ?", wanted.to_owned()),
            None => {}
        }
        if let Some(subject) = subject {
            conditions.add("subject = ?", subject.clone());
        }
        if let Some(since) = *since {
            // An identity is made after the event has come, so this finds the place in the file.
            conditions.add("event.seq >= ?", db::to_sql(number_at(since)));
            conditions.add("received >= ?", since);
        }
        if let Some(until) = *until {
            conditions.add("received < ?", until);
        }
        if let Some(state) = *state {
            conditions.add("state = ?", db::state(state));
        }
        if let Some(observer) = observer {
            conditions.add("observer.name = ?", observer.clone());
        }
        conditions
    }

    /// Adds a condition on one value, which it may name more than once.
    fn add(&mut self, condition: &str, value: impl ToSql + Send + 'static) {
        let number = format!("?{}", self.values.len() + 1);
        self.text.push_str(" AND ");
        self.text.push_str(&condition.replace('?', &number));
        self.values.push(Box::new(value));
    }

    fn events(self, db: &Connection, order: &str, limit: usize) -> rusqlite::Result<Vec<Stored>> {
        let text = format!("SELECT {} FROM event WHERE {} ORDER BY seq {order} LIMIT {limit}", db::EVENT, self.text);
        let mut query = db.prepare(&text)?;
        query.query_map(params_from_iter(self.values.iter()), db::stored)?.collect()
    }
}

impl Archive for SqliteArchive {
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>> {
        let mut conditions = Conditions::of(filter);
        if let Some(after) = after {
            conditions.add("seq > ?", db::to_sql(number(after)));
        }
        self.query(move |db| conditions.events(db, "ASC", limit))
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>> {
        let conditions = Conditions::of(filter);
        self.query(move |db| {
            let mut events = conditions.events(db, "DESC", limit)?;
            events.reverse();
            Ok(events)
        })
    }

    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>> {
        self.query(move |db| {
            let text = format!("SELECT {} FROM event WHERE seq = ?1 AND id = ?2", db::EVENT);
            db.query_row(&text, params![db::to_sql(number(id)), id.as_bytes()], db::stored).optional()
        })
    }

    fn deliveries(&self, id: Uuid) -> Task<'_, Vec<Delivery>> {
        self.query(move |db| {
            let seq = db::to_sql(number(id));
            let wanted: Option<Option<String>> =
                db.query_row("SELECT observers FROM event WHERE seq = ?1", [seq], |row| row.get(0)).optional()?;
            let wanted = wanted.flatten().unwrap_or_default();
            let mut query = db.prepare(
                "SELECT name, observer.id, due, leased, died, coalesce(delivery.attempts, dead.attempts, 0),
                        coalesce(delivery.error, dead.error)
                 FROM observer LEFT JOIN delivery ON delivery.observer = observer.id AND delivery.seq = ?1
                               LEFT JOIN dead ON dead.observer = observer.id AND dead.seq = ?1
                 ORDER BY name",
            )?;
            let rows = query.query_map([seq], |row| {
                let (due, leased, died): (Option<i64>, Option<bool>, Option<i64>) =
                    (row.get(2)?, row.get(3)?, row.get(4)?);
                let id: i64 = row.get(1)?;
                let state = match (due, leased, died) {
                    (Some(due), Some(true), _) => Some(DeliveryState::Leased(due)),
                    (Some(due), _, _) => Some(DeliveryState::Waiting(due)),
                    (None, _, Some(died)) => Some(DeliveryState::Dead(died)),
                    _ => wanted.split(',').any(|it| it.parse() == Ok(id)).then_some(DeliveryState::Done),
                };
                let delivery =
                    |state| Ok(Delivery { observer: row.get(0)?, state, attempts: row.get(5)?, error: row.get(6)? });
                state.map(delivery).transpose()
            })?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    fn observers(&self) -> Task<'_, Vec<String>> {
        self.query(|db| {
            db.prepare("SELECT name FROM observer ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
        })
    }

    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64> {
        let observer = observer.to_owned();
        self.change(move |db| {
            let Some(id) = observer_id(db, &observer)? else { return Ok(0) };
            events.into_iter().try_fold(0, |count, event| Ok(count + u64::from(replay(db, id, event)?)))
        })
    }

    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        let mut conditions = Conditions::of(filter);
        if let Some((id, name)) = after {
            let seq = db::to_sql(number(id));
            conditions.add("event.seq >= ?", seq);
            conditions.add(&format!("(event.seq > {seq} OR observer.name > ?)"), name);
        }
        self.query(move |db| {
            let text = format!(
                "SELECT {}, observer.name, dead.attempts, dead.error, dead.died
                 FROM dead JOIN event USING (seq) JOIN observer ON observer.id = dead.observer
                 WHERE {} ORDER BY dead.seq, observer.name LIMIT {limit}",
                db::EVENT,
                conditions.text
            );
            let mut query = db.prepare(&text)?;
            query.query_map(params_from_iter(conditions.values.iter()), dead_letter)?.collect()
        })
    }

    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(move |db| {
            letters.into_iter().try_fold(0, |count, (event, observer)| {
                let Some(id) = observer_id(db, &observer)? else { return Ok(count) };
                if !drop_letter(db, id, event)? {
                    return Ok(count);
                }
                Ok(count + u64::from(replay(db, id, event)?))
            })
        })
    }

    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(move |db| {
            letters.into_iter().try_fold(0, |count, (event, observer)| {
                let Some(id) = observer_id(db, &observer)? else { return Ok(count) };
                let dropped = drop_letter(db, id, event)?;
                if dropped {
                    forget(db, id, db::to_sql(number(event)))?;
                }
                Ok(count + u64::from(dropped))
            })
        })
    }
}

fn observer_id(db: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM observer WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

fn drop_letter(db: &Connection, observer: i64, event: Uuid) -> rusqlite::Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM dead WHERE seq = ?1 AND observer = ?2")?;
    Ok(delete.execute(params![db::to_sql(number(event)), observer])? > 0)
}

/// Takes an observer from those that an event is for: it has not seen it, and never will.
pub(super) fn forget(db: &Connection, observer: i64, seq: i64) -> rusqlite::Result<()> {
    let wanted: Option<Option<String>> =
        db.query_row("SELECT observers FROM event WHERE seq = ?1", [seq], |row| row.get(0)).optional()?;
    let wanted = wanted.flatten().unwrap_or_default();
    let rest: Vec<&str> = wanted.split(',').filter(|id| !id.is_empty() && id.parse() != Ok(observer)).collect();
    let rest = (!rest.is_empty()).then(|| rest.join(","));
    db.execute("UPDATE event SET observers = ?2 WHERE seq = ?1", params![seq, rest])?;
    Ok(())
}

/// Adds a delivery that waits, unless there is one; says whether it did.
fn replay(db: &Connection, observer: i64, event: Uuid) -> rusqlite::Result<bool> {
    let seq = db::to_sql(number(event));
    let mut query = db.prepare_cached("SELECT subject, observers, account FROM event WHERE seq = ?1 AND id = ?2")?;
    let found: Option<(Option<String>, Option<String>, String)> = query
        .query_row(params![seq, event.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((subject, observers, account)) = found else { return Ok(false) };
    if db.prepare_cached("SELECT 1 FROM delivery WHERE observer = ?1 AND seq = ?2")?.exists(params![observer, seq])? {
        return Ok(false);
    }
    drop_letter(db, observer, event)?;
    let mut order = db.prepare_cached("SELECT in_order FROM observer WHERE id = ?1")?;
    let in_order: bool = order.query_row([observer], |row| row.get(0))?;
    let lane = in_order.then(|| lane(subject.as_deref(), seq));
    offer(db, observer, &account, now_millis(), seq, lane.as_deref())?;
    let observers = observers.unwrap_or_default();
    if !observers.split(',').any(|id| id.parse() == Ok(observer)) {
        let observers = if observers.is_empty() { observer.to_string() } else { format!("{observers},{observer}") };
        db.prepare_cached("UPDATE event SET observers = ?2 WHERE seq = ?1")?.execute(params![seq, observers])?;
    }
    Ok(true)
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let column = |at: usize| db::EVENT_COLUMNS + at;
    Ok(DeadLetter {
        event: db::stored(row)?,
        observer: row.get(column(0))?,
        attempts: row.get(column(1))?,
        error: row.get(column(2))?,
        died: row.get(column(3))?,
    })
}
