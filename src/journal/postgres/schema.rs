//! Tables, and the steps from one version of them to the next.

use tokio_postgres::Transaction;

use super::{
    super::{
        JournalError,
        core::{Fit, Misfit, Version},
    },
    db::Failure,
    pool::Pool,
};

/// Advisory locks: what only one node does at a time. The number is `echostr` in ASCII, so that other programs in the
/// same database take others.
pub(super) const LOCK: i32 = 0x6563_686f;
/// Migrations, and entering observers.
pub(super) const SETUP: i32 = 1;
/// Maintenance; replays share it, so that nothing is removed that they have just looked at.
pub(super) const MAINTENANCE: i32 = 2;
/// Giving the past to new observers.
pub(super) const BACKFILL: i32 = 3;
/// Making an index.
const INDEX: i32 = 4;
/// Leases of observers in order: this, and the number of the observer.
pub(super) const ORDERING_KEYS: i32 = 1000;

/// Each step is one version; a step that was released never changes.
///
/// What platforms and users write is `bytea`: a text of PostgreSQL holds no NUL, and an event with one must not be lost.
const STEPS: [&str; 5] = [
    "
    -- Identities are UUIDs of version 7, so new rows go to the end of the index.
    CREATE TABLE event (
        id         uuid PRIMARY KEY,
        account    text NOT NULL,
        type       text NOT NULL,
        subject    bytea,
        form       smallint NOT NULL,  -- 0 XML, 1 JSON
        payload    bytea NOT NULL,
        query      bytea,
        received   bigint NOT NULL,    -- milliseconds
        deliveries integer NOT NULL,
        state      smallint NOT NULL,  -- 0 responding, 1 answered, 2 defaulted, 3 late
        reply      bytea,              -- NULL: the plain success
        failure    text,
        observers  integer[] NOT NULL, -- ids of those that wanted it
        owner      uuid                -- the node that runs its responder, or ran it
    );
    CREATE TABLE dedupe (
        key      bytea PRIMARY KEY,
        id       uuid NOT NULL,
        until    bigint,               -- milliseconds; NULL: for good
        admitted bigint NOT NULL
    );
    CREATE INDEX dedupe_admitted ON dedupe (admitted);
    CREATE TABLE observer (
        id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name        text NOT NULL UNIQUE,
        in_order    boolean NOT NULL,
        -- Events up to `backfill_to` that it has still to be given, from `backfill` on.
        backfill    uuid,
        backfill_to uuid,
        seen        bigint NOT NULL    -- when a node had it last
    );
    -- What is not done. `due` is when it may be taken: at once, after a pause, or when a lease is over.
    CREATE TABLE delivery (
        observer integer NOT NULL,
        due      bigint NOT NULL,      -- milliseconds
        event    uuid NOT NULL,
        attempts integer NOT NULL,
        leased   boolean NOT NULL,
        lane     bytea,                -- for observers in order: the subject, or its hash
        error    text,
        node     uuid,                 -- the node that leases it
        PRIMARY KEY (event, observer)
    );
    CREATE INDEX delivery_due ON delivery (observer, due, event);
    CREATE INDEX delivery_lane ON delivery (observer, lane, event) WHERE lane IS NOT NULL;
    CREATE TABLE dead (
        event    uuid NOT NULL,
        observer integer NOT NULL,
        died     bigint NOT NULL,      -- milliseconds
        attempts integer NOT NULL,
        error    text NOT NULL,
        PRIMARY KEY (event, observer)
    );
    CREATE TABLE node (
        id          uuid PRIMARY KEY,
        alive_until bigint NOT NULL    -- milliseconds
    );
",
    "
    -- A node has answered the platform without the reply, which is still to come.
    ALTER TABLE event ADD COLUMN given_up boolean NOT NULL DEFAULT false;
    -- What outlives a process and is no event.
    CREATE TABLE slot (
        name    text PRIMARY KEY,
        value   text,
        fence   bigint NOT NULL,       -- number of the latest hold
        until   bigint NOT NULL,       -- milliseconds: when the hold is over
        node    uuid NOT NULL,         -- who has it, or had it
        expires bigint                 -- milliseconds; NULL: never
    );
",
    "
    -- Signed queries that were used.
    CREATE TABLE used_query (
        signature bytea PRIMARY KEY,
        body      bigint NOT NULL,     -- hash of the body it came with first
        until     bigint NOT NULL      -- milliseconds: when it may be forgotten
    );
    CREATE INDEX used_query_until ON used_query (until);
    -- By account, so that what waits of one is passed over at no cost while there is no room for more of it. Lanes are of
    -- one account, too: two may know different users by one name.
    ALTER TABLE delivery ADD COLUMN account text NOT NULL DEFAULT '';
    UPDATE delivery SET account = event.account FROM event WHERE event.id = delivery.event;
    DROP INDEX delivery_due;
    DROP INDEX delivery_lane;
    CREATE INDEX delivery_due ON delivery (observer, account, due, event);
    CREATE INDEX delivery_lane ON delivery (observer, account, lane, event) WHERE lane IS NOT NULL;
",
    "
    -- What nodes that wait for the reply of an event ask its owner, which removes the row.
    CREATE TABLE question (
        event    uuid PRIMARY KEY,
        key      bytea NOT NULL,       -- of the event
        owner    uuid NOT NULL,        -- the node that is asked
        patience bigint,               -- milliseconds: give up on a responder that has run for so long; NULL: do not
        asked    bigint NOT NULL       -- milliseconds
    );
",
    "
    -- The transaction that entered an event: what commits later is found by it, whatever the clocks of nodes say. Events
    -- from before have none. Nodes of the version before enter it, too. Its index is made beside the traffic.
    ALTER TABLE event ADD COLUMN entered bigint;
    ALTER TABLE event ALTER COLUMN entered SET DEFAULT pg_current_xact_id()::text::bigint;
    -- The version of the oldest program that works with these tables.
    ALTER TABLE echostr_version ADD COLUMN compatible integer NOT NULL DEFAULT 3;
",
];

