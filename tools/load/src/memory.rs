//! What the server holds in memory: idle, with many idle connections, with many deliveries in work.

use std::{path::Path, thread, time::Duration};

use crate::{
    Failure,
    cases::{Batch, Case, NO_JOURNAL},
    client::Client,
    process::{Core, Process, Workspace},
};

const CONNECTIONS: usize = 10_000;
const IN_FLIGHT: usize = 1_000;

/// Lets the server return to rest.
const REST: Duration = Duration::from_secs(1);

/// Prints the memory of a server in each state, beside what it may be.
pub(crate) fn run(server: Option<&Path>) -> Result<(), Failure> {
    let workspace = Workspace::new()?;
    let case = Case::all().into_iter().next().ok_or("there is no case")?;
    println!("{:<44} {:>9} {:>9}", "resident memory", "MiB", "aim MiB");
    let row = |name: String, process: &Process, aim: Option<u32>| {
        let resident = process.resident_mib()?;
        let aim = aim.map_or_else(String::new, |aim| aim.to_string());
        println!("{name:<44} {resident:>9.1} {aim:>9}");
        Ok::<_, Failure>(())
    };

    let process = Process::echostr(server, &workspace, Core::Any, NO_JOURNAL)?;
    thread::sleep(REST);
    row("idle".to_owned(), &process, Some(20))?;
    let mut client = Client::connect(process.address(), CONNECTIONS)?;
    thread::sleep(REST);
    row(format!("{CONNECTIONS} connections"), &process, Some(256))?;
    let batch = Batch::new(&case, 0, CONNECTIONS);
    let round = client.run(&process, Some(&case), &batch, CONNECTIONS)?;
    thread::sleep(REST);
    row(format!("{CONNECTIONS} connections, each after a delivery"), &process, Some(256))?;
    drop((client, process));

    let process = Process::slow(&workspace)?;
    thread::sleep(REST);
    row("slow responders, idle".to_owned(), &process, Some(20))?;
    let batch = Batch::new(&case, 0, IN_FLIGHT);
    let mut client = Client::connect(process.address(), IN_FLIGHT)?;
    let in_work = thread::scope(|scope| {
        let measured = scope.spawn(|| {
            thread::sleep(REST);
            process.resident_mib().map_err(|failure| failure.to_string())
        });
        let round = client.run(&process, Some(&case), &batch, IN_FLIGHT)?;
        let resident = measured.join().map_err(|_| "the measurement panicked")??;
        println!("{:<44} {resident:>9.1} {:>9}", format!("{IN_FLIGHT} deliveries in work"), 256);
        Ok::<_, Failure>(round)
    })?;
    match round.wrong + in_work.wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} answers were wrong").into()),
    }
}
