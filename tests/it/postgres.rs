//! What a PostgreSQL in production does to a node: locks that are held, settings, tables of versions before, and nodes
//! that commit in any order.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;

use crate::support::{
    TestServer,
    postgres::{RELEASED, client, count, database, execute},
    server::{ACCOUNTS, MP, PLAIN, text_message},
    until,
};
use echostr::{
    clock::Clock,
    events::mp,
    hooks::{Context, Hooks, Observe},
    internals::{
        journal::{
            Archive, Filter, Journal, JournalError, LeaseWrite, Observer, Options,
            postgres::{PostgresArchive, PostgresJournal},
        },
        supervisor::Supervisor,
    },
    replies::mp::Reply,
};

/// How long a lease is asked for, in milliseconds.
const TERM: i64 = 60_000;

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

fn options(observers: &[(&str, bool)]) -> Options {
    let observer = |(name, in_order): &(&str, bool)| Observer {
        name: (*name).into(),
        in_order: *in_order,
        from_beginning: false,
        wants: Arc::new(|_, _| true),
        unanswered: None,
    };
    Options {
        commits: None,
        retention: Duration::from_secs(3600),
        max_size: 1 << 30,
        observers: observers.iter().map(observer).collect(),
        supervisor: Supervisor::default(),
        clock: Clock::system(),
    }
}

async fn open(url: &str, observers: &[(&str, bool)]) -> PostgresJournal {
    let journal = PostgresJournal::open(url, &options(observers)).unwrap();
    until(async || journal.health().is_ok()).await;
    journal
}

/// An event that waits for an observer.
async fn insert(url: &str, observer: &str) {
    let insert = format!(
        "INSERT INTO event (id, account, type, form, payload, received, deliveries, state, observers)
         VALUES (gen_random_uuid(), 'mp/shop', 'mp.message.text', 0, '<xml/>', 0, 1, 1, '{{}}');
         INSERT INTO delivery (observer, account, due, event, attempts, leased, lane)
         SELECT observer.id, 'mp/shop', 0, event.id, 0, false, CASE WHEN in_order THEN 'lane'::bytea END
         FROM event, observer WHERE name = '{observer}'"
    );
    assert!(execute(url, &insert).await);
}

/// What waits while a lock is held, and when that was released, by the clock of the database.
async fn locked<T>(url: &str, lock: &str, work: impl Future<Output = T>) -> (T, i64) {
    let mut client = client(url).await;
    let changes = client.transaction().await.unwrap();
    changes.batch_execute(lock).await.unwrap();
    let release = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until(async || count(url, waiting).await > 0).await;
        let released = changes.query_one(CLOCK, &[]).await.unwrap().get(0);
        changes.commit().await.unwrap();
        released
    };
    tokio::join!(work, release)
}

#[tokio::test]
async fn a_lease_that_waited_for_a_lock_is_as_long_as_was_asked_for() {
    let Some(url) = database().await else { return };
    let journal = open(&url, &[("audit", false), ("ordered", true)]).await;
    let term = Duration::from_millis(TERM.cast_unsigned());
    let until = "SELECT until FROM slot WHERE name = 'mark'";

    let (held, released) = locked(&url, "LOCK TABLE slot", journal.acquire_lease("mark", term)).await;
    let held = held.unwrap().unwrap();
    assert!(count(&url, until).await >= released + TERM);

    let row = "SELECT 1 FROM slot WHERE name = 'mark' FOR UPDATE";
    let keep = LeaseWrite { keep: Some(term), value: Some("1".to_owned()), ..LeaseWrite::default() };
    let (written, released) = locked(&url, row, journal.write_lease(&held, keep)).await;
    written.unwrap();
    assert!(count(&url, until).await >= released + TERM);

    journal.write_lease(&held, LeaseWrite::default()).await.unwrap();
    let (again, released) = locked(&url, row, journal.acquire_lease("mark", term)).await;
    assert!(again.unwrap().unwrap().lease_token > held.lease_token);
    assert!(count(&url, until).await >= released + TERM);

    for (observer, lock) in [
        ("audit", "LOCK TABLE delivery".to_owned()),
        ("ordered", "LOCK TABLE delivery".to_owned()),
        (
            "ordered",
            format!(
                "SELECT pg_advisory_xact_lock(1701013615, 1000 + {})",
                count(&url, "SELECT id::bigint FROM observer WHERE name = 'ordered'").await
            ),
        ),
    ] {
        assert!(execute(&url, "TRUNCATE event, delivery").await);
        insert(&url, observer).await;
        let (leased, released) = locked(&url, &lock, journal.lease(observer, 10, term)).await;
        let leased = leased.unwrap();
        assert_eq!(leased.len(), 1, "{observer} {lock}");
        assert!(leased[0].lease.until >= released + TERM, "{observer} {lock}");
    }
}