/// The version that this program knows.
pub(super) const KNOWN: usize = STEPS.len();

/// The version of the tables, and of the oldest program that works with them; a table from before says nothing of that.
const VERSION: &str = "SELECT version, coalesce((to_jsonb(echostr_version) ->> 'compatible')::integer, version)
     FROM echostr_version";

/// The version of the tables; `None` where there are none.
pub(super) async fn version(db: &Transaction<'_>) -> Result<Option<Version>, Failure> {
    if db.query_one("SELECT to_regclass('echostr_version') IS NULL", &[]).await?.try_get(0)? {
        return Ok(None);
    }
    let number = |number: i32| usize::try_from(number).unwrap_or_default();
    let row = db.query_opt(VERSION, &[]).await?;
    row.map(|row| Ok(Version { number: number(row.try_get(0)?), compatible: number(row.try_get(1)?) })).transpose()
}

/// Checks that this program works with the tables, and changes nothing.
pub(super) async fn check(db: &Transaction<'_>) -> Result<Version, Failure> {
    let version = version(db).await?.filter(|version| version.number > 0);
    let nothing =
        || JournalError::storage("there is no journal in this database; the first start of a server creates it");
    let version = version.ok_or_else(|| Failure::Journal(nothing()))?;
    version.check(KNOWN).map_err(misfit)?;
    Ok(version)
}

fn misfit(misfit: Misfit) -> Failure {
    Failure::Journal(misfit.explain(""))
}

/// Migrates the tables, one node after the other.
pub(super) async fn migrate(changes: &Transaction<'_>) -> Result<(), Failure> {
    changes.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK, &SETUP]).await?;
    changes.batch_execute("CREATE TABLE IF NOT EXISTS echostr_version (version integer NOT NULL)").await?;
    let version = match version(changes).await? {
        Some(version) => version,
        None => {
            changes.execute("INSERT INTO echostr_version VALUES (0)", &[]).await?;
            Version { number: 0, compatible: 0 }
        }
    };
    if version.fit(KNOWN).map_err(misfit)? == Fit::Newer {
        // Another node of this deployment is of the next version already.
        return Ok(());
    }
    for step in STEPS.iter().skip(version.number) {
        changes.batch_execute(step).await?;
    }
    if version.number == 0 {
        // There are no events yet; later it is made without a lock.
        changes.batch_execute(&format!("CREATE INDEX IF NOT EXISTS {ENTERED}")).await?;
    }
    let known = i32::try_from(KNOWN).unwrap_or(i32::MAX);
    changes.execute("UPDATE echostr_version SET version = $1 WHERE version <> $1", &[&known]).await?;
    Ok(())
}

/// The index that events are followed by.
const ENTERED: &str = "event_entered ON event USING brin (entered) WITH (autosummarize = on)";

/// Makes the index that events are followed by, unless it is there or another node makes it. Nobody waits for that, however
/// many events there are.
pub(super) async fn make_index(pool: &Pool) -> Result<(), Failure> {
    let db = pool.connect().await?;
    let client = &db.client;
    let is_mine = client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK, &INDEX]).await?;
    let is_made = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('event_entered') AND indisvalid";
    if !is_mine.try_get(0)? || client.query_opt(is_made, &[]).await?.is_some() {
        return Ok(());
    }
    // It waits for the transactions of others, which may be long.
    client.batch_execute("SET statement_timeout = 0; SET lock_timeout = '30s'").await?;
    // What is left of one that was not finished.
    client.batch_execute("DROP INDEX CONCURRENTLY IF EXISTS event_entered").await?;
    Ok(client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {ENTERED}")).await?)
}
