//! Runs the background jobs of a program ([`Hooks::background`](crate::hooks::Hooks::background)).

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    hooks::{BackgroundJob, ServerHandle},
    journal::{Journal, KeptLease},
    supervisor::Supervisor,
};

/// The pause after a job has failed, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A job that has run for so long was well: the next pause is short.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// The background jobs of a server.
#[derive(Debug)]
pub(crate) struct Backgrounds {
    jobs: Vec<BackgroundJob>,
    server: ServerHandle,
    journal: Arc<dyn Journal>,
    /// What is left of them has no time any more.
    cancelled: CancellationToken,
    running: TaskTracker,
}

impl Backgrounds {
    /// Jobs, none of which runs yet.
    pub(crate) fn new(jobs: Vec<BackgroundJob>, server: &ServerHandle, journal: &Arc<dyn Journal>) -> Self {
        let server = server.until(server.token().child_token());
        let (cancelled, running) = (CancellationToken::new(), TaskTracker::new());
        Self { jobs, server, journal: Arc::clone(journal), cancelled, running }
    }

    /// Starts them.
    pub(crate) fn start(&mut self, supervisor: &Supervisor) {
        for job in self.jobs.drain(..) {
            let lease = job.how.on_one_node.then(|| {
                let name = format!("background/{}", job.how.name);
                Arc::new(KeptLease::new(&self.journal, name))
            });
            let kept = {
                let (name, server, lease) =
                    (format!("background {}", job.how.name), self.server.clone(), lease.clone());
                let job = Arc::new(job);
                supervisor.keep(&name, move || run(Arc::clone(&job), server.clone(), lease.clone()))
            };
            let cancelled = self.cancelled.clone();
            self.running.spawn(async move {
                cancelled.run_until_cancelled(kept).await;
                if let Some(lease) = lease {
                    lease.release().await;
                }
            });
        }
        self.running.close();
    }

    /// Asks them to end.
    pub(crate) fn stop(&self) {
        self.server.token().cancel();
    }

    /// Waits until they have ended.
    pub(crate) async fn drain(&self) {
        self.stop();
        self.running.wait().await;
    }

    /// Cancels those that have not.
    pub(crate) async fn cancel(&self) {
        self.cancelled.cancel();
        self.drain().await;
    }
}

/// Runs a job, on one node only if there is a lease for it.
fn run(
    job: Arc<BackgroundJob>,
    server: ServerHandle,
    lease: Option<Arc<KeptLease>>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Some(lease) = lease else { return attempts(&job, &server).await };
        // One that is left of a run that panicked.
        lease.release().await;
        while !server.is_stopping() {
            let Some(acquired) = lease.acquire(server.token()).await else { break };
            let done = async {
                attempts(&job, &server).await;
                // A job that is done is not another node's to do.
                server.stopping().await;
            };
            tokio::select! {
                biased;
                why = lease.renew(&acquired) => {
                    let name = &*job.how.name;
                    warn!(job = name, "background job {name} was cancelled: {why}");
                }
                () = done => {}
            }
            lease.release().await;
        }
    })
}

/// Runs a job until it is done, again and again when it fails. Its panic is the supervisor's.
async fn attempts(job: &BackgroundJob, server: &ServerHandle) {
    let name = &*job.how.name;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let Err(failure) = (job.run)(server.clone()).await else {
            info!(job = name, "background job {name} has ended");
            return;
        };
        if began.elapsed() >= STEADY_AFTER {
            pause = FIRST_PAUSE;
        }
        if server.is_stopping() {
            warn!(job = name, "background job {name} failed while the server stops: {failure}");
            return;
        }
        warn!(job = name, "background job {name} failed, it starts again in {} s: {failure}", pause.as_secs());
        if !server.sleep(pause).await {
            return;
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
