//! Admissions: a pending batch is written by one statement; a few of these run side by side.

use std::{collections::HashMap, sync::Arc};

use metrics::Histogram;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        Admission, Entry, JournalError, NewEvent,
        core::{Admitted, Commit, Failure as _, Row as _, commit, row},
        model::plain_success,
    },
    db::{Failure, limited},
    observers::Observing,
    shared::{Asking, Shared},
    waiting,
};
use crate::{event::Platform, platform::DedupeKey};

/// How many operations are written together, at most.
pub(super) const LARGEST_BATCH: usize = 256;

/// Admits new events: inserts the keys, then the events whose keys were free, then their observations.
pub(super) const ADMIT: &str = "WITH new AS (
        SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::smallint[],
                             $8::bytea[], $9::bytea[], $10::bigint[])
        AS t (id, key, span, account, type, subject, form, payload, query, received)
    ), wanted AS (
        SELECT t.event, observer.id AS observer, observer.in_order
        FROM unnest($11::uuid[], $12::integer[]) AS t (event, observer) JOIN observer ON observer.id = t.observer
    ), won AS (
        INSERT INTO dedupe (key, id, until, admitted)
        SELECT key, id, {now} + span, {now} FROM new WHERE key IS NOT NULL ORDER BY key
        ON CONFLICT (key) DO UPDATE SET id = excluded.id, until = excluded.until, admitted = excluded.admitted
            WHERE dedupe.until <= {now}
        RETURNING id
    ), entered AS (
        INSERT INTO event (id, account, type, subject, form, payload, query, received, deliveries, state, observers, owner)
        SELECT id, account, type, subject, form, payload, query, received, 1, 0,
               coalesce((SELECT array_agg(observer) FROM wanted WHERE wanted.event = new.id), '{}'), $13
        FROM new WHERE key IS NULL OR id IN (SELECT id FROM won)
    ), offered AS (
        INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
        SELECT wanted.observer, new.account, {now}, new.id, 0, false,
               CASE WHEN wanted.in_order THEN {ordering key of new} END
        FROM new JOIN wanted ON wanted.event = new.id WHERE key IS NULL OR new.id IN (SELECT id FROM won)
    )
    SELECT id FROM won";

/// Looks known keys up, counts the deliveries, and takes over what a dead node left behind. Rows are locked in
/// their order, so that two nodes do not wait for each other.
const AGAIN: &str = "WITH found AS (
        SELECT dedupe.key, event.id FROM dedupe JOIN event ON event.id = dedupe.id
        WHERE dedupe.key = ANY($1) ORDER BY event.id FOR UPDATE OF event
    )
    UPDATE event SET deliveries = event.deliveries + 1,
        owner = CASE WHEN event.state = 0 AND NOT EXISTS (
            SELECT 1 FROM node WHERE node.id = event.owner AND node.alive_until > {now}
        ) THEN $2 ELSE event.owner END
    FROM found WHERE event.id = found.id
    RETURNING found.key, event.id, event.deliveries, event.state, event.reply, event.owner";

/// Writes admissions until the journal is closed. A few of these run side by side.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut writer = Admissions { shared: Arc::clone(&shared) };
    loop {
        let batch = shared.lock().take_admissions(LARGEST_BATCH);
        if batch.is_empty() {
            shared.admit.notified().await;
            continue;
        }
        // Whoever is idle takes what was left.
        shared.admit.notify_one();
        commit::write(&mut writer, batch).await;
    }
}

struct Admissions {
    shared: Arc<Shared>,
}

impl Commit for Admissions {
    type Operation = Asking;
    /// What could be entered was entered, whatever became of the others.
    type Done = Vec<Admitted>;
    type Failure = Failure;

    fn commits(&self) -> Option<&Histogram> {
        self.shared.commits.as_ref()
    }

    async fn commit(&mut self, batch: &mut [Asking]) -> Result<Vec<Admitted>, Failure> {
        admit(&self.shared, batch).await
    }

    fn settle(&mut self, batch: Vec<Asking>, admissions: Vec<Admitted>) {
        let mut observed = false;
        for (asking, admission) in batch.into_iter().zip(admissions) {
            observed |= matches!(admission, Ok(Admission::Run(_))) && !asking.event.observers.is_empty();
            self.shared.admitted(asking, admission);
        }
        if observed {
            self.shared.arrivals.notify_waiters();
        }
    }

    fn fail(&mut self, batch: Vec<Asking>, failure: &Failure) {
        let trouble = self.shared.trouble(failure);
        for asking in batch {
            self.shared.admitted(asking, Err(trouble.clone()));
        }
    }
}

