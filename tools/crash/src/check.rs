//! Compares the responses with the journal and with what handlers have done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use echostr::journal::{Archive, Filter, State, postgres::PostgresArchive, sqlite::SqliteArchive};
use uuid::Uuid;

use crate::{
    Failure,
    deliveries::{name_of, serial_of},
    effects,
    load::Answered,
    serve::{LOOSE, ORDERED},
};

/// Events that are read at one time.
const PAGE: usize = 1000;

/// An event in a journal.
#[derive(Clone, Debug)]
pub struct Event {
    id: Uuid,
    /// Of the delivery that it is.
    pub name: Option<String>,
    account: Arc<str>,
    subject: Option<String>,
    pub state: State,
    reply: Option<String>,
}

impl Event {
    fn serial(&self) -> Option<u64> {
        serial_of(self.name.as_deref()?)
    }
}

/// Everything in a journal, in its order.
pub async fn stored(url: &str) -> Result<Vec<Event>, Failure> {
    let archive: Box<dyn Archive> = match url.strip_prefix("sqlite://") {
        Some(path) => Box::new(SqliteArchive::open(Path::new(path))?),
        None => Box::new(PostgresArchive::open(url)?),
    };
    let mut stored: Vec<Event> = Vec::new();
    loop {
        let page = archive.events(&Filter::default(), stored.last().map(|event| event.id), PAGE).await?;
        if page.is_empty() {
            return Ok(stored);
        }
        stored.extend(page.into_iter().map(|event| Event {
            id: event.id,
            name: name_of(event.record.payload.text()).map(str::to_owned),
            account: event.record.account,
            subject: event.record.subject.map(Into::into),
            state: event.state,
            reply: event.reply,
        }));
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    answered: usize,
    stored: usize,
    runs: usize,
    repeated_runs: usize,
    sightings: usize,
    repeated_sightings: usize,
    shared_late: usize,
    /// What must not be, with the first of each kind.
    bad: Vec<(&'static str, Vec<String>)>,
}

impl Report {
    pub fn new(answered: &BTreeMap<u64, Answered>, stored: &[Event], effects: &Path) -> Result<Self, Failure> {
        let mut report = Self { answered: answered.len(), stored: stored.len(), ..Self::default() };
        report.compare_journal(answered, stored);
        report.compare_runs(answered, &effects::runs(effects)?);
        report.compare_sightings(stored, &effects::sightings(effects)?);
        Ok(report)
    }

    fn compare_journal(&mut self, answered: &BTreeMap<u64, Answered>, stored: &[Event]) {
        let mut by_serial: HashMap<u64, &Event> = HashMap::new();
        let (mut twice, mut strange) = (Vec::new(), Vec::new());
        for event in stored {
            match event.serial() {
                Some(serial) if by_serial.insert(serial, event).is_some() => twice.push(format!("{serial}")),
                Some(_) => {}
                None => strange.push(event.id.to_string()),
            }
        }
        let (mut lost, mut unanswered, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for (serial, Answered { delivery, reply, .. }) in answered {
            let Some(event) = by_serial.get(serial) else {
                lost.push(delivery.name());
                continue;
            };
            if event.state != State::Answered {
                unanswered.push(format!("{}: {}", delivery.name(), event.state.as_str()));
            }
            if event.reply.as_deref().unwrap_or("success") != reply {
                other.push(delivery.name());
            }
        }
        self.bad.push(("lost: answered with 200, not in the journal", lost));
        self.bad.push(("doubled: in the journal more than once", twice));
        self.bad.push(("in the journal, never sent", strange));
        self.bad.push(("answered with 200, no answer in the journal", unanswered));
        self.bad.push(("reply in the journal differs from the response", other));
    }

    fn compare_runs(&mut self, answered: &BTreeMap<u64, Answered>, runs: &[effects::Run]) {
        let mut begun = HashSet::new();
        let mut after = Vec::new();
        for run in runs {
            if !begun.insert(run.serial) {
                self.repeated_runs += 1;
            }
            if let Some(answered) = answered.get(&run.serial).filter(|answered| answered.nanos < run.nanos) {
                after.push(format!("{}: {} ns after it", answered.delivery.name(), run.nanos - answered.nanos));
            }
        }
        let never = answered.values().filter(|it| it.delivery.is_message() && !begun.contains(&it.delivery.serial));
        let never = never.map(|it| it.delivery.name()).collect();
        self.runs = runs.len();
        self.bad.push(("runs of a responder after the 200", after));
        self.bad.push(("answered without a run of the responder", never));
    }

    fn compare_sightings(&mut self, stored: &[Event], sightings: &[effects::Sighting]) {
        self.sightings = sightings.len();
        for (observer, missed) in [(LOOSE, "not seen by the loose observer"), (ORDERED, "not seen by the ordered one")]
        {
            let mut seen = HashSet::new();
            let first: Vec<&effects::Sighting> = sightings
                .iter()
                .filter(|sighting| sighting.observer == observer && seen.insert(sighting.event.clone()))
                .collect();
            let all = sightings.iter().filter(|sighting| sighting.observer == observer).count();
            self.repeated_sightings += all - first.len();
            let missing = stored.iter().filter(|event| !seen.contains(&event.id.to_string()));
            self.bad.push((missed, missing.map(|event| event.id.to_string()).collect()));
            if observer == ORDERED {
                self.compare_order(stored, &first);
            }
        }
    }

    /// Users of one name of two accounts are two. A connection sends the events of its own subject one after the other, so
    /// those of one account must be seen in that order. Of a shared one
    /// several tell at the same time: which is first is decided by what is stored first, and not by the identity.
    fn compare_order<'s>(&mut self, stored: &'s [Event], first: &[&effects::Sighting]) {
        let subject = |event: &'s Event| Some((event.serial()?, (&*event.account, event.subject.as_deref()?)));
        let subjects: HashMap<u64, (&str, &str)> = stored.iter().filter_map(subject).collect();
        let mut latest: HashMap<(&str, &str), u64> = HashMap::new();
        let mut late = Vec::new();
        for sighting in first {
            let Some(subject) = subjects.get(&sighting.serial) else { continue };
            let latest = latest.entry(*subject).or_default();
            let (account, subject) = subject;
            if *latest > sighting.serial {
                match subject.starts_with("o_shared") {
                    true => self.shared_late += 1,
                    false => late.push(format!("{account}, {subject}: {} after {latest}", sighting.serial)),
                }
            }
            *latest = sighting.serial.max(*latest);
        }
        self.bad.push(("out of order at the ordered observer", late));
    }

    pub fn is_right(&self) -> bool {
        self.bad.iter().all(|(_, found)| found.is_empty())
    }

    pub fn print(&self) {
        for (name, count) in [
            ("deliveries answered with 200", self.answered),
            ("events in the journal", self.stored),
            ("runs of the responder", self.runs),
            ("  of these again, before the answer", self.repeated_runs),
            ("sightings of both observers", self.sightings),
            ("  of these again", self.repeated_sightings),
            ("events of a shared subject seen behind later serials", self.shared_late),
        ] {
            println!("{name:<58} {count:>8}");
        }
        for (name, found) in &self.bad {
            println!("{name:<58} {:>8}   must be 0", found.len());
            found.iter().take(5).for_each(|found| eprintln!("  {found}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deliveries::Delivery,
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
        right.compare_sightings(&events, &in_order);
        assert_eq!((found(&right), right.repeated_sightings), (Vec::new(), 1));
        let mut wrong = Report::default();
        wrong.compare_sightings(&events, &[seen(ORDERED, 2, 2), seen(ORDERED, 1, 1), seen(LOOSE, 1, 1)]);
        assert_eq!(found(&wrong), ["not seen by the loose observer", "out of order at the ordered observer"]);
        let of_another = Event { account: "mp/safe".into(), ..stored(1, 1) };
        let mut right = Report::default();
        let both = [seen(ORDERED, 2, 2), seen(ORDERED, 1, 1), seen(LOOSE, 1, 1), seen(LOOSE, 2, 2)];
        right.compare_sightings(&[of_another, stored(2, 2)], &both);
        assert_eq!(found(&right), Vec::<&str>::new());
    }
}
