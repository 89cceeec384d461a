//! Admissions and replies: whatever has gathered is written by one statement.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time,
};
use tokio_postgres::types::ToSql;
use tracing::{error, info};
use uuid::Uuid;

use super::{
    super::{
        Admission, Entry, JournalError, NewEvent, Observer, Reply, State,
        core::row::{self, Row as _},
    },
    db::{self, Connection, Failure, Pool, lane, limited, now},
    observers::Observing,
    queries,
};
use crate::platform::{self, Body, Key};

/// How many operations are written together, at most.
const LARGEST_BATCH: usize = 256;

/// How often it is asked for replies of other nodes, and for how long at most.
const POLL: Duration = Duration::from_millis(75);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a journal that cannot store tries again.
pub(super) const PROBE: Duration = Duration::from_millis(500);

/// Admits events that are new: enters the keys, then the events whose keys were free, then what waits for observers.
pub(super) const ADMIT: &str = concat!(
    "WITH new AS (
        SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::smallint[],
                             $8::bytea[], $9::bytea[], $10::bigint[])
        AS t (id, key, span, account, type, subject, form, payload, query, received)
    ), wanted AS (
        SELECT t.event, observer.id AS observer, observer.in_order
        FROM unnest($11::uuid[], $12::integer[]) AS t (event, observer) JOIN observer ON observer.id = t.observer
    ), won AS (
        INSERT INTO dedupe (key, id, until, admitted)
        SELECT key, id, ", now!(), " + span, ", now!(), " FROM new WHERE key IS NOT NULL ORDER BY key
        ON CONFLICT (key) DO UPDATE SET id = excluded.id, until = excluded.until, admitted = excluded.admitted
            WHERE dedupe.until <= ", now!(), "
        RETURNING id
    ), entered AS (
        INSERT INTO event (id, account, type, subject, form, payload, query, received, deliveries, state, observers, owner)
        SELECT id, account, type, subject, form, payload, query, received, 1, 0,
               coalesce((SELECT array_agg(observer) FROM wanted WHERE wanted.event = new.id), '{}'), $13
        FROM new WHERE key IS NULL OR id IN (SELECT id FROM won)
    ), offered AS (
        INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
        SELECT wanted.observer, new.account, ", now!(), ", new.id, 0, false,
               CASE WHEN wanted.in_order THEN ", lane!("new"), " END
        FROM new JOIN wanted ON wanted.event = new.id WHERE key IS NULL OR new.id IN (SELECT id FROM won)
    )
    SELECT id FROM won"
);

/// Looks known keys up, counts the deliveries, and takes over what a node left behind that is gone. Rows are locked in
/// their order, so that two nodes do not wait for each other.
const AGAIN: &str = concat!(
    "WITH found AS (
        SELECT dedupe.key, event.id FROM dedupe JOIN event ON event.id = dedupe.id
        WHERE dedupe.key = ANY($1) ORDER BY event.id FOR UPDATE OF event
    )
    UPDATE event SET deliveries = event.deliveries + 1,
        owner = CASE WHEN event.state = 0 AND NOT EXISTS (
            SELECT 1 FROM node WHERE node.id = event.owner AND node.alive_until > ",
    now!(),
    "
        ) THEN $2 ELSE event.owner END
    FROM found WHERE event.id = found.id
    RETURNING found.key, event.id, event.deliveries, event.state, event.reply, event.owner"
);

/// Records replies; one that the platform was answered without is offered to who sends it. What was asked for has no
/// owner.
const RECORD: &str = concat!(
    "WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bytea[], $4::text[], $6::integer[], $7::boolean[])
        AS t (id, state, reply, failure, sender, due)
    ), locked AS (
        SELECT event.id FROM event JOIN given ON given.id = event.id ORDER BY event.id FOR UPDATE OF event
    ), done AS (
        UPDATE event SET reply = given.reply, failure = given.failure,
            state = CASE WHEN given.sender IS NOT NULL AND (given.due OR event.given_up) THEN 3 ELSE given.state END,
            observers = CASE WHEN given.sender IS NOT NULL AND (given.due OR event.given_up)
                             THEN event.observers || given.sender ELSE event.observers END
        FROM given JOIN locked ON locked.id = given.id
        WHERE event.id = given.id AND (event.owner = $5 OR event.owner IS NULL) AND event.state = 0
        RETURNING event.id, event.account, given.sender IS NOT NULL AND (given.due OR event.given_up) AS late, given.sender
    ), offered AS (
        INSERT INTO delivery (observer, account, due, event, attempts, leased)
        SELECT sender, account, ",
    now!(),
    ", id, 0, false FROM done WHERE late
        ON CONFLICT (event, observer) DO NOTHING
    )
    SELECT id, late FROM done"
);