async fn admit(shared: &Arc<Shared>, batch: &[Asking]) -> Result<Vec<Admitted>, Failure> {
    let life = shared.lifetime().current();
    let won = limited(insert(shared, batch)).await?;
    let is_new = |asking: &Asking| asking.event.key.is_none() || won.contains(&asking.event.id);
    let keys = batch.iter().filter(|asking| !is_new(asking)).filter_map(|asking| asking.event.key.as_ref());
    let keys: Vec<&[u8]> = keys.map(|key| &key.bytes[..]).collect();
    let known = if keys.is_empty() { Ok(HashMap::new()) } else { again(shared, &keys).await };
    // Else another node may have taken over and answered what is to run here.
    let is_owner = life.is_some() && shared.lifetime().current() == life;
    let admissions = batch.iter().map(|asking| {
        let event = &asking.event;
        let Some(key) = event.key.filter(|_| !is_new(asking)) else {
            let entry = Entry::new(event.id, event.key, 1);
            entry.mark_stored();
            return Ok(Admission::Run(entry));
        };
        match known.as_ref().map_err(JournalError::clone)?.get(&key.bytes[..]) {
            Some(row) => admit_known(shared, key, row, event.record.platform).map_err(|failure| failure.explain()),
            // Its event is no longer kept: all that is known is that it was answered.
            None => Ok(Admission::Known(Entry::answered_with(Uuid::nil(), 1, plain_success(event.record.platform)))),
        }
    });
    let owned = |(asking, admitted): (&Asking, Admitted)| match admitted {
        Ok(Admission::Run(_)) if asking.event.key.is_some() && !is_owner => {
            Err(JournalError::storage("PostgreSQL: the heartbeat is late, so that another node may run the event"))
        }
        admitted => admitted,
    };
    Ok(batch.iter().zip(admissions).map(owned).collect())
}

/// An event that was admitted before.
fn admit_known(
    shared: &Shared,
    key: DedupeKey,
    row: &tokio_postgres::Row,
    platform: Platform,
) -> Result<Admission, Failure> {
    let (id, deliveries) = (row.id(1)?, row.count(2)?);
    if let Some(body) = row::answer(row::state(id, row.integer(3)?)?, row.text(4)?, platform) {
        return Ok(Admission::Known(Entry::answered_with(id, deliveries, body)));
    }
    let entry = Entry::new(id, Some(key), deliveries);
    entry.mark_stored();
    if row.try_get::<_, Option<Uuid>>(5)? == Some(shared.node) {
        // It does not run here, or its key would be in flight: an earlier admission that failed, or a dead node's.
        return Ok(Admission::Run(entry));
    }
    waiting::wait_for(shared, &entry);
    Ok(Admission::Known(entry))
}

/// The events with these keys. The new events of the batch are entered by now, so that this must not fail for them, too.
async fn again(shared: &Shared, keys: &[&[u8]]) -> Result<HashMap<Vec<u8>, tokio_postgres::Row>, JournalError> {
    let look = async || {
        let mut db = shared.pool.get().await?;
        let rows = db.query(AGAIN, &[&keys, &shared.node]).await?;
        db.done();
        rows.into_iter().map(|row| Ok((row.try_get(0)?, row))).collect()
    };
    let found = match limited(look()).await {
        Err(failure) if failure.is_conflict() => limited(look()).await,
        found => found,
    };
    found.map_err(|failure: Failure| shared.trouble(&failure))
}

/// Inserts new events; returns which of those with a key are new.
async fn insert(shared: &Shared, batch: &[Asking]) -> Result<Vec<Uuid>, Failure> {
    let mut db = shared.pool.get().await?;
    let events: Vec<_> = batch.iter().map(|asking| &asking.event).collect();
    let columns = Columns::of(&events, &shared.observing());
    let rows = db.query(ADMIT, &columns.values(&Some(shared.node))).await?;
    db.done();
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Events as the columns of [`ADMIT`].
pub(super) struct Columns<'e> {
    ids: Vec<Uuid>,
    keys: Vec<Option<&'e [u8]>>,
    spans: Vec<Option<i64>>,
    accounts: Vec<&'e str>,
    types: Vec<&'e str>,
    subjects: Vec<Option<&'e [u8]>>,
    forms: Vec<i16>,
    payloads: Vec<&'e [u8]>,
    queries: Vec<Option<&'e [u8]>>,
    received: Vec<i64>,
    wanted_events: Vec<Uuid>,
    wanted_observers: Vec<i32>,
}

impl<'e> Columns<'e> {
    pub(super) fn of(events: &[&'e NewEvent], observing: &HashMap<Arc<str>, Observing>) -> Self {
        let all = || events.iter().copied();
        let wanted = all().flat_map(|event| {
            let observers = event.observers.iter().filter_map(|name| observing.get(name));
            observers.map(|observer| (event.id, observer.id))
        });
        let (wanted_events, wanted_observers) = wanted.unzip();
        Self {
            ids: all().map(|event| event.id).collect(),
            keys: all().map(|event| event.key.as_ref().map(|key| &key.bytes[..])).collect(),
            spans: all().map(|event| event.key.and_then(|key| key.until(0))).collect(),
            accounts: all().map(|event| &*event.record.account).collect(),
            types: all().map(|event| &*event.record.event_type).collect(),
            subjects: all().map(|event| event.record.subject.as_deref().map(str::as_bytes)).collect(),
            forms: all().map(|event| row::form_number(event.record.form)).collect(),
            payloads: all().map(|event| event.record.payload.text().as_bytes()).collect(),
            queries: all().map(|event| event.record.query.as_deref().map(str::as_bytes)).collect(),
            received: all().map(|event| event.record.received).collect(),
            wanted_events,
            wanted_observers,
        }
    }

    /// The values of the statement, with the node that runs the responders.
    pub(super) fn values<'v>(&'v self, owner: &'v Option<Uuid>) -> [&'v (dyn ToSql + Sync); 13] {
        [
            &self.ids,
            &self.keys,
            &self.spans,
            &self.accounts,
            &self.types,
            &self.subjects,
            &self.forms,
            &self.payloads,
            &self.queries,
            &self.received,
            &self.wanted_events,
            &self.wanted_observers,
            owner,
        ]
    }
}
