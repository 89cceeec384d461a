//! Backups: what is in a journal at one moment is in the file, and in the journal that is made of it.

mod check;
mod limits;
mod refusals;
mod versions;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
    time::Duration,
};

use echostr::{
    envelope::UsedQuery,
    internals::journal::{
        Archive, Filter, Finish, Finished, Journal, LeaseWrite, Leased, Observer, Options, ReplySender, Wait,
        postgres::{PostgresArchive, PostgresJournal},
        sqlite::{SqliteArchive, SqliteJournal},
    },
    payload::Payload,
    platform::Body,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    archive::echostr,
    journal::{document, known, message, options, run},
    support::{
        postgres::{count, database, execute},
        until,
    },
};

/// How long leases last.
const TERM: Duration = Duration::from_secs(60);

/// A subject that PostgreSQL has a hash for.
const LONG: usize = 300;

/// A text that is kept as it is.
const ODD: &str = "berta\0\\t\t\r\n\\N 贝";

/// Where a journal is, and a configuration that names it.
pub struct Place {
    folder: TempDir,
    pub url: String,
}

impl Place {
    fn at(url: impl FnOnce(&Path) -> String) -> Self {
        let folder = TempDir::new().unwrap();
        let url = url(folder.path());
        std::fs::write(folder.path().join("echostr.toml"), format!("[journal]\nurl = \"{url}\"\n")).unwrap();
        Self { folder, url }
    }

    pub fn sqlite() -> Self {
        Self::at(|folder| format!("sqlite://{}", folder.join("data/journal.db").display()))
    }

    pub async fn postgres() -> Option<Self> {
        let url = database().await?;
        Some(Self::at(|_| url))
    }

    /// A fresh place of one kind or the other; `None` where PostgreSQL is not installed.
    async fn fresh(is_postgres: bool) -> Option<Self> {
        if is_postgres { Self::postgres().await } else { Some(Self::sqlite()) }
    }

