//! The archive of a store: filters, and the statements of the command line.

use std::fmt;

use uuid::Uuid;

use super::{
    super::{Archive, DeadLetter, Filter, Observation, ObserverState, Page, Place, Stored, Task},
    row::{self, event_columns, state_number},
    session::{Dialect, Read, Value},
    steps::Change,
};

/// Events that are replayed to all of their observers in one transaction.
const EVENTS_TO_ALL: usize = 100;

/// A store that the command line reads. The tables and columns that are named here are the same in each.
pub(crate) trait ArchiveStore: fmt::Debug + Send + Sync {
    const DIALECT: Dialect;

    /// Runs a query.
    fn rows<T: Send + 'static>(&self, query: String, values: Vec<Value>, read: Read<T>) -> Task<'_, Vec<T>>;

    /// Makes a change in a transaction, with [`steps::change`](super::steps::change).
    fn change(&self, change: Change) -> Task<'_, u64>;

    /// See [`Archive::place`]: the order of this store, unless it has several writers.
    fn here(&self) -> Task<'_, Place>
    where
        Self: Sized,
    {
        let newest = Conditions::of::<Self>(&Filter::default()).events(self, "DESC", 1);
        Box::pin(async move { Ok(Place { event: newest.await?.pop().map(|newest| newest.id), ..Place::default() }) })
    }

    /// See [`Archive::follow`].
    fn since(&self, filter: &Filter, mut place: Place, limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)>
    where
        Self: Sized,
    {
        let mut conditions = since::<Self>(filter);
        if let Some(event) = place.event {
            conditions.add_after::<Self>(">", event);
        }
        let page = conditions.events(self, "ASC", limit);
        Box::pin(async move {
            let page = page.await?;
            place.event = page.last().map(|last| last.id).or(place.event);
            let with_place = |stored: Stored| {
                let place = Place { event: Some(stored.id), ..Place::default() };
                (stored, place)
            };
            Ok((page.into_iter().map(with_place).collect(), place))
        })
    }
}

/// The conditions of a filter, and what they are compared with.
pub(crate) struct Conditions {
    pub(crate) text: String,
    pub(crate) values: Vec<Value>,
}

impl Conditions {
    pub(crate) fn of<S: ArchiveStore>(filter: &Filter) -> Self {
        let Filter { platform, account, event_type, subject, since, until, state, text, observer } = filter;
        let mut conditions = Self { text: "1 = 1".to_owned(), values: Vec::new() };
        if let Some(platform) = platform {
            conditions.add_prefix("event.account", format!("{}/", platform.as_str()));
        }
        if let Some(account) = account {
            conditions.add("event.account = ?", Value::Text(account.clone()));
        }
        match event_type.as_deref().map(|wanted| (wanted, wanted.strip_suffix('*'))) {
            Some((_, Some(prefix))) => conditions.add_prefix("event.type", prefix.to_owned()),
            Some((wanted, None)) => conditions.add("event.type = ?", Value::Text(wanted.to_owned())),
            None => {}
        }
        if let Some(subject) = subject {
            conditions.add("event.subject = ?", Value::Text(subject.clone()));
        }
        if let Some(since) = *since {
            conditions.add("event.received >= ?", Value::Number(since));
        }
        if let Some(until) = *until {
            conditions.add("event.received < ?", Value::Number(until));
        }
        if let Some(state) = *state {
            conditions.add("event.state = ?", Value::Number(state_number(state).into()));
        }
        if let Some(text) = text {
            conditions.add(S::DIALECT.has_text, Value::Text(text.clone()));
        }
        if let Some(observer) = observer {
            conditions.add("observer.name = ?", Value::Text(observer.clone()));
        }
        conditions
    }

    /// Adds a condition on one value, which it may name more than once.
    pub(crate) fn add(&mut self, condition: &str, value: Value) {
        self.text.push_str(" AND ");
        self.text.push_str(&condition.replace('?', &format!("${}", self.values.len() + 1)));
        self.values.push(value);
    }

    fn add_prefix(&mut self, column: &str, prefix: String) {
        self.add(&format!("substr({column}, 1, length(CAST(? AS text))) = ?"), Value::Text(prefix));
    }

