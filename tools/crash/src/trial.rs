//! A load on some servers, from its start to the verdict. What happens to the servers meanwhile is up to the test.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};

use crate::{
    Failure, check, effects,
    load::{Load, Pace, Wrong},
    nodes::Node,
    serve::{LOOSE, ORDERED},
    slow::Api,
    target::{FORWARD, ORDERED_FORWARD},
};

/// How long observers may need for what is left, once nothing new arrives.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);

/// A folder for the files of a test, with one inside for the effects of handlers.
pub struct Folder {
    folder: TempDir,
    effects: PathBuf,
}

impl Folder {
    /// # Errors
    /// When it cannot be created.
    pub fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let effects = folder.path().join("effects");
        fs::create_dir(&effects)?;
        Ok(Self { folder, effects })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn effects(&self) -> &Path {
        &self.effects
    }

    /// Keeps the files of a test that failed; those of another are removed.
    pub fn end(self, right: bool) {
        if !right {
            eprintln!("FAILED; the files are in {}", self.folder.keep().display());
        }
    }
}

/// Servers under load.
pub struct Trial<'f> {
    folder: &'f Folder,
    pub nodes: Vec<Node>,
    runtime: Runtime,
    load: Arc<Load>,
    connections: Vec<JoinHandle<()>>,
    /// What sends late replies, in a test that has them.
    api: Option<Api>,
    /// Who has to see every event.
    observers: Vec<&'static str>,
    started: Instant,
}

impl<'f> Trial<'f> {
    /// Starts the servers, and then the load.
    ///
    /// # Errors
    /// When a server does not start.
    pub fn start(
        folder: &'f Folder,
        runtime: Runtime,
        mut nodes: Vec<Node>,
        pace: Pace,
        deliveries: u64,
        connections: u16,
        seed: u64,
    ) -> Result<Self, Failure> {
        nodes.iter_mut().try_for_each(Node::start)?;
        nodes.iter_mut().try_for_each(Node::ready)?;
        let load = Load::new(nodes.iter().map(Node::address).collect(), 0..deliveries, 1, pace);
        let connections = load.start(&runtime, usize::from(connections), seed);
        Ok(Self {
            folder,
            nodes,
            runtime,
            load,
            connections,
            api: None,
            observers: vec![LOOSE, ORDERED],
            started: Instant::now(),
        })
    }

    /// Adds messages with slow answers to the load. The servers have the accounts of this API.
    #[must_use]
    pub fn with_slow_answers(mut self, api: Api, seed: u64) -> Self {
        self.connections.extend(self.load.start_slow(&self.runtime, seed));
        self.api = Some(api);
        self
    }

    /// The servers have the forwards of a [`Target`](crate::target::Target).
    #[must_use]
    pub fn with_forwards(mut self) -> Self {
        self.observers.extend([FORWARD, ORDERED_FORWARD]);
        self
    }

    /// Ends the load and then the servers, prints what was found in the journal with this URL, after these `facts`, and
    /// returns whether nothing was lost, doubled, run again or answered wrongly.
    ///
    /// # Errors
    /// When a server does not stop, or something cannot be read.
    pub fn finish(mut self, journal: &str, facts: &[(&str, usize)]) -> Result<bool, Failure> {
        self.load.stop();
        self.runtime.block_on(async {
            for connection in std::mem::take(&mut self.connections) {
                connection.await?;
            }
            Ok::<_, Failure>(())
        })?;
        let loaded = self.started.elapsed();
        if self.api.is_some() {
            // Replies that are late are recorded before a server has stopped, and sent by the next one.
            self.stop()?;
            self.nodes.iter_mut().try_for_each(Node::start)?;
            self.nodes.iter_mut().try_for_each(Node::ready)?;
        }
        let caught_up = self.catch_up(journal)?;
        self.stop()?;

        let stored = self.runtime.block_on(check::stored(journal))?;
        let answered = self.load.answered();
        let mut report = check::Report::new(&answered, &stored, &self.observers, self.folder.effects())?;
        if let Some(api) = &self.api {
            let (ends, config) = (self.load.ends(), self.nodes[0].config()?);
            let ids: Vec<&str> = ends.values().map(|end| end.id.as_str()).collect();
            let counted = self.runtime.block_on(check::stream_runs(&config.journal, &ids))?;
            report.compare_streams(&answered, &ends, &counted, self.folder.effects())?;
            let dead = self.runtime.block_on(check::dead_replies(journal))?;
            report.compare_late(&answered, &stored, &api.sent(), &dead);
        }
        for (name, fact) in facts {
            println!("{name:<58} {fact:>8}");
        }
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.load.counts;
        println!("{:<58} {:>8.1}", "seconds of load", loaded.as_secs_f64());
        println!("{:<58} {:>8}", "attempts", count(&counts.attempts));
        println!("{:<58} {:>8}", "attempts that were cancelled or not connected", count(&counts.cut));
        println!("{:<58} {:>8}", "attempts that were refused with 503", count(&counts.refused));
        println!("{:<58} {:>8}", "repeats after a 200, same reply", count(&counts.repeats));
        report.print();
        let panics: usize = self.nodes.iter().map(|node| node.log().matches("panicked").count()).sum();
        println!("{:<58} {panics:>8}   must be 0", "panics in the logs");
        let wrong = self.load.wrong();
        for kind in Wrong::ALL {
            let of_it: Vec<_> = wrong.iter().filter(|(of, _)| *of == kind).collect();
            println!("{:<58} {:>8}   must be 0", kind.as_str(), of_it.len());
            of_it.iter().take(10).for_each(|(_, what)| eprintln!("  {what}"));
        }
        Ok(report.is_right() && wrong.is_empty() && caught_up && panics == 0)
    }

    fn stop(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            let status = node.stop()?;
            if !status.success() {
                return Err(format!("a server that was asked to stop ended with {status}\n{}", node.log()).into());
            }
        }
        Ok(())
    }

    /// Waits until the observers have seen everything that was answered, and late replies are sent.
    fn catch_up(&self, journal: &str) -> Result<bool, Failure> {
        let until = Instant::now() + CATCH_UP_TIMEOUT;
        let answered = self.load.answered();
        loop {
            let sightings = effects::sightings(self.folder.effects())?;
            let missing = self.observers.iter().map(|observer| {
                let of_it = sightings.iter().filter(|sighting| sighting.observer == *observer);
                let seen: HashSet<u64> = of_it.map(|sighting| sighting.serial).collect();
                answered.keys().filter(|serial| !seen.contains(serial)).count()
            });
            let missing: Vec<usize> = missing.collect();
            let unsent = match self.api {
                Some(_) => self.runtime.block_on(check::unsent(journal))?,
                None => 0,
            };
            if missing.iter().all(|count| *count == 0) && unsent == 0 {
                return Ok(true);
            }
            if Instant::now() > until {
                eprintln!(
                    "observers have not caught up: {missing:?} events are missing, {unsent} late replies not sent"
                );
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}
