//! Compares the responses with the journal and with what handlers have done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use echostr::{
    clock::Clock,
    config,
    internals::{
        journal::{self, Archive, Filter, State, postgres::PostgresArchive, sqlite::SqliteArchive},
        supervisor::Supervisor,
    },
    simulate::api::Sent,
};
use tokio::time;
use uuid::Uuid;

use crate::{
    Failure,
    deliveries::{Kind, name_of, serial_of},
    effects,
    load::Answered,
    serve::{LOOSE, ORDERED},
    slow::{self, End},
    target::{FORWARD, ORDERED_FORWARD},
};

/// Events that are read at one time.
const PAGE: usize = 1000;

/// The observer that sends late replies.
const LATE_REPLY: &str = "echostr.late-reply";

/// How often a responder is called for a stream, at most.
const MAX_RUNS: u64 = 3;

/// The account whose answers are streams.
const BOT: &str = "wecom_bot/helper";

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

fn open(url: &str) -> Result<Box<dyn Archive>, Failure> {
    Ok(match url.strip_prefix("sqlite://") {
        Some(path) => Box::new(SqliteArchive::open(Path::new(path))?),
        None => Box::new(PostgresArchive::open(url)?),
    })
}

/// Events whose late reply is still to come, or to be sent.
pub async fn unsent(url: &str) -> Result<usize, Failure> {
    let dead = dead_replies(url).await?;
    let given_up = |event: &Event| event.name.as_ref().is_some_and(|name| dead.contains_key(name));
    let responding = |event: &&Event| event.state == State::Responding && !given_up(event);
    let responding = stored(url).await?.iter().filter(responding).count();
    let states = open(url)?.observer_states().await?;
    let pending = states.iter().filter(|state| state.name == LATE_REPLY).map(|state| state.pending);
    Ok(responding + pending.sum::<u64>() as usize)
}

/// The error of each late reply that was not sent, by the name of its delivery.
pub async fn dead_replies(url: &str) -> Result<HashMap<String, String>, Failure> {
    let (archive, mut dead, mut after) = (open(url)?, HashMap::new(), None);
    loop {
        let page = archive.dead(&Filter::default(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(dead) };
        after = Some((last.event.id, last.observer.clone()));
        let replies = page.into_iter().filter(|letter| letter.observer == LATE_REPLY);
        dead.extend(replies.map(|it| (name_of(it.event.record.payload.text()).unwrap_or("?").to_owned(), it.error)));
    }
}

/// The values of named leases.
pub async fn leases(config: &config::Journal, names: Vec<String>) -> Result<Vec<Option<String>>, Failure> {
    let journal = journal::open(config, Vec::new(), &Supervisor::default(), &Clock::system(), None)?;
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        values.push(loop {
            // A database is connected to while we ask.
            match journal.read_lease(&name).await {
                Ok(value) => break value,
                Err(_) => time::sleep(Duration::from_millis(50)).await,
            }
        });
    }
    journal.close().await?;
    Ok(values)
}

/// How often the servers have counted a call of the responder, for these streams.
pub async fn stream_runs(config: &config::Journal, streams: &[&str]) -> Result<HashMap<String, u64>, Failure> {
    let names = streams.iter().map(|id| format!("stream/{BOT}/{id}")).collect();
    let kept = leases(config, names).await?;
    let runs = |kept: Option<String>| serde_json::from_str::<serde_json::Value>(&kept?).ok()?["runs"].as_u64();
    Ok(streams.iter().zip(kept).filter_map(|(id, kept)| Some(((*id).to_owned(), runs(kept)?))).collect())
}