/// The platform is answered without the reply.
const GIVE_UP: &str = "UPDATE event SET given_up = true WHERE id = $1 AND state = 0";

const REPEATED: &str = "
    WITH given AS (
        SELECT * FROM unnest($1::uuid[], $2::integer[]) AS t (id, times)
    ), locked AS (
        SELECT event.id FROM event JOIN given ON given.id = event.id ORDER BY event.id FOR UPDATE OF event
    )
    UPDATE event SET deliveries = event.deliveries + given.times
    FROM given JOIN locked ON locked.id = given.id WHERE event.id = given.id";

/// The replies of events; and whether the node that answers them still lives.
const REPLIES: &str = concat!(
    "SELECT id, state, reply, account, owner, EXISTS (
        SELECT 1 FROM node WHERE node.id = event.owner AND node.alive_until > ",
    now!(),
    "
    ) FROM event WHERE id = ANY($1)"
);

/// How far the first connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Connecting,
    Over,
}

type Told = Result<Admission, JournalError>;

/// An admission that waits to be written.
struct Asking {
    event: NewEvent,
    tell: oneshot::Sender<Told>,
}

/// What runs on this node under a key.
enum Running {
    /// It is being admitted; these deliveries want to know what comes of it.
    Asking(Vec<oneshot::Sender<Told>>),
    /// Its responder runs.
    Entry(Arc<Entry>),
}

/// A reply that waits to be written.
pub(super) struct Recording {
    entry: Arc<Entry>,
    reply: Reply,
}

/// An event whose responder runs on another node.
struct Awaited {
    entry: Weak<Entry>,
    since: Instant,
}

/// What has gathered.
#[derive(Default)]
struct Gathering {
    running: HashMap<Key, Running>,
    admissions: Vec<Asking>,
    records: Vec<Recording>,
    /// Deliveries of events that run here.
    repeated: HashMap<Uuid, i32>,
    awaited: HashMap<Uuid, Vec<Awaited>>,
    trouble: Option<JournalError>,
    closed: bool,
}

/// What the journal and its tasks share.
pub(super) struct Shared {
    pub(super) pool: Pool,
    /// This node.
    pub(super) node: Uuid,
    pub(super) wanted: Vec<Observer>,
    pub(super) observers: Mutex<HashMap<Arc<str>, Observing>>,
    /// The lane of each account that each observer in order was given last, so that all have their turn.
    pub(super) lanes: Mutex<HashMap<i32, HashMap<String, Vec<u8>>>>,
    /// The account that each observer was given events of last, so that all have their turn.
    pub(super) turns: Mutex<HashMap<i32, String>>,
    /// Notified when observers have something new.
    pub(super) arrivals: Notify,
    pub(super) start: watch::Sender<Start>,
    pub(super) full: AtomicBool,
    pub(super) bytes: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) queries: queries::Pending,
    /// The heartbeat is to look at once.
    pub(super) look: Notify,
    admit: Notify,
    record: Notify,
    await_: Notify,
    flushed: Notify,
    state: Mutex<Gathering>,
}