    /// What came after an event, or with it or after it.
    fn add_after<S: ArchiveStore>(&mut self, comparison: &str, event: Uuid) {
        self.add(&format!("event.{} {comparison} ?", S::DIALECT.event), Value::Event(event));
    }

    fn events<'s, S: ArchiveStore>(self, store: &'s S, order: &str, limit: usize) -> Task<'s, Vec<Stored>> {
        let Dialect { event, .. } = S::DIALECT;
        let columns = event_columns!();
        let query =
            format!("SELECT {columns} FROM event WHERE {} ORDER BY event.{event} {order} LIMIT {limit}", self.text);
        store.rows(query, self.values, row::stored)
    }

    /// Dead letters by event and observer, in an order, beyond one.
    fn letters<'s, S: ArchiveStore>(
        mut self,
        store: &'s S,
        beyond: Option<(Uuid, String)>,
        limit: usize,
        (comparison, order): (&str, &str),
    ) -> Task<'s, Vec<DeadLetter>> {
        let Dialect { event, of_event, collate, .. } = S::DIALECT;
        if let Some((id, name)) = beyond {
            self.add_after::<S>(&format!("{comparison}="), id);
            let at = self.values.len();
            let is_beyond = format!("(event.{event} {comparison} ${at} OR observer.name {collate} {comparison} ?)");
            self.add(&is_beyond, Value::Text(name));
        }
        let query = format!(
            "SELECT {}, observer.name, dead.attempts, dead.error, dead.died
             FROM dead JOIN event ON event.{event} = dead.{of_event} JOIN observer ON observer.id = dead.observer
             WHERE {} ORDER BY dead.{of_event} {order}, observer.name {collate} {order} LIMIT {limit}",
            event_columns!(),
            self.text
        );
        store.rows(query, self.values, row::dead_letter)
    }
}

/// The statement that [`row::observer_state`] reads: observers and what is left of them.
pub(super) fn observer_states(dialect: &Dialect, condition: &str) -> String {
    let Dialect { event, of_event, is_missing, missing_since, collate, .. } = dialect;
    format!(
        "SELECT name, CASE WHEN {is_missing} THEN {missing_since} END,
                (SELECT count(*) FROM delivery WHERE delivery.observer = observer.id),
                (SELECT event.received FROM event WHERE event.{event} = (
                     SELECT delivery.{of_event} FROM delivery WHERE delivery.observer = observer.id
                     ORDER BY delivery.{of_event} LIMIT 1)),
                (SELECT count(*) FROM dead WHERE dead.observer = observer.id)
         FROM observer {condition} ORDER BY name {collate}"
    )
}

/// Events of the past are found by their identities, which are made after they have come.
fn since<S: ArchiveStore>(filter: &Filter) -> Conditions {
    let mut conditions = Conditions::of::<S>(filter);
    if let Some(since) = filter.since {
        conditions.add_after::<S>(">=", super::super::id::at(since));
    }
    conditions
}

impl<S: ArchiveStore> Archive for S {
    fn events(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Task<'_, Vec<Stored>> {
        let mut conditions = since::<S>(filter);
        if let Some(after) = after {
            conditions.add_after::<S>(">", after);
        }
        conditions.events(self, "ASC", limit)
    }