#[tokio::test]
async fn a_stricter_isolation_of_the_database_changes_nothing() {
    let Some(url) = database().await else { return };
    let name = url.rsplit_once('/').unwrap().1;
    for isolation in ["serializable", "repeatable read"] {
        let alter = format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'");
        assert!(execute(&url, &alter).await);
        let journal = open(&url, &[]).await;
        let held = journal.acquire_lease("mark", Duration::from_secs(60)).await.unwrap().unwrap();
        // A statement that waits for this would fail in a snapshot from before it.
        let change = "UPDATE slot SET value = 'between' WHERE name = 'mark'";
        let write = LeaseWrite { value: Some("1".to_owned()), ..LeaseWrite::default() };
        let (written, _) = locked(&url, change, journal.write_lease(&held, write)).await;
        assert_eq!(written, Ok(0), "{isolation}");
        assert_eq!(journal.health(), Ok(()), "{isolation}");
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_of_another_node_with_the_same_fence_writes_nothing() {
    let Some(url) = database().await else { return };
    let (a, b) = (open(&url, &[]).await, open(&url, &[]).await);
    let held = a.acquire_lease("mark", Duration::from_secs(60)).await.unwrap().unwrap();
    // As a database does that has lost its last transactions.
    let copy = "UPDATE slot SET node = (SELECT id FROM node WHERE id <> slot.node LIMIT 1)";
    assert!(execute(&url, copy).await);
    assert_eq!(a.write_lease(&held, LeaseWrite::default()).await, Err(JournalError::Lost));
    assert_eq!(b.write_lease(&held, LeaseWrite::default()).await, Ok(0));
}

/// Inserts an event as a node does, whose clock is at this time.
fn event_at(clock: i64) -> String {
    format!(
        "INSERT INTO event (id, account, type, form, payload, received, deliveries, state, observers)
         VALUES ('{}', 'mp/shop', 'mp.message.text', 0, '<xml/>', {clock}, 1, 1, '{{}}')",
        uuid::Builder::from_unix_timestamp_millis(clock.cast_unsigned(), &[1; 10]).into_uuid()
    )
}

#[tokio::test]
async fn who_follows_is_given_each_event_once_in_whatever_order_nodes_commit() {
    let Some(url) = database().await else { return };
    drop(open(&url, &[]).await);
    let archive = PostgresArchive::open(&url).unwrap();
    let (filter, mut seen) = (Filter::default(), Vec::<i64>::new());
    assert!(execute(&url, &event_at(1000)).await);
    let mut place = archive.place().await.unwrap();
    let mut follow = async |limit: usize| {
        let mut received = Vec::new();
        loop {
            let (page, next) = archive.follow(&filter, place.clone(), limit).await.unwrap();
            place = next;
            received.extend(page.iter().map(|(stored, _)| stored.record.received));
            if page.len() < limit {
                break;
            }
        }
        received.sort_unstable();
        seen.extend(&received);
        received
    };
    assert_eq!(follow(10).await, [0; 0], "what was there before");

    // The clocks of three nodes differ, and so does how long they take.
    let (mut slow, mut slower) = (client(&url).await, client(&url).await);
    let (first, second) = (slow.transaction().await.unwrap(), slower.transaction().await.unwrap());
    first.batch_execute(&event_at(2000)).await.unwrap();
    second.batch_execute(&event_at(9000)).await.unwrap();
    for clock in [3000, 4000, 5000] {
        assert!(execute(&url, &event_at(clock)).await);
    }
    assert_eq!(follow(2).await, [3000, 4000, 5000], "it waits for nobody");
    second.commit().await.unwrap();
    assert!(execute(&url, &event_at(3500)).await);
    assert_eq!(follow(1).await, [3500, 9000]);
    assert_eq!(follow(1).await, [0; 0]);
    first.commit().await.unwrap();
    assert_eq!(follow(10).await, [2000], "not passed over");
    for clock in [100, 101, 102, 103] {
        assert!(execute(&url, &event_at(clock)).await);
    }
    assert_eq!(follow(3).await, [100, 101, 102, 103], "a clock that is far behind");
    // A reply is a new version of the row, and no new event.
    assert!(execute(&url, "UPDATE event SET state = 2").await);
    assert_eq!(follow(10).await, [0; 0]);
    assert_eq!(seen.len(), 10);
}

/// An event that has its reply and waits for an observer; far in the future, so that no retention removes it.
const ANSWERED: &str = "
    INSERT INTO observer (name, in_order, seen) VALUES ('audit', false, 0);
    INSERT INTO event (id, account, type, subject, form, payload, received, deliveries, state, reply, observers)
    VALUES ('0fff0000-0000-7000-8000-000000000001', 'mp/shop', 'mp.message.text', 'user_openid', 0,
            '<xml><ToUserName>gh_account</ToUserName><FromUserName>user_openid</FromUserName><CreateTime>1735689600</CreateTime>'
            '<MsgType>text</MsgType><Content>old</Content><MsgId>7</MsgId></xml>',
            17592186044416, 1, 1, 'kept', '{1}');
    INSERT INTO delivery (observer, due, event, attempts, leased)
    VALUES (1, 0, '0fff0000-0000-7000-8000-000000000001', 0, false)";

fn echo() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(format!("new {}", message.content))))
        .observe("audit", async |_: mp::TextMessage, _: Context| Ok(()))
}

