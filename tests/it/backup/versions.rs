//! Journals of versions before and after this one.

use std::path::Path;

use echostr::internals::journal::{Filter, Finish, memory::MemoryJournal};

use super::{Place, fill, finish, lease, repeat, reply, settings, verify};
use crate::{journal::message, support::postgres::RELEASED};

/// The versions before this one.
const SQLITE: [&str; 2] =
    [include_str!("../fixtures/journals/sqlite-1.sql"), include_str!("../fixtures/journals/sqlite-2.sql")];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A journal as a program of a version before has left it: an event that was answered, one that failed and is on lease in an
/// order, one that is a dead letter; a cursor, where the version has named leases.
async fn of_version(place: &Place, tables: &str, version: usize) {
    let maker = MemoryJournal::new(&settings());
    let is_file = place.file().is_some();
    let mut rows = if is_file {
        "INSERT INTO observer (id, name, in_order) VALUES (1, 'audit', 0), (2, 'ordered', 1), (3, 'letters', 0);"
    } else {
        "INSERT INTO observer (name, in_order, seen) VALUES ('audit', false, 0), ('ordered', true, 0), ('letters', false, 0);"
    }
    .to_owned();
    let bytes = |bytes: &[u8]| if is_file { format!("x'{}'", hex(bytes)) } else { format!("'\\x{}'", hex(bytes)) };
    let text = |text: &str| if is_file { format!("'{text}'") } else { bytes(text.as_bytes()) };
    for (number, observer) in [(1, "1"), (2, "2"), (3, "3")] {
        let event = message("anna", number).new_event(&maker, &[]);
        let (high, _) = event.id.as_u64_pair();
        let seq = (high >> 16) << 12 | high & 0xFFF;
        let (key, id) = (bytes(&event.key.unwrap().bytes), bytes(event.id.as_bytes()));
        let (payload, reply) = (text(event.record.payload.text()), text(&format!("reply to {number}")));
        let subject = text("anna");
        if is_file {
            rows += &format!(
                "INSERT INTO event VALUES ({seq}, {id}, 'mp/shop', 'mp.message.text', {subject}, 0, {payload}, NULL, {number}, 1, 1,
                                           {reply}, NULL, '{observer}');
                 INSERT INTO dedupe VALUES ({key}, {seq}, NULL);"
            );
        } else {
            rows += &format!(
                "INSERT INTO event (id, account, type, subject, form, payload, received, deliveries, state, reply, observers)
                 VALUES ('{}', 'mp/shop', 'mp.message.text', {subject}, 0, {payload}, {number}, 1, 1, {reply}, '{{{observer}}}');
                 INSERT INTO dedupe VALUES ({key}, '{}', NULL, (extract(epoch FROM now()) * 1000)::bigint);",
                event.id, event.id
            );
        }
        let of_event = if is_file { seq.to_string() } else { format!("'{}'", event.id) };
        let event_column = if is_file { "seq" } else { "event" };
        let leased = if is_file { "1" } else { "true" };
        let (account_column, account) = if version > 2 { ("account, ", "'mp/shop', ") } else { ("", "") };
        if number < 3 {
            let lane = if number == 2 { subject } else { "NULL".to_owned() };
            rows += &format!(
                "INSERT INTO delivery ({account_column}observer, due, {event_column}, attempts, leased, lane, error)
                 VALUES ({account}{observer}, 0, {of_event}, 1, {leased}, {lane}, 'no luck');"
            );
        } else {
            rows += &format!(
                "INSERT INTO dead ({event_column}, observer, died, attempts, error)
                 VALUES ({of_event}, {observer}, {}, 5, 'no luck');",
                i64::MAX
            );
        }
    }
    if version > 1 {
        let (column, value) = if is_file { ("", "") } else { (", node", ", '00000000-0000-0000-0000-000000000000'") };
        rows += &format!(
            "INSERT INTO slot (name, value, fence, until{column}) VALUES ('kf/shop/1', 'cursor', 1, 0{value});"
        );
    }
    if let Some(file) = place.file() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let db = rusqlite::Connection::open(&file).unwrap();
        db.execute_batch(tables).unwrap();
    } else {
        place.execute(tables).await;
    }
    place.execute(&rows).await;
}

/// What [`of_version`] has left goes on.
async fn goes_on(place: &Place, version: usize) {
    let journal = place.open(&settings()).await;
    let (audit, ordered) = (lease(&*journal, "audit").await, lease(&*journal, "ordered").await);
    for (leased, number) in [(audit, 1), (ordered, 2)] {
        assert_eq!((leased.len(), leased[0].lease.attempt), (1, 2));
        let (id, body) = repeat(&*journal, "anna", number).await;
        assert_eq!((id, body), (leased[0].lease.id, reply(number)));
        finish(&*journal, &leased, Finish::Done).await;
    }
    let dead = place.archive().dead(&Filter::default(), None, 10).await.unwrap();
    let (id, _) = repeat(&*journal, "anna", 3).await;
    assert_eq!((dead.len(), dead[0].event.id, dead[0].attempts), (1, id, 5));
    let cursor = (version > 1).then(|| "cursor".to_owned());
    assert_eq!(journal.read_lease("kf/shop/1").await, Ok(cursor));
    journal.close().await.unwrap();
    place.ok(&["journal", "check"]).await;
}

