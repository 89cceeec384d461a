//! One behaviour for every journal: each test runs on all of them that can have what it tests.

use std::{
    borrow::Cow,
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use echostr::{
    clock::Clock,
    event::Platform,
    internals::{
        journal::{
            Absent, Admission, Archive, Entry, EventRecord, Filter, Finish, Finished, GiveUp, Journal, JournalError,
            LeaseWrite, Leased, NewEvent, ObservationState, Observer, ObserverState, Options, Pulled, Recipient,
            ReplyRecord, ReplySender, Room, State, TakenReply, Undecoded, Wait, WaitingReply,
            memory::MemoryJournal,
            postgres::{PostgresArchive, PostgresJournal},
            sqlite::{SqliteArchive, SqliteJournal},
        },
        supervisor::Supervisor,
    },
    payload::{Form, Payload},
    platform::{Body, DedupeKey},
};
use tempfile::TempDir;
use tokio::time;
use uuid::Uuid;

/// No test takes nearly so long.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a journal is, so that it can be opened again as the next process would.
enum Place {
    Memory,
    Sqlite(TempDir),
    Postgres(String),
}

impl Place {
    fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Memory | Self::Postgres(_) => None,
            Self::Sqlite(folder) => Some(folder.path().join("journal.db")),
        }
    }

    async fn open(&self, options: &Options) -> Arc<dyn Journal> {
        match self {
            Self::Memory => Arc::new(MemoryJournal::new(options)),
            Self::Sqlite(_) => Arc::new(SqliteJournal::open(&self.file().unwrap(), options).unwrap()),
            Self::Postgres(url) => Arc::new(PostgresJournal::open(url, options).unwrap()),
        }
    }

    /// Changes what is stored.
    async fn execute(&self, statement: &str) {
        let done = match self {
            Self::Postgres(url) => crate::support::postgres::execute(url, statement).await,
            _ => rusqlite::Connection::open(self.file().unwrap()).unwrap().execute(statement, []).is_ok(),
        };
        assert!(done, "{statement}");
    }

    async fn archive(&self) -> Box<dyn Archive> {
        match self {
            Self::Postgres(url) => Box::new(PostgresArchive::open(url).unwrap()),
            _ => Box::new(SqliteArchive::open(&self.file().unwrap()).unwrap()),
        }
    }
}

/// A test for each journal.
macro_rules! on_each {
    ($($name:ident on $($journal:ident),+;)+) => {$(
        mod $name {
            $(#[tokio::test]
            async fn $journal() {
                let Some(place) = on_each!(@place $journal) else { return };
                // What waits for a condition that never comes is a failure too.
                let tested = super::time::timeout(super::TEST_TIMEOUT, super::$name(place)).await;
                assert!(tested.is_ok(), "not done in {:?}", super::TEST_TIMEOUT);
            })+
        }
    )+};
    (@place memory) => { Some(super::Place::Memory) };
    (@place sqlite) => { Some(super::Place::sqlite()) };
    (@place postgres) => { crate::support::postgres::database().await.map(super::Place::Postgres) };
}

on_each! {
    an_event_is_admitted_once on memory, sqlite, postgres;
    what_this_process_knows_is_not_decoded_again on memory, sqlite, postgres;
    what_is_in_the_file_is_not_decoded_again on sqlite;
    different_events_of_one_second_are_both_kept on memory, sqlite, postgres;
    of_many_at_one_time_one_runs on memory, sqlite, postgres;
    a_key_with_a_window_is_free_again_after_it on memory, sqlite, postgres;
    an_observer_is_given_each_event_once on memory, sqlite, postgres;
    a_failed_event_is_given_again_after_its_pause on memory, sqlite, postgres;
    a_lost_lease_cannot_be_ended on memory, sqlite, postgres;
    a_released_lease_does_not_count on memory, sqlite, postgres;
    a_postponed_lease_does_not_count_and_comes_later on memory, sqlite, postgres;
    an_account_without_room_hides_no_other on memory, sqlite, postgres;
    every_account_has_its_turn on memory, sqlite, postgres;
    in_order_an_account_without_room_hides_no_other on memory, sqlite, postgres;
    users_of_one_name_of_two_accounts_are_two on memory, sqlite, postgres;
    in_order_a_failing_event_holds_back_its_subject_only on memory, sqlite, postgres;
    what_is_recorded_survives on sqlite, postgres;
    an_event_whose_process_is_gone_runs_again_with_its_identity on sqlite, postgres;
    leases_of_a_process_that_is_gone_are_over on sqlite, postgres;
    observers_come_and_go on sqlite;
    what_a_missing_observer_has_still_to_see_is_kept_for_it on sqlite, postgres;
    what_is_kept_for_a_missing_observer_goes_with_the_retention on sqlite, postgres;
    what_is_kept_for_a_missing_observer_goes_first_when_there_is_no_room on sqlite;
    what_nodes_keep_for_a_missing_observer_goes_first_when_there_is_no_room on postgres;
    a_missing_observer_goes_on_with_the_past_where_it_was on sqlite;
    of_the_past_an_observer_gets_what_it_wants on sqlite, postgres;
    observers_are_listed_and_only_absent_ones_removed on sqlite, postgres;
    dead_letters_are_revived_and_dropped on sqlite, postgres;
    events_are_found_by_what_they_are on sqlite, postgres;
    replayed_events_are_given_again on sqlite, postgres;
    what_is_replayed_to_all_is_given_to_those_it_was_for on sqlite, postgres;
    any_text_is_kept_as_it_is on sqlite, postgres;
    a_row_of_an_unknown_platform_is_named on sqlite, postgres;
    a_row_with_an_unknown_number_is_named_and_read_as_nothing_else on sqlite, postgres;
    retention_leaves_what_observers_need on sqlite, postgres;
    a_full_journal_takes_nothing_until_there_is_room on memory, sqlite;
    what_was_answered_is_answered_when_there_is_no_room on memory, sqlite, postgres;
    texts_count_as_they_are on memory;
    replies_count_and_the_oldest_are_forgotten on memory;
    slots_count_and_are_bounded on memory;
    late_and_pulled_events_count on memory;
    an_event_that_can_never_fit_is_refused_and_others_are_not on memory;
    a_closed_journal_takes_nothing on memory, sqlite, postgres;
    a_slot_has_one_holder_at_a_time on memory, sqlite, postgres;
    a_slot_outlives_the_process_and_its_hold_does_not on sqlite, postgres;
    a_slot_ends_when_it_is_to on memory, sqlite, postgres;
    a_former_holder_writes_nothing_after_its_slot_was_removed on sqlite, postgres;
    pulled_events_come_with_their_slot_and_once on memory, sqlite, postgres;
    the_reply_of_a_pulled_event_is_given_with_it on memory, sqlite, postgres;
    a_reply_that_was_given_up_is_offered_to_its_sender on memory, sqlite, postgres;
    a_late_reply_waits_for_its_user_and_is_taken_once on memory, sqlite, postgres;
    a_late_reply_that_nobody_takes_comes_to_its_observer on memory, sqlite, postgres;
    another_node_gives_up_on_a_reply on postgres;
}

fn observer(name: &str) -> Observer {
    Observer {
        name: name.into(),
        in_order: false,
        from_beginning: false,
        wants: Arc::new(|_, _| true),
        unanswered: None,
    }
}

pub fn options(observers: Vec<Observer>) -> Options {
    let (retention, supervisor) = (Duration::from_secs(3600), Supervisor::default());
    Options { retention, max_size: 64 << 20, observers, supervisor, clock: Clock::system(), commits: None }
}

/// A text message of an Official Account: its key is of its user and number.
pub struct Message {
    user: String,
    number: u64,
    content: String,
    window: Option<Duration>,
    account: &'static str,
}

pub fn message(user: &str, number: u64) -> Message {
    Message { user: user.to_owned(), number, content: format!("message {number}"), window: None, account: "mp/shop" }
}