/// Everything in a journal, in its order.
pub async fn stored(url: &str) -> Result<Vec<Event>, Failure> {
    let archive = open(url)?;
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
    streams: usize,
    streams_cut_short: usize,
    late_sent: usize,
    late_unknown: usize,
    late_given_up: usize,
    /// What must not be, with the first of each kind.
    bad: Vec<(&'static str, Vec<String>)>,
}

impl Report {
    pub fn new(
        answered: &BTreeMap<u64, Answered>,
        stored: &[Event],
        observers: &[&str],
        effects: &Path,
    ) -> Result<Self, Failure> {
        let mut report = Self { answered: answered.len(), stored: stored.len(), ..Self::default() };
        report.compare_journal(answered, stored);
        report.compare_runs(answered, &effects::runs(effects)?);
        report.compare_sightings(stored, observers, &effects::sightings(effects)?);
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
            // What happens to late replies is compared with what was sent.
            if delivery.kind() == Kind::Late {
                continue;
            }
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
            if let Some(answered) = answered.get(&run.serial).filter(|answered| answered.nanos < run.nanos)
                && !answered.delivery.kind().is_slow()
            {
                after.push(format!("{}: {} ns after it", answered.delivery.name(), run.nanos - answered.nanos));
            }
        }
        let never =
            answered.values().filter(|it| it.delivery.kind() != Kind::Event && !begun.contains(&it.delivery.serial));
        let never = never.map(|it| it.delivery.name()).collect();
        self.runs = runs.len();
        self.bad.push(("runs of a responder after the 200", after));
        self.bad.push(("answered without a run of the responder", never));
    }

    /// A stream ends with its whole text, or with what it has when its responder was called as often as it may be. A responder
    /// is not called after the end.
    ///
    /// # Errors
    /// When the effects cannot be read.
    pub fn compare_streams(
        &mut self,
        answered: &BTreeMap<u64, Answered>,
        ends: &BTreeMap<u64, End>,
        counted: &HashMap<String, u64>,
        effects: &Path,
    ) -> Result<(), Failure> {
        let mut latest: HashMap<u64, u64> = HashMap::new();
        for run in effects::runs(effects)? {
            let latest = latest.entry(run.serial).or_default();
            *latest = run.nanos.max(*latest);
        }
        let (mut early, mut after) = (Vec::new(), Vec::new());
        for (serial, Answered { delivery, .. }) in answered {
            // One without an end was reported when the platform gave it up.
            let (Kind::Stream, Some(end)) = (delivery.kind(), ends.get(serial)) else { continue };
            self.streams += 1;
            if end.content != delivery.full_reply() {
                self.streams_cut_short += 1;
                // A call is counted before it begins, and a process may end in between.
                let runs = counted.get(&end.id).copied();
                if runs != Some(MAX_RUNS) {
                    early.push(format!("{}: `{}` after {runs:?} runs", delivery.name(), end.content));
                }
            }
            if latest.get(serial).is_some_and(|nanos| *nanos > end.nanos) {
                after.push(delivery.name());
            }
        }
        self.bad.push(("streams that ended too early", early));
        self.bad.push(("runs of a responder after the end of its stream", after));
        Ok(())
    }

    /// A late reply is sent once. It is not when its process ended during each of three runs, or when nobody knows whether it
    /// was sent: then there is a dead letter that says so.
    pub fn compare_late(
        &mut self,
        answered: &BTreeMap<u64, Answered>,
        stored: &[Event],
        sent: &[Sent],
        dead: &HashMap<String, String>,
    ) {
        let states: HashMap<u64, State> = stored.iter().filter_map(|it| Some((it.serial()?, it.state))).collect();
        let times = slow::times_sent(sent);
        let (mut twice, mut missing) = (Vec::new(), Vec::new());
        for (serial, Answered { delivery, reply, .. }) in answered {
            if delivery.kind() != Kind::Late {
                continue;
            }
            let name = delivery.name();
            let times = times.get(&(delivery.subject.as_str(), delivery.full_reply().as_str())).copied();
            let times = times.unwrap_or_default();
            if reply != "success" {
                // It was in time, because the attempt that was answered came when it was ready.
                if times > 0 {
                    twice.push(format!("{name}: in the response, and {times} times"));
                }
                continue;
            }
            match (times, states.get(serial), dead.get(&name)) {
                (1, ..) => self.late_sent += 1,
                (0, Some(State::Late), Some(error)) if error.contains("it may have been sent") => {
                    self.late_unknown += 1
                }
                (0, Some(State::Responding), Some(error)) if error.contains("its process ended") => {
                    self.late_given_up += 1;
                }
                (0, state, error) => missing.push(format!("{name}: {state:?}, {error:?}")),
                (times, ..) => twice.push(format!("{name}: {times} times")),
            }
        }
        self.bad.push(("late replies that were sent more than once", twice));
        self.bad.push(("late replies that were neither sent nor a dead letter", missing));
    }

    fn compare_sightings(&mut self, stored: &[Event], observers: &[&str], sightings: &[effects::Sighting]) {
        const ALL: [(&str, &str, Option<&str>); 4] = [
            (LOOSE, "not seen by the loose observer", None),
            (ORDERED, "not seen by the ordered one", Some("out of order at the ordered observer")),
            (FORWARD, "not forwarded", None),
            (ORDERED_FORWARD, "not forwarded in order", Some("forwarded out of order")),
        ];
        self.sightings = sightings.len();
        for (observer, missed, out_of_order) in ALL.into_iter().filter(|(name, ..)| observers.contains(name)) {
            let mut seen = HashSet::new();
            let first: Vec<&effects::Sighting> = sightings
                .iter()
                .filter(|sighting| sighting.observer == observer && seen.insert(sighting.event.clone()))
                .collect();
            let all = sightings.iter().filter(|sighting| sighting.observer == observer).count();
            self.repeated_sightings += all - first.len();
            let missing = stored.iter().filter(|event| !seen.contains(&event.id.to_string()));
            self.bad.push((missed, missing.map(|event| event.id.to_string()).collect()));
            if let Some(out_of_order) = out_of_order {
                self.compare_order(stored, &first, out_of_order);
            }
        }
    }

    /// Users of one name of two accounts are two. A connection sends the events of its own subject one after the other, so
    /// those of one account must be seen in that order. Of a shared one
    /// several tell at the same time: which is first is decided by what is stored first, and not by the identity.
    fn compare_order<'s>(&mut self, stored: &'s [Event], first: &[&effects::Sighting], problem: &'static str) {
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
        self.bad.push((problem, late));
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
            ("sightings of all observers", self.sightings),
            ("  of these again", self.repeated_sightings),
            ("events of a shared subject seen behind later serials", self.shared_late),
            ("streams that ended", self.streams),
            ("  of these cut short, after three runs", self.streams_cut_short),
            ("late replies that were sent", self.late_sent),
            ("late replies that may have been sent, dead letters", self.late_unknown),
            ("late replies given up after three runs, dead letters", self.late_given_up),
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
mod tests;
