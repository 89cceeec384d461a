//! Supervises background work: every task and every thread of a server runs under its [`Supervisor`].
//!
//! A panic is logged with the name of the task (its place is in the line of [`crate::log::take_panics`]), counted, and
//! shows in readiness. What keeps its state in the journal or behind a lock is started again after a pause. What does not,
//! as the writer of a file, ends the server: the process is then started anew by whatever started it.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use metrics::Counter;
use tokio::{sync::Notify, task::JoinHandle, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    log::seconds,
    metrics::Metrics,
    panics::{self, Panicked},
};

/// Pause before a task is started again, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A task that has run for so long since it was started again is well.
const STEADY_AFTER: Duration = Duration::from_secs(1);

/// The background tasks of one server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    metrics: Option<Metrics>,
    tasks: Mutex<BTreeMap<Arc<str>, Arc<Task>>>,
    /// The task that ended for good, and that one has.
    lost: OnceLock<Arc<str>>,
    ending: CancellationToken,
}

/// What is known of the tasks of one name.
struct Task {
    name: Arc<str>,
    panics: Option<Counter>,
    /// How many of them have panicked and are not well again.
    failing: AtomicUsize,
    /// The next one that looks panics, for tests.
    fault: AtomicBool,
    faulty: Notify,
    /// Those of its [groups](TaskGroup).
    running: TaskTracker,
    cancelled: CancellationToken,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("failing", &self.failing()).finish()
    }
}

impl Supervisor {
    /// Counts panics there.
    pub fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Inner { metrics: Some(metrics.clone()), ..Inner::default() }))
    }

    /// A task that has failed and is not well again.
    pub fn failing(&self) -> Option<Arc<str>> {
        let lost = self.0.lost.get().cloned();
        lost.or_else(|| {
            let tasks = self.tasks();
            tasks.values().find(|task| task.failing.load(Ordering::Relaxed) > 0).map(|task| Arc::clone(&task.name))
        })
    }

    /// Ready when a task has ended that cannot be started again.
    pub(crate) async fn lost(&self) -> Arc<str> {
        self.0.ending.cancelled().await;
        self.0.lost.get().cloned().unwrap_or_else(|| "unknown".into())
    }

    /// Makes the tasks of this name panic, one of them and once, as soon as they have something to do or wait for it.
    /// Returns whether there is such a task.
    #[doc(hidden)]
    pub fn inject_panic(&self, name: &str) -> bool {
        let task = self.tasks().get(name).cloned();
        task.inspect(|task| {
            task.fault.store(true, Ordering::Relaxed);
            task.faulty.notify_one();
        })
        .is_some()
    }

    /// Runs a task until it ends by itself, and again after each panic.
    pub(crate) fn keep<S, F>(&self, name: &str, mut start: S) -> impl Future<Output = ()> + Send + use<S, F>
    where
        S: FnMut() -> F + Send,
        F: Future<Output = ()> + Send,
    {
        let watch = self.watch(name);
        async move {
            while let Err(panicked) = watch.run(async { start().await }).await {
                time::sleep(watch.failed(&panicked)).await;
            }
        }
    }

    /// A thread that cannot be started again: its panic ends the server.
    pub(crate) fn need_thread<R, P>(&self, name: &str, run: R, on_panic: P) -> impl FnOnce() + use<R, P>
    where
        R: FnOnce(&Watch),
        P: FnOnce(),
    {
        let (watch, supervisor) = (self.watch(name), self.clone());
        move || {
            let Err(panicked) = panics::catch(|| run(&watch)) else { return };
            watch.task.panicked(&panicked, "it cannot be started again, so the server ends");
            let _ = supervisor.0.lost.set(Arc::clone(&watch.task.name));
            on_panic();
            supervisor.0.ending.cancel();
        }
    }

    /// Tasks that end by themselves, such as one for each delivery.
    pub(crate) fn group(&self, name: &str) -> TaskGroup {
        TaskGroup { task: self.task(name), running: TaskTracker::new() }
    }

    /// Cancels the tasks of every group, and waits until they have ended.
    pub(crate) async fn cancel_groups(&self) {
        let tasks: Vec<_> = self.tasks().values().cloned().collect();
        tasks.iter().for_each(|task| task.cancelled.cancel());
        for task in tasks {
            task.running.close();
            task.running.wait().await;
        }
    }

    /// Watches a thread that looks after itself; see [`Watch::keep`].
    pub(crate) fn watch(&self, name: &str) -> Arc<Watch> {
        Arc::new(Watch { task: self.task(name), failure: Mutex::default() })
    }

    fn task(&self, name: &str) -> Arc<Task> {
        let mut tasks = self.tasks();
        if let Some(task) = tasks.get(name) {
            return Arc::clone(task);
        }
        let name: Arc<str> = name.into();
        let task = Arc::new(Task {
            panics: self.0.metrics.as_ref().map(|metrics| metrics.task_panics(&name)),
            name: Arc::clone(&name),
            failing: AtomicUsize::new(0),
            fault: AtomicBool::new(false),
            faulty: Notify::new(),
            running: TaskTracker::new(),
            cancelled: CancellationToken::new(),
        });
        tasks.insert(name, Arc::clone(&task));
        task
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Task>>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    fn panicked(&self, panicked: &Panicked, then: impl fmt::Display) {
        self.panics.iter().for_each(|panics| panics.increment(1));
        let name = &*self.name;
        error!(task = name, "task {name} {panicked}; {then}");
    }

    /// Panics if a test asks for it.
    fn look(&self) {
        if self.fault.load(Ordering::Relaxed) && self.fault.swap(false, Ordering::Relaxed) {
            panic!("injected into {}", self.name);
        }
    }
}