impl Message {
    pub fn new_event(&self, journal: &dyn Journal, observers: &[&str]) -> NewEvent {
        let text = format!(
            "<xml><ToUserName>gh</ToUserName><FromUserName>{}</FromUserName><CreateTime>1</CreateTime>\
             <MsgType>text</MsgType><Content>{}</Content><MsgId>{}</MsgId></xml>",
            self.user, self.content, self.number
        );
        let key = {
            let tree = echostr::payload::parse(Form::Xml, &text).unwrap();
            echostr::platform::dedupe_key(Platform::Mp, self.account, None, &tree, &text, &|_| None).unwrap()
        };
        let record = EventRecord {
            platform: Platform::Mp,
            account: self.account.into(),
            event_type: Cow::Borrowed("mp.message.text"),
            subject: Some(self.user.as_str().into()),
            form: Form::Xml,
            payload: Payload::new(text),
            query: None,
            received: 1_000 * i64::try_from(self.number).unwrap(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        NewEvent {
            id: journal.next_id(i64::try_from(now.as_millis()).unwrap()),
            key: Some(DedupeKey { window: self.window, ..key }),
            record,
            observers: observers.iter().map(|name| (*name).into()).collect(),
        }
    }

    /// Admits it as the server does: it is decoded only if it is not known.
    async fn admit(&self, journal: &dyn Journal, observers: &[&str]) -> Admission {
        self.admit_counted(journal, observers).await.0
    }

    /// The same, with how often it was decoded.
    async fn admit_counted(&self, journal: &dyn Journal, observers: &[&str]) -> (Admission, u32) {
        let (event, mut decoded) = (self.new_event(journal, observers), 0);
        let (key, platform) = (event.key.unwrap(), event.record.platform);
        let mut decode = || {
            decoded += 1;
            event.clone()
        };
        let undecoded = Undecoded { key, platform, decode: &mut decode };
        (journal.admit_undecoded(undecoded).await.unwrap(), decoded)
    }

    /// Admits it as new and answers it.
    async fn answer(&self, journal: &dyn Journal, observers: &[&str]) -> Uuid {
        self.answer_if_there_is_room(journal, observers).await.expect("there is room")
    }

    /// The same; `None` when maintenance makes no room for it.
    async fn answer_if_there_is_room(&self, journal: &dyn Journal, observers: &[&str]) -> Option<Uuid> {
        while has_room(journal).await {
            let entry = match journal.admit(self.new_event(journal, observers)).await {
                Ok(admission) => run(admission),
                Err(JournalError::Full) => continue, // Since it was asked.
                Err(failure) => panic!("{failure}"),
            };
            journal.record(&entry, document(&format!("reply to {}", self.number)));
            assert!(entry.answered().await.is_ok());
            return Some(entry.id);
        }
        None
    }
}

pub fn document(text: &str) -> ReplyRecord {
    ReplyRecord { body: Body::Document(text.to_owned()), failure: None, sender: None }
}

#[track_caller]
pub fn run(admission: Admission) -> Arc<Entry> {
    match admission {
        Admission::Run(entry) => entry,
        Admission::Known(entry) => panic!("{} is known", entry.id),
    }
}

#[track_caller]
pub fn known(admission: Admission) -> Arc<Entry> {
    match admission {
        Admission::Known(entry) => entry,
        Admission::Run(entry) => panic!("{} is to be run", entry.id),
    }
}

const LEASE_DURATION: Duration = Duration::from_secs(60);

async fn lease(journal: &dyn Journal, observer: &str) -> Vec<Leased> {
    journal.lease(observer, 100, LEASE_DURATION).await.unwrap()
}

/// Leases until there is something; what is to come is a matter of moments.
async fn lease_some(journal: &dyn Journal, observer: &str) -> Vec<Leased> {
    for _ in 0..2000 {
        let leased = lease(journal, observer).await;
        if !leased.is_empty() {
            return leased;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing came for {observer}");
}

fn ids(leased: &[Leased]) -> Vec<Uuid> {
    leased.iter().map(|leased| leased.lease.id).collect()
}

async fn finish(journal: &dyn Journal, leased: &[Leased], outcome: Finish) {
    let finished = leased.iter().map(|it| Finished { lease: it.lease.clone(), outcome: outcome.clone() });
    journal.finish(finished.collect()).await.unwrap();
}

fn retry(after: Duration) -> Finish {
    Finish::Retry { after, error: "no luck".to_owned() }
}

fn dead() -> Finish {
    Finish::Dead { error: "no luck at all".to_owned() }
}

async fn an_event_is_admitted_once(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let message = message("user", 1);
    let first = run(message.admit(&*journal, &[]).await);
    let joined = known(message.admit(&*journal, &[]).await);
    assert_eq!((joined.id, joined.deliveries()), (first.id, 2));
    assert!(joined.reply().is_none());
    journal.record(&first, document("hello"));
    assert_eq!(joined.answered().await, &Ok(Body::Document("hello".to_owned())));
    let late = known(message.admit(&*journal, &[]).await);
    assert_eq!((late.id, late.deliveries()), (first.id, 3));
    assert_eq!(late.answered().await, &Ok(Body::Document("hello".to_owned())));
}

async fn what_this_process_knows_is_not_decoded_again(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let message = message("user", 1);
    let (first, decoded) = message.admit_counted(&*journal, &[]).await;
    assert_eq!((run(first).deliveries(), decoded), (1, 1));
    let (joined, decoded) = message.admit_counted(&*journal, &[]).await;
    assert_eq!((known(joined).deliveries(), decoded), (2, 0));
    // Nothing else has its key.
    let (eager, undecoded) = (message.new_event(&*journal, &[]), message.admit_counted(&*journal, &[]).await);
    assert_eq!((known(journal.admit(eager).await.unwrap()).deliveries(), undecoded.1), (4, 0));
}

async fn what_is_in_the_file_is_not_decoded_again(place: Place) {
    let (settings, message) = (options(vec![]), message("user", 1));
    let journal = place.open(&settings).await;
    let answered = message.answer(&*journal, &[]).await;
    let (again, decoded) = message.admit_counted(&*journal, &[]).await;
    assert_eq!((known(again).id, decoded), (answered, 0));
    let other = Message { number: 2, ..message };
    let interrupted = run(other.admit(&*journal, &[]).await);
    journal.store(&interrupted);
    interrupted.stored().await.unwrap();
    // Its responder runs again in the next process, which decodes it with the identity that it has.
    let journal = reopen(&place, journal, &settings).await;
    let (again, decoded) = other.admit_counted(&*journal, &[]).await;
    assert_eq!((run(again).id, decoded), (interrupted.id, 0));
}

async fn different_events_of_one_second_are_both_kept(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let first = message("user", 1).answer(&*journal, &[]).await;
    let second = message("user", 2).answer(&*journal, &[]).await;
    let other = message("other", 1).answer(&*journal, &[]).await;
    assert_eq!(HashSet::from([first, second, other]).len(), 3);
    assert!(first < second && second < other);
}

async fn of_many_at_one_time_one_runs(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let message = Arc::new(message("user", 1));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (journal, message) = (Arc::clone(&journal), Arc::clone(&message));
            tokio::spawn(async move {
                match message.admit(&*journal, &[]).await {
                    Admission::Run(entry) => {
                        journal.record(&entry, document("once"));
                        (true, entry.answered().await.clone())
                    }
                    Admission::Known(entry) => (false, entry.answered().await.clone()),
                }
            })
        })
        .collect();
    let mut runs = 0;
    for task in tasks {
        let (ran, reply) = task.await.unwrap();
        runs += u32::from(ran);
        assert_eq!(reply, Ok(Body::Document("once".to_owned())));
    }
    assert_eq!(runs, 1);
}

async fn a_key_with_a_window_is_free_again_after_it(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let short = Message { window: Some(Duration::from_millis(300)), ..message("user", 1) };
    let first = short.answer(&*journal, &[]).await;
    assert_eq!(known(short.admit(&*journal, &[]).await).id, first);
    let again = loop {
        match short.admit(&*journal, &[]).await {
            Admission::Run(entry) => break entry,
            Admission::Known(_) => time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_ne!(again.id, first);
    journal.record(&again, document("anew"));
    assert!(again.answered().await.is_ok());
    assert_eq!(known(short.admit(&*journal, &[]).await).id, again.id);
}

async fn an_observer_is_given_each_event_once(place: Place) {
    let journal = place.open(&options(vec![observer("audit"), observer("push")])).await;
    let mut wanted = Vec::new();
    for number in 1..=5 {
        wanted.push(message("user", number).answer(&*journal, &["audit"]).await);
    }
    message("user", 6).answer(&*journal, &[]).await;
    let some = journal.lease("audit", 2, LEASE_DURATION).await.unwrap();
    assert_eq!(some.len(), 2);
    assert_eq!(some[0].record.payload.text(), message("user", 1).new_event(&*journal, &[]).record.payload.text());
    let rest = lease(&*journal, "audit").await;
    let given: Vec<Uuid> = ids(&some).into_iter().chain(ids(&rest)).collect();
    assert_eq!(given, wanted);
    assert!(lease(&*journal, "audit").await.is_empty());
    assert!(lease(&*journal, "push").await.is_empty());
    assert!(lease(&*journal, "nobody").await.is_empty());
    finish(&*journal, &some, Finish::Done).await;
    finish(&*journal, &rest, Finish::Done).await;
    assert!(lease(&*journal, "audit").await.is_empty());
}

async fn a_failed_event_is_given_again_after_its_pause(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let id = message("user", 1).answer(&*journal, &["audit"]).await;
    let first = lease_some(&*journal, "audit").await;
    finish(&*journal, &first, retry(Duration::from_secs(3600))).await;
    assert!(lease(&*journal, "audit").await.is_empty());
    let other = message("user", 2).answer(&*journal, &["audit"]).await;
    let second = lease_some(&*journal, "audit").await;
    assert_eq!(ids(&second), [other]);
    finish(&*journal, &second, retry(Duration::from_millis(50))).await;
    let again = lease_some(&*journal, "audit").await;
    assert_eq!((ids(&again), again[0].lease.attempt), (vec![other], 2));
    assert_ne!(id, other);
}

async fn a_lost_lease_cannot_be_ended(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    message("user", 1).answer(&*journal, &["audit"]).await;
    let lost = journal.lease("audit", 1, Duration::from_millis(1)).await.unwrap();
    let held = lease_some(&*journal, "audit").await;
    assert_eq!((lost[0].lease.attempt, held[0].lease.attempt), (1, 2));
    finish(&*journal, &lost, Finish::Done).await;
    finish(&*journal, &held, retry(Duration::ZERO)).await;
    // Had the first one counted, there would be nothing left.
    assert_eq!(lease_some(&*journal, "audit").await[0].lease.attempt, 3);
}

async fn a_released_lease_does_not_count(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    message("user", 1).answer(&*journal, &["audit"]).await;
    for _ in 0..3 {
        let leased = lease_some(&*journal, "audit").await;
        assert_eq!(leased[0].lease.attempt, 1);
        finish(&*journal, &leased, Finish::Released).await;
    }
}

async fn a_postponed_lease_does_not_count_and_comes_later(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let id = message("user", 1).answer(&*journal, &["audit"]).await;
    for _ in 0..3 {
        let leased = lease_some(&*journal, "audit").await;
        assert_eq!((ids(&leased), leased[0].lease.attempt), (vec![id], 1));
        finish(&*journal, &leased, Finish::Postponed { after: Duration::from_millis(30) }).await;
        // A lease that has been ended cannot be ended again.
        finish(&*journal, &leased, Finish::Done).await;
    }
    let leased = lease_some(&*journal, "audit").await;
    finish(&*journal, &leased, Finish::Postponed { after: Duration::from_secs(3600) }).await;
    assert!(lease(&*journal, "audit").await.is_empty());
}

fn of_account(account: &'static str, user: &str, number: u64) -> Message {
    Message { account, ..message(user, number) }
}

fn room(limit: usize, each: usize, less: &[(&str, usize)]) -> Room {
    Room { limit, each, less: less.iter().map(|(account, less)| ((*account).into(), *less)).collect() }
}

/// How many were leased of each account, `a` to `c`.
fn by_account(leased: &[Leased]) -> [usize; 3] {
    ["mp/a", "mp/b", "mp/c"].map(|account| {
        let of_account = leased.iter().filter(|it| &*it.record.account == account);
        of_account.inspect(|it| assert_eq!(&*it.lease.account, account)).count()
    })
}

async fn an_account_without_room_hides_no_other(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    for number in 1..=50 {
        of_account("mp/a", "user", number).answer(&*journal, &["audit"]).await;
    }
    for number in 1..=3 {
        of_account("mp/b", "user", number).answer(&*journal, &["audit"]).await;
    }
    let leased = journal.lease_within("audit", room(100, 5, &[]), LEASE_DURATION).await.unwrap();
    assert_eq!(by_account(&leased), [5, 3, 0]);
    for number in 4..=6 {
        of_account("mp/b", "user", number).answer(&*journal, &["audit"]).await;
    }
    let leased =
        journal.lease_within("audit", room(100, 5, &[("mp/a", 0), ("mp/b", 2)]), LEASE_DURATION).await.unwrap();
    assert_eq!(by_account(&leased), [0, 2, 0]);
    let leased =
        journal.lease_within("audit", room(100, 5, &[("mp/a", 1), ("mp/c", 0)]), LEASE_DURATION).await.unwrap();
    assert_eq!(by_account(&leased), [1, 1, 0]);
    // Without a word about accounts there is room for all.
    assert_eq!(by_account(&lease(&*journal, "audit").await), [44, 0, 0]);
}

async fn every_account_has_its_turn(place: Place) {
    for in_order in [false, true] {
        let name = if in_order { "in order" } else { "audit" };
        let observers = vec![observer("audit"), Observer { in_order: true, ..observer("in order") }];
        let journal = place.open(&options(observers)).await;
        let offset = u64::from(in_order) * 100;
        for account in ["mp/a", "mp/b", "mp/c"] {
            for number in 1..=10 {
                let user = format!("user {number}");
                of_account(account, &user, offset + number).answer(&*journal, &[name]).await;
            }
        }
        let mut given = Vec::new();
        for _ in 0..6 {
            // The memory goes by age alone when nothing is full.
            let full: Vec<(&str, usize)> = match place {
                Place::Memory => given.last().copied().map(|last| (last, 0)).into_iter().collect(),
                _ => Vec::new(),
            };
            let leased = journal.lease_within(name, room(1, 10, &full), LEASE_DURATION).await.unwrap();
            assert_eq!(leased.len(), 1);
            let account = &*leased[0].record.account;
            given.push(*["mp/a", "mp/b", "mp/c"].iter().find(|known| **known == account).unwrap());
        }
        let mut accounts = given.clone();
        accounts.sort_unstable();
        accounts.dedup();
        let expected: &[&str] = match place {
            Place::Memory => &["mp/a", "mp/b"],
            _ => &["mp/a", "mp/b", "mp/c"],
        };
        assert_eq!(accounts, expected, "{given:?}");
        journal.close().await.unwrap();
    }
}

async fn in_order_an_account_without_room_hides_no_other(place: Place) {
    let journal = place.open(&options(vec![Observer { in_order: true, ..observer("audit") }])).await;
    for number in 1..=20 {
        let user = format!("user {}", number % 10);
        of_account("mp/a", &user, number).answer(&*journal, &["audit"]).await;
        of_account("mp/b", &user, number).answer(&*journal, &["audit"]).await;
    }
    let first = journal.lease_within("audit", room(100, 4, &[]), LEASE_DURATION).await.unwrap();
    assert_eq!(by_account(&first), [4, 4, 0]);
    let second = journal.lease_within("audit", room(100, 4, &[("mp/a", 0)]), LEASE_DURATION).await.unwrap();
    assert_eq!(by_account(&second), [0, 4, 0]);
    // What is left of ten users each; nobody is given two events at one time.
    let mut rest = [0, 0];
    let mut leased = [first, second].concat();
    for _ in 0..6 {
        let more = journal.lease_within("audit", room(100, 100, &[]), LEASE_DURATION).await.unwrap();
        let [a, b, _] = by_account(&more);
        rest = [rest[0] + a, rest[1] + b];
        leased.extend(more);
    }
    assert_eq!(rest, [6, 2]);
    let users: HashSet<_> = leased.iter().map(|it| (it.record.account.clone(), it.record.subject.clone())).collect();
    assert_eq!((users.len(), leased.len()), (20, 20));
}

async fn users_of_one_name_of_two_accounts_are_two(place: Place) {
    let journal = place.open(&options(vec![Observer { in_order: true, ..observer("audit") }])).await;
    for account in ["mp/a", "mp/b"] {
        for number in 1..=2 {
            of_account(account, "zhangsan", number).answer(&*journal, &["audit"]).await;
        }
    }
    let leased = lease(&*journal, "audit").await;
    assert_eq!(by_account(&leased), [1, 1, 0]);
    let (a, b): (Vec<_>, Vec<_>) = leased.into_iter().partition(|it| &*it.record.account == "mp/a");
    finish(&*journal, &a, retry(Duration::from_secs(3600))).await;
    finish(&*journal, &b, Finish::Done).await;
    assert_eq!(by_account(&lease_some(&*journal, "audit").await), [0, 1, 0]);
}

async fn in_order_a_failing_event_holds_back_its_subject_only(place: Place) {
    let journal = place.open(&options(vec![Observer { in_order: true, ..observer("audit") }])).await;
    let mut by_user = [Vec::new(), Vec::new()];
    for number in 1..=3 {
        by_user[0].push(message("anna", number).answer(&*journal, &["audit"]).await);
        by_user[1].push(message("ben", number).answer(&*journal, &["audit"]).await);
    }
    let heads = lease(&*journal, "audit").await;
    assert_eq!(HashSet::from([by_user[0][0], by_user[1][0]]), ids(&heads).into_iter().collect());
    // While they are leased, nobody else of their subjects comes.
    assert!(lease(&*journal, "audit").await.is_empty());
    let (anna, ben): (Vec<_>, Vec<_>) = heads.into_iter().partition(|it| it.record.subject.as_deref() == Some("anna"));
    finish(&*journal, &anna, retry(Duration::from_secs(3600))).await;
    finish(&*journal, &ben, Finish::Done).await;
    let mut of_ben = ids(&ben);
    loop {
        let next = lease(&*journal, "audit").await;
        if next.is_empty() {
            break;
        }
        assert_eq!(next.len(), 1);
        finish(&*journal, &next, Finish::Done).await;
        of_ben.extend(ids(&next));
    }
    assert_eq!(of_ben, by_user[1]);
}

async fn what_is_recorded_survives(place: Place) {
    let (good, bad, plain) = (message("user", 1), message("user", 2), message("user", 3));
    let journal = place.open(&options(vec![])).await;
    let id = good.answer(&*journal, &[]).await;
    let entry = run(bad.admit(&*journal, &[]).await);
    journal.record(
        &entry,
        ReplyRecord { body: Body::Document("sorry".to_owned()), failure: Some("it broke".to_owned()), sender: None },
    );
    assert!(entry.answered().await.is_ok());
    let entry = run(plain.admit(&*journal, &[]).await);
    journal.record(&entry, ReplyRecord { body: Body::Plain("success"), failure: None, sender: None });
    assert!(entry.answered().await.is_ok());
    journal.close().await.unwrap();
    drop(journal);

    let journal = place.open(&options(vec![])).await;
    let again = known(good.admit(&*journal, &[]).await);
    assert_eq!((again.id, again.deliveries()), (id, 2));
    assert_eq!(again.answered().await, &Ok(Body::Document("reply to 1".to_owned())));
    let again = known(bad.admit(&*journal, &[]).await);
    assert_eq!(again.answered().await, &Ok(Body::Document("sorry".to_owned())));
    assert_eq!(known(plain.admit(&*journal, &[]).await).answered().await, &Ok(Body::Plain("success")));
    journal.close().await.unwrap();
    let archive = place.archive().await;
    let stored = archive.events(&Filter::default(), None, 10).await.unwrap();
    let states: Vec<_> = stored.iter().map(|it| (it.state, it.reply.as_deref(), it.failure.as_deref())).collect();
    assert_eq!(
        states,
        [
            (State::Answered, Some("reply to 1"), None),
            (State::Defaulted, Some("sorry"), Some("it broke")),
            (State::Answered, None, None)
        ]
    );
    assert_eq!(stored.iter().map(|it| it.deliveries).collect::<Vec<_>>(), [2, 2, 2]);
}

async fn an_event_whose_process_is_gone_runs_again_with_its_identity(place: Place) {
    let message = message("user", 1);
    let journal = place.open(&options(vec![observer("audit")])).await;
    let entry = run(message.admit(&*journal, &["audit"]).await);
    journal.store(&entry);
    entry.stored().await.unwrap();
    assert!(entry.reply().is_none());
    journal.close().await.unwrap();
    drop(journal);

    let journal = place.open(&options(vec![observer("audit")])).await;
    let again = run(message.admit(&*journal, &["audit"]).await);
    assert_eq!((again.id, again.deliveries()), (entry.id, 2));
    assert_eq!(known(message.admit(&*journal, &["audit"]).await).id, entry.id);
    journal.record(&again, document("at last"));
    assert_eq!(again.answered().await, &Ok(Body::Document("at last".to_owned())));
    // Its observer was given it once.
    assert_eq!(ids(&lease_some(&*journal, "audit").await), [entry.id]);
    assert!(lease(&*journal, "audit").await.is_empty());
    journal.close().await.unwrap();
    let archive = place.archive().await;
    assert_eq!(archive.events(&Filter::default(), None, 10).await.unwrap().len(), 1);
}

async fn leases_of_a_process_that_is_gone_are_over(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let id = message("user", 1).answer(&*journal, &["audit"]).await;
    assert_eq!(lease(&*journal, "audit").await.len(), 1);
    journal.close().await.unwrap();
    drop(journal);
    let journal = place.open(&options(vec![observer("audit")])).await;
    let again = lease_some(&*journal, "audit").await;
    assert_eq!((ids(&again), again[0].lease.attempt), (vec![id], 2));
}

async fn observers_come_and_go(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let early = message("user", 1).answer(&*journal, &["audit"]).await;
    journal.close().await.unwrap();
    drop(journal);

    // One is gone, one begins with what is new, one with the beginning, and not with everything.
    let past = Observer { from_beginning: true, wants: Arc::new(|_, of| of == "mp.message.text"), ..observer("past") };
    let picky =
        Observer { from_beginning: true, wants: Arc::new(|account, _| account == "mp/no"), ..observer("picky") };
    let journal = place.open(&options(vec![observer("push"), past, picky])).await;
    let late = message("user", 2).answer(&*journal, &["push", "past"]).await;
    let mut seen = HashSet::new();
    while seen.len() < 2 {
        let leased = lease_some(&*journal, "past").await;
        finish(&*journal, &leased, Finish::Done).await;
        seen.extend(ids(&leased));
    }
    assert_eq!(seen, HashSet::from([early, late]));
    assert_eq!(ids(&lease_some(&*journal, "push").await), [late]);
    assert!(lease(&*journal, "picky").await.is_empty());
    journal.close().await.unwrap();
    let archive = place.archive().await;
    assert_eq!(archive.observers().await.unwrap(), ["audit", "past", "picky", "push"]);
    let deliveries = archive.observations(early).await.unwrap();
    let states: Vec<_> = deliveries.iter().map(|it| (it.observer.as_str(), it.state.as_str())).collect();
    assert_eq!(states, [("audit", "waiting"), ("past", "done")]);
    drop(archive);

    // Who comes back goes on with what it had, and with what is new; not with what came meanwhile.
    drop(journal);
    let journal = place.open(&options(vec![observer("audit")])).await;
    let latest = message("user", 3).answer(&*journal, &["audit"]).await;
    assert_eq!(ids(&lease_some(&*journal, "audit").await), [early, latest]);
}

async fn reopen(place: &Place, journal: Arc<dyn Journal>, options: &Options) -> Arc<dyn Journal> {
    journal.close().await.unwrap();
    drop(journal);
    place.open(options).await
}

/// What observers have to do with an event, as the archive says.
async fn states(place: &Place, event: Uuid) -> Vec<(String, &'static str)> {
    let deliveries = place.archive().await.observations(event).await.unwrap();
    deliveries.into_iter().map(|it| (it.observer, it.state.as_str())).collect()
}

/// Durable journals keep it, should the observer come back.
#[tokio::test]
async fn in_memory_nothing_waits_for_an_observer_that_a_reload_has_removed() {
    let journal = Place::Memory.open(&options(vec![observer("audit"), observer("push")])).await;
    journal.register(vec![observer("push")]).await.unwrap();
    // Of deliveries that began before.
    let both = message("user", 1).answer(&*journal, &["audit", "push"]).await;
    message("user", 2).answer(&*journal, &["audit"]).await;
    assert_eq!(journal.usage().waiting, 1);
    assert_eq!(lease(&*journal, "push").await.iter().map(|it| it.lease.id).collect::<Vec<_>>(), [both]);
    journal.register(vec![observer("audit"), observer("push")]).await.unwrap();
    assert!(lease(&*journal, "audit").await.is_empty());
}

async fn what_a_missing_observer_has_still_to_see_is_kept_for_it(place: Place) {
    let both = options(vec![observer("audit"), Observer { in_order: true, ..observer("push") }]);
    let journal = place.open(&both).await;
    let mut waiting = Vec::new();
    for number in 1..=5 {
        waiting.push(message("user", number).answer(&*journal, &["audit", "push"]).await);
    }
    // One is dead, one has failed before, one is leased when the process ends.
    let leased = journal.lease("audit", 3, LEASE_DURATION).await.unwrap();
    finish(&*journal, &leased[..1], dead()).await;
    finish(&*journal, &leased[1..2], retry(Duration::ZERO)).await;
    // Twice, as a server that is started anew without it again and again.
    let mut journal = reopen(&place, journal, &options(vec![observer("push")])).await;
    for number in 6..=7 {
        message("user", number).answer(&*journal, &["push"]).await;
        journal = reopen(&place, journal, &options(vec![observer("push")])).await;
    }
    assert!(lease(&*journal, "audit").await.is_empty(), "it is not registered");
    let letters = place.archive().await.dead(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(
        letters.iter().map(|it| (it.event.id, it.observer.as_str())).collect::<Vec<_>>(),
        [(waiting[0], "audit")]
    );
    assert_eq!(states(&place, waiting[1]).await[0], ("audit".to_owned(), "waiting"));

    let journal = reopen(&place, journal, &both).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(lease_some(&*journal, "audit").await);
    }
    seen.sort_by_key(|it| it.lease.id);
    assert_eq!(ids(&seen), waiting[1..]);
    assert_eq!(seen.iter().map(|it| it.lease.attempt).collect::<Vec<_>>(), [2, 2, 1, 1]);
    finish(&*journal, &seen, Finish::Done).await;
    let revived = place.archive().await.revive(vec![(waiting[0], "audit".to_owned())]).await.unwrap();
    assert_eq!((revived, ids(&lease_some(&*journal, "audit").await)), (1, vec![waiting[0]]));
}

async fn what_is_kept_for_a_missing_observer_goes_with_the_retention(place: Place) {
    let journal = place.open(&options(vec![observer("audit"), observer("push")])).await;
    let first = message("user", 1).answer(&*journal, &["audit", "push"]).await;
    let second = message("user", 2).answer(&*journal, &["audit"]).await;
    let leased = journal.lease("audit", 1, LEASE_DURATION).await.unwrap();
    finish(&*journal, &leased, dead()).await;
    // It is missing for longer than events are kept.
    let short = Options { retention: Duration::from_millis(1), ..options(vec![observer("push")]) };
    let journal = reopen(&place, journal, &short).await;
    let archive = place.archive().await;
    for _ in 0..6000 {
        if archive.observers().await.unwrap() == ["push"] && archive.event(second).await.unwrap().is_none() {
            break;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(archive.observers().await.unwrap(), ["push"]);
    assert!(archive.dead(&Filter::default(), None, 10).await.unwrap().is_empty());
    assert!(archive.event(second).await.unwrap().is_none(), "nobody needs it any more");
    assert_eq!(ids(&lease_some(&*journal, "push").await), [first], "another observer needs this one");
}

async fn what_is_kept_for_a_missing_observer_goes_first_when_there_is_no_room(place: Place) {
    let small = |observers| Options { max_size: 1 << 20, ..options(observers) };
    let journal = place.open(&small(vec![observer("audit"), observer("push")])).await;
    let big = |number| Message { content: "x".repeat(20_000), ..message("user", number) };
    let mut kept = Vec::new();
    for number in 1..=30 {
        kept.push(big(number).answer(&*journal, &["audit"]).await);
    }
    let journal = reopen(&place, journal, &small(vec![observer("push")])).await;
    // Those that nobody needs go before them, and there is room for a while.
    for number in 31..=60 {
        big(number).answer(&*journal, &[]).await;
    }
    let archive = place.archive().await;
    assert!(archive.event(kept[0]).await.unwrap().is_some(), "there was something that nobody needs");
    // What a registered observer needs does not go, and fills the journal in the end.
    let mut needed = Vec::new();
    for number in 61..=200 {
        let Some(id) = big(number).answer_if_there_is_room(&*journal, &["push"]).await else { break };
        needed.push(id);
    }
    assert!(needed.len() > 25, "{}: what is kept for the other one stands in the way", needed.len());
    assert!(archive.event(kept[0]).await.unwrap().is_none(), "the oldest is there, and there was no room");
    for id in needed {
        assert!(archive.event(id).await.unwrap().is_some());
    }
}

/// Whether there is room, or maintenance makes some.
async fn has_room(journal: &dyn Journal) -> bool {
    for _ in 0..300 {
        if journal.health().is_ok() {
            return true;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// The same with several nodes, which leave others some time to come back with theirs.
async fn what_nodes_keep_for_a_missing_observer_goes_first_when_there_is_no_room(place: Place) {
    let small = |observers| Options { max_size: 1 << 20, retention: Duration::from_secs(80), ..options(observers) };
    let journal = place.open(&small(vec![observer("audit"), observer("push")])).await;
    // PostgreSQL compresses what repeats itself.
    let text = || std::iter::repeat_with(|| char::from(rand::random_range(b'a'..=b'z'))).take(20_000).collect();
    let big = |number| Message { content: text(), ..message("user", number) };
    let (mut kept, mut needed) = (Vec::new(), Vec::new());
    for number in 1..=40 {
        kept.push(big(number).answer(&*journal, &["audit"]).await);
    }
    let leased = journal.lease("audit", 5, LEASE_DURATION).await.unwrap();
    finish(&*journal, &leased, dead()).await;
    let journal = reopen(&place, journal, &small(vec![observer("push")])).await;
    for number in 41..=70 {
        let event = big(number).new_event(&*journal, &["push"]);
        let Ok(admission) = journal.admit(event).await else { break };
        let entry = run(admission);
        journal.record(&entry, document("ok"));
        assert!(entry.answered().await.is_ok());
        needed.push(entry.id);
    }
    assert!(needed.len() > 5, "{}", needed.len());
    let archive = place.archive().await;
    for _ in 0..9000 {
        if archive.event(kept[0]).await.unwrap().is_none() && journal.health().is_ok() {
            break;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(journal.health(), Ok(()));
    assert!(archive.event(kept[0]).await.unwrap().is_none(), "the oldest is there, and there is no room");
    assert_eq!(archive.observers().await.unwrap(), ["audit", "push"], "its time is not over");
    for id in needed {
        assert!(archive.event(id).await.unwrap().is_some());
    }
}

async fn a_missing_observer_goes_on_with_the_past_where_it_was(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let mut all = Vec::new();
    for number in 1..=20 {
        all.push(message("user", number).answer(&*journal, &[]).await);
    }
    let past = || Observer { from_beginning: true, ..observer("past") };
    let mut journal = reopen(&place, journal, &options(vec![past()])).await;
    // It may be anywhere in the past when it goes missing.
    for _ in 0..2 {
        journal = reopen(&place, journal, &options(vec![])).await;
    }
    let journal = reopen(&place, journal, &options(vec![past()])).await;
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let leased = lease_some(&*journal, "past").await;
        finish(&*journal, &leased, Finish::Done).await;
        seen.extend(ids(&leased));
    }
    seen.sort();
    assert_eq!(seen, all);
}

async fn of_the_past_an_observer_gets_what_it_wants(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let mut wanted = Vec::new();
    // More than one step of maintenance offers.
    for number in 1..=700 {
        let account = if number % 5 < 2 { "mp/a" } else { "mp/b" };
        let id = of_account(account, "user", number).answer(&*journal, &[]).await;
        wanted.extend((account == "mp/a").then_some(id));
    }
    let past = Observer { from_beginning: true, wants: Arc::new(|account, _| account == "mp/a"), ..observer("past") };
    let journal = reopen(&place, journal, &options(vec![past])).await;
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        let leased = lease_some(&*journal, "past").await;
        finish(&*journal, &leased, Finish::Done).await;
        seen.extend(ids(&leased));
    }
    // One that comes later is the only one left.
    let late = of_account("mp/a", "user", 701).answer(&*journal, &["past"]).await;
    assert_eq!(ids(&lease_some(&*journal, "past").await), [late]);
    seen.sort();
    assert_eq!(seen, wanted);
    journal.close().await.unwrap();
    let archive = place.archive().await;
    assert_eq!(archive.observations(wanted[0]).await.unwrap().len(), 1);
    let other = archive.events(&Filter::default(), Some(wanted[0]), 1).await.unwrap();
    assert_eq!((&*other[0].record.account, archive.observations(other[0].id).await.unwrap().len()), ("mp/b", 0));
}

async fn observers_are_listed_and_only_absent_ones_removed(place: Place) {
    let both = || options(vec![observer("audit"), observer("push")]);
    let mut journal = place.open(&both()).await;
    let mut all = Vec::new();
    // More than one step removes.
    for number in 1..=1100 {
        let names: &[&str] = if number <= 3 { &["audit", "push"] } else { &["audit"] };
        all.push(message("user", number).answer(&*journal, names).await);
    }
    let leased = journal.lease("audit", 2, LEASE_DURATION).await.unwrap();
    finish(&*journal, &leased, dead()).await;
    let state = |name: &str, pending, oldest, dead, absent_since: Option<i64>| ObserverState {
        name: name.to_owned(),
        absent_since,
        pending,
        oldest,
        dead,
    };
    let registered = [state("audit", 1098, Some(3_000), 2, None), state("push", 3, Some(1_000), 0, None)];
    assert_eq!(place.archive().await.observer_states().await.unwrap(), registered);
    assert!(!place.archive().await.remove_observer("audit").await.unwrap(), "it is registered");
    assert_eq!(place.archive().await.observer_states().await.unwrap(), registered);
    journal.close().await.unwrap();
    drop(journal);
    assert_eq!(place.archive().await.observer_states().await.unwrap(), registered, "as the last server had it");

    journal = place.open(&options(vec![observer("push")])).await;
    let archive = place.archive().await;
    let absent = loop {
        let states = archive.observer_states().await.unwrap();
        if states[0].absent_since.is_some() && journal.usage().absent.observers == 1 {
            break states;
        }
        time::sleep(Duration::from_millis(20)).await;
    };
    assert!(absent[0].absent_since.unwrap() > 1_700_000_000_000);
    assert_eq!(absent[0], state("audit", 1098, Some(3_000), 2, absent[0].absent_since));
    assert_eq!(absent[1], registered[1]);
    assert_eq!(journal.usage().absent, Absent { observers: 1, waiting: 1098, dead: 2 });
    assert!(archive.remove_observer("nobody").await.unwrap(), "there is none");
    // Beside the server that runs.
    assert!(archive.remove_observer("audit").await.unwrap());
    assert_eq!(archive.observer_states().await.unwrap(), [registered[1].clone()]);
    assert!(archive.dead(&Filter::default(), None, 10).await.unwrap().is_empty());
    assert_eq!(archive.observations(all[5]).await.unwrap(), []);
    assert!(archive.event(all[5]).await.unwrap().is_some(), "events stay for the retention");
    while journal.usage().absent != Absent::default() {
        time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ids(&lease_some(&*journal, "push").await), all[..3]);
    // Under its name another begins anew.
    journal = reopen(&place, journal, &both()).await;
    let late = message("user", 2000).answer(&*journal, &["audit"]).await;
    assert_eq!(ids(&lease_some(&*journal, "audit").await), [late]);
}

async fn dead_letters_are_revived_and_dropped(place: Place) {
    let journal = place.open(&options(vec![observer("audit"), observer("push")])).await;
    let first = message("anna", 1).answer(&*journal, &["audit", "push"]).await;
    let second = message("ben", 2).answer(&*journal, &["audit"]).await;
    for name in ["audit", "push"] {
        let leased = lease_some(&*journal, name).await;
        finish(&*journal, &leased, dead()).await;
    }
    assert!(lease(&*journal, "audit").await.is_empty());
    let archive = place.archive().await;
    let all = archive.dead(&Filter::default(), None, 10).await.unwrap();
    let letters: Vec<_> = all.iter().map(|it| (it.event.id, it.observer.as_str(), it.attempts)).collect();
    assert_eq!(letters, [(first, "audit", 1), (first, "push", 1), (second, "audit", 1)]);
    assert!(all.iter().all(|it| it.error == "no luck at all" && it.died > 1_700_000_000_000));
    // Page by page, and by what their events are.
    let next = archive.dead(&Filter::default(), Some((first, "audit".to_owned())), 1).await.unwrap();
    assert_eq!((next[0].event.id, next[0].observer.as_str()), (first, "push"));
    // The newest first, page by page.
    let newest = async |before| {
        let letters = archive.newest_dead(&Filter::default(), before, 2).await.unwrap();
        letters.into_iter().map(|it| (it.event.id, it.observer)).collect::<Vec<_>>()
    };
    assert_eq!(newest(None).await, [(second, "audit".to_owned()), (first, "push".to_owned())]);
    assert_eq!(newest(Some((first, "push".to_owned()))).await, [(first, "audit".to_owned())]);
    assert_eq!(newest(Some((first, "audit".to_owned()))).await, []);
    let mut filter = Filter::default();
    filter.subject = Some("ben".to_owned());
    assert_eq!(archive.dead(&filter, None, 10).await.unwrap().len(), 1);
    let mut filter = Filter::default();
    filter.observer = Some("push".to_owned());
    assert_eq!(archive.dead(&filter, None, 10).await.unwrap().len(), 1);
    let state = |deliveries: Vec<echostr::internals::journal::Observation>| {
        deliveries.into_iter().map(|it| it.state.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(state(archive.observations(first).await.unwrap()), ["dead", "dead"]);

    assert_eq!(archive.revive(vec![(first, "audit".to_owned()), (first, "nobody".to_owned())]).await.unwrap(), 1);
    assert_eq!(archive.revive(vec![(first, "audit".to_owned())]).await.unwrap(), 0);
    assert_eq!(archive.drop_dead(vec![(second, "audit".to_owned())]).await.unwrap(), 1);
    assert_eq!(archive.drop_dead(vec![(second, "audit".to_owned())]).await.unwrap(), 0);
    assert_eq!(archive.observations(second).await.unwrap(), [], "what was dropped is not done");
    let again = lease_some(&*journal, "audit").await;
    assert_eq!((ids(&again), again[0].lease.attempt), (vec![first], 1));
    finish(&*journal, &again, Finish::Done).await;
    assert_eq!(state(archive.observations(first).await.unwrap()), ["done", "dead"]);
    assert_eq!(archive.dead(&Filter::default(), None, 10).await.unwrap().len(), 1);
}

async fn events_are_found_by_what_they_are(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let mut all = Vec::new();
    for number in 1..=30 {
        let user = if number % 3 == 0 { "anna" } else { "ben" };
        all.push(message(user, number).answer(&*journal, &[]).await);
    }
    let waiting = run(message("carl", 31).admit(&*journal, &[]).await);
    journal.store(&waiting);
    waiting.stored().await.unwrap();
    let archive = place.archive().await;
    let found = async |change: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        ids_of(&archive.events(&filter, None, 100).await.unwrap())
    };
    assert_eq!(found(&|_| {}).await.len(), 31);
    assert_eq!(found(&|filter| filter.subject = Some("anna".to_owned())).await.len(), 10);
    assert_eq!(found(&|filter| filter.account = Some("mp/shop".to_owned())).await.len(), 31);
    assert_eq!(found(&|filter| filter.account = Some("mp/other".to_owned())).await.len(), 0);
    assert_eq!(found(&|filter| filter.platform = Some(Platform::Mp)).await.len(), 31);
    assert_eq!(found(&|filter| filter.platform = Some(Platform::WeCom)).await.len(), 0);
    assert_eq!(found(&|filter| filter.event_type = Some("mp.message.text".to_owned())).await.len(), 31);
    assert_eq!(found(&|filter| filter.event_type = Some("mp.message.*".to_owned())).await.len(), 31);
    assert_eq!(found(&|filter| filter.event_type = Some("mp.event.*".to_owned())).await.len(), 0);
    assert_eq!(found(&|filter| filter.event_type = Some("mp.message".to_owned())).await.len(), 0);
    assert_eq!(found(&|filter| filter.state = Some(State::Responding)).await, [waiting.id]);
    assert_eq!(found(&|filter| (filter.since, filter.until) = (Some(5000), Some(7000))).await, all[4..6]);
    // Page by page, and the newest.
    let page = archive.events(&Filter::default(), Some(all[9]), 5).await.unwrap();
    assert_eq!(ids_of(&page), all[10..15]);
    let newest = archive.newest(&Filter::default(), 3).await.unwrap();
    assert_eq!(ids_of(&newest), [all[28], all[29], waiting.id]);
    assert_eq!(archive.event(all[0]).await.unwrap().map(|it| it.id), Some(all[0]));
    assert!(archive.event(Uuid::nil()).await.unwrap().is_none());
}

fn ids_of(stored: &[echostr::internals::journal::Stored]) -> Vec<Uuid> {
    stored.iter().map(|it| it.id).collect()
}

async fn replayed_events_are_given_again(place: Place) {
    let journal = place.open(&options(vec![observer("audit"), Observer { in_order: true, ..observer("push") }])).await;
    let id = message("user", 1).answer(&*journal, &["audit"]).await;
    let leased = lease_some(&*journal, "audit").await;
    let archive = place.archive().await;
    // What waits or is leased is not given twice.
    assert_eq!(archive.replay("audit", vec![id]).await.unwrap(), 0);
    finish(&*journal, &leased, Finish::Done).await;
    assert_eq!(archive.replay("audit", vec![id, Uuid::nil()]).await.unwrap(), 1);
    assert_eq!(archive.replay("push", vec![id]).await.unwrap(), 1);
    assert_eq!(archive.replay("nobody", vec![id]).await.unwrap(), 0);
    for name in ["audit", "push"] {
        let again = lease_some(&*journal, name).await;
        assert_eq!((ids(&again), again[0].lease.attempt), (vec![id], 1));
        finish(&*journal, &again, Finish::Done).await;
    }
    let deliveries = archive.observations(id).await.unwrap();
    assert!(deliveries.iter().all(|it| it.state == ObservationState::Done), "{deliveries:?}");
    assert_eq!(deliveries.len(), 2);
}

async fn what_is_replayed_to_all_is_given_to_those_it_was_for(place: Place) {
    let names = ["audit", "push", "echostr.internal"];
    let journal = place.open(&options(names.map(observer).to_vec())).await;
    let first = message("user", 1).answer(&*journal, &names).await;
    let second = message("user", 2).answer(&*journal, &["push"]).await;
    let third = message("user", 3).answer(&*journal, &[]).await;
    for name in names {
        let leased = lease_some(&*journal, name).await;
        finish(&*journal, &leased, if name == "audit" { dead() } else { Finish::Done }).await;
    }
    let archive = place.archive().await;
    assert_eq!(archive.replay_to_all(vec![first, second, third, Uuid::nil()]).await.unwrap(), 3);
    assert_eq!(ids(&lease_some(&*journal, "audit").await), [first]);
    assert_eq!(ids(&lease_some(&*journal, "push").await), [first, second]);
    assert!(lease(&*journal, "echostr.internal").await.is_empty());
    assert!(archive.dead(&Filter::default(), None, 10).await.unwrap().is_empty());
    assert_eq!(archive.replay_to_all(vec![first, second]).await.unwrap(), 0, "what waits is not given twice");
}

async fn any_text_is_kept_as_it_is(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let odd = "'; DROP TABLE event; -- \u{0}\u{1f600} 你好 \\ % _";
    // XML has no NUL, a handler's reply may.
    let strange = Message { content: odd.replace('\0', ""), user: "o'用户 ".to_owned(), ..message("user", 1) };
    let event = strange.new_event(&*journal, &["audit"]);
    let text = event.record.payload.text().to_owned();
    let entry = run(journal.admit(event).await.unwrap());
    journal.record(&entry, document(odd));
    assert!(entry.answered().await.is_ok());
    let leased = lease_some(&*journal, "audit").await;
    assert_eq!(leased[0].record.payload.text(), text);
    assert_eq!(leased[0].record.subject.as_deref(), Some(strange.user.as_str()));
    let archive = place.archive().await;
    let stored = archive.event(entry.id).await.unwrap().unwrap();
    assert_eq!((stored.record.payload.text(), stored.reply.as_deref()), (text.as_str(), Some(odd)));
}

async fn retention_leaves_what_observers_need(place: Place) {
    let short = Options { retention: Duration::from_millis(1), ..options(vec![observer("audit"), observer("push")]) };
    let journal = place.open(&short).await;
    let free = message("user", 1).answer(&*journal, &[]).await;
    let done = message("user", 2).answer(&*journal, &["audit"]).await;
    let leased = lease_some(&*journal, "audit").await;
    finish(&*journal, &leased, Finish::Done).await;
    let waits = message("user", 3).answer(&*journal, &["push"]).await;
    let archive = place.archive().await;
    for _ in 0..3000 {
        if ids_of(&archive.events(&Filter::default(), None, 10).await.unwrap()) == [waits] {
            break;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ids_of(&archive.events(&Filter::default(), None, 10).await.unwrap()), [waits], "not {free}, {done}");
    // A key outlives its event as long as a platform may ask again.
    known(message("user", 1).admit(&*journal, &[]).await);
    assert_eq!(ids(&lease_some(&*journal, "push").await), [waits]);
}

async fn a_row_of_an_unknown_platform_is_named(place: Place) {
    let observers = options(vec![observer("audit")]);
    let journal = place.open(&observers).await;
    let id = message("user", 1).answer(&*journal, &["audit"]).await;
    let other = message("user", 2).answer(&*journal, &["audit"]).await;
    journal.close().await.unwrap();
    drop(journal);
    place.execute("UPDATE event SET account = 'pigeon/shop' WHERE received = 1000").await;
    let failure = place.archive().await.events(&Filter::default(), None, 10).await.unwrap_err().to_string();
    assert!(failure.contains(&id.to_string()) && failure.contains("pigeon/shop"), "{failure}");
    // It holds up no other.
    let leased = lease(&*place.open(&observers).await, "audit").await;
    assert_eq!(leased.iter().map(|one| one.lease.id).collect::<Vec<_>>(), [other]);
}

async fn a_row_with_an_unknown_number_is_named_and_read_as_nothing_else(place: Place) {
    let observers = options(vec![observer("audit")]);
    for (number, change, named) in
        [(1, "state = 9", "state 9"), (2, "form = 7", "form 7"), (3, "deliveries = -7", "no count")]
    {
        let journal = place.open(&observers).await;
        let id = message("user", number).answer(&*journal, &["audit"]).await;
        journal.close().await.unwrap();
        drop(journal);
        place.execute(&format!("UPDATE event SET {change} WHERE received = {}", number * 1000)).await;
        let failure = place.archive().await.event(id).await.unwrap_err().to_string();
        assert!(failure.contains(named), "{failure}");
        let journal = place.open(&observers).await;
        let leased = lease(&*journal, "audit").await;
        assert!(leased.iter().all(|one| one.lease.id != id), "no observer is given it as something else");
        if change != "form = 7" {
            // Nor is a repeat answered with something else.
            let event = message("user", number).new_event(&*journal, &["audit"]);
            let failure = journal.admit(event).await.unwrap_err().to_string();
            assert!(failure.contains(named), "{failure}");
            assert_eq!(journal.health(), Ok(()), "the others are not its fault");
        }
        journal.close().await.unwrap();
    }
}

async fn a_full_journal_takes_nothing_until_there_is_room(place: Place) {
    let small = Options { max_size: 1 << 20, ..options(vec![observer("audit")]) };
    let journal = place.open(&small).await;
    let mut number = 0;
    let refused = loop {
        number += 1;
        let big = Message { content: "x".repeat(20_000), ..message("user", number) };
        match journal.admit(big.new_event(&*journal, &["audit"])).await {
            Ok(admission) => {
                let entry = run(admission);
                journal.record(&entry, document("ok"));
                assert!(entry.answered().await.is_ok());
            }
            Err(failure) => break failure,
        }
        assert!(number < 10_000, "it never is full");
        if number % 20 == 0 {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(refused, JournalError::Full);
    assert_eq!(journal.health(), Err(JournalError::Full));
    if matches!(place, Place::Memory) {
        assert!(journal.usage().bytes <= small.max_size, "{:?}", journal.usage());
        assert!(journal.usage().bytes > small.max_size / 2, "{:?}", journal.usage());
        // Nobody observes it, and it is small: there is room, although the journal says that it is full.
        let small = run(message("other", 1).admit(&*journal, &[]).await);
        journal.record(&small, document("ok"));
        assert!(small.answered().await.is_ok());
        assert_eq!(journal.health(), Err(JournalError::Full));
    }
    // Once the observer has seen them, the oldest go, and there is room.
    loop {
        let leased = lease(&*journal, "audit").await;
        finish(&*journal, &leased, Finish::Done).await;
        if leased.is_empty() {
            break;
        }
    }
    for _ in 0..3000 {
        if journal.health().is_ok() {
            break;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    message("user", number + 1).answer(&*journal, &["audit"]).await;
}

async fn what_was_answered_is_answered_when_there_is_no_room(place: Place) {
    let small = Options { max_size: 1 << 20, ..options(vec![observer("audit")]) };
    let journal = place.open(&small).await;
    // PostgreSQL compresses what repeats itself.
    let text = || std::iter::repeat_with(|| char::from(rand::random_range(b'a'..=b'z'))).take(20_000).collect();
    let big = |number| Message { content: text(), ..message("user", number) };
    let first = message("user", 1).answer(&*journal, &["audit"]).await;
    let running = run(message("user", 2).admit(&*journal, &["audit"]).await);
    let mut number = 2;
    let refused = loop {
        number += 1;
        match journal.admit(big(number).new_event(&*journal, &["audit"])).await {
            Ok(admission) => {
                let entry = run(admission);
                journal.record(&entry, document("ok"));
                assert!(entry.answered().await.is_ok());
            }
            Err(failure) => break failure,
        }
    };
    assert_eq!((refused, journal.health()), (JournalError::Full, Err(JournalError::Full)));
    for _ in 0..3 {
        let again = known(message("user", 1).admit(&*journal, &["audit"]).await);
        assert_eq!(again.answered().await, &Ok(Body::Document("reply to 1".to_owned())));
        assert_eq!(again.id, first);
        assert!(again.deliveries() > 1, "{}", again.deliveries());
    }
    let joined = known(message("user", 2).admit(&*journal, &["audit"]).await);
    assert_eq!(joined.id, running.id, "its responder runs");
    journal.record(&running, document("at last"));
    assert_eq!(joined.answered().await, &Ok(Body::Document("at last".to_owned())));
    let event = message("other", 1).new_event(&*journal, &["audit"]);
    let mut decode = || event.clone();
    let undecoded = Undecoded { key: event.key.unwrap(), platform: Platform::Mp, decode: &mut decode };
    if !matches!(place, Place::Memory) {
        assert_eq!(journal.admit_undecoded(undecoded).await.map(drop), Err(JournalError::Full));
    }
}

async fn texts_count_as_they_are(place: Place) {
    let names = ["a", "b", "c", "d", "e"];
    let journal = place.open(&options(names.map(observer).to_vec())).await;
    let used = || journal.usage().bytes;
    let big = Message { content: "x".repeat(1 << 20), ..message("user", 1) };
    big.answer(&*journal, &names).await;
    // One text, whoever waits for it.
    assert!(((1 << 20)..(1 << 20) + 8192).contains(&used()), "{}", used());
    let subject = message(&"u".repeat(100_000), 2);
    subject.answer(&*journal, &["a"]).await;
    // In the payload, and beside it.
    assert!(((1 << 20) + 200_000..(1 << 20) + 216_000).contains(&used()), "{}", used());
    for name in names {
        assert!(used() > 1 << 20, "{name} has still to see it");
        let leased = lease_some(&*journal, name).await;
        assert!(used() > 1 << 20, "{name} has it on lease");
        finish(&*journal, &leased[..1], retry(Duration::ZERO)).await;
        let again = lease_some(&*journal, name).await;
        finish(&*journal, &again, Finish::Done).await;
        finish(&*journal, &leased[1..], dead()).await;
    }
    assert!((1..8192).contains(&used()), "{}", used());
    known(big.admit(&*journal, &names).await);
}

async fn replies_count_and_the_oldest_are_forgotten(place: Place) {
    let small = Options { max_size: 1 << 20, ..options(vec![observer("audit")]) };
    let journal = place.open(&small).await;
    let seen = message("user", 1);
    // It is answered and waits, so it stays.
    seen.answer(&*journal, &["audit"]).await;
    let running = run(message("user", 2).admit(&*journal, &[]).await);
    for number in 3..=500 {
        let entry = run(message("user", number).admit(&*journal, &[]).await);
        journal.record(&entry, document(&"x".repeat(10_000)));
        assert!(entry.answered().await.is_ok());
        assert!(journal.usage().bytes <= small.max_size, "{:?} after {number}", journal.usage());
    }
    assert!(journal.usage().bytes > small.max_size / 2);
    known(seen.admit(&*journal, &["audit"]).await);
    assert_eq!(known(message("user", 2).admit(&*journal, &[]).await).id, running.id, "its responder runs");
    known(message("user", 500).admit(&*journal, &[]).await);
    run(message("user", 3).admit(&*journal, &[]).await);
}

async fn slots_count_and_are_bounded(place: Place) {
    let clock = Clock::fixed(0);
    let small = Options { max_size: 1 << 20, clock: clock.clone(), ..options(vec![observer("audit")]) };
    let journal = place.open(&small).await;
    let value = || put(&"x".repeat(20_000));
    // Each is held, so none can go.
    let mut held = Vec::new();
    let refused = loop {
        let slot = match journal.acquire_lease(&format!("stream/{}", held.len()), LEASE_DURATION).await {
            Ok(slot) => slot.unwrap(),
            Err(failure) => break failure,
        };
        if let Err(failure) = journal.write_lease(&slot, LeaseWrite { keep: Some(LEASE_DURATION), ..value() }).await {
            break failure;
        }
        held.push(slot);
        assert!(held.len() < 1000, "it never is full");
    };
    assert_eq!(refused, JournalError::Full);
    assert!((40..60).contains(&held.len()), "{}", held.len());
    assert!(journal.usage().bytes <= small.max_size);
    assert!(journal.usage().bytes > small.max_size / 2);
    // A slot that is written anew takes no more than before.
    journal.write_lease(&held[0], LeaseWrite { keep: Some(LEASE_DURATION), ..value() }).await.unwrap();
    // What ends by itself and nobody holds ends earlier when there is no room.
    for slot in &held {
        journal.write_lease(slot, LeaseWrite { expires: Some(LEASE_DURATION), ..value() }).await.unwrap();
    }
    // Else those that follow may end in the same millisecond.
    clock.advance(Duration::from_millis(5));
    for number in 0..100 {
        let slot = journal.acquire_lease(&format!("later/{number}"), LEASE_DURATION).await.unwrap().unwrap();
        journal.write_lease(&slot, LeaseWrite { expires: Some(LEASE_DURATION), ..value() }).await.unwrap();
        assert!(journal.usage().bytes <= small.max_size);
    }
    assert_eq!(journal.read_lease("stream/0").await, Ok(None));
    assert!(journal.read_lease("later/99").await.unwrap().is_some());
    assert_eq!(journal.write_lease(&held[0], put("late")).await, Err(JournalError::Lost));
    // Observers get on when they fill the rest: what they mark is small.
    let number = (1..1000).find(|number| {
        let event = Message { content: "x".repeat(9_000), ..message("user", *number) }.new_event(&*journal, &["audit"]);
        futures_util::FutureExt::now_or_never(journal.admit(event)).unwrap().is_err()
    });
    assert!(number.is_some());
    let mark = journal.acquire_lease("late/1", LEASE_DURATION).await.unwrap().unwrap();
    journal.write_lease(&mark, LeaseWrite { expires: Some(LEASE_DURATION), ..put("begun") }).await.unwrap();
}

async fn late_and_pulled_events_count(place: Place) {
    let late = Observer { wants: Arc::new(|_, _| false), ..observer("late") };
    let small = Options { max_size: 1 << 20, ..options(vec![late, observer("reply")]) };
    let journal = place.open(&small).await;
    let used = || journal.usage().bytes;
    let big = Message { content: "x".repeat(300_000), ..message("user", 1) };
    let event = big.new_event(&*journal, &[]);
    let record = event.record.clone();
    let entry = run(journal.admit(event).await.unwrap());
    assert!(used() < 8192);
    journal.record(&entry, to_send(&"y".repeat(100_000), &record, true));
    assert!((400_000..408_192).contains(&used()), "{}", used());
    let leased = lease_some(&*journal, "late").await;
    finish(&*journal, &leased, Finish::Done).await;
    assert!(used() < 8192, "{}", used());

    let slot = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    let page = |numbers: std::ops::Range<u64>| -> Vec<_> {
        let events = numbers.map(|number| Message { content: "x".repeat(200_000), ..message("user", number) });
        events.map(|it| Pulled { event: it.new_event(&*journal, &["reply"]), responds: true }).collect()
    };
    let write = |numbers, value| LeaseWrite { events: page(numbers), keep: Some(LEASE_DURATION), ..put(value) };
    assert_eq!(journal.write_lease(&slot, write(10..13, "1")).await, Ok(3));
    assert!((600_000..620_000).contains(&used()), "{}", used());
    // A page comes as a whole or not at all.
    assert_eq!(journal.write_lease(&slot, write(10..15, "2")).await, Err(JournalError::Full));
    assert_eq!(journal.read_lease("cursor").await, Ok(Some("1".to_owned())));
    assert_eq!(journal.health(), Err(JournalError::Full));
    // What is known already takes no room.
    assert_eq!(journal.write_lease(&slot, write(10..13, "1")).await, Ok(0));
    let leased = lease_some(&*journal, "reply").await;
    for one in &leased {
        let entry = Entry::pulled(one.lease.id);
        journal.record(&entry, document(&"y".repeat(20_000)));
    }
    assert!((660_000..690_000).contains(&used()), "{}", used());
    finish(&*journal, &leased, Finish::Done).await;
    assert!((60_000..80_000).contains(&used()), "{}", used());
    assert_eq!(journal.health(), Ok(()));
    assert_eq!(journal.write_lease(&slot, write(10..15, "2")).await, Ok(2));
    // One that fails for good without a reply is done as well.
    let leased = lease_some(&*journal, "reply").await;
    finish(&*journal, &leased, dead()).await;
    assert!((60_000..80_000).contains(&used()), "{}", used());
}

async fn an_event_that_can_never_fit_is_refused_and_others_are_not(place: Place) {
    let small = Options { max_size: 1 << 20, ..options(vec![observer("audit")]) };
    let journal = place.open(&small).await;
    let before = message("user", 1).answer(&*journal, &[]).await;
    let huge = Message { content: "x".repeat(1 << 20), ..message("user", 2) };
    let refused = journal.admit(huge.new_event(&*journal, &["audit"])).await;
    assert!(matches!(&refused, Err(JournalError::Storage(why)) if why.contains("memory_limit")), "{refused:?}");
    assert_eq!(journal.health(), Ok(()), "another one fits");
    assert_eq!(known(message("user", 1).admit(&*journal, &[]).await).id, before, "nothing was forgotten for it");
    // Nobody observes it, so its payload is not kept.
    huge.answer(&*journal, &[]).await;
    message("user", 3).answer(&*journal, &["audit"]).await;
}

async fn a_closed_journal_takes_nothing(place: Place) {
    let journal = place.open(&options(vec![])).await;
    message("user", 1).answer(&*journal, &[]).await;
    journal.close().await.unwrap();
    let refused = journal.admit(message("user", 2).new_event(&*journal, &[])).await;
    assert!(matches!(refused, Err(JournalError::Closed)), "{refused:?}");
}

fn put(value: &str) -> LeaseWrite {
    LeaseWrite { value: Some(value.to_owned()), ..LeaseWrite::default() }
}

async fn a_slot_has_one_holder_at_a_time(place: Place) {
    let journal = place.open(&options(vec![])).await;
    assert_eq!(journal.read_lease("cursor").await, Ok(None));
    let held = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    assert_eq!(held.value, None);
    assert_eq!(journal.acquire_lease("cursor", LEASE_DURATION).await, Ok(None));
    assert!(journal.acquire_lease("other", LEASE_DURATION).await.unwrap().is_some());
    // Written, and kept.
    journal.write_lease(&held, LeaseWrite { keep: Some(LEASE_DURATION), ..put("1") }).await.unwrap();
    assert_eq!(journal.read_lease("cursor").await, Ok(Some("1".to_owned())));
    assert_eq!(journal.acquire_lease("cursor", LEASE_DURATION).await, Ok(None));
    // Let go of, with its value.
    journal.write_lease(&held, LeaseWrite::default()).await.unwrap();
    let next = journal.acquire_lease("cursor", Duration::from_millis(1)).await.unwrap().unwrap();
    assert_eq!(next.value.as_deref(), Some("1"));
    assert!(next.lease_token > held.lease_token);
    // A hold that is over can be taken, and its holder is told.
    let mut taken = None;
    while taken.is_none() {
        taken = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap();
    }
    assert_eq!(journal.write_lease(&next, put("2")).await, Err(JournalError::Lost));
    assert_eq!(journal.read_lease("cursor").await, Ok(Some("1".to_owned())));
    journal.write_lease(&taken.unwrap(), put("3")).await.unwrap();
    assert_eq!(journal.read_lease("cursor").await, Ok(Some("3".to_owned())));
}

async fn a_slot_outlives_the_process_and_its_hold_does_not(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let held = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    journal.write_lease(&held, LeaseWrite { keep: Some(LEASE_DURATION), ..put("1") }).await.unwrap();
    journal.close().await.unwrap();
    drop(journal);
    let journal = place.open(&options(vec![])).await;
    let held = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    assert_eq!(held.value.as_deref(), Some("1"));
}

async fn a_slot_ends_when_it_is_to(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let held = journal.acquire_lease("mark", LEASE_DURATION).await.unwrap().unwrap();
    let soon = LeaseWrite { expires: Some(Duration::from_millis(1)), ..put("1") };
    journal.write_lease(&held, soon).await.unwrap();
    while journal.read_lease("mark").await.unwrap().is_some() {
        time::sleep(Duration::from_millis(1)).await;
    }
    let held = journal.acquire_lease("mark", LEASE_DURATION).await.unwrap().unwrap();
    assert_eq!(held.value, None);
    // Written anew it stays.
    journal.write_lease(&held, put("2")).await.unwrap();
    assert_eq!(journal.read_lease("mark").await, Ok(Some("2".to_owned())));
}

async fn a_former_holder_writes_nothing_after_its_slot_was_removed(place: Place) {
    let journal = place.open(&options(vec![])).await;
    let former = journal.acquire_lease("mark", Duration::from_millis(1)).await.unwrap().unwrap();
    let soon = LeaseWrite { expires: Some(Duration::from_millis(1)), keep: Some(Duration::from_millis(1)), ..put("1") };
    journal.write_lease(&former, soon).await.unwrap();
    while journal.read_lease("mark").await.unwrap().is_some() {
        time::sleep(Duration::from_millis(1)).await;
    }
    // As maintenance does.
    place.execute("DELETE FROM slot WHERE name = 'mark'").await;
    let holder = journal.acquire_lease("mark", LEASE_DURATION).await.unwrap().unwrap();
    assert!(holder.lease_token > former.lease_token, "{} {}", holder.lease_token, former.lease_token);
    assert_eq!(journal.write_lease(&former, put("2")).await, Err(JournalError::Lost));
    assert_eq!(journal.write_lease(&holder, put("3")).await, Ok(0));
    assert_eq!(journal.read_lease("mark").await, Ok(Some("3".to_owned())));
}

fn pulled(journal: &dyn Journal, number: u64, observers: &[&str], responds: bool) -> Pulled {
    Pulled { event: message("user", number).new_event(journal, observers), responds }
}

async fn pulled_events_come_with_their_slot_and_once(place: Place) {
    let journal = place.open(&options(vec![observer("audit")])).await;
    let held = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    let page = |numbers: &[u64]| numbers.iter().map(|it| pulled(&*journal, *it, &["audit"], false)).collect();
    // The second is there twice.
    let first = LeaseWrite { keep: Some(LEASE_DURATION), events: page(&[1, 2, 2]), ..put("2") };
    assert_eq!(journal.write_lease(&held, first).await, Ok(2));
    let again = LeaseWrite { events: page(&[2, 3]), ..put("3") };
    assert_eq!(journal.write_lease(&held, again).await, Ok(1));
    assert_eq!(journal.read_lease("cursor").await, Ok(Some("3".to_owned())));
    // Whoever has lost the slot brings nothing in.
    let newer = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    let late = LeaseWrite { events: page(&[4]), ..put("4") };
    assert_eq!(journal.write_lease(&held, late).await, Err(JournalError::Lost));
    assert_eq!(newer.value.as_deref(), Some("3"));
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(lease_some(&*journal, "audit").await);
    }
    let numbers: HashSet<_> = seen.iter().map(|one| one.record.received).collect();
    assert_eq!(numbers, HashSet::from([1_000, 2_000, 3_000]));
    assert!(lease(&*journal, "audit").await.is_empty());
    // Nobody is to answer them.
    assert!(seen.iter().all(|one| one.reply == Some(Body::Plain("success"))));
}

async fn the_reply_of_a_pulled_event_is_given_with_it(place: Place) {
    let journal = place.open(&options(vec![observer("reply")])).await;
    let held = journal.acquire_lease("cursor", LEASE_DURATION).await.unwrap().unwrap();
    let events = vec![pulled(&*journal, 1, &["reply"], true)];
    assert_eq!(journal.write_lease(&held, LeaseWrite { events, ..put("1") }).await, Ok(1));
    let first = lease_some(&*journal, "reply").await;
    assert_eq!(first[0].reply, None);
    let entry = Entry::pulled(first[0].lease.id);
    journal.record(&entry, document("hello"));
    assert_eq!(entry.answered().await, &Ok(Body::Document("hello".to_owned())));
    finish(&*journal, &first, retry(Duration::ZERO)).await;
    let second = lease_some(&*journal, "reply").await;
    assert_eq!(second[0].reply, Some(Body::Document("hello".to_owned())));
    assert_eq!(second[0].lease.attempt, 2);
}

fn to_send(text: &str, record: &EventRecord, is_due: bool) -> ReplyRecord {
    let sender = ReplySender { observer: "late".into(), is_due, record: record.clone(), waits: None };
    ReplyRecord { sender: Some(Box::new(sender)), ..document(text) }
}

async fn a_reply_that_was_given_up_is_offered_to_its_sender(place: Place) {
    let late = Observer { wants: Arc::new(|_, _| false), ..observer("late") };
    let journal = place.open(&options(vec![late])).await;
    for (number, is_due) in [(1, false), (2, true)] {
        let event = message("user", number).new_event(&*journal, &[]);
        let record = event.record.clone();
        let entry = run(journal.admit(event).await.unwrap());
        journal.store(&entry);
        entry.stored().await.unwrap();
        journal.record(&entry, to_send("sorry", &record, is_due));
        let told = if is_due { Body::Plain("success") } else { Body::Document("sorry".to_owned()) };
        assert_eq!(entry.answered().await, &Ok(told.clone()));
        // A repeat does not bring the reply a second time.
        let repeat = known(message("user", number).admit(&*journal, &[]).await);
        assert_eq!(repeat.answered().await, &Ok(told));
    }
    let leased = lease_some(&*journal, "late").await;
    assert_eq!(leased.iter().map(|one| one.record.received).collect::<Vec<_>>(), [2_000]);
    assert_eq!(leased[0].reply, Some(Body::Document("sorry".to_owned())));
    finish(&*journal, &leased, Finish::Done).await;
    assert!(lease(&*journal, "late").await.is_empty());
}

/// A reply of a user that waits for so long.
fn to_wait(record: &EventRecord, user: &str, keep: Duration) -> Box<ReplySender> {
    let waits = Some(Wait { user: user.into(), keep });
    Box::new(ReplySender { observer: "next".into(), is_due: true, record: record.clone(), waits })
}

fn next_messages() -> Observer {
    Observer { wants: Arc::new(|_, _| false), in_order: true, ..observer("next") }
}

fn recipient(user: &str) -> Recipient {
    Recipient { observer: "next".into(), account: "mp/shop".into(), user: user.into() }
}

/// Admits an event, and has its reply wait. Gives the event, and who records the reply.
async fn give_up(journal: &dyn Journal, number: u64, user: &str, keep: Duration) -> (Arc<Entry>, Box<ReplySender>) {
    let event = message("user", number).new_event(journal, &[]);
    let sender = to_wait(&event.record, user, keep);
    let entry = run(journal.admit(event).await.unwrap());
    journal.store(&entry);
    entry.stored().await.unwrap();
    assert!(entry.give_up(Duration::ZERO));
    let terms = GiveUp { sends: true, patience: Duration::ZERO, waits: Some(sender.clone()) };
    assert_eq!(journal.give_up(&entry, terms).await, Ok(None));
    (entry, sender)
}

async fn reply_late(journal: &dyn Journal, (entry, sender): &(Arc<Entry>, Box<ReplySender>), text: &str) {
    assert!(entry.mark_replied());
    journal.record(entry, ReplyRecord { sender: Some(sender.clone()), ..document(text) });
    assert_eq!(entry.answered().await, &Ok(Body::Plain("success")));
}

async fn a_late_reply_waits_for_its_user_and_is_taken_once(place: Place) {
    let journal = place.open(&options(vec![next_messages()])).await;
    let (first, second) =
        (give_up(&*journal, 1, "anna", TEST_TIMEOUT).await, give_up(&*journal, 2, "anna", TEST_TIMEOUT).await);
    let taker = run(message("user", 3).admit(&*journal, &[]).await);
    journal.store(&taker);
    assert_eq!(journal.waiting_reply(&recipient("anna"), Some(taker.id)).await, Ok(WaitingReply::Coming));
    assert_eq!(journal.waiting_reply(&recipient("anna"), Some(first.0.id)).await, Ok(WaitingReply::Coming));
    assert_eq!(journal.waiting_reply(&recipient("bert"), Some(taker.id)).await, Ok(WaitingReply::Nothing));
    assert_eq!(journal.take_reply(&recipient("anna"), &taker).await, Ok(None));
    reply_late(&*journal, &second, "two").await;
    reply_late(&*journal, &first, "one").await;
    assert_eq!(journal.waiting_reply(&recipient("anna"), Some(taker.id)).await, Ok(WaitingReply::Ready));
    assert_eq!(journal.waiting_reply(&recipient("bert"), Some(taker.id)).await, Ok(WaitingReply::Nothing));
    let one = TakenReply { event: first.0.id, body: Body::Document("one".to_owned()) };
    assert_eq!(journal.take_reply(&recipient("anna"), &taker).await, Ok(Some(one.clone())));
    journal.record(&taker, document("one"));
    assert_eq!(taker.answered().await, &Ok(one.body));
    // Who has a reply takes none.
    assert_eq!(journal.take_reply(&recipient("anna"), &taker).await, Ok(None));
    let repeat = known(message("user", 3).admit(&*journal, &[]).await);
    assert_eq!(repeat.answered().await, &Ok(Body::Document("one".to_owned())));
    let next = run(message("user", 4).admit(&*journal, &[]).await);
    journal.store(&next);
    let two = TakenReply { event: second.0.id, body: Body::Document("two".to_owned()) };
    assert_eq!(journal.take_reply(&recipient("anna"), &next).await, Ok(Some(two)));
    journal.record(&next, document("two"));
    assert!(next.answered().await.is_ok());
    let last = run(message("user", 5).admit(&*journal, &[]).await);
    journal.store(&last);
    assert_eq!(journal.waiting_reply(&recipient("anna"), Some(last.id)).await, Ok(WaitingReply::Nothing));
    assert_eq!(journal.take_reply(&recipient("anna"), &last).await, Ok(None));
    assert!(lease(&*journal, "next").await.is_empty());
}

async fn a_late_reply_that_nobody_takes_comes_to_its_observer(place: Place) {
    let journal = place.open(&options(vec![next_messages()])).await;
    let waiting = give_up(&*journal, 1, "anna", Duration::from_millis(300)).await;
    reply_late(&*journal, &waiting, "one").await;
    let leased = lease_some(&*journal, "next").await;
    assert!(leased[0].is_late);
    assert_eq!(leased[0].reply, Some(Body::Document("one".to_owned())));
    let taker = run(message("user", 2).admit(&*journal, &[]).await);
    journal.store(&taker);
    assert_eq!(journal.take_reply(&recipient("anna"), &taker).await, Ok(None));
    finish(&*journal, &leased, Finish::Dropped { reason: "nobody came".to_owned() }).await;
    assert!(lease(&*journal, "next").await.is_empty());
    assert_eq!(journal.waiting_reply(&recipient("anna"), Some(taker.id)).await, Ok(WaitingReply::Nothing));
    if !matches!(place, Place::Memory) {
        let event = place.archive().await.event(waiting.0.id).await.unwrap().unwrap();
        assert_eq!((event.state, event.failure.as_deref()), (State::Defaulted, Some("nobody came")));
        assert_eq!(event.reply.as_deref(), Some("one"));
    }
}

async fn another_node_gives_up_on_a_reply(place: Place) {
    let late = || Observer { wants: Arc::new(|_, _| false), ..observer("late") };
    let (a, b) = (place.open(&options(vec![late()])).await, place.open(&options(vec![late()])).await);
    for (number, gives_up_first) in [(1, true), (2, false)] {
        let event = message("user", number).new_event(&*a, &[]);
        let record = event.record.clone();
        let entry = run(a.admit(event).await.unwrap());
        let waiting = known(message("user", number).admit(&*b, &[]).await);
        if gives_up_first {
            assert_eq!(b.give_up(&waiting, GiveUp::default()).await, Ok(None));
        }
        a.record(&entry, to_send("sorry", &record, false));
        assert!(entry.answered().await.is_ok());
        if !gives_up_first {
            assert_eq!(b.give_up(&waiting, GiveUp::default()).await, Ok(Some(Body::Document("sorry".to_owned()))));
        }
    }
    let repeat = known(message("user", 1).admit(&*b, &[]).await);
    assert_eq!(repeat.answered().await, &Ok(Body::Plain("success")));
    let leased = lease_some(&*b, "late").await;
    assert_eq!(leased.iter().map(|one| one.record.received).collect::<Vec<_>>(), [1_000]);
}

/// A lease of an observer and a named one last until the clock says so, and not a moment longer.
async fn leases_end_by_the_clock(clock: &Clock, journal: &dyn Journal) {
    const TERM: Duration = Duration::from_secs(3600);
    message("user", 1).answer(journal, &["push"]).await;
    let lease = async || journal.lease("push", 10, TERM).await.unwrap().into_iter().map(|it| it.lease.attempt);
    let named = async || journal.acquire_lease("token/mp/shop", TERM).await.unwrap();
    assert_eq!(lease().await.collect::<Vec<_>>(), [1]);
    assert!(named().await.is_some());
    clock.advance(TERM - Duration::from_secs(60));
    assert_eq!(lease().await.count(), 0);
    assert!(named().await.is_none());
    clock.advance(Duration::from_secs(61));
    assert_eq!(lease().await.collect::<Vec<_>>(), [2]);
    assert!(named().await.is_some());
}

#[tokio::test]
async fn leases_in_memory_end_by_the_clock() {
    let clock = Clock::fixed(0);
    let options = Options { clock: clock.clone(), ..options(vec![observer("push")]) };
    leases_end_by_the_clock(&clock, &MemoryJournal::new(&options)).await;
}

#[tokio::test]
async fn leases_in_a_file_end_by_the_clock() {
    let (clock, folder) = (Clock::fixed(0), TempDir::new().unwrap());
    let options = Options { clock: clock.clone(), ..options(vec![observer("push")]) };
    leases_end_by_the_clock(&clock, &SqliteJournal::open(&folder.path().join("journal.db"), &options).unwrap()).await;
}

/// Stores repeat a push for 3.6 h.
async fn repeats_are_known_for_four_hours(clock: &Clock, journal: &dyn Journal) {
    message("store", 1).answer(journal, &[]).await;
    clock.advance(Duration::from_secs(4 * 3600));
    let repeat = known(message("store", 1).admit(journal, &[]).await);
    assert!(matches!(repeat.answered().await, Ok(Body::Document(text)) if text == "reply to 1"));
}

#[tokio::test]
async fn repeats_are_known_for_four_hours_in_memory() {
    let clock = Clock::fixed(0);
    repeats_are_known_for_four_hours(
        &clock,
        &MemoryJournal::new(&Options { clock: clock.clone(), ..options(Vec::new()) }),
    )
    .await;
}

#[tokio::test]
async fn repeats_are_known_for_four_hours_in_a_file() {
    let (clock, folder) = (Clock::fixed(0), TempDir::new().unwrap());
    let options = Options { clock: clock.clone(), retention: Duration::from_secs(86_400), ..options(Vec::new()) };
    let journal = SqliteJournal::open(&folder.path().join("journal.db"), &options).unwrap();
    repeats_are_known_for_four_hours(&clock, &journal).await;
}
