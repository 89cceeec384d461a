//! Deliveries that come at their own pace (open loop): each is due at a time, however long the ones before it take, and its latency
//! counts from then.

use std::time::Duration;

use crate::{
    Arguments, Failure,
    cases::{Batch, Case, NO_JOURNAL},
    client::{Client, Round},
    median,
    process::{Core, Process, Workspace},
    warm_up,
};

/// Prints the latency of each case at so many deliveries a second, and of the bare server at the same rate. Returns whether every
/// answer was right.
pub(crate) fn run(arguments: &Arguments, rate: u32, cases: &[Case]) -> Result<bool, Failure> {
    let workspace = Workspace::new()?;
    let core = Core::of_server();
    println!(
        "{} rounds of {} s, {rate} deliveries a second over {} connections, latency from the moment each was due, {core}\n",
        arguments.rounds, arguments.seconds, arguments.connections
    );
    println!(
        "{:<30} {:>7} {:>7} {:>9} {:>7} {:>8}   median of the rounds, and the worst round",
        "case", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU us"
    );
    let mut wrong = 0;
    for case in cases {
        let journal = workspace.journal(arguments.journal.as_deref().unwrap_or(NO_JOURNAL))?;
        let options = (journal.as_str(), arguments.memory_limit.as_deref());
        let server = Process::echostr(arguments.server.as_deref(), &workspace, core, options)?;
        let mut client = Client::connect(server.address(), usize::from(arguments.connections))?;
        let (warm_up, mut serial) = warm_up(&mut client, &server, case, &journal)?;
        wrong += warm_up.wrong;
        let bare = Process::bare(case.path(), warm_up.answer, core)?;
        let mut bare_client = Client::connect(bare.address(), usize::from(arguments.connections))?;

        let length = Duration::from_secs_f64(arguments.seconds.clamp(0.05, 600.0));
        let count = (length.as_secs_f64() * f64::from(rate)).max(1.0) as usize;
        let (mut rounds, mut bare_rounds) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            let batch = Batch::new(case, serial, count);
            serial = batch.next_serial();
            let round = client.run_at(&server, Some(case), &batch, count, Some(rate))?;
            wrong += round.wrong;
            rounds.push(round);
            bare_rounds.push(bare_client.run_at(&bare, None, &batch, count, Some(rate))?);
        }
        print_rows(case.name(), &rounds);
        print_rows("  bare", &bare_rounds);
    }
    println!("\nnot 200, or not the right answer: {wrong}");
    Ok(wrong == 0)
}

fn print_rows(name: &str, rounds: &[Round]) {
    let ms = |value: &dyn Fn(&Round) -> Duration| -> (f64, f64) {
        let values: Vec<f64> = rounds.iter().map(|round| value(round).as_secs_f64() * 1e3).collect();
        (median(values.clone()), values.iter().copied().fold(0.0, f64::max))
    };
    let (p50, _) = ms(&|round| round.p50);
    let (p99, worst_p99) = ms(&|round| round.p99);
    let (p999, worst_p999) = ms(&|round| round.p999);
    let (max, worst_max) = ms(&|round| round.max);
    let cpu = median(rounds.iter().map(Round::cpu_us).collect());
    println!(
        "{name:<30} {p50:>7.2} {p99:>7.2} {p999:>9.2} {max:>7.2} {cpu:>8.2}   worst: p99 {worst_p99:.2}, p99.9 {worst_p999:.2}, max {worst_max:.2}"
    );
}
