//! A server and the bare one beside it, ready to be measured.

use std::rc::Rc;

use crate::{
    Arguments, Failure,
    cases::{Batch, Case, NO_JOURNAL},
    client::{Client, Round},
    process::{Core, Process, Workspace},
};

/// Requests that are sent before anything is measured.
pub(crate) const WARM_UP: usize = 8_000;

/// Requests that fill the default journal in memory, so that it drops an event for each new one as it will for the rest of its life.
const FILL: usize = 150_000;

/// Both are started, warm, and connected.
pub(crate) struct Pair {
    case: Case,
    server: Process,
    client: Client,
    bare: Process,
    bare_client: Client,
    /// The serial that the next batch starts with.
    serial: u64,
    /// What the warm-up has shown, of each.
    pub(crate) warm_up: Round,
    pub(crate) bare_warm_up: Round,
}

impl Pair {
    pub(crate) fn start(
        arguments: &Arguments,
        case: &Case,
        workspace: &Workspace,
        core: Core,
    ) -> Result<Self, Failure> {
        let connections = usize::from(arguments.connections);
        let journal = workspace.journal(arguments.journal.as_deref().unwrap_or(NO_JOURNAL))?;
        let options = (journal.as_str(), arguments.memory_limit.as_deref());
        let server = Process::echostr(arguments.server.as_deref(), workspace, core, options)?;
        let mut client = Client::connect(server.address(), connections)?;
        let (mut serial, mut wrong, mut warm_up) = (0, 0, None);
        let fill = (journal == NO_JOURNAL).then_some(FILL);
        for count in [WARM_UP].into_iter().chain(fill) {
            let batch = Batch::new(case, serial, count);
            serial = batch.next_serial();
            let round = client.run(&server, Some(case), &batch, count)?;
            wrong += round.wrong;
            warm_up = Some(round);
        }
        let mut warm_up = warm_up.ok_or("nothing was sent")?;
        warm_up.wrong = wrong;

        let bare = Process::bare(case.path(), warm_up.answer, core)?;
        let mut bare_client = Client::connect(bare.address(), connections)?;
        let bare_warm_up = bare_client.run(&bare, None, &Batch::new(case, 0, WARM_UP), WARM_UP)?;
        Ok(Self { case: case.clone(), server, client, bare, bare_client, serial, warm_up, bare_warm_up })
    }

    /// A round of each: so many requests, at a rate or as fast as they are answered. Every delivery is a new event, made before the
    /// measurement.
    pub(crate) fn round(
        &mut self,
        count: usize,
        bare_count: usize,
        rate: Option<u32>,
    ) -> Result<(Round, Round), Failure> {
        let batch: Rc<Batch> = Batch::new(&self.case, self.serial, count);
        self.serial = batch.next_serial();
        let round = self.client.run_at(&self.server, Some(&self.case), &batch, count, rate)?;
        let bare = self.bare_client.run_at(&self.bare, None, &batch, bare_count, rate)?;
        Ok((round, bare))
    }
}
