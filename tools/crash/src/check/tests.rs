use super::*;
use crate::{
    deliveries::{Delivery, FIRST_LATE, FIRST_STREAM},
    effects::{Run, Sighting},
};

const REPLY: &str = "<xml>echo</xml>";

fn stored(serial: u64, number: u128) -> Event {
    let subject = "o_1".to_owned();
    Event {
        id: Uuid::from_u128(number),
        name: Some(Delivery::new(serial, subject.clone()).name()),
        account: "mp/plain".into(),
        subject: Some(subject),
        state: State::Answered,
        reply: Some(REPLY.to_owned()),
    }
}

fn answered(serials: &[u64]) -> BTreeMap<u64, Answered> {
    let answered = |serial: &u64| {
        let delivery = Delivery::new(*serial, "o_1".to_owned());
        (*serial, Answered { delivery, nanos: 100, reply: REPLY.to_owned() })
    };
    serials.iter().map(answered).collect()
}

fn found(report: &Report) -> Vec<&'static str> {
    report.bad.iter().filter(|(_, found)| !found.is_empty()).map(|(name, _)| *name).collect()
}

#[test]
fn a_loss_a_double_and_a_wrong_reply_are_found() {
    let mut right = Report::default();
    right.compare_journal(&answered(&[1, 2]), &[stored(1, 1), stored(2, 2)]);
    assert_eq!(found(&right), [""; 0]);
    let mut wrong = Report::default();
    let mut other = stored(2, 2);
    other.reply = None;
    wrong.compare_journal(&answered(&[1, 2, 3]), &[stored(1, 1), stored(1, 3), other]);
    assert_eq!(found(&wrong).len(), 3, "{wrong:?}");
}

#[test]
fn a_run_after_the_answer_is_found_and_one_before_is_not() {
    let run = |serial, nanos| Run { serial, nanos };
    let mut right = Report::default();
    right.compare_runs(&answered(&[1]), &[run(1, 10), run(1, 50), run(2, 500)]);
    assert_eq!((found(&right), right.repeated_runs), (Vec::new(), 1));
    let mut wrong = Report::default();
    wrong.compare_runs(&answered(&[1, 2]), &[run(1, 10), run(1, 101)]);
    assert_eq!(found(&wrong), ["runs of a responder after the 200", "answered without a run of the responder"]);
}

#[test]
fn what_an_observer_has_missed_or_seen_too_early_is_found() {
    let seen = |observer: &str, serial, number| Sighting {
        observer: observer.to_owned(),
        serial,
        event: Uuid::from_u128(number).to_string(),
    };
    let events = [stored(1, 1), stored(2, 2)];
    let in_order =
        [seen(ORDERED, 1, 1), seen(ORDERED, 2, 2), seen(ORDERED, 1, 1), seen(LOOSE, 2, 2), seen(LOOSE, 1, 1)];
    let mut right = Report::default();
    right.compare_sightings(&events, &[LOOSE, ORDERED], &in_order);
    assert_eq!((found(&right), right.repeated_sightings), (Vec::new(), 1));
    let mut wrong = Report::default();
    wrong.compare_sightings(&events, &[LOOSE, ORDERED], &[seen(ORDERED, 2, 2), seen(ORDERED, 1, 1), seen(LOOSE, 1, 1)]);
    assert_eq!(found(&wrong), ["not seen by the loose observer", "out of order at the ordered observer"]);
    let of_another = Event { account: "mp/safe".into(), ..stored(1, 1) };
    let mut right = Report::default();
    let both = [seen(ORDERED, 2, 2), seen(ORDERED, 1, 1), seen(LOOSE, 1, 1), seen(LOOSE, 2, 2)];
    right.compare_sightings(&[of_another, stored(2, 2)], &[LOOSE, ORDERED], &both);
    assert_eq!(found(&right), Vec::<&str>::new());
}

fn slow(serial: u64, reply: &str) -> BTreeMap<u64, Answered> {
    let delivery = Delivery::new(serial, "o_1".to_owned());
    BTreeMap::from([(serial, Answered { delivery, nanos: 100, reply: reply.to_owned() })])
}

#[test]
fn a_late_reply_that_is_missing_or_sent_twice_is_found() {
    let answered = slow(FIRST_LATE, "success");
    let delivery = &answered[&FIRST_LATE].delivery;
    let body = serde_json::json!({ "text": { "content": delivery.full_reply() } });
    let sent = Sent { path: String::new(), to: "o_1".to_owned(), body };
    let compare = |answered: &BTreeMap<_, _>, state, times, error: Option<&str>| {
        let mut report = Report::default();
        let event = Event { state, ..stored(FIRST_LATE, 1) };
        let dead = error.map(|error| (delivery.name(), error.to_owned())).into_iter().collect();
        report.compare_late(answered, &[event], &vec![sent.clone(); times], &dead);
        found(&report)
    };
    let unknown = "it may have been sent, so it is not sent again: cut";
    assert_eq!(compare(&answered, State::Late, 1, None), [""; 0]);
    assert_eq!(compare(&answered, State::Late, 0, Some(unknown)), [""; 0]);
    assert_eq!(compare(&answered, State::Late, 2, None), ["late replies that were sent more than once"]);
    let missing = ["late replies that were neither sent nor a dead letter"];
    assert_eq!(compare(&answered, State::Responding, 0, Some("its process ended 3 times")), [""; 0]);
    assert_eq!(compare(&answered, State::Responding, 0, None), missing);
    assert_eq!(compare(&answered, State::Late, 0, None), missing);
    assert_eq!(compare(&answered, State::Late, 0, Some("no access token")), missing);
    let in_time = slow(FIRST_LATE, "in the response");
    assert_eq!(compare(&in_time, State::Answered, 1, None), ["late replies that were sent more than once"]);
}

#[test]
fn a_stream_that_ended_too_early_is_found() {
    let (answered, folder) = (slow(FIRST_STREAM, "{}"), tempfile::tempdir().unwrap());
    let effects = effects::Effects::open(folder.path()).unwrap();
    let name = answered[&FIRST_STREAM].delivery.name();
    effects.run(&name).unwrap();
    let compare = |content: &str, nanos, runs| {
        let mut report = Report::default();
        let ends = BTreeMap::from([(FIRST_STREAM, End { id: "s".to_owned(), nanos, content: content.to_owned() })]);
        report.compare_streams(&answered, &ends, &HashMap::from([("s".to_owned(), runs)]), folder.path()).unwrap();
        found(&report)
    };
    let whole = answered[&FIRST_STREAM].delivery.full_reply();
    assert_eq!(compare(&whole, u64::MAX, 1), [""; 0]);
    assert_eq!(compare("echo: ", u64::MAX, MAX_RUNS), [""; 0]);
    assert_eq!(compare("echo: ", u64::MAX, 2), ["streams that ended too early"]);
    assert_eq!(compare(&whole, 1, 1), ["runs of a responder after the end of its stream"]);
}
