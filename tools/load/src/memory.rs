//! What the server holds in memory: idle, with many idle connections, with many deliveries in flight, with bodies that
//! anybody sends.

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::{
    Failure,
    cases::{self, Batch, Case, NO_JOURNAL},
    client::Client,
    process::{Core, Process, Workspace},
};

const CONNECTIONS: usize = 10_000;
const IN_FLIGHT: usize = 1_000;

/// Of the default `body_limit`.
const BODY: usize = 1 << 20;
const BODIES: usize = 1_000;
/// As many values as a payload may have, or nearly so.
const ELEMENTS: usize = 49_000;

/// Lets the server return to rest.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

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

    let process = Process::echostr(server, &workspace, Core::Any, (NO_JOURNAL, None))?;
    thread::sleep(SETTLE_PAUSE);
    row("idle".to_owned(), &process, Some(20))?;
    let mut client = Client::connect(process.address(), CONNECTIONS)?;
    thread::sleep(SETTLE_PAUSE);
    row(format!("{CONNECTIONS} connections"), &process, Some(256))?;
    let batch = Batch::new(&case, 0, CONNECTIONS);
    let round = client.run(&process, Some(&case), &batch, CONNECTIONS)?;
    thread::sleep(SETTLE_PAUSE);
    row(format!("{CONNECTIONS} connections, each after a delivery"), &process, Some(256))?;
    drop((client, process));

    let process = Process::echostr(server, &workspace, Core::Any, (NO_JOURNAL, None))?;
    send_unsigned(process.address())?;
    println!("{:<44} {:>9.1}", format!("{BODIES} unsigned bodies of 1 MiB, at most"), process.peak_mib()?);
    thread::sleep(5 * SETTLE_PAUSE);
    row("5 s after them".to_owned(), &process, None)?;
    drop(process);

    let process = Process::slow(&workspace)?;
    thread::sleep(SETTLE_PAUSE);
    row("slow responders, idle".to_owned(), &process, Some(20))?;
    let batch = Batch::new(&case, 0, IN_FLIGHT);
    let mut client = Client::connect(process.address(), IN_FLIGHT)?;
    let in_work = thread::scope(|scope| {
        let measured = scope.spawn(|| {
            thread::sleep(SETTLE_PAUSE);
            process.resident_mib().map_err(|failure| failure.to_string())
        });
        let round = client.run(&process, Some(&case), &batch, IN_FLIGHT)?;
        let resident = measured.join().map_err(|_| "the measurement panicked")??;
        println!("{:<44} {resident:>9.1} {:>9}", format!("{IN_FLIGHT} deliveries in flight"), 256);
        Ok::<_, Failure>(round)
    })?;
    drop((client, process));
    for (name, elements) in [("one text", 0), ("49 000 elements", ELEMENTS)] {
        large_in_work(&workspace, &case, name, elements)?;
    }
    match round.wrong + in_work.wrong {
        0 => Ok(()),
        wrong => Err(format!("{wrong} answers were wrong").into()),
    }
}

/// Sends bodies all but their last byte, at one time, and goes away.
fn send_unsigned(address: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut sending = JoinSet::new();
        for _ in 0..BODIES {
            sending.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(cases::unsigned_head(BODY - 1).as_bytes()).await?;
                // The server may refuse it on the way.
                let _ = stream.write_all(&vec![b'a'; BODY - 2]).await;
                Ok::<_, std::io::Error>(stream)
            });
        }
        let mut open = Vec::with_capacity(BODIES);
        while let Some(stream) = sending.join_next().await {
            open.push(stream??);
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
        Ok(())
    })
}

/// What each delivery holds while its responder runs, when it is as large as it may be.
fn large_in_work(workspace: &Workspace, case: &Case, name: &str, elements: usize) -> Result<(), Failure> {
    const COUNT: usize = 50;
    let process = Process::slow(workspace)?;
    thread::sleep(SETTLE_PAUSE);
    let before = process.resident_mib()?;
    let batch = Batch::of(case, (0..).take(COUNT).map(|serial| cases::large_text(serial, BODY - 1, elements)));
    let mut client = Client::connect(process.address(), COUNT)?;
    let round = client.run(&process, None, &batch, COUNT)?;
    if round.wrong > 0 {
        return Err(format!("{} deliveries of 1 MiB were not taken", round.wrong).into());
    }
    let each = (process.peak_mib()? - before) / COUNT as f64;
    println!("{:<44} {each:>9.1}", format!("each delivery of 1 MiB in flight, {name}"));
    Ok(())
}
