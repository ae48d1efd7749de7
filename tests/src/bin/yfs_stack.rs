//! Runs the simulator of the whole stack (`yfs_tests::stack`) over seeds, and prints how to repeat what fails.

#[path = "../stack/shim.rs"]
mod shim;

use clap::Parser;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use yfs_tests::rng::Rng;
use yfs_tests::stack::record::Counts;
use yfs_tests::stack::{Failure, Report, run};

/// Lock replicas, the extent server and mounts under simulated faults: each seed is one run, and the same seed is the same
/// run again. Without any option: the seeds 1..100.
#[derive(Parser)]
#[command(version)]
#[group(multiple = false)]
struct Arguments {
    /// This run, and what it came to.
    #[arg(long)]
    seed: Option<u64>,
    /// These runs, the last one not included.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<std::ops::Range<u64>>,
    /// One run after another, from a seed nobody chose, for so long.
    #[arg(long)]
    minutes: Option<u64>,
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = || format!("{text} is no range of seeds: write 1..100");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let from = from.parse().map_err(|_| wrong())?;
    let to = to.parse().map_err(|_| wrong())?;
    if from < to { Ok(from..to) } else { Err(wrong()) }
}

fn main() -> ExitCode {
    let logs = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into());
    tracing_subscriber::fmt().with_env_filter(logs).with_writer(std::io::stderr).init();
    match run_all(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("yfs_stack: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(which: &Arguments) -> Result<(), Box<Failure>> {
    if let Some(seed) = which.seed {
        let Report { digest, counts, virtual_ms, .. } = run(seed)?;
        println!("seed {seed}: digest {digest:016x}, {virtual_ms} ms of virtual time\n{counts:#?}");
        return Ok(());
    }
    let began = Instant::now();
    let first = match (&which.seeds, which.minutes) {
        (Some(seeds), _) => seeds.start,
        (None, Some(_)) => Rng::fresh_seed(),
        (None, None) => 1,
    };
    let is_over = |seed| match (&which.seeds, which.minutes) {
        (Some(seeds), _) => seed >= seeds.end,
        (None, Some(minutes)) => began.elapsed() >= Duration::from_secs(60 * minutes),
        (None, None) => seed >= 100,
    };
    let (mut runs, mut all, mut virtual_ms) = (0, Counts::default(), 0);
    println!("seeds from {first} on");
    for seed in (first..).take_while(|seed| !is_over(*seed)) {
        let report = run(seed)?;
        runs += 1;
        all.add(&report.counts);
        virtual_ms += report.virtual_ms;
        if runs % 100 == 0 {
            println!("  {runs} runs passed, up to seed {seed}");
        }
    }
    let (took, minutes) = (began.elapsed().as_secs(), virtual_ms / 60_000);
    println!("{runs} runs passed in {took} s, {minutes} minutes of virtual time: {all:?}");
    Ok(())
}