/// The version that this program makes.
async fn known(place: &Place) -> i64 {
    place.open(&settings()).await.close().await.unwrap();
    place
        .count(if place.file().is_some() {
            "PRAGMA user_version"
        } else {
            "SELECT version::bigint FROM echostr_version"
        })
        .await
}

#[tokio::test]
async fn every_version_of_a_file_is_updated() {
    let known = known(&Place::sqlite()).await;
    assert_eq!(usize::try_from(known).unwrap(), SQLITE.len() + 1, "a fixture of the version before");
    for (before, tables) in SQLITE.into_iter().enumerate() {
        let version = before + 1;
        let place = Place::sqlite();
        of_version(&place, tables, version).await;
        let said = place.ok(&["journal", "check"]).await;
        assert!(
            said.contains(&format!("version {version}, this program needs {known}: run `echostr serve`")),
            "{said}"
        );
        // The backup before an update, which the program from before can use, too.
        let backup = place.path("backup.db");
        place.ok(&["backup", &backup]).await;
        let kept: i64 = rusqlite::Connection::open(&backup)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(usize::try_from(kept).unwrap(), version);
        goes_on(&place, version).await;
        assert_eq!(place.count("PRAGMA user_version").await, known);
        let file = Place::sqlite();
        file.ok(&["restore", &backup]).await;
        goes_on(&file, version).await;
        let Some(other) = Place::postgres().await else { continue };
        other.ok(&["restore", &backup]).await;
        goes_on(&other, version).await;
        assert!(Path::new(&backup).exists());
    }
}

#[tokio::test]
async fn every_version_of_a_database_is_updated() {
    let Some(fresh) = Place::postgres().await else { return };
    let known = known(&fresh).await;
    assert_eq!(usize::try_from(known).unwrap(), RELEASED.len() + 1, "a fixture of the version before");
    for (before, tables) in RELEASED.into_iter().enumerate() {
        let version = before + 1;
        let Some(place) = Place::postgres().await else { return };
        of_version(&place, tables, version).await;
        let needs = format!("version {version}, this program needs {known}: run `echostr serve`");
        let said = place.ok(&["journal", "check"]).await;
        assert!(said.contains(&needs), "{said}");
        let said = place.fails(&["backup", &place.path("backup.db")]).await;
        assert!(said.contains(&needs), "{said}");
        goes_on(&place, version).await;
        assert_eq!(place.count("SELECT version::bigint FROM echostr_version").await, known);
    }
}

/// The tables of a version after this one, which has added something.
async fn of_next(place: &Place, works: bool) {
    let known = known(place).await;
    let next = known + 1;
    let compatible = if works { known } else { next };
    let mut changes = String::new();
    for table in ["event", "dedupe", "observer", "delivery", "dead", "slot", "used_query"] {
        changes += &format!("ALTER TABLE {table} ADD COLUMN added text NOT NULL DEFAULT 'later';");
    }
    changes += &match place.file() {
        Some(_) => format!(
            "CREATE TABLE echostr_version (compatible INTEGER NOT NULL); INSERT INTO echostr_version VALUES ({compatible});
             PRAGMA user_version = {next};"
        ),
        None => format!("UPDATE echostr_version SET version = {next}, compatible = {compatible};"),
    };
    place.execute(&changes).await;
}

#[tokio::test]
async fn a_newer_version_that_only_adds_is_used() {
    for is_postgres in [false, true] {
        let Some(place) = Place::fresh(is_postgres).await else { continue };
        of_next(&place, true).await;
        let journal = place.open(&settings()).await;
        fill(&*journal).await;
        place.ok(&["events", "ls"]).await;
        let backup = place.path("backup.db");
        place.ok(&["backup", &backup]).await;
        journal.close().await.unwrap();
        drop(journal);
        let (file, Some(other)) = (Place::sqlite(), Place::postgres().await) else { return };
        for to in [file, other] {
            to.ok(&["restore", &backup]).await;
            verify(&to).await;
        }
    }
}

#[tokio::test]
async fn a_newer_version_that_changes_is_refused_with_what_to_do() {
    for is_postgres in [false, true] {
        let Some(place) = Place::fresh(is_postgres).await else { continue };
        of_next(&place, false).await;
        for command in [
            &["check"][..],
            &["events", "ls"],
            &["backup", &place.path("backup.db")],
            &["journal", "check"],
            &["dead", "ls"],
        ] {
            let output = place.run(command).await;
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            for part in
                ["which a newer echostr wrote", "run the newer echostr, or restore a backup from before the update"]
            {
                assert!(said.contains(part), "{command:?}: {said}");
            }
        }
        if let Some(file) = place.file() {
            let refused =
                echostr::internals::journal::sqlite::SqliteJournal::open(&file, &settings()).unwrap_err().to_string();
            assert!(refused.contains("which a newer echostr wrote"), "{refused}");
            let to = Place::sqlite();
            let said = to.fails(&["restore", &file.display().to_string()]).await;
            assert!(said.contains("which a newer echostr wrote"), "{said}");
        }
    }
}
