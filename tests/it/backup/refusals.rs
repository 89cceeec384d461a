//! What neither a backup nor a restore does.

use std::path::Path;

use echostr::internals::journal::Options;

use super::{Place, answer, lease, observer, put, repeat, settings};

#[tokio::test]
async fn a_backup_replaces_nothing_unless_it_is_asked_to() {
    let place = Place::sqlite();
    let journal = place.open(&settings()).await;
    answer(&*journal, "anna", 1, &[]).await;
    let backup = place.path("backup.db");
    std::fs::write(&backup, "mine").unwrap();
    let said = place.fails(&["backup", &backup]).await;
    assert!(said.contains("is there already; --force replaces it"), "{said}");
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), "mine");
    // What was left by a process that was killed is no hindrance.
    std::fs::write(place.path("backup.db.partial"), "half").unwrap();
    place.ok(&["backup", &backup, "--force"]).await;
    assert!(!Path::new(&place.path("backup.db.partial")).exists());
    // Never the journal itself.
    let file = place.file().unwrap();
    for end in ["", "-wal", "-shm", ".lock"] {
        let own = format!("{}{end}", file.display());
        let said = place.fails(&["backup", &own, "--force"]).await;
        assert!(said.contains("is the journal itself"), "{said}");
    }
    let said = place.fails(&["backup", &place.path("nowhere/backup.db")]).await;
    assert!(said.contains("cannot write") && said.contains("nowhere"), "{said}");
    repeat(&*journal, "anna", 1).await;
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_restore_replaces_nothing() {
    let source = Place::sqlite();
    let journal = source.open(&settings()).await;
    answer(&*journal, "anna", 1, &["audit"]).await;
    journal.close().await.unwrap();
    drop(journal);
    let backup = source.path("backup.db");
    source.ok(&["backup", &backup]).await;
    for is_postgres in [false, true] {
        let Some(place) = Place::fresh(is_postgres).await else { continue };
        let journal = place.open(&settings()).await;
        let said = place.fails(&["restore", &backup]).await;
        assert!(said.contains("another echostr uses") || said.contains("a server runs on this journal"), "{said}");
        // A server that only started leaves nothing that is worth keeping.
        put(&*journal, "token/mp/shop", "sealed").await;
        put(&*journal, "source/mp/shop", "addresses").await;
        journal.close().await.unwrap();
        drop(journal);
        place.ok(&["restore", &backup]).await;
        for _ in 0..2 {
            let said = place.fails(&["restore", &backup]).await;
            assert!(said.contains("is not empty"), "{said}");
        }
        let journal = place.open(&settings()).await;
        repeat(&*journal, "anna", 1).await;
        assert_eq!(journal.read_lease("token/mp/shop").await, Ok(None));
        // Its observers are known already, and the next one gets an id of its own.
        assert_eq!(lease(&*journal, "audit").await.len(), 1);
        journal.close().await.unwrap();
        drop(journal);
        let more = Options { observers: vec![observer("more", false), observer("audit", false)], ..settings() };
        let journal = place.open(&more).await;
        answer(&*journal, "anna", 2, &["more"]).await;
        assert_eq!(lease(&*journal, "more").await.len(), 1);
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_backup_is_not_restored() {
    let place = Place::sqlite();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(place.path(name), bytes).unwrap();
        place.path(name)
    };
    let (text, empty) = (file("text", b"not a database, but long enough to be read as one"), file("empty", b""));
    let other = place.path("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE event (a)").unwrap();
    let source = Place::sqlite();
    let journal = source.open(&settings()).await;
    for number in 1..200 {
        answer(&*journal, "anna", number, &["audit"]).await;
    }
    let backup = source.path("backup.db");
    source.ok(&["backup", &backup]).await;
    let mut bytes = std::fs::read(&backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xA5);
    let damaged = file("damaged.db", &bytes);
    for (file, says) in [
        (&text, "not a journal"),
        (&empty, "is not a backup of a journal"),
        (&other, "is not a backup of a journal"),
        (&place.path("absent.db"), "is not a file"),
        (&damaged, "damaged"),
    ] {
        let said = place.fails(&["restore", file]).await;
        assert!(said.contains(says), "{file}: {said}");
        assert!(!place.file().unwrap().exists(), "{file}");
    }
    let memory = Place::at(|_| "memory:".to_owned());
    for command in [&["backup", "a.db"][..], &["restore", &backup], &["journal", "check"]] {
        let output = memory.run(command).await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("\"memory:\" journal is lost when its server ends"), "{said}");
    }
    journal.close().await.unwrap();
}