#[tokio::test]
async fn tables_of_every_version_are_updated_by_nodes_that_start_at_one_time() {
    for version in 0..=RELEASED.len() {
        let Some(url) = database().await else { return };
        if let Some(tables) = version.checked_sub(1).map(|at| RELEASED[at]) {
            assert!(execute(&url, tables).await && execute(&url, ANSWERED).await);
        }
        let start = || TestServer::start_on(&url, "", ACCOUNTS, echo());
        let (a, b, c) = tokio::join!(start(), start(), start());
        let nodes = [a, b, c];
        for (node, id) in nodes.iter().zip(1..) {
            until(async || node.admin.get("/readyz").await.status == 200).await;
            let answer = node.post("/mp/shop", &MP.safe(&text_message(id, "hi"), &format!("n{id}"))).await;
            assert!(MP.open_reply(&answer.body).contains("new hi"), "{version}");
        }
        let done = "SELECT count(*) FROM event WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE event = id)";
        let all = i64::from(version > 0) + 3;
        until(async || count(&url, done).await == all).await;
        let stored = "SELECT count(*) FROM event WHERE state = 1 AND reply = 'kept' AND deliveries = 1";
        assert_eq!(count(&url, stored).await, i64::from(version > 0), "{version}");
        let index = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('event_entered') AND indisvalid";
        until(async || count(&url, index).await == 1).await;
        // A node of this version goes on while others have the next one, unless that says that it cannot.
        assert!(execute(&url, "UPDATE echostr_version SET version = version + 1").await);
        drop(open(&url, &[]).await);
        assert_eq!(count(&url, "SELECT version::bigint FROM echostr_version").await, 6);
        assert!(execute(&url, "UPDATE echostr_version SET compatible = version").await);
        let newer = PostgresJournal::open(&url, &options(&[])).unwrap();
        let refused = newer.acquire_lease("mark", Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(refused.contains("newer"), "{refused}");
    }
}

#[tokio::test]
async fn an_update_of_the_tables_takes_as_long_as_it_takes() {
    let Some(url) = database().await else { return };
    assert!(execute(&url, RELEASED[2]).await);
    // As on a large table: longer than any statement, and any operation of a node, may take.
    let slow = "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); END $$;
                CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION slow()";
    assert!(execute(&url, slow).await);
    let server = TestServer::start_on(&url, "", ACCOUNTS, echo()).await;
    until(async || server.admin.get("/readyz").await.status == 200).await;
    assert_eq!(count(&url, "SELECT version::bigint FROM echostr_version").await, 5);
}

#[tokio::test]
async fn a_reply_whose_event_is_gone_is_an_error_and_not_tried_again() {
    let Some(url) = database().await else { return };
    let (began, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (tell, wait) = (Arc::clone(&began), Arc::clone(&go));
    let hooks = Hooks::default().on(move |_: mp::TextMessage, _: Context| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Ok(Reply::text("hello"))
        }
    });
    let server = TestServer::start_at(&url, hooks).await;
    let gone = async {
        began.notified().await;
        assert!(execute(&url, "TRUNCATE event, dedupe").await);
        go.notify_one();
    };
    let first = MP.safe(&text_message(1, "hi"), "a");
    let (answer, ()) = tokio::join!(server.post("/mp/shop", &first), gone);
    assert_eq!(answer.status, 503);
    go.notify_one();
    let again = server.post("/mp/shop", &MP.safe(&text_message(1, "hi"), "b")).await;
    assert!(MP.open_reply(&again.body).contains("hello"));
    assert_eq!(server.admin.get("/readyz").await.status, 200);
    assert!(server.stop().await.unwrap(), "nothing is left to write");
}