/// Watches one task or thread.
pub(crate) struct Watch {
    task: Arc<Task>,
    failure: Mutex<Option<Failure>>,
}

/// Since it has panicked, until it is well again.
#[derive(Clone, Copy)]
struct Failure {
    /// When it was started again.
    restarted: Instant,
    next_pause: Duration,
}

impl Watch {
    /// Runs a thread until it ends by itself, and again after each panic; `run` is told how long it has to wait first.
    pub(crate) fn keep(self: Arc<Self>, mut run: impl FnMut(Duration)) -> impl FnOnce() {
        move || {
            let mut pause = Duration::ZERO;
            while let Err(panicked) = panics::catch(|| run(pause)) {
                pause = self.failed(&panicked);
            }
        }
    }

    /// A thread calls this now and then: it is well once it has run for a while.
    pub(crate) fn look(&self) {
        self.task.look();
        let failure = *self.failure();
        if failure.is_some_and(|failure| failure.restarted.elapsed() >= STEADY_AFTER) {
            self.is_steady();
        }
    }

    /// The outcome of a task, which is well once it has run for a while.
    async fn run(&self, task: impl Future<Output = ()> + Send) -> Result<(), Panicked> {
        let fault = async {
            loop {
                self.task.faulty.notified().await;
                self.task.look();
            }
        };
        let run = AssertUnwindSafe(async {
            tokio::select! {
                biased;
                () = task => {}
                () = fault => {}
            }
        });
        let mut run = pin!(run.catch_unwind().map(|ended| ended.map_err(Panicked::of)));
        if self.failure().is_some() {
            match time::timeout(STEADY_AFTER, run.as_mut()).await {
                Ok(ended) => return ended,
                Err(_elapsed) => self.is_steady(),
            }
        }
        run.await
    }

    fn is_steady(&self) {
        if self.failure().take().is_some() {
            self.task.failing.fetch_sub(1, Ordering::Relaxed);
            let name = &*self.task.name;
            info!(task = name, "task {name} runs again");
        }
    }

    /// It has panicked; returns how long to wait until it is started again.
    fn failed(&self, panicked: &Panicked) -> Duration {
        let mut failure = self.failure();
        let pause = failure.map_or(FIRST_PAUSE, |failure| failure.next_pause);
        let next_pause = (2 * pause).min(LONGEST_PAUSE);
        if failure.replace(Failure { restarted: Instant::now() + pause, next_pause }).is_none() {
            self.task.failing.fetch_add(1, Ordering::Relaxed);
        }
        drop(failure);
        self.task.panicked(panicked, format_args!("it starts again in {}", seconds(pause)));
        pause
    }

    fn failure(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.failure().is_some() {
            self.task.failing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Tasks that end by themselves. Cheap to clone.
#[derive(Clone)]
pub struct TaskGroup {
    task: Arc<Task>,
    /// Those of this group: there may be others of its name.
    running: TaskTracker,
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("name", &self.task.name).field("running", &self.running.len()).finish()
    }
}

impl TaskGroup {
    /// Starts one; it gives `None` when it panicked or was cancelled.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let (task, cancelled) = (Arc::clone(&self.task), self.task.cancelled.clone());
        let counted = self.running.token();
        // It is large, and what is around it here would copy it from layer to layer.
        let future = Box::pin(future);
        self.task.running.spawn(async move {
            let _counted = counted;
            let run = async {
                task.look();
                future.await
            };
            let ended = cancelled.run_until_cancelled_owned(AssertUnwindSafe(run).catch_unwind()).await?;
            ended.map_err(|payload| task.panicked(&Panicked::of(payload), "what it was for is done again")).ok()
        })
    }

    /// Ready when none runs; nothing may start any more.
    pub(crate) async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{future::pending, sync::mpsc, thread};

    use super::*;

    #[tokio::test]
    async fn a_task_of_a_group_that_panics_is_counted_and_the_others_run_on() {
        let metrics = Metrics::new();
        let supervisor = Supervisor::new(&metrics);
        let group = supervisor.group("tokens");
        let panicked = group.spawn(async { panic!("no luck") });
        assert_eq!(panicked.await.unwrap(), None);
        assert_eq!(group.spawn(async { 7 }).await.unwrap(), Some(7));
        assert!(metrics.render().contains("echostr_task_panics_total{task=\"tokens\"} 1"));
        assert_eq!(supervisor.failing(), None, "nothing of it has to be started again");

        let forever = group.spawn(pending::<()>());
        supervisor.cancel_groups().await;
        assert_eq!(forever.await.unwrap(), None);
    }

    #[test]
    fn a_task_that_keeps_panicking_is_started_less_and_less_often() {
        let supervisor = Supervisor::default();
        let (one, other) = (supervisor.watch("task"), supervisor.watch("task"));
        let panicked = panics::catch(|| panic!("again")).unwrap_err();
        let pauses: Vec<_> = (0..11).map(|_| one.failed(&panicked).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(other.failed(&panicked).as_millis(), 100);
        one.is_steady();
        assert_eq!(supervisor.failing().as_deref(), Some("task"), "the other one");
        assert_eq!(one.failed(&panicked).as_millis(), 100);
        drop((one, other));
        assert_eq!(supervisor.failing(), None, "they are gone");
    }

    #[test]
    fn a_thread_is_told_to_wait_before_it_runs_again() {
        let supervisor = Supervisor::default();
        let (told, pauses) = mpsc::channel();
        let run = supervisor.watch("thread").keep(move |pause| {
            told.send(pause).unwrap();
            assert!(pause > FIRST_PAUSE, "no luck");
        });
        thread::spawn(run).join().unwrap();
        assert_eq!(pauses.iter().collect::<Vec<_>>(), [Duration::ZERO, FIRST_PAUSE, 2 * FIRST_PAUSE]);
    }
}