    pub fn file(&self) -> Option<PathBuf> {
        self.url.strip_prefix("sqlite://").map(PathBuf::from)
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub async fn open(&self, options: &Options) -> Arc<dyn Journal> {
        let journal: Arc<dyn Journal> = match self.file() {
            Some(file) => Arc::new(SqliteJournal::open(&file, options).unwrap()),
            None => Arc::new(PostgresJournal::open(&self.url, options).unwrap()),
        };
        until(async || journal.health().is_ok()).await;
        journal
    }

    pub fn archive(&self) -> Box<dyn Archive> {
        match self.file() {
            Some(file) => Box::new(SqliteArchive::open(&file).unwrap()),
            None => Box::new(PostgresArchive::open(&self.url).unwrap()),
        }
    }

    /// Changes what is stored.
    pub async fn execute(&self, statement: &str) {
        let done = match self.file() {
            Some(file) => rusqlite::Connection::open(file).unwrap().execute_batch(statement).is_ok(),
            None => execute(&self.url, statement).await,
        };
        assert!(done, "{statement}");
    }

    pub async fn count(&self, query: &str) -> i64 {
        match self.file() {
            Some(file) => rusqlite::Connection::open(file).unwrap().query_row(query, [], |row| row.get(0)).unwrap(),
            None => count(&self.url, query).await,
        }
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        echostr(self.folder.path(), arguments).await
    }

    /// Runs a command that has to succeed.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// Runs a command that has to fail; gives what it says.
    pub async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn observer(name: &str, in_order: bool) -> Observer {
    Observer { name: name.into(), in_order, from_beginning: false, wants: Arc::new(|_, _| true), unanswered: None }
}

/// The observers of every journal here.
fn settings() -> Options {
    options(vec![
        observer("audit", false),
        observer("ordered", true),
        observer("waits", true),
        observer("letters", false),
    ])
}

async fn lease(journal: &dyn Journal, observer: &str) -> Vec<Leased> {
    let mut leased = Vec::new();
    until(async || {
        leased = journal.lease(observer, 100, TERM).await.unwrap();
        !leased.is_empty()
    })
    .await;
    leased
}

async fn finish(journal: &dyn Journal, leased: &[Leased], outcome: Finish) {
    let finished = leased.iter().map(|it| Finished { lease: it.lease.clone(), outcome: outcome.clone() });
    journal.finish(finished.collect()).await.unwrap();
}

fn used(byte: u8) -> UsedQuery {
    UsedQuery { signature: [byte; 20], body: u64::from(byte) << 56, term: Duration::from_secs(600) }
}

async fn put(journal: &dyn Journal, name: &str, value: &str) {
    let held = journal.acquire_lease(name, TERM).await.unwrap().unwrap();
    let write = LeaseWrite { value: Some(value.to_owned()), ..LeaseWrite::default() };
    journal.write_lease(&held, write).await.unwrap();
}

/// An answered event of a user for some observers.
async fn answer(journal: &dyn Journal, user: &str, number: u64, observers: &[&str]) -> Uuid {
    let entry = run(journal.admit(message(user, number).new_event(journal, observers)).await.unwrap());
    journal.record(&entry, document(&format!("reply to {number}")));
    entry.answered().await.clone().unwrap();
    entry.id
}

/// What a repeat of a message is answered.
async fn repeat(journal: &dyn Journal, user: &str, number: u64) -> (Uuid, Body) {
    let entry = known(journal.admit(message(user, number).new_event(journal, &[])).await.unwrap());
    (entry.id, entry.answered().await.clone().unwrap())
}

fn reply(number: u64) -> Body {
    Body::Document(format!("reply to {number}"))
}

/// One of everything that a journal can hold.
async fn fill(journal: &dyn Journal) -> Uuid {
    answer(journal, "anna", 1, &["audit"]).await;
    answer(journal, &"l".repeat(LONG), 2, &["ordered"]).await;
    // What the text format of a database has to escape, and what none of its texts holds.
    let mut odd = message("berta", 3).new_event(journal, &["ordered", "letters"]);
    (odd.record.subject, odd.record.payload) = (Some(ODD.into()), Payload::new(ODD.to_owned()));
    let entry = run(journal.admit(odd).await.unwrap());
    journal.record(&entry, document("reply to 3"));
    entry.answered().await.clone().unwrap();
    let letters = lease(journal, "letters").await;
    finish(journal, &letters, Finish::Dead { error: "no\\luck\n".to_owned() }).await;
    // On lease when the backup is made.
    assert_eq!(lease(journal, "audit").await.len(), 1);
    // Without a reply.
    let running = run(journal.admit(message("carla", 4).new_event(journal, &[])).await.unwrap());
    journal.store(&running);
    running.stored().await.clone().unwrap();
    // A late reply that waits for the user, in an order that does not follow from the event.
    let event = message("dora", 5).new_event(journal, &[]);
    let waits = Some(Wait { user: "dora of the shop".into(), keep: Duration::from_secs(3600) });
    let sender = ReplySender { observer: "waits".into(), is_due: true, record: event.record.clone(), waits };
    let late = run(journal.admit(event).await.unwrap());
    journal
        .record(&late, echostr::internals::journal::ReplyRecord { sender: Some(Box::new(sender)), ..document("late") });
    late.answered().await.clone().unwrap();
    put(journal, "kf/shop/1", "cursor").await;
    put(journal, "token/mp/shop", "sealed").await;
    if let Some(claim) = journal.use_query(&used(7)) {
        claim.await.unwrap();
    }
    // What makes it durable where it is written with the next event.
    answer(journal, "emil", 6, &[]).await;
    late.id
}

/// Everything of [`fill`] is there, and goes on.
async fn verify(place: &Place) {
    let journal = place.open(&settings()).await;
    let archive = place.archive();
    let mut replies = Vec::new();
    for (user, number) in [("anna", 1), (&*"l".repeat(LONG), 2), ("berta", 3), ("emil", 6)] {
        let (id, body) = repeat(&*journal, user, number).await;
        assert_eq!(body, reply(number), "{user}");
        // A file counts it a moment later.
        until(async || archive.event(id).await.unwrap().unwrap().deliveries == 2).await;
        let stored = archive.event(id).await.unwrap().unwrap();
        let subject = if number == 3 { ODD } else { user };
        assert_eq!(stored.record.subject.as_deref(), Some(subject));
        assert!(stored.record.payload.text().contains(subject));
        replies.push(id);
    }
    // It never had a reply: it runs again under its identity.
    assert_eq!(run(journal.admit(message("carla", 4).new_event(&*journal, &[])).await.unwrap()).deliveries(), 2);
    // The lease that was held is over, and its attempt was one.
    let audit = lease(&*journal, "audit").await;
    assert_eq!((audit.len(), audit[0].lease.attempt, audit[0].lease.id), (1, 2, replies[0]));
    finish(&*journal, &audit, Finish::Done).await;
    let ordered = lease(&*journal, "ordered").await;
    let mut ids: Vec<Uuid> = ordered.iter().map(|it| it.lease.id).collect();
    ids.sort();
    assert_eq!(ids, replies[1..3]);
    finish(&*journal, &ordered, Finish::Done).await;
    let dead = archive.dead(&Filter::default(), None, 10).await.unwrap();
    assert_eq!((dead.len(), &*dead[0].error, dead[0].event.id), (1, "no\\luck\n", replies[2]));
    assert_eq!(archive.revive(vec![(dead[0].event.id, "letters".to_owned())]).await, Ok(1));
    finish(&*journal, &lease(&*journal, "letters").await, Finish::Done).await;
    // An event of an ordering key waits for those before it, those of the backup included.
    let again = answer(&*journal, &"l".repeat(LONG), 7, &["ordered"]).await;
    assert_eq!(lease(&*journal, "ordered").await[0].lease.id, again);
    let recipient = echostr::internals::journal::Recipient {
        observer: "waits".into(),
        account: "mp/shop".into(),
        user: "dora of the shop".into(),
    };
    let next = run(journal.admit(message("dora", 8).new_event(&*journal, &[])).await.unwrap());
    journal.store(&next);
    next.stored().await.clone().unwrap();
    let taken = journal.take_reply(&recipient, &next).await.unwrap().unwrap();
    assert_eq!(taken.body, Body::Document("late".to_owned()));
    assert_eq!(journal.read_lease("kf/shop/1").await, Ok(Some("cursor".to_owned())));
    assert_eq!(journal.read_lease("token/mp/shop").await, Ok(None));
    // A query that was used for one body is not used for another.
    match journal.use_query(&UsedQuery { body: 1, ..used(7) }) {
        Some(stands) => assert_eq!(stands.await, Ok(used(7).body)),
        None => assert!(journal.used_queries().contains(&UsedQuery { term: Duration::ZERO, ..used(7) })),
    }
    journal.close().await.unwrap();
    place.ok(&["journal", "check"]).await;
}

/// A backup of each journal, into each.
#[tokio::test]
async fn what_is_backed_up_is_restored_into_any_journal() {
    for (is_postgres, into_postgres) in [(false, false), (false, true), (true, false), (true, true)] {
        let Some(from) = Place::fresh(is_postgres).await else { continue };
        let Some(to) = Place::fresh(into_postgres).await else { continue };
        let journal = from.open(&settings()).await;
        fill(&*journal).await;
        let backup = from.path("backup.db");
        let said = from.ok(&["backup", &backup]).await;
        assert!(said.starts_with("backed up 6 events, 4 pending observations and 1 dead letters to "), "{said}");
        // What comes later is not in it.
        answer(&*journal, "later", 9, &[]).await;
        let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let said = to.ok(&["restore", &backup]).await;
        for part in
            ["restored 6 events, 4 pending observations and 1 dead letters", "everything since", "access tokens"]
        {
            assert!(said.contains(part), "{said}");
        }
        assert!(!std::fs::read(&backup).unwrap().windows(6).any(|bytes| bytes == b"sealed"), "a token is in the file");
        verify(&to).await;
        journal.close().await.unwrap();
    }
}

/// One moment, and not the rows of several: every event is there with its observation.
#[tokio::test]
async fn a_backup_is_of_one_moment_while_events_come() {
    for is_postgres in [false, true] {
        let Some(from) = Place::fresh(is_postgres).await else { continue };
        let journal = from.open(&settings()).await;
        answer(&*journal, "first", 1, &["ordered"]).await;
        let writing = async {
            for number in 2.. {
                answer(&*journal, "user", number, &["ordered"]).await;
            }
        };
        let backup = from.path("backup.db");
        let command = ["backup", &*backup];
        let said = tokio::select! {
            () = writing => unreachable!("it writes on"),
            said = from.ok(&command) => said,
        };
        let events: u64 = said.split(' ').nth(2).unwrap().parse().unwrap();
        assert!(events >= 1);
        assert!(said.contains(&format!(" {events} events, {events} pending observations")), "{said}");
        let to = Place::sqlite();
        to.ok(&["restore", &backup]).await;
        to.ok(&["journal", "check"]).await;
        journal.close().await.unwrap();
    }
}

/// Nodes make identities side by side, and a file orders events by a part of them.
#[tokio::test]
async fn events_that_nodes_gave_the_same_number_are_all_restored() {
    let Some(from) = Place::postgres().await else { return };
    let journal = from.open(&settings()).await;
    let first = message("a", 1).new_event(&*journal, &["audit"]);
    let (high, low) = first.id.as_u64_pair();
    let mut ids = Vec::new();
    for (number, id) in
        [(1, first.id), (2, Uuid::from_u64_pair(high, low ^ 1)), (3, Uuid::from_u64_pair(high + 1, low))]
    {
        let event =
            echostr::internals::journal::NewEvent { id, ..message("a", number).new_event(&*journal, &["audit"]) };
        let entry = run(journal.admit(event).await.unwrap());
        journal.record(&entry, document(&format!("reply to {number}")));
        entry.answered().await.clone().unwrap();
        ids.push(id);
    }
    // Its event is gone; no other may be taken for it.
    let orphan = Uuid::from_u64_pair(high, low ^ 2);
    let event = echostr::internals::journal::NewEvent { id: orphan, ..message("gone", 4).new_event(&*journal, &[]) };
    let entry = run(journal.admit(event).await.unwrap());
    journal.record(&entry, document("gone"));
    entry.answered().await.clone().unwrap();
    from.execute(&format!("DELETE FROM event WHERE id = '{orphan}'")).await;
    for id in &ids {
        put(&*journal, &format!("late/{id}"), &id.to_string()).await;
    }
    let backup = from.path("backup.db");
    from.ok(&["backup", &backup]).await;
    let (file, Some(other)) = (Place::sqlite(), Place::postgres().await) else { return };
    let said = file.ok(&["restore", &backup]).await;
    assert!(said.contains("2 events have a new identity"), "{said}");
    let said = other.ok(&["restore", &backup]).await;
    assert!(!said.contains("new identity"), "{said}");
    for place in [&file, &other] {
        place.ok(&["journal", "check"]).await;
        let journal = place.open(&settings()).await;
        assert_eq!(lease(&*journal, "audit").await.len(), 3);
        for (number, id) in (1..=3).zip(&ids) {
            let (now, body) = repeat(&*journal, "a", number).await;
            assert_eq!(body, reply(number));
            assert!(place.archive().event(now).await.unwrap().is_some());
            // What is stored of an event by its identity is found by the identity that it has.
            assert_eq!(journal.read_lease(&format!("late/{now}")).await, Ok(Some(id.to_string())));
            assert_eq!(now == *id, place.file().is_none() || ids.iter().min() == Some(id));
        }
        let (_, body) = repeat(&*journal, "gone", 4).await;
        assert_eq!(body, Body::Plain("success"));
        journal.close().await.unwrap();
    }
}

/// What no node can answer any more is offered to who answers it late, as after the end of any node.
#[tokio::test]
async fn a_node_takes_over_what_was_in_flight_when_the_backup_was_made() {
    let (from, Some(to)) = (Place::sqlite(), Place::postgres().await) else { return };
    let journal = from.open(&settings()).await;
    fill(&*journal).await;
    let backup = from.path("backup.db");
    from.ok(&["backup", &backup]).await;
    to.ok(&["restore", &backup]).await;
    let owned = "SELECT count(*) FROM event JOIN node ON node.id = event.owner WHERE state = 0";
    assert_eq!(to.count(owned).await, 1);
    assert_eq!(to.count("SELECT count(*) FROM event WHERE owner IS NOT NULL").await, 1);
    journal.close().await.unwrap();
}