    fn place(&self) -> Task<'_, Place> {
        self.here()
    }

    fn follow(&self, filter: &Filter, since: Place, limit: usize) -> Task<'_, (Vec<(Stored, Place)>, Place)> {
        self.since(filter, since, limit)
    }

    fn page(&self, filter: &Filter, before: Option<Uuid>, limit: usize, scan: usize) -> Task<'_, Page> {
        let mut conditions = since::<S>(filter);
        // Which events are looked at, whether they match or not.
        let mut looked_at = since::<S>(&Filter { since: filter.since, ..Filter::default() });
        if let Some(before) = before {
            conditions.add_after::<S>("<", before);
            looked_at.add_after::<S>("<", before);
        }
        let selects = filter.selects();
        Box::pin(async move {
            let mut last = None;
            if selects {
                let Dialect { event, .. } = S::DIALECT;
                let query = format!(
                    "SELECT event.id FROM event WHERE {} ORDER BY event.{event} DESC LIMIT 1 OFFSET {}",
                    looked_at.text,
                    scan.saturating_sub(1)
                );
                last = self.rows(query, looked_at.values, |row| row.id(0)).await?.pop();
            }
            if let Some(last) = last {
                conditions.add_after::<S>(">=", last);
            }
            let page = conditions.events(self, "DESC", limit).await?;
            let next = if page.len() < limit { last } else { page.last().map(|last| last.id) };
            Ok((page, next))
        })
    }

    fn newest(&self, filter: &Filter, limit: usize) -> Task<'_, Vec<Stored>> {
        let events = since::<S>(filter).events(self, "DESC", limit);
        Box::pin(async move {
            let mut events = events.await?;
            events.reverse();
            Ok(events)
        })
    }

    fn event(&self, id: Uuid) -> Task<'_, Option<Stored>> {
        let mut conditions = Conditions::of::<S>(&Filter::default());
        conditions.add_after::<S>("=", id);
        let found = conditions.events(self, "ASC", 1);
        Box::pin(async move { Ok(found.await?.pop().filter(|event| event.id == id)) })
    }

    fn observations(&self, id: Uuid) -> Task<'_, Vec<Observation>> {
        let Dialect { event, of_event, is_wanted, collate, .. } = S::DIALECT;
        let query = format!(
            "SELECT name, delivery.due, delivery.leased, dead.died,
                    coalesce(delivery.attempts, dead.attempts, 0), coalesce(delivery.error, dead.error)
             FROM observer LEFT JOIN delivery ON delivery.observer = observer.id AND delivery.{of_event} = $1
                           LEFT JOIN dead ON dead.observer = observer.id AND dead.{of_event} = $1
             WHERE delivery.observer IS NOT NULL OR dead.observer IS NOT NULL
                OR EXISTS (SELECT 1 FROM event WHERE event.{event} = $1 AND {is_wanted})
             ORDER BY name {collate}"
        );
        self.rows(query, vec![Value::Event(id)], row::observation)
    }

    fn observers(&self) -> Task<'_, Vec<String>> {
        let query = format!("SELECT name FROM observer ORDER BY name {}", S::DIALECT.collate);
        self.rows(query, Vec::new(), |row| row.string(0))
    }

    fn replay(&self, observer: &str, events: Vec<Uuid>) -> Task<'_, u64> {
        let letters = events.into_iter().map(|event| (event, observer.to_owned())).collect();
        self.change(Change::Replay(letters))
    }

    fn replay_to_all(&self, events: Vec<Uuid>) -> Task<'_, u64> {
        Box::pin(async move {
            let mut offered = 0;
            for some in events.chunks(EVENTS_TO_ALL) {
                offered += self.change(Change::ReplayToAll(some.to_vec())).await?;
            }
            Ok(offered)
        })
    }

    fn dead(&self, filter: &Filter, after: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        since::<S>(filter).letters(self, after, limit, (">", "ASC"))
    }

    fn newest_dead(&self, filter: &Filter, before: Option<(Uuid, String)>, limit: usize) -> Task<'_, Vec<DeadLetter>> {
        since::<S>(filter).letters(self, before, limit, ("<", "DESC"))
    }

    fn revive(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(Change::Revive(letters))
    }

    fn drop_dead(&self, letters: Vec<(Uuid, String)>) -> Task<'_, u64> {
        self.change(Change::DropDead(letters))
    }

    fn lease_value(&self, name: &str) -> Task<'_, Option<String>> {
        let query = "SELECT value FROM slot WHERE name = $1 AND value IS NOT NULL".to_owned();
        let found = self.rows(query, vec![Value::Text(name.to_owned())], |row| row.string(0));
        Box::pin(async move { Ok(found.await?.pop().filter(|value| !value.is_empty())) })
    }

    fn clear_lease(&self, name: &str) -> Task<'_, bool> {
        let cleared = self.change(Change::ClearLease(name.to_owned()));
        Box::pin(async move { Ok(cleared.await? > 0) })
    }

    fn observer_states(&self) -> Task<'_, Vec<ObserverState>> {
        self.rows(observer_states(&S::DIALECT, ""), Vec::new(), row::observer_state)
    }

    fn remove_observer(&self, name: &str) -> Task<'_, bool> {
        let name = name.to_owned();
        Box::pin(async move {
            while self.change(Change::RemoveObserver(name.clone())).await? > 0 {}
            Ok(!self.observers().await?.contains(&name))
        })
    }
}