impl Shared {
    pub(super) fn new(pool: Pool, wanted: Vec<Observer>) -> Self {
        Self {
            pool,
            node: Uuid::now_v7(),
            wanted,
            observers: Mutex::default(),
            lanes: Mutex::default(),
            turns: Mutex::default(),
            arrivals: Notify::new(),
            start: watch::Sender::new(Start::Connecting),
            full: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            queries: queries::Pending::default(),
            look: Notify::new(),
            admit: Notify::new(),
            record: Notify::new(),
            await_: Notify::new(),
            flushed: Notify::new(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The observers of this node, as the database knows them.
    pub(super) fn observing(&self) -> HashMap<Arc<str>, Observing> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether it can store.
    pub(super) fn health(&self) -> Result<(), JournalError> {
        let gathering = self.lock();
        if gathering.closed {
            return Err(JournalError::Closed);
        }
        gathering.trouble.clone().map_or(Ok(()), Err)?;
        drop(gathering);
        if *self.start.borrow() == Start::Connecting {
            return Err(JournalError::storage("PostgreSQL: connecting"));
        }
        if self.full.load(Ordering::Relaxed) { Err(JournalError::Full) } else { Ok(()) }
    }

    /// Ready once the first connection has come about, or has failed.
    pub(super) async fn started(&self) {
        let _ = self.start.subscribe().wait_for(|start| *start != Start::Connecting).await;
    }

    /// The database is away, or does not take what is asked.
    pub(super) fn trouble(&self, failure: &Failure) -> JournalError {
        let trouble = failure.explain();
        if !failure.is_trouble() {
            error!("{trouble}; one operation was given up");
            return trouble;
        }
        let mut gathering = self.lock();
        if gathering.trouble.replace(trouble.clone()).is_none() {
            error!("journal: {trouble}; events are not taken until it can store again");
        }
        let refused = mem::take(&mut gathering.admissions);
        for Asking { event, tell } in refused {
            Self::release(&mut gathering, event.key.as_ref().map(|key| key.bytes), &trouble);
            let _ = tell.send(Err(trouble.clone()));
        }
        drop(gathering);
        self.look.notify_one();
        trouble
    }

    /// The database answers.
    pub(super) fn recovered(&self) {
        let mut gathering = self.lock();
        if gathering.trouble.take().is_some() {
            info!("journal: PostgreSQL can store again");
        }
        drop(gathering);
        self.record.notify_one();
    }

    /// The key is free again; those who wait for it are refused.
    fn release(gathering: &mut Gathering, key: Option<Key>, why: &JournalError) {
        let Some(key) = key else { return };
        if let Some(Running::Asking(waiting)) = gathering.running.remove(&key) {
            for tell in waiting {
                let _ = tell.send(Err(why.clone()));
            }
        }
    }

    /// Adds an admission, or joins what runs under its key.
    pub(super) fn admit(&self, event: NewEvent) -> Result<Admission, oneshot::Receiver<Told>> {
        let (tell, told) = oneshot::channel();
        let mut gathering = self.lock();
        if gathering.closed {
            let _ = tell.send(Err(JournalError::Closed));
            return Err(told);
        }
        if let Some(trouble) = &gathering.trouble {
            let _ = tell.send(Err(trouble.clone()));
            return Err(told);
        }
        if let Some(key) = &event.key {
            match gathering.running.get_mut(&key.bytes) {
                Some(Running::Asking(waiting)) => {
                    waiting.push(tell);
                    return Err(told);
                }
                Some(Running::Entry(entry)) => {
                    let entry = Arc::clone(entry);
                    entry.delivered_again();
                    *gathering.repeated.entry(entry.id).or_default() += 1;
                    drop(gathering);
                    self.record.notify_one();
                    return Ok(Admission::Known(entry));
                }
                None => {
                    gathering.running.insert(key.bytes, Running::Asking(Vec::new()));
                }
            }
        }
        gathering.admissions.push(Asking { event, tell });
        drop(gathering);
        self.admit.notify_one();
        Err(told)
    }

    pub(super) fn record(&self, entry: &Arc<Entry>, reply: Reply) {
        let mut gathering = self.lock();
        if gathering.closed {
            drop(gathering);
            return entry.settle(Err(JournalError::Closed));
        }
        gathering.records.push(Recording { entry: Arc::clone(entry), reply });
        drop(gathering);
        self.record.notify_one();
    }

    /// Tells what came of an admission.
    fn told(&self, Asking { event, tell }: Asking, told: Told) {
        let mut gathering = self.lock();
        if let Some(key) = event.key.as_ref().map(|key| key.bytes) {
            match &told {
                Ok(admission) => {
                    let (Admission::Run(entry) | Admission::Known(entry)) = admission;
                    let runs = matches!(admission, Admission::Run(_));
                    let before = match runs {
                        true => gathering.running.insert(key, Running::Entry(Arc::clone(entry))),
                        false => gathering.running.remove(&key),
                    };
                    if let Some(Running::Asking(waiting)) = before {
                        for tell in waiting {
                            entry.delivered_again();
                            *gathering.repeated.entry(entry.id).or_default() += 1;
                            let _ = tell.send(Ok(Admission::Known(Arc::clone(entry))));
                        }
                        self.record.notify_one();
                    }
                }
                Err(failure) => Self::release(&mut gathering, Some(key), failure),
            }
        }
        drop(gathering);
        let _ = tell.send(told);
    }

    /// Waits for the reply of another node.
    fn wait_for(&self, entry: &Arc<Entry>) {
        let waiting = Awaited { entry: Arc::downgrade(entry), since: Instant::now() };
        self.lock().awaited.entry(entry.id).or_default().push(waiting);
        self.await_.notify_one();
    }

    /// Takes nothing more; ready once every reply is written, or cannot be.
    pub(super) async fn flush(&self) {
        loop {
            let flushed = self.flushed.notified();
            {
                let mut gathering = self.lock();
                if gathering.trouble.is_some() || gathering.records.is_empty() {
                    gathering.closed = true;
                    for asking in mem::take(&mut gathering.admissions) {
                        let _ = asking.tell.send(Err(JournalError::Closed));
                    }
                    for Recording { entry, .. } in mem::take(&mut gathering.records) {
                        entry.settle(Err(JournalError::Closed));
                    }
                    return;
                }
            }
            self.record.notify_one();
            let _ = time::timeout(PROBE, flushed).await;
        }
    }
}

/// Writes admissions, for ever. A few of these run side by side.
pub(super) async fn admit(shared: Arc<Shared>) {
    loop {
        let batch = {
            let mut gathering = shared.lock();
            let count = gathering.admissions.len().min(LARGEST_BATCH);
            gathering.admissions.drain(..count).collect::<Vec<_>>()
        };
        if batch.is_empty() {
            shared.admit.notified().await;
            continue;
        }
        // Whoever is idle takes what was left.
        shared.admit.notify_one();
        admit_some(&shared, batch).await;
    }
}

async fn admit_some(shared: &Arc<Shared>, batch: Vec<Asking>) {
    let mut tried = limited(try_admit(shared, &batch)).await;
    if tried.as_ref().is_err_and(Failure::is_conflict) {
        tried = limited(try_admit(shared, &batch)).await;
    }
    match tried {
        Ok(results) => {
            let mut observed = false;
            for (asking, told) in batch.into_iter().zip(results) {
                observed |= matches!(told, Ok(Admission::Run(_))) && !asking.event.observers.is_empty();
                shared.told(asking, told);
            }
            if observed {
                shared.arrivals.notify_waiters();
            }
        }
        Err(failure) if batch.len() > 1 && !failure.is_trouble() => {
            // One of them cannot be written; the others are not to suffer for it.
            for asking in batch {
                Box::pin(admit_some(shared, vec![asking])).await;
            }
        }
        Err(failure) => {
            let trouble = shared.trouble(&failure);
            for asking in batch {
                shared.told(asking, Err(trouble.clone()));
            }
        }
    }
}

async fn try_admit(shared: &Arc<Shared>, batch: &[Asking]) -> Result<Vec<Told>, Failure> {
    let mut db = shared.pool.get().await?;
    let won = insert(&mut db, shared, batch).await?;
    let is_new = |asking: &Asking| asking.event.key.is_none() || won.contains(&asking.event.id);
    let keys = batch.iter().filter(|asking| !is_new(asking)).filter_map(|asking| asking.event.key.as_ref());
    let keys: Vec<&[u8]> = keys.map(|key| &key.bytes[..]).collect();
    let mut known = HashMap::new();
    if !keys.is_empty() {
        for row in db.query(AGAIN, &[&keys, &shared.node]).await? {
            known.insert(row.try_get::<_, Vec<u8>>(0)?, row);
        }
    }
    db.done();
    let results = batch.iter().map(|asking| {
        let event = &asking.event;
        let platform = event.facts.platform;
        let Some(key) = event.key.filter(|_| !is_new(asking)) else {
            let entry = Entry::new(event.id, event.key, 1);
            entry.mark_stored();
            return Ok(Ok(Admission::Run(entry)));
        };
        let Some(row) = known.get(&key.bytes[..]) else {
            // Its event is no longer kept: all that is known is that it was answered.
            let plain = Body::Plain(platform::plain_success(platform));
            return Ok(Ok(Admission::Known(Entry::answered_with(Uuid::nil(), 1, plain))));
        };
        let (id, deliveries) = (row.id(1)?, row.count(2)?);
        if let Some(body) = row::answer(row::state(row.integer(3)?), row.text(4)?, platform) {
            return Ok(Ok(Admission::Known(Entry::answered_with(id, deliveries, body))));
        }
        let entry = Entry::new(id, Some(key), deliveries);
        entry.mark_stored();
        if row.try_get::<_, Option<Uuid>>(5)? == Some(shared.node) {
            // It does not run here, or its key would have told: an earlier admission that failed, or a dead node's.
            return Ok(Ok(Admission::Run(entry)));
        }
        shared.wait_for(&entry);
        Ok(Ok(Admission::Known(entry)))
    });
    results.collect()
}

/// Inserts what is new; says which of those with a key are.
async fn insert(db: &mut Connection, shared: &Shared, batch: &[Asking]) -> Result<Vec<Uuid>, Failure> {
    let events: Vec<_> = batch.iter().map(|asking| &asking.event).collect();
    let columns = Columns::of(&events, &shared.observing());
    let rows = db.query(ADMIT, &columns.values(&Some(shared.node))).await?;
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
            accounts: all().map(|event| &*event.facts.account).collect(),
            types: all().map(|event| &*event.facts.event_type).collect(),
            subjects: all().map(|event| event.facts.subject.as_deref().map(str::as_bytes)).collect(),
            forms: all().map(|event| row::form_number(event.facts.form)).collect(),
            payloads: all().map(|event| event.facts.payload.text().as_bytes()).collect(),
            queries: all().map(|event| event.facts.query.as_deref().map(str::as_bytes)).collect(),
            received: all().map(|event| event.facts.received).collect(),
            wanted_events,
            wanted_observers,
        }
    }

    /// The values of the statement, with who runs the responders.
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

/// Says that the platform is answered without the reply, unless that is there: then gives it.
pub(super) async fn give_up(shared: &Shared, entry: &Entry) -> Result<Option<Body>, Failure> {
    let mut db = shared.pool.get().await?;
    let reply = match db.execute(GIVE_UP, &[&entry.id]).await? {
        0 => replies_of(&mut db, shared, &[entry.id]).await?.remove(&entry.id).and_then(Result::ok),
        _ => None,
    };
    db.done();
    Ok(reply)
}

/// Writes replies, for ever.
pub(super) async fn record(shared: Arc<Shared>) {
    loop {
        shared.record.notified().await;
        loop {
            let repeated = mem::take(&mut shared.lock().repeated);
            if !repeated.is_empty()
                && let Err(failure) = limited(count_repeats(&shared, repeated)).await
            {
                // How often a platform asked is not worth a second try.
                shared.trouble(&failure);
            }
            let (batch, trouble) = {
                let mut gathering = shared.lock();
                let count = gathering.records.len().min(LARGEST_BATCH);
                let trouble = gathering.trouble.is_some();
                (if trouble { Vec::new() } else { gathering.records.drain(..count).collect() }, trouble)
            };
            if batch.is_empty() {
                shared.flushed.notify_waiters();
                if trouble {
                    time::sleep(PROBE / 5).await;
                }
                break;
            }
            record_some(&shared, batch).await;
        }
    }
}

async fn count_repeats(shared: &Shared, repeated: HashMap<Uuid, i32>) -> Result<(), Failure> {
    let mut db = shared.pool.get().await?;
    let (ids, times): (Vec<Uuid>, Vec<i32>) = repeated.into_iter().unzip();
    db.execute(REPEATED, &[&ids, &times]).await?;
    db.done();
    Ok(())
}

async fn record_some(shared: &Arc<Shared>, batch: Vec<Recording>) {
    match limited(try_record(shared, &batch)).await {
        Ok(results) => {
            let mut gathering = shared.lock();
            for Recording { entry, .. } in &batch {
                if let Some(key) = &entry.key
                    && matches!(gathering.running.get(&key.bytes), Some(Running::Entry(running)) if Arc::ptr_eq(running, entry))
                {
                    gathering.running.remove(&key.bytes);
                }
            }
            drop(gathering);
            for (Recording { entry, .. }, result) in batch.into_iter().zip(results) {
                entry.settle(result);
            }
        }
        Err(failure) if failure.is_trouble() => {
            if !failure.is_conflict() {
                shared.trouble(&failure);
            }
            shared.lock().records.extend(batch);
            shared.record.notify_one();
        }
        Err(_) if batch.len() > 1 => {
            for one in batch {
                Box::pin(record_some(shared, vec![one])).await;
            }
        }
        Err(failure) => {
            let trouble = shared.trouble(&failure);
            let mut gathering = shared.lock();
            for Recording { entry, .. } in batch {
                Shared::release(&mut gathering, entry.key.map(|key| key.bytes), &trouble);
                entry.settle(Err(trouble.clone()));
            }
        }
    }
}

async fn try_record(shared: &Shared, batch: &[Recording]) -> Result<Vec<Result<Body, JournalError>>, Failure> {
    let mut db = shared.pool.get().await?;
    let ids: Vec<Uuid> = batch.iter().map(|one| one.entry.id).collect();
    let states: Vec<i16> = batch.iter().map(|one| row::state_number(State::of(Some(&one.reply)))).collect();
    let replies: Vec<Option<&[u8]>> =
        batch.iter().map(|one| row::reply_text(&one.reply.body).map(str::as_bytes)).collect();
    let failures: Vec<Option<String>> = batch.iter().map(|one| one.reply.failure.as_deref().map(db::text)).collect();
    let observing = shared.observing();
    let sender = |one: &Recording| Some(observing.get(&one.reply.sender.as_ref()?.observer)?.id);
    let senders: Vec<Option<i32>> = batch.iter().map(sender).collect();
    let due = |one: &Recording| one.reply.sender.as_ref().is_some_and(|sender| sender.is_due);
    let dues: Vec<bool> = batch.iter().map(due).collect();
    let mut done = Vec::with_capacity(batch.len());
    let mut late = Vec::new();
    let given: [&(dyn ToSql + Sync); 7] = [&ids, &states, &replies, &failures, &shared.node, &senders, &dues];
    for row in db.query(RECORD, &given).await? {
        done.push(row.try_get::<_, Uuid>(0)?);
        late.extend(row.try_get::<_, bool>(1)?.then_some(row.try_get::<_, Uuid>(0)?));
    }
    if !late.is_empty() {
        shared.arrivals.notify_waiters();
    }
    let others: Vec<Uuid> = ids.iter().filter(|id| !done.contains(id)).copied().collect();
    let mut stands = HashMap::new();
    if !others.is_empty() {
        // Another node has taken over, or this reply was written before and the news of it was lost.
        stands = replies_of(&mut db, shared, &others).await?;
    }
    db.done();
    let gone = || Err(JournalError::storage("another node has taken the event over"));
    let result = |one: &Recording| {
        if late.contains(&one.entry.id)
            && let Some(sender) = &one.reply.sender
        {
            return Ok(Body::Plain(platform::plain_success(sender.facts.platform)));
        }
        if done.contains(&one.entry.id) {
            return Ok(one.reply.body.clone());
        }
        stands.get(&one.entry.id).cloned().unwrap_or_else(gone)
    };
    Ok(batch.iter().map(result).collect())
}

/// The replies of those events that have one, or will have none because their node is gone.
async fn replies_of(
    db: &mut Connection,
    shared: &Shared,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Result<Body, JournalError>>, Failure> {
    let mut replies = HashMap::new();
    for row in db.query(REPLIES, &[&ids]).await? {
        let id = row.try_get(0)?;
        let (owner, lives): (Option<Uuid>, bool) = (row.try_get(4)?, row.try_get(5)?);
        let platform = row::platform_of(id, row.try_get(3)?)?;
        if let Some(body) = row::answer(row::state(row.integer(1)?), row.text(2)?, platform) {
            replies.insert(id, Ok(body));
        } else if !lives && owner != Some(shared.node) {
            replies.insert(id, Err(JournalError::Abandoned));
        }
    }
    Ok(replies)
}

/// Asks for the replies of other nodes while somebody waits for one, for ever.
pub(super) async fn wait(shared: Arc<Shared>) {
    loop {
        let ids: Vec<Uuid> = {
            let mut gathering = shared.lock();
            gathering.awaited.retain(|_, waiting| {
                waiting.retain(|one| one.entry.strong_count() > 0 && one.since.elapsed() < LONGEST_WAIT);
                !waiting.is_empty()
            });
            gathering.awaited.keys().copied().collect()
        };
        if ids.is_empty() {
            shared.await_.notified().await;
            continue;
        }
        // Whoever waits is answered in time anyhow, and the heartbeat says what is wrong.
        if let Ok(replies) = limited(ask(&shared, &ids)).await {
            for (id, reply) in replies {
                for one in shared.lock().awaited.remove(&id).unwrap_or_default() {
                    if let Some(entry) = one.entry.upgrade() {
                        entry.settle(reply.clone());
                    }
                }
            }
        }
        time::sleep(POLL).await;
    }
}

async fn ask(shared: &Shared, ids: &[Uuid]) -> Result<HashMap<Uuid, Result<Body, JournalError>>, Failure> {
    let mut db = shared.pool.get().await?;
    let replies = replies_of(&mut db, shared, ids).await?;
    db.done();
    Ok(replies)
}
