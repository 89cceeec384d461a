//! `echostr journal check`: what is whole, and what is not.

use serde_json::Value as Json;

use super::{Place, answer, fill, settings};

/// What must not be in a journal: the change that makes it, of a file and of a database, and how it is named.
const FAULTS: [(&str, &str, &str); 12] = [
    (
        "INSERT INTO delivery (observer, account, due, seq, attempts, leased) VALUES (1, 'mp/shop', 0, 99, 0, 0)",
        "INSERT INTO delivery (observer, account, due, event, attempts, leased)
         VALUES (1, 'mp/shop', 0, gen_random_uuid(), 0, false)",
        "1 pending observations of events that are not there",
    ),
    (
        "INSERT INTO dead (seq, observer, died, attempts, error) VALUES (98, 1, 0, 1, '')",
        "INSERT INTO dead (event, observer, died, attempts, error) VALUES (gen_random_uuid(), 1, 0, 1, '')",
        "1 dead letters of events that are not there",
    ),
    (
        "INSERT INTO delivery (observer, account, due, seq, attempts, leased)
         SELECT 99, account, 0, seq, 0, 0 FROM event LIMIT 1",
        "INSERT INTO delivery (observer, account, due, event, attempts, leased)
         SELECT 99, account, 0, id, 0, false FROM event LIMIT 1",
        "1 pending observations of unknown observers",
    ),
    (
        "INSERT INTO dead (seq, observer, died, attempts, error) SELECT seq, 98, 0, 1, '' FROM event LIMIT 1",
        "INSERT INTO dead (event, observer, died, attempts, error) SELECT id, 98, 0, 1, '' FROM event LIMIT 1",
        "2 dead letters of unknown observers",
    ),
    (
        "UPDATE delivery SET account = 'mp/other' WHERE observer = 99",
        "UPDATE delivery SET account = 'mp/other' WHERE observer = 99",
        "1 pending observations have another account than their event",
    ),
    (
        "INSERT INTO dead (seq, observer, died, attempts, error) SELECT seq, 99, 0, 1, '' FROM delivery WHERE observer = 99",
        "INSERT INTO dead (event, observer, died, attempts, error) SELECT event, 99, 0, 1, '' FROM delivery WHERE observer = 99",
        "1 observations are pending and dead letters at the same time",
    ),
    (
        "UPDATE delivery SET lane = NULL WHERE observer = (SELECT id FROM observer WHERE name = 'waits')",
        "UPDATE delivery SET lane = NULL WHERE observer = (SELECT id FROM observer WHERE name = 'waits')",
        "1 pending observations of an observer in order have no ordering key",
    ),
    (
        "UPDATE delivery SET attempts = -1 WHERE observer = 99",
        "UPDATE delivery SET attempts = -1 WHERE observer = 99",
        "1 pending observations have a number of attempts that is no number of attempts",
    ),
    (
        "UPDATE event SET form = 7 WHERE subject = 'anna'",
        "UPDATE event SET form = 7 WHERE subject = 'anna'::bytea",
        "1 events are in a form that this version does not know",
    ),
    (
        "UPDATE event SET state = 9 WHERE subject = 'anna'",
        "UPDATE event SET state = 9 WHERE subject = 'anna'::bytea",
        "1 events are in a state that this version does not know",
    ),
    (
        "UPDATE event SET account = 'moon/shop' WHERE subject = 'emil'",
        "UPDATE event SET account = 'moon/shop' WHERE subject = 'emil'::bytea",
        "the account `moon/shop`, whose platform this version does not know",
    ),
    (
        "INSERT INTO dedupe (key, seq) VALUES (x'00', 1)",
        "INSERT INTO dedupe (key, id, admitted) VALUES ('\\x00', gen_random_uuid(), 0)",
        "1 keys of events have another length",
    ),
];

#[tokio::test]
async fn what_is_not_whole_is_named() {
    for is_postgres in [false, true] {
        let Some(place) = Place::fresh(is_postgres).await else { continue };
        let journal = place.open(&settings()).await;
        fill(&*journal).await;
        // Beside the server.
        let said = place.ok(&["journal", "check"]).await;
        for part in [
            "6 events",
            "observer ordered: 2 pending, the oldest of 1970-",
            "observer letters: 0 pending; 1 dead letters",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(said.ends_with("no problem\n"), "{said}");
        journal.close().await.unwrap();
        drop(journal);
        for (of_file, of_database, _) in FAULTS {
            place.execute(if is_postgres { of_database } else { of_file }).await;
        }
        let (own, named) = if is_postgres {
            (
                "SELECT setval(pg_get_serial_sequence('observer', 'id'), 1)",
                "3 observers have ids that the next observers would get, too",
            )
        } else {
            ("UPDATE event SET id = randomblob(16) WHERE subject = 'emil'", "1 events are at another place")
        };
        place.execute(own).await;
        let output = place.run(&["journal", "check"]).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for named in FAULTS.iter().map(|(_, _, named)| *named).chain([named]) {
            assert!(said.contains(&format!("problem: {named}")) || said.contains(named), "{named}: {said}");
        }
        let output = place.run(&["journal", "check", "--json"]).await;
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!((&report["ok"], &report["contents"]["events"]), (&Json::from(false), &Json::from(6)));
        assert!(report["problems"].as_array().unwrap().len() > FAULTS.len(), "{report}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let place = Place::sqlite();
    let output = place.run(&["journal", "check", "--json"]).await;
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &Json::from(false)));
    assert!(report["problems"][0].as_str().unwrap().contains("there is no journal at"), "{report}");
    let journal = place.open(&settings()).await;
    for number in 1..200 {
        answer(&*journal, "anna", number, &["audit"]).await;
    }
    journal.close().await.unwrap();
    drop(journal);
    let file = place.file().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();
    let output = place.run(&["journal", "check"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("problem: ") && said.contains("damaged"), "{said}");
}
