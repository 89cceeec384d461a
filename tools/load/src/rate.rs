//! Deliveries that come at their own pace (open loop): each is due at a time, however long the ones before it take, and its latency
//! counts from then.

use std::time::Duration;

use crate::{
    Arguments, Failure,
    cases::Case,
    client::Round,
    median,
    pair::Pair,
    process::{Core, Workspace},
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
        let mut pair = Pair::start(arguments, case, &workspace, core)?;
        wrong += pair.warm_up.wrong;
        let length = Duration::from_secs_f64(arguments.seconds.clamp(0.05, 600.0));
        let count = (length.as_secs_f64() * f64::from(rate)).max(1.0) as usize;
        let (mut rounds, mut bare_rounds) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            let (round, bare) = pair.round(count, count, Some(rate))?;
            wrong += round.wrong;
            rounds.push(round);
            bare_rounds.push(bare);
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