/// What the sessions of a database have done with a table, as far as they have told.
async fn told(url: &str, what: &str, table: &str) -> i64 {
    count(url, &format!("SELECT {what} FROM pg_stat_user_tables WHERE relname = '{table}'")).await
}

#[tokio::test]
async fn no_delivery_reads_a_whole_table() {
    const DELIVERIES: u64 = 800;
    let Some(url) = database().await else { return };
    let seen = Arc::new(AtomicU64::new(0));
    let count_in = |seen: &Arc<AtomicU64>| {
        let seen = Arc::clone(seen);
        move |_: mp::TextMessage, _: Context| {
            seen.fetch_add(1, Ordering::Relaxed);
            ready(Ok(()))
        }
    };
    let hooks = Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| Ok(Reply::text(message.content)))
        .observe("audit", count_in(&seen))
        .observe(Observe::named("in-order").in_order(), count_in(&seen));
    let server = TestServer::start_on(&url, "", ACCOUNTS, hooks).await;
    for first in (0..DELIVERIES).step_by(40) {
        let answers = (first..first + 40).map(async |id| {
            let text = text_message(1000 + id, "hi").replace("user_openid", &format!("user{}", id % 80));
            let nonce = format!("n{id}");
            // The query of a request in the clear is stored, too: its signature covers no body.
            let (path, signed) = match id % 2 {
                0 => ("/mp/shop", MP.safe(&text, &nonce)),
                _ => ("/mp/plain", PLAIN.plain(&text, &nonce)),
            };
            server.post(path, &signed).await.status
        });
        assert!(join_all(answers).await.iter().all(|status| *status == 200));
    }
    until(async || seen.load(Ordering::Relaxed) >= 2 * DELIVERIES).await;
    // A session tells what it has done when it ends. The first of these statements were planned for empty tables.
    assert!(server.stop().await.unwrap(), "nothing is left to write");
    let all = DELIVERIES.cast_signed();
    until(async || told(&url, "n_tup_upd", "event").await >= all).await;
    until(async || told(&url, "n_tup_del", "delivery").await >= 2 * all).await;
    for (table, rows) in [("event", all), ("dedupe", all), ("delivery", 2 * all), ("used_query", all / 2)] {
        assert!(told(&url, "n_tup_ins", table).await >= rows, "{table}");
        let read = told(&url, "seq_tup_read", table).await;
        assert!(read < rows, "{table}: {read} rows were read one after the other");
    }
}
